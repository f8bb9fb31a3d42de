"""The range image of a sweep: every pixel the nearest point in its direction, and the way back to the points.

Letters: N points of a sweep, K numbers of a point (x ahead, y left, z up in metres, intensity, ...), H rows, W columns.
Angles of a sensor are degrees, angles of a pixel radians.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from mmcycle.errors import RecordingError, UserError
from mmcycle.modalities.lidar_rows import Rows, centres, rows_of
from mmcycle.modalities.lidar_sensor import SensorSpec

Method = Literal["auto", "ring", "unfold", "elevation"]
NOBODY = torch.iinfo(torch.int64).max               # the key of a pixel that no point fell into; its lower half is -1


@dataclass(frozen=True, eq=False, kw_only=True)
class Projection:
    """A sweep on its sensor's grid.

    range      (H, W) metres, 0 where nothing returned
    intensity  (H, W) as a share of the sensor's full scale, 0 where nothing returned
    index      (H, W) int32, which point this is, -1 where nothing returned
    azimuth    (H, W) radians, the direction of that very point; the middle of the pixel where nothing returned
    elevation  (H, W) radians, likewise
    pixel      (N,) int64, row * W + column of every point, H * W for those outside of the sensor's window or limits
    method     how the rows were found: "ring", "unfold" or "elevation"
    notes      what went otherwise than asked for, in sentences
    """

    spec: SensorSpec
    range: Tensor
    intensity: Tensor
    index: Tensor
    azimuth: Tensor
    elevation: Tensor
    pixel: Tensor
    method: str
    notes: tuple[str, ...] = ()

    @property
    def mask(self) -> Tensor:
        """(H, W) whether something returned."""
        return self.index >= 0

    @property
    def visible(self) -> Tensor:
        """(N,) whether the point is the one that its pixel shows."""
        seen = torch.zeros_like(self.pixel, dtype=torch.bool)
        seen[self.index[self.mask].long()] = True
        return seen

    @property
    def hidden(self) -> Tensor:
        """Which points lie behind another one in their pixel: (M,) int64."""
        return ((self.pixel < self.index.numel()) & ~self.visible).nonzero()[:, 0]

    @property
    def outside(self) -> Tensor:
        """Which points lie outside of the window or the limits, at the origin, or are no numbers: (M,) int64."""
        return (self.pixel == self.index.numel()).nonzero()[:, 0]


def project(
    points: Tensor | np.ndarray, spec: SensorSpec, method: Method = "auto", ring: int | None = None
) -> Projection:
    """(N, K >= 4) -> its range image, on the device of the points.

    method  "ring"       the row is told by column `ring` of the points, counted from the top or from the bottom
            "unfold"     the rows lie one after the other, each a full turn to the left that begins straight ahead
                         (KITTI's own order; Triess et al. 2020)
            "elevation"  the row that looks nearest to where the point is seen
            "auto"       the first of these that is possible
    Rings are counted and compared with the sensor's rows; when they disagree, elevation is used and a note says so.
    """
    return project_all([points], spec, method, ring)[0]


def project_all(
    sweeps: Sequence[Tensor | np.ndarray], spec: SensorSpec, method: Method = "auto", ring: int | None = None
) -> list[Projection]:
    """Many sweeps at once, each as `project` would, on one device."""
    if method not in get_args(Method):
        raise UserError(f"unknown projection {method!r}; allowed are {', '.join(get_args(Method))}")
    if method == "ring" and ring is None:
        raise UserError("the projection 'ring' needs to know which column of the points holds it; or use 'auto'")
    if not sweeps:
        return []
    tables = [_table(points) for points in sweeps]
    for table in tables:
        if ring is not None and not 0 <= ring < table.shape[1]:
            raise RecordingError(
                f"column {ring} is to hold the ring, but the points have columns 0 to {table.shape[1] - 1}"
            )
    seen = [_seen(table, spec, ring) for table in tables]
    rows = [rows_of(*one[:3], spec=spec, method=method) for one in seen]
    pixels, keys = zip(*(_placed(one, row, spec) for one, row in zip(seen, rows)))
    return [_images(spec, *one) for one in zip(_nearest(pixels, keys, spec), seen, pixels, rows)]


def unproject(
    range: Tensor, intensity: Tensor, spec: SensorSpec, azimuth: Tensor | None = None, elevation: Tensor | None = None
) -> Tensor:
    """(H, W) metres and shares of full intensity -> (M, 4) points of all pixels with range > 0, row by row.

    They lie in the given directions (H, W, radians), or in the middle of their pixels.
    """
    if tuple(range.shape) != (spec.rows, spec.columns):
        raise UserError(
            f"a range image of {tuple(range.shape)} is not of this sensor: {spec.rows} rows, {spec.columns} columns"
        )
    centre_up, centre_around = centres(spec, range.device)
    up = centre_up.expand_as(range) if elevation is None else elevation
    around = centre_around.expand_as(range) if azimuth is None else azimuth
    flat = range * up.cos()
    brightness = intensity * spec.intensity_scale
    return torch.stack([flat * around.cos(), flat * around.sin(), range * up.sin(), brightness], dim=-1)[range > 0]


def restore(
    points: Tensor | np.ndarray,
    projection: Projection,
    range: Tensor,
    keep: Tensor,
    intensity: Tensor | None = None,
    outside: bool = True,
) -> tuple[Tensor, Tensor]:
    """The sweep that was projected, with new ranges (H, W), metres, and intensities, fewer points; and which are left.

    Every point stays on its own ray. A hidden point shares the fate of the one that hides it: dropped with it, moved
    by as many metres, brightened by as much; it stays behind it, because it was. Points outside of the grid were never
    shown, and stay as they are or, without `outside`, go. Pixels where nothing returned cannot make points.
    Where neither range nor intensity changes, a point comes back bit for bit.

    -> (M, K) in the old order and dtype, and (M,) int64: which points they were, for their labels.
    """
    table = _table(points)
    if len(table) != len(projection.pixel):
        raise UserError(
            f"the sweep has {len(table)} points, its projection {len(projection.pixel)}; "
            "give the points that were projected"
        )
    stays = F.pad((keep.bool() & (range > 0)).flatten(), (0, 1), value=outside)
    kept = stays[projection.pixel].nonzero()[:, 0]
    left, pixel = table[kept], projection.pixel[kept]
    shift = F.pad((range - projection.range).flatten(), (0, 1))[pixel]          # points without a pixel: 0
    distance = left[:, :3].norm(dim=1)
    scale = torch.where(shift != 0, (distance + shift) / distance, 1)
    left[:, :3] *= rearrange(scale, "m -> m 1")
    if intensity is not None:
        full = projection.spec.intensity_scale
        change = F.pad((intensity - projection.intensity).flatten() * full, (0, 1))[pixel]
        left[:, 3] = torch.where(change != 0, (left[:, 3] + change).clamp(0, full), left[:, 3])
    return left, kept


def _table(points: Tensor | np.ndarray) -> Tensor:
    """(N, K) of floats, in memory that may be shared with the caller: nobody writes into it."""
    table = points if isinstance(points, Tensor) else torch.from_numpy(np.require(points, requirements="W"))
    if table.ndim != 2 or table.shape[1] < 4 or not table.is_floating_point():
        raise RecordingError(
            "a sweep is a table of floats with x, y, z, intensity, ... for each point; "
            f"got {tuple(table.shape)} of {table.dtype}"
        )
    return table


class _Seen(NamedTuple):
    """The points of a sweep as columns, x, y, z, intensity and perhaps ring (4 or 5, N); the others (N,)."""

    cloud: Tensor
    distance: Tensor                                # metres
    azimuth: Tensor                                 # radians
    flat: Tensor                                    # squared metres on the ground


def _seen(table: Tensor, spec: SensorSpec, ring: int | None) -> _Seen:
    wanted = (0, 1, 2, 3) if ring is None else (0, 1, 2, 3, ring)
    cloud = torch.empty((len(wanted), len(table)), dtype=torch.float32, device=table.device)
    for row, column in zip(cloud, wanted):          # four times as fast as a transposition
        row.copy_(table[:, column])
    x, y, z = cloud[:3]
    flat = (x * x).addcmul_(y, y)
    return _Seen(cloud, torch.addcmul(flat, z, z).sqrt_(), torch.atan2(y, x), flat)


def _placed(seen: _Seen, rows: Rows, spec: SensorSpec) -> tuple[Tensor, Tensor]:
    """(N,) the pixel of every point, and its key: the bits of its range, then its index.

    Positive floats order like their bits, so that of the keys of a pixel the least is the nearest, the first of equals.
    """
    column = _column(seen.azimuth, spec)
    inside = seen.distance.clamp(spec.min_range, spec.max_range) == seen.distance        # false for NaN
    if rows.method == "elevation":
        inside &= rows.row.clamp(0, spec.rows - 1) == rows.row
    if not spec.full_turn:
        inside &= column < spec.columns
    pixel = torch.where(inside, column.add_(rows.row, alpha=spec.columns), spec.rows * spec.columns).long()
    index = torch.arange(len(pixel), dtype=torch.int32, device=pixel.device)
    keys = torch.stack([index, seen.distance.view(torch.int32)], dim=1)
    return pixel, keys.view(torch.int64)[:, 0]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Along the points; of a single sweep without the copy."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=-1)


def _column(azimuth: Tensor, spec: SensorSpec) -> Tensor:
    """(N,) radians -> (N,) int32, W or more where the window ends."""
    centre, width = spec.azimuth
    begin = (centre + width / 2 - 180) / 360 % 1 + 0.5         # turns; no azimuth is above: none is negative
    turned = (azimuth * (-0.5 / pi)).add_(begin).frac_()
    column = turned.mul_(spec.columns * 360 / width).int()      # never negative, so that this is the floor
    return column.clamp_(max=spec.columns - 1) if spec.full_turn else column     # a turn, rounded, is not a column


def _nearest(pixels: Sequence[Tensor], keys: Sequence[Tensor], spec: SensorSpec) -> Tensor:
    """(B, H * W) the least key of each pixel, NOBODY where there is none."""
    size = spec.rows * spec.columns + 1             # the last is for the points outside
    places = _joined([pixel + sweep * size if sweep else pixel for sweep, pixel in enumerate(pixels)])
    nearest = torch.full((len(pixels) * size,), NOBODY, device=places.device)
    nearest.scatter_reduce_(0, places, _joined(keys), "amin")
    return rearrange(nearest, "(b pixels) -> b pixels", b=len(pixels))[:, :-1]


def _images(spec: SensorSpec, nearest: Tensor, seen: _Seen, pixel: Tensor, rows: Rows) -> Projection:
    """The keys of a sweep's pixels -> its images."""
    shape = spec.rows, spec.columns
    empty = (nearest == NOBODY).view(shape)
    index = nearest.int()                                       # the lower half of the key; -1 of NOBODY
    point = index.clamp(min=0)
    parts = seen.cloud[2], seen.cloud[3], *seen[1:]
    if len(pixel) == 0:                                         # let the empty pixels have someone to ask
        parts = tuple(F.pad(part, (0, 1)) for part in parts)
    height, intensity, distance, azimuth, flat = (part.index_select(0, point).view(shape) for part in parts)
    up, around = centres(spec, nearest.device)
    return Projection(
        spec=spec, range=distance.masked_fill_(empty, 0),
        intensity=intensity.mul_(1 / spec.intensity_scale).masked_fill_(empty, 0),
        index=index.view(shape), azimuth=torch.where(empty, around, azimuth),
        elevation=torch.where(empty, up, torch.atan2(height, flat.sqrt_())),
        pixel=pixel, method=rows.method, notes=rows.notes,
    )
