"""The report of what is not a picture: sounds to play, points to walk around, and numbers told of each translation."""
import base64
import hashlib
import io
import json
import re
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from browser import browser
from report_page import Page, write_rows

from mmcycle import modality
from mmcycle.errors import RecordingError, UserError
from mmcycle.modality import Clip, Cloud, Drawing, Modality, find_modality
from mmcycle.report import write_report
from mmcycle.report.album import Album
from mmcycle.report.clouds import FARTHEST, MOST_POINTS, viewer
from mmcycle.report.numbers import measured
from mmcycle.report.pairs import Sensors

soundfile = pytest.importorskip("soundfile")
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Walk(Modality):
    """Points as rows of x y z in .npy, with a file of class numbers beside it."""

    mime: str = "audio/wav"
    suffixes: ClassVar[tuple[str, ...]] = (".npy",)

    @property
    def shape(self):
        return 3, 8, 8

    def load(self, path):
        return np.load(path)

    def save(self, raw, path):
        np.save(path, raw)

    def to_tensor(self, raw):
        return torch.zeros(3, 8, 200), None

    def from_tensor(self, x, context):
        return np.zeros((1, 3))

    def present(self, raw, labels=()):
        colours = {"</script><b>": np.full(len(raw), 0.5)}
        for path in labels:
            classes = np.loadtxt(path, dtype=np.int64, ndmin=1)
            if len(classes) != len(raw):
                raise RecordingError(f"{len(classes)} classes for {len(raw)} points")
            colours["class"] = classes
        return Drawing(self.render(self.to_tensor(raw)[0]), strip=True), Cloud(raw, colours)


class Talk(Walk):
    """The same, but it speaks."""

    def present(self, raw, labels=()):
        return (Clip(b"RIFF", self.mime, "short"),)


class Odd(Walk):
    """It hands out what nobody knows."""

    def present(self, raw, labels=()):
        return ("words",)


def tone(path: Path, seconds: float = 0.5, rate: int = 8000, channels: int = 1, peak: float = 0.5) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(max(round(seconds * rate), 1)) / rate
    wave = np.repeat(peak * np.cos(2 * np.pi * 440 * time)[:, None], channels, axis=1).astype(np.float32)
    soundfile.write(path, wave, rate, subtype="FLOAT" if path.suffix == ".wav" else "PCM_16")
    return wave


def data_set(folder: Path, stream: str, names: list[str], labels: list[str] = [], **params: float) -> Path:
    """The records that generate would leave of folder/source in folder/out; the files are the caller's to make."""
    rows = [
        {
            "key": name, "copy": 0, "streams": {stream: {"source": name, "output": name, "translated": True}},
            "labels": [{"source": label, "output": label, "how": "copied"} for label in labels],
            "params": {"strength": 1.0} | {key: value + index for key, value in params.items()},
            "model": {stream: {"sha256": "ab" * 32, "direction": "ab", "run": "night"}},
        }
        for index, name in enumerate(names)
    ]
    write_rows(folder / "out" / "manifest.jsonl", rows)
    write_rows(folder / "out" / ".mmcycle" / "job.json", [{"source": str(folder / "source"), "runs": {stream: "gone"}}])
    return folder / "out"


def points(folder: Path, classes: tuple[int, ...] = (0, 10, 70)) -> Path:
    """One record of three points with their classes, seen by `Walk`."""
    for side in ("source", "out"):
        (folder / side).mkdir(parents=True, exist_ok=True)
        np.save(folder / side / "x.npy", np.array([[1.0, 2.0, -1.5], [3.0, -4.0, 0.0], [0.0, 0.0, 2.0]]))
        (folder / side / "x.classes").write_text("\n".join(map(str, classes)))
    return data_set(folder, "walk", ["x.npy"], ["x.classes"])


@pytest.fixture
def walk(monkeypatch):
    monkeypatch.setitem(modality.BUILTIN, "walk", f"{__name__}:Walk")


def played(address: str) -> tuple[np.ndarray, int]:
    """The sound behind a data: address, as a browser would decode it."""
    kind, _, content = address.partition(",")
    assert kind == "data:audio/flac;base64"
    return soundfile.read(io.BytesIO(base64.b64decode(content)), always_2d=True)


# Sound

def test_a_data_set_of_sounds_has_two_players_and_two_spectrograms_for_each_recording(tmp_path):
    for name in ("a.flac", "b.flac"):
        tone(tmp_path / "source" / name)
        wave = tone(tmp_path / "out" / name, peak=0.25)
    page = Page(write_report(data_set(tmp_path, "audio", ["a.flac", "b.flac"], **{"audio.snr_db": 7.5})))
    assert len(page.all("audio")) == len(page.all("img")) == 4
    assert all(player["preload"] == "metadata" and "controls" in player for player in page.all("audio"))
    heard, rate = played(page.all("audio")[1]["src"])
    assert rate == 8000 and np.abs(heard - wave).max() <= 2**-15
    assert all(picture["class"] == "strip" for picture in page.all("img"))
    for told in ("2 of 2 translated recordings.", "snr 7.5 dB", "snr 8.5 dB", "0.5 s, 8 kHz", "Click a spectrogram"):
        assert told in page.text, told
    assert len([tag for tag in page.all("div") if tag.get("class") == "pair single"]) == 2     # one below the other


def test_of_a_long_sound_the_beginning_is_shown_and_that_is_said():
    sound = find_modality("audio")(rate=8000, n_fft=256, hop=64, mels=16)
    samples = np.random.default_rng(0).normal(0, 0.1, (25 * 8000, 1)).astype(np.float32)
    raw = _sound(samples, 8000)
    drawing, clip = sound.present(raw)
    heard, rate = soundfile.read(io.BytesIO(clip.content), always_2d=True)
    assert clip.about == "the first 20 s of 25.0 s, 8 kHz"
    assert heard.shape == (160_000, 1) and np.abs(heard - samples[:160_000]).max() <= 2**-15
    assert drawing.strip and drawing.pixels.shape == (3, 16, 160_000 // 64 + 1)    # the picture is of what is heard


@pytest.mark.parametrize("rate, channels, peak, expected", [
    (192_000, 1, 0.5, (48_000, 1, "0.1 s, 192 kHz")),
    (4_000, 2, 0.5, (8_000, 2, "0.1 s, 4 kHz, stereo")),
    (44_100, 2, 2.0, (44_100, 2, "0.1 s, 44.1 kHz, stereo, played 6.0 dB softer")),
    (16_000, 64, 0.5, (16_000, 1, "0.1 s, 16 kHz, the mean of 64 channels")),
])
def test_what_browsers_do_not_play_is_made_playable_and_that_is_said(rate, channels, peak, expected):
    wave = np.full((rate // 10, channels), peak, dtype=np.float32)
    clip = find_modality("audio")().present(_sound(wave, rate))[1]
    heard, own = soundfile.read(io.BytesIO(clip.content), always_2d=True)
    assert (own, heard.shape[1], clip.about) == expected
    assert len(heard) == expected[0] // 10
    assert np.abs(heard[len(heard) // 2]).max() == pytest.approx(min(peak, 1), abs=0.01)


@pytest.mark.parametrize("rate", [8000, 192_000])
def test_one_sample_is_played_too(rate):
    clip = find_modality("audio")().present(_sound(np.full((1, 1), 0.5, dtype=np.float32), rate))[1]
    assert soundfile.info(io.BytesIO(clip.content)).frames == 1


def test_a_damaged_sound_is_named_and_the_others_are_played(tmp_path):
    for side in ("source", "out"):
        for name in ("a.flac", "b.flac"):
            tone(tmp_path / side / name)
    (tmp_path / "out" / "a.flac").write_bytes(b"no sound")
    page = Page(write_report(data_set(tmp_path, "audio", ["a.flac", "b.flac"])))
    assert len(page.all("audio")) == 3 and "a.flac: cannot be shown: " in page.text and "no preview" in page.text


def test_the_same_sounds_give_the_same_page(tmp_path):
    for side in ("source", "out"):
        tone(tmp_path / side / "a.flac")
    out = data_set(tmp_path, "audio", ["a.flac"])
    first = write_report(out).read_bytes()
    assert write_report(out).read_bytes() == first


# Points

def test_a_viewer_holds_every_point_to_a_fraction_of_a_millimetre_and_a_byte_for_each_colour():
    places = np.array([[1.0, 2.0, -1.5], [30.0, -4.0, 0.0], [0.0, 0.5, 2.0]])
    one = viewer(Cloud(places, {"intensity": np.array([0.0, 0.5, 1.5]), "label": np.array([0, 10, 259])}))
    content = base64.b64decode(one.points)
    assert len(content) == 3 * (6 + 2) and json.loads(one.colourings) == [["intensity", "scale"], ["label", "classes"]]
    np.testing.assert_allclose(np.frombuffer(content[:18], "<i2").reshape(3, 3) * one.unit, places, atol=30 / 32767)
    assert list(content[18:]) == [0, 128, 255, 0, 10, 3]        # beyond the scale: its end; classes modulo 256
    assert one.about == "3 points"


def test_of_many_points_some_are_shown_the_same_ones_every_time_and_how_many_is_said():
    places = np.random.default_rng(0).normal(size=(50_000, 3))
    one = viewer(Cloud(places, {}))
    assert one == viewer(Cloud(places, {}))
    assert len(base64.b64decode(one.points)) == 6 * MOST_POINTS
    assert one.about == "16\u202f384 of 50\u202f000 points"


def test_points_that_are_not_finite_or_absurdly_far_are_left_out():
    places = np.ones((10, 3))
    places[0, 0], places[1, 1], places[2] = np.nan, np.inf, 2.0 * FARTHEST
    one = viewer(Cloud(places, {"label": np.arange(10)}))
    assert one.about == "7 of 10 points" and list(base64.b64decode(one.points)[42:]) == [3, 4, 5, 6, 7, 8, 9]
    assert one.unit * 32767 == pytest.approx(1, rel=1e-4)


def test_no_points_are_an_empty_viewer():
    assert viewer(Cloud(np.zeros((0, 3)), {"label": np.zeros(0, dtype=int)})).about == "0 points"
    assert viewer(Cloud(np.full((2, 3), np.nan), {})).points == ""


def test_clouds_of_the_wrong_shape_are_refused():
    with pytest.raises(UserError, match=r"a cloud is an array \(points, 3\); got \(4, 2\)"):
        viewer(Cloud(np.zeros((4, 2)), {}))
    with pytest.raises(UserError, match=r"the colouring 'label' has \(3,\) values for 4 points"):
        viewer(Cloud(np.zeros((4, 3)), {"label": np.zeros(3)}))


def test_a_sensor_of_points_gets_viewers_coloured_by_its_labels(walk, tmp_path):
    page = Page(write_report(points(tmp_path)))
    clouds = [tag for tag in page.all("div") if tag.get("class") == "cloud"]
    assert len(page.all("canvas")) == len(clouds) == len(page.all("img")) == 2
    for one in clouds:
        assert json.loads(one["data-colourings"]) == [["</script><b>", "scale"], ["class", "classes"]]
        assert list(base64.b64decode(one["data-points"])[21:]) == [0, 10, 70]
    assert len(page.all("script")) == 1
    assert "Source and translation turn together." in page.text


def test_labels_that_do_not_belong_hide_themselves_and_not_the_points(walk, tmp_path):
    page = Page(write_report(points(tmp_path, classes=(1, 2))))
    assert len(page.all("canvas")) == 2
    assert "x.npy: its labels are not shown: 2 classes for 3 points." in page.text


def test_labels_outside_of_the_data_set_are_not_opened(walk, tmp_path):
    out = points(tmp_path)
    (tmp_path / "secret").write_text("1\n2\n3\n")
    rows = (out / "manifest.jsonl").read_text().replace('"x.classes"', '"../secret"')
    (out / "manifest.jsonl").write_text(rows)
    clouds = [tag for tag in Page(write_report(out)).all("div") if tag.get("class") == "cloud"]
    assert len(clouds) == 2 and all("class\"" not in tag["data-colourings"] for tag in clouds)


def test_a_sweep_is_coloured_by_its_share_of_full_intensity_and_by_the_labels_of_its_own_points(tmp_path):
    from mmcycle.modalities.lidar_cloud import cloud
    from mmcycle.modalities.point_files import Sweep

    (tmp_path / "x.txt").write_text("no labels of points")
    np.array([10, 3 << 16 | 70, 40], dtype="<u4").tofile(tmp_path / "x.label")
    sweep = Sweep(np.ones((3, 3), dtype=np.float32), np.array([0, 64, 300.0])).keep(np.array([True, True, False]))
    assert list(cloud(sweep, 256).colours["intensity"]) == [0, 0.5]
    made = Sweep(np.ones((3, 3), dtype=np.float32), np.array([0, 64, 300.0]))
    assert list(cloud(made, 256, [tmp_path / "x.txt", tmp_path / "x.label"]).colours["label"]) == [10, 70, 40]
    with pytest.raises(RecordingError, match="has 3 labels, its sweep has 2 points"):
        cloud(Sweep(made.points[:2], made.intensity[:2]), 256, [tmp_path / "x.label"])


# Whatever a sensor hands out

def test_the_only_script_is_ours_and_the_policy_knows_it_by_its_hash(walk, tmp_path):
    text = write_report(points(tmp_path)).read_text(encoding="utf-8")
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
    assert scripts == [(ROOT / "mmcycle" / "report" / "exhibits.js").read_text(encoding="utf-8")]
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policies = [tag["content"] for tag in Page(tmp_path / "out" / "report.html").all("meta") if "http-equiv" in tag]
    assert len(policies) == 1 and f"script-src 'sha256-{digest}'" in policies[0] and "media-src data:" in policies[0]
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|import|innerHTML|eval)\b", scripts[0])


def test_what_no_page_can_show_is_said(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 3)))
    album = Album()
    assert album.show(tmp_path, "x.npy", 100, sensor=Odd()) == ()
    assert album.show(tmp_path, "x.npy", 100, sensor=Talk(mime='text/html" onload="')) == ()
    assert "a sensor presents a Drawing, a Clip or a Cloud; got str" in album.notes[0]
    assert "a sound's type is audio/flac or audio/wav; got 'text/html" in album.notes[1]
    shown, = album.show(tmp_path, "x.npy", 100, sensor=Talk())
    assert shown.source == "data:audio/wav;base64,UklGRg==" and shown.about == "short"


def test_a_translation_is_shown_in_the_units_of_its_source_and_across_sensors_in_its_own(tmp_path):
    domains = "a: {name: a, modality: lidar}\nb: {name: b, modality: %s}\n"
    (tmp_path / "config.yaml").write_text("name: x\n" + domains % "lidar, full_intensity: 100")
    one, other = Sensors({"runs": {"lidar": str(tmp_path)}}).of("lidar", {"direction": "ab"})
    assert one == other == find_modality("lidar")()     # its files' intensities go to 1, translations' too
    back = Sensors({"runs": {"lidar": str(tmp_path)}}).of("lidar", {"direction": "ba"})
    assert [sensor.spec.intensity_scale for sensor in back] == [100, 100]
    (tmp_path / "config.yaml").write_text("name: x\n" + domains % "image")
    one, other = Sensors({"runs": {"lidar": str(tmp_path)}}).of("lidar", {"direction": "ab"})
    assert (type(one).__name__, type(other).__name__) == ("Lidar", "Image")


def test_a_stream_that_names_code_does_not_import_it(tmp_path, monkeypatch):
    (tmp_path / "evil_sensor.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    tone(tmp_path / "source" / "a.flac"), tone(tmp_path / "out" / "a.flac")
    page = Page(write_report(data_set(tmp_path, "evil_sensor:Sensor", ["a.flac"])))
    assert page.all("audio") == [] and "no preview" in page.text


# Numbers

@pytest.mark.parametrize("name, value, told", [
    ("snr_db", 7.5, "snr 7.5 dB"), ("shift_m", 0.0234, "shift 0.0234 m"), ("kept_share", 0.926, "kept share 0.926"),
    ("db", 3, "db 3"), ("cut_off_hz", 12000, "cut off 12k Hz"),
])
def test_a_number_is_told_with_the_unit_that_its_name_ends_in(name, value, told):
    assert measured(name, value) == told


def test_numbers_told_of_the_translations_are_summed_up_over_the_whole_data_set(tmp_path):
    names = [f"{index}.flac" for index in range(101)]          # snr 0, 1, ... 100
    text = " ".join(Page(write_report(data_set(tmp_path, "audio", names, **{"audio.snr_db": 0.0}))).text.split())
    assert "audio.snr, dB 101 0 10 50 90 100" in text


def test_everything_the_page_is_made_of_is_installed_with_it():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["mmcycle"]
    parts = [path for path in (ROOT / "mmcycle" / "report").iterdir() if path.is_file() and path.suffix != ".py"]
    missing = [path.name for path in parts if not any(fnmatch(f"report/{path.name}", pattern) for pattern in told)]
    assert parts and missing == [], "add them to package-data in pyproject.toml"


def test_a_browser_draws_the_points_and_names_every_colouring(walk, tmp_path):
    with browser(tmp_path / "profile") as tab:
        tab.open(write_report(points(tmp_path)), 390, 800)
        found = tab.tell("[...document.querySelectorAll('button')].map(one => [one.textContent, one.ariaPressed])")
        tab.tell("document.querySelector('canvas').scrollIntoView()")
        pixels = "one.getContext('2d').getImageData(0, 0, one.width, one.height).data.buffer"
        drawn = f"new Set(new Uint32Array({pixels})).size > 1"
        tab.until(f"[...document.querySelectorAll('canvas')].every(one => {drawn})")
        assert tab.tell("document.documentElement.scrollWidth") <= 390 and tab.complaints == []
    assert found == [["</script><b>", "true"], ["class", "false"], ["height", "false"]] * 2


def _sound(samples: np.ndarray, rate: int):
    kind = type(find_modality("audio")().from_tensor(torch.full((1, 64, 4), -1.0), None))
    return kind(samples, rate)
