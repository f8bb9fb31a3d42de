"""Every law of the contract catches the modality that breaks it, and says what to do."""
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from mmcycle.errors import RecordingError
from mmcycle.modality import Modality, grow
from mmcycle.testing import Law, check_modality

TICKS = itertools.count()


@dataclass(frozen=True)
class Grid(Modality):
    """A good sensor: a grid of numbers in [0, 1]; every class below breaks one of its laws."""

    size: int = 16

    suffixes: ClassVar[tuple[str, ...]] = (".grid",)

    @property
    def shape(self):
        return 1, self.size, self.size

    def load(self, path):
        content = path.read_bytes()
        if len(content) < 8:
            raise RecordingError(f"{path}: is too short for a grid; record it again")
        return np.frombuffer(content, "<f4", offset=8).reshape(np.frombuffer(content, "<u4", 2)).copy()

    def save(self, raw, path):
        path.write_bytes(np.array(raw.shape, "<u4").tobytes() + raw.astype("<f4").tobytes())

    def to_tensor(self, raw):
        return torch.from_numpy(raw * 2 - 1)[None].clamp(-1, 1), {"size": raw.shape}

    def from_tensor(self, x, context):
        return ((x[0] + 1) / 2).numpy()


class UpperCaseSuffix(Grid):
    suffixes = (".GRID",)


class NumpyShape(Grid):
    @property
    def shape(self):
        return 1, 16, np.int64(16)


@dataclass(frozen=True)
class FieldThatIsNoValue(Grid):
    folder: Path = Path("calibration")


class CannotTravel(Grid):
    def __reduce__(self):
        raise TypeError("holds an open port")


class CannotRead(Grid):
    def load(self, path):
        raise RecordingError(f"{path}: is not a grid")


class DoublePrecision(Grid):
    def to_tensor(self, raw):
        return super().to_tensor(raw)[0].double(), None


class BatchOfOne(Grid):
    def to_tensor(self, raw):
        return super().to_tensor(raw)[0][None], None


class TooLoud(Grid):
    def to_tensor(self, raw):
        return super().to_tensor(raw)[0] * 2, None

    def from_tensor(self, x, context):
        return super().from_tensor((x / 2).clamp(-0.5, 0.5) if x.abs().max() <= 1 else x / 2, context)


class NotANumber(Grid):
    def to_tensor(self, raw):
        x, context = super().to_tensor(raw)
        x[0, 0, 0] = float("nan") if raw.shape == (20, 27) else 0
        return x, context


class Random(Grid):
    def to_tensor(self, raw):
        x, context = super().to_tensor(raw)
        return (x + 1e-4 * (next(TICKS) % 2)).clamp(-1, 1), context


class Remembers(Grid):
    def load(self, path):
        object.__setattr__(self, "gain", 0.5)
        return super().load(path)

    def to_tensor(self, raw):
        x, _ = super().to_tensor(raw)
        return x * getattr(self, "gain", 1.0), None

    def from_tensor(self, x, context):
        return super().from_tensor((x / getattr(self, "gain", 1.0)).clamp(-1, 1), context)


class ChangesItsRecording(Grid):
    def to_tensor(self, raw):
        raw[0, 0] = 0
        return super().to_tensor(raw)


class ChangesItsTensor(Grid):
    def from_tensor(self, x, context):
        return super().from_tensor(x.mul_(0.999), context)


class ContextStaysAtHome(Grid):
    def to_tensor(self, raw):
        return super().to_tensor(raw)[0], lambda: raw.shape


class LosesTheTop(Grid):
    def from_tensor(self, x, context):
        return super().from_tensor(x.clamp(max=0.5), context)


class CoarseFile(Grid):
    def save(self, raw, path):
        super().save(raw.round(), path)


class SecondFile(Grid):
    def save(self, raw, path):
        super().save(raw, path)
        path.with_suffix(".txt").write_text("recorded today")


class TimeInTheFile(Grid):
    def save(self, raw, path):
        super().save(raw, path)
        path.write_bytes(path.read_bytes() + np.uint32(next(TICKS)).tobytes())

    def load(self, path):
        content = path.read_bytes()
        if len(content) < 8:
            raise RecordingError(f"{path}: is too short for a grid")
        rows, columns = (int(n) for n in np.frombuffer(content, "<u4", 2))
        return np.frombuffer(content, "<f4", rows * columns, offset=8).reshape(rows, columns).copy()


class NeedsContext(Grid):
    def from_tensor(self, x, context):
        return super().from_tensor(x[:, : context["size"][0]], context)


class NoFlatRecordings(Grid):
    def from_tensor(self, x, context):
        if x.max() == x.min():
            raise ValueError("cannot normalise a flat grid")
        return super().from_tensor(x, context)


class PadsForGood(Grid):
    def to_tensor(self, raw):
        x, context = super().to_tensor(raw)
        return grow(x, -(-x.shape[1] // 8) * 8, -(-x.shape[2] // 8) * 8), context


class SmallCrop(Grid):
    def crop(self, x, rng):
        left = int(torch.randint(max(1, x.shape[-1] - self.size), (), generator=rng))
        return x[..., : self.size, left : left + self.size].clone()


class CropOfItsOwn(Grid):
    def crop(self, x, rng):
        return super().crop(x, torch.Generator().manual_seed(next(TICKS)))


class OneCorner(Grid):
    def crop(self, x, rng):
        return grow(x, self.size, self.size)[..., : self.size, : self.size].clone()


class FloatPicture(Grid):
    def render(self, x):
        return x.expand(3, -1, -1)


class Wrapped(nn.Module):
    def __init__(self, network, change):
        super().__init__()
        self.network, self.change = network, change

    def forward(self, x):
        return self.change(self.network, x)


class NoTanh(Grid):
    def decoder(self, networks, skips):
        return Wrapped(super().decoder(networks, skips), lambda network, x: network(x) * 1000)


class FlatScores(Grid):
    def discriminator(self, networks):
        return Wrapped(super().discriminator(networks), lambda network, x: network(x).flatten(1))


class NarrowLatent(Grid):
    def encoder(self, networks):
        return Wrapped(super().encoder(networks), lambda network, x: [z[:, :3] for z in network(x)])


class LooksAtTheBatch(Grid):
    def encoder(self, networks):
        return Wrapped(super().encoder(networks), lambda network, x: [z - z.mean(0) for z in network(x)])


class TensorMetric(Grid):
    def metrics(self):
        return {"error": lambda x, y: (x - y).abs().mean()}


class EmptyIsAValueError(Grid):
    def load(self, path):
        return super().load(path) if path.stat().st_size else np.zeros(0).reshape(1, 1)


class EmptyIsNothing(Grid):
    def load(self, path):
        return super().load(path) if path.stat().st_size else np.zeros((0, 3), np.float32)


class EmptyIsNobody(Grid):
    def load(self, path):
        try:
            return super().load(path)
        except RecordingError:
            raise RecordingError("not a grid") from None


BROKEN = [
    (UpperCaseSuffix, "suffixes name the files it opens", "'.GRID' must begin with a dot and be lower case", ()),
    (NumpyShape, "shape is (channels, height, width)", "three positive whole numbers", ()),
    (FieldThatIsNoValue, "its fields survive a config", "not JSON serializable", ()),
    (CannotTravel, "it can travel to another process", "TypeError: holds an open port", ()),
    (CannotRead, "load reads the sample", "is not a grid", ()),
    (DoublePrecision, "to_tensor gives float32 (C, H', W')", "gives torch.float64; return x.float()", ()),
    (BatchOfOne, "to_tensor gives float32 (C, H', W')", "without a batch dimension", ()),
    (TooLoud, "to_tensor stays in [-1, 1]", "scale by the sensor's own limits and clamp", ()),
    (NotANumber, "to_tensor stays in [-1, 1]", "NaN or infinity", None),
    (
        Random, "to_tensor is repeatable", "draw nothing at random", ("two equal modalities are interchangeable",
        "the context can travel to another process"),
    ),
    (Remembers, "two equal modalities are interchangeable", "keep no state outside the fields", ()),
    (ChangesItsRecording, "nothing given is changed", "to_tensor changes the recording it is given", ()),
    (ChangesItsTensor, "nothing given is changed", "work on x.clone()", None),
    (ContextStaysAtHome, "the context can travel to another process", "Can't", ()),
    (LosesTheTop, "a recording survives the tensor", "carry what x loses in the context", ()),
    (CoarseFile, "a recording survives the file", "make save and load mirror each other", ()),
    (SecondFile, "a recording survives the file", "it must write 'sample.grid' and nothing else", ()),
    (TimeInTheFile, "the same recording is the same bytes", "leave out the time", ()),
    (
        NeedsContext, "no context is a context", "'NoneType' object is not subscriptable",
        ("a recording of any size comes back at its own size",),
    ),
    (NoFlatRecordings, "any tensor in [-1, 1] can be written", "ValueError: cannot normalise a flat grid", ()),
    (PadsForGood, "a recording of any size comes back at its own size", "keep the original size in the context", ()),
    (SmallCrop, "crop gives exactly shape", "it must give (1, 16, 16) float32", ()),
    (CropOfItsOwn, "crop is repeatable", "draw from `rng` only", ()),
    (OneCorner, "crop moves about", "training sees one corner only", ()),
    (FloatPicture, "render gives a picture", "it must give (3, H, W) uint8", ()),
    (NoTanh, "the networks fit the shape", "end it with tanh", ()),
    (FlatScores, "the networks fit the shape", "it must be (batch, 1, h, w)", ()),
    (NarrowLatent, "the networks fit the shape", "it must be (batch, 4 * width, h, w)", None),
    (LooksAtTheBatch, "a batch is its members", "the encoder answers differently for a batch", ()),
    (TensorMetric, "metrics give numbers", "it must give one float", ()),
    (EmptyIsAValueError, "an empty file is refused by name", "ValueError; raise RecordingError", ()),
    (EmptyIsNothing, "an empty file is refused by name", "to_tensor makes nothing of it", ()),
    (EmptyIsNobody, "an empty file is refused by name", "name the file", ()),
]


@pytest.fixture
def sample(tmp_path):
    path = tmp_path / "one.grid"
    Grid().save(np.random.default_rng(0).random((20, 27), dtype=np.float32), path)
    return path


def test_a_good_modality_keeps_every_law(sample):
    laws = check_modality(Grid(), [sample], tolerance=1e-6)
    assert [str(law) for law in laws if not law.passed] == []
    assert len(laws) == len({law.name for law in laws}) == 25


@pytest.mark.parametrize(("cls", "name", "advice", "also"), BROKEN, ids=[row[0].__name__ for row in BROKEN])
def test_a_broken_modality_is_caught_by_its_law(cls, name, advice, also, sample):
    broken = [law for law in check_modality(cls(), [sample]) if not law.passed]
    assert broken and broken[0].name == name
    assert advice in broken[0].found
    if also is not None:                                # None: what it breaks spreads through all that follows
        assert tuple(law.name for law in broken[1:]) == also


def test_every_law_has_a_modality_that_breaks_it(sample):
    assert {law.name for law in check_modality(Grid(), [sample])} == {name for _, name, _, _ in BROKEN}


def test_a_grid_that_the_networks_cannot_halve_is_told(sample):
    broken = [law for law in check_modality(Grid(size=18), [sample]) if not law.passed]
    assert broken[0].name == "the networks fit the shape"
    assert "height and width of shape must be multiples of the stride, 4" in broken[0].found


def test_a_recording_may_be_given_instead_of_a_file():
    laws = check_modality(Grid(), [np.zeros((4, 5), np.float32)])
    assert all(law.passed for law in laws) and "load reads the sample" not in {law.name for law in laws}


def test_the_callers_own_distance_decides(sample):
    def largest(raw, back):
        return float(abs(raw - back).max())

    assert all(law.passed for law in check_modality(CoarseFile(), [sample], tolerance=0.6, distance=largest))
    laws = check_modality(CoarseFile(), [sample], tolerance=0.4, distance=largest)
    assert [law.name for law in laws if not law.passed] == ["a recording survives the file"]


def test_a_law_reads_as_one_line():
    assert str(Law("crop moves about", "x.grid", "")) == "ok      crop moves about [x.grid]"
    assert str(Law("its fields survive a config", "", "they fail")) == "BROKEN  its fields survive a config: they fail"
