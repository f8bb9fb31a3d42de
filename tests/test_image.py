"""Pictures as tensors: every depth and number of bands comes back, and the settings do what they say."""
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from mmcycle.errors import RecordingError, UserError
from mmcycle.modalities.image import Image, psnr, ssim
from mmcycle.modalities.picture_files import Picture
from mmcycle.testing import check_modality

PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "image"


def noise(*shape, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    if dtype == np.float32:
        return rng.random(shape, dtype=np.float32)
    return rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def test_value_range_maps_the_domains_own_units_to_minus_one_and_one(tmp_path):
    thermal = np.array([[100, 150, 200]], dtype=np.uint16)
    modality = Image(channels=1, value_range=(100.0, 200.0))
    modality.save(thermal, tmp_path / "t.png")
    raw = modality.load(tmp_path / "t.png")
    x, context = modality.to_tensor(raw)
    assert x.flatten().tolist() == [-1, 0, 1]
    assert modality.from_tensor(x, context).pixels.flatten().tolist() == [100, 150, 200]


def test_values_outside_the_range_are_told_with_what_was_found(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[0.0, 3.5]], dtype=np.float32))
    with pytest.raises(RecordingError, match=r"x.npy: its values run from 0 to 3.5, outside 0 to 1; set value_range"):
        Image().load(tmp_path / "x.npy")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_float_that_is_no_number_is_refused(bad, tmp_path):
    np.save(tmp_path / "x.npy", np.array([[0.0, bad]], dtype=np.float32))
    with pytest.raises(RecordingError, match="x.npy: has pixels that are NaN or infinite"):
        Image().load(tmp_path / "x.npy")


def test_rounding_has_no_bias():
    levels = np.random.default_rng(0).uniform(20, 235, (200, 200))
    x = torch.from_numpy(levels / 127.5 - 1).float().expand(3, -1, -1)
    written = Image().from_tensor(x, None).pixels[..., 0]
    assert abs((written - levels).mean()) < 0.01         # truncation would be -0.5
    assert abs(written - levels).max() <= 0.5 + 1e-4


def test_every_level_of_eight_and_sixteen_bits_survives_the_tensor():
    for dtype in (np.uint8, np.uint16):
        levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(256, -1)
        modality = Image(channels=1)
        np.testing.assert_array_equal(modality.from_tensor(*modality.to_tensor(levels)).pixels[..., 0], levels)


def test_a_gray_file_stays_gray_where_the_result_is_gray_and_becomes_colour_where_it_is_not():
    modality, gray = Image(), Picture(noise(4, 5, 1), icc=b"gray profile")
    x, context = modality.to_tensor(gray)
    assert x.shape == (3, 4, 5)
    assert modality.from_tensor(x, context).pixels.shape == (4, 5, 1)
    tinted = modality.from_tensor(x * torch.tensor([1.0, 0.5, 0.5])[:, None, None], context)
    assert tinted.pixels.shape == (4, 5, 3) and tinted.icc is None


def test_a_colour_file_becomes_its_luma_for_a_gray_domain():
    x, _ = Image(channels=1).to_tensor(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8))
    np.testing.assert_allclose((x[0, 0] + 1) / 2, [0.299, 0.587, 0.114], atol=1e-6)


def test_transparency_is_hidden_from_the_networks_and_comes_back_untouched():
    pixels = noise(4, 5, 4)
    x, context = Image().to_tensor(pixels)
    assert x.shape[0] == 3
    black = Image().from_tensor(-torch.ones_like(x), context).pixels
    np.testing.assert_array_equal(black[..., 3], pixels[..., 3])
    assert (black[..., :3] == 0).all()


def test_one_bit_stays_one_bit_unless_the_result_is_gray():
    raw = Picture(np.array([[[0], [255]]], dtype=np.uint8), bilevel=True)
    x, context = Image(channels=1).to_tensor(raw)
    assert Image(channels=1).from_tensor(x, context).bilevel
    assert not Image(channels=1).from_tensor(x * 0.5, context).bilevel


def test_a_band_too_many_is_told(tmp_path):
    np.save(tmp_path / "x.npy", noise(4, 4, 5))
    with pytest.raises(RecordingError, match="x.npy: has 5 bands, this domain has channels: 3; convert the file"):
        Image().load(tmp_path / "x.npy")


def test_the_short_side_is_for_the_networks_alone():
    modality, pixels = Image(short_side=20), np.kron(noise(3, 5, 3), np.ones((20, 20, 1), dtype=np.uint8))
    x, context = modality.to_tensor(pixels)
    assert x.shape == (3, 20, 33)
    assert modality.from_tensor(x, context).pixels.shape == (60, 100, 3)
    flat = np.full((37, 51, 3), 90, dtype=np.uint8)
    np.testing.assert_array_equal(modality.from_tensor(*modality.to_tensor(flat)).pixels, flat)


def test_a_picture_is_stretched_for_the_networks_and_comes_back_at_its_own_size():
    modality = Image(size=(8, 4), stretch=(8, 4))
    left_red = np.zeros((20, 30, 3), dtype=np.uint8)
    left_red[:, :15, 0] = 255
    x, context = modality.to_tensor(left_red)
    assert x.shape == (3, 8, 4) and (x[0, :, 0] > 0.9).all() and (x[0, :, 3] < -0.9).all()
    back = modality.from_tensor(x, context).pixels
    assert back.shape == (20, 30, 3) and (back[:, 2, 0] > 200).all() and (back[:, -3, 0] < 50).all()


def test_a_picture_is_not_both_stretched_and_kept_in_proportion():
    with pytest.raises(UserError, match="short_side keeps the proportions .* set one of them"):
        Image(short_side=8, stretch=(8, 4))


@pytest.mark.parametrize(("flip", "expected"), [("none", 1), ("horizontal", 2), ("vertical", 2), ("both", 4)])
def test_crops_are_mirrored_as_asked(flip, expected):
    modality = Image(size=2, channels=1, flip=flip)
    x = torch.tensor([[[0.0, 0.1], [0.2, 0.3]]])
    seen = {tuple(modality.crop(x, torch.Generator().manual_seed(seed)).flatten().tolist()) for seed in range(40)}
    assert len(seen) == expected


def test_size_may_be_one_side_or_height_and_width():
    assert Image(size=64).shape == (3, 64, 64)
    assert Image(size=(32, 96), channels=1).shape == (1, 32, 96)


WRONG = [{"size": 0}, {"channels": 0}, {"flip": "sideways"}, {"short_side": -1}, {"stretch": (8, 0)}, {"colour": 3}]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_setting_is_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TypeAdapter(Image).validate_python(wrong)


@pytest.mark.parametrize("wrong", [(1.0, 1.0), (0.0, float("inf"))])
def test_a_value_range_must_rise(wrong):
    with pytest.raises(UserError, match="value_range: got .*; it must be two numbers, the lower one first"):
        Image(value_range=wrong)


def test_many_bands_are_rendered_by_their_first_three():
    x = torch.stack([torch.full((2, 2), level) for level in (-1.0, 0.0, 1.0, 0.5)])
    assert Image(channels=4).render(x)[:, 0, 0].tolist() == [0, 128, 255]


def test_psnr_and_ssim_agree_with_worked_values():
    x = torch.zeros(1, 16, 16)
    assert psnr(x, x + 0.2) == pytest.approx(20.0, abs=1e-4)            # 10 log10(2^2 / 0.2^2)
    assert ssim(x, x) == pytest.approx(1.0)
    # two flat pictures, 0.5 and 0.6 of full scale: only the luminance term is left
    assert ssim(x, x + 0.2) == pytest.approx((2 * 0.5 * 0.6 + 1e-4) / (0.25 + 0.36 + 1e-4), abs=1e-6)
    y = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert ssim(y, -y) < 0


SAMPLES = [noise(33, 47, 3), noise(16, 16, 1), noise(1, 9, 4), noise(20, 9, 3, dtype=np.uint16)]


@pytest.mark.parametrize("sample", SAMPLES)
def test_pictures_keep_every_law(sample):
    assert [str(law) for law in check_modality(Image(size=16), [sample], tolerance=1e-6) if not law.passed] == []


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="needs ../shared/data")
def test_real_photographs_keep_every_law():
    photos = sorted(PHOTOS.rglob("*.jpg"))[::400][:3]
    laws = check_modality(Image(size=32), photos, tolerance=0.02)
    assert len(photos) == 3 and [str(law) for law in laws if not law.passed] == []
