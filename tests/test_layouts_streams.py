"""Layouts with several streams: what shares a moment, whose labels are whose, and what a hostile listing may not do."""
import json
from pathlib import Path

import pytest

from mmcycle.data.layouts import detect_layout, scan
from mmcycle.errors import UserError

BOTH = {"camera": (".jpg", ".png"), "lidar": (".bin",)}
DATA = Path(__file__).parents[2] / "shared" / "data"


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def listing(root: Path, *lines: object) -> Path:
    (root / "streams.jsonl").write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return root


def test_a_moment_of_kitti_has_its_streams_and_knows_whose_its_labels_are(tmp_path):
    names = ("image_2/7.png", "image_3/7.png", "velodyne/7.bin", "label_2/7.txt", "calib/7.txt", "labels/7.label", "semantic/7.png")
    put(tmp_path, *(f"training/{name}" for name in names), "testing/image_2/8.png", "testing/calib/8.txt", "readme.txt")
    found = scan(tmp_path, BOTH)
    assert found.layout == "kitti" and [record.key for record in found.records] == ["testing/8", "training/7"]
    assert [record.tags for record in found.records] == [{"split": "testing"}, {"split": "training"}]
    moment = found.records[1]
    assert moment.streams == {"camera": "training/image_2/7.png", "camera_right": "training/image_3/7.png",
                              "lidar": "training/velodyne/7.bin"}
    whose = {label.split("/")[1]: moment.streams_of(label) for label in moment.labels}
    assert whose == {"calib": ("camera", "camera_right", "lidar"), "label_2": ("camera", "lidar"), "labels": ("lidar",),
                     "semantic": ("camera",)}
    assert found.tables == ("readme.txt",) and found.strays == ()


def test_a_simulated_drive_is_kitti_with_nothing_left_out(tmp_path):
    kinds = {"image_2": "png", "semantic": "png", "velodyne": "bin", "labels": "label", "label_2": "txt", "calib": "txt", "boxes": "txt"}
    put(tmp_path, *(f"{kind}/{k:06d}.{suffix}" for kind, suffix in kinds.items() for k in range(2)), "drive.json", "poses.txt")
    found = scan(tmp_path, BOTH)
    assert found.layout == "kitti" and [record.key for record in found.records] == ["000000", "000001"]
    assert found.tables == ("drive.json", "poses.txt") and found.strays == () and len(found.records[0].labels) == 5


def nuscenes(root: Path, key_frames: int = 2) -> Path:
    """Two sensors, `key_frames` samples of one scene, one sweep of the camera between them, labels of points."""
    rows, samples, labels = [], [], []
    for k in range(key_frames):
        samples.append({"token": f"s{k}", "scene_token": "scene", "timestamp": k})
        for sensor, suffix in (("CAM_FRONT", "jpg"), ("LIDAR_TOP", "pcd.bin")):
            rows.append({"token": f"{sensor}{k}", "sample_token": f"s{k}", "is_key_frame": True,
                         "filename": f"samples/{sensor}/{k}.{suffix}"})
        labels.append({"token": f"l{k}", "sample_data_token": f"LIDAR_TOP{k}", "filename": f"lidarseg/v1.0-mini/l{k}_lidarseg.bin"})
    rows.append({"token": "between", "sample_token": "s0", "is_key_frame": False, "filename": "sweeps/CAM_FRONT/9.jpg"})
    tables = {"sample_data": rows, "sample": samples, "lidarseg": labels, "scene": [{"token": "scene", "name": "scene-0061"}],
              "sample_annotation": []}
    put(root, *(row["filename"] for row in rows + labels), "maps/a.png")
    for name, table in tables.items():
        put(root, f"v1.0-mini/{name}.json").joinpath(f"v1.0-mini/{name}.json").write_text(json.dumps(table))
    return root


def test_nuscenes_is_joined_by_its_tables(tmp_path):
    found = scan(nuscenes(tmp_path), {"CAM_FRONT": (".jpg",), "LIDAR_TOP": (".bin",)})
    assert found.layout == "nuscenes" and [record.key for record in found.records] == ["s0", "s1", "sweeps/CAM_FRONT/9"]
    assert found.records[0].streams == {"CAM_FRONT": "samples/CAM_FRONT/0.jpg", "LIDAR_TOP": "samples/LIDAR_TOP/0.pcd.bin"}
    assert found.records[2].streams == {"CAM_FRONT": "sweeps/CAM_FRONT/9.jpg"}
    assert [record.tags for record in found.records] == [{"scene": "scene-0061"}] * 3
    label = "lidarseg/v1.0-mini/l0_lidarseg.bin"
    assert found.records[0].labels == (label,) and found.records[0].streams_of(label) == ("LIDAR_TOP",)
    assert found.strays == () and "maps/a.png" in found.tables and "v1.0-mini/sample_annotation.json" in found.tables


def test_what_nuscenes_names_and_has_not_is_told(tmp_path):
    (nuscenes(tmp_path) / "samples/CAM_FRONT/1.jpg").unlink()
    found = scan(tmp_path, {"CAM_FRONT": (".jpg",)})
    assert found.records[1].streams == {"LIDAR_TOP": "samples/LIDAR_TOP/1.pcd.bin"}
    assert found.strays == (("samples/CAM_FRONT/1.jpg", "v1.0-mini/sample_data.json names it, but there is no such recording"),)


def test_nuscenes_without_its_tables_is_refused(tmp_path):
    put(tmp_path, "samples/CAM_FRONT/1.jpg", "samples/LIDAR_TOP/1.pcd.bin")
    with pytest.raises(UserError, match=r"stands in the tables of a folder v1.0-\*/ .* not there; .* --layout folder"):
        scan(tmp_path, {"CAM_FRONT": (".jpg",)})
    assert len(scan(tmp_path, {"image": (".jpg",)}, "folder").records) == 1


@pytest.mark.parametrize("text, match", [
    ("{", "sample_data.json: is not JSON"), ("{}", "must be a list of rows, got dict"),
    ('[{"token": "a", "filename": "x"}]', "a row must have token, sample_token, filename, each printable text; got"),
    ('[{"token": "a", "sample_token": "\\ud800", "filename": "x"}]', "each printable text"),
    ('[{"token": "a", "sample_token": "b", "filename": "../x.jpg"}]', "'../x.jpg' is not a path inside"),
    ("[" * 200_000, "sample_data.json: is not JSON"),
])
def test_tables_of_nuscenes_that_cannot_be_trusted_are_refused(tmp_path, text, match):
    (nuscenes(tmp_path) / "v1.0-mini/sample_data.json").write_text(text)
    with pytest.raises(UserError, match=match):
        scan(tmp_path, {"CAM_FRONT": (".jpg",)})


def test_a_listing_names_streams_labels_and_tags(tmp_path):
    put(tmp_path, "left/1.jpg", "left/2.jpg", "top/1.bin", "top/1.label", "boxes/1.json", "calib.txt", "radar/1.jpg")
    listing(tmp_path, {"key": "1", "streams": {"camera": "left/1.jpg", "lidar": "./top/1.bin"}, "tags": {"fog": True, "m": 1.5},
                       "labels": {"top/1.label": ["lidar"], "boxes/1.json": ["camera", "lidar"]}},
            "", {"key": "2", "streams": {"camera": "left/2.jpg", "lidar": "top/1.bin"}, "labels": ["calib.txt"], "tags": {"class": "dog"}})
    found = scan(tmp_path, BOTH)
    assert found.layout == "streams" and found.tables == ("streams.jsonl",)
    first, second = found.records
    assert first.streams == {"camera": "left/1.jpg", "lidar": "top/1.bin"} and first.tags == {"fog": "true", "m": "1.5"}
    assert first.labels == ("boxes/1.json", "top/1.label") and first.streams_of("top/1.label") == ("lidar",)
    assert second.streams_of("calib.txt") == ("camera", "lidar") and second.tags == {"class": "dog"}
    assert found.strays == (("radar/1.jpg", "a recording outside of the layout"),)


def test_a_listing_is_believed_before_the_names_of_folders(tmp_path):
    listing(put(tmp_path, "image_2/1.png"), {"key": "1", "streams": {"camera": "image_2/1.png"}})
    assert detect_layout(tmp_path, (".png",)) == ("streams", "streams.jsonl names its streams")


@pytest.mark.parametrize("line, match", [
    ('{"key": "2", "streams": {"camera": "../1.jpg"}}', r"jsonl:2: '\.\./1\.jpg' is not a path inside"),
    ('{"key": "2", "streams": {"camera": "/etc/passwd"}}', "jsonl:2: '/etc/passwd' is not a path inside"),
    ('{"key": "2", "streams": {"camera": "1.jpg"}, "labels": ["../../x"]}', "jsonl:2: '../../x' is not a path inside"),
    ('{"key": "2", "streams": {"camera": "x/../../1.jpg"}}', "jsonl:2: 'x/../../1.jpg' is not a path inside"),
    ('{"key": "2", "streams": {"camera": "7.jpg"}}', r"1 of the files that it names are missing, among them 7.jpg \(line 2\)"),
    ('{"key": "2", "streams": {"camera": ["1.jpg"]}}', r"jsonl:2: a path must be text, got \['1.jpg'\]"),
    ('{"key": "2", "streams": {}}', "jsonl:2: `streams` must name at least one recording"),
    ('{"key": "2", "streams": "1.jpg"}', "jsonl:2: `streams` must be an object, got 1.jpg"),
    ('{"key": "2"}', "jsonl:2: `streams` must name"),
    ('{"streams": {"camera": "1.jpg"}}', "jsonl:2: `key` must be 1 to 200 printable characters, got None"),
    ('{"key": "a\\nb", "streams": {"camera": "1.jpg"}}', "jsonl:2: `key` must be 1 to 200 printable"),
    ('{"key": "\\ud800", "streams": {"camera": "1.jpg"}}', "jsonl:2: `key` must be 1 to 200 printable"),
    ('{"key": "1", "streams": {"camera": "1.jpg"}}', "jsonl:2: the key '1' is that of line 1 already"),
    ('{"key": "2", "streams": {"camera": "1.jpg"}, "label": []}', "jsonl:2: 'label' is unknown; a line has key, streams, labels, tags"),
    ('{"key": "2", "streams": {"camera": "1.jpg"}, "labels": 3}', "jsonl:2: `labels` must be a list of paths or an object, got 3"),
    ('{"key": "2", "streams": {"camera": "1.jpg"}, "labels": {"1.txt": ["lidar"]}}', "'1.txt' must speak of a list of streams among camera"),
    ('{"key": "2", "streams": {"camera": "1.jpg"}, "tags": {"a": []}}', "jsonl:2: the tag 'a' must be text or a number"),
    ("[1]", "jsonl:2: must be an object"), ("{", "jsonl:2: is not JSON"),
])
def test_a_listing_that_cannot_be_trusted_is_refused_with_its_line(tmp_path, line, match):
    put(tmp_path, "1.jpg", "1.txt")
    with pytest.raises(UserError, match=match):
        scan(listing(tmp_path, {"key": "1", "streams": {"camera": "1.jpg"}}, line), BOTH)


def test_a_root_without_a_listing_says_what_one_looks_like(tmp_path):
    with pytest.raises(UserError, match=r"needs a streams.jsonl in the root, with lines such as .*left/12.jpg"):
        scan(put(tmp_path, "1.jpg"), BOTH, "streams")


def test_clips_have_two_streams_in_one_file_and_the_class_of_their_folder(tmp_path):
    put(tmp_path, "train/dog/a.mp4", "train/dog/a.json", "test/cat/b.MKV", "c.webm", "videos/d.avi", "labels.csv", "dog.jpg")
    found = scan(tmp_path, {"camera": (".jpg",), "audio": (".wav",)})
    assert found.layout == "clips" and [record.key for record in found.records] == ["c", "test/cat/b", "train/dog/a", "videos/d"]
    assert [record.tags for record in found.records] == [
        {}, {"class": "cat", "split": "test"}, {"class": "dog", "split": "train"}, {}]
    assert found.records[2].streams == {"camera": "train/dog/a.mp4", "audio": "train/dog/a.mp4"}
    assert found.records[2].labels == ("train/dog/a.json",) and found.tables == ("labels.csv",)
    assert found.strays == (("dog.jpg", "no recording of this name"),)


def test_a_film_among_photographs_makes_no_set_of_clips(tmp_path):
    put(tmp_path, "1.jpg", "2.jpg", "trip.mp4")
    assert scan(tmp_path, {"image": (".jpg",)}).layout == "folder"
    with pytest.raises(UserError, match="found 1 files .* but no recording in the layout 'clips'; stream 'camera' reads .mp4"):
        scan(put(tmp_path / "sub", "1.jpg"), {"camera": (".jpg",)}, "clips")


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared recordings")
def test_real_pairs_and_clips_are_recognised():
    pairs = scan(DATA / "lidar/kitti_pairs", BOTH)
    assert pairs.layout == "kitti" and pairs.strays == () and len(pairs.records) == 3
    clips = scan(DATA / "av", {"camera": (".jpg",), "audio": (".flac", ".wav")})
    assert clips.layout == "clips" and len(clips.records) == 22
    assert {record.tags["class"] for record in clips.records} == {"avse", "events", "grid", "lrs3"}
