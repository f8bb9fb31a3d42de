"""A picture of any size, depth and number of bands, seen by the networks at its own scale.

Letters: H W size of a training crop, H' W' size of a whole picture, C bands (channels) of the domain.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Gt

from mmcycle.errors import RecordingError, UserError
from mmcycle.modalities.picture_files import SUFFIXES, Picture, read_picture, write_picture
from mmcycle.modality import Modality

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Pixels = Annotated[int, Gt(0)]
OVERSHOOT = 0.1                                     # share of its range that a float picture in memory may leave it by
LUMA = (0.299, 0.587, 0.114)                        # Rec. ITU-R BT.601, the weights that Pillow uses too


@dataclass(frozen=True, kw_only=True)
class Image(Modality):
    """Photographs, thermal frames, satellite tiles, scans.

    A file comes back at its own size, bit depth and format. Colours and bands between file and domain:
    a gray file is repeated for a domain of three channels, and stays gray when the result is gray in every pixel,
    else it becomes RGB; a colour file becomes its luma for a domain of one channel; transparency is never shown to
    the networks and comes back untouched; any other difference in the number of bands is an error.
    """

    size: Pixels | tuple[Pixels, Pixels] = 256      # training crop: one side, or (height, width), pixels
    channels: Annotated[int, Gt(0)] = 3             # 3 colour, 1 gray, else the number of bands of every file
    short_side: Pixels | None = None                # what the networks see it resized to, pixels; none: its own size
    stretch: tuple[Pixels, Pixels] | None = None    # or resized to this (height, width), its proportions given up
    flip: Literal["none", "horizontal", "vertical", "both"] = "none"    # half of the crops are mirrored so
    value_range: tuple[float, float] | None = None  # of 16-bit and float files; none: 0-65535 and 0-1
    max_pixels: Annotated[int, Gt(0)] = 300_000_000     # larger pictures are refused before they are decoded

    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES

    def __post_init__(self) -> None:
        low, high = self.value_range or (0.0, 1.0)
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise UserError(f"value_range: got ({low}, {high}); it must be two numbers, the lower one first")
        if self.short_side is not None and self.stretch is not None:
            raise UserError("short_side keeps the proportions of a picture and stretch gives them up; set one of them")

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width = self.size if isinstance(self.size, tuple | list) else (self.size, self.size)
        return self.channels, height, width

    def load(self, path: Path) -> Picture:
        picture = read_picture(path, self.max_pixels)
        self._check(picture, path)
        return picture

    def save(self, raw: Picture | np.ndarray, path: Path) -> None:
        """Write a picture, or a plain (H', W', C) array, in the format that the suffix names.

        A suffix that cannot hold 16 bits or floats gets 8 bits, rounded to the nearest level.
        """
        picture = _as_picture(raw)
        write_picture(picture, path, self._span(picture.pixels.dtype))

    def to_tensor(self, raw: Picture | np.ndarray) -> tuple[Tensor, Origin]:
        """Every level of the file's depth becomes one value in [-1, 1]; the context keeps what x cannot carry."""
        picture = _as_picture(raw)
        x, size = self._levels(picture), self._seen_size(picture.pixels.shape[:2])
        x = x if size == tuple(x.shape[-2:]) else _resized(x, size)
        return x, Origin.of(picture, self._colours(picture.pixels).shape[2])

    def finest(self, raw: Picture | np.ndarray) -> Tensor | None:
        picture = _as_picture(raw)
        return None if self._seen_size(picture.pixels.shape[:2]) == picture.pixels.shape[:2] else self._levels(picture)

    def from_tensor(self, x: Tensor, context: Origin | None) -> Picture:
        """Rounded to the nearest level, without bias; no context: 8 bits at the size of x."""
        origin = context or Origin(size=tuple(x.shape[-2:]), dtype=np.dtype(np.uint8), colours=x.shape[0])
        x = x.detach().float().cpu()
        if tuple(x.shape[-2:]) != origin.size:
            x = _resized(x, origin.size)
        low, high = self._span(origin.dtype)
        levels = ((x.clamp(-1, 1) + 1) * ((high - low) / 2) + low).numpy().transpose(1, 2, 0)
        if origin.dtype != np.float32:
            levels = np.rint(levels)
        return origin.wrap(np.ascontiguousarray(levels, dtype=origin.dtype))

    def from_array(self, array: np.ndarray, rate: int | None = None) -> Picture | None:
        """(C', H', W') of uint8, uint16 or float32; floats may overshoot a little, as resizing makes them."""
        if rate is not None:
            raise UserError("a picture has no rate; leave rate out")
        known = (1, 3) if self.channels in (1, 3) else (self.channels,)
        if array.ndim != 3 or array.shape[0] not in known or not array.size:
            return None
        if array.dtype == np.float32:
            low, high = self._span(array.dtype)
            found, slack = (float(array.min()), float(array.max())), OVERSHOOT * (high - low)
            if not (low - slack <= found[0] and found[1] <= high + slack):
                raise UserError(
                    f"a picture of {array.dtype} runs from {found[0]:g} to {found[1]:g}, outside {low:g} to {high:g}; "
                    "translate it before it is normalised, or set value_range"
                )
        elif array.dtype not in (np.uint8, np.uint16):
            return None
        return Picture(np.ascontiguousarray(array.transpose(1, 2, 0)))

    def to_array(self, raw: Picture, like: np.ndarray) -> np.ndarray:
        """With as many bands as `like`: gray is repeated, colour becomes its luma."""
        bands = raw.pixels.transpose(2, 0, 1)
        if len(bands) == 3 and len(like) == 1:
            luma = np.tensordot(np.float32(LUMA), bands.astype(np.float32), 1)[None]
            return (luma if like.dtype == np.float32 else np.rint(luma)).astype(like.dtype)
        return np.array(np.broadcast_to(bands, like.shape))

    def crop(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """The window of every modality, then mirrored as `flip` allows."""
        import torch

        window = super().crop(x, rng)
        sides = {"none": (), "horizontal": (-1,), "vertical": (-2,), "both": (-1, -2)}[self.flip]
        mirrored = [side for side in sides if torch.rand((), generator=rng).item() < 0.5]
        return window.flip(mirrored) if mirrored else window

    def render(self, x: Tensor) -> Tensor:
        """The first three bands as red, green and blue; gray where there are fewer."""
        return super().render(x[:3])

    def metrics(self) -> dict[str, Callable[[Tensor, Tensor], float]]:
        return {"psnr_db": psnr, "ssim": ssim}

    def _check(self, picture: Picture, path: Path) -> None:
        try:
            colours = self._colours(picture.pixels)
        except RecordingError as error:
            raise RecordingError(f"{path}: {error}") from None
        if colours.dtype == np.uint8:
            return
        if not np.isfinite(colours).all():
            raise RecordingError(
                f"{path}: has pixels that are NaN or infinite; replace them before training or translating"
            )
        low, high = self._span(colours.dtype)
        found = float(colours.min()), float(colours.max())
        if found[0] < low or found[1] > high:
            raise RecordingError(
                f"{path}: its values run from {found[0]:g} to {found[1]:g}, outside {low:g} to {high:g}; "
                "set value_range to the lowest and highest value of the domain"
            )

    def _colours(self, pixels: np.ndarray) -> np.ndarray:
        """(H', W', C') -> its bands without transparency."""
        bands = pixels.shape[2]
        if bands == self.channels or (self.channels in (1, 3) and bands in (1, 3)):
            return pixels
        if self.channels in (1, 3) and bands in (2, 4):
            return pixels[..., :-1]
        raise RecordingError(
            f"has {bands} bands, this domain has channels: {self.channels}; convert the file or set channels"
        )

    def _levels(self, picture: Picture) -> Tensor:
        """(C, H', W') in [-1, 1], at the picture's own size."""
        import torch

        colours = self._colours(picture.pixels)
        low, high = self._span(colours.dtype)
        levels = torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1), dtype=np.float32))
        return self._to_channels((levels - low) * (2 / (high - low)) - 1).clamp(-1, 1)

    def _to_channels(self, x: Tensor) -> Tensor:
        if len(x) == 1 and self.channels == 3:
            return x.expand(3, -1, -1).contiguous()
        if len(x) == 3 and self.channels == 1:
            return (x * x.new_tensor(LUMA)[:, None, None]).sum(0, keepdim=True)
        return x

    def _seen_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) in which the networks see a picture of this size."""
        if self.stretch is not None:
            return tuple(self.stretch)
        if self.short_side is None:
            return size
        scale = self.short_side / min(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def _span(self, dtype: np.dtype) -> tuple[float, float]:
        """The values that become -1 and 1. Eight bits are always 0-255."""
        if dtype == np.uint8:
            return 0.0, 255.0
        return self.value_range or ((0.0, 65535.0) if dtype == np.uint16 else (0.0, 1.0))


@dataclass(frozen=True, eq=False, kw_only=True)
class Origin:
    """What a picture file had and its tensor cannot carry."""

    size: tuple[int, int]                           # (height, width), pixels
    dtype: np.dtype
    colours: int                                    # bands without transparency
    alpha: np.ndarray | None = None                 # (H', W', 1)
    bilevel: bool = False
    icc: bytes | None = None
    exif: bytes | None = None

    @staticmethod
    def of(picture: Picture, colours: int) -> Origin:
        pixels = picture.pixels
        return Origin(
            size=pixels.shape[:2], dtype=pixels.dtype, colours=colours, icc=picture.icc, exif=picture.exif,
            bilevel=picture.bilevel, alpha=pixels[..., colours:] if pixels.shape[2] > colours else None,
        )

    def wrap(self, levels: np.ndarray) -> Picture:
        """Levels (H', W', C) -> a picture like the file it came from, gray again where that loses nothing."""
        if self.colours == 1 and levels.shape[2] == 3 and (levels == levels[..., :1]).all():
            levels = np.ascontiguousarray(levels[..., :1])
        same = levels.shape[2] == self.colours      # a colour profile speaks of a number of bands
        bilevel = self.bilevel and same and bool(np.isin(levels, (0, 255)).all())
        pixels = levels if self.alpha is None else np.concatenate([levels, self.alpha], axis=2)
        return Picture(pixels, icc=self.icc if same else None, exif=self.exif, bilevel=bilevel)


def psnr(x: Tensor, y: Tensor) -> float:
    """Peak signal-to-noise ratio in decibels of two (C, H', W') in [-1, 1]; infinite for equal ones."""
    error = (x.double() - y.double()).square().mean()
    return float(10 * (4 / error).log10())          # the peak is 2: from -1 to 1


def ssim(x: Tensor, y: Tensor) -> float:
    """Structural similarity in [-1, 1], 1 for equal ones (Wang et al. 2004, eq. 13; 11 x 11 Gaussian, sigma 1.5)."""
    import torch
    from torch.nn import functional as F

    side = min(11, x.shape[-2], x.shape[-1])
    offsets = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    bell = (-offsets.square() / (2 * 1.5**2)).exp()
    window = (torch.outer(bell, bell) / bell.sum().square())[None, None]

    def blurred(z: Tensor) -> Tensor:
        return F.conv2d(z[:, None], window)

    x, y = (x.double() + 1) / 2, (y.double() + 1) / 2
    mean_x, mean_y = blurred(x), blurred(y)
    spread_x, spread_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    shared = blurred(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2 * mean_x * mean_y + c1) * (2 * shared + c2)
    return float((likeness / ((mean_x**2 + mean_y**2 + c1) * (spread_x + spread_y + c2))).mean())


def _as_picture(raw: Picture | np.ndarray) -> Picture:
    if isinstance(raw, Picture):
        return raw
    if raw.ndim not in (2, 3) or raw.dtype not in (np.uint8, np.uint16, np.float32):
        raise UserError(
            "a picture is an array (height, width[, bands]) of uint8, uint16 or float32; "
            f"got {raw.shape} of {raw.dtype}"
        )
    return Picture(np.atleast_3d(raw))


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    from torch.nn import functional as F

    return F.interpolate(x[None], size=size, mode="bicubic", antialias=True)[0].clamp(-1, 1)
