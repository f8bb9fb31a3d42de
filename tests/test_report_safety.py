"""Label safety in the report of a data set: who is shown first, how all scores are spread, what was left out."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from report_page import Page, write_rows

from mmcycle.report import write_report
from mmcycle.report.safety import BINS, describe_safety, ends, score_of


def row(key: str, safety: object) -> dict[str, Any]:
    """One picture of a data set, and its score."""
    return {
        "key": key,
        "copy": 0,
        "streams": {"image": {"source": f"{key}.png", "output": f"{key}.png", "translated": True}},
        "labels": [],
        "tags": {},
        "model": {"image": {"sha256": "ab" * 32, "direction": "ab", "run": "night"}},
        "params": {"strength": 1.0, "image.safety": safety},
        "seed": 77,
        "versions": {"mmcycle": "9.8.7"},
    }


def data_set(folder: Path, scores: list[object], left_out: list[Any] = [], **job: Any) -> Path:
    rows = [row(f"{index:03}", score) for index, score in enumerate(scores)]
    for side in ("source", "out"):
        (folder / side).mkdir(parents=True)
        for one in rows:
            Image.new("RGB", (200, 100)).save(folder / side / f"{one['key']}.png")
    write_rows(folder / "out" / "manifest.jsonl", rows)
    write_rows(folder / "out" / "left_out.jsonl", left_out)
    write_rows(folder / "out" / ".mmcycle" / "job.json", [{"source": str(folder / "source"), "seed": 77} | job])
    return folder / "out"


def keys(page: Page) -> list[str]:
    return [str(one["alt"])[-3:] for one in page.all("img")[::2]]


def test_the_score_of_an_item_is_that_of_its_worst_stream():
    assert score_of({"params": {"a.safety": 0.9, "b.safety": 0.2, "b.snr_db": -3, "safety": 0.1}}) == 0.2
    assert str(score_of({"params": {"a.safety": "0.1"}})) == str(score_of({"params": 3})) == str(score_of({})) == "nan"


def test_the_worst_stand_first_the_worst_of_them_in_front_then_the_best_then_the_others():
    rows = [row(str(index), score) for index, score in enumerate([0.5, 0.1, 0.9, 0.3, None, 0.7])]
    low, high, rest = ends(rows)  # five scores: one of three at either end
    assert [[one["key"] for one in group] for group in (low, high, rest)] == [["1"], ["2"], ["0", "3", "4", "5"]]
    assert [len(group) for group in ends(rows[:2])] == [0, 0, 2]
    assert [len(group) for group in ends([row(str(index), index) for index in range(100)])] == [6, 6, 88]


def test_a_page_shows_the_least_safe_and_the_safest_each_once_and_where_they_come_from(tmp_path):
    page = Page(write_report(data_set(tmp_path, [index / 100 for index in range(60)])))
    shown = keys(page)
    assert shown[:6] == ["000", "001", "002", "003", "004", "005"] and shown[6:12] == [
        "059",
        "058",
        "057",
        "056",
        "055",
        "054",
    ]
    assert len(shown) == len(set(shown)) == 24
    text = " ".join(page.text.split())
    for told in (
        "the 6 that agree least",
        "The 6 that agree most",
        "12 of 60 translated recordings, evenly chosen",
        "safety 0.01",
        "agreement of the edges of source and translation",
        "60 items have a score",
        "seed 77",
        "9.8.7",
        "ab" * 32,
    ):
        assert told in text, told
    assert "were left out" not in text and "Left out" not in text


def test_what_was_left_out_is_counted_drawn_and_listed_the_worst_first(tmp_path):
    gone = [{"key": f"gone{index}", "copy": index % 2, "safety": 0.3 - index / 100} for index in range(14)]
    page = Page(
        write_report(data_set(tmp_path, [0.5, 0.6, 0.7], gone, keep_best=0.2, judges={"image": "my_lab.nets:judge"}))
    )
    text = " ".join(page.text.split())
    assert "the one that agrees least with its source." in text and "The one that agrees most." in text
    assert "done 3 of 17 left out 14 the least safe" in text and "keep_best 0.2" in text
    assert "agreement of my_lab.nets:judge, before and after" in text and "the lowest is 0.5" in text
    assert "record safety gone13 copy 1 0.17 gone12 0.18" in text and "gone2 " in text and "gone1 " not in text


def test_the_histogram_counts_every_item_once_left_out_below_kept():
    found = describe_safety(
        [row("a", 0.0), row("b", 1.0), row("c", 1.0)], [{"key": "d", "safety": 0.0}, {"key": "e"}], {}
    )
    first, last = found.bars
    assert (first.at, first.kept, first.left_out) == (0, 50, 50) and (last.kept, last.left_out) == (100, 0)
    assert (
        last.at == pytest.approx(100 * (BINS - 1) / BINS, abs=0.01) and first.told == "0 to 0.0312: 1 kept, 1 left out"
    )
    assert [(mark.at, mark.told) for mark in found.ticks] == [
        (0, "0"),
        (20, "0.2"),
        (40, "0.4"),
        (60, "0.6"),
        (80, "0.8"),
        (100, "1"),
    ]


@pytest.mark.parametrize("scores", [[1.0], [0.0, 0.0], [-0.5], [1e30, 1.0]])
def test_scores_that_are_alike_or_absurd_have_a_histogram_too(scores):
    found = describe_safety([row(str(index), score) for index, score in enumerate(scores)], [], {})
    assert all(0 <= bar.at < 100 and 0 <= bar.kept <= 100 for bar in found.bars) and found.left_out == ""


def test_without_a_score_nothing_is_said_of_safety(tmp_path):
    text = Page(write_report(data_set(tmp_path, [None, "0.1", float("nan")], [{"key": 1}, {"safety": []}]))).text
    assert "How safe" not in text and "3 of 3 translated recordings" in text


def test_hostile_lists_are_escaped_or_passed_over(tmp_path):
    evil = "</td><script>alert(1)</script>\ud800"
    out = data_set(
        tmp_path, [0.1, 0.2], [{"key": evil, "copy": evil, "safety": 0.1}, {"safety": 10**400}], judges={evil: evil}
    )
    with (out / "left_out.jsonl").open("a") as file:
        file.write("no json\n[1]\n")
    page = Page(write_report(out))
    assert page.all("script") == [{}] and "alert(1)" in page.text
    assert "left_out.jsonl: 2 line(s) are not JSON objects" in page.text


def test_pictures_of_two_shapes_do_not_slide_and_tiny_ones_lie_side_by_side(tmp_path):
    out = data_set(tmp_path / "a", [0.1, 0.2])
    Image.new("RGB", (100, 200)).save(out / "000.png")
    page = Page(write_report(out))
    assert [("data-slide" in one) for one in page.all("div") if one.get("class") == "pair"] == [False, True]
    assert [one["data-ways"] for one in page.all("div") if "data-ways" in one] == ["slide"]
    out = data_set(tmp_path / "b", [0.1])
    for side in ("source", "out"):
        Image.new("RGB", (32, 32)).save(tmp_path / "b" / side / "000.png")
    assert [one["data-ways"] for one in Page(write_report(out)).all("div") if "data-ways" in one] == ["side by side"]
