"""Which recordings of two domains show the same place? Told by their outlines, which a change of light leaves standing.

Letters: N M recordings, C channels, H W size, D numbers that describe one recording.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

CELLS = 64 * 96                     # of the grid that outlines are drawn on
FLOOR = 0.02                        # of the range: what is darker is noise of the sensor
FINE, AROUND, LOOSE = 1.0, 6.0, 1.5         # cells: of edges, of what is near them, and how far places may differ
AT_ONCE = 1024                      # recordings of a that are compared at a time
FALSE = 0.05                        # share of the recordings given a partner whose partner may be false


class Match(NamedTuple):
    """Recording a of one domain and b of the other; score is the correlation of their outlines, at most 1."""

    a: int
    b: int
    score: float


def grid_of(shape: tuple[int, int, int]) -> tuple[int, int]:
    """(H, W) of a grid with about CELLS cells and the proportions of (C, H, W)."""
    _, height, width = shape
    scale = (CELLS / (height * width)) ** 0.5
    return max(round(height * scale), 8), max(round(width * scale), 8)


def outlines(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """(C, H', W') in [-1, 1], at any size -> (D,): which way edges run, wherever there are some, however weak.

    Directions are doubled, so that dark on bright and bright on dark are one (a window by day and by night), and are
    weighed by the energy around them, so that a skyline in the dark counts like a lamp.
    """
    height, width = grid
    gray = F.interpolate((x.float().mean(0)[None, None] + 1) / 2, size=(height + 2, width + 2), mode="area")
    level = _blurred((gray.clamp_min(0) + FLOOR).log(), FINE)
    right = (level[..., 2:] - level[..., :-2])[..., 1:-1, :]
    down = (level[..., 2:, :] - level[..., :-2, :])[..., 1:-1]
    strength = (right.square() + down.square()).sqrt()
    around = (_blurred(strength.square(), AROUND) + 1e-5).sqrt()
    double = torch.cat([right.square() - down.square(), 2 * right * down], 1) / (strength + 1e-3) / around
    return F.avg_pool2d(_blurred(double, LOOSE), 2, ceil_mode=True).flatten()


def matches(a: Tensor, b: Tensor, decoys: Tensor) -> list[Match]:
    """Outlines (N, D) and (M, D) -> pairs, best first; every recording that has a partner is in one or more.

    decoys (M, D) are the outlines of b's recordings mirrored, which show no place of a. A recording has a partner where
    its best match is so much better than its best decoy that, by what wins the other way round, one in 20 of those kept
    is false (knockoff filter: Barber and Candes, 2015, eq. 1.9 with the +1).
    """
    true, false = _Best.of(a, b), _Best.of(a, decoys)
    rows, columns = (_kept(one - other) for one, other in ((true.row, false.row), (true.column, false.column)))
    pairs = {Match(i, int(true.in_row[i]), float(true.row[i])) for i in rows}
    pairs |= {Match(int(true.in_column[j]), j, float(true.column[j])) for j in columns}
    return sorted(pairs, key=lambda one: (-one.score, one.a, one.b))


class _Best(NamedTuple):
    """The best correlation of each outline of a (row, (N,)) and of b (column, (M,)), and whose it is."""

    row: Tensor
    in_row: Tensor
    column: Tensor
    in_column: Tensor

    @classmethod
    def of(cls, a: Tensor, b: Tensor) -> _Best:
        """Some of a at a time: all correlations of two large sets would not fit."""
        a, b = _lone(a), _lone(b)
        row, column, in_column = [], torch.full((len(b),), -torch.inf), torch.zeros(len(b), dtype=torch.long)
        for first in range(0, len(a), AT_ONCE):
            alike = a[first : first + AT_ONCE] @ b.T
            row.append(alike.max(1))
            best, place = alike.max(0)
            better = best > column
            column, in_column = torch.where(better, best, column), torch.where(better, place + first, in_column)
        return cls(torch.cat([one.values for one in row]), torch.cat([one.indices for one in row]), column, in_column)


def _kept(won: Tensor) -> list[int]:
    """Where a match won over its decoy by the least margin at which few enough lost by as much."""
    for margin in sorted({abs(one) for one in won.tolist() if one}):
        if 1 + (won <= -margin).sum() <= FALSE * (won >= margin).sum():
            return torch.nonzero(won >= margin).flatten().tolist()
    return []


def _lone(x: Tensor) -> Tensor:
    """Of length 1, without what all recordings of a domain have in common (a bright sky, a frame)."""
    x = x - x.mean(0) if len(x) > 1 else x
    return F.normalize(x - x.mean(1, keepdim=True), dim=1)


def _blurred(x: Tensor, sigma: float) -> Tensor:
    """Gaussian, (1, C, H, W)."""
    reach = int(3 * sigma)
    bell = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * sigma**2))
    bell = (bell / bell.sum()).expand(x.shape[1], 1, -1)
    x = F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), bell[..., None], groups=x.shape[1])
    return F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), bell[:, :, None], groups=x.shape[1])
