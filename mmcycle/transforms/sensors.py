"""The sensors that torchvision has no tv_tensor for: sound, frames with a rate, sweeps, boxes in space, range images.

They pass untouched through torchvision's own transforms, except for Frames, which are a Video to them. Like all
tv_tensors they come out of arithmetic, and of a loader's collate, as plain tensors; `wrap` gives back what they were.
"""
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Self

from torch import Tensor
from torch.utils import _pytree as pytree           # as torchvision.transforms.v2 does
from torchvision import tv_tensors

from mmcycle.errors import UserError

Rate = float | Fraction                             # per second; 30000/1001 frames are told by a Fraction alone

class _Knowing(tv_tensors.TVTensor):
    """What stands beside the numbers, in __dict__, goes along to whatever is made of them."""

    @classmethod
    def wrap(cls, tensor: Tensor, like: tv_tensors.TVTensor, **changes: Any) -> Self:
        """torchvision asks for this signature: `changes` are what is to be known instead."""
        made = tensor.as_subclass(cls)
        made.__dict__.update({**like.__dict__, **changes})
        return made

    @classmethod
    def _wrap_output(cls, output: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Of clone, to, detach, ...; lists of tensors come here again, one by one."""
        made = super()._wrap_output(output, args, kwargs)
        if isinstance(made, cls):
            givers = (leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, cls))
            made.__dict__.update(next(givers, made).__dict__)
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return self._make_repr(**self.__dict__)


class Wave(_Knowing):
    """Sound, (..., samples) floats; channels before samples, rate in Hz."""

    rate: Rate

    def __new__(cls, data: Any, *, rate: Rate) -> Self:
        tensor = cls._to_tensor(data)
        if tensor.ndim < 1 or not tensor.is_floating_point():
            raise UserError(f"Wave: {_shown(tensor)} is not (..., samples) of floats")
        made = tensor.as_subclass(cls)
        made.rate = _positive(rate, "Wave")
        return made


class Frames(_Knowing, tv_tensors.Video):
    """Pictures that follow each other at one rate, (..., frames, channels, height, width); rate per second."""

    rate: Rate

    def __new__(cls, data: Any, *, rate: Rate) -> Self:
        tensor = cls._to_tensor(data)
        if tensor.ndim < 4:
            raise UserError(f"Frames: {_shown(tensor)} is not (..., frames, channels, height, width)")
        made = tensor.as_subclass(cls)
        made.rate = _positive(rate, "Frames")
        return made


class Points(_Knowing):
    """A sweep, (N, 3 or more): metres ahead, to the left and up, then whatever else is known of a point."""

    def __new__(cls, data: Any) -> Self:
        tensor = cls._to_tensor(data)
        if tensor.ndim != 2 or tensor.shape[1] < 3 or not tensor.is_floating_point():
            raise UserError(f"Points: {_shown(tensor)} is not (N, 3 or more) of floats")
        return tensor.as_subclass(cls)


class Boxes3D(_Knowing):
    """Boxes in space, (K, 7): x, y, z of the centre, length, width, height in metres; yaw, radians from x towards y."""

    def __new__(cls, data: Any) -> Self:
        tensor = cls._to_tensor(data)
        if tensor.ndim != 2 or tensor.shape[1] != 7 or not tensor.is_floating_point():
            raise UserError(f"Boxes3D: {_shown(tensor)} is not (K, 7) of floats")
        return tensor.as_subclass(cls)


class RangeImage(_Knowing):
    """A sweep as its sensor saw it, (channels, rows, columns); columns go from left to right.

    azimuth   degrees, middle and width of what the columns cover; positive to the left
    """

    azimuth: tuple[float, float]

    def __new__(cls, data: Any, *, azimuth: tuple[float, float] = (0.0, 360.0)) -> Self:
        tensor = cls._to_tensor(data)
        if tensor.ndim != 3:
            raise UserError(f"RangeImage: {_shown(tensor)} is not (channels, rows, columns)")
        middle, width = azimuth
        if not 0 < width <= 360:
            raise UserError(f"RangeImage: azimuth is ({middle}, {width}); the width is above 0 and up to 360 degrees")
        made = tensor.as_subclass(cls)
        made.azimuth = (float(middle), float(width))
        return made


SENSORS = (Wave, Points, Boxes3D, RangeImage)       # to torchvision they are nothing; Frames are a Video


def wrap(tensor: Tensor, *, like: tv_tensors.TVTensor) -> tv_tensors.TVTensor:
    """tv_tensors.wrap, which before torchvision 0.29 dropped what only we know."""
    return type(like).wrap(tensor, like) if isinstance(like, _Knowing) else tv_tensors.wrap(tensor, like=like)


def rate_of(stream: Wave | Frames) -> Rate:
    """Samples, or frames, per second."""
    if "rate" not in stream.__dict__:
        raise UserError(
            f"{type(stream).__name__}: the rate is lost: before 0.29, torchvision drops it from what it transforms; "
            "crop in time before that"
        )
    return stream.rate


def _positive(rate: Rate, name: str) -> Rate:
    if not 0 < rate < float("inf"):
        raise UserError(f"{name}: rate is {rate}; it is a number above 0, per second")
    return rate if isinstance(rate, int | Fraction) else float(rate)


def _shown(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
