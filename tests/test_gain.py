"""`mmcycle evaluate --downstream`: what is worth training on is told from what is not, and interrupted work goes on."""
import io
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tiny_run
import torch
from command import mmcycle, refused
from PIL import Image as Picture
from rich.console import Console
from tiny_models import IMAGE, untrained

from mmcycle.errors import UserError
from mmcycle.generate.translator import Translation
from mmcycle.metrics import gain, trainings
from mmcycle.metrics.answers import Asked
from mmcycle.metrics.gain import Question, downstream
from mmcycle.metrics.gain_verdicts import judge_gain, rows_of, worth
from mmcycle.metrics.labelled import Samples
from mmcycle.metrics.scorecard import print_gain
from mmcycle.metrics.trainings import Answered
from mmcycle.modality import Modality, find_modality

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 8
PICTURES = find_modality("image")(size=SIZE)
SOURCE = {"plum": (200, 100, 30), "lime": (30, 100, 200)}   # what they look like at home
TARGET = {"plum": (100, 30, 200), "lime": (100, 200, 30)}   # a lime there looks like a plum here


@dataclass
class Painter:
    """A translator that puts the channels of the source into another order."""

    run: str
    direction: str
    order: tuple[int, int, int]
    source: Modality = PICTURES
    target: Modality = PICTURES
    stochastic: bool = False

    @property
    def sha256(self) -> str:
        return "".join(map(str, self.order)) * 21 + "0"

    def perform(self, raw, strength: float = 1.0, seed: int = 0) -> Translation:
        x, context = self.source.to_tensor(raw)
        return Translation(self.target.from_tensor(x[list(self.order)], context), {}, lambda: (x, x))


RIGHT, NONE, EXCHANGED = (1, 2, 0), (0, 1, 2), (2, 1, 0)    # red, green, blue of the target <- channels of the source


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trainings.BATCH, "classes", 8)
    monkeypatch.setitem(trainings.BATCH, "masks", 4)


def painters(*orders: tuple[int, int, int]):
    """Run number 0 has the first order, and so on."""
    return lambda run, direction, share: Painter(str(run), direction, orders[int(run.name[-1])])


def runs(root: Path, count: int = 1) -> list[Path]:
    found = [root / f"run{number}" for number in range(count)]
    for run in found:
        run.mkdir(parents=True)
    return found


Colours = dict[str, tuple[int, int, int]]


def photographs(root: Path, colours: Colours, count: int = 12, seed: int = 0, masks: bool = False) -> Path:
    """Noisy pictures of one colour; with masks, one colour on the left and another on the right, places vary."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        names = sorted(colours)
        name = names[number % len(names)]
        pixels = rng.normal(0, 15, (2 * SIZE, 2 * SIZE, 3)) + colours[name]
        folder = root / ("photos" if masks else name)
        if masks:
            edge = rng.integers(4, 12)
            other = names[(number + 1) % len(names)]
            pixels[:, edge:] += np.subtract(colours[other], colours[name])
            classes = np.full((2 * SIZE, 2 * SIZE), names.index(name), np.uint8)
            classes[:, edge:], classes[0] = names.index(other), 9           # 9: a border that counts for nothing
            (root / "masks").mkdir(parents=True, exist_ok=True)
            Picture.fromarray(classes).save(root / "masks" / f"{number:02}.png")
        folder.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02}.png")
    return root


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("fruit")
    return {
        "source": photographs(root / "source", SOURCE, seed=1), "real": photographs(root / "real", TARGET, seed=2),
        "test": photographs(root / "test", TARGET, 20, seed=3),
    }


def asked(folders: dict[str, Path], **others: object) -> Question:
    return Question(**(folders | {"seeds": 3, "steps": 20} | others))


def level(found: gain.Gain, name: str) -> str:
    return {check.name: check.level for check in found.checks}[name]


def accuracy(found: gain.Gain, name: str) -> float:
    return {row["name"]: row for row in found.arms}[name]["accuracy"]["mean"]


def test_a_right_translation_closes_the_gap_and_the_same_call_teaches_nothing_again(tmp_path, folders, monkeypatch):
    place = runs(tmp_path)
    question = asked(folders, source_test=folders["source"])
    found = downstream(place, question, painters(RIGHT))
    assert accuracy(found, "source") < 60 < 95 < accuracy(found, "ours")
    assert found.gain["gap_closed"] == pytest.approx(1, abs=0.1)
    assert {check.name: check.level for check in found.checks} == {
        "gain": "good", "placebo": "good", "room": "good", "no harm": "good"}
    assert [row["name"] for row in found.arms] == [
        "source", "classic", "statistics", "fda", "ours", "ours and source", "ours with classic",
        "ours with fda", "ours, labels shuffled", "oracle",
    ]
    written = (place[0] / "evaluation" / "downstream_ab.json").read_text()
    assert json.loads(written, parse_constant=pytest.fail) == json.loads(json.dumps(found.to_dict()))
    monkeypatch.setattr(trainings, "teach", lambda *given: pytest.fail("taught again"))
    assert downstream(place, question, painters(RIGHT)).to_dict() == found.to_dict()


def test_a_translation_that_exchanges_classes_is_told(tmp_path, folders):
    alike = {name: photographs(tmp_path / name, SOURCE, seed=seed) for name, seed in (("real", 5), ("test", 6))}
    found = downstream(runs(tmp_path), asked(folders | alike, seeds=1), painters(EXCHANGED))
    assert accuracy(found, "ours") < 10
    assert (level(found, "gain"), level(found, "room")) == ("bad", "weak")
    assert found.gain["gap_closed"] is None


def test_translators_that_disagree_are_unstable(tmp_path, folders):
    found = downstream(runs(tmp_path, 2), asked(folders, seeds=4), painters(RIGHT, NONE))
    row = next(row for row in found.arms if row["name"] == "ours and source")
    assert row["translators"][0]["mean"] > row["translators"][1]["mean"] + 5
    assert row["accuracy"]["scores"][::2] == row["translators"][0]["scores"]
    assert level(found, "stable") == "weak"
    assert "unstable" in next(check.told for check in found.checks if check.name == "stable")


def test_what_was_written_or_kept_and_is_damaged_is_made_again(tmp_path, folders):
    place, question = runs(tmp_path), asked(folders, seeds=1, steps=5)
    found = downstream(place, question, painters(RIGHT)).to_dict()
    kept = place[0] / "evaluation" / "downstream"
    picture = next(kept.glob("ab-*/plum/*.png"))
    before = picture.read_bytes()
    picture.write_bytes(b"torn")
    for number, file in enumerate(sorted((kept / "scores").glob("*.json"))):
        file.write_text(("{", "[]", '{"test": [0, 5]}', '{"test": "x"}')[number % 4])
    assert downstream(place, question, painters(RIGHT)).to_dict() == found
    assert picture.read_bytes() == before


def test_another_model_takes_the_place_of_the_old_translations(tmp_path, folders):
    place, question = runs(tmp_path), asked(folders, seeds=1, steps=2)
    for order in (RIGHT, NONE):
        downstream(place, question, painters(order))
    assert len(list((place[0] / "evaluation" / "downstream").glob("ab-*"))) == 1


def test_masks_are_learnt_and_values_that_are_named_count_for_nothing(tmp_path):
    wanted = (("source", SOURCE, 8), ("real", TARGET, 8), ("test", TARGET, 6))
    sets = {name: photographs(tmp_path / name, colours, count, seed, masks=True)
            for seed, (name, colours, count) in enumerate(wanted)}
    found = downstream(runs(tmp_path), asked(sets, seeds=1, steps=25, size=(17, 15), voids=(9,)), painters(RIGHT))
    named = {row["name"]: row for row in found.arms}
    assert found.about["size"] == [16, 16] and found.about["classes"] == ["0", "1"]
    assert named["ours"]["mean_iou"]["mean"] > named["source"]["mean_iou"]["mean"] + 30
    assert set(named["ours"]["iou"]) == {"0", "1"} and named["ours"]["pixel_accuracy"]["mean"] > 70
    assert level(found, "placebo") == "good"
    with pytest.raises(UserError, match="has 9, of which the source .* has none .*name it with --void"):
        for path in (sets["source"] / "masks").iterdir():
            Picture.fromarray(np.where((one := np.asarray(Picture.open(path))) == 9, 0, one)).save(path)
        downstream(runs(tmp_path / "again"), asked(sets), painters(RIGHT))


def test_every_network_also_trains_itself_if_asked_to_and_what_was_kept_is_not_taken_for_it(tmp_path, folders):
    place, question = runs(tmp_path), asked(folders, seeds=1, steps=8)
    found = [downstream(place, one, painters(NONE)) for one in (question, replace(question, self_train=True))]
    assert [one.about["self_train"] for one in found] == [False, True]
    assert [row["name"] for row in found[0].arms] == [row["name"] for row in found[1].arms]
    kept = list((place[0] / "evaluation" / "downstream" / "scores").iterdir())
    assert len(kept) == 2 * len(found[0].arms)
    console = Console(width=160, record=True, file=io.StringIO())
    print_gain(found[1], console)
    assert "taught on, then by itself" in console.export_text()


def test_labels_beside_the_source_folder_are_found_again(tmp_path, folders):
    root = tmp_path / "set"
    lines = ["file,label"]
    for part, colours in (("trainA", SOURCE), ("trainB", TARGET), ("testB", TARGET)):
        photographs(root / part, colours, 6)
        lines += [f"{path.relative_to(root)},{path.parent.name}" for path in sorted((root / part).rglob("*.png"))]
    for part in ("trainA", "trainB", "testB"):
        for number, path in enumerate(sorted((root / part).rglob("*.png"))):
            path.rename(root / part / f"{number}.png")
            lines = [line.replace(f"{path.relative_to(root)},", f"{part}/{number}.png,") for line in lines]
    for folder in root.glob("*/*/"):
        folder.rmdir()
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    question = Question(source=root / "trainA", real=root / "trainB", test=root / "testB", seeds=1, steps=20)
    found = downstream(runs(tmp_path), question, painters(RIGHT))
    assert found.about["classes"] == ["lime", "plum"] and accuracy(found, "ours") > 90


def test_an_unlabelled_target_has_no_upper_bound_and_strange_classes_are_left_out_of_it(tmp_path, folders):
    bare = tiny_run.photographs(tmp_path / "bare", 4)
    found = downstream(runs(tmp_path), asked(folders, real=bare, seeds=1, steps=2), painters(RIGHT))
    assert "oracle" not in [row["name"] for row in found.arms] and "room" not in [check.name for check in found.checks]
    assert any("is not labelled" in note for note in found.notes)
    more = photographs(tmp_path / "more", TARGET | {"fig": (9, 9, 9)})
    found = downstream([tmp_path / "run0"], asked(folders, real=more, seeds=1, steps=2), painters(RIGHT))
    assert any(note.startswith("4 recordings of the target are of no class") for note in found.notes)


def test_copies_and_the_safest_share_are_those_of_generate(tmp_path, folders):
    found = downstream(runs(tmp_path), asked(folders, seeds=1, steps=2, copies=2, keep_best=0.5), painters(RIGHT))
    assert found.about["translated"] == [12]                        # half of two copies of twelve


def refusal(tmp_path: Path, folders: dict[str, Path], load=None, **others: object) -> str:
    load = load or (lambda run, direction, share: Painter(str(run), direction, RIGHT))
    with pytest.raises(UserError) as caught:
        downstream([tmp_path], asked(folders, **others), load)
    return str(caught.value)


def test_sets_that_do_not_fit_together_are_refused(tmp_path, folders):
    bare = tiny_run.photographs(tmp_path / "bare", 4)
    one = photographs(tmp_path / "one", {"plum": (1, 2, 3)}, 2)
    (one / "labels.csv").write_text("file,class\nplum/00.png,plum\nplum/01.png,plum\n")
    more = photographs(tmp_path / "more", TARGET | {"fig": (9, 9, 9)}, 3)
    assert "4 recordings (layout folder) 0 have a class and 0 a mask" in refusal(tmp_path, folders, source=bare)
    assert "the source has classes" in refusal(tmp_path, folders, test=bare)
    assert "has fig, of which the source" in refusal(tmp_path, folders, test=more)
    assert "labels are 'plum'; two classes or more" in refusal(tmp_path, folders, source=one, test=one)
    assert "size 4x16 is too small" in refusal(tmp_path, folders, size=(4, 16))
    assert "seeds is 0; it must be 1 or more" in refusal(tmp_path, folders, seeds=0)
    assert "seeds is 21" in refusal(tmp_path, folders, seeds=21)
    with pytest.raises(UserError, match="2 runs and 1 seeds: every seed takes the next run"):
        downstream(runs(tmp_path, 2), asked(folders, seeds=1), painters(RIGHT, RIGHT))
    assert "name a folder with --source" in refusal(tmp_path, folders, source=None)


def test_runs_that_do_not_fit_together_are_refused(tmp_path, folders):
    with pytest.raises(UserError, match="named twice"):
        downstream([tmp_path, tmp_path / ".." / tmp_path.name], asked(folders), painters(RIGHT))
    other, sound = find_modality("image")(size=16), find_modality("audio")()
    first, second = runs(tmp_path, 2)
    with pytest.raises(UserError, match="translates other domains than"):
        downstream([first, second], asked(folders), lambda run, direction, share: Painter(
            str(run), direction, RIGHT, target=PICTURES if run == first else other))
    message = refusal(
        tmp_path, folders, lambda run, direction, share: Painter(str(run), direction, RIGHT, target=sound))
    assert "makes Audio of Image: no network can be taught on both" in message


def told(scores: dict[str, list[int]], count: int = 100) -> tuple[dict, Asked]:
    """Answers of which so many of 100 are right, a seed after the other; two translators take turns."""
    truth = torch.arange(count) % 2
    test = Asked(Samples(torch.zeros(count, 1, 1, 1), truth, tuple(map(str, range(count)))), ("a", "b"), "classes")
    answers = {
        (arm, seed % 2 if "ours" in arm else None, seed): Answered(
            np.where(np.arange(count) < right, truth, 1 - truth), None)
        for arm, seeds in scores.items() for seed, right in enumerate(seeds)
    }
    return answers, test


SCORES = {
    "source": [40, 44, 42, 42], "classic": [50, 54, 52, 52], "statistics": [60, 20, 10, 30],
    "ours": [80, 80, 80, 80], "ours and source": [76, 82, 82, 80], "ours, labels shuffled": [50, 52, 48, 50],
    "oracle": [92, 92, 92, 92],
}


def test_numbers_by_hand():
    answers, test = told(SCORES)
    rows, found = rows_of(answers, test, None), worth(answers, test)
    headline = next(row for row in rows if row["name"] == "ours and source")
    assert headline["accuracy"]["scores"] == [76, 82, 82, 80] and headline["accuracy"]["mean"] == 80
    assert headline["translators"] == [{"mean": 79, "scores": [76, 82]}, {"mean": 81, "scores": [82, 80]}]
    assert rows[0]["translators"] == []
    assert (found["against"], found["difference"], found["differences"]) == ("classic", 28, [26, 28, 30, 28])
    assert found["p"] == pytest.approx(2 / 16) and found["gap_closed"] == pytest.approx(38 / 50)
    assert found["low"] < 28 < found["high"] and found["gap_low"] < 0.76 < found["gap_high"]
    assert {check.name: check.level for check in judge_gain(rows, found, test)} == {
        "gain": "good", "placebo": "good", "stable": "good", "room": "good"}


@pytest.mark.parametrize("change, name, expected", [
    ({"ours and source": [50, 54, 50, 52]}, "gain", "bad"),
    ({"ours and source": [49, 58, 60, 58]}, "gain", "weak"),                    # worse with one seed
    ({"ours and source": [90], "classic": [50]}, "gain", "weak"),               # one seed
    ({"ours, labels shuffled": [80, 81, 79, 80]}, "placebo", "bad"),
    ({"ours, labels shuffled": [60]}, "placebo", "good"),                       # one seed says little
    ({"ours and source": [80, 70, 82, 72]}, "stable", "weak"),
    ({"ours and source": [80, 70, 71, 72]}, "stable", "good"),                  # seeds of one differ by more
    ({"oracle": [43, 43, 43, 43]}, "room", "weak"),
])
def test_verdicts_by_hand(change, name, expected):
    scores = SCORES | change
    fewest = min(map(len, scores.values()))
    answers, test = told({arm: seeds[:fewest] for arm, seeds in scores.items()})
    rows = rows_of(answers, test, None)
    checks = {check.name: check for check in judge_gain(rows, worth(answers, test), test)}
    assert checks[name].level == expected
    assert bool(checks[name].advice) == (expected != "good")


def test_harm_at_home_is_told():
    answers, test = told(SCORES)
    home = {
        key: one._replace(source=one.test if key[0] == "source" else 1 - test.truth) for key, one in answers.items()
    }
    rows = rows_of(home, test, test)
    assert rows[0]["source_test"]["mean"] == 42
    assert {check.name: check.level for check in judge_gain(rows, worth(home, test), test)}["no harm"] == "weak"


def test_one_line_examines_a_trained_run_and_prints_a_table(tmp_path, folders):
    run = tiny_run.trained(tmp_path, "run", "train.steps=2", f"a.root={folders['source']}", f"b.root={folders['real']}",
                           "a.size=16", "b.size=16")
    words = ("evaluate", run, "--downstream", "--test", folders["test"], "--seeds", 1, "--steps", 2, "--size", "8x8",
             "--self-train")
    said = mmcycle(*words, "--json", tmp_path / "found.json")
    assert said.code == 0, said
    assert "ours and source" in said.out and "20 test recordings" in said.out.replace("\n", " ")
    assert "10/10 oracle, seed 0" in said.err
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == json.loads((run / "evaluation" / "downstream_ab.json").read_text())
    assert found["about"]["size"] == [8, 8] and found["about"]["self_train"] is True
    assert found["arms"][0]["accuracy"]["half_width"] is None
    assert found["about"]["sets"]["source"]["root"] == str(folders["source"])


def test_the_command_line_refuses_what_does_not_belong_together(tmp_path, folders):
    model = untrained(tmp_path / "model.safetensors", IMAGE)
    test = ("--test", folders["test"])
    assert "needs --test DIR" in refused("evaluate", tmp_path, "--downstream")
    assert "needs a run folder" in refused("evaluate", model, "--downstream", *test)
    assert "belongs to --downstream" in refused("evaluate", tmp_path, *test)
    assert "without --downstream one is examined" in refused("evaluate", tmp_path, model)
    assert "expected HEIGHTxWIDTH" in refused("evaluate", tmp_path, "--downstream", *test, "--size", "64")


def test_a_table_of_one_seed_shows_no_intervals():
    answers, test = told({arm: seeds[:1] for arm, seeds in SCORES.items()})
    rows, found = rows_of(answers, test, None), worth(answers, test)
    about = {"runs": [{"run": "runs/x"}], "seeds": [0], "sets": {"test": {"count": 100}}, "classes": ["a", "b"],
             "direction": "ab", "steps": 600, "headline": "ours and source"}
    console = Console(width=120, record=True, file=io.StringIO())
    print_gain(gain.Gain(about, rows, found, judge_gain(rows, found, test), ("a note",)), console)
    text = console.export_text()
    assert "±" not in text and "note  a note" in text and math.isnan(rows[0]["accuracy"]["half_width"])
