"""A generator that can only recolour: every pixel keeps its place, and how its colours change follows the scene.

A network looks at the sample coarsely and lays a grid of affine maps of colours over it, cells of 8 x 8 pixels by
`DEPTH` levels of a guide that it learns to read off each pixel; every pixel mixes the maps nearest to it in place and
level (Gharbi et al. 2017, sections 3.1 to 3.3; Chen et al. 2007). Nothing can appear, vanish or move, so labels stay
true by construction. No norm: it would hide how bright the scene is. Maps that were found on a small copy serve the
sample at its full resolution.
Letters: B batch, C channels of a sample, D of the latent, H W its size, h w = H / 8, W / 8.
"""
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mmcycle.core.moments import SharedMoments

DEPTH = 8               # levels of the guide


class Window(NamedTuple):
    """A part of the grid, in shares of its height and width."""

    top: float = 0.0
    left: float = 0.0
    bottom: float = 1.0
    right: float = 1.0


WHOLE = Window()


class BilateralEncoder(nn.Module):
    """(B, C, H, W) -> [latent (B, 4 width, h, w), the sample itself]: three halvings."""

    def __init__(self, channels: int, width: int, wraps: bool = False):
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width)
        self.halvings = nn.ModuleList(nn.Conv2d(c, d, 4, stride=2) for c, d in zip(widths, widths[1:]))
        for halving in self.halvings:
            _begin(halving)
        self.wraps = wraps

    def forward(self, x: Tensor) -> list[Tensor]:
        z = x
        for halving in self.halvings:
            z = F.leaky_relu(halving(_framed(z, self.wraps)), 0.2)
        return [z, x]


class BilateralTrunk(nn.Sequential):
    """latent (B, D, h, w) -> the same."""

    def __init__(self, d: int, blocks: int, wraps: bool = False):
        super().__init__(*(Glance(d, wraps) for _ in range(blocks)))


class Glance(nn.Module):
    """z + what its neighbours say + what the whole scene says."""

    def __init__(self, d: int, wraps: bool):
        super().__init__()
        self.first, self.second = nn.Conv2d(d, d, 3), nn.Conv2d(d, d, 3)
        self.overview, self.tell = Overview(), nn.Conv2d(d, d, 1)
        self.wraps = wraps
        _begin(self.first)
        _begin(self.second, 0.01)       # a block begins as almost nothing
        _begin(self.tell, 0.01)

    def forward(self, z: Tensor) -> Tensor:
        near = self.second(_framed(F.relu(self.first(_framed(z, self.wraps))), self.wraps))
        return z + near + self.tell(self.overview(z))


class BilateralDecoder(nn.Module):
    """[latent, sample] -> how far each pixel changes (B, C, H, W) in [-1, 1], for a residual generator; begins near 0."""

    def __init__(self, d: int, channels: int, wraps: bool = False):
        super().__init__()
        self.maps = nn.Conv2d(d, DEPTH * channels * (channels + 1), 1)
        self.guide = nn.Sequential(nn.Conv2d(channels, 16, 1), nn.ReLU(), nn.Conv2d(16, 1, 1))
        _begin(self.maps, 0.01)
        _begin(self.guide[0])
        _begin(self.guide[2], 0.1)
        self.wraps = wraps

    def forward(self, features: list[Tensor], window: Window = WHOLE) -> Tensor:
        """`window` says which part of the grid the sample lies under, and the sample may be of any resolution."""
        z, x = features
        level = torch.tanh(2 * x.mean(1, keepdim=True) + self.guide(x))
        affine = rearrange(_slice(self.maps(z), level, self.wraps, window), "b (o i) h w -> b o i h w", o=x.shape[1])
        change = (affine[:, :, :-1] * x[:, None]).sum(2) + affine[:, :, -1]
        return torch.tanh(change)


class Overview(nn.Module):
    """The mean of each channel over the whole sample, (B, D, h, w) -> (B, D, 1, 1).

    `moments` is None, or what the tiles of one recording, or the frames of one film, share (see generate/tiles.py).
    """

    def __init__(self) -> None:
        super().__init__()
        self.moments: SharedMoments | None = None

    def forward(self, z: Tensor) -> Tensor:
        if self.moments is None:
            return z.mean((2, 3), keepdim=True)
        return self.moments.of(z)[0][None, :, None, None].to(z.dtype).expand(len(z), -1, 1, 1)


def _slice(grid: Tensor, level: Tensor, wraps: bool, window: Window = WHOLE) -> Tensor:
    """Grid (B, DEPTH K, h, w), level (B, 1, H, W) in [-1, 1] -> (B, K, H, W), linear between the centres of cells."""
    rows = _centres(level.shape[-2], window.top, window.bottom, level)
    columns = _centres(level.shape[-1], window.left, window.right, level)
    if wraps:                               # a cell of the other end beyond each end
        columns = columns * grid.shape[-1] / (grid.shape[-1] + 2)
        grid = F.pad(grid, (1, 1, 0, 0), mode="circular")
    rows, columns = torch.meshgrid(rows, columns, indexing="ij")
    places = torch.stack([columns.expand_as(level), rows.expand_as(level), level], dim=-1).float()
    volume = rearrange(grid, "b (k z) h w -> b k z h w", z=DEPTH).float()
    with torch.autocast(grid.device.type, enabled=False):
        found = F.grid_sample(volume, places, mode="bilinear", padding_mode="border", align_corners=False)
    return found[:, :, 0]


def _centres(count: int, start: float, end: float, like: Tensor) -> Tensor:
    """Centres of `count` pixels between two shares of a side, which runs from -1 to 1."""
    return 2 * start - 1 + (torch.arange(count, device=like.device) + 0.5) * (2 * (end - start) / count)


def _framed(x: Tensor, wraps: bool) -> Tensor:
    """One pixel more on every side: the border again; where the grid wraps, the other end's."""
    if not wraps:
        return F.pad(x, (1, 1, 1, 1), mode="replicate")
    return F.pad(F.pad(x, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1), mode="replicate")


def _begin(conv: nn.Module, deviation: float | None = None) -> None:
    """Weights that keep the variance (He et al. 2015), or of a given deviation; no bias at first."""
    if deviation is None:
        nn.init.kaiming_normal_(conv.weight, 0.2)
    else:
        nn.init.normal_(conv.weight, 0.0, deviation)
    nn.init.zeros_(conv.bias)
