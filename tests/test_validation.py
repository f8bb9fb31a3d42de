"""The score that chooses among checkpoints, the best one that is kept, and that neither changes what is learned."""
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from mmcycle.cli import app
from mmcycle.errors import UserError
from mmcycle.generate.translator import Translator
from mmcycle.train import checkpoint, validation
from mmcycle.train.trainer import train
from mmcycle.train.validation import apart, spread, stored, validate
from tiny_run import differences, rows, steps_saved, tensors, tiny, trained

EVALUATED = ("train.steps=12", "run.evaluate_every=3", "run.save_every=4")


class Act(nn.Module):
    """A network that is a function."""

    def __init__(self, act: Callable[[Tensor], Tensor]):
        super().__init__()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)


def pair(ab: Callable[[Tensor], Tensor], ba: Callable[[Tensor], Tensor] | None = None) -> nn.ModuleDict:
    return nn.ModuleDict({"ab": Act(ab)} | ({"ba": Act(ba)} if ba else {}))


@pytest.fixture(scope="module")
def reals() -> dict[str, Tensor]:
    """Smooth pictures; those of b are darker and of less contrast: b = 0.4 a - 0.5."""
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(24, 3, 8, 8, generator=rng) * 1.6 - 0.8
    x = nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")
    return {"a": x[:12], "b": 0.4 * x[12:] - 0.5}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`scored`, a run of 12 steps with an evaluation every third, and `plain`, the same without."""
    root = tmp_path_factory.mktemp("validation")
    trained(root, "scored", *EVALUATED)
    trained(root, "plain", *EVALUATED, "run.evaluate_every=0")
    return root


# The score


def test_doing_nothing_scores_one(reals: dict[str, Tensor]) -> None:
    found = validate(pair(lambda x: x, lambda x: x), reals)
    assert found["unlikeness_a"] == found["unlikeness_b"] == 1
    assert found["score"] == pytest.approx(1, abs=0.02) and found["loss_a"] < 0.02     # 8 bits on the way


def test_the_true_mapping_scores_far_below_one_and_every_cheat_above(reals: dict[str, Tensor]) -> None:
    true = validate(pair(lambda x: 0.4 * x - 0.5, lambda x: (x + 0.5) / 0.4), reals)["score"]
    others = {"a": reals["a"].flip(0), "b": reals["b"].flip(0)}
    cheats = {
        "the mean": pair(lambda x: torch.full_like(x, -0.5), lambda x: torch.zeros_like(x)),
        "other recordings": pair(lambda x: others["b"][: len(x)], lambda x: others["a"][: len(x)]),
        "noise": pair(*[lambda x: torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1] * 2),
    }
    assert true < 0.4
    assert all(validate(cheat, reals)["score"] > 1 for cheat in cheats.values())


def test_what_hides_below_eight_bits_is_lost_on_the_way(reals: dict[str, Tensor]) -> None:
    hiding = validate(pair(lambda x: -0.5 + 0.003 * x, lambda x: (x + 0.5) / 0.003), reals)
    assert hiding["loss_a"] > 0.3


def test_without_a_way_back_edges_tell_what_was_lost(reals: dict[str, Tensor]) -> None:
    kept = validate(pair(lambda x: 0.4 * x - 0.5), reals)
    lost = validate(pair(lambda x: 0.4 * x.flip(-1) - 0.5), reals)
    assert set(kept) == {"score", "unlikeness_b", "loss_a"}
    assert kept["loss_a"] == pytest.approx(0, abs=1e-3) and lost["loss_a"] > 0.5
    assert kept["score"] == pytest.approx(kept["unlikeness_b"] + kept["loss_a"])


def test_sensors_of_two_shapes_are_compared_with_the_mean_of_the_target(reals: dict[str, Tensor]) -> None:
    strips = {"a": reals["a"][:, :1, :8], "b": reals["b"]}
    mean = reals["b"].mean(dim=(0, 2, 3), keepdim=True)
    found = validate(pair(lambda x: mean.expand(len(x), 3, 32, 32)), strips)
    assert found == {"score": pytest.approx(1), "unlikeness_b": pytest.approx(1)}


def test_equal_sets_are_nowhere_apart_and_a_lost_contrast_counts(reals: dict[str, Tensor]) -> None:
    x = reals["a"]
    assert apart(x, x) == apart(x, x[torch.randperm(12)]) == 0
    assert 0.2 < apart(0.5 * x, x) < apart(torch.zeros_like(x), x)


@pytest.mark.parametrize("shape", [(1, 1, 1, 5), (2, 16, 4, 8), (3, 1, 7, 200)])
def test_samples_of_any_shape_can_be_compared(shape: tuple[int, ...]) -> None:
    x, y = torch.rand(2, *shape).unbind()
    assert math.isfinite(apart(x, y)) and spread(x) > 0


def test_stored_is_what_an_8_bit_file_keeps() -> None:
    assert stored(torch.tensor([-1.2, -1.0, 0.0039, 1.0])).tolist() == pytest.approx([-1, -1, 1 / 127.5 - 1 / 255, 1], abs=0.004)
    assert len(stored(torch.linspace(-1, 1, 10_000)).unique()) == 256 - 1


# The best checkpoint


def test_the_best_of_the_evaluations_is_kept_with_its_averages_and_score(root: Path) -> None:
    found = rows(root / "scored", "evaluation")
    assert [row["step"] for row in found] == [3, 6, 9, 12]
    best = min(found, key=lambda row: row["score"])
    path, score, damaged = checkpoint.best_good(root / "scored/checkpoints")
    assert path.name == f"best-{best['step']:08}" and damaged == []
    assert score == pytest.approx(best["score"], rel=1e-5)
    assert {file.name for file in path.iterdir()} == {"averages.safetensors", "state.json", "sums.json"}
    assert [row["better"] for row in found] == [row["score"] < min([math.inf] + [r["score"] for r in found[:i]]) for i, row in enumerate(found)]


def test_evaluating_changes_no_bit_of_what_is_learned(root: Path) -> None:
    ours, theirs = ({part: tensors(root / name, 12, part) for part in ("networks", "optimisers", "rank-0")} for name in ("scored", "plain"))
    assert all(torch.equal(value, theirs[part][name]) for part in ours for name, value in ours[part].items())
    assert rows(root / "plain", "evaluation") == [] and not list((root / "plain/checkpoints").glob("best-*"))


def test_a_resumed_run_ends_with_the_same_best_one(root: Path) -> None:
    resumed = root / "resumed"                              # as after a kill: what was saved since step 4 is lost
    shutil.copytree(root / "scored", resumed)
    for step in (8, 12):
        shutil.rmtree(resumed / f"checkpoints/step-{step:08}")
    trained(root, "resumed", *EVALUATED)
    assert differences(root / "scored", resumed, 12) == []
    scores = [[(row["step"], row["score"]) for row in rows(run, "evaluation")] for run in (root / "scored", resumed)]
    assert scores[0] == scores[1]
    ours, theirs = (checkpoint.best_good(run / "checkpoints")[0] for run in (root / "scored", resumed))
    assert ours.name == theirs.name
    assert all((ours / file.name).read_bytes() == file.read_bytes() for file in theirs.iterdir())


def test_a_run_of_fewer_steps_is_not_evaluated_and_one_of_more_is_at_its_end(root: Path, tmp_path: Path) -> None:
    train(tiny(root, "train.steps=2", "run.evaluate_every=2"), tmp_path / "two")
    train(tiny(root, "train.steps=2", "run.evaluate_every=3"), tmp_path / "fewer")
    train(tiny(root, "train.steps=3", "run.evaluate_every=2"), tmp_path / "more")
    assert [[row["step"] for row in rows(tmp_path / name, "evaluation")] for name in ("two", "fewer", "more")] == [[2], [], [2, 3]]


def test_a_score_that_is_no_number_is_never_the_best(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "validate", lambda generators, reals: {"score": math.nan})
    train(tiny(root, "train.steps=2", "run.evaluate_every=1"), tmp_path)
    assert [row["score"] for row in rows(tmp_path, "evaluation")] == [None, None]
    assert not list((tmp_path / "checkpoints").glob("best-*"))


def test_a_later_worse_score_leaves_the_best_and_a_better_one_takes_its_place(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.7, 0.9, 0.5])
    monkeypatch.setattr(validation, "validate", lambda generators, reals: {"score": next(scores)})
    kept = []
    monkeypatch.setattr(checkpoint, "save_best", lambda folder, step, averages, state: kept.append((step, state["score"])))
    train(tiny(root, "train.steps=3", "run.evaluate_every=1"), tmp_path)
    assert kept == [(1, 0.7), (3, 0.5)]


def test_older_best_ones_go_after_the_new_one_is_there(root: Path, tmp_path: Path) -> None:
    for step, score in ((1, 0.9), (5, 0.4), (7, 0.3)):
        checkpoint.save_best(tmp_path, step, {"x": torch.ones(1)}, {"score": score})
    assert [path.name for path in tmp_path.iterdir()] == ["best-00000007"]
    assert checkpoint.check(tmp_path / "best-00000007") == {"score": 0.3, "step": 7}


def test_a_kill_between_two_best_ones_leaves_the_better(tmp_path: Path) -> None:
    checkpoint.save_best(tmp_path / "x", 9, {"x": torch.ones(1)}, {"score": 0.9})
    checkpoint.save_best(tmp_path, 3, {"x": torch.ones(1)}, {"score": 0.4})
    (tmp_path / "x/best-00000009").rename(tmp_path / "best-00000009")
    assert checkpoint.best_good(tmp_path)[:2] == (tmp_path / "best-00000003", 0.4)


@pytest.mark.parametrize("state, why", [({}, "tells no score"), ({"score": "low"}, "tells no score"), ({"score": math.nan}, "tells no score")])
def test_a_best_checkpoint_without_a_score_is_damaged(tmp_path: Path, state: dict, why: str) -> None:
    checkpoint.save_best(tmp_path, 3, {"x": torch.ones(1)}, state)
    with pytest.raises(UserError, match=f"best-00000003/state.json {why}"):
        checkpoint.check(tmp_path / "best-00000003")
    assert checkpoint.best_good(tmp_path)[:2] == (None, math.inf)


def test_a_best_checkpoint_that_was_renamed_is_not_the_one_that_was_written(tmp_path: Path) -> None:
    checkpoint.save_best(tmp_path, 3, {"x": torch.ones(1)}, {"score": 0.4})
    (tmp_path / "best-00000003").rename(tmp_path / "best-00000004")
    with pytest.raises(UserError, match="best-00000004 holds the state after step 3"):
        checkpoint.check(tmp_path / "best-00000004")


# Who asks for it


def test_the_best_or_the_last_one_is_translated_with(root: Path) -> None:
    run, step = root / "scored", checkpoint.best_good(root / "scored/checkpoints")[0]
    last, best = (Translator.load(run, "ab", which=which, device="cpu") for which in ("last", "best"))
    ours = best.generator.state_dict()
    assert all(torch.equal(value, ours[name.removeprefix("ab.")]) for name, value in checkpoint.load_averages(step)[0].items() if name.startswith("ab."))
    assert (last.sha256 == best.sha256) == (step.name == "best-00000012") and max(steps_saved(run)) == 12
    assert Translator.load(run, device="cpu").sha256 == last.sha256


def test_a_run_without_a_best_one_says_why(root: Path) -> None:
    with pytest.raises(UserError, match=r"plain holds no whole best checkpoint. It is written every run.evaluate_every steps"):
        Translator.load(root / "plain", which="best")
    with pytest.raises(UserError, match="checkpoint 'first' is unknown: last or best"):
        Translator.load(root / "plain", which="first")


def test_the_command_line_takes_the_best_one(root: Path, tmp_path: Path) -> None:
    words = ["generate", str(root / "day"), str(tmp_path / "out"), "--with", f"image={root / 'scored'}", "--checkpoint", "best"]
    assert CliRunner().invoke(app, words).exit_code == 0
    row = json.loads((tmp_path / "out/manifest.jsonl").read_text().splitlines()[0])
    assert row["model"]["image"]["sha256"] == Translator.load(root / "scored", which="best", device="cpu").sha256
    words = ["translate", str(root / "scored"), str(root / "day/00.png"), "--out", str(tmp_path / "one"), "--checkpoint", "best"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert (tmp_path / "one/00.png").read_bytes() == (tmp_path / "out/00.png").read_bytes()
