"""`mmcycle evaluate`: sabotage is caught by the right number, and one code examines runs of every sensor."""
import json
import math

import numpy as np
import pytest
import tiny_models
import tiny_run
import tiny_sound
import torch
from PIL import Image as Pillow
from command import mmcycle, refused
from test_lidar import cloud
from test_metrics import darker, pictures

from mmcycle.data.samplers import Domain
from mmcycle.data.seeds import seed_of
from mmcycle.generate.translator import Translator
from mmcycle.metrics import features
from mmcycle.metrics.evaluate import Evaluation, Seen, evaluate, measure
from mmcycle.metrics.sample_sets import Sets, gather
from mmcycle.metrics.score import Score
from mmcycle.metrics.verdicts import Check, judge
from mmcycle.modality import find_modality

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT = 32
IMAGE = find_modality("image")(size=32)


def night(x: torch.Tensor) -> torch.Tensor:
    """Dark, bluish and without a change of what is where: a translation without a fault."""
    return (darker(x, 4) + torch.tensor([-0.1, 0.0, 0.1])[:, None, None]).clamp(-1, 1)


@pytest.fixture(scope="module")
def seen() -> Seen:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    network = features.learn([pictures(1), night(pictures(2))], steps=60)
    torch.set_num_threads(threads)
    return Seen(network, network)


def sets(fake: torch.Tensor, **others: object) -> Sets:
    """Translations of 32 pictures, beside pictures of nights that were really dark."""
    reference, real = night(pictures(4, COUNT)), night(pictures(5, COUNT))
    return Sets(source=pictures(3, COUNT), fake=fake, reference=reference, real=real, **{"alike": True} | others)


def examined(seen: Seen, looked_at: Sets) -> dict[str, Check]:
    scores = measure(looked_at, seen, IMAGE, IMAGE)
    return {check.name: check for check in judge(scores, len(looked_at.source))}


def noise() -> torch.Tensor:
    return torch.randn(COUNT, 3, 32, 32, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)


SABOTAGE = {                    # translations -> the questions whose answer must be bad, and those whose must be good
    "identity": (pictures(3, COUNT), {"realistic", "changed"}, {"faithful", "in place", "varied", "contrast"}),
    "constant": (torch.full((COUNT, 3, 32, 32), -0.5), {"realistic", "faithful", "contrast", "varied"}, set()),
    "one and the same picture": (
        night(pictures(6, 1)).expand(COUNT, -1, -1, -1), {"faithful", "in place", "varied"}, {"contrast", "changed"}),
    "strangers of the target": (
        night(pictures(6, COUNT)), {"faithful", "in place"}, {"realistic", "varied", "changed"}),
    "exchanged translations": (
        night(pictures(3, COUNT)).roll(5, 0), {"faithful", "in place"}, {"realistic", "varied", "changed"}),
    "noise": (noise(), {"realistic", "faithful", "in place"}, {"changed"}),
    "a negative": (-pictures(3, COUNT), {"realistic", "faithful", "upright"}, {"in place", "varied"}),
}


def test_a_translation_without_a_fault_passes_every_question(seen):
    found = examined(seen, sets(night(pictures(3, COUNT))))
    assert {check.level for check in found.values()} == {"good"}, found
    assert set(found) == {"realistic", "faithful", "in place", "contrast", "varied", "changed", "upright"}


@pytest.mark.parametrize("name", SABOTAGE)
def test_sabotage_is_caught_by_the_right_number(seen, name):
    fake, bad, good = SABOTAGE[name]
    found = examined(seen, sets(fake))
    assert bad <= {name for name, check in found.items() if check.level == "bad"}, found
    assert good <= {name for name, check in found.items() if check.level == "good"}, found
    assert all(check.advice for check in found.values() if check.level != "good")


def test_what_is_harsher_than_real_recordings_is_told(seen):
    assert examined(seen, sets(noise()))["contrast"].level == "weak"


def test_the_way_back_is_judged_by_what_strangers_differ_and_a_hidden_message_is_told(seen):
    source = pictures(3, COUNT)
    slightly = source + 0.01
    assert examined(seen, sets(night(source), back=(slightly, slightly)))["reversible"].level == "good"
    assert examined(seen, sets(night(source), back=(source.roll(1, 0),) * 2))["reversible"].level == "bad"
    hidden = examined(seen, sets(night(source), back=(slightly, source + 0.2)))["reversible"]
    assert hidden.level == "weak" and "hidden" in hidden.advice
    scores = measure(sets(night(source), back=(slightly, slightly)), seen, IMAGE, IMAGE)
    assert scores["cycle: l1"].value == pytest.approx(0.01, abs=1e-5)
    assert scores["cycle: psnr_db"].value == pytest.approx(20 * math.log10(2 / 0.01), abs=0.01)


def test_true_partners_are_measured_and_mere_namesakes_are_not(seen):
    source, known = pictures(3, COUNT), torch.arange(8)
    partner = night(source)[known]
    scores = measure(sets(partner[0:1].expand(COUNT, -1, -1, -1), known=known, partner=partner), seen, IMAGE, IMAGE)
    assert {"pairs: l1", "pairs: psnr_db", "pairs: ssim"} <= set(scores)
    found = examined(seen, sets(night(source), known=known, partner=partner))
    assert found["true"].level == "good" and "error 0.000" in found["true"].told
    assert examined(seen, sets(source, known=known, partner=partner))["true"].level == "bad"
    beside = {"shuffled": 0.591, "untranslated": 0.723}             # nearer by less than the interval
    hardly = judge(scores | {"pairs: l1": Score(0.590, 0.578, 0.601, beside)}, COUNT)
    assert {check.name: check.level for check in hardly}["true"] == "weak"
    strangers = sets(night(source), known=known, partner=night(pictures(7, 8)))
    assert "true" not in examined(seen, strangers)
    assert "pairs: l1" in measure(strangers, seen, IMAGE, IMAGE, paired=True)        # the config says that they are


def test_between_two_sensors_only_who_resembles_whom_can_be_asked(seen):
    own = Seen(features.learn([pictures(1, channels=1)], steps=20), seen.target)
    source = pictures(3, COUNT)
    told = {}
    for name, fake in (("true", night(source)), ("exchanged", night(source).roll(5, 0))):
        looked_at = Sets(source[:, :1], fake, night(pictures(4, COUNT)), night(pictures(5, COUNT)), alike=False)
        told[name] = {one.name: one for one in judge(measure(looked_at, own, IMAGE, IMAGE), COUNT)}
    assert set(told["true"]) == {"realistic", "faithful", "contrast", "varied"}
    assert told["true"]["faithful"].level != "bad" and told["exchanged"]["faithful"].level == "bad"
    assert told["true"]["realistic"].level == "good"


# Whole runs

@pytest.fixture(scope="module")
def quick() -> pytest.MonkeyPatch:
    """Features of few steps: here they need not be good."""
    with pytest.MonkeyPatch.context() as patch:
        learn = features.learn
        patch.setattr(features, "learn", lambda pools, seed: learn(pools, seed, steps=3))
        yield patch


def test_a_run_is_examined_by_one_line_and_what_was_found_lies_in_it(tmp_path, quick):
    run = tiny_run.trained(tmp_path, "run", "train.steps=2")
    said = mmcycle("evaluate", run, "--samples", 6, "--json", tmp_path / "found.json")
    assert said.code == 0, said
    assert "realism: kernel distance" in said.out and "realistic: " in said.out and "only 4 samples" in said.out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == json.loads((run / "evaluation" / "ab.json").read_text())
    assert {"realism: kernel distance", "cycle: l1", "collapse: change", "checks", "notes", "about"} <= set(found)
    assert found["about"]["samples"] == 4                               # eight real pictures make two sets of four
    assert {"value", "low", "high", "floor", "untranslated"} <= set(found["realism: kernel distance"])
    assert all({"name", "level", "told", "advice", "score"} == set(check) for check in found["checks"])


def test_the_same_line_gives_the_same_numbers_and_other_recordings_share_the_features(tmp_path, quick):
    run = tiny_run.trained(tmp_path, "run", "train.steps=2")
    first = evaluate(run, direction="ba")
    features_file = run / "evaluation" / "features_ab.safetensors"
    written = features_file.stat().st_mtime_ns
    assert evaluate(run, direction="ba").to_dict() == first.to_dict()
    day, evening = tiny_run.photographs(tmp_path / "x", 5, 7), tiny_run.photographs(tmp_path / "y", 9, 8)
    other = evaluate(run, source=day, real=evening)
    assert features_file.stat().st_mtime_ns == written
    assert other.about["features"] == first.about["features"] and other.about["samples"] == 4
    assert not any("trained on" in note for note in other.notes)


def test_an_exported_one_way_model_of_sound_is_examined_and_nothing_is_written_beside_it(tmp_path, quick):
    clean, noisy = tiny_sound.sounds(tmp_path / "a", 8, 1), tiny_sound.sounds(tmp_path / "b", 8, 2, noise=0.01)
    file = tiny_models.untrained(tmp_path / "m" / "sound.safetensors", tiny_models.SOUND)
    found = evaluate(file, source=clean, real=noisy, samples=5)
    assert "no way back was trained: no cycle error" in found.notes
    assert not any(name.startswith("cycle") for name in found.scores)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_sweeps_are_examined_by_the_same_code(tmp_path, quick):
    for name, start in (("a", 0), ("b", 100)):
        (tmp_path / name).mkdir()
        for index in range(8):
            cloud(start + index).astype(np.float32).tofile(tmp_path / name / f"{index:03}.bin")
    file = tiny_models.untrained(tmp_path / "sweeps.safetensors", tiny_models.LIDAR)
    found = evaluate(file, source=tmp_path / "a", real=tmp_path / "b")
    assert {"realistic", "faithful", "in place", "varied"} <= {check.name for check in found.checks}


def test_a_model_from_sound_to_pictures_is_examined(tmp_path, quick):
    sounds, photographs = tiny_sound.sounds(tmp_path / "a", 8, 1), tiny_run.photographs(tmp_path / "b", 8)
    file = tiny_models.untrained(tmp_path / "cross.safetensors", tiny_models.SOUND, tiny_models.IMAGE)
    found = evaluate(file, source=sounds, real=photographs)
    assert "faithfulness: layout kept" in found.scores and "faithfulness: structure" not in found.scores
    assert found.about["features"]["source"]["sha256"] != found.about["features"]["target"]["sha256"]


# What is looked at

def test_broken_recordings_are_left_out_and_told_and_large_ones_give_several_windows(tmp_path):
    tiny_run.photographs(tmp_path / "a", 2, 1, size=70)                 # 2 x 2 windows of 32 each
    tiny_run.photographs(tmp_path / "b", 10, 2)
    (tmp_path / "b" / "00.png").write_bytes(b"no picture")
    model = Translator.load(tiny_models.untrained(tmp_path / "m.safetensors", tiny_models.IMAGE | {"short_side": None}))
    found = gather(model, None, Domain(tmp_path / "a", model.source), Domain(tmp_path / "b", model.target), 50)
    assert found.source.shape == found.fake.shape == found.real.shape == (4, 3, 32, 32)
    assert len({x.numpy().tobytes() for x in found.source}) == 4
    assert not {x.numpy().tobytes() for x in found.real} & {x.numpy().tobytes() for x in found.reference}
    assert any("00.png" in note for note in found.notes)
    assert found.known is None                                          # two namesakes are too few


def test_partners_are_those_that_are_named_or_namesakes_whose_windows_agree(tmp_path):
    tiny_run.photographs(tmp_path / "a", 8, 1)
    tiny_run.photographs(tmp_path / "b", 16, 2)
    model = Translator.load(tiny_models.untrained(tmp_path / "m.safetensors", tiny_models.IMAGE))
    domains = Domain(tmp_path / "a", model.source), Domain(tmp_path / "b", model.target)
    assert len(gather(model, None, *domains, 50).known) == 8
    assert gather(model, None, *domains, 50, partners={}).known is None
    shifted = gather(model, None, *domains, 50, partners={index: index + 8 for index in range(5)})
    assert len(shifted.known) == 5
    expected = [domains[1].sample(index + 8, seed_of(0, domains[0].names[index], 0)) for index in range(5)]
    assert {x.numpy().tobytes() for x in shifted.partner} == {x.numpy().tobytes() for x in expected}
    for path in (tmp_path / "b").iterdir():
        Pillow.open(path).resize((96, 64)).save(path)
    plain = Translator.load(tiny_models.untrained(tmp_path / "n.safetensors", tiny_models.IMAGE | {"short_side": None}))
    domains = Domain(tmp_path / "a", plain.source), Domain(tmp_path / "b", plain.target)
    assert gather(plain, None, *domains, 50).known is None


def test_too_few_recordings_and_a_run_without_folders_are_refused(tmp_path):
    few = tiny_run.photographs(tmp_path / "a", 3)
    file = tiny_models.untrained(tmp_path / "m.safetensors", tiny_models.IMAGE)
    assert "needs 4 windows" in refused("evaluate", file, "--source", few, "--real", few)
    assert "name a folder with --source" in refused("evaluate", file)
    assert "name a folder with --real" in refused("evaluate", file, "--source", few)


def test_an_evaluation_is_plain_json():
    check = Check("varied", "bad", "much alike", "lower train.lr", "collapse: diversity")
    told = Evaluation({"run": "x"}, {"a: b": Score(0.5)}, (check,), ("note",)).to_dict()
    assert json.loads(json.dumps(told)) == {
        "a: b": {"value": 0.5}, "notes": ["note"], "about": {"run": "x"},
        "checks": [{"name": "varied", "level": "bad", "told": "much alike", "advice": "lower train.lr",
                    "score": "collapse: diversity"}],
    }
