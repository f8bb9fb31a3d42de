"""Which row of a sensor a point belongs to: told by its ring, by the order of the points, or by where it is seen."""
from __future__ import annotations

from functools import lru_cache
from math import degrees, pi, radians
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from mmcycle.modalities.lidar_sensor import SensorSpec

MISALIGNED = 1.0                                    # degrees between found rings and the sensor's rows (their median)
SAMPLE = 4096                                       # points enough to see where the rings look
GAPS = 0.25                                         # of all rows empty between others: no scanner of this sensor
UNEVEN = "holds numbers that are not whole"


class Rows(NamedTuple):
    """(N,) int32 rows of a sweep's points, beyond 0 .. H-1 where the field of view ends, and how they were found."""

    row: Tensor
    method: str
    notes: tuple[str, ...] = ()


def rows_of(cloud: Tensor, distance: Tensor, azimuth: Tensor, spec: SensorSpec, method: str) -> Rows:
    """Points as columns (x, y, z, intensity[, ring]; N), their metres and radians -> their rows.

    By the first of the allowed methods that finds the rows of the sensor.
    """
    notes = ()
    if method == "ring" or (method == "auto" and len(cloud) > 4):
        rings = torch.where(_real(distance), cloud[4], 0)
        whole = bool((rings == rings.floor()).all())
        row, wrong = _matched(rings.int(), cloud[2], distance, spec) if whole else (None, UNEVEN)
        if row is not None:
            return Rows(row, "ring")
        notes = (f"the ring column {wrong}: used elevation",)
    elif method == "unfold" or (method == "auto" and spec.full_turn):
        row, wrong = _matched(unfold(azimuth, distance), cloud[2], distance, spec, every=True)
        if row is not None:
            return Rows(row, "unfold")
        notes = (f"unfolding {wrong}: used elevation",)
    sine = cloud[2] / distance
    row = torch.bucketize(sine.neg_(), _edges(spec, distance.device), right=True, out_int32=True)
    return Rows(row.sub_(1), "elevation", notes)


def told_gaps(mask: Tensor) -> str | None:
    """Of a sweep's returns (H, W): whether so many rows between others are empty that its scanner must have other rows."""
    filled = mask.any(1).nonzero()[:, 0]
    between = int(filled[-1] - filled[0]) + 1 - len(filled) if len(filled) else 0
    if between <= GAPS * len(mask):
        return None
    return (f"{between} of the {len(mask)} rows of this sensor are empty between others: the sweep is another scanner's, "
            "which a model of this one does not know")


def unfold(azimuth: Tensor, distance: Tensor) -> Tensor:
    """(N,) int32: which turn to the left a point belongs to, counted as the points were recorded.

    A turn begins where they pass straight ahead (+x); a point without a direction belongs to the turn around it.
    """
    nearest, farthest = torch.aminmax(distance) if len(distance) else (1.0, 1.0)
    which = None if 0 < nearest <= farthest < torch.inf else _real(distance).nonzero()[:, 0]
    if which is not None:                           # a point at the origin lies neither ahead nor behind
        azimuth = azimuth.index_select(0, which)
    quarter = (azimuth * (2 / pi)).floor_().to(torch.int8)      # 0 is ahead and left, -1 ahead and right
    begins = torch.zeros_like(quarter, dtype=torch.bool)
    torch.eq(4 * quarter[1:] + quarter[:-1], -1, out=begins[1:])    # 0 after -1
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
    ring: Tensor, height: Tensor, distance: Tensor, spec: SensorSpec, every: bool = False
) -> tuple[Tensor | None, str]:
    """Rings -> rows, from whichever end they are counted; or None and what is wrong with them.

    every: they were counted as they came, and there must be as many as rows.
    """
    low, high = 0, -1
    if len(ring):
        low, high = (int(end) for end in (ring[[0, -1]] if every else torch.aminmax(ring)))
    if every and high + 1 != spec.rows:
        return None, f"found {high + 1} rings, expected {spec.rows}"
    if low < 0 or high >= spec.rows:
        return None, f"runs from {low} to {high}, expected 0 to {spec.rows - 1}"
    some = slice(None, None, len(ring) // SAMPLE | 1)          # odd, so that interleaved rings are all met
    real = _real(distance[some])
    weights = real.float(), torch.where(real, height[some] / distance[some], 0)
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
