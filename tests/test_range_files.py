"""Range image files: every array comes back as it was, and what is no range image is refused by name."""
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmcycle.errors import RecordingError
from mmcycle.modalities.range_files import RangeImage, read_range_image, write_range_image

SHARED = Path(__file__).parents[2] / "shared" / "data" / "lidar"


def refused(path, words, read):
    with pytest.raises(RecordingError, match=words) as caught:
        read(path)
    assert path.name in str(caught.value)


def npz(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


GRID = {"range": np.array([[0, 500], [1000, 65535]], np.uint16), "range_scale": np.float32(0.002), "remission": np.array([[0, 9], [255, 3]], np.uint8)}


def test_a_range_image_comes_back_with_every_array_and_the_same_bytes_each_time(tmp_path):
    path = npz(tmp_path / "x.npz", **GRID, label=np.array([[10, 2], [3, 4]], np.uint8), rows=np.arange(2.0))
    image = read_range_image(path)
    np.testing.assert_allclose(image.range, [[0, 1], [2, 131.07]], rtol=1e-6)
    assert image.remission.tolist() == [[0, 9], [255, 3]] and list(image.extra) == ["label", "rows"]
    write_range_image(image, tmp_path / "out.npz")
    with np.load(path) as before, np.load(tmp_path / "out.npz") as after:
        assert before.files == after.files
        for name in before.files:
            assert before[name].dtype == after[name].dtype
            np.testing.assert_array_equal(before[name], after[name])
    first = (tmp_path / "out.npz").read_bytes()
    write_range_image(image, tmp_path / "out.npz")
    assert (tmp_path / "out.npz").read_bytes() == first


def test_a_range_image_that_was_made_is_written_in_metres(tmp_path):
    image = RangeImage(np.array([[0, 1.25]], np.float32), np.array([[0.5, 0.75]], np.float32))
    write_range_image(image, tmp_path / "x.npz")
    found = read_range_image(tmp_path / "x.npz")
    np.testing.assert_array_equal(found.range, image.range)
    np.testing.assert_array_equal(found.remission, image.remission)
    assert found.scale is None


def test_the_smallest_return_is_still_a_return_and_the_brightest_fits(tmp_path):
    image = read_range_image(npz(tmp_path / "x.npz", **GRID))
    image = replace(image, range=np.array([[0, 1e-6], [1, 2]], np.float32), remission=np.array([[-4, 9], [999, 3]], np.float32))
    write_range_image(image, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as found:
        assert found["range"].tolist() == [[0, 1], [500, 1000]] and found["remission"].tolist() == [[0, 9], [255, 3]]


@pytest.mark.parametrize(("change", "words"), [
    ({"range": None}, "has the arrays range_scale, remission; a range image needs range and remission"),
    ({"range_scale": None}, "its range holds uint16 and its range_scale is none"),
    ({"range_scale": np.float32(-1)}, "range_scale is float32 -1.0; allowed are"),
    ({"range_scale": np.float32(np.nan)}, "range_scale is float32 nan"),
    ({"range": np.ones((2, 2), np.float32)}, "its range holds float32 and its range_scale is"),
    ({"range": np.ones((2, 2), np.int16)}, "its range holds int16 and its remission uint8; allowed are floats and unsigned"),
    ({"remission": np.ones((2, 3), np.uint8)}, r"its range is \(2, 2\) and its remission \(2, 3\)"),
    ({"range": np.ones(4, np.uint16), "remission": np.ones(4, np.uint8)}, r"its range is \(4,\)"),
    ({"range": np.zeros((2, 2), np.uint16)}, "at least one return"),
    ({"range": np.full((2, 2), np.inf), "range_scale": None}, "its ranges go from inf to inf m"),
    ({"range": np.full((2, 2), -1.0), "range_scale": None}, "its ranges go from -1 to -1 m"),
    ({"remission": np.full((2, 2), np.nan)}, "the remission of 4 cells is not a finite number"),
])
def test_what_is_no_range_image_is_refused(change, words, tmp_path):
    arrays = {name: array for name, array in (GRID | change).items() if array is not None}
    refused(npz(tmp_path / "x.npz", **arrays), words, read_range_image)


def test_range_images_that_lie_about_their_size_are_refused(tmp_path):
    with pytest.raises(RecordingError, match="x.npz: .*allowed are equal grids .* of up to 3 cells|says it holds"):
        read_range_image(npz(tmp_path / "x.npz", **GRID), max_points=3)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        member = io.BytesIO()
        np.save(member, np.zeros((2, 2), np.uint16))
        archive.writestr("range.npy", member.getvalue().replace(b"(2, 2), ", b"(9999999999, 9999999999), ")[: len(member.getvalue())])
    refused(tmp_path / "x.npz", "its array range.npy says|cannot be read as a range image", read_range_image)
    np.savez(tmp_path / "x.npz", range=np.array([{}], dtype=object), allow_pickle=True)
    refused(tmp_path / "x.npz", "its header lies|cannot be read as a range image", read_range_image)
    npz(tmp_path / "x.npz", bomb=np.zeros(50_000_000, np.uint8))
    with pytest.raises(RecordingError, match="says it holds 1 arrays of 500.* bytes together; allowed are 64 of 16000000"):
        read_range_image(tmp_path / "x.npz", max_points=1_000_000)
    (tmp_path / "x.npz").write_bytes(b"no archive")
    (tmp_path / "folder.npz").mkdir()
    refused(tmp_path / "folder.npz", "cannot be read as a range image: it is a directory", read_range_image)
    refused(tmp_path / "x.npz", "cannot be read as a range image: File is not a zip file", read_range_image)


def test_range_images_that_could_not_be_read_again_are_not_written(tmp_path):
    image = read_range_image(npz(tmp_path / "x.npz", **GRID))
    for change, name, words in (
        ({"range": np.full((2, 2), 200, np.float32)}, "y.npz", "a return at 200.00 m is beyond the 131.07 m"),
        ({"range": np.zeros((2, 2), np.float32)}, "y.npz", "at least one return"),
        ({"remission": np.zeros((2, 3), np.float32)}, "y.npz", "remission is one finite number for each cell"),
        ({}, "y.npy", "range images cannot be written as '.npy'; allowed is .npz"),
    ):
        with pytest.raises(RecordingError, match=words):
            write_range_image(replace(image, **change), tmp_path / name)
        assert not (tmp_path / name).exists()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared recordings are not here")
def test_real_range_images_come_back_bit_for_bit(tmp_path):
    for folder, most in (("kitti_raw_driveB", 1024), ("nuscenes", 1024), ("squeezeseg_front", 512), ("radiate_fog", 1024)):
        path = sorted((SHARED / folder).rglob("*.npz"))[0]
        image = read_range_image(path)
        assert image.range.shape[1] == most and 1 < np.median(image.range[image.range > 0]) < 40
        write_range_image(image, tmp_path / "x.npz")
        with np.load(path) as before, np.load(tmp_path / "x.npz") as after:
            assert before.files == after.files
            assert all(np.array_equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before.files)
