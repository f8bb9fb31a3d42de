"""Heads: a memory of styles that is a ring, plans that act on the recording, the same bytes for the same seed."""
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import tiny_sound
from command import mmcycle
from grids import Grid, config, model, networks, noise, translator
from mmcycle.core.heads import Head
from mmcycle.core.model import generator
from mmcycle.errors import UserError
from mmcycle.generate.dataset import generate
from mmcycle.generate.export import export
from mmcycle.generate.manifest import read_rows, verify
from mmcycle.generate.translator import Translator
from mmcycle.train.step import Teacher
from tiny_run import differences, leftovers, rows, tensors

KNOWN = torch.tensor([[0.1, -0.2], [0.3, 0.4], [-0.5, 0.6]])


class Shift(Head):
    """Moves every cell by what the decoder says plus a style of two numbers; a plan above zero is blurred by chance."""

    def __init__(self, memory: int = 8, style: int = 2):
        super().__init__(parts=2, style=style, memory=memory)

    def look(self, like: Tensor) -> Tensor:
        return torch.stack([like.mean((1, 2, 3)), like.amax((1, 2, 3))], dim=1)

    def plan(self, x: Tensor, parts: Tensor, style: Tensor, strength: float = 1.0) -> Tensor:
        return strength * (0.2 * parts + 0.2 * style[:, :, None, None])

    def forward(self, x: Tensor, plan: Tensor, rng: torch.Generator) -> Tensor:
        return moved(x, plan, rng)


def moved(x: Tensor, plan: Tensor, rng: torch.Generator) -> Tensor:
    chance = torch.rand(x.shape, generator=rng) * plan.abs().amax(-3, keepdim=True)
    return (x + plan.sum(-3, keepdim=True) + chance).clamp(-1, 1)


@dataclass(frozen=True, kw_only=True)
class Shifted(Grid):
    """A grid that is reached by moving another one."""

    channels: int = 1
    height: int = field(default=16)

    def head(self, source: Grid) -> Head:
        return Shift()

    def carry_out(self, plan: Tensor, context: None, rng: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        return plan, {"mean_shift": round(float(plan.mean()), 6), "draw": round(float(torch.rand((), generator=rng)), 6)}


@dataclass(frozen=True, kw_only=True)
class Unfinished(Grid):
    """Its author forgot how a plan is carried out."""

    def head(self, source: Grid) -> Head:
        return Shift()


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shifting(seed: int = 0) -> Translator:
    """Grids of 32 x 32 to shifted ones, with three styles in memory."""
    made = config({"channels": 1}, {"modality": "test_heads:Shifted", "channels": 1})
    torch.manual_seed(seed)
    network = generator(made.a.modality, made.b.modality, made.model)
    network.head.remember(KNOWN)
    return Translator(made, "ab", network.state_dict(), run="shifting", device="cpu")


# The memory


def test_the_memory_is_a_ring_that_lets_the_oldest_go():
    head = Shift(memory=4)
    styles = torch.arange(12.0).reshape(6, 2)
    head.remember(styles[:3])
    assert torch.equal(head.styles, torch.cat([styles[:3], torch.zeros(1, 2)]))
    head.remember(styles[3:])
    assert torch.equal(head.styles, styles[[4, 5, 2, 3]]) and head.seen == 6


def test_only_what_was_seen_is_drawn_and_all_of_it():
    head = Shift(memory=64)
    head.remember(KNOWN)
    drawn = head.draw(200, rng())
    assert {tuple(one) for one in drawn.tolist()} == {tuple(one) for one in KNOWN.tolist()}
    counts = [int((drawn == one).all(1).sum()) for one in KNOWN]
    assert min(counts) > 40                                  # 67 each on average, 6.7 is one deviation


def test_equal_generators_draw_equal_styles_and_leave_chance_elsewhere_alone():
    head = Shift()
    head.remember(KNOWN)
    before = torch.get_rng_state()
    assert torch.equal(head.draw(20, rng(3)), head.draw(20, rng(3)))
    assert not torch.equal(head.draw(20, rng(3)), head.draw(20, rng(4)))
    assert torch.equal(torch.get_rng_state(), before)


def test_before_any_was_seen_styles_are_zeros():
    assert torch.equal(Shift().draw(3, rng()), torch.zeros(3, 2))


def test_a_head_without_styles_remembers_nothing_and_draws_nothing():
    head = Shift(style=0)
    head.remember(torch.zeros(5, 0))
    assert head.seen == 0 and head.draw(4, rng()).shape == (4, 0)
    assert Head.look(head, noise(4, 1, 8, 8)).shape == (4, 0)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_style_that_is_not_finite_is_not_remembered(bad):
    head = Shift(memory=4)
    head.remember(torch.tensor([[0.1, bad], [0.2, 0.3]]))
    assert head.seen == 1 and head.styles[0].tolist() == pytest.approx([0.2, 0.3])
    head.remember(torch.full((2, 2), bad))
    assert head.seen == 1 and head.styles.isfinite().all()


def test_the_memory_travels_with_the_weights():
    head, other = Shift(), Shift()
    head.remember(KNOWN)
    other.load_state_dict(head.state_dict())
    assert other.seen == 3 and torch.equal(other.draw(9, rng(1)), head.draw(9, rng(1)))


def test_remembering_collects_no_gradient():
    head = Shift()
    head.remember(head.look(noise(2, 1, 8, 8).requires_grad_()))
    assert not head.styles.requires_grad


# In a generator and in training


def test_a_generator_decodes_parts_and_lets_the_head_act():
    gen = generator(Grid(channels=1), Shifted(), networks())
    x, style = noise(2, 1, 16, 16), KNOWN[:2]
    assert gen.decode(x).shape == (2, 2, 16, 16)
    expected = gen.head(x, gen.head.plan(x, gen.decode(x), style), rng(5))
    assert torch.equal(gen(x, style, rng(5)), expected)
    gen.head.remember(KNOWN)
    assert torch.equal(gen(x), gen(x))                       # no style, no generator: drawn, always alike
    assert not torch.equal(gen(x, rng=rng(1)), gen(x, rng=rng(2)))


def test_residual_decoders_leave_the_parts_of_a_head_alone():
    gen = generator(Grid(channels=1), Shifted(), networks(residual=True))
    assert gen.decode(noise(1, 1, 16, 16)).shape == (1, 2, 16, 16)


def test_the_styles_of_the_target_are_remembered_in_training_and_only_there():
    made, real_a, real_b = model(Grid(channels=1), Shifted()), noise(3, 1, 16, 16), noise(3, 1, 16, 16, seed=1)
    list(made.eval().legs(real_a, real_b, identity=0))
    assert made.gen_ab.head.seen == 0
    list(made.train().legs(real_a, real_b, identity=0))
    assert made.gen_ab.head.seen == 3 and made.gen_ba.head is None
    assert torch.equal(made.gen_ab.head.styles[:3], made.gen_ab.look(real_b))
    list(made.legs(real_a, real_b, identity=1))              # identity looks, and remembers nothing twice
    assert made.gen_ab.head.seen == 6


@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_a_translation_is_asked_for_the_style_it_was_given_where_there_are_styles(weight):
    cycle = model(Grid(channels=1), Shifted(), style=weight)
    real_a, real_b = noise(2, 1, 16, 16), noise(2, 1, 16, 16, seed=1)
    there, back, *_ = cycle.legs(real_a, real_b, 0.0)
    assert ("style_b" in there.terms) == bool(weight) and "style_a" not in back.terms
    if weight:
        wanted = weight * (cycle.gen_ab.look(there.fake) - cycle.gen_ab.look(real_b)).abs().mean()
        assert there.terms["style_b"].item() == pytest.approx(wanted.item(), rel=1e-4)


def test_gradients_pass_through_the_head():
    made = model(Grid(channels=1), Shifted())
    leg = next(made.legs(noise(2, 1, 16, 16), noise(2, 1, 16, 16, seed=1), identity=0))
    sum(leg.terms.values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.gen_ab.encoder.parameters())


def test_moving_averages_copy_the_memory_as_it_is():
    engine = SimpleNamespace(rank=0, world=1, device=torch.device("cpu"))
    teacher = Teacher(config({"channels": 1}, {"modality": "test_heads:Shifted", "channels": 1}), engine)
    teacher.model.gen_ab.head.remember(KNOWN)
    teacher._remember(100)
    head = teacher.averages["ab"].head
    assert head.seen == 3 and torch.equal(head.styles[:3], KNOWN)


def test_a_resumed_run_with_heads_is_the_uninterrupted_one_bit_for_bit(tmp_path):
    torch.set_num_threads(1)
    straight = tiny_sound.trained(tmp_path, "straight", "train.replay=2")
    resumed = Path(shutil.copytree(straight, tmp_path / "resumed"))
    shutil.rmtree(resumed / "checkpoints/step-00000008")
    assert tensors(resumed, 4, "averages")["ab.head.seen"] == 8             # two in each step
    tiny_sound.trained(tmp_path, "resumed", "train.replay=2")
    assert differences(straight, resumed, 8) == [] and leftovers(resumed) == []
    assert [row["step"] for row in rows(resumed, "resume")] == [4]
    memory = tensors(resumed, 8, "averages")
    assert memory["ab.head.seen"] == 16 and (memory["ab.head.styles"][:16].abs().sum(1) > 0).all()
    assert torch.equal(memory["ab.head.styles"], tensors(resumed, 8, "networks")["gen_ab.head.styles"])


# At translation


def test_a_translator_with_a_head_carries_out_a_plan():
    shift, raw = shifting(), noise(1, 40, 24)
    assert shift.stochastic and not translator().stochastic
    made = shift.perform(raw, seed=7)
    assert made.raw.shape == (2, 40, 24)                     # the plan itself: see Shifted
    drawing = rng(7)
    style = shift.generator.head.draw(1, drawing)
    expected = shift.generator.head.plan(raw[None], shift._decoded(raw)[None], style)[0]
    torch.testing.assert_close(made.raw, expected)
    assert made.facts == {"mean_shift": round(float(expected.mean()), 6), "draw": made.facts["draw"]}
    assert torch.equal(shift(raw, seed=7), made.raw)


def test_the_seed_alone_chooses_among_translations():
    shift, raw = shifting(), noise(1, 40, 24)
    assert torch.equal(shift.perform(raw, seed=1).raw, shift.perform(raw, seed=1).raw)
    assert torch.equal(shift.translate(raw, seed=1), shift.translate(raw, seed=1))
    assert len({shift.perform(raw, seed=seed).facts["draw"] for seed in range(5)}) == 5
    assert len({float(shift.translate(raw, seed=seed).sum()) for seed in range(5)}) == 5


def test_strength_scales_the_plan_and_none_changes_nothing():
    shift, raw = shifting(), noise(1, 32, 32)
    torch.testing.assert_close(shift.perform(raw, 0.25, seed=2).raw, shift.perform(raw, seed=2).raw / 4)
    assert not shift.perform(raw, 0.0).raw.any()
    assert torch.equal(shift.translate(raw, 0.0), raw)


@pytest.mark.parametrize("strength", [-0.1, 1.1])
def test_a_strength_outside_of_zero_to_one_is_refused_for_plans_too(strength):
    with pytest.raises(UserError, match=r"strength .* is not possible here: it lies in \[0, 1\]"):
        shifting().perform(noise(1, 32, 32), strength)


def test_a_plan_in_tiles_is_close_to_that_of_the_whole():
    shift, x = shifting(), noise(1, 32, 32).repeat(1, 6, 10)
    whole = shift.perform(x).raw
    shift.tile, shift.overlap = 64, 16
    assert (shift.perform(x).raw - whole).abs().mean() < 0.1 * whole.std()


def test_a_sensor_whose_author_forgot_carry_out_is_told():
    made = config({"channels": 1}, {"modality": "test_heads:Unfinished", "channels": 1})
    with pytest.raises(NotImplementedError, match="Unfinished has a head, so it must say how a plan is carried out"):
        translator(made).perform(noise(1, 32, 32))


def test_a_head_that_asks_for_nothing_costs_no_network():
    noisy = tiny_sound.translator()
    assert noisy.generator.head.parts == 0                   # noise alone, and no gain
    assert noisy.generator.encoder is noisy.generator.trunk is noisy.generator.decoder is None
    assert noisy.generator.decode(noise(2, 1, 16, 32)).shape == (2, 0, 16, 32)
    assert noisy.perform(noisy.source.from_array(tiny_sound.speech(0.5)[:, 0])).facts


def test_facts_stand_in_the_manifest_and_two_copies_differ(tmp_path):
    sounds, run = tiny_sound.sounds(tmp_path / "source", count=2), tmp_path / "x.safetensors"
    export(tiny_sound.translator(), "safetensors", run)
    job = generate(sounds, tmp_path / "out", {"audio": f"{run}:ab"}, copies=2, seed=3)
    assert job.done == 4 and verify(tmp_path / "out").ok
    made = list(read_rows(tmp_path / "out"))
    assert all(set(row.params) == {"strength", "audio.snr_db", "audio.safety"} for row in made)
    assert len({row.params["audio.snr_db"] for row in made}) == 4
    assert len({row.streams["audio"].sha256 for row in made}) == 4
    lines = [json.loads(line) for line in (tmp_path / "out/manifest.jsonl").read_text().splitlines()]
    assert [line["params"] for line in lines] == [row.params for row in made]


# As a file


def test_safetensors_hold_the_memory_and_translate_to_the_same_bytes(tmp_path):
    shift, raw = shifting(), noise(1, 32, 40)
    assert export(shift, "safetensors", tmp_path / "x.safetensors") == 0
    again = Translator.load(tmp_path / "x.safetensors", "ab", device="cpu")
    assert again.sha256 == shift.sha256 and again.generator.head.seen == 3
    assert torch.equal(again.perform(raw, seed=4).raw, shift.perform(raw, seed=4).raw)


@pytest.mark.parametrize("to", ["onnx", "pt2"])
def test_a_format_that_cannot_hold_a_plan_is_refused_and_nothing_is_written(tmp_path, to):
    with pytest.raises(UserError, match=f"shifting plans what happens.*{to} cannot hold; export it --to safetensors"):
        export(shifting(), to, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    export(shifting(), "safetensors", tmp_path / "x.safetensors")
    said = mmcycle("export", tmp_path / "x.safetensors", tmp_path / "y", "--to", to)
    assert said.code == 2 and "export it --to safetensors" in said.err and not Path(tmp_path / "y").exists()
