"""A model card: valid for the Hub, true to what a run left on the disk, and silent about whoever made it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from grids import config

from mmcycle.config import Config, from_dict, to_dict
from mmcycle.generate.model_card import Shared, model_card

AB, BA = "a" * 64, "b" * 64
IMAGES = {
    "name": "tiny",
    "a": {"name": "day", "modality": "image", "size": 32},
    "b": {"name": "night", "modality": "image", "size": 32},
}
SCORES = {
    "realism: kernel distance": {
        "value": 0.25,
        "low": 0.2,
        "high": 0.3,
        "floor": 0.125,
        "untranslated": 0.5,
        "error": 0.01,
    },
    "cycle: ssim": {"value": 0.75},
    "cycle: empty": {},
}
CHECKS = [
    {"name": "realistic", "level": "weak", "told": "can be told from real ones", "advice": "train longer"},
    {"name": "faithful", "level": "good", "told": "show what their sources show", "advice": ""},
]
ARMS = [
    {
        "name": "source",
        "networks": 5,
        "accuracy": {"mean": 21.9, "half_width": 2.0, "scores": [21.9]},
        "translators": [],
    },
    {
        "name": "ours and source",
        "accuracy": {"mean": 75.5, "half_width": 1.5, "scores": [75.5]},
        "balanced_accuracy": {"mean": 74},
    },
]


def evaluation(run: Path, sha256: str = AB, **changes: Any) -> None:
    about = {
        "run": str(run),
        "model_sha256": sha256,
        "samples": 64,
        "seed": 3,
        "source": "/home/ann/day",
        "real": "/home/ann/night",
    }
    told = SCORES | {"checks": CHECKS, "notes": ["left out: /home/ann/day/7.png is broken"], "about": about} | changes
    put(run / "evaluation/ab.json", told)


def gain(run: Path, sha256: str = AB, **changes: Any) -> None:
    about = {"runs": [{"run": str(run), "model_sha256": sha256}], "seeds": [0, 1, 2], "steps": 600}
    checks = [{"name": "gain", "level": "bad", "told": "training on translations harms", "advice": ""}]
    put(
        run / "evaluation/downstream_ab.json",
        {"about": about, "arms": ARMS, "gain": {"gap_closed": 0.71}, "checks": checks} | changes,
    )


def log(run: Path, *rows: dict[str, Any]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def put(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def shared(made: Config | None = None, **changes: Any) -> Shared:
    told = Shared(
        made or from_dict(IMAGES), 2000, {"ab": AB, "ba": BA}, {"mmcycle": "0.1.0"}, "model.safetensors", None
    )
    return told._replace(**changes)


def parts(card: str) -> tuple[dict[str, Any], str]:
    """The header, read as YAML, and the text."""
    _, header, text = card.split("---\n", 2)
    return yaml.safe_load(header), text


def test_a_run_that_left_nothing_is_told_to_be_unmeasured(tmp_path: Path) -> None:
    header, text = parts(model_card(shared(), tmp_path))
    assert header == {
        "library_name": "mmcycle",
        "pipeline_tag": "image-to-image",
        "tags": ["mmcycle", "unpaired-translation", "domain-adaptation", "data-augmentation", "image", "cyclegan"],
    }
    assert "Nothing was measured of these weights." in text
    assert "- day to night and night to day: how realistic and how faithful it is was not measured" in text
    assert "| a | day | ? | image | size: 32; channels: 3;" in text and "License: not stated" in text
    assert f"| ab | `{AB}` |\n| ba | `{BA}` |" in text


def test_measures_stand_in_the_header_and_beside_their_known_cases(tmp_path: Path) -> None:
    evaluation(tmp_path)
    header, text = parts(model_card(shared(license="mit"), tmp_path))
    assert header["license"] == "mit" and "License: not stated" not in text
    (index,) = header["model-index"]
    (result,) = index["results"]
    assert index["name"] == "tiny" and result["dataset"] == {"name": "day to night", "type": "day-to-night"}
    assert result["task"]["type"] == "image-to-image"
    assert result["metrics"] == [
        {"type": "realism_kernel_distance", "value": 0.25, "name": "realism: kernel distance"},
        {"type": "cycle_ssim", "value": 0.75, "name": "cycle: ssim"},
    ]
    assert "| realism: kernel distance | 0.25 | 0.2 to 0.3 | floor 0.125, untranslated 0.5 |" in text
    assert "| cycle: ssim | 0.75 |  |  |" in text and "64 samples, seed 3" in text
    assert "- faithful: show what their sources show" in text
    assert "- day to night, weak: can be told from real ones." in text.split("## Limits")[1]
    assert "- night to day: how realistic" in text


def test_what_networks_learned_of_translations_is_told_with_its_interval(tmp_path: Path) -> None:
    gain(tmp_path)
    header, text = parts(model_card(shared(), tmp_path))
    (result,) = header["model-index"][0]["results"]
    assert [metric["name"] for metric in result["metrics"]] == [
        "accuracy, taught on source",
        "accuracy, taught on ours and source",
        "balanced accuracy, taught on ours and source",
    ]
    assert (
        "| ours and source | accuracy | 75.5 | 1.5 |" in text
        and "| ours and source | balanced accuracy | 74 | – |" in text
    )
    assert "3 seeds of 600 steps" in text and "71% is gone" in text
    assert "- day to night, bad: training on translations harms." in text


def test_what_was_measured_on_other_weights_is_not_told(tmp_path: Path) -> None:
    evaluation(tmp_path, "c" * 64)
    gain(tmp_path, "c" * 64)
    header, text = parts(model_card(shared(), tmp_path))
    assert "model-index" not in header and "Nothing was measured of these weights." in text


def test_training_is_told_from_the_log_up_to_the_checkpoint(tmp_path: Path) -> None:
    warning = {
        "event": "warning",
        "name": "no variety",
        "domain": "b",
        "measure": "diverse",
        "value": 0.123,
        "advice": "x",
    }
    log(
        tmp_path,
        {
            "event": "start",
            "step": 0,
            "device": "cuda:0",
            "ranks": 2,
            "versions": {"python": "3.11.7", "torch": "2.11"},
            "recordings": {"a": 400, "b": 120},
        },
        {"step": 1000, "seconds_per_step": 0.09, "losses": {}},
        warning | {"step": 1500},
        warning | {"step": 2500, "name": "hidden signal"},
    )
    header, text = parts(model_card(shared(), tmp_path))
    assert "| a | day | 400 | image |" in text and "| b | night | 120 | image |" in text
    assert "| device | cuda:0, 2 of them |" in text and "| python | 3.11.7 |" in text and "| mmcycle | 0.1.0 |" in text
    assert "| steps | 2000 of 200000 |" in text and "| time | about 3 min (0.09 s a step) |" in text
    assert "- In training, step 1500: no variety (domain b, diverse 0.123)." in text and "hidden signal" not in text


def test_a_card_tells_if_networks_trained_themselves(tmp_path: Path) -> None:
    about = {"runs": [{"run": "x", "model_sha256": AB}], "seeds": [0], "steps": 600}
    for told in (True, False):
        gain(tmp_path, about=about | {"self_train": told})
        assert ("trained itself on the target's recordings" in model_card(shared(), tmp_path)) == told


def test_a_card_names_no_folder_of_whoever_measured(tmp_path: Path) -> None:
    evaluation(tmp_path)
    card = model_card(shared(), tmp_path)
    assert "/home/ann" not in card and str(tmp_path) not in card and "day/7.png is broken" in card


def test_one_way_between_sensors_of_ones_own_has_no_pipeline_and_speaks_of_labels(tmp_path: Path) -> None:
    made = config({"channels": 2, "height": 16, "width": 64})
    header, text = parts(model_card(shared(made, sha256={"ab": AB}), tmp_path))
    assert "pipeline_tag" not in header and "grid" in header["tags"]
    assert ", and back" not in text and "Across sensors only class labels stay true" in text
    assert "--with grid=tiny" in text and "recording.grid" in text


HOSTILE = "<script>|`x`\n# y ![z](http://e) --- a: [b"


def test_words_of_a_stranger_have_no_power_over_the_card(tmp_path: Path) -> None:
    evaluation(
        tmp_path,
        **{f"realism: {HOSTILE}": {"value": 1.0, HOSTILE: 2.0}},
        checks=[{"name": HOSTILE, "level": "bad", "told": HOSTILE}],
    )
    log(
        tmp_path,
        {"event": "start", "step": 0, "device": HOSTILE, "versions": {HOSTILE: HOSTILE}, "recordings": {"a": HOSTILE}},
    )
    header, text = parts(model_card(shared(), tmp_path))
    assert header["model-index"][0]["results"][0]["metrics"][-1]["value"] == 1.0
    assert "<script" not in text and "\n# y" not in text and "![z]" not in text
    rows = [line for line in text.splitlines() if line.startswith("| realism: ")]
    assert all(line.replace("\\|", "").count("|") == 5 for line in rows) and len(rows) == 2


@pytest.mark.parametrize(
    "value",
    [
        [],
        3,
        None,
        {"about": 3, "checks": {}, "notes": 4},
        {
            "about": {"model_sha256": AB, "runs": 3},
            "arms": 7,
            "checks": [3, {"level": []}],
            "notes": [3],
            "gain": [],
            "realism: x": [],
            "realism: y": {"value": "1"},
        },
    ],
)
def test_an_evaluation_of_another_shape_costs_only_itself(tmp_path: Path, value: object) -> None:
    put(tmp_path / "evaluation/ab.json", value)
    put(tmp_path / "evaluation/downstream_ab.json", value)
    log(
        tmp_path,
        {"event": ["x"], "step": 1},
        {"event": "start", "step": 0, "versions": 3, "recordings": []},
        {"step": 2, "losses": 1},
    )
    header, _ = parts(model_card(shared(versions=[1]), tmp_path))
    assert "model-index" not in header


def test_the_hub_reads_the_card(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    evaluation(tmp_path)
    gain(tmp_path)
    card = hub.ModelCard(model_card(shared(license="apache-2.0"), tmp_path))
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == (
        "apache-2.0",
        "mmcycle",
        "image-to-image",
    )
    assert card.data.model_name == "tiny" and len(card.data.eval_results) == 5
    first = card.data.eval_results[0]
    assert (first.metric_type, first.metric_value, first.dataset_name) == (
        "realism_kernel_distance",
        0.25,
        "day to night",
    )


def test_the_config_on_the_card_is_the_whole_config(tmp_path: Path) -> None:
    text = parts(model_card(shared(), tmp_path))[1]
    assert yaml.safe_load(text.split("```yaml\n")[1].split("```")[0]) == to_dict(from_dict(IMAGES))
