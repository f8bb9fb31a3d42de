"""Translators and other people's augmentations as transforms of one stream, in a data loader's workers too."""
import multiprocessing
import random
import re
import sys
from collections import namedtuple
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from einops import repeat
from PIL import Image as Pillow
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from grids import Grid
from mmcycle.config import from_dict, to_dict
from mmcycle.core.model import generator
from mmcycle.errors import UserError
from mmcycle.generate.translator import Translator
from mmcycle.modality import find_modality
from mmcycle.train import checkpoint
from mmcycle.transforms import Apply, Translate

MODEL = {"generator": "light", "width": 4, "blocks": 1, "discriminator_width": 4, "discriminator_layers": 1}
SOUND = {"modality": "audio", "rate": 8000, "n_fft": 256, "hop": 64, "mels": 16, "frames": 32}
SAMPLES = 3000
Moment = namedtuple("Moment", "wave label")
FORKED = "ignore:This process .* is multi-threaded:DeprecationWarning"        # Python 3.12 says so of every fork


def untrained(**changes) -> Translator:
    """A tiny translator of sound, random weights; with change=noise one of which the seed decides what it does."""
    side = SOUND | changes
    config = from_dict({"name": "tiny", "a": {"name": "clean"} | side, "b": {"name": "noisy"} | side, "model": MODEL})
    torch.manual_seed(0)
    weights = generator(config.a.modality, config.b.modality, config.model).state_dict()
    return Translator(config, "ab", weights, device="cpu")


@pytest.fixture(scope="module")
def noisy() -> Translator:
    return untrained(change="noise")


class Negative:
    """Stands for a trained translator of pictures: light becomes dark. Remembers what it was asked."""

    def __init__(self, channels=3, source=None, target=None, **fields):
        self.source = source or find_modality("image")(channels=channels, **fields)
        self.target = target or self.source
        self.asked = []

    def perform(self, raw, strength, seed):
        self.asked.append((strength, seed))
        x, context = self.source.to_tensor(raw)
        return SimpleNamespace(raw=self.target.from_tensor(-strength * x, context))


def wave(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 0.5


def picture(dtype=torch.uint8, bands=3):
    shades = torch.arange(bands * 4 * 5).reshape(bands, 4, 5)
    return shades.to(torch.uint8) if dtype == torch.uint8 else (shades / 255).to(dtype)


# With what probability, how far, how random


def test_a_probability_of_zero_leaves_the_sample_as_it_is():
    night, sample = Negative(), {"image": tv_tensors.Image(picture()), "label": 3}
    for _ in range(20):
        assert Translate(night, p=0)(sample) is sample
    assert night.asked == []


def test_a_probability_of_one_translates_every_sample():
    for _ in range(20):
        assert torch.equal(Translate(Negative(), p=1)(picture()), 255 - picture())


def test_a_probability_between_is_how_often_samples_are_translated():
    torch.manual_seed(0)
    night = Negative()
    for _ in range(400):
        Translate(night, p=0.3)(picture())
    assert abs(len(night.asked) - 120) < 4 * (400 * 0.3 * 0.7) ** 0.5             # four standard deviations


def test_strength_is_uniform_between_its_ends():
    torch.manual_seed(0)
    night = Negative()
    for _ in range(200):
        Translate(night, p=1, strength=(0.2, 0.6))(picture())
    drawn = np.array([strength for strength, _ in night.asked])
    assert drawn.min() >= 0.2 and drawn.max() <= 0.6
    assert abs(drawn.mean() - 0.4) < 4 * (0.4 / 12**0.5) / 200**0.5
    assert drawn.min() < 0.22 and drawn.max() > 0.58


def test_every_sample_has_a_seed_of_its_own():
    night = Negative()
    for _ in range(50):
        Translate(night, p=1)(picture())
    assert len({seed for _, seed in night.asked}) == 50


def test_the_same_seed_gives_the_same_samples_again(noisy):
    transform = Translate(noisy, p=0.5)

    def four():
        torch.manual_seed(5)
        return [transform(wave(1, SAMPLES)) for _ in range(4)]

    first, again = four(), four()
    assert all(torch.equal(one, other) for one, other in zip(first, again))
    changed = [not torch.equal(one, wave(1, SAMPLES)) for one in first]
    assert any(changed) and not all(changed)
    assert len({one.numpy().tobytes() for one, new in zip(first, changed) if new}) == sum(changed)


def test_a_translated_sample_and_an_untouched_one_draw_equally_much():
    def next_after(p):
        torch.manual_seed(1)
        Translate(Negative(), p=p)(picture())
        return torch.rand(()).item()

    assert next_after(0) == next_after(1)


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_a_probability_outside_of_zero_to_one_is_refused(p):
    with pytest.raises(UserError, match=r"Translate: p is .*; a probability lies in \[0, 1\]"):
        Translate(Negative(), p=p)


@pytest.mark.parametrize("strength", [-0.1, (0.6, 0.2), (0.5, 1.1)])
def test_a_strength_outside_of_zero_to_one_is_refused(strength):
    with pytest.raises(UserError, match=r"Translate: strength is .*; it lies in \[0, 1\], the lower end first"):
        Translate(Negative(), strength=strength)


# What comes in, and what comes out


@pytest.mark.parametrize("shape", [(SAMPLES,), (1, SAMPLES), (2, SAMPLES), (1, 1), (1,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_a_waveform_comes_back_with_its_shape_and_dtype(noisy, shape, dtype):
    given = wave(*shape).to(dtype)
    before = given.clone()
    made = Translate(noisy, p=1)(given)
    assert made.shape == shape and made.dtype == dtype and made.isfinite().all()
    assert torch.equal(given, before)
    if given.numel() > 2:
        assert not torch.equal(made, given)


def test_a_waveform_is_translated_as_the_recording_is(noisy):
    torch.manual_seed(3)
    made = Translate(noisy, p=1)(wave(2, SAMPLES))
    torch.manual_seed(3)
    torch.rand(()), torch.rand((), dtype=torch.float64)
    seed = int(torch.randint(2**63 - 1, ()))
    sound = noisy.source.from_array(wave(2, SAMPLES).numpy())
    assert sound.rate == 8000 and sound.samples.shape == (SAMPLES, 2)
    np.testing.assert_array_equal(made.numpy(), noisy(sound, seed=seed).samples.T)


def test_a_waveform_of_another_rate_is_heard_at_that_rate(noisy):
    """What lies above half of the model's rate stays as it was: at twice the rate, that is half of the spectrum."""
    given = wave(1, 2 * SAMPLES)
    torch.manual_seed(0)
    change = Translate(noisy, p=1, rate=16000)(given) - given
    power = torch.fft.rfft(change[0]).abs().square()
    assert power[len(power) * 11 // 20 :].sum() < 0.01 * power.sum()
    torch.manual_seed(0)
    change = Translate(noisy, p=1)(given) - given
    power = torch.fft.rfft(change[0]).abs().square()
    assert power[len(power) * 11 // 20 :].sum() > 0.1 * power.sum()


def test_a_loud_waveform_is_not_turned_down(noisy):
    """In memory nothing ends at full scale."""
    given = 40 * wave(1, SAMPLES)
    assert Translate(noisy, p=1)(given).abs().max() > 10


def test_what_was_translated_can_be_trained_on(noisy):
    weight = torch.ones(1, requires_grad=True)
    (Translate(noisy, p=1)(wave(1, SAMPLES)) * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("typed", [False, True])
def test_a_picture_comes_back_with_its_type_and_dtype(dtype, typed):
    given = tv_tensors.Image(picture(dtype)) if typed else picture(dtype)
    made = Translate(Negative(), p=1)(given)
    assert type(made) is type(given) and made.dtype == dtype
    torch.testing.assert_close(made.as_subclass(torch.Tensor), (255 if dtype == torch.uint8 else 1) - picture(dtype))


@pytest.mark.parametrize("mode, bands", [("RGB", 3), ("L", 1)])
def test_a_pillow_picture_comes_back_as_one(mode, bands):
    given = v2.functional.to_pil_image(picture(bands=bands))
    made = Translate(Negative(), p=1)((given, 7))[0]
    assert isinstance(made, Pillow.Image) and made.mode == mode == given.mode
    np.testing.assert_array_equal(np.asarray(made), 255 - np.asarray(given))


def test_a_picture_with_a_palette_is_refused_since_its_numbers_are_no_shades():
    with pytest.raises(UserError, match="a picture of mode 'P' cannot be taken; convert it to one of L, RGB"):
        Translate(Negative(), p=1)(Pillow.new("P", (4, 4)))


def test_a_gray_picture_of_a_colour_domain_stays_gray():
    class Red(Negative):
        def perform(self, raw, strength, seed):
            x, context = self.source.to_tensor(raw)
            red = torch.tensor([1.0, -1, -1])[:, None, None].expand_as(x)
            return SimpleNamespace(raw=self.target.from_tensor(red, context))

    assert Translate(Red(), p=1)(picture(bands=1)).unique().tolist() == [76]       # 0.299 * 255
    assert Translate(Red(), p=1)(picture(torch.float32, bands=1)).unique().tolist() == pytest.approx([0.299])


def test_a_colour_picture_of_a_gray_domain_keeps_three_bands():
    made = Translate(Negative(channels=1), p=1)(repeat(torch.arange(4, dtype=torch.uint8), "w -> 3 2 w"))
    assert made.tolist() == [[[255, 254, 253, 252]] * 2] * 3


def test_many_bands_are_those_of_the_domain():
    given = tv_tensors.Image(picture(torch.float32, bands=6))
    torch.testing.assert_close(Translate(Negative(channels=6), p=1)(given), tv_tensors.Image(1 - given))


def test_a_picture_that_was_normalised_before_is_refused():
    normalise = v2.Normalize([0.5] * 3, [0.1] * 3)
    with pytest.raises(UserError, match=r"runs from -5 to -2.68627, outside 0 to 1; translate it before it is normalised"):
        Translate(Negative(), p=1)(normalise(picture(torch.float32)))


def test_a_picture_may_overshoot_a_little_as_resizing_makes_it():
    made = Translate(Negative(), p=1)(torch.tensor([-0.05, 0.5, 1.05]).expand(3, 2, 3))
    torch.testing.assert_close(made, torch.tensor([1.0, 0.5, 0.0]).expand(3, 2, 3))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_waveform_that_is_not_finite_is_refused(noisy, value):
    given = wave(1, 100)
    given[0, 3] = value
    with pytest.raises(UserError, match="a waveform has samples that are NaN or infinite; replace them before"):
        Translate(noisy, p=1)(given)
    with pytest.raises(UserError, match="a picture of float32 runs from"):
        Translate(Negative(), p=1)(torch.full((3, 2, 2), value))


def test_a_rate_of_a_picture_is_refused():
    with pytest.raises(UserError, match="a picture has no rate; leave rate out"):
        Translate(Negative(), p=1, rate=16000)(picture())


# Which part of the sample


def test_labels_boxes_masks_and_other_streams_are_not_touched():
    boxes = tv_tensors.BoundingBoxes([[0, 0, 4, 3]], format="XYXY", canvas_size=(4, 5))
    mask = tv_tensors.Mask(torch.ones(1, 4, 5, dtype=torch.uint8))
    points = tv_tensors.KeyPoints([[1, 2]], canvas_size=(4, 5))
    sample = {
        "image": tv_tensors.Image(picture()), "boxes": boxes, "mask": mask, "points": points, "label": 3, "name": "x",
        "wave": wave(1, 50), "more": [None, torch.tensor(2)],
    }
    made = Translate(Negative(), p=1)(sample)
    assert list(made) == list(sample)
    assert torch.equal(made["image"], 255 - sample["image"])
    for name in set(sample) - {"image", "more"}:
        assert made[name] is sample[name]
    assert made["more"][1] is sample["more"][1]


def test_a_waveform_beside_a_picture_is_found(noisy):
    sample = {"image": tv_tensors.Image(picture(torch.float32)), "wave": wave(1, SAMPLES), "label": torch.tensor(1)}
    made = Translate(noisy, p=1)(sample)
    assert made["image"] is sample["image"] and not torch.equal(made["wave"], sample["wave"])


def test_a_sample_keeps_its_form():
    night = Translate(Negative(), p=1)
    assert isinstance(night(Moment(picture(), 3)), Moment)
    given, label = night(picture(), 3)                      # as v2 takes several things
    assert torch.equal(given, 255 - picture()) and label == 3


def test_two_tensors_that_may_be_meant_are_an_error_and_not_a_guess(noisy):
    sample = {"wave": wave(1, 100), "embedding": wave(64)}
    with pytest.raises(UserError, match=r"\['wave'\] and \['embedding'\] may each be a recording for Audio, .*; name one with stream="):
        Translate(noisy, p=1)(sample)
    assert Translate(noisy, p=1, stream="wave")(sample)["embedding"] is sample["embedding"]


def test_a_stream_is_named_by_its_key_at_any_depth_or_by_its_place():
    left, right = picture(), 200 - picture()
    night = Negative()
    made = Translate(night, p=1, stream="left")({"cameras": {"left": left, "right": right}})
    assert torch.equal(made["cameras"]["left"], 255 - left) and made["cameras"]["right"] is right
    made = Translate(night, p=1, stream=1)((left, right))
    assert made[0] is left and torch.equal(made[1], 255 - right)
    made = Translate(night, p=1, stream="wave")(Moment(left, right))
    assert torch.equal(made.wave, 255 - left) and made.label is right


def test_all_that_fits_under_a_name_is_translated_by_one_draw():
    night = Negative()
    frames = [picture(), picture()]
    made = Translate(night, p=1, strength=(0, 1), stream="clip")({"clip": {"frames": frames, "times": torch.tensor([0, 40])}})
    assert torch.equal(made["clip"]["frames"][0], made["clip"]["frames"][1])
    assert len(night.asked) == 2 and night.asked[0] == night.asked[1]


def test_typed_pictures_are_all_meant_as_in_v2():
    one, two = tv_tensors.Image(picture()), v2.functional.to_pil_image(picture())
    made = Translate(Negative(), p=1)({"one": one, "two": two, "plain": picture()})
    assert torch.equal(made["one"], 255 - one) and np.array_equal(np.asarray(made["two"]), 255 - np.asarray(two))
    assert torch.equal(made["plain"], picture())


def test_a_stream_that_is_not_there_is_told_with_what_is():
    with pytest.raises(UserError, match=r"the sample has no 'audio'; it holds \['wave'\] Tensor \(1, 8\) float32, \['y'\] int"):
        Translate(Negative(), stream="audio")({"wave": wave(1, 8), "y": 3})


@pytest.mark.parametrize("sample, holds", [
    ({"y": 3}, r"\['y'\] int"),
    ({"x": torch.zeros(2, 3, 4, 5)}, r"Tensor \(2, 3, 4, 5\) float32"),
    ((torch.zeros(3, 0, 5), Pillow), r"\[0\] Tensor \(3, 0, 5\) float32, \[1\] module"),
    ({}, "nothing"),
    ({"many": list(range(20))}, r"\['many'\]\[7\] int, \.\.\."),
])
def test_a_sample_without_a_recording_is_told_with_what_it_holds(sample, holds):
    with pytest.raises(UserError, match="nothing in the sample is a recording for Image, .*; it holds .*" + holds):
        Translate(Negative(), p=0)(sample)


def test_a_name_under_which_nothing_fits_is_told():
    with pytest.raises(UserError, match="nothing under 'y' is a recording for Image"):
        Translate(Negative(), p=0, stream="y")({"y": [1, 2]})
    with pytest.raises(UserError, match=r"Translate: BoundingBoxes \(2, 4\) int64 is not a recording for Image"):
        Translate(Negative(), p=1, stream="y")({"y": tv_tensors.BoundingBoxes([[0, 0, 1, 1]] * 2, format="XYXY", canvas_size=(4, 4))})


def test_a_waveform_laid_out_the_other_way_is_not_taken(noisy):
    with pytest.raises(UserError, match=r"nothing in the sample is a recording for Audio, .*; it holds Tensor \(800, 2\) float32"):
        Translate(noisy, p=1)(wave(800, 2))


def test_a_recording_in_native_form_is_taken_where_it_is_named(noisy):
    sound = noisy.source.from_array(wave(1, SAMPLES).numpy())
    made = Translate(noisy, p=1, stream="sound")({"sound": sound, "label": 2})
    assert type(made["sound"]) is type(sound) and not np.array_equal(made["sound"].samples, sound.samples)
    with pytest.raises(UserError, match="int is neither a recording for Audio, .* nor a recording in its native form"):
        Translate(noisy, p=1, stream="label")({"sound": sound, "label": 2})


def test_a_sensor_without_from_array_takes_native_recordings_only():
    class Same(Negative):
        def perform(self, raw, strength, seed):
            return SimpleNamespace(raw=raw)

    with pytest.raises(UserError, match="Grid does not say how a tensor of a sample becomes a recording; give it from_array"):
        Translate(Same(source=Grid()), p=1)(picture())
    with pytest.raises(NotImplementedError, match="Grid has from_array, so it must have to_array"):
        Grid().to_array(None, None)


# What is refused before the first sample


@pytest.mark.parametrize("path", ["runs/day_to_night", Path("runs/day_to_night")])
def test_a_path_in_the_place_of_a_model_is_told(path):
    with pytest.raises(UserError, match=r"not its path: Translate\(Translator.load\(Path\('runs/day_to_night'\)\)\)"):
        Translate(path)


def test_a_model_between_two_sensors_is_refused():
    with pytest.raises(UserError, match="in the place of another of its kind; this model makes Grid of Image"):
        Translate(Negative(target=Grid()))


# Among the transforms of torchvision


def test_it_stands_in_a_compose_and_is_shown_there():
    boxes = tv_tensors.BoundingBoxes([[0, 0, 2, 4]], format="XYXY", canvas_size=(4, 5))
    both = v2.Compose([v2.RandomHorizontalFlip(1.0), Translate(Negative(), p=1), v2.ToDtype(torch.float32, scale=True)])
    made = both({"image": tv_tensors.Image(picture()), "boxes": boxes})
    torch.testing.assert_close(made["image"].as_subclass(torch.Tensor), 1 - picture(torch.float32).flip(-1))
    assert made["boxes"].tolist() == [[3, 0, 5, 4]]
    assert "Translate(Image, p=1, strength=(1.0, 1.0))" in repr(both)


def test_it_goes_to_another_process_and_does_the_same_there(noisy):
    transform = v2.Compose([Translate(noisy, p=1), Apply(Quieter(), rate=8000)])
    there = ForkingPickler.loads(ForkingPickler.dumps(transform))
    torch.manual_seed(0)
    here = transform(wave(1, SAMPLES))
    torch.manual_seed(0)
    assert torch.equal(there(wave(1, SAMPLES)), here)


class Spoken(Dataset):
    """Six waves and their labels, translated one by one as they are asked for."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.transform({"wave": wave(1, SAMPLES, seed=index), "label": index})


def epochs(transform, how, count=1, seed=0):
    """The batches of so many epochs, as bytes and labels."""
    seeded = torch.Generator().manual_seed(seed)
    loader = DataLoader(Spoken(transform), 3, num_workers=2, generator=seeded, multiprocessing_context=how)
    pairs = ([pair for batch in loader for pair in zip(batch["wave"], batch["label"].tolist())] for _ in range(count))
    return [[(one.numpy().tobytes(), label) for one, label in epoch] for epoch in pairs]


def forked():
    return multiprocessing.get_context("fork")


@pytest.mark.filterwarnings(FORKED)
def test_a_loader_with_a_seed_repeats_itself_and_its_epochs_differ(noisy):
    transform = Translate(noisy, p=0.7)
    first, second = epochs(transform, forked(), count=2)
    assert epochs(transform, forked(), count=2) == [first, second]
    assert first != second
    assert epochs(transform, forked(), seed=1) != [first]
    assert [label for _, label in first] == list(range(6))


@pytest.mark.filterwarnings(FORKED)
def test_two_workers_translate_the_same_recording_differently(noisy):
    def the_first(sample):
        return Translate(noisy, p=1)({"wave": wave(1, SAMPLES), "label": 0})

    assert len({made for made, _ in epochs(the_first, forked())[0]}) == 6


@pytest.mark.filterwarnings(FORKED)
def test_workers_that_were_started_afresh_do_the_same_as_forked_ones(noisy):
    fresh = multiprocessing.get_context("forkserver")
    fresh.set_forkserver_preload(["mmcycle.generate.translator", "mmcycle.modalities.audio", "torchvision.transforms.v2"])
    assert epochs(Translate(noisy, p=0.7), fresh) == epochs(Translate(noisy, p=0.7), forked())


# Augmentations of others: stand-ins that are called, and answer, as the libraries are and do


class Quieter:
    """audiomentations: (samples, sample_rate) -> samples; mono is (N,); draws from `random` and numpy; may work in place."""

    def __init__(self):
        self.heard = []

    def __call__(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        self.heard.append((samples.shape, samples.dtype, sample_rate))
        samples *= random.uniform(0.1, 0.5) * np.random.uniform(0.5, 1.0)
        return samples


class OneOf:
    """audiomentations.OneOf shows nothing of how it is called."""

    def __call__(self, *args, **kwargs):
        return Quieter()(*args, **kwargs)


class ObjectDict(dict):
    """What torch-audiomentations answers."""


class Halved(nn.Module):
    """torch-audiomentations: (batch, channels, samples), in training mode only."""

    def __init__(self, output_type="dict"):
        super().__init__()
        self.output_type = output_type

    def forward(self, samples=None, sample_rate=None, targets=None, target_rate=None):
        if samples.ndim != 3 or sample_rate is None:
            raise RuntimeError("expected (batch, channels, samples) and their rate")
        made = samples / 2 if self.training else samples
        return ObjectDict(samples=made, sample_rate=sample_rate) if self.output_type == "dict" else made


class Mirror:
    """albumentations: named arguments, (H, W, C) -> a dict; generators of its own."""

    def __init__(self, made=None):
        self.rng, self.made = np.random.default_rng(), made

    def set_random_seed(self, seed):
        self.rng = np.random.default_rng(seed)

    def __call__(self, *args, force_apply=False, **data):
        if args:
            raise KeyError("You have to pass data to augmentations as named arguments, for example: aug(image=image)")
        image = data["image"]
        made = image[:, ::-1] if self.made is None else self.made(image)
        return {"image": np.roll(made, int(self.rng.integers(2)), axis=0) if isinstance(made, np.ndarray) else made}


class Dim(nn.Module):
    """kornia: float (B, C, H, W), drawn from torch."""

    def forward(self, input, params=None, **kwargs):
        if input.ndim != 4 or not input.is_floating_point():
            raise TypeError(f"Expected 4 floats, got {input.shape} {input.dtype}")
        return input * torch.rand(len(input), 1, 1, 1)


def test_audiomentations_hears_numpy_and_the_rate_and_mono_without_channels():
    quieter = Quieter()
    for shape in ((100,), (1, 100), (2, 100)):
        given = wave(*shape)
        before = given.clone()
        made = Apply(quieter, rate=8000)(given)
        assert made.shape == shape and made.dtype == torch.float32
        assert 0.05 <= (made / given).mean() <= 0.5 and torch.equal(given, before)
    assert quieter.heard == [((100,), np.float32, 8000)] * 2 + [((2, 100), np.float32, 8000)]


@pytest.mark.parametrize("output_type", ["dict", "tensor"])
@pytest.mark.parametrize("shape", [(100,), (2, 100)])
def test_torch_audiomentations_hears_a_batch_and_the_rate(output_type, shape):
    halved = Apply(Halved(output_type), rate=8000)
    torch.testing.assert_close(halved(wave(*shape)), wave(*shape) / 2)
    assert torch.equal(halved.eval()(wave(*shape)), wave(*shape))                 # it is a part of the transform


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_albumentations_sees_pixels_last_and_answers_so(bands, dtype):
    given = tv_tensors.Image(picture(dtype, bands))
    torch.manual_seed(0)
    made = Apply(Mirror())({"image": given, "label": 1})["image"]
    assert type(made) is tv_tensors.Image and made.dtype == dtype
    assert torch.equal(made.sort(dim=-2).values, given.flip(-1).sort(dim=-2).values)
    lost = Apply(Mirror(made=lambda image: image[..., 0]))(picture(dtype, 1))     # cv2 drops an only band
    assert lost.shape == (1, 4, 5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_kornia_sees_a_batch_of_floats(dtype):
    torch.manual_seed(4)
    made = Apply(Dim())(picture(dtype))
    torch.manual_seed(4)
    torch.rand(()), torch.randint(2**32, ())
    expected = picture(torch.float32) * torch.rand(1)
    torch.testing.assert_close(made.float() / (255 if dtype == torch.uint8 else 1), expected, atol=1 / 255, rtol=0)
    assert made.dtype == dtype


def test_a_pillow_picture_stays_one_under_apply():
    made = Apply(Dim())(v2.functional.to_pil_image(picture()))
    assert isinstance(made, Pillow.Image) and made.size == (5, 4)


@pytest.mark.parametrize("augment, given, options", [
    (Quieter(), wave(1, 100), {"rate": 8000}), (Mirror(), picture(), {}), (Dim(), picture(), {}),
])
def test_one_seed_repeats_what_every_library_draws(augment, given, options):
    def three():
        torch.manual_seed(7)
        return [Apply(augment, **options)(given) for _ in range(3)] + [Apply(augment, p=0.5, **options)(given) for _ in range(9)]

    first = three()
    random.random(), np.random.rand(), augment.rng.random() if isinstance(augment, Mirror) else None
    assert all(torch.equal(one, other) for one, other in zip(first, three()))
    assert len({one.numpy().tobytes() for one in first}) > 1


def test_the_generators_of_python_and_numpy_go_on_as_if_nothing_had_been():
    random.seed(0), np.random.seed(0)
    expected = random.random(), np.random.rand()
    random.seed(0), np.random.seed(0)
    Apply(Quieter(), rate=8000)(wave(1, 100))
    assert (random.random(), np.random.rand()) == expected


def test_apply_happens_with_its_probability():
    torch.manual_seed(0)
    quieter = Quieter()
    for _ in range(400):
        Apply(quieter, p=0.25, rate=8000)(wave(1, 10))
    assert abs(len(quieter.heard) - 100) < 4 * (400 * 0.25 * 0.75) ** 0.5


def test_what_does_not_show_how_it_is_called_must_be_named():
    with pytest.raises(UserError, match="the signature of OneOf does not show how to call it; give style=, one of audiomentations"):
        Apply(OneOf(), rate=8000)
    assert Apply(OneOf(), rate=8000, style="audiomentations")(wave(1, 10)).shape == (1, 10)
    with pytest.raises(UserError, match="the signature of int does not show"):
        Apply(3)
    with pytest.raises(UserError, match="style 'auglly' is unknown; it is one of audiomentations, "):
        Apply(OneOf(), style="auglly")


def test_a_rate_belongs_to_sound():
    with pytest.raises(UserError, match="Apply: audiomentations needs rate=, in Hz"):
        Apply(Quieter())
    with pytest.raises(UserError, match="Apply: albumentations takes pictures, which have no rate"):
        Apply(Mirror(), rate=8000)


def test_apply_finds_its_own_stream_and_leaves_the_rest():
    boxes = tv_tensors.BoundingBoxes([[0, 0, 4, 3]], format="XYXY", canvas_size=(4, 5))
    sample = {"image": tv_tensors.Image(picture()), "wave": wave(1, 50), "boxes": boxes, "label": torch.tensor(3)}
    made = v2.Compose([Apply(Quieter(), rate=8000), Apply(Dim())])(sample)
    assert not torch.equal(made["wave"], sample["wave"]) and not torch.equal(made["image"], sample["image"])
    assert made["boxes"] is boxes and made["label"] is sample["label"]


def test_apply_refuses_a_named_stream_of_another_kind():
    with pytest.raises(UserError, match="Apply: str is not a waveform, a tensor"):
        Apply(Quieter(), rate=8000, stream="wave")({"wave": "a.wav"})
    with pytest.raises(UserError, match="Apply: BoundingBoxes .* is not a picture"):
        Apply(Dim(), stream="boxes")({"boxes": tv_tensors.BoundingBoxes([[0, 0, 1, 1]], format="XYXY", canvas_size=(4, 4))})


def test_a_size_that_changes_beside_boxes_is_refused_and_alone_is_not():
    cut = Apply(Mirror(made=lambda image: image[1:, 2:]))
    assert cut(picture()).shape == (3, 3, 3)
    sample = {"image": tv_tensors.Image(picture()), "mask": tv_tensors.Mask(torch.zeros(4, 5))}
    with pytest.raises(UserError, match=r"made \[3, 3\] of \[4, 5\] pixels, and the sample's boxes, masks or points do not"):
        cut(sample)


def test_what_changes_the_dtype_or_the_form_is_refused():
    with pytest.raises(UserError, match=r"Mirror made \(3, 4, 5\) torch.float32 of \(3, 4, 5\) torch.uint8; leave changes of dtype"):
        Apply(Mirror(made=lambda image: np.float32(image) / 255))(picture())
    with pytest.raises(UserError, match="leave ToTensorV2 out of it"):
        Apply(Mirror(made=torch.from_numpy))(picture())


def test_apply_is_shown_with_what_it_wraps():
    shown = repr(v2.Compose([Apply(Quieter(), rate=8000), Apply(Halved(), rate=8000)]))
    assert "Apply(Quieter, p=1.0, style=audiomentations, rate=8000)" in shown
    assert "(augment): Halved()" in shown


# The page


@pytest.mark.filterwarnings(FORKED)
def test_the_code_of_the_page_runs_as_it_stands(tmp_path, monkeypatch, noisy):
    page = (Path(__file__).parents[1] / "docs/transforms.md").read_text(encoding="utf-8")
    averages = {f"ab.{name}": value for name, value in noisy.generator.state_dict().items()}
    state = {"config": to_dict(noisy.config)}
    saved = checkpoint.Checkpoint(step=1, networks={}, averages=averages, optimisers={}, rank={"x": torch.zeros(1)}, state=state)
    checkpoint.save(tmp_path / "runs/clean_to_noisy/checkpoints", saved, rank=0, world=1, keep=1, wait=lambda: None)
    library = SimpleNamespace(Compose=lambda parts: parts[0], Gain=lambda p: Quieter())
    monkeypatch.setitem(sys.modules, "audiomentations", library)
    monkeypatch.setattr("torch.utils.data.DataLoader", partial(DataLoader, multiprocessing_context=forked()))
    monkeypatch.chdir(tmp_path)
    names = {"spoken": [(wave(1, SAMPLES, seed=index), index) for index in range(4)]}
    for code in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        exec(compile(code, "docs/transforms.md", "exec"), names)
    assert names["waves"].shape == (2, 1, SAMPLES) and names["sample"]["wave"].shape == (1, SAMPLES)
