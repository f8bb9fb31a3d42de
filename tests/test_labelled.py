"""Labelled recordings as any layout has them: classes, masks, and what a parent folder tells."""
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from mmcycle.errors import RecordingError, UserError
from mmcycle.metrics.labelled import listing, read, read_mask, values_of
from mmcycle.modality import find_modality

IMAGE = find_modality("image")(size=8)


def picture(path: Path, value: int = 0, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(np.full((*size, 3), value, np.uint8)).save(path)
    return path


def mask(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def listed(root: Path):
    return listing(root, "image", IMAGE.suffixes)


def test_folders_are_classes(tmp_path):
    picture(tmp_path / "cat" / "1.png", 255)
    picture(tmp_path / "dog" / "2.png", 0, (16, 4))
    found = listed(tmp_path)
    assert (found.kind, found.names(), found.layout) == ("classes", ("cat", "dog"), "classes")
    samples = read(found, IMAGE, (8, 8), "classes", ("cat", "dog"))
    assert samples.x.shape == (2, 3, 8, 8) and samples.y.tolist() == [0, 1]
    assert samples.x[0].unique().tolist() == [1.0] and samples.x[1].unique().tolist() == [-1.0]


def test_a_table_gives_classes_and_groups(tmp_path):
    for name in ("a", "b", "c"):
        picture(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text("file,label,group\na.png,red,1\nb.png,green,1\nc.png,red,2\n")
    found = listed(tmp_path)
    assert found.names() == ("green", "red")
    samples = read(found, IMAGE, (8, 8), "classes", ("red",))
    assert samples.y.tolist() == [0, -1, 0]                         # green is none of the classes that were asked for
    assert samples.groups == ("1", "1", "2")


def test_a_part_of_a_data_set_has_the_labels_of_the_whole(tmp_path):
    for name in ("trainA/x", "trainA/y", "trainB/z"):
        picture(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text("file,label\ntrainA/x.png,red\ntrainA/y.png,green\ntrainB/z.png,blue\n")
    found = listed(tmp_path / "trainA")
    assert found.above and found.names() == ("green", "red")
    assert [(item.key, item.name) for item in found.items] == [("x", "red"), ("y", "green")]


def test_masks_lie_below_or_beside_the_pictures(tmp_path):
    halves = np.repeat([[0] * 8, [3] * 8], 4, axis=0)
    for root, folder in ((tmp_path / "one", "masks"), (tmp_path / "two", "../two_mask")):
        picture(root / "photos" / "1.png") if folder == "masks" else picture(root / "1.png")
        mask(root / folder / "1.png", halves)
    for root in (tmp_path / "one", tmp_path / "two"):
        found = listed(root)
        assert found.kind == "masks" and values_of(found) == (0, 3)
        y = read(found, IMAGE, (4, 4), "masks", (0, 3)).y
        assert y[0, :, 0].tolist() == [0, 0, 1, 1]


def test_void_and_unknown_values_count_for_nothing(tmp_path):
    picture(tmp_path / "photos" / "1.png")
    mask(tmp_path / "masks" / "1.png", np.repeat([[0, 1, 7, 255]], 8, 0).repeat(2, 1))
    found = listed(tmp_path)
    assert values_of(found, (7,)) == (0, 1)
    assert read(found, IMAGE, (8, 8), "masks", (0, 1)).y[0, 0].tolist() == [0, 0, 1, 1, -1, -1, -1, -1]


def test_what_is_no_mask_is_refused_by_name(tmp_path):
    coloured = picture(tmp_path / "colours.png")
    with pytest.raises(RecordingError, match="colours.png: is no mask.*one channel"):
        read_mask(coloured)
    (tmp_path / "torn.png").write_bytes(coloured.read_bytes()[:40])
    with pytest.raises(RecordingError, match="torn.png: cannot be read as a mask"):
        read_mask(tmp_path / "torn.png")


def test_distances_are_no_classes(tmp_path):
    picture(tmp_path / "photos" / "1.png")
    path = tmp_path / "masks" / "1.png"
    path.parent.mkdir()
    Picture.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20)).save(path)
    with pytest.raises(UserError, match="more than 256 values"):
        values_of(listed(tmp_path))


def test_several_masks_of_one_picture_are_refused_unless_one_has_a_known_name(tmp_path):
    picture(tmp_path / "leftImg8bit" / "ulm" / "ulm_1_leftImg8bit.png")
    for name in ("labelIds", "instanceIds", "color"):
        mask(tmp_path / "gtFine" / "ulm" / f"ulm_1_gtFine_{name}.png", np.zeros((8, 8)))
    assert listed(tmp_path).items[0].mask.name == "ulm_1_gtFine_labelIds.png"
    (tmp_path / "gtFine" / "ulm" / "ulm_1_gtFine_labelIds.png").unlink()
    with pytest.raises(UserError, match="several pictures belong to one recording"):
        listed(tmp_path)


def test_recordings_without_labels_can_be_read(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    found = listed(tmp_path)
    assert found.kind is None
    samples = read(found, IMAGE, (8, 8), None)
    assert samples.y is None and samples.groups == ("0", "1")


def test_equal_samples_have_equal_sums(tmp_path):
    picture(tmp_path / "cat" / "1.png")
    picture(tmp_path / "dog" / "2.png")
    one, other = (read(listed(tmp_path), IMAGE, (8, 8), "classes", ("cat", "dog")) for _ in range(2))
    assert one.sha256 == other.sha256
    other = type(one)(one.x, torch.tensor([1, 0]), one.groups)
    assert one.sha256 != other.sha256
