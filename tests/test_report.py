"""The report page: what it shows of a run and of a data set, and that nothing broken or hostile gets through it."""
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_page import Page, write_rows

from mmcycle.errors import UserError
from mmcycle.report import write_report
from mmcycle.report.album import Album
from mmcycle.report.pictures import read_boxes
from mmcycle.report.rows import read_rows
from mmcycle.report.run import describe_run

CONFIG = """name: day_to_night
a: {name: day, root: data/day, modality: image}
b: {name: night, root: data/night, modality: image}
train: {steps: 2000}
"""


def log_row(step: int, **more) -> dict:
    losses = {"adv_b": 0.5, "adv_a": 0.3, "cycle_a": 1.5, "cycle_b": 1.25}
    return {
        "step": step, "time": step / 10, "lr": 2e-4, "seconds_per_step": 0.1, "bad_steps": 0, "losses": losses,
        "scores": {"real_a": 0.8, "fake_a": 0.3},
    } | more


def picture(path: Path, size=(24, 16), mode="RGB", seed=0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    start = {"event": "start", "step": 0, "device": "cpu", "versions": {"torch": "2.14.1"}}
    write_rows(folder / "log.jsonl", [start, *(log_row(step) for step in range(100, 1100, 100))])
    (folder / "config.yaml").write_text(CONFIG)
    for step in range(100, 1100, 100):
        picture(folder / "samples" / f"step-{step:08d}.png", (90, 120), seed=step)
    return folder


@pytest.fixture
def out(tmp_path):
    """30 records with YOLO labels, of which one was quarantined."""
    folder, source = tmp_path / "out", tmp_path / "source"
    rows = []
    for index in range(29):
        name, label = f"images/{index:03d}.png", f"labels/{index:03d}.txt"
        picture(source / name, (150, 100), seed=index)
        picture(folder / name, (150, 100), seed=100 + index)
        (folder / label).parent.mkdir(exist_ok=True)
        (folder / label).write_text("0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.1 0.1\n")
        rows.append({
            "key": name[:-4], "copy": 0, "streams": {"image": {"source": name, "output": name, "translated": True}},
            "labels": [{"source": label, "output": label, "how": "copied"}], "tags": {"split": "train"},
            "model": {"image": {"sha256": "ab" * 32, "direction": "ab", "run": "night"}},
            "params": {"strength": 1.0}, "seed": 1, "versions": {"mmcycle": "0.1.0"},
        })
    write_rows(folder / "manifest.jsonl", rows)
    bad = {"key": "images/bad", "copy": 0, "stream": "image", "path": "images/bad.png", "reason": "truncated"}
    write_rows(folder / "quarantine.jsonl", [bad])
    job = {"source": str(source), "layout": "yolo", "seed": 7, "strength": [1.0, 1.0],
           "runs": {"image": "runs/night"}}
    write_rows(folder / ".mmcycle" / "job.json", [job])
    return folder


# A run

def test_a_run_shows_its_names_progress_device_and_numbers(run):
    path = write_report(run)
    page = Page(path)
    assert path == run / "report.html"
    for expected in ("day_to_night", "day → night", "1\u202f000", "of 2\u202f000", "2 min", "2.14.1", "cpu",
                     "10 steps/s", "adv_a", "cycle_b", "real minus fake is now 0.5", "steps: 2000"):
        assert expected in page.text, expected
    assert len(page.all("svg")) == 2 + 1 + 2                    # adv and cycle, disc_a, learning rate and speed


def test_the_newest_sample_is_first_and_at_most_six_steps_are_shown(run):
    page = Page(write_report(run))
    shown = [re.sub(r"\D", "", image["alt"]) for image in page.all("img")]
    assert shown[::2] == shown[1::2] == ["1000", "100", "300", "500", "600", "800"]     # two directions each
    assert (page.all("img")[0]["width"], page.all("img")[0]["height"]) == ("90", "60")


def test_a_one_way_run_keeps_its_sheet_in_one_piece(run):
    (run / "config.yaml").write_text(CONFIG + "loss: {consistency: nce}\n")
    page = Page(write_report(run))
    assert len(page.all("img")) == 6 and page.all("img")[0]["height"] == "120" and "translated back" not in page.text
    assert "a recording, its translation, and a true recording of night" in page.text


def test_measured_numbers_are_shown_with_their_intervals(run):
    measured = {"kid": {"mean": 0.03, "low": 0.02, "high": 0.04}, "structure": 0.9, "no number": "x"}
    (run / "metrics.json").write_text(json.dumps(measured))
    text = " ".join(Page(write_report(run)).text.split())
    assert "kid 0.03 0.02 … 0.04 structure 0.9 –" in text and "no number" not in text


def test_a_run_without_a_row_still_has_a_page(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    text = Page(write_report(tmp_path)).text
    assert "No step has been logged yet." in text and "No samples yet." in text


def test_the_same_run_gives_the_same_bytes(run):
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_rows_logged_twice_around_a_resume_count_once_and_time_adds_up(run):
    before = [log_row(100), log_row(200, losses={"adv_a": 99.0})]
    after = [log_row(200, time=50.0), log_row(300, time=60.0)]
    write_rows(run / "log.jsonl", [*before, {"event": "resume", "step": 100}, *after])
    text = Page(write_report(run)).text
    assert "99" not in text
    assert "1 min" in text                                      # 20 s before, 60 s after
    assert "Dashed: the run was resumed." in text


def test_a_torn_last_line_is_passed_over_and_broken_ones_are_counted(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\nnot json\n[1]\n' + b"[" * 100_000 + b'\n\xff\n{"step": 2}\n{"step": 3, "lo')
    rows, notes = read_rows(path)
    assert [row["step"] for row in rows] == [1, 2]
    assert notes == ["log.jsonl: 4 line(s) are not JSON objects and were passed over (line 2, 3, 4, 5)."]


def test_odd_values_in_the_log_are_gaps(run):
    odd = [math.nan, math.inf, None, "0.5", True, 10**400, [1], {"a": 1}]
    rows = [log_row(200 + i, losses={"adv_a": value, "new_term": 1}, lr=value) for i, value in enumerate(odd)]
    rows += [{"step": "7"}, {"step": math.nan}, {"losses": {"adv_a": 1}}, log_row(900, losses=[], scores=3)]
    write_rows(run / "log.jsonl", rows)
    page = Page(write_report(run))
    assert "new_term" in page.text and "nan" not in page.text.lower() and "inf" not in page.text.replace("infer", "")
    assert all("nan" not in (path["d"] or "") for path in page.all("path"))


def test_absurdly_large_numbers_do_not_stop_the_page(run):
    (run / "config.yaml").write_text(CONFIG.replace("2000", "1e38"))
    rows = [log_row(1, losses={"adv_a": -3e38}), log_row(10**30, losses={"adv_a": 3e38}, time=1e38)]
    write_rows(run / "log.jsonl", rows)
    assert "3e+29G" in Page(write_report(run)).text.replace("\u202f", "")


def test_recordings_that_training_passed_over_are_named(run):
    with (run / "log.jsonl").open("a") as file:
        for index in range(7):
            event = {"event": "bad recording", "step": 5, "path": f"bad{index}.png", "why": "truncated"}
            file.write(json.dumps(event) + "\n")
    text = Page(write_report(run)).text
    assert "bad4.png was passed over: truncated" in text and "2 more recordings" in text and "bad5.png" not in text


def test_a_broken_config_is_said_and_shown(run):
    (run / "config.yaml").write_text("name: [unclosed\n<script>")
    page = Page(write_report(run))
    assert "config.yaml" in page.text and "<script>" in page.text and not page.all("script")


# A data set

def test_a_data_set_shows_counts_pairs_labels_quarantine_and_origin(out):
    page = Page(write_report(out))
    assert len(page.all("img")) == 48                           # 24 records, source and translation
    assert "built-in" not in page.text
    for expected in ("of 30", "images/000.png", "images/028.png", "2 boxes", "labels/000.txt", "images/bad.png",
                     "truncated", "night", "ab" * 32, "yolo", ".txt", "copied", "mmcycle"):
        assert expected in page.text, expected


def test_without_its_source_a_data_set_shows_translations_alone(out):
    (out / ".mmcycle" / "job.json").write_text('{"source": "gone"}')
    page = Page(write_report(out))
    assert len(page.all("img")) == 24 and "The source data set was not found" in page.text


def test_a_table_that_stands_in_every_row_is_one_label_file(out):
    rows, _ = read_rows(out / "manifest.jsonl")
    for row in rows:
        row["labels"] = [{"source": "boxes.json", "output": "boxes.json", "how": "remapped"}]
    write_rows(out / "manifest.jsonl", rows)
    text = " ".join(Page(write_report(out)).text.split())
    assert "label files 1 kept" in text and ".json remapped 1" in text


def test_a_recording_that_is_no_picture_is_drawn_as_its_sensor_renders_it(out, tmp_path, monkeypatch):
    pytest.importorskip("mmcycle.modalities.image")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "night").mkdir(parents=True)
    (tmp_path / "runs" / "night" / "config.yaml").write_text(CONFIG)
    rows, _ = read_rows(out / "manifest.jsonl")
    rows = rows[:1]
    rows[0]["streams"]["image"] |= {"source": "x.npy", "output": "x.npy"}
    write_rows(out / "manifest.jsonl", rows)
    for folder in (out, tmp_path / "source"):
        np.save(folder / "x.npy", np.zeros((40, 60, 3), dtype=np.uint8))
    page = Page(write_report(out))
    assert len(page.all("img")) == 2, page.text[:3000]


def test_a_manifest_cannot_choose_what_code_is_imported(out, tmp_path, monkeypatch):
    (tmp_path / "evil_sensor.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "night").mkdir(parents=True)
    config = CONFIG.replace("modality: image", "modality: 'evil_sensor:Sensor'")
    (tmp_path / "runs" / "night" / "config.yaml").write_text(config)
    assert write_report(out).is_file()


# Whatever is read

def test_the_page_asks_nothing_of_the_network_and_no_script_but_ours(run, out):
    for folder, scripts in ((run, 0), (out, 1)):                # of sliders
        page, text = Page(write_report(folder)), (folder / "report.html").read_text()
        assert page.all("script") == [{}] * scripts and not page.all("iframe") and not page.all("object")
        addresses = [tag.get("src") or tag.get("href") for _, tag in page.tags if tag.get("src") or tag.get("href")]
        assert addresses and all(address.startswith("data:") for address in addresses)
        assert "http://" not in text and "https://" not in text and "@import" not in text
        assert "default-src 'none'" in text


def test_hostile_text_is_escaped_everywhere(run, out):
    evil = "</pre><script>alert(1)</script>\" onload=\"x\ud800"
    write_rows(run / "log.jsonl", [
        {"event": "start", "device": evil, "versions": {evil: evil}},
        log_row(1, losses={evil: 1.0}), log_row(2, losses={evil: 2.0}),
    ])
    (run / "metrics.json").write_text(json.dumps({evil: 1}))
    rows, _ = read_rows(out / "manifest.jsonl")
    rows[0] |= {"key": evil, "copy": evil, "tags": {evil: evil}, "model": {evil: {"run": evil, "sha256": evil}}}
    write_rows(out / "manifest.jsonl", rows)
    write_rows(out / "quarantine.jsonl", [{"key": evil, "path": evil, "reason": evil}])
    for folder, scripts in ((run, 0), (out, 1)):
        page = Page(write_report(folder))
        assert page.all("script") == [{}] * scripts and not any("onload" in attributes for _, attributes in page.tags)
        assert "alert(1)" in page.text


def test_rows_of_the_wrong_shape_do_not_stop_the_page(out):
    rows = [{}, {"key": 1, "streams": 3, "labels": "x", "model": [], "tags": None, "params": 1},
            {"streams": {"image": {"translated": True, "output": 5}}},
            {"labels": [1, None, {}], "streams": {"image": None}, "model": {"image": 3}, "versions": []}]
    write_rows(out / "manifest.jsonl", rows)
    write_rows(out / "quarantine.jsonl", [{}, {"key": [], "reason": {}}])
    (out / ".mmcycle" / "job.json").write_text('{"source": 5, "command": ["a", 1], "strength": {}}')
    assert "manifest" in Page(write_report(out)).text


def test_paths_that_leave_the_folder_are_not_followed(out, tmp_path):
    picture(tmp_path / "secret.png")
    (out / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    rows, _ = read_rows(out / "manifest.jsonl")
    for row, path in zip(rows, ("../secret.png", str(tmp_path / "secret.png"), "images/link.png")):
        row["streams"]["image"] |= {"output": path, "source": path}
        row["labels"] = [{"output": "../secret.txt"}]
    write_rows(out / "manifest.jsonl", rows[:3])
    page = Page(write_report(out))
    assert page.all("img") == [] and "link.png" in page.text and "secret.png" in page.text


def test_samples_behind_a_link_are_not_followed(run, tmp_path):
    (run / "samples").rename(tmp_path / "elsewhere")
    (run / "samples").symlink_to(tmp_path / "elsewhere")
    page = Page(write_report(run))
    assert page.all("img") == [] and "symbolic link" in page.text


def test_unreadable_pictures_are_named_and_the_others_shown(out):
    (out / "images" / "000.png").write_bytes(b"no picture")
    whole = (out / "images" / "028.png").read_bytes()
    (out / "images" / "028.png").write_bytes(whole[: len(whole) // 2])
    page = Page(write_report(out))
    assert len(page.all("img")) == 46
    assert "images/000.png: cannot be shown, it is no picture of a known format." in page.text
    assert "images/028.png: cannot be shown: " in page.text


def test_a_picture_with_absurdly_many_pixels_is_not_decoded(tmp_path):
    Image.new("1", (8100, 8100)).save(tmp_path / "bomb.png")
    album = Album()
    assert album.show(tmp_path, "bomb.png", 100) == ()
    assert album.notes == ["bomb.png: cannot be shown: 8100 x 8100 pixels are too many for a page."]


def test_a_page_stays_below_its_size_whatever_it_shows(tmp_path):
    picture(tmp_path / "noise.png", (512, 512))
    album = Album(left=1)
    assert len(album.show(tmp_path, "noise.png", 512)) == 1 and not album.full
    assert album.show(tmp_path, "noise.png", 512) == () and album.full


def test_a_full_page_shows_fewer_pairs_spread_over_the_data_set_and_says_how_many(out, monkeypatch):
    monkeypatch.setattr("mmcycle.report.dataset.Album", lambda: Album(left=4 * 2 * 40_000))
    for folder in (out, Path(read_rows(out / ".mmcycle" / "job.json")[0][0]["source"])):
        for path in folder.rglob("*.png"):
            picture(path, (120, 120))                           # 43 kB of noise, 58 kB in base64
    page = Page(write_report(out))
    assert [image["alt"][-3:] for image in page.all("img")[::2]] == ["000", "010", "019"]
    assert "3 of 29 translated recordings, evenly chosen; more would have made this page too large." in page.text


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16", "F"])
def test_pictures_of_every_depth_become_thumbnails(tmp_path, mode):
    pixels = np.arange(300 * 200).reshape(200, 300) % 60000
    path = tmp_path / ("x.tiff" if mode == "F" else "x.png")
    deep = {"I;16": np.uint16, "F": np.float32}.get(mode)
    image = Image.fromarray(pixels.astype(deep or np.uint8))
    (image if deep else image.convert(mode)).save(path)
    shown, = Album().show(tmp_path, path.name, 150)
    assert (shown.width, shown.height) == (150, 100) and shown.source.startswith("data:image/png;base64,")


def test_boxes_are_read_from_yolo_lines_only(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("2 0.5 0.5 0.25 0.125\n")
    assert read_boxes(path) == ((2, 0.5, 0.5, 0.25, 0.125),)
    for text in ("", "car 1 2 3 4", "0 0.5 0.5 2 2", "0 0.5 0.5", "0 nan 0 0 0", "-1 0.5 0.5 0.1 0.1"):
        path.write_text(text)
        assert read_boxes(path) == ()
    path.write_bytes(b"\xff\xfe\x00")
    assert read_boxes(path) == read_boxes(tmp_path / "absent.txt") == ()


def test_a_box_is_drawn_where_the_label_says(tmp_path):
    Image.new("RGB", (100, 100)).save(tmp_path / "x.png")
    album = Album()
    plain, boxed = album.show(tmp_path, "x.png", 100), album.show(tmp_path, "x.png", 100, [(0, 0.5, 0.5, 0.4, 0.2)])
    assert plain != boxed


def test_a_folder_that_is_neither_run_nor_data_set_is_refused(tmp_path):
    with pytest.raises(UserError, match="has neither log.jsonl nor config.yaml"):
        write_report(tmp_path)
    with pytest.raises(UserError, match="there is no such folder"):
        write_report(tmp_path / "absent")
    write_rows(tmp_path / ".mmcycle" / "job.json", [{"source": "x"}])
    with pytest.raises(UserError, match="is not finished, so it has no manifest.jsonl yet"):
        write_report(tmp_path)


def test_warnings_and_scores_of_a_run_are_shown(tmp_path: Path) -> None:
    warning = {"event": "warning", "step": 300, "name": "no variety", "domain": "b", "value": 0.1,
               "advice": "Raise <loss.cycle>"}
    scored = {"event": "evaluation", "better": True, "loss_a": 0.1}
    scores = [scored | {"step": step, "score": 1 / step} for step in (100, 200, 300)]
    write_rows(tmp_path / "log.jsonl", [*scores, warning, {"event": "warning"}, {"event": "evaluation"}])
    told = describe_run(tmp_path)
    assert told["warnings"][0] == ("warning", "no variety", "B, at step 300", "Raise <loss.cycle>")
    assert "Raise &lt;loss.cycle&gt;." in write_report(tmp_path).read_text()
    assert any("score of the averages" in str(one) for one in told["course"])
