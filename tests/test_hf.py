"""Hugging Face data sets, written as Parquet and read as Parquet or Arrow, and shards as `datasets` opens them."""
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_shards import make, negative, picture, pictures, tree

from mmcycle import errors
from mmcycle.data import hf_files
from mmcycle.data.layouts.streams import LISTING
from mmcycle.data.shards import shards_of
from mmcycle.data.unpack import unpack
from mmcycle.errors import UserError
from mmcycle.generate import hf_dataset
from mmcycle.generate.manifest import read_rows, verify

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("source") / "source")


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The library, offline and with a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATASETS_OFFLINE", "HUB_OFFLINE", "HUB_DISABLE_TELEMETRY", "DATASETS_DISABLE_PROGRESS_BARS"):
            patch.setenv(f"HF_{name}", "1")
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        yield pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def packed(datasets: Any, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "out"
    assert make(source, out, "hf")[:4] == (8, 0, 0, 8)
    return out


def load(datasets: Any, *words: str, **options: Any) -> Any:
    return datasets.load_dataset(*words, **options)


# Out

def test_a_folder_with_a_card_and_a_shard_for_each_split_is_written(packed: Path) -> None:
    assert sorted(name for name in tree(packed) if not name.startswith(".mmcycle")) == [
        "README.md", "data/train-00000-of-00001.parquet", "data/val-00000-of-00001.parquet", "manifest.jsonl"]
    card = (packed / "README.md").read_text()
    assert card.startswith("---\nlicense: unknown\nconfigs:") and "Classes: 0 cat, 1 dog." in card
    assert "5" * 64 in card and "License: unknown." in card
    assert verify(packed).ok and verify(packed).counts["files"] == 16


def test_datasets_opens_it_with_types_classes_and_splits(datasets: Any, packed: Path, source: Path) -> None:
    opened = load(datasets, str(packed))
    assert list(opened) == ["train", "val"] and opened["val"].num_rows == 4
    features = opened["val"].features
    assert features["image"] == datasets.Image() and features["label"] == datasets.ClassLabel(names=["cat", "dog"])
    row = opened["val"][3]
    assert (row["key"], row["label"], row["tags"]["class"]) == ("val/dog/dog_1", 1, "dog")
    assert np.array_equal(np.asarray(row["image"]), negative(source / "val/dog/dog.1.png"))
    assert row["txt"] == {"bytes": b"val/dog 1", "path": "dog_1.txt"}
    assert json.loads(row["provenance"])["source"]["png"] == "val/dog/dog.1.png"


def test_the_same_job_gives_the_same_bytes(datasets: Any, packed: Path, source: Path, tmp_path: Path) -> None:
    make(source, tmp_path / "out", "hf")
    one, two = ({name: content for name, content in tree(folder).items() if "job.json" not in name}
                for folder in (packed, tmp_path / "out"))
    assert one == two
    assert make(source, tmp_path / "out", "hf")[:4] == (0, 8, 0, 8)


def test_sounds_are_declared_and_other_files_are_bytes(datasets: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name, suffix, content in (("camera", "png", None), ("mic", "flac", b"fLaC"), ("lidar", "bin", b"points")):
        for number in range(2):
            path = source / f"{name}/{number}.{suffix}"
            picture(path) if content is None else (path.parent.mkdir(exist_ok=True), path.write_bytes(content))
    suffixes = {"camera": "png", "mic": "flac", "lidar": "bin"}
    lines = [{"key": str(number), "streams": {name: f"{name}/{number}.{suffix}" for name, suffix in suffixes.items()}}
             for number in range(2)]
    (source / LISTING).write_text("".join(json.dumps(line) + "\n" for line in lines))
    make(source, tmp_path / "out", "hf", stream="camera")
    features = load(datasets, str(tmp_path / "out"))["train"].features
    assert features["mic"] == datasets.Audio() and features["camera"] == datasets.Image()
    assert features["lidar"] == {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    assert "label" not in features and verify(tmp_path / "out").ok


def test_row_groups_are_small_enough_for_memory(
    datasets: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_dataset, "GROUP_ROWS", 3)
    make(source, tmp_path / "out", "hf")
    with parquet.ParquetFile(tmp_path / "out/data/train-00000-of-00001.parquet") as file:
        assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [3, 1]


def test_without_the_library_it_is_said_before_the_work(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(errors, "import_module", missing)
    with pytest.raises(UserError, match=r"writing .* \(--to hf\) needs mmcycle\[hf\], which did not"):
        make(source, tmp_path / "out", "hf")
    assert not (tmp_path / "out").exists()


def test_datasets_opens_webdataset_shards_with_types(datasets: Any, source: Path, tmp_path: Path) -> None:
    make(source, tmp_path / "out", "webdataset")
    files = {"train": str(tmp_path / "out/train-*.tar")}
    for opened in (load(datasets, "webdataset", data_files=files), load(datasets, str(tmp_path / "out"))):
        features = opened["train"].features
        assert features["png"] == datasets.Image() and features["cls"] == datasets.Value("int64")
        assert opened["train"][3]["__key__"] == "train/dog/dog_1" and opened["train"][3]["cls"] == 1
        assert opened["train"][3]["txt"] == "train/dog 1"
        assert opened["train"][3]["json"]["tags"] == {"class": "dog", "split": "train"}


def test_samples_of_different_files_are_opened_by_the_card(datasets: Any, tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / f"source/{number}.png", seed=number)
    (tmp_path / "source/1.txt").write_text("only one has a label")
    make(tmp_path / "source", tmp_path / "out", "webdataset")
    opened = load(datasets, str(tmp_path / "out"))["train"]
    assert opened["txt"][:] == [None, "only one has a label", None]


# In

def test_a_packed_set_becomes_a_folder_again(packed: Path, source: Path, tmp_path: Path) -> None:
    make(packed, tmp_path / "out")
    row = next(row for row in read_rows(tmp_path / "out") if row.key == "val/dog/dog_1")
    assert row.streams["image"].source == "data/val-00000-of-00001.parquet!3/image"
    assert row.tags == {"class": "dog", "split": "val"} and row.streams["image"].output == "val/dog/dog_1.png"
    assert (tmp_path / "out/val/dog/dog_1.txt").read_bytes() == b"val/dog 1"
    original = np.asarray(Image.open(source / "val/dog/dog.1.png"))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out/val/dog/dog_1.png")), original)
    assert verify(tmp_path / "out").ok and make(packed, tmp_path / "out")[:4] == (0, 8, 0, 8)


def test_what_save_to_disk_wrote_is_a_source(datasets: Any, tmp_path: Path) -> None:
    features = datasets.Features({
        "image": datasets.Image(), "mask": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"]),
        "weather": datasets.Value("string"), "caption": datasets.Value("string"),
        "boxes": [[datasets.Value("float32")]],
    })
    images, masks = ([picture_bytes(seed), picture_bytes(seed + 1)] for seed in (0, 2))
    rows = {"image": images, "mask": masks, "label": [1, 0],
            "weather": ["fog", "rain"], "boxes": [[[1, 2, 3, 4]], []], "caption": ["a" * 300, "short"]}
    test = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"test": test}).save_to_disk(tmp_path / "source")
    make(tmp_path / "source", tmp_path / "out", "webdataset")
    first, second = read_rows(tmp_path / "out")
    assert first.key == "test/00000000" and first.streams["image"].source == "test/data-00000-of-00001.arrow!0/image"
    assert first.tags == {"class": "dog", "split": "test", "weather": "fog"}
    assert second.tags == {"class": "cat", "split": "test", "weather": "rain", "caption": "short"}
    assert [label.output.partition(".tar!")[2] for label in first.labels] == [
        f"test/00000000.{field}" for field in ("boxes.json", "caption.txt", "mask.png")]
    assert verify(tmp_path / "out").ok


def picture_bytes(seed: int) -> dict[str, Any]:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


def test_parquet_of_others_needs_no_declared_types(tmp_path: Path) -> None:
    rows = [{"img": picture_bytes(number), "key": "../escape", "n": number} for number in range(2)]
    write(tmp_path / "source/train-00000-of-00001.parquet", rows)
    make(tmp_path / "source", tmp_path / "out")
    assert [row.key for row in read_rows(tmp_path / "out")] == ["train/00000000", "train/00000001"]
    assert [row.tags for row in read_rows(tmp_path / "out")] == [
        {"key": "../escape", "n": str(number), "split": "train"} for number in range(2)]
    assert (tmp_path / "out/train/00000000.img.png").exists()


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.Table.from_pylist(rows), path)
    return path


OWN = json.dumps({"mmcycle": "0", "source_sha256": {}, "sha256": {"../../x": ""}, "streams": {"img": "/etc/x", "b": 3},
                  "tags": {"k": 1, "\n": "x", "fine": "yes"}})


def test_provenance_of_a_stranger_is_not_believed(tmp_path: Path) -> None:
    write(tmp_path / "in/a.parquet", [{"img": picture_bytes(0), "provenance": OWN}])
    (tmp_path / "new").mkdir()
    unpack(tmp_path / "in", shards_of(tmp_path / "in"), tmp_path / "new", {"image": (".png",)})
    assert json.loads((tmp_path / "new" / LISTING).read_text()) == {
        "key": "00000000", "streams": {"image": "00000000.img.png"}, "labels": [], "tags": {"fine": "yes"}}


@pytest.mark.parametrize(("rows", "message"), [
    ([{"image": {"bytes": None, "path": "/etc/passwd"}}], "a.parquet!0/image: names a file and does"),
    ([{"text": "x"}], "hold no samples"),
    ([{"sound": {"bytes": b"fLaC", "path": "a.flac"}}], "has sound.flac and none that a run reads .image: .png"),
])
def test_what_cannot_be_used_is_refused_by_name(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    write(tmp_path / "in/a.parquet", rows)
    with pytest.raises(UserError, match=message):
        make(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_broken_table_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(UserError, match=f"{name}: cannot be read as a table of Parquet or Arrow"):
        list(hf_files.rows(tmp_path / name))
    with pytest.raises(UserError, match=f"{name}: cannot be read as a table of Parquet or Arrow"):
        hf_files.class_names(tmp_path / name)


@pytest.mark.parametrize(("value", "suffix"), [
    ({"bytes": b"", "path": "a/b.JPG"}, "jpg"), ({"bytes": b"\x89PNG", "path": None}, "png"), (b"\xff\xd8\xff", "jpg"),
    (b"RIFF....WAVE", "wav"), (b"RIFF....WEBP", "webp"), (b"?", "bin"), ({"bytes": b"?", "path": "x.../.."}, "bin"),
    ({"bytes": b"", "path": "x.pcd.bin"}, "pcd"),
])
def test_a_cell_is_named_by_its_path_or_its_first_bytes(value: Any, suffix: str) -> None:
    assert hf_files.suffix(value) == suffix
