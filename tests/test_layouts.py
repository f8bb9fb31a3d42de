"""Layouts: what is described, what is refused, what is told."""
import json
import os
import sys
import time
from pathlib import Path

import pytest

from mmcycle.data.layouts import detect_layout, find_layout, known_layouts, scan
from mmcycle.data.layouts.layout import Tree
from mmcycle.errors import UserError

IMAGE = {"image": (".png", ".jpg")}
DATA = Path(__file__).parents[2] / "shared" / "data"


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def coco(root: Path, name: str, images: list[str], value: dict[str, object] | None = None) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    entries = [{"id": number, "file_name": image} for number, image in enumerate(images)]
    (root / name).write_text(json.dumps({"images": entries, "annotations": [], "categories": []} | (value or {})))


def test_a_folder_pairs_recordings_with_the_labels_beside_them(tmp_path):
    put(tmp_path, "a/1.jpg", "a/1.txt", "a/1.jpg.json", "a/1.lines.txt", "a/1_mask.png", "a/2.PNG", "a/3.xml", "classes.txt", "x.npy")
    found = scan(tmp_path, IMAGE)
    assert found.layout == "folder" and [record.key for record in found.records] == ["a/1", "a/2"]
    assert found.records[0].streams == {"image": "a/1.jpg"} and found.records[1].labels == ()
    assert found.records[0].labels == ("a/1.jpg.json", "a/1.lines.txt", "a/1.txt", "a/1_mask.png")
    assert found.tables == ("classes.txt",)
    assert found.strays == (("a/3.xml", "no recording of this name"), ("x.npy", "no recording of this name"))


def test_pictures_in_folders_of_masks_are_labels(tmp_path):
    put(tmp_path, "photos/t/1.jpg", "masks/t/1.png", "masks/t/9.png", "trainB/2.jpg", "trainB_mask/2.png")
    found = scan(tmp_path, IMAGE, "folder")
    assert {record.key: record.labels for record in found.records} == {
        "photos/t/1": ("masks/t/1.png",), "trainB/2": ("trainB_mask/2.png",)}
    assert found.strays == (("masks/t/9.png", "a recording outside of the layout"),)


def test_a_data_set_below_a_folder_that_is_only_called_labels_is_read(tmp_path):
    put(tmp_path, "labels/1.jpg", "labels/1.txt")
    assert [record.labels for record in scan(tmp_path, IMAGE).records] == [("labels/1.txt",)]


def test_streams_of_one_name_are_one_record(tmp_path):
    put(tmp_path, "1.jpg", "1.wav", "1.txt", "2.wav")
    found = scan(tmp_path, IMAGE | {"audio": (".wav",)})
    assert [record.streams for record in found.records] == [{"image": "1.jpg", "audio": "1.wav"}, {"audio": "2.wav"}]
    assert found.records[0].labels == ("1.txt",)


def test_two_recordings_of_one_name_are_refused(tmp_path):
    put(tmp_path, "1.jpg", "1.png")
    with pytest.raises(UserError, match="1.jpg and 1.png share a name.*masks/"):
        scan(tmp_path, IMAGE)


def test_a_file_that_two_streams_could_read_is_refused(tmp_path):
    put(tmp_path, "1.npy")
    with pytest.raises(UserError, match="1.npy could be of stream 'a' or 'b'.*manifest.jsonl"):
        scan(tmp_path, {"a": (".npy",), "b": (".npy",)})


def test_class_folders_tag_class_and_split(tmp_path):
    put(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "test/cat/3.jpg", "test/cat/3.txt")
    found = scan(tmp_path, IMAGE)
    assert found.layout == "classes"
    assert [record.tags for record in found.records] == [
        {"class": "cat", "split": "test"}, {"class": "cat", "split": "train"}, {"class": "dog", "split": "train"}]
    assert found.records[0].labels == ("test/cat/3.txt",)


def test_splits_alone_are_no_classes(tmp_path):
    assert detect_layout(put(tmp_path, "trainA/1.jpg", "trainB/2.jpg"), (".jpg",)) == ("folder", "no other layout fits")


def test_a_recording_outside_of_every_class_is_refused(tmp_path):
    with pytest.raises(UserError, match="1.jpg lies in no folder of a class"):
        scan(put(tmp_path, "1.jpg"), IMAGE, "classes")


def test_a_csv_lists_recordings_labels_and_tags(tmp_path):
    put(tmp_path, "a/1.jpg", "m/1.png", "a/1.json", "a/2.jpg", "a/3.jpg")
    (tmp_path / "labels.csv").write_text("\ufefffile,mask,speaker\r\na/1.jpg,m/1.png,7\r\n./a/2.jpg,,\r\n", encoding="utf-8", newline="")
    found = scan(tmp_path, IMAGE)
    assert found.layout == "table" and found.tables == ("labels.csv",)
    assert found.records[0].labels == ("a/1.json", "m/1.png") and found.records[0].tags == {"speaker": "7"}
    assert found.records[1].streams == {"image": "a/2.jpg"} and found.records[1].tags == {}
    assert found.strays == (("a/3.jpg", "a recording outside of the layout"),)


def test_a_jsonl_may_name_several_streams(tmp_path):
    put(tmp_path, "c/1.jpg", "s/1.wav", "c/2.jpg", "boxes/1.npy")
    rows = [{"camera": "c/1.jpg", "audio": "s/1.wav", "boxes": "boxes/1.npy", "n": 3}, {"camera": "c/2.jpg"}]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = scan(tmp_path, {"camera": (".jpg",), "audio": (".wav",)})
    assert found.records[0].streams == {"camera": "c/1.jpg", "audio": "s/1.wav"}
    assert (found.records[0].labels, found.records[0].tags) == (("boxes/1.npy",), {"n": "3"})


def test_several_rows_of_one_recording_are_one_record_with_what_they_agree_on(tmp_path):
    put(tmp_path, "1.jpg")
    (tmp_path / "labels.csv").write_text("file,split,box\n1.jpg,train,1\n1.jpg,train,2\n")
    assert [record.tags for record in scan(tmp_path, IMAGE).records] == [{"split": "train"}]


@pytest.mark.parametrize("text, match", [
    ("file\n../x.jpg\n", r"'\.\./x\.jpg' is not a path inside"),
    ("file\n/etc/passwd\n", "'/etc/passwd' is not a path inside"),
    ("file\n" + "".join(f"{i}.jpg\n" for i in range(2, 11)), r"9 of the files .* missing, among them 2\.jpg, 3\.jpg, 4\.jpg, 5\.jpg, 6\.jpg; add"),
    ("file,n\n1.jpg\n", "row 2 has 1 cells, the header has 2"),
    ("file,n,n\n1.jpg,1,2\n", "names a column twice"),
    ('file\n"1.jpg\n', "is not a table"),
    ("file,n\n,3\n", "a row names no file"),
    ("file\na/1.jpg\na/1.png\n", "share the name 'a/1'"),
    ("n\n3\n", "needs one of .* with a column file"),
])
def test_a_table_that_cannot_be_trusted_is_refused(tmp_path, text, match):
    put(tmp_path, "1.jpg", "a/1.jpg", "a/1.png")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=match):
        scan(tmp_path, IMAGE, "table")


@pytest.mark.parametrize("line, match", [
    ("[1]", "2: must be an object .* got list"), ('{"file": 3}', "a path must be text, got 3"), ("{", "2: is not JSON"),
    ("[" * 200_000, "2: is not JSON: it is nested too deeply"),
])
def test_a_line_that_is_no_row_is_named(tmp_path, line, match):
    put(tmp_path, "1.jpg")
    (tmp_path / "manifest.jsonl").write_text('{"file": "1.jpg"}\n' + line)
    with pytest.raises(UserError, match=match):
        scan(tmp_path, IMAGE)


def test_a_table_that_is_not_utf8_is_refused(tmp_path):
    put(tmp_path, "1.jpg")
    (tmp_path / "labels.csv").write_bytes(b"file\n\xff.jpg\n")
    with pytest.raises(UserError, match="not UTF-8 text"):
        scan(tmp_path, IMAGE)


@pytest.mark.parametrize("table, pictures, names", [
    ("annotations/instances_train.json", "train/", ["1.jpg", "2.jpg"]),
    ("annotations/instances_val.json", "images/val/", ["1.jpg"]),
    ("annotations.json", "images/", ["1.jpg"]),
    ("train/_annotations.coco.json", "train/", ["1.jpg"]),
    ("annotations.json", "", ["a/1.jpg"]),
])
def test_coco_finds_its_images(tmp_path, table, pictures, names):
    put(tmp_path, *(pictures + name for name in names), "extra.png")
    coco(tmp_path, table, names)
    found = scan(tmp_path, IMAGE)
    assert (found.layout, found.tables) == ("coco", (table,))
    assert [record.streams for record in found.records] == [{"image": pictures + name} for name in names]
    assert found.strays == (("extra.png", "a recording outside of the layout"),)


@pytest.mark.parametrize("value, match", [
    ({"images": 3}, "is not COCO: it must be an object with the lists"),
    ({"images": [{"id": 1}]}, "an image must have `id` and `file_name`"),
    ({"images": [], "annotations": [{"id": 1}]}, "an annotation must have `image_id`"),
    ({"images": [{"id": 1, "file_name": "../1.jpg"}]}, "is not a path inside"),
    ({"images": [{"id": 1, "file_name": "no.jpg"}]}, "1 of its 1 images are missing, among them no.jpg; looked in"),
    ({"images": []}, "no recording in the layout 'coco'"),
])
def test_json_that_is_not_coco_is_refused(tmp_path, value, match):
    put(tmp_path, "1.jpg")
    coco(tmp_path, "annotations/a.json", [], value)
    with pytest.raises(UserError, match=match):
        scan(tmp_path, IMAGE, "coco")


@pytest.mark.parametrize("text, match", [
    ('{"images": [], "annotations": ' + "[" * 200_000, "nested too deeply"), ('{"images" "annotations"', "is not JSON"),
    ("{}", "needs a JSON file"),
])
def test_json_that_cannot_be_read_is_refused(tmp_path, text, match):
    put(tmp_path, "1.jpg")
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=match):
        scan(tmp_path, IMAGE, "coco")


@pytest.mark.parametrize("top, below", [("images/train/", "labels/train/"), ("train/images/", "train/labels/")])
def test_yolo_pairs_parallel_folders(tmp_path, top, below):
    put(tmp_path, top + "1.jpg", below + "1.txt", top.replace("images", "masks") + "1.png", top + "2.jpg", below + "9.txt", "data.yaml")
    found = scan(tmp_path, IMAGE)
    assert found.layout == "yolo" and found.tables == ("data.yaml",)
    assert found.records[0].labels == (below + "1.txt", top.replace("images", "masks") + "1.png")
    assert found.records[1].labels == () and found.strays == ((below + "9.txt", "no recording of this name"),)


def test_voc_pairs_annotations_and_masks_and_keeps_its_lists_as_tables(tmp_path):
    base = "VOCdevkit/VOC2012/"
    put(tmp_path, base + "JPEGImages/1.jpg", base + "Annotations/1.xml", base + "SegmentationClass/1.png", base + "ImageSets/Main/train.txt")
    found = scan(tmp_path, IMAGE)
    assert found.layout == "voc" and found.tables == (base + "ImageSets/Main/train.txt",)
    assert found.records[0].labels == (base + "Annotations/1.xml", base + "SegmentationClass/1.png")
    assert found.records[0].key == base + "JPEGImages/1" and found.strays == ()


def test_kitti_has_the_streams_camera_and_lidar(tmp_path):
    put(tmp_path, *(f"training/{name}" for name in ("image_2/7.png", "velodyne/7.bin", "label_2/7.txt", "calib/7.txt", "velodyne/8.bin")))
    put(tmp_path, "ImageSets/train.txt", "training/label_2/9.txt")
    found = scan(tmp_path, {"camera": (".png",)})
    assert found.layout == "kitti" and [record.key for record in found.records] == ["training/7", "training/8"]
    assert found.records[0].streams == {"camera": "training/image_2/7.png", "lidar": "training/velodyne/7.bin"}
    assert found.records[0].labels == ("training/calib/7.txt", "training/label_2/7.txt")
    assert found.tables == ("ImageSets/train.txt",) and found.strays == (("training/label_2/9.txt", "no recording of this name"),)


def test_cityscapes_pairs_by_the_name_of_the_moment(tmp_path):
    put(tmp_path, "leftImg8bit/train/ulm/ulm_0_1_leftImg8bit.png", "gtFine/train/ulm/ulm_0_1_gtFine_labelIds.png",
        "gtFine/train/ulm/ulm_0_1_gtFine_polygons.json", "gtFine/train/ulm/ulm_0_2_gtFine_polygons.json")
    found = scan(tmp_path, IMAGE)
    assert found.layout == "cityscapes" and found.records[0].key == "train/ulm/ulm_0_1"
    assert found.records[0].labels == (
        "gtFine/train/ulm/ulm_0_1_gtFine_labelIds.png", "gtFine/train/ulm/ulm_0_1_gtFine_polygons.json")
    assert found.records[0].tags == {"split": "train", "city": "ulm"} and len(found.strays) == 1


def test_a_root_that_looks_like_two_layouts_asks_which(tmp_path):
    put(tmp_path, "images/1.jpg", "labels/1.txt")
    coco(tmp_path, "annotations.json", ["1.jpg"])
    with pytest.raises(UserError, match="several layouts: coco because .*; yolo because .* --layout coco or --layout yolo"):
        scan(tmp_path, IMAGE)
    assert scan(tmp_path, IMAGE, "yolo").records[0].labels == ("labels/1.txt",)


def test_a_root_without_recordings_says_what_was_found(tmp_path):
    put(tmp_path, "1.gif", "2.gif")
    with pytest.raises(UserError, match=r"found 2 files \(\.gif: 2\) but no recording .* stream 'image' reads \.png, \.jpg"):
        scan(tmp_path, IMAGE)


def test_a_root_that_is_missing_or_a_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        scan(tmp_path / "no", IMAGE)
    with pytest.raises(UserError, match="is a file"):
        scan(put(tmp_path, "1.jpg") / "1.jpg", IMAGE)


def test_several_streams_in_a_layout_of_one_are_refused(tmp_path):
    with pytest.raises(UserError, match="the layout 'voc' has one stream, but 2 were named: a, b"):
        scan(put(tmp_path, "JPEGImages/1.jpg"), {"a": (".jpg",), "b": (".wav",)})


def test_a_loop_of_links_ends_and_a_name_that_is_not_utf8_is_refused(tmp_path):
    put(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert len(scan(tmp_path, IMAGE, "folder").records) == 1
    (tmp_path / os.fsdecode(b"\xff.jpg")).touch()
    with pytest.raises(UserError, match="not UTF-8"):
        scan(tmp_path, IMAGE)


def test_layouts_are_found_by_name_and_by_import_path(tmp_path, monkeypatch):
    assert {find_layout(name).name for name in known_layouts()} == set(known_layouts())
    assert find_layout("mmcycle.data.layouts.parallel:Voc").name == "voc"
    with pytest.raises(UserError, match="unknown layout 'yola'. Did you mean 'yolo'?"):
        find_layout("yola")
    with pytest.raises(UserError, match="could not be imported"):
        find_layout("mmcycle.nowhere:Voc")
    with pytest.raises(UserError, match="is not a class derived from"):
        find_layout("mmcycle.data.layouts.layout:stem")
    (tmp_path / "unwell.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="layout 'unwell:Drive': unwell:Drive could not be imported: division by zero"):
        find_layout("unwell:Drive")


def test_a_layout_of_another_package_is_found_by_its_entry_point(tmp_path, monkeypatch):
    put(tmp_path, "1.jpg", "site/drive-1.dist-info/entry_points.txt")
    (tmp_path / "site/drive-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: drive\nVersion: 1\n")
    (tmp_path / "site/drive-1.dist-info/entry_points.txt").write_text("[mmcycle.layouts]\ndrive = mmcycle.data.layouts.folder:Folder\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    assert find_layout("drive").name == "folder"


def test_twenty_thousand_files_are_described_in_seconds(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    files = [f"{folder}/{number:06}{suffix}" for folder, suffix in (("images", ".jpg"), ("labels", ".txt")) for number in range(10_000)]
    tree = Tree(tmp_path, tuple(sorted(files)))
    begun = time.process_time()
    for name in ("yolo", "folder"):
        assert len(find_layout(name).collect(tree, IMAGE).records) == 10_000
    assert time.process_time() - begun < 5


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared recordings")
def test_real_sets_are_recognised():
    kitti = scan(DATA / "lidar/kitti_pairs", {"camera": (".jpg",), "lidar": (".bin",)})
    assert kitti.layout == "kitti" and len(kitti.records) == 3 and len(kitti.records[0].labels) == 2
    camvid = scan(DATA / "image/day_dusk_camvid", IMAGE)
    assert camvid.layout == "table" and all(len(record.labels) == 1 for record in camvid.records)
