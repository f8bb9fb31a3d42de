"""Data sets packed into WebDataset shards and out of them: names, provenance, and the same bytes after a kill."""
import hashlib
import io
import json
import os
import signal
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_shards import make, negative, picture, pictures, tree

from mmcycle import files
from mmcycle.data.shards import hashes, shards_of
from mmcycle.data.unpack import unpack
from mmcycle.errors import MmcycleError, UserError
from mmcycle.generate import packing
from mmcycle.generate.manifest import read_rows, verify
from mmcycle.interruption import Interrupted


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            add(tar, name, content)
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(content))


def members_of(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}


def png(seed: int = 0) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("source") / "source")


@pytest.fixture(scope="module")
def packed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "out"
    assert make(source, out, "webdataset")[:4] == (8, 0, 0, 8)
    return out


# Out

def test_there_is_a_shard_for_each_split_and_a_member_for_each_file(packed: Path) -> None:
    assert sorted(path.name for path in packed.iterdir()) == [
        ".mmcycle", "README.md", "manifest.jsonl", "train-000000.tar", "val-000000.tar"]
    assert list(members_of(packed / "train-000000.tar")) == [
        f"train/{kind}/{kind}_{number}.{field}"
        for kind in ("cat", "dog") for number in range(2) for field in ("cls", "json", "png", "txt")]


def test_a_member_holds_the_translation_the_label_and_the_number_of_the_class(packed: Path, source: Path) -> None:
    members = members_of(packed / "val-000000.tar")
    translated = np.asarray(Image.open(io.BytesIO(members["val/dog/dog_1.png"])))
    assert np.array_equal(translated, negative(source / "val/dog/dog.1.png"))
    assert members["val/dog/dog_1.txt"] == b"val/dog 1"
    assert (members["val/cat/cat_0.cls"], members["val/dog/dog_0.cls"]) == (b"0", b"1")


def test_the_json_of_a_sample_says_where_it_came_from(packed: Path, source: Path) -> None:
    members = members_of(packed / "val-000000.tar")
    about = json.loads(members["val/cat/cat_0.json"])
    original = source / "val/cat/cat.0.png"
    row = next(row for row in read_rows(packed) if row.key == "val/cat/cat.0")
    assert (about["key"], about["copy"], about["class"], about["strength"]) == ("val/cat/cat.0", 0, "cat", 1.0)
    assert about["source"] == {"png": "val/cat/cat.0.png", "txt": "val/cat/cat.0.txt"}
    assert about["source_sha256"]["png"] == hashlib.sha256(original.read_bytes()).hexdigest()
    assert about["sha256"]["png"] == hashlib.sha256(members["val/cat/cat_0.png"]).hexdigest()
    assert about["model"] == {"image": {"sha256": "5" * 64, "direction": "ab", "run": "negative"}}
    assert about["seed"] == row.seed and about["tags"] == {"class": "cat", "split": "val"}
    assert about["facts"] == {"image.mean_level": np.asarray(Image.open(original)).mean()}
    assert row.streams["image"].output == "val-000000.tar!val/cat/cat_0.png"


def test_nobody_owns_a_member_and_no_time_is_written(packed: Path) -> None:
    with tarfile.open(packed / "train-000000.tar") as tar:
        assert {(one.mtime, one.uid, one.gid, one.uname, one.mode) for one in tar} == {(0, 0, 0, "", 0o644)}


def test_shards_are_as_full_as_their_size_allows(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MEGABYTE", 1500)      # one sample of about 1 kB fits, two do not
    make(source, tmp_path / "out", "webdataset", shard_mb=1)
    names = sorted(path.name for path in (tmp_path / "out").glob("*.tar"))
    assert names == [f"{split}-{number:06}.tar" for split in ("train", "val") for number in range(4)]
    assert verify(tmp_path / "out").ok


def test_copies_are_samples_of_their_own(source: Path, tmp_path: Path) -> None:
    make(source, tmp_path / "out", "webdataset", copies=2, strength=(0.5, 1))
    names = [name for name in members_of(tmp_path / "out/train-000000.tar") if name.endswith("json")]
    assert names[:2] == ["train/cat/cat_0.json", "train/cat/cat_0_copy1.json"] and len(names) == 8
    assert verify(tmp_path / "out").ok


def test_masks_tables_and_names_that_readers_would_pass_over(tmp_path: Path) -> None:
    source = tmp_path / "source"
    picture(source / "__own__/_a.b.png")
    picture(source / "__own__/_a_b.png")
    picture(source / "masks/_a_b.png")
    (source / "__own__/_a_b.json").write_text("{}")
    (source / "README.md").write_text("theirs")
    make(source, tmp_path / "out", "webdataset", layout="folder")
    assert [name for name in members_of(tmp_path / "out/train-000000.tar")] == [
        "_own__/_a_b.json", "_own__/_a_b.png",
        "_own__/_a_b-2.json", "_own__/_a_b-2.label.json", "_own__/_a_b-2.masks.png", "_own__/_a_b-2.png"]
    assert (tmp_path / "out/README.source.md").read_text() == "theirs" and verify(tmp_path / "out").ok


def test_streams_are_members_under_their_names(tmp_path: Path) -> None:
    source = tmp_path / "source/training"
    for number in range(2):
        picture(source / f"image_2/{number:06}.png")
        for folder, suffix in (("velodyne", "bin"), ("calib", "txt"), ("label_2", "txt")):
            (source / folder).mkdir(exist_ok=True)
            (source / f"{folder}/{number:06}.{suffix}").write_text(f"{folder} {number}")
    make(source.parent, tmp_path / "out", "webdataset", stream="camera")
    members = members_of(tmp_path / "out/training-000000.tar")
    assert [name.partition(".")[2] for name in members][:5] == [
        "calib.txt", "camera.png", "json", "label_2.txt", "lidar.bin"]
    assert members["training/000001.lidar.bin"] == b"velodyne 1" and verify(tmp_path / "out").ok


@pytest.mark.filterwarnings("ignore:Exception ignored in")         # webdataset leaves its files to be closed
def test_webdataset_opens_what_is_written(packed: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    data = webdataset.WebDataset(str(packed / "train-000000.tar"), shardshuffle=False).decode("pil")
    first, *others = list(data)
    assert len(others) == 3 and first["__key__"] == "train/cat/cat_0"
    assert (first["cls"], first["txt"], first["png"].size) == (0, "train/cat 0", (5, 6))
    assert first["json"]["source"]["png"] == "train/cat/cat.0.png"


# A kill, a signal, a rerun

def test_a_finished_job_does_no_work_and_another_one_is_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(source, out, "webdataset")
    before = tree(out)
    assert make(source, out, "webdataset")[:4] == (0, 8, 0, 8)
    assert tree(out) == before
    with pytest.raises(UserError, match="different job: seed was 0 and is now 1"):
        make(source, out, "webdataset", seed=1)
    with pytest.raises(UserError, match="different job: shard_mb was 256 and is now 5"):
        make(source, out, "webdataset", shard_mb=5)
    with pytest.raises(UserError, match="different job: to was webdataset and is now hf"):
        make(source, out, "hf")
    with pytest.raises(UserError, match="layout was \"classes, packed as webdataset\" and is now \"classes\""):
        make(source, out)
    (out / "val-000000.tar").unlink()
    with pytest.raises(UserError, match="val-000000.tar is no longer there; delete .*out and run the line again"):
        make(source, out, "webdataset")


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


def killed_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Callable[[], None]:
    """Die at the given rename or removal; gives what calls it off."""
    steps: Iterator[int] = iter(range(step, -1, -1))

    def dying(act: Callable) -> Callable:
        def die(*words: object, **options: object) -> object:
            if next(steps, -1) == 0:
                raise Killed
            return act(*words, **options)
        return die

    patch = monkeypatch.context()
    opened = patch.__enter__()
    opened.setattr(os, "replace", dying(os.replace))
    opened.setattr(Path, "unlink", dying(Path.unlink))
    return lambda: patch.__exit__(None, None, None)


@pytest.mark.parametrize("to", ["webdataset", "folder"])
def test_killed_at_any_step_and_run_again_gives_the_same_bytes(
    to: str, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From shards, so that unpacking dies too; every thirteenth rename or removal is the last one."""
    make(packed, tmp_path / "whole", to)
    whole = {name: content for name, content in tree(tmp_path / "whole").items() if not name.startswith(".mmcycle")}
    deaths, step = 0, 0
    while True:
        out = tmp_path / f"killed-{step}"
        call_off = killed_at(monkeypatch, step)
        try:
            make(packed, out, to)
            break
        except Killed:
            deaths += 1
        finally:
            call_off()
        job = make(packed, out, to)
        assert job.done + job.skipped == 8
        found = {name: content for name, content in tree(out).items() if not name.startswith(".mmcycle")}
        assert found == whole and verify(out).ok, step
        assert not (out / ".mmcycle/packing.json").exists() and not (out / ".mmcycle/unpacked").exists()
        step += 13
    assert deaths >= 4


def test_a_signal_ends_the_shard_in_hand(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = packing.FORMATS["webdataset"].write_shard

    def interrupt(*words: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        write(*words)

    monkeypatch.setattr(packing.FORMATS["webdataset"], "write_shard", interrupt)
    with pytest.raises(Interrupted, match="stopped by SIGTERM after the shard in hand; run the same line again"):
        make(source, tmp_path / "out", "webdataset")
    assert [path.name for path in (tmp_path / "out").glob("*.tar")] == ["train-000000.tar"]
    monkeypatch.undo()
    assert make(source, tmp_path / "out", "webdataset")[:4] == (0, 8, 0, 8)
    assert verify(tmp_path / "out").ok


def test_no_more_than_one_shard_lies_twice_on_the_disk(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loose: list[int] = []
    write = packing.FORMATS["webdataset"].write_shard

    def count(*words: object) -> None:
        loose.append(len(list((tmp_path / "out/.mmcycle/loose").rglob("*.png"))))
        write(*words)

    monkeypatch.setattr(packing.FORMATS["webdataset"], "write_shard", count)
    make(source, tmp_path / "out", "webdataset")
    assert loose == [8, 4]


def test_a_dry_run_writes_nothing(source: Path, packed: Path, tmp_path: Path) -> None:
    told = make(source, tmp_path / "out", "webdataset", dry_run=True)
    assert told.total == 8 and f"{source}: 8 records" in told.outline and "packed --to webdataset" in told.outline
    told = make(packed, tmp_path / "out", dry_run=True)
    assert told.total == 8 and f"{packed}: 8 records" in told.outline and "unpacked from 2 shards" in told.outline
    assert not (tmp_path / "out").exists()


def test_what_is_quarantined_is_in_no_shard(source: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "source")
    (tmp_path / "source/val/cat/cat.1.png").write_bytes(b"broken")
    out = tmp_path / "out"
    assert make(tmp_path / "source", out, "webdataset", on_error="quarantine")[:4] == (7, 0, 1, 8)
    assert make(tmp_path / "source", out, "webdataset", on_error="quarantine")[:4] == (0, 7, 1, 8)
    assert verify(out).ok and verify(out).counts["quarantined"] == 1
    assert not any("cat_1" in name for name in members_of(out / "val-000000.tar"))


def test_a_folder_of_somebody_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.doc").write_text("x")
    with pytest.raises(UserError, match="out: is not empty and was not begun by generate"):
        make(source, tmp_path / "out", "webdataset")
    with pytest.raises(UserError, match="thesis.doc: is a file; name a new folder"):
        make(source, tmp_path / "out/thesis.doc", "webdataset")
    with pytest.raises(UserError, match="must lie apart"):
        make(source, source / "out", "webdataset")
    with pytest.raises(UserError, match="to is 'zip'; it must be one of 'folder', 'webdataset', 'hf'"):
        make(source, tmp_path / "other", "zip")
    begun = tmp_path / "begun"
    make(source, begun)
    with pytest.raises(UserError, match="different job: to was folder and is now webdataset"):
        make(source, begun, "webdataset")


# Verify

@pytest.mark.parametrize(("change", "problem"), [
    (lambda shard: shard.unlink(), "val-000000.tar!val/cat/cat_0.png: is missing"),
    (lambda shard: change_byte(shard, b"val/cat 0"), "cat_0.txt: its bytes are not those that were written"),
    (lambda shard: change_byte(shard, b'"strength"'), "val-000000.tar: its bytes are not those that were written"),
    (lambda shard: shard.write_bytes(shard.read_bytes()[:1000]), "val-000000.tar: "),
    (lambda shard: (shard.parent / "more-000000.tar").write_bytes(b""), "more-000000.tar: the manifest does not know"),
])
def test_verify_looks_into_shards(packed: Path, tmp_path: Path, change: Callable[[Path], None], problem: str) -> None:
    for name, content in tree(packed).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert verify(tmp_path).ok
    change(tmp_path / "val-000000.tar")
    assert any(problem in one for one in verify(tmp_path).problems)


def change_byte(shard: Path, word: bytes) -> None:
    content = shard.read_bytes()
    shard.write_bytes(content.replace(word, word.swapcase(), 1))


# In

def test_shards_become_a_folder_again_and_every_file_is_traced(packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(packed, out)
    rows = {row.key: row for row in read_rows(out)}
    assert rows["val/dog/dog_1"].streams["image"].source == "val-000000.tar!val/dog/dog_1.png"
    assert rows["val/dog/dog_1"].labels[0].source == "val-000000.tar!val/dog/dog_1.txt"
    assert rows["val/dog/dog_1"].tags == {"class": "dog", "split": "val"}
    original = io.BytesIO(members_of(packed / "val-000000.tar")["val/dog/dog_1.png"])
    assert np.array_equal(np.asarray(Image.open(out / "val/dog/dog_1.png")), 255 - np.asarray(Image.open(original)))
    assert (out / "val/dog/dog_1.txt").read_text() == "val/dog 1" and verify(out).ok
    assert make(packed, out)[:4] == (0, 8, 0, 8)


def test_shards_become_shards_of_the_same_members(packed: Path, tmp_path: Path) -> None:
    make(packed, tmp_path / "out", "webdataset")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.*")) == [
        ".mmcycle", "README.md", "manifest.jsonl", "train-000000.tar", "val-000000.tar"]
    one, two = (members_of(folder / "val-000000.tar") for folder in (packed, tmp_path / "out"))
    assert list(one) == list(two) and one["val/cat/cat_0.cls"] == two["val/cat/cat_0.cls"]
    assert json.loads(two["val/cat/cat_0.json"])["source"]["png"] == "val-000000.tar!val/cat/cat_0.png"
    assert verify(tmp_path / "out").ok


def test_verify_notices_that_a_source_shard_has_changed(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "source/a-0.tar", {"1.png": png(), "1.cls": b"3"})
    make(shard.parent, tmp_path / "out")
    assert verify(tmp_path / "out").ok
    write_tar(shard, {"1.png": png(1)})
    assert verify(tmp_path / "out").problems == ("1.png: its source a-0.tar!1.png has changed since",)


def test_the_shards_of_others_give_classes_labels_and_splits(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_tar(source / "train-000.tar", {
        "./0001.png": png(1), "./0001.cls": b"7\n", "./0001.json": b'{"mmcycle": 1}', "./0001.seg.png": png(2),
        "./._0001.png": b"another system's", "./Makefile": b"no suffix",
    })
    write_tar(source / "test-000.tar", {"0001.PNG": png(3), "0001.cls": b"dog"})
    (source / "sizes.json").write_text("{}")
    make(source, tmp_path / "out")
    rows = {row.key: row for row in read_rows(tmp_path / "out")}
    assert {key: row.tags for key, row in rows.items()} == {
        "test/0001": {"class": "dog", "split": "test"}, "train/0001": {"class": "7", "split": "train"}}
    assert [label.output for label in rows["train/0001"].labels] == [
        "train/0001.json", "train/0001.seg.png", "streams.jsonl"]
    assert (tmp_path / "out/test/0001.PNG").exists() and verify(tmp_path / "out").ok


def test_keys_that_begin_anew_in_each_shard_are_kept_apart(tmp_path: Path) -> None:
    for number in range(2):
        write_tar(tmp_path / f"source/part-{number}.tar", {"0.png": png(number)})
    make(tmp_path / "source", tmp_path / "out")
    assert [row.key for row in read_rows(tmp_path / "out")] == ["part-0/0", "part-1/0"]


def test_a_plain_data_set_with_a_tar_in_it_stays_one(tmp_path: Path) -> None:
    picture(tmp_path / "a/1.png")
    write_tar(tmp_path / "backup.tar", {"1.png": b"x"})
    assert shards_of(tmp_path) == []
    (tmp_path / "a/1.png").unlink()
    (tmp_path / "a/1.parquet").write_bytes(b"")
    with pytest.raises(UserError, match="holds tars and tables of a Hugging Face data set; name the folder of one"):
        shards_of(tmp_path)


def link(tar: tarfile.TarFile) -> None:
    add(tar, "a.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")


HOSTILE = [
    (link, "'a.png' is a symbolic link"),
    (lambda tar: add(tar, "a.png", type=tarfile.LNKTYPE, linkname="/etc/passwd"), "is a hard link"),
    (lambda tar: add(tar, "a.png", type=tarfile.CHRTYPE), "is neither a file nor a folder"),
    (lambda tar: add(tar, "a.png", type=tarfile.FIFOTYPE), "is neither a file nor a folder"),
    (lambda tar: add(tar, "../a.png", b"x"), "'../a.png' would leave its folder"),
    (lambda tar: add(tar, "b/../../a.png", b"x"), "would leave its folder"),
    (lambda tar: add(tar, "/a.png", b"x"), "'/a.png' would leave its folder"),
    (lambda tar: add(tar, "a\nb.png", b"x"), "unprintable"),
    (lambda tar: add(tar, "a" * 300 + ".png", b"x"), "its key must be 1 to 200 printable characters"),
    (lambda tar: add(tar, "x" * 1200 + ".png", b"x"), "too long"),
    (lambda tar: add(tar, "a.json", b"[" * 100_000), "'a' has json and none that a run reads"),
    (lambda tar: [add(tar, "a.png", b"x") for _ in range(2)], "its name is that of s-0.tar!a.png too"),
    (lambda tar: [add(tar, "a.png", b"x"), add(tar, "a.png/b.png", b"x")], "a file and a folder would have one name"),
    (lambda tar: [add(tar, "a.left.png"), add(tar, "a.right.png")], "both left.png and right.png could be the stream"),
    (lambda tar: add(tar, "README", b"x"), "its 1 shards hold no samples"),
]


@pytest.mark.parametrize(("fill", "message"), HOSTILE)
def test_a_hostile_tar_is_refused_and_nothing_gets_out(
    tmp_path: Path, fill: Callable[[tarfile.TarFile], object], message: str
) -> None:
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in/s-0.tar", "w") as tar:
        fill(tar)
    with pytest.raises(UserError, match=message):
        make(tmp_path / "in", tmp_path / "out")
    assert not [name for name in tree(tmp_path) if not name.startswith(("in/", "out/.mmcycle/job.json"))]


@pytest.mark.parametrize("content", [b"no tar at all", b"\0" * 100, b"x" * 5000], ids=["text", "short", "noise"])
def test_what_is_no_tar_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s-0.tar").write_bytes(content)
    with pytest.raises(UserError, match="s-0.tar: "):
        list(hashes(tmp_path / "s-0.tar"))


def test_a_tar_that_was_cut_off_is_refused_wherever_the_cut_is(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole.tar", {"1.png": bytes(2000), "2.png": bytes(2000)}).read_bytes()
    for size in (700, 2560, 2600, 3072, 5000, 5120):
        (tmp_path / "cut.tar").write_bytes(whole[:size])
        with pytest.raises(UserError, match="cut.tar: "):
            list(hashes(tmp_path / "cut.tar"))
    damaged = whole[:2560] + b"garbage" + whole[2567:]
    (tmp_path / "cut.tar").write_bytes(damaged)
    with pytest.raises(UserError, match="cut.tar: is damaged or was not written to its end, at byte 2560"):
        list(hashes(tmp_path / "cut.tar"))


def test_shards_larger_than_the_disk_are_not_begun(tmp_path: Path) -> None:
    with (tmp_path / "s-0.tar").open("wb") as file:
        file.truncate(2**50 if os.name == "nt" else 2**43)      # sparse: it takes no room itself
    (tmp_path / "new").mkdir()
    with pytest.raises(MmcycleError, match="8388608 MiB of shards are to be unpacked and .* are free"):
        unpack(tmp_path, [tmp_path / "s-0.tar"], tmp_path / "new", {"image": (".png",)})
    assert files.sha256(picture(tmp_path / "a.png"))
