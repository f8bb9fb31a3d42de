"""What a folder of sweeps tells about its sensor: sentences for a person, and the fields of a Lidar that follow."""
from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmcycle.errors import RecordingError, UserError
from mmcycle.modalities import range_files
from mmcycle.modalities.lidar_fit import MANY, ego_of, elevations_of, mask_of, runs_of
from mmcycle.modalities.lidar_rows import MISALIGNED
from mmcycle.modalities.lidar_seen import table
from mmcycle.modalities.lidar_sensor import PRESETS, SensorSpec
from mmcycle.modalities.point_files import SUFFIXES, read_sweep
from mmcycle.modality import Fit, Modality

if TYPE_CHECKING:
    from mmcycle.modalities.lidar import Lidar

FOR_ROWS = 20                   # sweeps are enough to see where the rows look
STILL = 0.3                     # metres by which half of what stands around the sensor differs when it is driven about
MOST_HIDDEN = 1 / 3             # of the image: no carrier fills more
MOST_ROWS_MISSED = 0.2          # of the rows, where only peaks of elevations tell them
STRETCHES = 8                   # of rows, from the top, whose losses are told apart
MOST_FULL = 0.2                 # of the returns of a sweep whose intensities are on the sensor's scale
MOST_NAMED = 5                  # broken recordings


class Rows(NamedTuple):
    """Where the rows look, degrees, top row first, none where nothing tells; in words; whether the sensor has these."""

    elevations: tuple[float, ...]
    told: str
    right: bool


class Images(NamedTuple):
    """(B, H, W) metres and shares of full intensity, 0 where nothing returned."""

    ranges: np.ndarray
    light: np.ndarray
    told: tuple[str, ...]       # what was passed over, and what projection had to say


def survey(lidar: Lidar, paths: Sequence[Path], partner: Modality, measure: bool) -> Fit:
    """What `Lidar.fit` gives. Rows that must be equal are told by the domain that says change: returns."""
    rows = _rows(_clouds(paths, lidar.max_points), lidar)
    kind = type(lidar)
    tied = type(partner) is kind and "returns" in (lidar.change, partner.change)
    own: dict[str, Any] = {}
    other: dict[str, Any] = {}
    told = [rows.told]
    if measure and tied and lidar.change == "any":
        told.append("its rows were not measured: they are those of the other domain, which says change: returns")
    elif measure and rows.elevations:
        own = _measured(lidar, rows.elevations)
        other = _measured(partner, rows.elevations) if tied else {}
        lidar, partner = replace(lidar, **own), replace(partner, **other)
        told.append(f"sensor: these {len(rows.elevations)} rows are written in place of it")
        rows = rows._replace(right=True)
    images = _images(lidar, paths, rows)
    found, why = _ego(images.ranges, lidar.spec, rows.right)
    if found is not None:
        own["ego"] = runs_of(found | mask_of(lidar.ego, lidar.spec))
        if type(partner) is kind and _grid(partner.spec) == _grid(lidar.spec):
            own["ego"] = other["ego"] = runs_of(mask_of((*own["ego"], *partner.ego), lidar.spec))
    hidden = mask_of(own.get("ego", lidar.ego), lidar.spec)
    told += [_losses(images.ranges, hidden, lidar.spec)] if rows.right else []
    told += [why, *_moments(images, lidar.spec), *images.told]
    return Fit(tuple(told), own, other)


def _clouds(paths: Sequence[Path], most: int) -> list[np.ndarray]:
    """Points of some of the files, (N, 4), all with the ring in a fifth column where all of them tell it."""
    found = []
    for path in paths[:: max(1, len(paths) // FOR_ROWS)]:
        if path.suffix.lower() in SUFFIXES:
            try:
                sweep = read_sweep(path, most)
            except (RecordingError, OSError):       # named when they are all read
                continue
            found.append(table(sweep, sweep.ring).astype(np.float32))
    ringed = all(points.shape[1] > 4 for points in found)
    return [points if ringed else points[:, :4] for points in found]


def _rows(clouds: list[np.ndarray], lidar: Lidar) -> Rows:
    if not clouds:
        return Rows((), "rows: range images do not say where theirs look; the sensor's angles are believed", True)
    try:
        elevations, method, _ = _elevations(clouds)
    except UserError:
        return Rows((), "rows: these points do not tell them; the sensor's angles are believed", True)
    name = lidar.sensor if isinstance(lidar.sensor, str) else "the sensor described"
    own = np.array(lidar.spec.elevations)
    apart = np.abs(np.array(elevations)[:, None] - own).min(axis=1)
    count, likely = len(elevations), " or ".join(_likely(elevations))
    if count == len(own):
        apart = np.abs(np.array(elevations) - own)
    elif method != "elevation" or not (1 - MOST_ROWS_MISSED) * len(own) <= count <= len(own):
        use = f"use sensor: {likely}" if likely else "no preset is like that: --rows writes these rows"
        return Rows(elevations, f"rows: your sweeps have {count}, the sensor ({name}) says {len(own)}: {use}", False)
    middle, most = np.median(apart), apart.max()
    if middle > MISALIGNED:
        use = f"use sensor: {likely}" if likely else "--rows writes those found"
        told = f"rows: {count} were found, half of them more than {middle:.1f} degrees from those of {name}: {use}"
        return Rows(elevations, told, False)
    far = f"half of them within {middle:.2f} degrees of those of {name}, the farthest {most:.2f}"
    return Rows(elevations, f"rows: {count} were found, {len(own)} expected, {far}", True)


def _elevations(clouds: list[np.ndarray]) -> tuple[tuple[float, ...], str, list[str]]:
    clouds = [points[np.isfinite(points).all(axis=1)] for points in clouds]
    if clouds[0].shape[1] > 4:
        try:
            return elevations_of(clouds, None, 4)
        except UserError:                           # a column of that name that holds something else
            pass
    return elevations_of([points[:, :4] for points in clouds], None, None)


def _likely(elevations: tuple[float, ...]) -> list[str]:
    """The preset whose rows these are, if one is."""
    gaps = {
        name: float(np.median(np.abs(np.subtract(spec.elevations, elevations))))
        for name, spec in PRESETS.items() if spec.rows == len(elevations)
    }
    nearest = min(gaps, key=gaps.__getitem__, default=None)
    return [nearest] if nearest is not None and gaps[nearest] <= MISALIGNED else []


def _measured(lidar: Modality, elevations: tuple[float, ...]) -> dict[str, Any]:
    """What hid the rows of another grid is not known on this one."""
    same = len(elevations) == lidar.spec.rows
    sensor = replace(lidar.spec, rows=len(elevations), measured=elevations)
    return {"sensor": sensor} if same else {"sensor": sensor, "ego": ()}


def _images(lidar: Lidar, paths: Sequence[Path], rows: Rows) -> Images:
    ranges, light, broken = [], [], []
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for path in paths:
            try:
                seen = lidar.to_tensor(lidar.read(path, units=False))[1]
            except (RecordingError, OSError) as error:
                broken.append(str(error) if path.name in str(error) else f"{path}: {error}")
                continue
            ranges.append(seen.range.numpy())
            light.append(seen.intensity.numpy())
    if not ranges:
        hint = _of_so_many_rows(paths, lidar.max_points) if rows.right else rows.told
        raise UserError(f"none of {len(paths)} sweeps can be used; {hint}{'; ' * bool(hint)}the first: {broken[0]}")
    more = [f"broken: and {len(broken) - MOST_NAMED} more"] * (len(broken) > MOST_NAMED)
    notes = Counter(str(one.message) for one in heard)
    told = [f"broken, passed over: {one}" for one in broken[:MOST_NAMED]] + more
    told += [f"{count} of {len(ranges)} sweeps: {note}" for note, count in notes.items()]
    return Images(np.stack(ranges), np.stack(light), tuple(told))


def _of_so_many_rows(paths: Sequence[Path], most: int) -> str:
    """Range images say how many rows they have."""
    for path in paths:
        if path.suffix.lower() in range_files.SUFFIXES:
            try:
                rows, columns = range_files.read_range_image(path, most).range.shape
            except (RecordingError, OSError):
                continue
            names = ", ".join(name for name, spec in PRESETS.items() if spec.rows == rows) or "none of the presets"
            return f"sensors with {rows} rows are {names}, and yours has columns: {columns}"
    return ""


def _ego(ranges: np.ndarray, spec: SensorSpec, right: bool) -> tuple[np.ndarray | None, str]:
    """(H, W) what the carrier hides, or None where that cannot be told; in words."""
    if not right:
        return None, "ego: cannot be told with the wrong rows; it is left as it is"
    if len(ranges) < MANY:
        return None, f"ego: {len(ranges)} sweeps are too few to tell what the carrier hides, give {MANY} or more"
    if _parked(ranges, spec):
        return None, "ego: all sweeps are of one place, so what never moves may be anything; it is left as it is"
    found = ego_of(ranges, spec)
    share = found.mean()
    if share > MOST_HIDDEN:
        return None, (f"ego: {share:.0%} of the image never return or never move, more than any carrier hides; it is "
                      "left as it is. Is the sensor the right one?")
    if not found.any():
        return found, "ego: the carrier hides nothing"
    rows = np.flatnonzero(found.any(axis=1)) + 1
    return found, f"ego: the carrier hides {share:.1%} of the image, in rows {rows[0]} to {rows[-1]}"


def _parked(ranges: np.ndarray, spec: SensorSpec) -> bool:
    """Whether half of what stands around, at the horizon and above, is where it was in every sweep."""
    around = np.array(spec.elevations) > -3
    seen = ranges[:, around if around.any() else ~around]
    there = seen > 0
    often = there.mean(axis=0) > 0.5
    if not often.any():
        return False
    spread = np.ma.masked_array(seen, ~there)[:, often].std(axis=0)
    return bool(np.ma.median(spread) < STILL)


def _losses(ranges: np.ndarray, hidden: np.ndarray, spec: SensorSpec) -> str:
    """By stretches of rows, at most STRETCHES, that lose about as much; what the carrier hides is not lost."""
    lost = np.ma.masked_array((ranges == 0).mean(axis=0), hidden)
    told = []
    for rows in np.array_split(np.arange(spec.rows), min(STRETCHES, spec.rows)):
        if not hidden[rows].all():
            told.append((rows[0] + 1, rows[-1] + 1, _word(float(lost[rows].mean()))))
    parts = []
    for word, alike in groupby(told, key=lambda one: one[2]):
        stretches = list(alike)
        first, last = stretches[0][0], stretches[-1][1]
        parts.append(f"{word} in row{f's {first} to {last}' if last > first else f' {first}'}")
    whole = "" if hidden.all() else f"{float(lost.mean()):.0%} of the pixels do not return: "
    return f"lost: {whole}{', '.join(parts)}"


def _word(share: float) -> str:
    words = ((0.02, "next to none"), (0.1, "few"), (0.3, "some"), (0.6, "about half"), (0.95, "most"))
    return next((word for most, word in words if share < most), "all")


def _moments(images: Images, spec: SensorSpec) -> list[str]:
    there = images.ranges > 0
    metres, light = (one[there].astype(np.float64) for one in images[:2])
    light *= spec.intensity_scale
    told = [f"range: {metres.mean():.1f} m, deviation {metres.std():.1f}",
            f"intensity: {light.mean():.3g}, deviation {light.std():.3g}, full intensity is {spec.intensity_scale:g}"]
    full = (light >= spec.intensity_scale).mean()
    if full > MOST_FULL or 0 < light.max() <= 0.02 * spec.intensity_scale:
        found = f"{full:.0%} of the returns have all of it" if full else f"the brightest has {light.max():.3g}"
        told.append(f"intensity: {found}: set full_intensity, 1, 100 or 255, as in your files")
    return told


def _grid(spec: SensorSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return spec.elevations, spec.azimuths
