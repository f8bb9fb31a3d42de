"""A score for every generated item, the best share that stays, and counts that add up whatever happens on the way."""
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from torch import Tensor, nn

from mmcycle.errors import RecordingError, UserError
from mmcycle.generate import dataset
from mmcycle.generate.dataset import generate
from mmcycle.generate.manifest import read_rows, verify
from mmcycle.generate.safety import agreement, best
from mmcycle.generate.shard import Share
from mmcycle.generate.translator import Translation
from mmcycle.modalities.image import Image
from tiny_models import IMAGE, SOUND, untrained

COUNT = 10


@dataclass
class Spoiler:
    """Halves the contrast; of the picture called 3, 5 or 8 it shows the mirror image instead. "broken" cannot be read."""

    run: str
    direction: str
    source: Image = Image(size=32)
    target: Image = Image(size=32)
    sha256: str = "0" * 64
    stochastic: bool = False

    def perform(self, raw, strength: float = 1.0, seed: int = 0) -> Translation:
        x, context = self.source.to_tensor(raw)
        number = round((x[0, 0, 0].item() + 1) * 127.5)             # the first pixel is the picture's number
        y = 0.5 * (x.flip(-1) if number in (3, 5, 8) else x)
        return Translation(self.target.from_tensor(y, context), {}, lambda: (x, y))


def load(run: Path, direction: str, share: Share) -> Spoiler:
    return Spoiler(str(run), direction)


class Brightness(nn.Module):
    """Two classes, (1, 2): dark and bright."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([-x.mean((1, 2, 3)), x.mean((1, 2, 3))], dim=1) * 20


def judge() -> nn.Module:
    return Brightness()


def mute() -> nn.Module:
    return nn.Flatten(0)


def nothing() -> None:
    return None


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        folder = tmp_path / "source" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Picture.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((32, 32), Picture.BILINEAR)
        pixels = np.array(coarse)
        pixels[0, 0] = number
        Picture.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"{number}")
    return tmp_path / "source"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def left_out(out: Path) -> list[tuple[str, int]]:
    lines = [json.loads(line) for line in (out / "left_out.jsonl").read_text().splitlines()]
    return [(line["key"], line["copy"]) for line in lines]


# The score


def test_edges_that_stay_agree_and_edges_elsewhere_do_not() -> None:
    x = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), size=(32, 32))[0]
    assert agreement(x, 0.3 * x - 0.5) == pytest.approx(1, abs=1e-4)
    assert agreement(x, -x) == 1                                    # light may turn round, edges may not move
    assert agreement(x, x.flip(-1)) < 0.5
    assert agreement(x, torch.rand(1, 16, 32)) is None


def test_a_judge_says_how_much_of_its_opinion_stays() -> None:
    x, y = torch.full((3, 8, 8), -0.5), torch.full((3, 8, 8), 0.5)
    assert agreement(x, x, "test_safety:judge") == 1
    assert agreement(x, y, "test_safety:judge") == pytest.approx(2 / (1 + np.exp(20)), abs=1e-4)
    grey = torch.zeros(3, 8, 8)                                     # p = (1/2, 1/2) against (1, 0): half in common
    assert agreement(grey, y, "test_safety:judge") == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("name, why", [
    ("nowhere:net", "could not be built: No module named 'nowhere'"), ("test_safety:absent", "could not be built"),
    ("test_safety:nothing", "returned NoneType; it must return a model"),
])
def test_a_judge_that_is_none_is_refused_before_anything_is_written(source: Path, run: Path, tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(UserError, match=f"--judge '{name}' {why}"):
        generate(source, tmp_path / "out", {"image": str(run)}, judge=name, load=load)
    assert not (tmp_path / "out").exists()


def test_a_judge_without_classes_is_refused() -> None:
    with pytest.raises(UserError, match=r"--judge 'test_safety:mute' says \(192,\) of a source"):
        agreement(torch.zeros(3, 8, 8), torch.zeros(3, 8, 8), "test_safety:mute")


def test_the_share_is_kept_by_score_then_by_key() -> None:
    scores = {("a", 0): 0.5, ("b", 0): 0.9, ("a", 1): 0.5, ("c", 0): 0.1}
    assert best(scores, 0.5) == {("b", 0), ("a", 0)}
    assert best(scores, 0.51) == {("b", 0), ("a", 0), ("a", 1)}
    assert best(scores, 0.01) == {("b", 0)} and best(scores, 1) == set(scores) and best({}, 0.5) == set()
    assert len(best({(str(n), 0): n for n in range(10)}, 0.9)) == 9


# The data set


def test_every_item_has_its_score_in_the_manifest(source: Path, run: Path, tmp_path: Path) -> None:
    job = generate(source, tmp_path / "out", {"image": str(run)}, load=load)
    scores = {row.key: row.params["image.safety"] for row in read_rows(tmp_path / "out")}
    assert job[:4] == (10, 0, 0, 10) and job.left_out == 0
    assert {key for key, score in scores.items() if score < 0.6} == {"cat/3", "cat/5", "dog/8"}
    assert min(score for key, score in scores.items() if key not in ("cat/3", "cat/5", "dog/8")) > 0.95
    assert not (tmp_path / "out/left_out.jsonl").exists()


def test_only_the_best_are_there_and_the_counts_add_up(source: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = generate(source, out, {"image": str(run)}, keep_best=0.7, load=load)
    assert job[:4] == (10, 0, 0, 10) and job.left_out == 3
    assert left_out(out) == [("cat/3", 0), ("cat/5", 0), ("dog/8", 0)]
    assert {path.stem for path in out.rglob("*.png")} == {path.stem for path in out.rglob("*.txt")} == set("0124679")
    verdict = verify(out)
    assert verdict.ok and verdict.counts == {"rows": 7, "files": 14, "labels": 7, "quarantined": 0, "left_out": 3, "total": 10}
    before = tree(out)
    again = generate(source, out, {"image": str(run)}, keep_best=0.7, load=load)
    assert again[:4] == (0, 10, 0, 10) and again.left_out == 3 and tree(out) == before
    assert "of all, the best 0.7 by edges kept; the others only in left_out.jsonl" in job.outline


def test_the_same_are_left_out_by_any_number_of_workers_and_in_shards(source: Path, run: Path, tmp_path: Path) -> None:
    for name, words in {"one": {}, "two": {"devices": 2}}.items():
        generate(source, tmp_path / name, {"image": str(run)}, keep_best=0.7, load=load, **words)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    pytest.importorskip("webdataset")
    job = generate(source, tmp_path / "tars", {"image": str(run)}, keep_best=0.7, load=load, to="webdataset")
    assert job.left_out == 3 and left_out(tmp_path / "tars") == left_out(tmp_path / "one") and verify(tmp_path / "tars").ok
    again = generate(source, tmp_path / "tars", {"image": str(run)}, keep_best=0.7, load=load, to="webdataset")
    assert again[:4] == (0, 10, 0, 10) and again.left_out == 3


@pytest.mark.parametrize("moment", ["write_text", "_write_table", "write_job"])
def test_a_kill_while_leaving_out_is_mended_by_the_same_line(
    source: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    (source / "labels.csv").write_text("file,kind\n" + "".join(f"{'cat' if n % 2 else 'dog'}/{n}.png,{n}\n" for n in range(COUNT)))
    generate(source, tmp_path / "straight", {"image": str(run)}, keep_best=0.7, load=load)
    home = {"write_text": dataset.files, "_write_table": dataset, "write_job": dataset.ledger}[moment]
    real = getattr(home, moment)

    def killed(*words):
        if moment == "_write_table" or (words[0].name == "left_out.jsonl" if moment == "write_text" else words[-1]):
            raise KeyboardInterrupt
        return real(*words)

    with monkeypatch.context() as patch:
        patch.setattr(home, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            generate(source, tmp_path / "out", {"image": str(run)}, keep_best=0.7, load=load)
    job = generate(source, tmp_path / "out", {"image": str(run)}, keep_best=0.7, load=load)
    assert (job.done, job.skipped, job.left_out) == (0, 10, 3)
    straight = tree(tmp_path / "straight")
    assert tree(tmp_path / "out") == straight
    assert b"cat/3.png" not in straight["labels.csv"] and b"cat/1.png" in straight["labels.csv"] and verify(tmp_path / "out").ok


def test_what_is_mended_later_may_change_who_stays(source: Path, run: Path, tmp_path: Path) -> None:
    good = (source / "dog/0.png").read_bytes()
    (source / "dog/0.png").write_bytes(b"not a picture")
    first = generate(source, tmp_path / "out", {"image": str(run)}, keep_best=0.75, load=load, on_error="quarantine")
    assert (first.done, first.quarantined, first.left_out) == (9, 1, 2)              # 7 of 9
    assert verify(tmp_path / "out").ok
    worst = left_out(tmp_path / "out")
    (source / "dog/0.png").write_bytes(good)
    second = generate(source, tmp_path / "out", {"image": str(run)}, keep_best=0.75, load=load, on_error="quarantine")
    generate(source, tmp_path / "straight", {"image": str(run)}, keep_best=0.75, load=load, on_error="quarantine")
    assert (second.done + second.skipped, second.quarantined, second.left_out) == (10, 0, 2)     # 8 of 10
    assert tree(tmp_path / "out") == tree(tmp_path / "straight") and len(worst) == 2


def test_a_score_that_is_left_out_comes_back_when_another_takes_its_place(source: Path, run: Path, tmp_path: Path) -> None:
    good = (source / "cat/1.png").read_bytes()
    (source / "cat/1.png").write_bytes(b"not a picture")
    generate(source, tmp_path / "out", {"image": str(run)}, keep_best=0.1, load=load, on_error="quarantine")
    (source / "cat/1.png").write_bytes(good)
    generate(source, tmp_path / "out", {"image": str(run)}, keep_best=0.1, load=load, on_error="quarantine")
    generate(source, tmp_path / "straight", {"image": str(run)}, keep_best=0.1, load=load, on_error="quarantine")
    assert tree(tmp_path / "out") == tree(tmp_path / "straight") and verify(tmp_path / "out").counts["left_out"] == 9


def test_a_damaged_list_is_work_done_again(source: Path, run: Path, tmp_path: Path) -> None:
    generate(source, tmp_path / "out", {"image": str(run)}, keep_best=0.7, load=load)
    before = tree(tmp_path / "out")
    lines = (tmp_path / "out/left_out.jsonl").read_text().splitlines()
    (tmp_path / "out/left_out.jsonl").write_text("\n".join([lines[0], "{", lines[2]]) + "\n")
    assert "left_out.jsonl, line 2" in verify(tmp_path / "out").problems[0]
    job = generate(source, tmp_path / "out", {"image": str(run)}, keep_best=0.7, load=load)
    assert (job.done, job.skipped) == (1, 9) and tree(tmp_path / "out") == before


def test_another_share_or_judge_is_another_job(source: Path, run: Path, tmp_path: Path) -> None:
    generate(source, tmp_path / "out", {"image": str(run)}, keep_best=0.7, load=load)
    with pytest.raises(UserError, match="keep_best was 0.7 and is now null"):
        generate(source, tmp_path / "out", {"image": str(run)}, load=load)
    with pytest.raises(UserError, match='judges was null and is now {"image": "test_safety:judge"}'):
        generate(source, tmp_path / "out", {"image": str(run)}, keep_best=0.7, judge="test_safety:judge", load=load)


def test_a_judge_of_a_stream_scores_that_stream(source: Path, run: Path, tmp_path: Path) -> None:
    generate(source, tmp_path / "out", {"image": str(run)}, judge="image=test_safety:judge", keep_best=0.9, load=load)
    scores = [row.params["image.safety"] for row in read_rows(tmp_path / "out")]
    assert len(scores) == 9 and all(0.5 <= score <= 1 for score in scores) and len(set(scores)) > 5


@pytest.mark.parametrize("words, why", [
    ({"keep_best": 0.0}, "keep_best is 0.0; it is the share that stays, above 0 and up to 1"),
    ({"keep_best": 1.1}, "keep_best is 1.1"), ({"keep_best": float("nan")}, "keep_best is nan"),
    ({"judge": "camera=test_safety:judge"}, "no stream 'camera' is translated; there is image"),
])
def test_what_means_nothing_is_refused(source: Path, run: Path, tmp_path: Path, words: dict, why: str) -> None:
    with pytest.raises(UserError, match=why):
        generate(source, tmp_path / "out", {"image": str(run)}, load=load, **words)


def test_two_sensors_have_no_edges_in_common(source: Path, tmp_path: Path) -> None:
    model = untrained(tmp_path / "x.safetensors", IMAGE, SOUND)
    for words, why in (({"keep_best": 0.5}, "Image of .* and Audio of .*, stream 'image', have no edges in common"),
                       ({"judge": "test_safety:judge"}, "are of two sensors, and one model cannot judge both")):
        with pytest.raises(UserError, match=why):
            generate(source, tmp_path / "out", {"image": str(model)}, labels="class", **words)


def test_two_sizes_have_no_edges_in_common(source: Path, tmp_path: Path) -> None:
    model = untrained(tmp_path / "x.safetensors", IMAGE, IMAGE | {"name": "b", "size": 64})
    with pytest.raises(UserError, match="Image of 32 x 32 and Image of 64 x 64, stream 'image', have no edges in common"):
        generate(source, tmp_path / "out", {"image": str(model)}, keep_best=0.5)


def test_a_source_file_that_is_called_like_the_list_is_refused_or_taken_for_our_own(source: Path, run: Path, tmp_path: Path) -> None:
    generate(source, tmp_path / "one", {"image": str(run)}, keep_best=0.7, load=load)
    job = generate(tmp_path / "one", tmp_path / "two", {"image": str(run)}, load=load)
    assert job[:4] == (7, 0, 0, 7) and not (tmp_path / "two/left_out.jsonl").exists() and verify(tmp_path / "two").ok


def test_a_recording_that_cannot_be_compared_is_named(source: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(x: Tensor, y: Tensor, judge: str | None = None) -> float:
        raise RuntimeError("the author never saw this")

    monkeypatch.setattr("mmcycle.generate.shard.agreement", odd)
    with pytest.raises(RecordingError, match=r"cat/\d.png: could not be compared with its translation: RuntimeError"):
        generate(source, tmp_path / "out", {"image": str(run)}, load=load)


def test_a_model_of_ours_scores_its_translations(source: Path, tmp_path: Path) -> None:
    model = untrained(tmp_path / "x.safetensors", IMAGE)
    generate(source, tmp_path / "out", {"image": str(model)}, keep_best=0.5)
    assert all(-1 <= row.params["image.safety"] <= 1 for row in read_rows(tmp_path / "out"))
    assert len(list(read_rows(tmp_path / "out"))) == 5 and verify(tmp_path / "out").ok
