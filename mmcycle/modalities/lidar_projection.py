"""The range image of a sweep: every pixel the nearest point in its direction, and the way back to the points.

Letters: N points of a sweep, K numbers of a point (x ahead, y left, z up in metres, intensity, ...), H rows, W columns.
Angles of a sensor are degrees, angles of a pixel radians.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, radians
from typing import Literal, get_args

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
    """Many sweeps at once, each as `project` would: one pass over all points, on one device."""
    if method not in get_args(Method):
        raise UserError(f"unknown projection {method!r}; allowed are {', '.join(get_args(Method))}")
    if method == "ring" and ring is None:
        raise UserError("the projection 'ring' needs to know which column of the points holds it; or use 'auto'")
    if not sweeps:
        return []
    clouds = [_columns(points, ring) for points in sweeps]
    cloud = _joined(clouds)
    counts = [part.shape[1] for part in clouds]

    # Where every point is seen.
    x, y, z = cloud[:3]
    flat = x * x + y * y
    distance = (flat + z * z).sqrt_()
    azimuth, sine = torch.atan2(y, x), z / distance
    column = _column(azimuth, spec)
    found = [
        rows_of(*parts, spec=spec, method=method)
        for parts in zip(cloud.split(counts, dim=1), sine.split(counts), distance.split(counts))
    ]
    row = _joined([rows.row for rows in found])
    inside = (distance >= spec.min_range) & (distance <= spec.max_range)       # false for NaN
    if any(rows.method == "elevation" for rows in found):
        inside &= row.clamp(0, spec.rows - 1) == row
    if not spec.full_turn:
        inside &= column < spec.columns

    # What every pixel shows.
    pixels = torch.where(inside, row * spec.columns + column, spec.rows * spec.columns).long().split(counts)
    seen = (part.split(counts) for part in (distance, azimuth, z, flat, cloud[3]))
    return [_images(spec, *one) for one in zip(_nearest(distance, pixels, spec), zip(*seen), pixels, found)]


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


def _columns(points: Tensor | np.ndarray, ring: int | None) -> Tensor:
    """(N, K) -> (4 or 5, N) float32: x, y, z, intensity and, where it is told, the ring."""
    table = _table(points)
    if ring is not None and not 0 <= ring < table.shape[1]:
        raise RecordingError(
            f"column {ring} is to hold the ring, but the points have columns 0 to {table.shape[1] - 1}"
        )
    wanted = (0, 1, 2, 3) if ring is None else (0, 1, 2, 3, ring)
    cloud = torch.empty((len(wanted), len(table)), dtype=torch.float32, device=table.device)
    for row, column in zip(cloud, wanted):          # four times as fast as a transposition
        row.copy_(table[:, column])
    return cloud


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Along the points; of a single sweep without the copy."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=-1)


def _column(azimuth: Tensor, spec: SensorSpec) -> Tensor:
    """(N,) radians -> (N,) int32, W or more where the window ends."""
    centre, width = (radians(angle) for angle in spec.azimuth)
    turned = (centre + width / 2) - azimuth
    turned -= (turned * (1 / (2 * pi))).floor_().mul_(2 * pi)
    column = turned.mul_(spec.columns / width).int()            # never negative, so that this is the floor
    return column.clamp_(max=spec.columns - 1) if spec.full_turn else column     # 2 pi, rounded, is not a column


def _nearest(distance: Tensor, pixels: Sequence[Tensor], spec: SensorSpec) -> Tensor:
    """(B, H * W) the nearest point of each pixel, as a key: the bits of its range, then its index in its sweep.

    Positive floats order like their bits, so that one minimum finds the nearest, and the first of equals.
    """
    size = spec.rows * spec.columns + 1             # the last is for the points outside
    indices = [torch.arange(len(pixel), dtype=torch.int32, device=pixel.device) for pixel in pixels]
    keys = torch.stack([_joined(indices), distance.view(torch.int32)], dim=1).view(torch.int64)[:, 0]
    places = _joined([pixel + sweep * size if sweep else pixel for sweep, pixel in enumerate(pixels)])
    nearest = torch.full((len(pixels) * size,), NOBODY, device=distance.device)
    nearest.scatter_reduce_(0, places, keys, "amin")
    return rearrange(nearest, "(b pixels) -> b pixels", b=len(pixels))[:, :-1]


def _images(
    spec: SensorSpec, nearest: Tensor, seen: tuple[Tensor, ...], pixel: Tensor, rows: Rows
) -> Projection:
    """The keys of a sweep's pixels -> its images."""
    empty = nearest == NOBODY
    index = nearest.int()                                       # the lower half of the key; -1 of NOBODY
    point = index.clamp(min=0)
    if len(pixel) == 0:                                         # let the empty pixels have someone to ask
        seen = tuple(F.pad(part, (0, 1)) for part in seen)
    distance, azimuth, height, flat, intensity = (part.index_select(0, point) for part in seen)
    up, around = (centre.expand(spec.rows, spec.columns).flatten() for centre in centres(spec, nearest.device))
    images = {
        "range": distance.masked_fill_(empty, 0),
        "intensity": intensity.mul_(1 / spec.intensity_scale).masked_fill_(empty, 0),
        "index": index,
        "azimuth": torch.where(empty, around, azimuth),
        "elevation": torch.where(empty, up, torch.atan2(height, flat.sqrt_())),
    }
    shaped = {name: rearrange(image, "(h w) -> h w", h=spec.rows) for name, image in images.items()}
    return Projection(spec=spec, pixel=pixel, method=rows.method, notes=rows.notes, **shaped)
