"""Two labelled sweeps mixed into one, labels along with their points: the baselines LaserMix and PolarMix.

Letters: N points of a sweep, H rows and W columns of a range image. Angles are degrees; azimuth grows to the left.
"""
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import cos, radians, sin
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from mmcycle.errors import UserError
from mmcycle.transforms.named import probability
from mmcycle.transforms.sensors import Boxes3D, Points, RangeImage, wrap
from mmcycle.transforms.streams import LABELS, described

FULL_TURN = (0.0, 360.0)                # degrees, middle and width
Sweep = Mapping[str, Any]
Params = dict[str, Any]
Fields = dict[str, Tensor]             # all that belongs to the points, (N, ...), or to the pixels, (..., H, W)


class SweepMix(v2.Transform, ABC):
    """What is mixed, and with whom.

        mix(sweep_a, sweep_b)       one sweep, in which some of sweep_b stands in sweep_a
        mix([sweep, ...])           as many, each mixed with another of them, before they are collated

    A sweep is a dict: points (N, 3 or more), a `Points` or under the name `stream`, with labels (N,); or a range image
    (C, H, W), a `RangeImage` or under that name, with labels (H, W). Everything else is that of sweep_a.

    p           of each mix
    labels      key of the classes
    instances   key of the numbers of things, above 0, where a sweep has them; the partner's are raised to stay distinct
    also        keys of whatever else belongs to the single points or pixels: times, normals
    """

    def __init__(self, p: float, stream: str | None, labels: str, instances: str, also: Sequence[str]):
        super().__init__()
        self.p, self.stream, self.labels, self.instances = probability(p, self), stream, labels, instances
        self.also = tuple(also)

    def forward(self, *sweeps: Any) -> Any:
        """Two sweeps -> one; a list of sweeps -> a list."""
        if len(sweeps) == 2:
            return self._mixed(*sweeps)
        if len(sweeps) != 1 or not isinstance(sweeps[0], list | tuple):
            self._refuse("takes two sweeps, or a list of sweeps")
        many = list(sweeps[0])
        order = torch.randperm(len(many)).tolist()
        partner = dict(zip(order, order[1:] + order[:1]))           # nobody is mixed with itself, but one alone
        return [self._mixed(many[place], many[partner[place]]) for place in range(len(many))] if len(many) > 1 else many

    @abstractmethod
    def make_params(self, flat_inputs: list[Any]) -> Params:
        """What is drawn for one mix."""

    @abstractmethod
    def mix_points(self, a: Fields, b: Fields, name: str, params: Params) -> Fields:
        """The points of two sweeps -> of one; `name` is under which they stand."""

    @abstractmethod
    def mix_images(self, a: Fields, b: Fields, name: str, params: Params) -> Fields:
        """The pixels of two sweeps -> of one."""

    def _mixed(self, sweep_a: Sweep, sweep_b: Sweep) -> dict[str, Any]:
        applies, params = bool(torch.rand(()) < self.p), self.make_params([])
        name = self._stream(sweep_a)
        if not applies:
            return dict(sweep_a)
        cloud = sweep_a[name].ndim == 2
        a, b = (self._fields(sweep, name, cloud) for sweep in (sweep_a, sweep_b))
        self._check_pair(a, b, name, cloud)
        if self.instances in a:
            b[self.instances] = _raised(b[self.instances], _most(a[self.instances]))
        windows = [getattr(sweep[name], "azimuth", FULL_TURN) for sweep in (sweep_a, sweep_b)]
        if windows[0] != windows[1]:
            self._refuse(f"{name!r} covers {windows[0]} in one sweep, {windows[1]} in the other")
        params = params | {"azimuth": windows[0]}
        made = (self.mix_points if cloud else self.mix_images)(a, b, name, params)
        return {**sweep_a, **{key: _typed(value, sweep_a[key]) for key, value in made.items()}}

    def _stream(self, sweep: Sweep) -> str:
        if not isinstance(sweep, Mapping):
            self._refuse(f"a sweep is a dict; got {described(sweep)}")
        names = [key for key, value in sweep.items() if isinstance(value, Points | RangeImage)]
        names = names if self.stream is None else [self.stream]
        if len(names) != 1 or not isinstance(sweep.get(names[0]), Tensor) or sweep[names[0]].ndim not in (2, 3):
            held = ", ".join(f"{key!r} {described(value)}" for key, value in sweep.items())
            self._refuse(f"takes points (N, 3 or more) or one range image (C, H, W), named with stream=; found {held}")
        return names[0]

    def _fields(self, sweep: Sweep, name: str, cloud: bool) -> Fields:
        """All that belongs to points or pixels, as plain tensors."""
        own = self._stream(sweep)
        names = [name, self.labels, *([self.instances] if self.instances in sweep else []), *self.also]
        missing = [key for key in names if not isinstance(sweep.get(key), Tensor)]
        if missing or own != name:
            self._refuse(f"a sweep lacks {', '.join(missing or [name])}; it holds {', '.join(map(str, sweep))}")
        size = _size(sweep[name], cloud)
        for key, value in sweep.items():
            if isinstance(value, (*LABELS, Boxes3D)):
                self._refuse(f"{key!r} is {described(value)}; boxes do not hold for a mix of two sweeps, take them out")
            if isinstance(value, Tensor) and (_size(value, cloud) == size) != (key in names):
                wrong = "is of another number" if key in names else "seems to belong to them and is not named in also="
                every = f"the {'points' if cloud else 'pixels'} of {name!r} {described(sweep[name])}"
                self._refuse(f"{key!r} {described(value)} stands beside {every}; it {wrong}")
        return {key: sweep[key].as_subclass(Tensor) for key in names}

    def _check_pair(self, a: Fields, b: Fields, name: str, cloud: bool) -> None:
        if set(a) != set(b):
            self._refuse(f"one sweep has {', '.join(set(a) ^ set(b))} and the other has not")
        for key in a:
            free = 1 if cloud else 0            # a sweep may have more points than another
            if a[key].shape[free:] != b[key].shape[free:] or a[key].dtype != b[key].dtype:
                self._refuse(f"{key!r} is {described(a[key])} in one sweep, {described(b[key])} in the other")

    def _refuse(self, sentence: str) -> None:
        raise UserError(f"{type(self).__name__}: {sentence}")


class LaserMix(SweepMix):
    """Bands of elevation, in turn from the one sweep and from the other: Kong et al. 2023, section 3.2.

    areas       how many bands; one of these numbers is drawn, and which sweep has the uppermost
    elevation   (lowest, highest) that the bands divide evenly; what lies beyond is of the outermost. None: as far as
                the points of both go. Of range images the rows are divided
    """

    def __init__(
        self, areas: Sequence[int] = (3, 4, 5, 6), *, elevation: tuple[float, float] | None = None, p: float = 1.0,
        stream: str | None = None, labels: str = "labels", instances: str = "instances", also: Sequence[str] = (),
    ):
        super().__init__(p, stream, labels, instances, also)
        if not areas or min(areas) < 2:
            self._refuse(f"areas are {tuple(areas)}; numbers of bands, 2 or more each")
        if elevation is not None and not -90 <= elevation[0] < elevation[1] <= 90:
            self._refuse(f"elevation is {elevation}; (lowest, highest) in degrees")
        self.areas, self.elevation = tuple(areas), elevation

    def make_params(self, flat_inputs: list[Any]) -> Params:
        return {"areas": self.areas[int(torch.randint(len(self.areas), ()))], "first": int(torch.randint(2, ()))}

    def mix_points(self, a: Fields, b: Fields, name: str, params: Params) -> Fields:
        heights = [_elevation(sweep[name]) for sweep in (a, b)]
        low, high = self.elevation or _reach(heights)
        edges = torch.linspace(low, high, params["areas"] + 1, dtype=torch.float64, device=heights[0].device)[1:-1]
        from_top = [params["areas"] - 1 - torch.bucketize(height, edges) for height in heights]
        turns = [(band + params["first"]) % 2 for band in from_top]
        return _joined([(a, turns[0] == 0), (b, turns[1] == 1)])

    def mix_images(self, a: Fields, b: Fields, name: str, params: Params) -> Fields:
        rows = a[name].shape[-2]
        band = torch.arange(rows, device=a[name].device) * params["areas"] // rows
        return _overlaid(a, b, rearrange((band + params["first"]) % 2 == 1, "h -> h 1"))


class PolarMix(SweepMix):
    """A sector of azimuth from the other sweep, and the other's things once more, turned: Xiao et al. 2022, section 3.

    things    the classes of which points are pasted: once where they are, and turned about the sensor into each of
              `copies` - 1 equal parts of the circle
    sector    degrees that are swapped, with probability `swap`; `paste` is that of the things
    empty     what channel 0 of a range image, the range, says where nothing returned; the nearer of two pixels stays

    Turned points keep their other numbers; nothing that stood where they are pasted is taken away, as in the paper. A
    thing that was pasted where it was is one thing with its points of the sector; a turned one has a number of its own.
    """

    def __init__(
        self, things: Sequence[int], *, sector: float = 180.0, copies: int = 3, swap: float = 0.5, paste: float = 1.0,
        empty: float = 0.0, p: float = 1.0, stream: str | None = None, labels: str = "labels",
        instances: str = "instances", also: Sequence[str] = (),
    ):
        super().__init__(p, stream, labels, instances, also)
        if not 0 < sector < 360 or copies < 1:
            self._refuse(f"sector is {sector} and copies {copies}; allowed are 0 to 360 degrees, and 1 or more")
        self.swap, self.paste = probability(swap, self, "swap"), probability(paste, self, "paste")
        self.things, self.sector, self.copies, self.empty = tuple(things), sector, copies, empty

    def make_params(self, flat_inputs: list[Any]) -> Params:
        swap, paste, start, *shares = torch.rand(3 + self.copies - 1, dtype=torch.float64).tolist()
        turns = [0.0, *((number + share) * 360 / self.copies for number, share in enumerate(shares))]
        return {"start": start * 360 if swap < self.swap else None, "turns": turns if paste < self.paste else []}

    def mix_points(self, a: Fields, b: Fields, name: str, params: Params) -> Fields:
        swapped = [self._in_sector(_azimuth(sweep[name]), params["start"]) for sweep in (a, b)]
        things = self._things(b)
        parts = [(a, ~swapped[0]), (b, swapped[1])]
        for number, turn in enumerate(params["turns"]):
            copy = self._renumbered(a, b, number)
            parts.append((copy | {name: _turned(b[name], turn)}, things) if turn else (copy, things & ~swapped[1]))
        return _joined(parts)

    def mix_images(self, a: Fields, b: Fields, name: str, params: Params) -> Fields:
        columns, (middle, width) = a[name].shape[-1], params["azimuth"]
        place = torch.arange(columns, dtype=torch.float64, device=a[name].device)
        sector = self._in_sector(middle + width / 2 - (place + 0.5) * width / columns, params["start"])
        made = _overlaid(a, b, sector)
        for number, turn in enumerate(params["turns"]):
            left = round(((turn + 180) % 360 - 180) / width * columns)
            copy = {key: value.roll(-left, dims=-1) for key, value in self._renumbered(a, b, number).items()}
            here = self._things(copy) & (((0 <= place + left) & (place + left < columns)) | (width == 360))
            here = here & ((made[name][0] == self.empty) | (copy[name][0] < made[name][0]))
            made = _overlaid(made, copy, here & (copy[name][0] != self.empty))
        return made

    def _things(self, sweep: Fields) -> Tensor:
        classes = sweep[self.labels].long()
        return torch.isin(classes, torch.tensor(self.things, dtype=torch.int64, device=classes.device))

    def _in_sector(self, azimuth: Tensor, start: float | None) -> Tensor:
        return torch.zeros_like(azimuth, dtype=torch.bool) if start is None else (azimuth - start) % 360 < self.sector

    def _renumbered(self, a: Fields, b: Fields, number: int) -> Fields:
        """The things of b as others, above those of a and of b and of the copies before."""
        if self.instances not in b:
            return b
        things = max(0, _most(b[self.instances]) - _most(a[self.instances]))
        return b | {self.instances: _raised(b[self.instances], number * things)}


def _joined(parts: Sequence[tuple[Fields, Tensor]]) -> Fields:
    """Of each sweep the points that are meant, one sweep after the other."""
    return {key: torch.cat([sweep[key][meant] for sweep, meant in parts]) for key in parts[0][0]}


def _overlaid(below: Fields, above: Fields, meant: Tensor) -> Fields:
    return {key: torch.where(meant, above[key], below[key]) for key in below}


def _raised(numbers: Tensor, by: int) -> Tensor:
    """Those of things, above 0, by so much."""
    wide = numbers.long()
    wide = torch.where(wide > 0, wide + by, wide)
    if wide.numel() and int(wide.max()) > torch.iinfo(numbers.dtype).max:
        raise UserError(
            f"instances of {str(numbers.dtype).removeprefix('torch.')} cannot hold {int(wide.max())}, the number of a "
            "thing in the mix; give them as int64"
        )
    return wide.to(numbers.dtype)


def _most(numbers: Tensor) -> int:
    return max(0, int(numbers.long().max())) if numbers.numel() else 0


def _azimuth(points: Tensor) -> Tensor:
    """(N, 3 or more) -> (N,) degrees, 0 ahead, 90 left."""
    x, y = points[:, :2].double().T
    return torch.atan2(y, x).rad2deg()


def _elevation(points: Tensor) -> Tensor:
    """(N, 3 or more) -> (N,) degrees, 0 level, positive up."""
    x, y, z = points[:, :3].double().T
    return torch.atan2(z, torch.hypot(x, y)).rad2deg()


def _reach(elevations: Sequence[Tensor]) -> tuple[float, float]:
    """From the lowest to the highest; points that are no numbers do not count."""
    every = torch.cat(list(elevations))
    every = every[every.isfinite()]
    return (float(every.min()), float(every.max())) if len(every) else (-90.0, 90.0)


def _turned(points: Tensor, angle: float) -> Tensor:
    """About the sensor's upright axis, degrees to the left; what is no coordinate stays."""
    x, y = points[:, :2].double().T
    c, s = cos(radians(angle)), sin(radians(angle))
    made = points.clone()
    made[:, 0], made[:, 1] = (c * x - s * y).to(points.dtype), (s * x + c * y).to(points.dtype)
    return made


def _typed(made: Tensor, like: Tensor) -> Tensor:
    return wrap(made, like=like) if isinstance(like, tv_tensors.TVTensor) else made


def _size(tensor: Tensor, cloud: bool) -> tuple[int, ...]:
    """Of how many points, or pixels, it speaks."""
    return tuple(tensor.shape[:1] if cloud else tensor.shape[-2:])
