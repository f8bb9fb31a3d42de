"""Translation between sensors: which pairs are known, what is asked of them, and what carries over."""
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from grids import Grid
from mmcycle.config import Config, from_dict, load_config
from mmcycle.core.model import CycleModel, generator
from mmcycle.core.settings import Networks, Objective
from mmcycle.data.partners import known_partners
from mmcycle.data.samplers import Domain, unpaired_batches
from mmcycle.errors import UserError
from mmcycle.generate.dataset import generate
from mmcycle.generate.manifest import read_rows, verify
from mmcycle.metrics.crossing import (
    agreement, attributes_of, balanced, baselines, masks, nearness, presence, seen_attributes, whole,
)
from mmcycle.modalities.image import Image
from mmcycle.modalities.text import Text
from mmcycle.strict_yaml import parse_yaml
from mmcycle.train.trainer import train

SMALL = Networks(width=4, blocks=1, discriminator_width=4, discriminator_layers=1)
YAML = """\
name: crossing
a: {{name: text, root: {root}/text, modality: text, length: 64}}
b: {{name: image, root: {root}/image, modality: image, size: [16, 24]}}
model: {{generator: resnet, width: 4, blocks: 1, discriminator_width: 4, discriminator_layers: 1}}
train: {{steps: 2, batch_size: 2, replay: 2}}
data: {{workers: 0}}
run: {{accelerator: cpu, devices: 1, log_every: 1, sample_every: 100, save_every: 2}}
"""


def captioned(root: Path, count: int = 5) -> Path:
    """Captions in class folders and pictures of the same names."""
    rng = np.random.default_rng(0)
    for index in range(count):
        for view in ("day", "night"):
            for kind in ("text", "image"):
                (root / kind / view).mkdir(parents=True, exist_ok=True)
            (root / "text" / view / f"{index}.txt").write_text(f"{index} cars by {view}\n")
            pixels = rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)
            Pillow.fromarray(pixels).save(root / "image" / view / f"{index}.png")
    return root


def configured(root: Path, *overrides: str) -> Config:
    path = root / "crossing.yaml"
    path.write_text(YAML.format(root=root), encoding="utf-8")
    return load_config(path, overrides)


@pytest.fixture
def domains(tmp_path) -> tuple[Domain, Domain]:
    captioned(tmp_path)
    return Domain(tmp_path / "text", Text(length=64)), Domain(tmp_path / "image", Image(size=(16, 24)))


def batches(domains, **options) -> list:
    return list(unpaired_batches(*domains, batch_size=2, seed=3, start=0, steps=10, **options))


def stem(name: str) -> str:
    return name.rpartition(".")[0]


def test_a_share_of_no_pairs_gives_the_unpaired_batches_bit_for_bit(domains):
    unpaired, none = batches(domains), batches(domains, paired=True, paired_fraction=0)
    for one, other in zip(unpaired, none):
        assert torch.equal(one.a, other.a) and torch.equal(one.b, other.b) and one.names_b == other.names_b
        assert one.known is None and not other.known.any()


def test_a_share_of_all_pairs_gives_partners_only(domains):
    for batch in batches(domains, paired=True):
        assert batch.known.tolist() == [1, 1] and [*map(stem, batch.names_a)] == [*map(stem, batch.names_b)]


def test_a_share_of_the_pairs_is_known_and_comes_as_often_as_the_others(domains):
    a, b = domains
    known = {(a.names[i], b.names[j]) for i, (j,) in known_partners(a, b, 0.3, seed=3).items()}
    assert len(known) == 3 and all(stem(x) == stem(y) for x, y in known)
    found = [pair for batch in batches(domains, paired=True, paired_fraction=0.3)
             for pair in zip(batch.names_a, batch.names_b, batch.known.tolist())]
    assert all(((x, y) in known) == bool(told) for x, y, told in found)
    assert Counter(x for x, _, _ in found) == Counter(a.names * 2)                  # two passes over a
    assert sum(told for *_, told in found) == 2 * 3
    assert {y for _, y, told in found if not told}.isdisjoint(y for _, y in known)    # partners come with their own


def test_the_seed_chooses_which_pairs_are_known_and_a_larger_share_holds_those_of_a_smaller_one(domains):
    chosen = [known_partners(*domains, share, seed=0).items() for share in (0, 0.01, 0.5, 1)]
    assert [len(pairs) for pairs in chosen] == [0, 1, 5, 10]
    assert all(fewer <= more for fewer, more in zip(chosen, chosen[1:]))
    assert len({tuple(known_partners(*domains, 0.5, seed)) for seed in range(5)}) > 1


def test_below_all_recordings_without_a_partner_are_unpaired_and_no_pair_at_all_is_refused(domains):
    a, b = domains
    (b.root / "day" / "0.png").rename(b.root / "day" / "alone.png")
    b = Domain(b.root, b.modality)
    assert len(known_partners(a, b, 0.999, seed=0)) == 9
    with pytest.raises(UserError, match="are not paired.*data.paired_fraction below 1"):
        known_partners(a, b, 1.0, seed=0)
    lonely = Domain(b.root / "day", b.modality)
    with pytest.raises(UserError, match="hold no pair: no two recordings share a relative path"):
        known_partners(a, lonely, 0.5, seed=0)


def test_known_pairs_show_the_same_window_and_strangers_their_own(tmp_path):
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8, 1).repeat(3, 2)
    for kind in "ab":
        (tmp_path / kind).mkdir()
        for index in range(8):
            Pillow.fromarray(ramp).save(tmp_path / kind / f"{index}.png")
    pair = tuple(Domain(tmp_path / kind, Image(size=4)) for kind in "ab")
    seen = [(torch.equal(x, y), bool(told)) for batch in batches(pair, paired=True, paired_fraction=0.5)
            for x, y, told in zip(batch.a, batch.b, batch.known)]
    assert all(same for same, told in seen if told) and not all(same for same, told in seen if not told)


@pytest.mark.parametrize(("settings", "problem"), [
    (("data.paired_fraction=0.5",), "data.paired_fraction=0.5: needs data.paired: true, so that equal names are"),
    (("loss.consistency=none",), "is 'none', so partners alone tell what to keep: it needs loss.paired above 0"),
    (("loss.consistency=none", "loss.paired=1", "data.paired=true", "data.paired_fraction=0"),
     "is 0, but loss.consistency is 'none': partners alone would tell what to keep"),
    (("data.paired_fraction=1.5", "data.paired=true"), "data.paired_fraction=1.5"),
])
def test_choices_about_pairs_that_mean_nothing_are_refused(tmp_path, settings, problem):
    with pytest.raises(UserError) as caught:
        configured(tmp_path, *settings)
    assert problem in str(caught.value)


LIDARS = "{{modality: lidar, sensor: vlp-16, projection: elevation, window: 64, change: {}}}"
SOUNDS = "{{modality: audio, change: {}, gain_db: {}}}"


def untied(a: str, b: str) -> Config:
    """Neither a cycle nor patches nor partners: only the head of b can keep what a shows."""
    text = f"name: t\na: {a}\nb: {b}\nloss: {{consistency: none, identity: 0}}\n"
    values, _ = parse_yaml(text, "test")
    return from_dict(values | {key: {"name": key} | values[key] for key in "ab"})


@pytest.mark.parametrize(("a", "b"), [
    (LIDARS.format("any"), LIDARS.format("returns")),
    (SOUNDS.format("any", [0, 0]), SOUNDS.format("noise", [0, 0])),
    (SOUNDS.format("gain", [-40, 0]), SOUNDS.format("noise", [0, 0])),
])
def test_nothing_need_tie_a_translation_whose_head_keeps_what_it_is_given(a, b):
    made = untied(a, b)
    model = CycleModel(made.a.modality, made.b.modality, SMALL, made.loss)
    assert model.gen_ab.head.keeps and list(model.generators) == ["ab"]
    real = [torch.zeros(2, *side.modality.shape).uniform_(-1, 1) for side in (made.a, made.b)]
    (leg,) = model.legs(*real, identity=0.0)
    leg.terms["adv_b"].backward()
    assert list(leg.terms) == ["adv_b"] and any(p.grad is not None for p in model.gen_ab.parameters())


@pytest.mark.parametrize(("a", "b"), [
    (LIDARS.format("returns"), LIDARS.format("any")),                               # the head of a keeps nothing of b
    (SOUNDS.format("any", [0, 0]), SOUNDS.format("noise", [-10, 0])),               # a gain may silence a word
    (SOUNDS.format("any", [0, 0]), SOUNDS.format("gain", [-10, 0])),
    ("{modality: image}", "{modality: image}"),
    (LIDARS.format("any"), SOUNDS.format("noise", [0, 0])),
])
def test_a_translation_that_nothing_ties_is_refused(a, b):
    with pytest.raises(UserError, match="it needs loss.paired above 0, or a b that keeps all that a shows"):
        untied(a, b)


def test_heads_that_do_not_go_together_are_refused_when_networks_are_built():
    made = untied("{modality: audio, mels: 32}", SOUNDS.format("noise", [0, 0]))
    with pytest.raises(ValueError, match="change='noise' keeps the wave, so rate, n_fft, hop and mels"):
        CycleModel(made.a.modality, made.b.modality, SMALL, made.loss)


def test_pix2pix_trains_one_way_with_adversary_and_partner_alone():
    objective = Objective(consistency="none", identity=0, paired=2.0)
    model = CycleModel(Text(length=64), Image(size=(16, 24)), SMALL, objective)
    text, image = torch.ones(1, 8, 8, 8), torch.zeros(1, 3, 16, 24)
    (leg,) = model.legs(text, image, 0.0, torch.ones(1))
    assert set(leg.terms) == {"adv_b", "paired_b"} and list(model.generators) == ["ab"]
    torch.testing.assert_close(leg.terms["paired_b"].detach(), 2 * leg.fake.abs().mean())


def test_pix2pix_between_sensors_has_no_identity():
    with pytest.raises(ValueError, match="loss.identity across modalities .* set loss.identity to 0"):
        CycleModel(Text(length=64), Image(size=(16, 24)), SMALL, Objective(consistency="none", paired=1.0))


def test_identity_between_sensors_of_one_shape_stays_in_its_own_networks():
    class Other(Grid):
        """Of another kind, on the same grid."""

    model = CycleModel(Grid(), Other(), SMALL, Objective())
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    idt = [leg for leg in model.legs(x, x, 1.0) if "idt_b" in leg.terms]
    own = model.gen_ab.decoder(model.gen_ba.encoder(x))
    torch.testing.assert_close(idt[0].terms["idt_b"], (own - x).abs().mean())


@pytest.mark.parametrize("networks", [SMALL, Networks(generator="light", width=4, blocks=1)])
def test_a_text_and_a_picture_on_one_grid_still_have_latents_of_their_own(networks):
    text, image = Text(length=256, rows=16), Image(size=16)
    assert text.shape[1:] == image.shape[1:]
    x, y = torch.ones(1, *text.shape), torch.ones(1, *image.shape)
    assert generator(text, image, networks)(x).shape == y.shape
    assert generator(image, text, networks)(y).shape == x.shape


def test_classes_carry_over_and_geometric_labels_are_refused(tmp_path):
    config = configured(captioned(tmp_path / "in"), "data.paired=true", "data.paired_fraction=0.5", "loss.paired=1")
    train(config, tmp_path / "run")
    out = tmp_path / "out"
    generate(tmp_path / "in" / "text", out, {"text": f"{tmp_path / 'run'}:ab"})
    assert '"paired_b"' in (tmp_path / "run" / "log.jsonl").read_text()
    rows = list(read_rows(out))
    assert len(rows) == 10 and not verify(out).problems
    assert {(row.tags["class"], row.streams["text"].output) for row in rows} == {
        (view, f"{view}/{index}.png") for view in ("day", "night") for index in range(5)
    }
    with Pillow.open(out / "day" / "0.png") as picture:
        assert picture.size == (24, 16)

    (tmp_path / "in" / "text" / "day" / "0.json").write_text("[1, 2, 3, 4]")
    with pytest.raises(UserError, match="0.json: labels made for Text do not hold for Image"):
        generate(tmp_path / "in" / "text", tmp_path / "other", {"text": f"{tmp_path / 'run'}:ab"})
    generate(tmp_path / "in" / "text", tmp_path / "classes", {"text": f"{tmp_path / 'run'}:ab"}, labels="class")
    assert not (tmp_path / "classes" / "day" / "0.json").exists()
    assert next(read_rows(tmp_path / "classes")).tags["class"] == "day"

    generate(tmp_path / "in" / "image", tmp_path / "told", {"image": f"{tmp_path / 'run'}:ba"})
    assert (tmp_path / "told" / "night" / "4.txt").read_text()


def test_a_resumed_run_knows_the_same_pairs(domains):
    whole_way = batches(domains, paired=True, paired_fraction=0.5)
    rest = list(unpaired_batches(*domains, batch_size=2, seed=3, start=6, steps=10, paired=True, paired_fraction=0.5))
    assert [(batch.names_b, batch.known.tolist()) for batch in whole_way[6:]] == [
        (batch.names_b, batch.known.tolist()) for batch in rest
    ]


def test_the_baselines_are_the_mean_partner_and_the_partner_of_the_nearest():
    source, partner = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1), torch.tensor([-1.0, 0.5]).reshape(2, 1, 1, 1)
    found = baselines(source, partner, torch.tensor([0.9, 0.2, 0.8]).reshape(3, 1, 1, 1))
    assert found["mean"].flatten().tolist() == [-0.25] * 3
    assert found["nearest"].flatten().tolist() == [0.5, -1.0, 0.5]
    with pytest.raises(UserError, match="2 sources and 1 partners"):
        baselines(source, partner[:1], source)


def test_nearness_is_named_after_what_is_near():
    truth = torch.zeros(2, 3, 16, 16)
    found = nearness({"same": truth, "off": truth + 0.5}, truth)
    assert found["l1: same"] == 0 and found["l1: off"] == pytest.approx(0.5) and found["ssim: same"] == pytest.approx(1)


def test_a_constant_answer_is_worth_chance():
    truth = torch.tensor([0, 0, 0, 1])
    assert balanced(torch.zeros(4), truth) == 50 and balanced(truth, truth) == 100
    assert balanced(torch.tensor([0, 0, -1, 1]), truth) == pytest.approx(100 * (2 / 3 + 1) / 2)


def test_agreement_asks_for_what_varies_and_says_what_guessing_gives():
    truth = {"view": np.array([0, 1, 0, 1]), "tree": np.array([2, 2, 2, 2]), "car": np.array([0, 1, 2, 2])}
    found = agreement({"ours": {"view": [0, 1, 1, 1], "tree": [0, 0, 0, 0], "car": [0, 0, 0, 0]}}, truth)
    assert found["view: ours"] == 75 and found["car: ours"] == pytest.approx(100 / 3) and "tree: ours" not in found
    assert found["attributes: ours"] == pytest.approx((75 + 100 / 3) / 2)
    assert found["attributes: chance"] == pytest.approx((50 + 100 / 3) / 2)
    with pytest.raises(UserError, match="no attribute varies"):
        agreement({"ours": {"tree": [0, 0, 0, 0]}}, truth)


def test_classifiers_see_in_made_pictures_what_is_there():
    rng = torch.Generator().manual_seed(0)

    def pictures(bright: torch.Tensor) -> torch.Tensor:
        return torch.randn(len(bright), 3, 16, 16, generator=rng) * 0.1 + bright[:, None, None, None] - 0.5

    told, true = torch.arange(64) % 2, torch.arange(20) % 2
    made = {"right": pictures(true), "wrong": pictures(1 - true)}
    found = seen_attributes(pictures(told), {"bright": told}, made, {"bright": true}, epochs=6)
    assert found["bright: right"] > 90 and found["bright: wrong"] < 10 and found["attributes: chance"] == 50


def test_presence_is_asked_of_each_third_and_what_decides_too_little_is_not_asked(tmp_path):
    for index, count in enumerate((0, 4, 5, 20)):
        mask = np.zeros((10, 30), np.uint8)
        mask[:2, 10:20] = np.where(np.arange(20).reshape(2, 10) < count, 13, 0)     # of 100 pixels ahead
        Pillow.fromarray(mask).save(tmp_path / f"{index}.png")
    found = presence(masks(tmp_path), {"car": 13, "road": 0})
    assert found["car ahead"].tolist() == [0, 0, 1, 1] and found["road ahead"].tolist() == [1, 1, 1, 1]
    assert not found["car left"].any() and not found["car right"].any()
    assert list(attributes_of(found)) == ["car ahead"]
    with pytest.raises(UserError, match="holds no masks"):
        masks(tmp_path / "none")


def test_whole_recordings_are_stacked_by_name(domains):
    a, _ = domains
    assert whole(a.root, a.modality).shape == (10, 8, 8, 8)
