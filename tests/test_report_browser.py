"""The report in a browser: nothing to complain of, sliders slide, players play, and it reads well on a phone."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Tab, browser
from PIL import Image
from report_page import write_rows
from test_report import CONFIG, log_row, picture
from test_report_evaluation import CHECK, SCORE, downstream

from mmcycle.report import write_report

WIDE, PHONE = (1200, 900), (390, 844)
LONG = "/a/long/path/without/any/space/" + "x" * 60


@pytest.fixture(scope="module")
def tab(tmp_path_factory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("chromium")) as one:
        yield one


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with everything that a page shows of one."""
    warning = {
        "event": "warning",
        "step": 300,
        "name": "no variety",
        "domain": "b",
        "measure": "diverse",
        "value": 0.1,
        "advice": "Raise loss.cycle",
    }
    rows = [log_row(step, health={"judged_b": 0.9}) for step in range(100, 900, 100)]
    write_rows(tmp_path / "log.jsonl", [{"event": "start", "device": LONG}, *rows, warning])
    (tmp_path / "config.yaml").write_text(CONFIG)
    for step in (100, 200, 300):
        picture(tmp_path / "samples" / f"step-{step:08d}.png", (300, 400), seed=step)
    (tmp_path / "evaluation").mkdir()
    names = (
        "realism: kernel distance",
        "realism: frechet distance",
        "mine: a measure whose name is rather long indeed",
    )
    found = dict.fromkeys(names, SCORE) | {"checks": [CHECK], "notes": ["a note"], "about": {"source": LONG}}
    for name, values in (("ab", found), ("ba", found), ("downstream_ab", downstream())):
        (tmp_path / "evaluation" / f"{name}.json").write_text(json.dumps(values))
    return tmp_path


def pairs(folder: Path, stream: str, names: list[str]) -> Path:
    """A data set in folder/out, of which the source is in folder/source; the recordings are the caller's to make."""
    rows = [
        {
            "key": name,
            "copy": 0,
            "streams": {stream: {"source": name, "output": name, "translated": True}},
            "labels": [],
            "tags": {},
            "model": {stream: {"sha256": "ab" * 32, "direction": "ab", "run": "night"}},
            "params": {"strength": 1.0, f"{stream}.safety": index / len(names)},
            "seed": 1,
            "versions": {"mmcycle": "0.1.0"},
        }
        for index, name in enumerate(names)
    ]
    write_rows(folder / "out" / "manifest.jsonl", rows)
    write_rows(folder / "out" / "left_out.jsonl", [{"key": LONG, "copy": 0, "safety": -0.1}])
    write_rows(folder / "out" / ".mmcycle" / "job.json", [{"source": str(folder / "source"), "runs": {}}])
    return folder / "out"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Red pictures that were made blue."""
    names = [f"{index}.png" for index in range(7)]
    for side, colour in (("source", (255, 0, 0)), ("out", (0, 0, 255))):
        (tmp_path / side).mkdir()
        for name in names:
            Image.new("RGB", (300, 200), colour).save(tmp_path / side / name)
    return pairs(tmp_path, "image", names)


def fits(tab: Tab) -> bool:
    """Whether nothing reaches beyond the window to the right."""
    return tab.tell("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_page_of_a_run_has_no_complaints_and_fits(tab, run, size):
    tab.open(write_report(run), *size)
    assert tab.complaints == [] and fits(tab)
    seen = "[...document.querySelectorAll('svg.line .dot')].map(one => one.getBoundingClientRect())"
    assert tab.tell(f"{seen}.every(one => one.width > 5 && one.left >= 0 && one.right <= innerWidth)")
    lines = "[...document.querySelectorAll('svg.line')].filter(one => one.querySelector('.dot'))"
    assert tab.tell(f"{lines}.length") == 6 + 4 and tab.tell(f"{lines}.every(one => one.clientWidth > 150)")


def test_a_page_of_pictures_slides_by_mouse_and_by_keys_and_lies_side_by_side(tab, pictures, tmp_path):
    tab.open(write_report(pictures), *PHONE)

    def place() -> tuple[float, float, float]:
        """Left edge, width and middle height of the first pair, in the middle of the window."""
        tab.tell("document.querySelector('.pair').scrollIntoView({block: 'center'})")
        box = json.loads(tab.tell("JSON.stringify(document.querySelector('.pair').getBoundingClientRect())"))
        return box["left"], box["width"], (box["top"] + box["bottom"]) / 2

    def colours() -> list[str]:
        left, width, middle = place()
        seen = np.asarray(Image.open(tab.picture(tmp_path / "seen.png", whole=False)).convert("RGB"))
        row = seen[int(middle) + 30, [int(left + share * width) for share in (0.1, 0.4, 0.6, 0.9)]]
        return [
            "red" if red > 200 and blue < 60 else "blue" if blue > 200 and red < 60 else "?"
            for red, _, blue in row.tolist()
        ]

    left, width, middle = place()
    assert colours() == ["red", "red", "blue", "blue"]
    tab.drag((left + width / 2, middle), (left + 0.8 * width, middle))
    assert colours() == ["red", "red", "red", "blue"]
    assert float(
        tab.tell("document.querySelector('.pair').style.getPropertyValue('--cut')").rstrip("%")
    ) == pytest.approx(80, abs=1)
    tab.ask("Input.dispatchKeyEvent", type="keyDown", key="Home", code="Home", windowsVirtualKeyCode=36)
    assert colours() == ["blue"] * 4
    tab.tell("[...document.querySelectorAll('button')].find(one => one.textContent === 'side by side').click()")
    assert tab.tell("document.querySelectorAll('.pair.slide').length") == 0
    assert colours() == ["red", "red", "blue", "blue"]
    assert fits(tab) and tab.complaints == []


def test_sounds_are_played_and_fit_on_a_phone(tab, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    for side in ("source", "out"):
        (tmp_path / side).mkdir()
        soundfile.write(tmp_path / side / "a.flac", 0.5 * np.cos(np.arange(8000) / 3), 8000)
    tab.open(write_report(pairs(tmp_path, "audio", ["a.flac"])), *PHONE)
    tab.until("[...document.querySelectorAll('audio')].every(one => one.duration > 0)")
    assert tab.tell("[...document.querySelectorAll('audio')].map(one => one.duration)") == pytest.approx(
        [1.0, 1.0], abs=0.05
    )
    tab.tell("document.querySelectorAll('audio')[0].play()")
    tab.until("document.querySelectorAll('audio')[0].currentTime > 0")
    tab.tell("document.querySelectorAll('audio')[1].play()")
    tab.until("document.querySelectorAll('audio')[0].paused")  # one at a time
    assert fits(tab) and tab.complaints == []


def test_a_page_of_pictures_reads_without_its_script_and_in_the_dark(tab, pictures):
    page = write_report(pictures)
    page.write_text(page.read_text(encoding="utf-8").replace("<script>", "<script>throw 0;"), encoding="utf-8")
    tab.open(page, *WIDE)
    tab.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert any("Content Security Policy" in told for told in tab.complaints)  # what is not ours does not run
    assert tab.tell("document.querySelectorAll('.pair.slide').length") == 0 and fits(tab)
    assert tab.tell("getComputedStyle(document.body).backgroundColor") == "rgb(15, 18, 22)"
