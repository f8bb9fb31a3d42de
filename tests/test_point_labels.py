"""Point labels: they stay with their points, bit for bit, and labels of another sweep are refused."""
import numpy as np
import pytest

from mmcycle.errors import RecordingError
from mmcycle.modalities.point_files import read_sweep, write_sweep
from mmcycle.modalities.point_labels import PointLabels, keep_labels, read_labels, write_labels


def refused(path, words, read):
    with pytest.raises(RecordingError, match=words) as caught:
        read(path)
    assert path.name in str(caught.value)


def test_labels_of_semantickitti_and_lidarseg_are_what_their_descriptions_say(tmp_path):
    labels = PointLabels(np.array([10, 252, 40]), np.array([1, 65535, 0]))
    write_labels(labels, tmp_path / "x.label")
    number = np.fromfile(tmp_path / "x.label", dtype=np.uint32)
    assert (number & 0xFFFF).tolist() == [10, 252, 40] and (number >> 16).tolist() == [1, 65535, 0]
    found = read_labels(tmp_path / "x.label", 3)
    assert found.semantic.tolist() == [10, 252, 40] and found.instance.tolist() == [1, 65535, 0] and len(found) == 3
    write_labels(PointLabels(np.array([0, 31]), np.zeros(2, int)), tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == b"\x00\x1f"
    assert read_labels(tmp_path / "x.bin").semantic.tolist() == [0, 31]


@pytest.mark.parametrize(("name", "kind"), [("x.label", "<u4"), ("x.bin", "u1")])
def test_dropped_points_lose_their_labels_and_the_others_keep_every_bit(name, kind, tmp_path):
    labels = np.random.default_rng(0).integers(0, 2 ** (8 * np.dtype(kind).itemsize), 6).astype(kind)
    labels.tofile(tmp_path / name)
    keep_labels(tmp_path / name, tmp_path / "out" / name, np.array([0, 5, 2]), 6)
    assert (tmp_path / "out" / name).read_bytes() == labels[[0, 5, 2]].tobytes()
    keep_labels(tmp_path / name, tmp_path / "out" / name, np.array([5, 0]), 6, in_place=True)
    assert (tmp_path / "out" / name).read_bytes() == np.array([labels[0], 0, 0, 0, 0, labels[5]], kind).tobytes()


def test_labels_stay_with_their_points_when_the_file_has_points_without_a_return(tmp_path):
    content = np.random.default_rng(0).normal(size=(5, 4)).astype("<f4")
    content[1, :3] = 0
    content.tofile(tmp_path / "x.bin")
    np.arange(100, 105, dtype="<u4").tofile(tmp_path / "x.label")
    sweep = read_sweep(tmp_path / "x.bin")
    sweep = sweep.keep(np.array([0, 1, 3]))
    write_sweep(sweep, tmp_path / "y.bin")
    keep_labels(tmp_path / "x.label", tmp_path / "y.label", sweep.kept, sweep.records)
    assert read_labels(tmp_path / "y.label", len(read_sweep(tmp_path / "y.bin"))).semantic.tolist() == [100, 102, 104]


def test_labels_that_do_not_fit_are_refused(tmp_path):
    np.zeros(5, "<u4").tofile(tmp_path / "x.label")
    for words, act in (
        ("x.label: has 5 labels, its sweep has 6 points; they do not belong", lambda: read_labels(tmp_path / "x.label", 6)),
        ("x.label: has 5 labels, its sweep has 4", lambda: keep_labels(tmp_path / "x.label", tmp_path / "y.label", np.arange(2), 4)),
        ("allowed are 0 to 4", lambda: keep_labels(tmp_path / "x.label", tmp_path / "y.label", np.array([5]), 5)),
        ("numbered -1 to -1", lambda: keep_labels(tmp_path / "x.label", tmp_path / "y.label", np.array([-1]), 5)),
        ("kept points are", lambda: keep_labels(tmp_path / "x.label", tmp_path / "y.label", np.ones(5, bool), 5)),
        ("kept points are", lambda: keep_labels(tmp_path / "x.label", tmp_path / "y.label", np.arange(0), 5)),
        ("must keep their format, .label", lambda: keep_labels(tmp_path / "x.label", tmp_path / "y.bin", np.arange(5), 5)),
        ("'.txt' is no file of point labels; allowed are .label", lambda: read_labels(tmp_path / "x.txt")),
        ("found class 256 and instance 0", lambda: write_labels(PointLabels(np.array([256]), np.array([0])), tmp_path / "y.bin")),
        ("and instance 1: write a .label", lambda: write_labels(PointLabels(np.array([2]), np.array([1])), tmp_path / "y.bin")),
        ("each point needs one of each", lambda: write_labels(PointLabels(np.array([2]), np.arange(2)), tmp_path / "y.label")),
        ("whole numbers from 0 to 65535", lambda: write_labels(PointLabels(np.array([-2]), np.arange(1)), tmp_path / "y.label")),
    ):
        with pytest.raises(RecordingError, match=words):
            act()
    assert not (tmp_path / "y.label").exists() and not (tmp_path / "y.bin").exists()
    refused(tmp_path / "missing.label", "cannot be read as point labels: No such file", read_labels)
    (tmp_path / "x.label").write_bytes(bytes(7))
    refused(tmp_path / "x.label", "has 7 bytes, which is no multiple of 4", read_labels)
    (tmp_path / "x.label").write_bytes(b"")
    refused(tmp_path / "x.label", "has 0 labels; allowed are 1 to", read_labels)
