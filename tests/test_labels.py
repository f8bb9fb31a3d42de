"""Labels of copies: names that stay pairs, and tables that know the copies."""
import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcycle.data.labels import copy_name, remap
from mmcycle.data.layouts import scan
from mmcycle.data.records import Collection

IMAGE = {"image": (".png", ".jpg")}


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def written(collection: Collection, copies: int) -> dict[tuple[str, int], dict[str, str]]:
    return {
        (record.key, copy): {stream: copy_name(path, copy) for stream, path in record.streams.items()}
        for record in collection.records for copy in range(copies)
    }


@pytest.mark.parametrize("path, wanted", [
    ("a/1.jpg", "a/1_copy2.jpg"),
    ("a.b/1", "a.b/1_copy2"),
    ("1.jpg.json", "1_copy2.jpg.json"),
    ("1_mask.png", "1_copy2_mask.png"),
    ("x_0_1_leftImg8bit.png", "x_0_1_copy2_leftImg8bit.png"),
    ("x_0_1_gtFine_labelIds.png", "x_0_1_copy2_gtFine_labelIds.png"),
    ("_mask.png", "_mask_copy2.png"),
])
def test_the_name_of_a_copy_keeps_what_belongs_together(path, wanted):
    assert copy_name(path, 2) == wanted and copy_name(path, 0) == path


@given(st.lists(st.from_regex(r"(a/)?[a-c_]{1,3}(_mask|_gtFine_x)?(\.[ab]{1,2}){0,2}", fullmatch=True), unique=True, max_size=8))
def test_no_two_files_get_the_same_name(paths):
    names = [copy_name(path, copy) for path in paths for copy in range(3)]
    assert len(set(names)) == len(names)


@pytest.fixture
def coco(tmp_path: Path) -> Collection:
    put(tmp_path, "images/1.jpg", "images/2.jpg")
    (tmp_path / "annotations.json").write_text(json.dumps({
        "info": {"year": 2026},
        "images": [{"id": 5, "file_name": "1.jpg", "width": 8}, {"id": 9, "file_name": "2.jpg", "width": 8}],
        "annotations": [{"id": 1, "image_id": 5, "bbox": [1, 2, 3, 4]}, {"id": 4, "image_id": 5, "bbox": [0, 0, 1, 1]},
                        {"id": 3, "image_id": 9, "bbox": [5, 5, 1, 1]}],
        "categories": [{"id": 1, "name": "car"}],
    }))
    return scan(tmp_path, IMAGE)


def test_one_copy_leaves_every_byte_of_a_table(coco):
    assert remap(coco, "annotations.json", written(coco, 1)) == (coco.root / "annotations.json").read_bytes()


def test_coco_gets_images_and_annotations_with_fresh_ids(coco):
    value = json.loads(remap(coco, "annotations.json", written(coco, 2)))
    assert [(image["id"], image["file_name"]) for image in value["images"]] == [
        (5, "1.jpg"), (9, "2.jpg"), (10, "1_copy1.jpg"), (11, "2_copy1.jpg")]
    assert [(one["id"], one["image_id"], one["bbox"]) for one in value["annotations"]] == [
        (1, 5, [1, 2, 3, 4]), (4, 5, [0, 0, 1, 1]), (3, 9, [5, 5, 1, 1]),
        (5, 10, [1, 2, 3, 4]), (6, 10, [0, 0, 1, 1]), (7, 11, [5, 5, 1, 1])]
    assert value["info"] == {"year": 2026} and all(image["width"] == 8 for image in value["images"])


def test_coco_forgets_what_was_not_written(coco):
    names = written(coco, 2)
    del names["images/1", 0], names["images/2", 1]
    value = json.loads(remap(coco, "annotations.json", names))
    assert [image["file_name"] for image in value["images"]] == ["2.jpg", "1_copy1.jpg"]
    assert {one["image_id"] for one in value["annotations"]} == {image["id"] for image in value["images"]}


def test_coco_with_text_for_ids_gets_text(tmp_path):
    put(tmp_path, "1.jpg")
    (tmp_path / "a.json").write_text(json.dumps({"images": [{"id": "copy1", "file_name": "1.jpg"}], "annotations": []}))
    collection = scan(tmp_path, IMAGE)
    value = json.loads(remap(collection, "a.json", written(collection, 2)))
    assert [image["id"] for image in value["images"]] == ["copy1", "copy2"]


def test_the_copies_of_a_remapped_coco_set_are_found_again(coco, tmp_path):
    for name in ("images/1_copy1.jpg", "images/2_copy1.jpg"):
        put(tmp_path, name)
    (tmp_path / "annotations.json").write_bytes(remap(coco, "annotations.json", written(coco, 2)))
    again = scan(tmp_path, IMAGE)
    assert len(again.records) == 4 and again.strays == ()


def test_a_csv_gets_a_row_per_copy_and_its_label_files_follow(tmp_path):
    put(tmp_path, "a/1.jpg", "m/1.png", "a/2.jpg")
    text = 'file,mask,say\r\n./a/1.jpg,m/1.png,"x, y"\r\na/2.jpg,,\r\n'
    (tmp_path / "labels.csv").write_text(text, newline="")
    collection = scan(tmp_path, IMAGE)
    assert remap(collection, "labels.csv", written(collection, 1)) == text.encode()
    wanted = ('file,mask,say\r\n./a/1.jpg,m/1.png,"x, y"\r\n./a/1_copy1.jpg,m/1_copy1.png,"x, y"\r\n'
              "a/2.jpg,,\r\na/2_copy1.jpg,,\r\n")
    assert remap(collection, "labels.csv", written(collection, 2)) == wanted.encode()


def test_a_jsonl_with_several_streams_gets_a_row_per_copy(tmp_path):
    put(tmp_path, "c/1.jpg", "s/1.wav")
    (tmp_path / "manifest.jsonl").write_text('{"camera": "c/1.jpg", "audio": "s/1.wav", "n": 3}\n')
    collection = scan(tmp_path, {"camera": (".jpg",), "audio": (".wav",)})
    rows = [json.loads(line) for line in remap(collection, "manifest.jsonl", written(collection, 2)).splitlines()]
    assert rows == [{"camera": "c/1.jpg", "audio": "s/1.wav", "n": 3}, {"camera": "c/1_copy1.jpg", "audio": "s/1_copy1.wav", "n": 3}]


def test_rows_of_no_record_stay_and_a_table_of_none_keeps_its_bytes(tmp_path):
    put(tmp_path, "1.jpg", "sub/2.jpg")
    (tmp_path / "notes.csv").write_text("word,n\r\ncar,3\n", newline="")
    (tmp_path / "sub" / "boxes.csv").write_text("picture,box\n2.jpg,7\ngone.jpg,8\n")
    collection = scan(tmp_path, IMAGE)
    assert remap(collection, "notes.csv", written(collection, 2)) == b"word,n\r\ncar,3\n"
    rows = list(csv.reader(remap(collection, "sub/boxes.csv", written(collection, 2)).decode().splitlines()))
    assert rows == [["picture", "box"], ["2.jpg", "7"], ["2_copy1.jpg", "7"], ["gone.jpg", "8"]]


def test_a_changed_suffix_reaches_the_table(tmp_path):
    put(tmp_path, "1.jpg")
    (tmp_path / "labels.csv").write_text("file\n1.jpg\n")
    collection = scan(tmp_path, IMAGE)
    names = {("1", 0): {"image": "1.npy"}, ("1", 1): {"image": "1_copy1.npy"}}
    assert remap(collection, "labels.csv", names) == b"file\n1.npy\n1_copy1.npy\n"


def test_the_lists_of_voc_name_the_copies(tmp_path):
    put(tmp_path, "JPEGImages/1.jpg", "JPEGImages/2.jpg", "Annotations/1.xml", "ImageSets/Main/car.txt")
    (tmp_path / "ImageSets/Main/car.txt").write_text("1  1\n2 -1\n7 -1")
    collection = scan(tmp_path, IMAGE)
    assert remap(collection, "ImageSets/Main/car.txt", written(collection, 2)) == b"1  1\n1_copy1  1\n2 -1\n2_copy1 -1\n7 -1"


def test_a_list_of_paths_names_the_copies_and_one_of_classes_does_not(tmp_path):
    put(tmp_path, "images/car.jpg", "images/my cat.jpg", "labels/car.txt")
    (tmp_path / "train.txt").write_text("./images/car.jpg\n./images/my cat.jpg")
    (tmp_path / "classes.txt").write_text("car\nbus\n")
    collection = scan(tmp_path, IMAGE)
    assert collection.tables == ("classes.txt", "train.txt")
    assert remap(collection, "train.txt", written(collection, 2)).decode() == (
        "./images/car.jpg\n./images/car_copy1.jpg\n./images/my cat.jpg\n./images/my cat_copy1.jpg")
    assert remap(collection, "classes.txt", written(collection, 2)) == b"car\nbus\n"


def test_other_tables_keep_their_bytes(tmp_path):
    put(tmp_path, "1.jpg")
    (tmp_path / "data.yaml").write_text("names: [car]\n")
    (tmp_path / "classes.txt").write_bytes(b"\xff\n")
    collection = scan(tmp_path, IMAGE)
    for table in collection.tables:
        assert remap(collection, table, written(collection, 3)) == (tmp_path / table).read_bytes()


def test_labels_and_layouts_import_no_torch():
    import subprocess
    import sys

    code = "import sys, mmcycle.data.labels, mmcycle.data.layouts; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
