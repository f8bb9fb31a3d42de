"""A sensor as its own sweeps show it: where its rows look, what it sees, how bright, and what its carrier hides."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmcycle.errors import RecordingError, UserError
from mmcycle.modalities.lidar_projection import Projection, project
from mmcycle.modalities.lidar_rows import unfold
from mmcycle.modalities.lidar_sensor import SensorSpec

MANY = 10                                           # sweeps before a pixel that never returned means something
SMALLEST_GAP = 5                                    # degrees without points that end a window
SCALES = (1.0, 255.0, 65535.0)                      # full intensity as sensors write it
NEAR = 2.5                                          # metres within which what never moves is the carrier itself
STREET = 15.0                                       # metres within which the ground is level
ABOVE_GROUND = 0.3                                  # metres: lower than that no carrier is seen by its own sensor
CLOSEST_ROWS = 1e-3                                 # degrees


@dataclass(frozen=True, eq=False, kw_only=True)
class SensorFit:
    """What `fit_sensor` found.

    spec       the sensor; write it into the config of the domain
    drop_rate  (H, W) share of the sweeps in which the pixel did not return
    ego        (H, W) pixels that the carrier of the sensor fills: below the horizon, they never return, or always from
               the same short distance; losses leave them out
    mean, std  of the pixels that returned: range in metres, log_range = log2(1 + range), intensity as a share
    notes      what could not be told from these sweeps, in sentences
    """

    spec: SensorSpec
    sweeps: int
    drop_rate: np.ndarray
    ego: np.ndarray
    mean: dict[str, float]
    std: dict[str, float]
    notes: tuple[str, ...]


def fit_sensor(
    sweeps: Iterable[Tensor | np.ndarray], columns: int = 1024, rows: int | None = None, ring: int | None = None,
    near: float = NEAR,
) -> SensorFit:
    """Sweeps (N, K) of one sensor -> what it is; some tens of them, of different places, are enough.

    Rows are told by column `ring` of the points, else by unfolding, else by the peaks of all elevations; `rows` is
    needed only where these fail, and then an even field of view is assumed. near: metres within which what never
    moves is the carrier itself.
    """
    clouds = [_real(np.asarray(points)) for points in sweeps]
    clouds = [points for points in clouds if len(points)]
    if not clouds:
        raise UserError("a sensor cannot be fitted to no points; give sweeps with returns")
    elevations, method, notes = elevations_of(clouds, rows, ring)
    ranges = np.concatenate([np.linalg.norm(points[:, :3], axis=1) for points in clouds])
    spec = SensorSpec(
        rows=len(elevations), columns=columns, measured=elevations, azimuth=_window(clouds, columns),
        min_range=max(0.1, float(np.floor(np.quantile(ranges, 1e-4).astype(np.float64) * 10) / 10)),
        max_range=max(1.0, float(np.ceil(np.quantile(ranges, 0.9999)))),
        intensity_scale=_scale(max(float(points[:, 3].max()) for points in clouds)),
    )
    images = [project(points, spec, method, ring) for points in clouds]
    told = Counter(note for image in images for note in image.notes)
    notes += [f"{count} of {len(images)} sweeps: {note}" for note, count in told.items()]
    if len(images) < MANY:
        notes.append(f"{len(images)} sweeps are too few to know what never returns: ego holds only what is always near")
    mean, std = _moments(images)
    drop_rate = 1 - np.mean([image.mask.numpy() for image in images], axis=0)
    return SensorFit(
        spec=spec, sweeps=len(images), drop_rate=drop_rate,
        ego=ego_of(np.stack([image.range.numpy() for image in images]), spec, near),
        mean=mean, std=std, notes=tuple(notes),
    )


def _real(points: np.ndarray) -> np.ndarray:
    """(N, K) -> the points that have a direction."""
    if points.ndim != 2 or points.shape[1] < 4:
        raise RecordingError(f"a sweep is a table with x, y, z, intensity, ... for each point; got {points.shape}")
    points = points.astype(np.float32, copy=False)
    return points[np.isfinite(points).all(axis=1) & (np.abs(points[:, :3]) > 0).any(axis=1)]


def _degrees_up(points: np.ndarray) -> np.ndarray:
    return np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))


def _turns(points: np.ndarray) -> np.ndarray:
    x, y = torch.from_numpy(np.ascontiguousarray(points[:, :2].T))
    return unfold(torch.atan2(y, x), torch.from_numpy(np.linalg.norm(points[:, :3], axis=1))).numpy()


def elevations_of(
    clouds: list[np.ndarray], rows: int | None, ring: int | None
) -> tuple[tuple[float, ...], str, list[str]]:
    """Where the rows look, degrees, top row first; how points find theirs; notes. UserError where nothing tells."""
    if ring is not None:
        found = _of_rings(clouds, [points[:, ring].astype(np.int64) for points in clouds], rows)
        if found is not None:
            return found, "ring", []
        last = "H" if rows is None else rows
        raise UserError(f"column {ring} does not hold a ring from 0 to {last} - 1; leave ring out")
    turns = [_turns(points) for points in clouds]
    counts = Counter(int(turn[-1]) + 1 for turn in turns)
    count, often = counts.most_common(1)[0] if rows is None else (rows, counts[rows])
    if count > 1 and 2 * often >= len(clouds):
        whole = [(points, turn) for points, turn in zip(clouds, turns) if turn[-1] + 1 == count]
        found = _of_rings([points for points, _ in whole], [turn for _, turn in whole], count)
        if found is not None:
            return found, "unfold", []
    up = np.concatenate([_degrees_up(points) for points in clouds])
    peaks = _peaks(up)
    if len(peaks) > 1 and len(peaks) == (rows or len(peaks)):
        return peaks, "elevation", ["rows told by the peaks of all elevations: points have no ring and do not unfold"]
    if rows is None:
        raise UserError(
            "the rows cannot be told from these sweeps (no ring column given, the points do not unfold, "
            "their elevations have no peaks); give rows"
        )
    top, bottom = np.quantile(up, (0.9999, 0.0001))
    even = SensorSpec(rows=rows, fov=(float(top), float(bottom))).elevations
    note = "rows assumed at even distances: points have no ring, do not unfold, and their elevations have no peaks"
    return even, "elevation", [note]


def _of_rings(
    clouds: list[np.ndarray], rings: list[np.ndarray], rows: int | None
) -> tuple[float, ...] | None:
    """The median elevation of every ring, top first; a silent one is interpolated. None where they are no rings."""
    ring, up = np.concatenate(rings), np.concatenate([_degrees_up(points) for points in clouds])
    count = int(ring.max()) + 1 if rows is None else rows
    if ring.min() < 0 or ring.max() >= count or not 1 < count <= 1024:
        return None
    order = np.argsort(ring, kind="stable")
    parts = np.split(up[order], np.searchsorted(ring[order], np.arange(1, count)))
    heard = [number for number, part in enumerate(parts) if len(part)]
    medians = [float(np.median(parts[number])) for number in heard]
    if medians[0] < medians[-1]:
        medians, heard = medians[::-1], [count - 1 - number for number in heard[::-1]]
    within = np.median([np.subtract(*np.quantile(part, (0.75, 0.25))) for part in parts if len(part)])
    if len(heard) < 2 or within > 0.25 * (medians[0] - medians[-1]):
        return None                                 # not one of them looks in one direction
    falling = np.interp(np.arange(count), heard, medians)
    falling = np.minimum.accumulate(falling + CLOSEST_ROWS * np.arange(count)) - CLOSEST_ROWS * np.arange(count)
    return tuple(round(float(angle), 4) for angle in falling)


def _peaks(up: np.ndarray) -> tuple[float, ...]:
    """The elevations, degrees, falling, that stand out in the histogram; none unless they are crisp."""
    step, spread = 0.02, 3
    edges = np.arange(up.min() - 1, up.max() + 1, step)
    counts = np.histogram(up, edges)[0]
    bell = np.exp(-0.5 * (np.arange(-4 * spread, 4 * spread + 1) / spread) ** 2)
    smooth = np.convolve(counts, bell / bell.sum(), mode="same")
    tall = smooth > 0.02 * smooth.max()
    top = np.flatnonzero(tall[1:-1] & (smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:])) + 1
    valleys = [smooth[a:b].min() for a, b in zip(top, top[1:])]
    lower = [min(smooth[a], smooth[b]) for a, b in zip(top, top[1:])]
    if not valleys or np.median(np.array(valleys) / lower) > 0.2:
        return ()
    middle = (edges[:-1] + edges[1:]) / 2
    return tuple(round(float(middle[peak]), 3) for peak in top[::-1])


def _window(clouds: list[np.ndarray], columns: int) -> tuple[float, float]:
    """Middle and width, degrees, of the azimuths that have points: a full turn unless a gap is wide."""
    around = np.concatenate([np.degrees(np.arctan2(points[:, 1], points[:, 0])) for points in clouds])
    counts = np.histogram(around, 360, (-180, 180))[0]
    seen = np.flatnonzero(counts > 0.01 * np.median(counts[counts > 0]))
    gaps = np.diff(seen, append=seen[0] + 360) - 1
    if gaps.max() < max(SMALLEST_GAP, 2 * 360 / columns):
        return 0.0, 360.0
    first = int(seen[(gaps.argmax() + 1) % len(seen)])          # the first degree after the gap, in the histogram
    turned = (around + 180 - (first - gaps.max() / 2)) % 360    # from the middle of the gap on
    low, high = np.quantile(turned, (1e-4, 1 - 1e-4))
    centre = (low + high) / 2 + first - gaps.max() / 2 - 180
    return round(float((centre + 180) % 360 - 180), 2), round(float(min(high - low + 0.02, 360)), 2)


def _scale(brightest: float) -> float:
    return next((scale for scale in SCALES if brightest <= scale), brightest)


def _moments(images: list[Projection]) -> tuple[dict[str, float], dict[str, float]]:
    ranges, intensities = (
        np.concatenate([getattr(image, name)[image.mask].numpy() for image in images]).astype(np.float64)
        for name in ("range", "intensity")
    )
    channels = {"range": ranges, "log_range": np.log2(1 + ranges), "intensity": intensities}
    return (
        {name: float(values.mean()) for name, values in channels.items()},
        {name: float(values.std()) for name, values in channels.items()},
    )


def ego_of(ranges: np.ndarray, spec: SensorSpec, near: float = NEAR) -> np.ndarray:
    """(B, H, W) metres, 0 where nothing returned -> (H, W) what the carrier fills.

    Nothing is said above the horizon, where the sky does not return either. A level street under a low sensor is as
    near and as still as a carrier, but lies as deep as the street further on.
    """
    seen = ranges > 0
    count = seen.sum(axis=0).clip(min=1)
    mean = ranges.sum(axis=0) / count
    spread = np.sqrt((np.where(seen, (ranges - mean) ** 2, 0)).sum(axis=0) / count)
    rigid = seen.all(axis=0) & (mean < near) & (spread < 0.1)
    up = np.radians(spec.elevations)[:, None]
    further = (ranges > near) & (ranges < STREET) & (up < np.radians(-3))
    if further.any():
        rigid &= mean * np.sin(up) > np.median((ranges * np.sin(up))[further]) + ABOVE_GROUND
    silent = (seen.mean(axis=0) < 0.1) if len(ranges) >= MANY else np.zeros_like(rigid)
    return (rigid | silent) & (up < np.radians(-3))


def runs_of(mask: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    """(H, W) bool -> (row, first column, last) of everything that is true."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (row, first), (_, end) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    return tuple((int(a), int(b), int(c) - 1) for a, b, c in zip(row, first, end))


def mask_of(runs: Iterable[tuple[int, int, int]], spec: SensorSpec) -> np.ndarray:
    """The way back: (H, W) bool."""
    mask = np.zeros((spec.rows, spec.columns), dtype=bool)
    for row, first, last in runs:
        mask[row, first : last + 1] = True
    return mask
