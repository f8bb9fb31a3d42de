"""The report shows the proof: verdicts, scores between known cases, arms on one axis, health; and nothing hostile."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import tiny_run
from report_page import Page, write_rows

from mmcycle.metrics import features
from mmcycle.metrics.evaluate import evaluate
from mmcycle.report import write_report
from mmcycle.report.gain import gains
from mmcycle.report.places import MARGIN, between, on_axis
from mmcycle.report.run import describe_run
from mmcycle.report.scores import examinations

CHECK = {
    "name": "realistic",
    "level": "bad",
    "told": "they do not",
    "advice": "train longer",
    "score": "realism: kernel distance",
}
SCORE = {"value": 0.3, "low": 0.2, "high": 0.4, "floor": 0.0, "untranslated": 0.5, "error": 0.1}


def write(run: Path, name: str, values: Any) -> Path:
    """run/evaluation/NAME, of a run that has nothing else."""
    (run / "evaluation").mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text("name: x\na: {name: day}\nb: {name: night}\n")
    (run / "evaluation" / name).write_text(values if isinstance(values, str) else json.dumps(values))
    return run


def text_of(run: Path) -> str:
    return " ".join(Page(write_report(run)).text.split())


# Places on a line


def test_the_worst_case_is_on_the_left_and_the_best_on_the_right_whichever_is_larger():
    for worst, best in ((0.5, 0.0), (0.0, 0.5)):
        place = between(0.25, (0.125, 0.375), ("untranslated", worst), ("real", best))
        assert [mark.at for mark in place.marks] == [MARGIN, 100 - MARGIN]
        assert place.dot == 50 and place.span == (26.5, 73.5)  # a quarter and three quarters of 3 to 97
        assert [mark.told for mark in place.marks] == [f"untranslated {worst:g}", f"real {best:g}"]


def test_a_value_beyond_its_cases_makes_the_line_longer_up_to_half_as_long_again():
    place = between(-1.0, (math.nan, math.nan), ("worst", 0.0), ("best", 1.0), {"also": 0.5})
    worst, best, also = (mark.at for mark in place.marks)
    assert place.dot == MARGIN and best == 97 and place.span is None
    assert worst == pytest.approx(MARGIN + 94 / 3, abs=0.01) and also == pytest.approx(MARGIN + 94 * 2 / 3, abs=0.01)


@pytest.mark.parametrize("value, worst, best", [(math.nan, 0, 1), (1, math.nan, 1), (1, 2, 2)])
def test_without_two_ends_and_a_value_there_is_no_line(value, worst, best):
    assert between(value, (0, 1), ("worst", worst), ("best", best)) is None


def test_an_interval_that_leaves_the_axis_ends_with_it():
    place, guides = on_axis(90, 400, (0, 100), [80, math.nan], {"source": 0})
    assert place.span == (3, 97) and place.dot == 87.6 and [mark.told for mark in place.marks] == ["80"]
    assert guides[0].at == 3 and guides[0].told == "source"


# mmcycle evaluate


def test_what_evaluate_found_of_a_run_is_shown_with_every_score_verdict_and_known_case(tmp_path, monkeypatch):
    learn = features.learn
    monkeypatch.setattr(features, "learn", lambda pools, seed: learn(pools, seed, steps=3))
    run = tiny_run.trained(tmp_path, "run", "train.steps=2")
    found = evaluate(run, samples=6)
    (shown,) = examinations(run, notes := [])
    assert notes == [] and len(shown.scores) == len(found.scores) and len(shown.verdicts) == len(found.checks)
    placed = {f"{one.topic}: {one.name}" for one in shown.scores if one.place}
    assert {"realism: kernel distance", "faithfulness: source found", "collapse: contrast", "cycle: l1"} <= placed
    page = text_of(run)
    for check in found.checks:
        assert check.level in page and check.told in page and check.advice in page
    for told in (
        "real from real",
        "untranslated",
        "shuffled",
        "only 4 samples",
        found.about["model_sha256"],
        "day → night",
    ):
        assert told in page, told
    good = sum(check.level == "good" for check in found.checks)
    assert f"evaluated, day → night {good} of {len(found.checks)}" in page


def test_both_directions_are_shown_with_their_verdicts_counted(tmp_path):
    write(tmp_path, "ab.json", {"realism: kernel distance": SCORE, "checks": [CHECK, CHECK | {"level": "good"}]})
    write(tmp_path, "ba.json", {"realism: kernel distance": SCORE, "checks": [CHECK | {"level": "weak"}]})
    page = text_of(tmp_path)
    assert "evaluated, day → night 1 of 2 good; 0 weak, 1 bad" in page
    assert "evaluated, night → day 0 of 1 good; 1 weak, 0 bad" in page
    (shown,) = examinations(tmp_path, [])[0].scores
    assert (shown.value, shown.interval, shown.beside) == ("0.3", "0.2 … 0.4", "real from real 0, untranslated 0.5")
    assert shown.place.dot == pytest.approx(3 + 0.4 * 94)  # 0.3 lies two fifths of the way from 0.5 to 0


def test_a_run_that_was_not_evaluated_says_what_to_do(tmp_path):
    (tmp_path / "config.yaml").write_text("name: x\n")
    assert "Not evaluated yet. mmcycle evaluate RUN" in text_of(tmp_path)


def test_a_measure_that_is_not_known_lies_between_its_outermost_cases_or_has_no_line(tmp_path):
    scores = {
        "mine: a": {"value": 2, "low case": 1, "high case": 3},
        "mine: b": {"value": 2},
        "c": {"value": 2, "chance": 1},
    }
    write(tmp_path, "ab.json", scores)
    one, two, three = examinations(tmp_path, [])[0].scores
    assert one.place.dot == 50 and two.place is None and three.place is None and three.topic == ""
    assert "chance 1" in text_of(tmp_path)


@pytest.mark.parametrize("name", ["ab.json", "ba.json", "downstream_ab.json"])
@pytest.mark.parametrize(
    "content",
    ["{", "[1]", "[" * 100_000, '{"x": "' + "y" * (1 << 20) + '"}', "", '"x"'],
    ids=["torn", "list", "deep", "large", "empty", "word"],
)
def test_a_broken_file_is_named_and_the_page_is_made(tmp_path, name, content):
    assert f"evaluation/{name} is" in text_of(write(tmp_path, name, content))


def test_a_file_behind_a_link_is_not_followed(tmp_path):
    write(tmp_path / "other", "ab.json", {"secret: x": {"value": 1}})
    run = write(tmp_path / "run", "ba.json", {"realism: y": {"value": 1}})
    (run / "evaluation" / "ab.json").symlink_to(tmp_path / "other" / "evaluation" / "ab.json")
    page = text_of(run)
    assert "secret" not in page and "symbolic link" in page


STRANGE = [
    None,
    True,
    10**400,
    math.nan,
    math.inf,
    -1e308,
    "x",
    [],
    [[]],
    {},
    {"mean": "x"},
    {"mean": 1e308},
    [1, [2]],
    {"a": {"b": 1}},
]


@pytest.mark.parametrize("strange", STRANGE, ids=lambda value: repr(value)[:12])
def test_values_of_any_shape_do_not_stop_the_page(tmp_path, strange):
    checks = [strange, {"name": strange, "told": strange, "level": strange, "advice": strange, "score": strange}, CHECK]
    found = {
        "realism: kernel distance": strange,
        "cycle: l1": {"value": 1, "low": strange, "high": strange, "shuffled": strange},
        "x": {"value": strange},
        "checks": checks,
        "notes": [strange],
        "about": {"samples": strange},
    }
    (
        write(tmp_path, "ab.json", found),
        write(tmp_path, "ba.json", {"checks": strange, "notes": strange, "about": strange}),
    )
    score = {"mean": strange, "half_width": strange, "scores": [strange, 1]}
    arms = [
        strange,
        {"name": strange, "accuracy": score, "translators": strange},
        {"accuracy": {"mean": 1, "half_width": strange}},
        {"name": "x", "miou": {"mean": 5, "scores": strange}, "recall": {"a": strange, "b": 1}, "iou": strange},
    ]
    gain = dict.fromkeys(("difference", "p", "gap_closed", "low", "arm", "seeds"), strange)
    about = {"sets": {"a": strange}, "runs": [strange], "seeds": strange, "headline": strange, "steps": strange}
    down = {"arms": arms, "gain": gain, "checks": checks, "notes": strange, "about": about}
    write(tmp_path, "downstream_ab.json", down)
    write(tmp_path, "downstream_ba.json", dict.fromkeys(down, strange))
    write_rows(
        tmp_path / "log.jsonl",
        [
            {"step": 1, "health": strange},
            {"step": 2, "health": {"judged_a": strange}},
            {"event": "warning", "name": strange, "domain": strange, "value": strange, "step": strange},
        ],
    )
    page = Page(write_report(tmp_path))
    assert all(
        "nan" not in str(tag).lower().replace("nance", "") for name, tag in page.tags if name in ("circle", "line")
    )


def test_hostile_text_is_escaped(tmp_path):
    evil = '</td><script>alert(1)</script>" onload="x\ud800'
    check = {key: evil for key in CHECK}
    score = {"value": 1, "low": 0, "high": 2, evil: 0, "floor": 3}
    write(
        tmp_path,
        "ab.json",
        {evil: score, f"{evil}: {evil}": score, "checks": [check], "notes": [evil], "about": {"source": evil}},
    )
    arm = {"name": evil, evil: {"mean": 1, "half_width": 1, "scores": [1]}, "recall": {evil: 1}}
    write(
        tmp_path,
        "downstream_ab.json",
        {
            "arms": [arm, arm | {"name": "b"}],
            "gain": {"difference": 1, "arm": evil, "against": evil},
            "checks": [check],
            "notes": [evil],
            "about": {"task": evil, "headline": evil, "sets": {evil: {"root": evil}}, "runs": [{"run": evil}]},
        },
    )
    write_rows(tmp_path / "log.jsonl", [{"event": "warning", "name": evil, "advice": evil, "measure": evil, "step": 1}])
    page = Page(write_report(tmp_path))
    assert not page.all("script") and not any("onload" in attributes for _, attributes in page.tags)
    assert page.text.count("alert(1)") > 10


# mmcycle evaluate --downstream


def arm(name: str, mean: float, half: float | None = 2.0, scale: float = 1.0, **more: Any) -> dict[str, Any]:
    scores = [(mean - 1) * scale, (mean + 1) * scale]
    return {
        "name": name,
        "accuracy": {"mean": mean * scale, "half_width": half and half * scale, "scores": scores},
    } | more


def downstream(scale: float = 1.0) -> dict[str, Any]:
    arms = [
        arm("source", 20, scale=scale, recall={"red": 10.0, "off": 30.0}),
        arm("classic", 40, None, scale),
        arm("ours", 70, scale=scale, translators=[{"mean": 68.0, "scores": [67.0, 69.0]}, {"mean": 72.0, "scores": [72.0]}]),
        arm("oracle", 90, scale=scale, recall={"red": 95.0, "off": 85.0}),
    ]
    gain = {
        "arm": "ours",
        "against": "classic",
        "measure": "accuracy",
        "difference": 30.0,
        "low": 25.4,
        "high": 34.2,
        "p": 0.0625,
        "seeds": 5,
        "gap_closed": 0.714,
        "gap_low": 0.6,
        "gap_high": 0.8,
    }
    about = {
        "headline": "ours",
        "steps": 600,
        "seeds": [0, 1],
        "sets": {"test": {"root": "lights/test", "count": 180}},
        "runs": [{"run": "runs/one", "model_sha256": "ab" * 32}],
    }
    return {
        "about": about,
        "arms": arms,
        "gain": gain,
        "checks": [CHECK | {"name": "gain", "told": "it helps"}],
        "notes": ["a note"],
    }


def test_arms_stand_on_one_axis_with_the_headline_marked_and_the_gain_in_large_type(tmp_path):
    run = write(tmp_path, "downstream_ab.json", downstream())
    (found,) = gains(run, [])
    (chart,) = found.charts
    assert [one.name for one in chart.arms] == ["source", "classic", "ours", "oracle"]
    assert [one.headline for one in chart.arms] == [False, False, True, False]
    dots = [one.place.dot for one in chart.arms]
    low, high = min(18, 20), max(92, 80)  # the interval of source to that of oracle
    assert dots == [pytest.approx(3 + 94 * (mean - low) / (high - low), abs=0.01) for mean in (20, 40, 70, 90)]
    assert [mark.told for mark in chart.guides] == ["source", "oracle"] and chart.guides[0].at == dots[0]
    assert [mark.told for mark in chart.ticks] == ["20 %", "40 %", "60 %", "80 %"]
    assert chart.arms[1].half == "" and chart.arms[1].place.span is None
    page = text_of(run)
    for told in (
        "70.0 ± 2.0",
        "translators 68.0, 72.0",
        "+30.0",
        "95 %: 25 … 34; ours against classic",
        "71 %",
        "0.0625",
        "it helps",
        "a note",
        "lights/test (180)",
        "runs/one abababababab",
        "dashed: source and oracle",
        "class source oracle red 10.0 95.0 off 30.0 85.0",
    ):
        assert told in page, told
    assert "Not evaluated yet" not in page


def test_shares_are_told_in_per_cent_too(tmp_path):
    run = write(tmp_path, "downstream_ab.json", downstream(0.01))
    (chart,) = gains(run, [])[0].charts
    assert [(one.value, one.half) for one in chart.arms] == [
        ("20.0", "2.0"),
        ("40.0", ""),
        ("70.0", "2.0"),
        ("90.0", "2.0"),
    ]


def test_arms_that_are_alike_do_not_look_different(tmp_path):
    values = {"arms": [arm("source", 97.0, 0.1), arm("ours", 97.2, 0.1)]}
    (chart,) = gains(write(tmp_path, "downstream_ab.json", values), [])[0].charts
    assert chart.arms[1].place.dot - chart.arms[0].place.dot < 3


# Health


def test_warnings_stand_with_their_advice_and_the_measures_are_drawn(tmp_path):
    run = write(tmp_path, "ab.json", {"checks": []})
    warning = {
        "event": "warning",
        "step": 3000,
        "name": "no variety",
        "domain": "b",
        "measure": "diverse",
        "value": 0.123,
        "advice": "Raise loss.cycle",
    }
    looks = [{"step": step, "health": {"diverse_b": 0.1, "judged_a": step / 10}} for step in (1, 2, 3)]
    write_rows(run / "log.jsonl", [*looks, {"step": 4}, warning])
    told = describe_run(run)
    assert [one.title for one in told["health"]] == ["judged", "diverse"]
    page = text_of(run)
    assert "warning no variety · night, at step 3 000, diverse 0.123 Raise loss.cycle." in page
    assert "below 0.15 they look alike" in page
