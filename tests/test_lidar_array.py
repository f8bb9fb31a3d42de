"""Sweeps in a user's own samples: tensors in, tensors out, through a tiny translator with random weights."""
import numpy as np
import pytest
import torch

from mmcycle.config import from_dict
from mmcycle.core.model import generator
from mmcycle.errors import UserError
from mmcycle.generate.translator import Translator
from mmcycle.modalities.lidar import Lidar
from mmcycle.modalities.lidar_sensor import SensorSpec
from mmcycle.transforms import Translate
from mmcycle.transforms.sensors import Boxes3D, Points, RangeImage

SPEC = SensorSpec(rows=16, columns=64, fov=(4.0, -12.0), max_range=50.0)
LIDAR = Lidar(sensor=SPEC, projection="elevation")
MODEL = {"generator": "light", "width": 4, "blocks": 1, "discriminator_width": 4, "discriminator_layers": 1}


def untrained(a: Lidar = LIDAR, **changes) -> Translator:
    """With change=returns, one that loses some of the returns."""
    side = {"modality": "lidar", "sensor": "os0-64", "columns": 64, "projection": "elevation"}
    config = from_dict({"name": "tiny", "a": {"name": "a"} | side, "b": {"name": "b"} | side | changes, "model": MODEL})
    torch.manual_seed(0)
    weights = generator(config.a.modality, config.b.modality, config.model).state_dict()
    return Translator(config, "ab", weights, device="cpu")


def image(seed: int = 0, rows: int = 64, columns: int = 64) -> torch.Tensor:
    """(3, H, W): metres, intensity, return; a tenth of the pixels have none."""
    rng = torch.Generator().manual_seed(seed)
    there = (torch.rand(rows, columns, generator=rng) < 0.9).float()
    metres = 2 + 20 * torch.rand(rows, columns, generator=rng)
    return torch.stack([metres, torch.rand(rows, columns, generator=rng) * 255, torch.ones(rows, columns)]) * there


def points(seed: int = 0, more: int = 0) -> torch.Tensor:
    """(N, 4 + more) of the same sensor; the further columns count."""
    side = Lidar(sensor="os0-64", columns=64)
    made = side._as_sweep(side.from_array(image(seed).numpy()))
    extra = np.arange(len(made) * more, dtype=np.float32).reshape(len(made), more)
    return torch.from_numpy(np.concatenate([made.points, made.intensity[:, None], extra], axis=1))


@pytest.fixture(scope="module")
def losing() -> Translator:
    return untrained(change="returns")


def test_points_become_a_sweep_and_come_back_as_they_were():
    given = points(more=2).numpy()
    lidar = Lidar(sensor="os0-64", columns=64)
    raw = lidar.from_array(given)
    assert np.array_equal(raw.points, given[:, :3]) and np.array_equal(raw.intensity, given[:, 3])
    assert np.array_equal(lidar.to_array(raw, given), given)


def test_a_range_image_becomes_one_and_comes_back_as_it_was():
    given, lidar = image().numpy(), Lidar(sensor="os0-64", columns=64)
    for channels in (2, 3):
        raw = lidar.from_array(given[:channels])
        assert np.array_equal(raw.range, given[0])
        assert np.array_equal(lidar.to_array(raw, given[:channels]), given[:channels])


def test_a_mask_says_more_than_what_stands_where_nothing_returned():
    given = image().numpy()
    given[0], given[1] = np.maximum(given[0], 7), np.maximum(given[1], 0.5)      # rubbish in the pixels without return
    lidar = Lidar(sensor="os0-64", columns=64)
    made = lidar.to_array(lidar.from_array(given), given)
    assert (made[:, given[2] == 0] == 0).all() and np.array_equal(made[:, given[2] > 0], given[:, given[2] > 0])


def test_points_that_are_lost_go_with_their_row_and_the_others_keep_theirs(losing):
    given = points(more=1)
    made = Translate(losing, p=1)(given)
    assert made.dtype == torch.float32 and made.shape[1] == 5 and 0 < len(made) < len(given)
    was = given[made[:, 4].long()]                                  # the fifth column says which row it was
    assert (made[:, 4].diff() > 0).all()
    rays = [torch.nn.functional.normalize(one[:, :3], dim=1) for one in (made, was)]
    torch.testing.assert_close(*rays, atol=1e-5, rtol=0)
    moved = made[:, :3].norm(dim=1) - was[:, :3].norm(dim=1)
    assert moved.abs().max() <= 1.0 and not torch.equal(made[:, 3], was[:, 3])


def test_a_range_image_keeps_its_shape_and_loses_returns_in_all_channels(losing):
    for channels in (2, 3):
        given = image()[:channels]
        before = given.clone()
        made = Translate(losing, p=1)(given)
        assert made.shape == given.shape and made.dtype == given.dtype and torch.equal(given, before)
        lost = (given[0] > 0) & (made[0] == 0)
        assert lost.any() and not (made[0] > 0)[given[0] == 0].any()
        assert (made[:, lost] == 0).all()
        if channels == 3:
            assert torch.equal(made[2], (made[0] > 0).float())


def test_a_translated_tensor_is_what_the_translated_file_would_be(losing, tmp_path):
    given, path = points(), tmp_path / "sweep.bin"
    given.numpy().astype("<f4").tofile(path)
    torch.manual_seed(3)
    made = Translate(losing, p=1)(given)
    torch.manual_seed(3)
    torch.rand(()), torch.rand((), dtype=torch.float64)
    raw = losing.perform(losing.source.load(path), 1.0, int(torch.randint(2**63 - 1, ()))).raw
    assert np.array_equal(made.numpy(), np.concatenate([raw.points, raw.intensity[:, None]], axis=1))


def test_the_types_of_a_sample_stay_and_its_boxes_are_not_taken_for_points(losing):
    boxes = Boxes3D(torch.rand(12, 7) + 5)
    sample = {"sweep": Points(points()), "boxes": boxes, "label": torch.tensor(3)}
    made = Translate(losing, p=1)(sample)
    assert type(made["sweep"]) is Points and made["boxes"] is boxes
    assert type(Translate(losing, p=1)({"seen": RangeImage(image())})["seen"]) is RangeImage


def test_what_never_had_a_place_stays_where_it_is(losing):
    given = points()
    padded = torch.cat([given, torch.zeros(5, 4)])
    torch.manual_seed(0)
    made = Translate(losing, p=1)(padded)
    torch.manual_seed(0)
    assert torch.equal(made, torch.cat([Translate(losing, p=1)(given), torch.zeros(5, 4)]))


def test_points_made_anew_have_no_row_of_their_own_and_empty_further_columns():
    other = untrained(sensor="os0-64", columns=32)
    made = Translate(other, p=1)(points(more=2))
    assert made.shape[1] == 6 and len(made) <= 64 * 32 and (made[:, 4:] == 0).all()


def test_labels_beside_points_that_are_lost_are_refused(losing):
    sample = {"sweep": points(), "classes": torch.zeros(len(points()), dtype=torch.int64)}
    with pytest.raises(UserError, match=r"of 36\d\d points \d+ are left, and Tensor \(36\d\d,\) int64 beside them"):
        Translate(losing, p=1, stream="sweep")(sample)


@pytest.mark.parametrize("shape", [(64, 64), (1, 64, 64), (4, 64, 64), (3, 32, 64), (99, 3), (99, 17), (0, 4)])
def test_an_array_of_another_shape_is_none_of_this_sensor(shape):
    assert Lidar(sensor="os0-64", columns=64).from_array(np.ones(shape, np.float32)) is None


def test_whole_numbers_are_no_sweep(losing):
    assert losing.source.from_array(image().numpy().astype(np.uint8)) is None
    with pytest.raises(UserError, match="nothing in the sample is a recording for Lidar, as a tensor"):
        Translate(losing, p=1)({"mask": torch.zeros(64, 64, dtype=torch.uint8)})


def spoiled(form: str, place: tuple, value: float) -> np.ndarray:
    array = (points() if form == "points" else image()).numpy().copy()
    array[place] = value
    return array


@pytest.mark.parametrize("array, told", [
    (spoiled("points", (0, 1), np.inf), "points whose place or intensity is not finite"),
    (spoiled("points", (0, 3), np.nan), "points whose place or intensity is not finite"),
    (spoiled("points", (slice(None), slice(0, 3)), 0), r"none of the 36\d\d points of a sample has a place"),
    (spoiled("points", (slice(None), 2), 90.0), r"translated: none of its 36\d\d points lies where this sensor"),
    (spoiled("points", (slice(None), 3), 999.0), "beyond 999, the model knows 0 to 255; give them in the units of"),
    (spoiled("points", (slice(None), 3), -1.0), "beyond -1, the model knows 0 to 255"),
    (spoiled("image", (0, 3, 3), -2.0), "a range image of a sample has ranges from -2 to"),
    (spoiled("image", (0, 3, 3), np.inf), "to inf; give finite metres"),
    (spoiled("image", (1, slice(None), slice(None)), np.nan), "give finite metres, and finite intensities"),
    (spoiled("image", (2,), 0.0), "a range image of a sample has no return"),
    (spoiled("image", (0,), 500.0), "cannot be translated: none of its returns lies within 0.3 to 50 m"),
])
def test_a_tensor_that_is_no_sweep_is_refused_in_a_sentence(array, told):
    with pytest.raises(UserError, match=told):
        Lidar(sensor="os0-64", columns=64).from_array(array)


def test_a_rate_belongs_to_sound_and_a_grid_that_differs_needs_points(losing):
    with pytest.raises(UserError, match="a sweep has no rate; leave rate out"):
        Translate(losing, p=1, rate=10)(points())
    with pytest.raises(UserError, match="makes range images of 64 x 32 from those of 64 x 64, .*give it points"):
        Translate(untrained(columns=32), p=1)(image())
