"""Which row of a sensor a point belongs to: told by its ring, by the order of the points, or by where it is seen."""
from __future__ import annotations

from functools import lru_cache
from math import degrees, radians
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from mmcycle.modalities.lidar_sensor import SensorSpec

MISALIGNED = 1.0                                    # degrees between found rings and the sensor's rows (their median)
SAMPLE = 16384                                      # points enough to see where the rings look
UNEVEN = "holds numbers that are not whole"


class Rows(NamedTuple):
    """(N,) int32 rows of a sweep's points, beyond 0 .. H-1 where the field of view ends, and how they were found."""

    row: Tensor
    method: str
    notes: tuple[str, ...] = ()


def rows_of(cloud: Tensor, sine: Tensor, distance: Tensor, spec: SensorSpec, method: str) -> Rows:
    """Points as columns (x, y, z, intensity[, ring]; N), the sine of their elevation, metres -> their rows.

    By the first of the allowed methods that finds the rows of the sensor.
    """
    notes = ()
    if method == "ring" or (method == "auto" and len(cloud) > 4):
        rings = torch.where(_real(distance), cloud[4], 0)
        whole = bool((rings == rings.floor()).all())
        row, wrong = _matched(rings.int(), sine, distance, spec) if whole else (None, UNEVEN)
        if row is not None:
            return Rows(row, "ring")
        notes = (f"the ring column {wrong}: used elevation",)
    elif method == "unfold" or (method == "auto" and spec.full_turn):
        row, wrong = _matched(unfold(cloud, distance), sine, distance, spec, every=True)
        if row is not None:
            return Rows(row, "unfold")
        notes = (f"unfolding {wrong}: used elevation",)
    return Rows(torch.bucketize(-sine, _edges(spec, sine.device), right=True, out_int32=True) - 1, "elevation", notes)


def unfold(cloud: Tensor, distance: Tensor) -> Tensor:
    """(N,) int32: which turn to the left a point belongs to, counted as the points were recorded.

    A turn begins where they pass straight ahead (+x); a point without a direction belongs to the turn around it.
    """
    x, y = cloud[:2]
    nearest, farthest = torch.aminmax(distance) if len(x) else (1.0, 1.0)
    which = None if 0 < nearest <= farthest < torch.inf else _real(distance).nonzero()[:, 0]
    if which is not None:                           # a point at the origin lies neither ahead nor behind
        x, y = x.index_select(0, which), y.index_select(0, which)
    ahead, left = x > 0, y >= 0
    begins = F.pad(ahead[1:] & ahead[:-1] & left[1:] & ~left[:-1], (min(1, len(x)), 0))
    if which is not None:
        begins = begins.new_zeros(len(distance)).index_put_((which[begins],), begins.new_ones(()))
    return begins.cumsum(0, dtype=torch.int32)


@lru_cache(maxsize=16)
def centres(spec: SensorSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """(H, 1) elevations and (1, W) azimuths, radians; nobody writes into them."""
    up = torch.tensor(np.radians(spec.elevations), dtype=torch.float32, device=device)
    around = torch.tensor(np.radians(spec.azimuths), dtype=torch.float32, device=device)
    return rearrange(up, "h -> h 1"), rearrange(around, "w -> 1 w")


def _real(distance: Tensor) -> Tensor:
    """Which points have a direction: not at the origin, not NaN, not infinite."""
    return (distance > 0) & (distance < torch.inf)


def _matched(
    ring: Tensor, sine: Tensor, distance: Tensor, spec: SensorSpec, every: bool = False
) -> tuple[Tensor | None, str]:
    """Rings -> rows, from whichever end they are counted; or None and what is wrong with them.

    every: they were counted, and there must be as many as rows.
    """
    low, high = (int(end) for end in torch.aminmax(ring)) if len(ring) else (0, -1)
    if every and high + 1 != spec.rows:
        return None, f"found {high + 1} rings, expected {spec.rows}"
    if low < 0 or high >= spec.rows:
        return None, f"runs from {low} to {high}, expected 0 to {spec.rows - 1}"
    some = slice(None, None, len(ring) // SAMPLE | 1)          # odd, so that interleaved rings are all met
    real = _real(distance[some])
    weights = real.float(), torch.where(real, sine[some], 0)
    count, total = (torch.bincount(ring[some], weights=weight, minlength=spec.rows) for weight in weights)
    found = torch.asin((total / count).clamp(-1, 1))
    rows = centres(spec, found.device)[0][:, 0]
    down, up = (float((found - way).abs().nanmedian()) for way in (rows, rows.flip(0)))
    if not min(down, up) <= radians(MISALIGNED):
        return None, f"found rings that lie {degrees(min(down, up)):.1f} degrees from the sensor's rows"
    return (ring if down <= up else spec.rows - 1 - ring), ""


@lru_cache(maxsize=16)
def _edges(spec: SensorSpec, device: torch.device) -> Tensor:
    """(H + 1,) minus the sine of where the rows meet, rising; nobody writes into it."""
    return torch.tensor(-np.sin(np.radians(spec.row_edges)), dtype=torch.float32, device=device)
