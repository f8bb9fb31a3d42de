"""Data sets of several streams are written again: each by its own model, the rest byte for byte, whatever happens."""
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mmcycle.data.layouts import scan
from mmcycle.data.records import Record
from mmcycle.errors import RecordingError, UserError
from mmcycle.generate.dataset import generate
from mmcycle.generate.manifest import read_rows, verify
from mmcycle.generate.parts import parts_of
from mmcycle.generate.shard import Share
from mmcycle.generate.translator import Translation
from tiny_models import IMAGE, LIDAR, SOUND, untrained

ROOT = Path(__file__).parents[1]
RADIATE = ROOT.parent / "shared/data/image/multisensor_radiate"


class Bytes:
    """A sensor of plain bytes; "broken" is no recording. Labels that end in .label lose their last byte."""

    suffixes = (".png", ".bin")

    def load(self, path: Path) -> bytes:
        if path.read_bytes().startswith(b"broken"):
            raise RecordingError(f"{path}: is broken")
        return path.read_bytes()

    def save(self, raw: bytes, path: Path) -> None:
        path.write_bytes(raw)

    def relabel(self, label: Path, target: Path, raw: bytes) -> bool:
        if label.suffix == ".label":
            target.write_bytes(label.read_bytes()[:-1])
        return label.suffix == ".label"


class Other(Bytes):
    """Another sensor, with other files."""

    suffixes = (".oth",)


@dataclass
class Marker:
    """Puts its run's name, the strength and the seed behind a recording; "die" ends the process."""

    run: str
    target: Bytes
    source = Bytes()
    direction: str = "ab"
    stochastic: bool = True

    @property
    def sha256(self) -> str:
        return self.run

    def perform(self, raw: bytes, strength: float = 1.0, seed: int = 0) -> Translation:
        if raw == os.environ.get("DIE_OF", "").encode() != b"":
            os.kill(os.getpid(), 9)
        return Translation(raw + f" {Path(self.run).name} {strength} {seed}".encode(), {"length": float(len(raw))})


def load(run: Path, direction: str, share: Share) -> Marker:
    return Marker(str(run), Other() if run.name.startswith("crossing") else Bytes())


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, str]:
    for name in ("night", "rain", "crossing"):
        (tmp_path / name).mkdir()
    return {"camera": str(tmp_path / "night"), "lidar": str(tmp_path / "rain")}


KINDS = {"image_2": "png", "image_3": "png", "velodyne": "bin", "label_2": "txt", "calib": "txt", "labels": "label"}


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    return write(tmp_path / "drive", {f"{kind}/{k:06}.{suffix}": f"{kind} {k}" for kind, suffix in KINDS.items() for k in range(4)})


def write(root: Path, contents: dict[str, str]) -> Path:
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_stream_has_its_own_model_and_the_others_are_copied(drive: Path, runs: dict[str, str], tmp_path: Path) -> None:
    job = generate(drive, tmp_path / "out", runs, seed=3, load=load)
    assert job[:4] == (4, 0, 0, 4) and job.strays == ()
    row = list(read_rows(tmp_path / "out"))[2]
    out = tree(tmp_path / "out")
    assert out["image_2/000002.png"] == f"image_2 2 night 1.0 {row.seed}".encode()
    assert out["velodyne/000002.bin"] == f"velodyne 2 rain 1.0 {row.seed}".encode()
    for kind in ("image_3/000002.png", "label_2/000002.txt", "calib/000002.txt"):
        assert out[kind] == (drive / kind).read_bytes()
    assert {name: entry.translated for name, entry in row.streams.items()} == {"camera": True, "camera_right": False, "lidar": True}
    assert row.params == {"strength": 1.0, "camera.length": 9.0, "lidar.length": 10.0}
    assert verify(tmp_path / "out").ok and verify(tmp_path / "out").counts["files"] == 24


def test_a_label_changes_only_with_the_stream_that_it_speaks_of(drive: Path, runs: dict[str, str], tmp_path: Path) -> None:
    for stream, kept in (("camera", b"labels 1"), ("lidar", b"labels ")):
        generate(drive, tmp_path / stream, {stream: runs[stream]}, load=load)
        assert (tmp_path / stream / "labels/000001.label").read_bytes() == kept
        how = {label.source.split("/")[0]: label.how for label in next(read_rows(tmp_path / stream)).labels}
        assert how == {"calib": "copied", "label_2": "copied", "labels": "copied" if stream == "camera" else "remapped"}
        assert verify(tmp_path / stream).ok


def test_a_label_is_refused_where_its_own_stream_becomes_another_sensor(drive: Path, runs: dict[str, str], tmp_path: Path) -> None:
    runs = runs | {"camera": str(tmp_path / "crossing")}
    with pytest.raises(UserError, match="calib/000000.txt: labels made for Bytes do not hold for Other .stream 'camera'.*labels='class'"):
        generate(drive, tmp_path / "out", runs, load=load)
    for folder in ("calib", "label_2"):
        for path in (drive / folder).iterdir():
            path.unlink()
    generate(drive, tmp_path / "out", runs, load=load)          # the labels of points speak of the sweep alone
    names = set(tree(tmp_path / "out"))
    assert {"image_2/000000.oth", "velodyne/000000.bin", "labels/000000.label"} <= names and "image_2/000000.png" not in names
    assert verify(tmp_path / "out").ok


def test_a_dry_run_tells_what_becomes_of_every_stream(drive: Path, runs: dict[str, str], tmp_path: Path) -> None:
    job = generate(drive, tmp_path / "out", {"lidar": runs["lidar"]}, load=load, dry_run=True)
    for said in ("4 records, layout kitti", "camera: copied", "camera_right: copied", "lidar: Bytes -> Bytes by", "labels: 12 files"):
        assert said in job.outline
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_sensor_is_told_what_it_reads(drive: Path, runs: dict[str, str], tmp_path: Path) -> None:
    for path in (drive / "image_2").iterdir():
        path.rename(path.with_suffix(".jpg"))
    with pytest.raises(UserError, match="image_2/000000.jpg: the run of stream 'camera' reads .png, .bin, not this"):
        generate(drive, tmp_path / "out", runs, load=load)


def test_copies_keep_the_streams_of_a_moment_together(drive: Path, runs: dict[str, str], tmp_path: Path) -> None:
    generate(drive, tmp_path / "out", runs, copies=2, strength=(0.25, 0.5), load=load)
    rows = [row for row in read_rows(tmp_path / "out") if row.key == "000001"]
    assert {name: entry.output for name, entry in rows[1].streams.items()} == {
        "camera": "image_2/000001_copy1.png", "camera_right": "image_3/000001_copy1.png", "lidar": "velodyne/000001_copy1.bin"}
    ends = [(tmp_path / "out" / rows[1].streams[name].output).read_bytes().split()[-2:] for name in ("camera", "lidar")]
    assert ends[0] == ends[1] == [str(rows[1].params["strength"]).encode(), str(rows[1].seed).encode()]
    assert verify(tmp_path / "out").ok
    again = scan(tmp_path / "out", {"camera": (".png",), "lidar": (".bin",)})
    assert len(again.records) == 8 and all(len(record.streams) == 3 and len(record.labels) == 3 for record in again.records)


def test_a_moment_with_one_broken_stream_is_quarantined_whole(drive: Path, runs: dict[str, str], tmp_path: Path) -> None:
    (drive / "velodyne/000001.bin").write_text("broken")
    with pytest.raises(RecordingError, match="velodyne/000001.bin: is broken"):
        generate(drive, tmp_path / "out", runs, load=load)
    job = generate(drive, tmp_path / "out", runs, load=load, on_error="quarantine")
    assert job.done + job.skipped == 3 and job.quarantined == 1
    told = json.loads((tmp_path / "out/quarantine.jsonl").read_text())
    assert (told["key"], told["stream"], told["path"]) == ("000001", "lidar", "velodyne/000001.bin")
    assert not [name for name in tree(tmp_path / "out") if "000001" in name] and verify(tmp_path / "out").ok


def test_killed_in_the_middle_and_run_again_gives_the_same_bytes(drive: Path, runs: dict[str, str], tmp_path: Path) -> None:
    generate(drive, tmp_path / "whole", runs, copies=2, load=load)
    code = (f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import test_multistream as t; from pathlib import Path; "
            f"t.generate(Path({str(drive)!r}), Path({str(tmp_path / 'out')!r}), {runs!r}, copies=2, load=t.load)")
    child = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT), "DIE_OF": "velodyne 3"})
    assert child.returncode == -9
    assert "velodyne/000000.bin" in tree(tmp_path / "out")
    job = generate(drive, tmp_path / "out", runs, copies=2, load=load)
    assert job.skipped >= 1 and job.done + job.skipped == 8
    assert tree(tmp_path / "out") == tree(tmp_path / "whole") and verify(tmp_path / "out").ok


def listed(root: Path, *rows: dict[str, object]) -> Path:
    return write(root, {"streams.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})


def test_a_listing_is_copied_and_rewritten_when_names_change(runs: dict[str, str], tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"l/1.png": "one", "l/2.png": "two", "r/1.bin": "sweep", "r/1.label": "12", "c.txt": "calib"})
    rows = [{"key": "m1", "streams": {"camera": "l/1.png", "lidar": "r/1.bin"}, "labels": {"r/1.label": ["lidar"]}, "tags": {"fog": 1}},
            {"key": "m2", "streams": {"camera": "l/2.png"}, "tags": {"class": "dog"}}]
    listed(source, *rows)
    generate(source, tmp_path / "one", runs, load=load)
    assert (tmp_path / "one/streams.jsonl").read_bytes() == (source / "streams.jsonl").read_bytes()
    generate(source, tmp_path / "two", runs, load=load, copies=2)
    told = [json.loads(line) for line in (tmp_path / "two/streams.jsonl").read_text().splitlines()]
    assert [row["key"] for row in told] == ["m1", "m1_copy1", "m2", "m2_copy1"]
    assert told[1] == {"key": "m1_copy1", "streams": {"camera": "l/1_copy1.png", "lidar": "r/1_copy1.bin"},
                       "labels": {"r/1_copy1.label": ["lidar"]}, "tags": {"fog": 1}}
    generate(source, tmp_path / "cross", {"camera": str(tmp_path / "crossing")}, load=load)
    told = [json.loads(line) for line in (tmp_path / "cross/streams.jsonl").read_text().splitlines()]
    assert told[0] == rows[0] | {"streams": {"camera": "l/1.oth", "lidar": "r/1.bin"}}
    for name in ("one", "two", "cross"):
        assert verify(tmp_path / name).ok
        assert scan(tmp_path / name, {"camera": Bytes.suffixes}).layout == "streams"


def test_a_file_of_several_records_is_copied_and_never_translated(runs: dict[str, str], tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"1.png": "one", "2.png": "broken", "s.bin": "sweep", "calib.txt": "calib"})
    listed(source, *({"key": f"m{k}", "streams": {"camera": f"{k}.png", "lidar": "s.bin"}, "labels": ["calib.txt"]} for k in (1, 2)))
    with pytest.raises(UserError, match="s.bin: is to be translated for the record 'm1', and belongs to others too; leave it in one"):
        generate(source, tmp_path / "out", runs, load=load)
    job = generate(source, tmp_path / "out", {"camera": runs["camera"]}, load=load, on_error="quarantine")
    assert job[:4] == (1, 0, 1, 2) and verify(tmp_path / "out").ok
    assert {"s.bin", "calib.txt", "1.png"} <= set(tree(tmp_path / "out")) and "2.png" not in tree(tmp_path / "out")


def test_copies_of_nuscenes_are_refused_before_the_work(runs: dict[str, str], tmp_path: Path) -> None:
    rows = [{"token": "d", "sample_token": "s", "is_key_frame": True, "filename": "samples/CAM_FRONT/1.png"}]
    source = write(tmp_path / "source", {"samples/CAM_FRONT/1.png": "one", "samples/LIDAR_TOP/1.bin": "sweep",
                                         "v1.0-mini/sample_data.json": json.dumps(rows)})
    with pytest.raises(UserError, match="sample_data.json: the tables of nuScenes .* cannot name copies"):
        generate(source, tmp_path / "out", {"CAM_FRONT": runs["camera"]}, load=load, copies=2)
    assert generate(source, tmp_path / "out", {"CAM_FRONT": runs["camera"]}, load=load).done == 1
    assert verify(tmp_path / "out").ok


def test_two_streams_in_one_file_that_is_no_clip_are_refused(runs: dict[str, str], tmp_path: Path) -> None:
    source = listed(write(tmp_path / "source", {"1.bin": "x"}), {"key": "1", "streams": {"camera": "1.bin", "lidar": "1.bin"}})
    with pytest.raises(UserError, match="1.bin: holds the streams camera and lidar; only a clip .* called camera and audio"):
        generate(source, tmp_path / "out", runs, load=load)
    source = listed(write(tmp_path / "other", {"1.mp4": "x"}), {"key": "1", "streams": {"lidar": "1.mp4"}})
    with pytest.raises(UserError, match="1.mp4: the run of stream 'lidar' reads .png, .bin, not this"):
        generate(source, tmp_path / "out", {"lidar": runs["lidar"]}, load=load)


def test_a_sensor_that_reads_whole_clips_itself_is_given_them() -> None:
    one = Marker("film", Bytes())
    one.source = type("Film", (Bytes,), {"suffixes": (".mp4",)})()
    part, = parts_of(Record(key="a", streams={"film": "a.mp4"}), {"film": one})
    assert part.translator is one and not part.joint


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Random weights for pictures, for sounds, and for sweeps of which some points go."""
    folder = tmp_path_factory.mktemp("models")
    return {"camera": str(untrained(folder / "night", IMAGE)), "audio": str(untrained(folder / "street", SOUND)),
            "lidar": str(untrained(folder / "rain", LIDAR, LIDAR | {"change": "returns"}))}


def test_a_simulated_drive_goes_through_real_networks_and_resumes(models: dict[str, str], tmp_path: Path) -> None:
    models = {stream: models[stream] for stream in ("camera", "lidar")}
    pytest.importorskip("open3d")
    from small_sensor import Small

    from mmcycle.simulate.drive import write_drive

    write_drive(tmp_path / "drive", Small(), steps=2, spacing=6.0, seed=1, size=(160, 64))
    generate(tmp_path / "drive", tmp_path / "whole", models)
    before, after = tree(tmp_path / "drive"), tree(tmp_path / "whole")
    assert set(after) - set(before) == {"manifest.jsonl", ".mmcycle/job.json"} and set(before) <= set(after)
    changed = {name.split("/")[0] for name in before if before[name] != after[name]}
    assert changed == {"image_2", "velodyne", "labels"}         # boxes, masks, poses and calibration hold as they are
    for k in range(2):
        points, labels = len(after[f"velodyne/{k:06}.bin"]) // 16, len(after[f"labels/{k:06}.label"]) // 4
        assert 0 < points == labels < len(before[f"velodyne/{k:06}.bin"]) // 16
    row = next(read_rows(tmp_path / "whole"))
    assert set(row.model) == {"camera", "lidar"} and 0 < row.params["lidar.kept_share"] < 1
    assert verify(tmp_path / "whole").ok

    def stop(job: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "drive", tmp_path / "again", models, progress=stop)
    job = generate(tmp_path / "drive", tmp_path / "again", models)
    assert job.skipped >= 1 and job.done + job.skipped == 2 and tree(tmp_path / "again") == after


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two clips of 20 frames and 0.8 s, the second with a label beside it."""
    pytest.importorskip("av")
    from tiny_clips import clicks, clip, film

    for name in ("dog/a.mp4", "cat/b.webm"):
        (tmp_path / "clips" / name).parent.mkdir(parents=True)
        clip(tmp_path / "clips" / name, film(), clicks())
    return write(tmp_path / "clips", {"cat/b.json": "{}"})


def test_a_clip_is_one_file_of_two_streams(clips: Path, models: dict[str, str], tmp_path: Path) -> None:
    from mmcycle.data.clips import open_clip

    out, runs = tmp_path / "out", {stream: models[stream] for stream in ("camera", "audio")}
    job = generate(clips, out, runs)
    assert "layout clips" in job.outline and "dog/a.mp4 -> dog/a.mp4 (camera+audio)" in job.outline
    rows = list(read_rows(out))
    assert [row.key for row in rows] == ["cat/b", "dog/a"] and [row.tags for row in rows] == [{"class": "cat"}, {"class": "dog"}]
    assert rows[0].streams["camera"] == rows[0].streams["audio"] and rows[0].streams["audio"].translated
    assert set(rows[0].model) == {"camera", "audio"} and rows[0].versions["av"] and rows[0].labels[0].output == "cat/b.json"
    for name in ("dog/a.mp4", "cat/b.webm"):
        before, after = open_clip(clips / name), open_clip(out / name)
        assert after.film.count == before.film.count == 20 and after.track.rate == before.track.rate
        assert (out / name).read_bytes() != (clips / name).read_bytes()
    assert verify(out).ok and verify(out).counts["files"] == 3
    (clips / "cat/b.webm").write_bytes(b"no clip")
    again = tmp_path / "again"
    assert generate(clips, again, runs, on_error="quarantine")[:4] == (1, 0, 1, 2)
    told = json.loads((again / "quarantine.jsonl").read_text())
    assert (told["stream"], told["path"]) == ("camera+audio", "cat/b.webm") and "cat/b.webm" in told["reason"]
    assert (again / "dog/a.mp4").read_bytes() == (out / "dog/a.mp4").read_bytes() and verify(again).ok


def test_the_sound_of_a_clip_alone_is_translated_into_copies(clips: Path, models: dict[str, str], tmp_path: Path) -> None:
    (clips / "cat/b.webm").unlink()
    generate(clips, tmp_path / "out", {"audio": models["audio"]}, copies=2, strength=(0.2, 0.8))
    rows = list(read_rows(tmp_path / "out"))
    assert [row.streams["audio"].output for row in rows] == ["dog/a.mp4", "dog/a_copy1.mp4"]
    assert {name: entry.translated for name, entry in rows[0].streams.items()} == {"camera": False, "audio": True}
    assert rows[0].streams["audio"].sha256 != rows[1].streams["audio"].sha256 and verify(tmp_path / "out").ok
    with pytest.raises(UserError, match="the run of stream 'audio' makes Image of Image; it must make sound of sound"):
        generate(clips, tmp_path / "wrong", {"audio": models["camera"]})


def test_the_clip_whose_labels_are_safest_is_kept(clips: Path, models: dict[str, str], tmp_path: Path) -> None:
    runs = {stream: models[stream] for stream in ("camera", "audio")}
    generate(clips, tmp_path / "all", runs)
    scores = {row.key: min(row.params[f"{stream}.safety"] for stream in runs) for row in read_rows(tmp_path / "all")}
    job = generate(clips, tmp_path / "best", runs, keep_best=0.5)
    (kept,) = read_rows(tmp_path / "best")
    left_out = json.loads((tmp_path / "best/left_out.jsonl").read_text())
    assert job.done == 2 and kept.key == max(scores, key=scores.get) and verify(tmp_path / "best").ok
    assert (left_out["key"], left_out["safety"]) == min(scores.items(), key=lambda item: item[1])


def test_how_smooth_a_film_is_can_be_said_and_belongs_to_the_job(clips: Path, models: dict[str, str], tmp_path: Path) -> None:
    from command import mmcycle, refused
    from tiny_clips import clip, clicks, film

    (clips / "cat/b.webm").unlink()
    grain = np.random.default_rng(0).integers(-8, 9, (20, 32, 48, 1))      # what flickers
    shaky = [(frame.astype(int) + one).clip(0, 255).astype(np.uint8) for frame, one in zip(film(), grain)]
    clip(clips / "dog/a.mp4", shaky, clicks())
    night, out = f"camera={models['camera']}", tmp_path / "out"
    words = ("generate", clips, out, "--with", night, "--smooth")
    assert mmcycle(*words, "0").code == 0
    generate(clips, tmp_path / "usual", {"camera": models["camera"]})
    (bare,), (usual,) = read_rows(out), read_rows(tmp_path / "usual")
    assert (bare.params["camera.smooth"], usual.params["camera.smooth"]) == (0.0, 0.8)
    assert bare.streams["camera"].sha256 != usual.streams["camera"].sha256 and verify(out).ok
    assert "1 skipped" in mmcycle(*words, "0").out
    assert "was begun by a different job: smooth was 0.0 and is now 0.5" in refused(*words, "0.5")
    for wrong in ("1", "-0.1", "nan"):
        assert "it lies from 0, every frame by itself, to below 1" in refused("generate", clips, tmp_path / "z", "--with", night, "--smooth", wrong)
    sound = f"audio={models['audio']}"
    assert "smooth is 0.5, and no films of" in refused("generate", clips, tmp_path / "z", "--with", sound, "--smooth", "0.5")


@pytest.mark.skipif(not RADIATE.is_dir(), reason="needs the shared recordings")
def test_the_page_on_data_sets_makes_moments_of_a_real_drive(runs: dict[str, str], tmp_path: Path) -> None:
    page = (ROOT / "docs/data_sets.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    exec(compile(page.split("```python\n")[1].split("```")[0], "docs/data_sets.md", "exec"), names)
    names["convert"](RADIATE, tmp_path / "drive")
    found = scan(tmp_path / "drive", {"camera": (".jpg",), "lidar": (".npy",)})
    assert found.layout == "streams" and len(found.records) == 9
    assert all(set(record.streams) == {"camera", "lidar", "radar"} and not record.labels for record in found.records)
    told = [json.loads(line) for line in page.split("```json\n")[1].split("```")[0].splitlines()]
    assert told[0]["streams"]["camera"] == found.records[0].streams["camera"] and told[0]["key"] == found.records[0].key
