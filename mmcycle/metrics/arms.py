"""The training sets that a network is taught on in turn, and what is done to their samples in every pass.

Everything is a pure function of (seed, step). Letters: N samples of a batch, C channels, H W size, K classes.
"""
from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mmcycle.data.samplers import EndlessSampler
from mmcycle.data.seeds import seed_of
from mmcycle.metrics.labelled import Samples

Change = Callable[[Tensor, torch.Generator], Tensor]        # (N, C, H, W) in [-1, 1] -> the same shape and range

LUMA = (0.299, 0.587, 0.114)                    # Rec. ITU-R BT.601
SHIFT, ZOOM = 0.05, 0.1                         # of the size, to either side: in every arm alike
FAR = 3.5                                       # times as much of both, in self-training
BETA = (0.01, 0.1)                              # of the size: the low frequencies that are exchanged


@dataclass(frozen=True, eq=False)
class Arm:
    """One way to a training set: each batch takes equal parts of the pools, then `change` happens to it.

    translator   the place of the run whose translations it holds; None: it holds none
    depends      on what else `change` depends, for `sha256`
    """

    name: str
    pools: tuple[Samples, ...]
    change: Change | None = None
    translator: int | None = None
    depends: str = ""

    @property
    def sha256(self) -> str:
        told = (self.name, *(pool.sha256 for pool in self.pools), self.depends)
        return hashlib.sha256("/".join(told).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Batches:
    """The batch of every step. zoom: pictures are also scaled a little, other sensors only shifted along their rows;
    far: pictures that have masks more, and mirrored; light: what happens to every sample in the end.
    """

    arm: Arm
    size: int
    seed: int
    zoom: bool
    far: bool = False
    light: Change | None = None

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """x (N, C, H, W), y (N,) or (N, H, W) with -1 where none counts."""
        taken = [pool_part(pool, place, step, self) for place, pool in enumerate(self.arm.pools)]
        x, y = (torch.cat(parts) for parts in zip(*taken))
        x, y = moved(x, y, self._rng("place", step), self.zoom, self.far)
        if self.arm.change is not None:
            x = self.arm.change(x, self._rng("change", step))
        return (x if self.light is None else self.light(x, self._rng("light", step))), y

    def _rng(self, name: str, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed_of(self.seed, name, step))


def pool_part(pool: Samples, place: int, step: int, batches: Batches) -> tuple[Tensor, Tensor]:
    """The part of a batch that comes from one pool, whose items come in an endless, balanced order."""
    size = batches.size // len(batches.arm.pools)
    order = EndlessSampler(len(pool), batch_size=size, seed=batches.seed, name=f"pool {place}")
    rows = torch.tensor([order.index(slot) for slot in order.slots(step)])
    return pool.x[rows], pool.y[rows]


def moved(x: Tensor, y: Tensor, rng: torch.Generator, zoom: bool, far: bool = False) -> tuple[Tensor, Tensor]:
    """Shifted and scaled a little, each sample its own way; masks move along, -1 outside of them.

    far: pictures that have masks are moved 3.5 times as far, and every other one is mirrored.
    """
    far = far and zoom and y.ndim == 3
    much = FAR if far else 1.0
    scale = 1 + much * ZOOM * _uniform(len(x), rng) if zoom else torch.ones(len(x))
    right, down = 2 * much * SHIFT * _uniform(len(x), rng), 2 * much * SHIFT * _uniform(len(x), rng) * zoom
    side = _some(x, 0.5, rng).flatten() if far else torch.zeros(len(x), dtype=torch.bool)
    none = torch.zeros(len(x))
    across = torch.where(side, -scale, scale)
    matrix = torch.stack([torch.stack([across, none, right], 1), torch.stack([none, scale, down], 1)], 1)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    how = "bilinear" if zoom else "nearest"             # what a sensor measured nowhere is not mixed into its echoes
    x = F.grid_sample(x, grid, mode=how, padding_mode="reflection", align_corners=False)
    if y.ndim == 3:
        y = F.grid_sample(y[:, None].float() + 1, grid, mode="nearest", align_corners=False)[:, 0].round().long() - 1
    return x, y


def picture_jitter(x: Tensor, rng: torch.Generator) -> Tensor:
    """Strong classic augmentation of pictures, each its own: brightness, contrast, saturation to 60 %, hue to 0.3 of a
    turn (about the gray axis), gray for one in five, gamma 0.5 to 2, blur and noise for half of them.
    """
    x = (x + 1) / 2
    x = (x * _factor(x, 0.6, rng)).clamp(0, 1)
    mean = _gray(x).mean((1, 2, 3), keepdim=True)
    x = torch.lerp(mean, x, _factor(x, 0.6, rng)).clamp(0, 1)
    if x.shape[1] == 3:
        x = torch.lerp(_gray(x), x, _factor(x, 0.6, rng)).clamp(0, 1)
        x = _turned(x, 0.3 * _uniform(len(x), rng)).clamp(0, 1)
        x = torch.where(_some(x, 0.2, rng), _gray(x), x)
    x = x.clamp_min(1e-6) ** (2 ** _uniform(len(x), rng)).reshape(-1, 1, 1, 1)
    x = torch.where(_some(x, 0.5, rng), _blurred(x, 0.1 + 1.4 * torch.rand(len(x), generator=rng)), x)
    noise = 0.1 * torch.rand(len(x), 1, 1, 1, generator=rng) * torch.randn(x.shape, generator=rng)
    return 2 * torch.where(_some(x, 0.5, rng), x + noise, x).clamp(0, 1) - 1


def picture_light(x: Tensor, rng: torch.Generator) -> Tensor:
    """Another light, each its own: brightness and contrast to 30 %, gamma 0.66 to 1.5, saturation to 40 %, each channel
    to 10 %.
    """
    x = ((x + 1) / 2 * _factor(x, 0.3, rng)).clamp(1e-6, 1) ** (2 ** (0.6 * _uniform(len(x), rng))).reshape(-1, 1, 1, 1)
    x = torch.lerp(x.mean((1, 2, 3), keepdim=True), x, _factor(x, 0.3, rng))
    x = torch.lerp(x.mean(1, keepdim=True), x, _factor(x, 0.4, rng))
    x = x * (1 + 0.1 * (2 * torch.rand(*x.shape[:2], 1, 1, generator=rng) - 1))
    return (2 * x - 1).clamp(-1, 1)


def signal_jitter(x: Tensor, rng: torch.Generator) -> Tensor:
    """Classic augmentation of any other sensor: gain to 20 %, noise, one masked band of rows and one of columns, each
    up to an eighth of the size (Park et al., 2019, SpecAugment).
    """
    x = x * _factor(x, 0.2, rng) + 0.1 * _uniform(len(x), rng).reshape(-1, 1, 1, 1)
    x = x + 0.2 * torch.rand(len(x), 1, 1, 1, generator=rng) * torch.randn(x.shape, generator=rng)
    lowest = x.amin((2, 3), keepdim=True)
    for axis in (2, 3):
        length = x.shape[axis]
        wide = torch.rand(len(x), 1, generator=rng) * length / 8
        first = torch.rand(len(x), 1, generator=rng) * (length - wide)
        place = torch.arange(length)
        masked = (place >= first) & (place < first + wide)
        x = torch.where(masked[:, None, :, None] if axis == 2 else masked[:, None, None, :], lowest, x)
    return x.clamp(-1, 1)


def statistics_of(target: Tensor) -> Change:
    """Give each sample, channel by channel, mean and deviation of a recording of the target that is drawn for it."""
    means, deviations = target.mean((2, 3), keepdim=True), target.std((2, 3), keepdim=True)

    def change(x: Tensor, rng: torch.Generator) -> Tensor:
        rows = torch.randint(len(target), (len(x),), generator=rng)
        own = x.std((2, 3), keepdim=True).clamp_min(1e-4)
        return ((x - x.mean((2, 3), keepdim=True)) / own * deviations[rows] + means[rows]).clamp(-1, 1)

    return change


def fourier_of(target: Tensor) -> Change:
    """Give each sample the low-frequency amplitudes of a recording of the target that is drawn for it.

    Yang and Soatto, 2020 (FDA): eq. 3, with beta drawn from 0.01 to 0.1.
    """
    amplitudes = torch.fft.fft2(target).abs()

    def change(x: Tensor, rng: torch.Generator) -> Tensor:
        rows = torch.randint(len(target), (len(x),), generator=rng)
        beta = BETA[0] + (BETA[1] - BETA[0]) * torch.rand(len(x), 1, 1, 1, generator=rng)
        height, width = x.shape[-2:]
        reach = (beta * min(height, width)).floor()
        down, right = (torch.fft.fftfreq(size, 1 / size).abs() for size in (height, width))
        low = (down[:, None] <= reach) & (right <= reach)
        spectrum = torch.fft.fft2(x)
        amplitude = torch.where(low, amplitudes[rows], spectrum.abs())
        return torch.fft.ifft2(torch.polar(amplitude, spectrum.angle())).real.clamp(-1, 1)

    return change


def sometimes(change: Change) -> Change:
    """`change` for about half of the samples."""

    def found(x: Tensor, rng: torch.Generator) -> Tensor:
        return torch.where(_some(x, 0.5, rng), change(x, rng), x)

    return found


def shuffled(pool: Samples, seed: int) -> Samples:
    """The placebo: each sample has another one's label."""
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed_of(seed, "placebo")))
    return Samples(pool.x, pool.y[order], pool.groups)


def _uniform(count: int, rng: torch.Generator) -> Tensor:
    """(count,) in [-1, 1]."""
    return 2 * torch.rand(count, generator=rng) - 1


def _factor(x: Tensor, reach: float, rng: torch.Generator) -> Tensor:
    return 1 + reach * _uniform(len(x), rng).reshape(-1, 1, 1, 1)


def _some(x: Tensor, share: float, rng: torch.Generator) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, generator=rng) < share


def _gray(x: Tensor) -> Tensor:
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    """Colours turned about the gray axis (Rodrigues), (N,) turns."""
    cos, sin = (f(2 * math.pi * turns)[:, None, None] for f in (torch.cos, torch.sin))
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
    matrix = cos * torch.eye(3) + sin * cross + (1 - cos) / 3
    return torch.einsum("nij,njhw->nihw", matrix, x)


def _blurred(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian, (N,) pixels."""
    count, channels, height, width = x.shape
    reach = min(3, height - 1, width - 1)
    bell = (-torch.arange(-reach, reach + 1).square() / (2 * sigma[:, None] ** 2)).exp()
    bell = (bell / bell.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]
    y = F.pad(x.reshape(1, -1, height, width), (reach,) * 4, mode="reflect")
    y = F.conv2d(y, bell[:, :, :, None], groups=count * channels)
    return F.conv2d(y, bell[:, :, None, :], groups=count * channels).reshape(x.shape)
