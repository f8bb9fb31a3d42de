"""The report of records with several streams, of clips, and of what lies in shards."""
import base64
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import browser
from PIL import Image
from report_page import Page, write_rows
from test_report_sensors import tone, walk      # noqa: F401, walk is a fixture

from mmcycle.report import write_report
from mmcycle.report.pictures import read_boxes

KITTI = "Car 0.00 0 1.57 {} 0 0 0 0 0 0 0\n"


def picture(path: Path, colour: tuple[int, int, int] = (40, 90, 140), size: tuple[int, int] = (200, 100)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def sweep(path: Path, count: int) -> None:
    """For the sensor `walk`: points."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.random.default_rng(count).normal(0, 10, (count, 3)))


def manifest(folder: Path, streams: list[dict[str, Any]], labels: list[str] = [], **job: Any) -> Path:
    """A finished data set of folder/source in folder/out; `streams` are those of each record."""
    rows = [
        {"key": f"{index:06d}", "copy": 0, "streams": one,
         "labels": [{"source": label, "output": label, "how": "copied"} for label in labels],
         "params": {"strength": 1.0, "audio.snr_db": 5.0, "audiovisual.x": 1.0},
         "model": {name: {"sha256": "ab" * 32, "direction": "ab", "run": name} for name in one}}
        for index, one in enumerate(streams)
    ]
    write_rows(folder / "out" / "manifest.jsonl", rows)
    write_rows(folder / "out" / ".mmcycle" / "job.json", [{"source": str(folder / "source"), "runs": {}} | job])
    return folder / "out"


def entry(name: str, translated: bool = True) -> dict[str, Any]:
    return {"source": name, "output": name, "translated": translated}


def coloured(address: str | None) -> tuple[int, ...]:
    """Of the middle of the picture in a data: address."""
    image = Image.open(io.BytesIO(base64.b64decode((address or "").partition(",")[2]))).convert("RGB")
    return image.getpixel((image.width // 2, image.height // 2))


# Several streams

@pytest.mark.usefixtures("walk")
def test_the_streams_of_a_record_stand_in_one_figure_each_beside_its_translation(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    for side, colour, peak in (("source", (200, 10, 10), 0.5), ("out", (10, 10, 200), 0.25)):
        picture(tmp_path / side / "image_2/0.png", colour)
        sweep(tmp_path / side / "points/0.npy", 50)
        tone(tmp_path / side / "audio/0.flac", peak=peak)
    streams = {"camera": entry("image_2/0.png"), "walk": entry("points/0.npy"), "audio": entry("audio/0.flac"),
               "rear": entry("rear/0.png", translated=False)}
    page = Page(write_report(manifest(tmp_path, [streams])))
    assert len(page.all("figure")) == 1 and [one.get("class") for one in page.all("div")].count("pair") == 3
    assert len(page.all("canvas")) == len(page.all("audio")) == 2
    camera = [one for one in page.all("img") if (one["alt"] or "").endswith("000000, camera")]
    assert coloured(camera[0]["src"])[0] > 150 and coloured(camera[1]["src"])[2] > 150
    for told in ("camera · source", "walk · translated", "rear copied", "1 of 1 translated records.", "audio: snr 5 dB"):
        assert told in page.text, told
    assert "· x 1" not in page.text                              # a fact of another stream


def test_a_record_counts_once_however_many_streams_it_has(tmp_path: Path) -> None:
    for index in range(30):
        for folder in ("source/a", "out/a", "source/b", "out/b"):
            picture(tmp_path / folder / f"{index}.png", size=(20, 10))
    streams = [{"left": entry(f"a/{index}.png"), "right": entry(f"b/{index}.png")} for index in range(30)]
    page = Page(write_report(manifest(tmp_path, streams)))
    assert "24 of 30 translated records, evenly chosen." in page.text and len(page.all("img")) == 24 * 4
    assert "60 written" in " ".join(page.text.split())


def test_boxes_of_kitti_are_read_in_pixels_where_the_size_of_the_picture_is_known(tmp_path: Path) -> None:
    path = tmp_path / "000000.txt"
    path.write_text(KITTI.format("50 25 150 75") + KITTI.format("0 0 20 10").replace("Car", "DontCare") + "\n")
    assert read_boxes(path, (200, 100)) == ((0, 0.5, 0.5, 0.5, 0.5),)
    assert read_boxes(path) == ()
    for wrong in ("150 25 50 75", "50 25 1e9 75", "nan 25 150 75", "x 25 150 75"):
        path.write_text(KITTI.format(wrong))
        assert read_boxes(path, (200, 100)) == ()


def test_boxes_of_kitti_are_drawn_on_the_camera(tmp_path: Path) -> None:
    for side in ("source", "out"):
        picture(tmp_path / side / "image_2/0.png")
        picture(tmp_path / side / "image_3/0.png")
        for name, text in (("calib", "P0: 1 2 3\n"), ("label_2", KITTI.format("50 25 150 75"))):
            (tmp_path / side / name).mkdir()
            (tmp_path / side / name / "0.txt").write_text(text)
    streams = {"camera": entry("image_2/0.png"), "camera_right": entry("image_3/0.png")}
    page = Page(write_report(manifest(tmp_path, [streams], ["calib/0.txt", "label_2/0.txt"])))
    assert "1 box" in page.text
    left, _, right, _ = (one["src"] for one in page.all("img"))
    assert left != right and coloured(left) == coloured(right)          # drawn around the middle, on the left alone


# Clips

@pytest.fixture
def filmed(tmp_path: Path) -> Path:
    """One clip of a second, its translation half as loud."""
    pytest.importorskip("av")
    from tiny_clips import clicks, clip, film

    for side, loud in (("source", 1.0), ("out", 0.5)):
        (tmp_path / side).mkdir()
        clip(tmp_path / side / "dog.mp4", film(), loud * clicks(), options={"crf": "30"})
    return tmp_path


def test_a_small_clip_is_a_player_above_its_spectrogram(filmed: Path) -> None:
    streams = {"camera": entry("dog.mp4"), "audio": entry("dog.mp4")}
    page = Page(write_report(manifest(filmed, [streams])))
    files = [(filmed / side / "dog.mp4").read_bytes() for side in ("source", "out")]
    addresses = [f"data:video/mp4;base64,{base64.b64encode(content).decode()}" for content in files]
    assert [one["src"] for one in page.all("video")] == addresses
    assert [one["class"] for one in page.all("img")] == ["strip"] * 2 and not page.all("audio")
    told = " ".join(page.text.split())
    assert "0.8 s, 20 frames of 48 × 32, sound of 16 kHz" in told and "Click a spectrogram" in told
    assert "snr 5 dB" in told and "recordings 1 written" in told    # two streams, one file
    assert len(page.all("script")) == 1


def test_numbers_that_frames_and_sound_both_have_are_told_by_stream(filmed: Path) -> None:
    out = manifest(filmed, [{"camera": entry("dog.mp4"), "audio": entry("dog.mp4")}])
    row = json.loads((out / "manifest.jsonl").read_text())
    row["params"] |= {"camera.safety": 0.75, "audio.safety": 0.5, "camera.smooth": 0.8}
    write_rows(out / "manifest.jsonl", [row])
    assert "snr 5 dB · camera safety 0.75 · audio safety 0.5 · smooth 0.8" in " ".join(Page(write_report(out)).text.split())


def test_a_large_clip_is_six_of_its_frames_and_its_sound(filmed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmcycle.report.films.LARGEST", 100)
    page = Page(write_report(manifest(filmed, [{"camera": entry("dog.mp4"), "audio": entry("dog.mp4")}])))
    assert not page.all("video") and len(page.all("audio")) == 2
    sheets = [one for one in page.all("img") if one.get("class") != "strip"]
    assert [(one["width"], one["height"]) for one in sheets] == [("144", "64")] * 2     # 3 x 2 of 48 x 32
    image = Image.open(io.BytesIO(base64.b64decode((sheets[0]["src"] or "").partition(",")[2]))).convert("RGB")
    assert image.getpixel((12, 16))[0] > 150 > image.getpixel((36, 16))[0]                      # its left half is red


@pytest.mark.parametrize("name", ["dog.avi", "dog.mkv", "dog.webm"])
def test_what_not_every_browser_plays_is_shown_in_frames(tmp_path: Path, name: str) -> None:
    pytest.importorskip("av")
    from tiny_clips import clicks, clip, film

    for side in ("source", "out"):
        (tmp_path / side).mkdir()
        clip(tmp_path / side / name, film(), clicks())
    page = Page(write_report(manifest(tmp_path, [{"camera": entry(name), "audio": entry(name)}])))
    assert len(page.all("video")) == (2 if name == "dog.webm" else 0)
    assert len(page.all("img")) == (2 if name == "dog.webm" else 4), page.text


def test_a_clip_without_sound_has_no_spectrogram(tmp_path: Path) -> None:
    pytest.importorskip("av")
    from tiny_clips import clip, film

    for side in ("source", "out"):
        (tmp_path / side).mkdir()
        clip(tmp_path / side / "mute.mp4", film())
    page = Page(write_report(manifest(tmp_path, [{"camera": entry("mute.mp4")}])))
    assert len(page.all("video")) == 2 and not page.all("img") and "Click a spectrogram" not in page.text


def test_a_damaged_clip_is_named_and_the_other_is_played(filmed: Path) -> None:
    whole = (filmed / "out" / "dog.mp4").read_bytes()
    (filmed / "out" / "dog.mp4").write_bytes(whole[: len(whole) // 2])
    page = Page(write_report(manifest(filmed, [{"camera": entry("dog.mp4"), "audio": entry("dog.mp4")}])))
    assert len(page.all("video")) == 1 and "dog.mp4: cannot be shown: " in page.text and "no preview" in page.text


def test_a_browser_reads_the_length_of_an_embedded_clip(filmed: Path, tmp_path: Path) -> None:
    page = write_report(manifest(filmed, [{"camera": entry("dog.mp4"), "audio": entry("dog.mp4")}]))
    with browser(tmp_path / "profile") as tab:
        tab.open(page)
        if not tab.tell("document.createElement('video').canPlayType('video/mp4; codecs=\"avc1.42E01E\"')"):
            pytest.skip("this Chromium plays no H.264")
        tab.until("[...document.querySelectorAll('video')].every(one => one.duration > 0)")
        found = tab.tell("[...document.querySelectorAll('video')].map(one => [one.duration, one.videoWidth])")
    assert len(found) == 2 and all(width == 48 and 0.75 < length < 0.95 for length, width in found), found


def test_source_and_translation_of_a_film_run_together_and_one_of_them_is_heard(filmed: Path, tmp_path: Path) -> None:
    page = write_report(manifest(filmed, [{"camera": entry("dog.mp4"), "audio": entry("dog.mp4")}]))
    assert "The film beside the one that you play runs along, silent." in page.read_text()
    with browser(tmp_path / "profile") as tab:
        tab.open(page)
        if not tab.tell("document.createElement('video').canPlayType('video/mp4; codecs=\"avc1.42E01E\"')"):
            pytest.skip("this Chromium plays no H.264")
        tab.until("[...document.querySelectorAll('video')].every(one => one.readyState > 1)")
        tab.tell("window.films = [...document.querySelectorAll('video')]; films.forEach(one => one.loop = true)")
        tab.tell("films[1].play()")
        tab.until("films.every(one => one.currentTime > 0.1) && films[0].muted && !films[1].muted")
        tab.tell("films[0].muted = false")                  # listen to the other one
        tab.until("!films[0].paused && !films[1].paused && films[1].muted")
        tab.tell("films[0].pause()")
        tab.until("films.every(one => one.paused)")
        tab.tell("films[0].currentTime = 0.4")
        tab.until("films.every(one => Math.abs(one.currentTime - 0.4) < 0.05)")
        tab.tell("films[1].play()")                         # now this one is started, and heard
        tab.until("films.every(one => !one.paused) && films[0].muted && !films[1].muted")
        assert not tab.complaints


# Shards

def packed(path: Path, members: dict[str, Path | bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            content = content.read_bytes() if isinstance(content, Path) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def in_a_shard(name: str, shard: str = "train-000000.tar") -> dict[str, Any]:
    return {"source": f"{shard}!{name}", "output": f"{shard}!{name}", "translated": True}


@pytest.mark.usefixtures("walk")
def test_what_lies_in_tars_is_shown_as_if_it_were_loose(tmp_path: Path) -> None:
    for side, colour in (("source", (200, 10, 10)), ("out", (10, 10, 200))):
        picture(tmp_path / "a.png", colour)
        sweep(tmp_path / "a.npy", 50)
        classes = "\n".join(map(str, range(50))).encode()
        content = {"a.camera.png": tmp_path / "a.png", "a.walk.npy": tmp_path / "a.npy"}
        packed(tmp_path / side / "train-000000.tar", content | {"a.classes": classes, "a.json": b"{}"})
    streams = {"camera": in_a_shard("a.camera.png"), "walk": in_a_shard("a.walk.npy")}
    out = manifest(tmp_path, [streams], ["train-000000.tar!a.classes"])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    page = Page(write_report(out))
    camera = [one for one in page.all("img") if (one["alt"] or "").endswith(", camera")]
    assert coloured(camera[0]["src"])[0] > 150 and coloured(camera[1]["src"])[2] > 150
    clouds = [json.loads(one["data-colourings"]) for one in page.all("div") if one.get("class") == "cloud"]
    assert len(clouds) == 2 and all(["class", "classes"] in colourings for colourings in clouds)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path for path in after if path not in before} == {out / "report.html"} and before.items() <= after.items()


def test_what_lies_in_tables_is_shown_as_if_it_were_loose(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for side, colour in (("source", (200, 10, 10)), ("out", (10, 10, 200))):
        picture(tmp_path / "a.png", colour)
        (tmp_path / side / "data").mkdir(parents=True)
        cells = [None, {"bytes": (tmp_path / "a.png").read_bytes(), "path": "a.png"}]
        parquet.write_table(arrow.table({"image": cells}), tmp_path / side / "data/train-0.parquet")
    page = Page(write_report(manifest(tmp_path, [{"image": in_a_shard("1/image", "data/train-0.parquet")}])))
    before, after = (coloured(one["src"]) for one in page.all("img"))
    assert before[0] > 150 and after[2] > 150


def test_shards_that_cannot_be_read_are_named_and_nothing_leaves_its_folder(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    picture(tmp_path / "a.png")
    packed(tmp_path / "out" / "good.tar", {"a.png": tmp_path / "a.png", "../../evil.png": tmp_path / "a.png"})
    (tmp_path / "out" / "bad.tar").write_bytes(b"no tar")
    streams = [{"image": in_a_shard(name, shard)} for name, shard in (
        ("a.png", "good.tar"), ("../../evil.png", "good.tar"), ("a.png", "bad.tar"), ("a.png", "gone.tar"),
        ("a.png", "../out/good.tar"),
    )]
    page = Page(write_report(manifest(tmp_path, streams)))
    assert not (tmp_path.parent / "evil.png").exists() and not (tmp_path / "evil.png").exists()
    assert "bad.tar: cannot be shown: " in page.text and "good.tar: cannot be shown: " in page.text
    assert len(page.all("img")) == 1                            # what stood before the member that would leave


def test_no_more_than_fits_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmcycle.report.shelf.MOST", 10)
    picture(tmp_path / "a.png")
    packed(tmp_path / "out" / "train-000000.tar", {"a.png": tmp_path / "a.png"})
    page = Page(write_report(manifest(tmp_path, [{"image": in_a_shard("a.png")}])))
    assert not page.all("img") and "train-000000.tar: too large to be shown whole." in page.text
