"""A sweep file: the points of one turn of a scanner, their intensity, and every other column that the file has."""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mmcycle.errors import RecordingError
from mmcycle.files import write_atomic
from mmcycle.modalities.number_files import KITTI, NUSCENES, bin_bytes, is_ring, npy_bytes, read_bin, read_npy
from mmcycle.modalities.pcd import pcd_bytes, read_pcd
from mmcycle.modalities.ply import ply_bytes, read_ply
from mmcycle.modalities.point_table import MAX_POINTS, PLACE, RESTORE, PointTable, opened, record_type

SUFFIXES = (".bin", ".pcd", ".ply", ".npy")     # nuScenes sweeps are those named ".pcd.bin"
INTENSITY = ("intensity", "remission", "reflectance", "reflectivity", "scalar_intensity", "i")      # the first found
RINGS = ("ring", "channel", "laser_id", "laser", "line", "beam", "scalar_ring")
FARTHEST = 10_000.0                             # metres along one axis
NEAREST = 1e-3                                  # metres: all points nearer than this are no scan of anything


@dataclass(frozen=True, eq=False)
class Sweep:
    """N points that came back to the scanner, in the file's order.

    points     (N, 3) metres, x forward, y left, z up; float32, or float64 where the file holds doubles
    intensity  (N,) float, in the file's own units: 0..1 in KITTI, 0..255 in nuScenes; zeros where the file has none
    extra      every other column by name, in the file's order and types: (N,) or (N, numbers)
    kept       (N,) where these points stand among the records of the file that was read: label rows
    table      that file, None for a sweep that was made
    """

    points: np.ndarray
    intensity: np.ndarray
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    kept: np.ndarray = None                     # type: ignore[assignment]      # filled in: all of them
    table: PointTable | None = None

    def __post_init__(self) -> None:
        if self.kept is None:
            object.__setattr__(self, "kept", np.arange(len(self.points)))

    def __len__(self) -> int:
        return len(self.points)

    @property
    def records(self) -> int:
        """How many records the file has, and so how many labels; those that `kept` leaves out have no return."""
        return len(self.table.records) if self.table else len(self.points)

    @property
    def ring(self) -> np.ndarray | None:
        """(N,) int64, which laser each point is from, where a column says it."""
        name = _find(tuple(self.extra), RINGS)
        return self.extra[name].astype(np.int64) if name and is_ring(self.extra[name]) else None

    def keep(self, index: np.ndarray) -> Sweep:
        """The points at these positions, or where a mask (N,) is true, in this order."""
        return replace(
            self, points=self.points[index], intensity=self.intensity[index], kept=self.kept[index],
            extra={name: column[index] for name, column in self.extra.items()},
        )


def read_sweep(path: Path, max_points: int = MAX_POINTS) -> Sweep:
    """The format is found in the name; RecordingError for all that is not one sweep.

    Points at exactly (0, 0, 0), or with NaN for a coordinate, are how files say "no return": they are left out, and
    `kept` tells which stayed. Infinite points are damage and refused.
    """
    kind = kind_of(path)
    with opened(path, "a sweep") as file:
        return _sweep(_read(kind, file, path, max_points), path)


def write_sweep(sweep: Sweep, path: Path) -> None:
    """Write as the name says. A sweep read from the same format keeps its columns, types, encoding and grid.

    KITTI holds x y z intensity alone, nuScenes also the ring; in other formats every column is written. Where the
    file had no intensity and the sweep has, a column is added.
    """
    kind = kind_of(path)
    _check(sweep, path)
    table = _table(sweep, kind, path)
    if kind == "pcd":
        content = pcd_bytes(table, path)
    elif kind == "ply":
        content = ply_bytes(table, path)
    else:
        content = npy_bytes(table) if kind == "npy" else bin_bytes(table)
    write_atomic(path, lambda temporary: temporary.write_bytes(content) and None)


def kind_of(path: Path) -> str:
    """kitti, nuscenes, npy, pcd or ply, by the name alone: the sizes of .bin records cannot be told from the bytes."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise RecordingError(f"{path}: {suffix!r} is no sweep file; allowed are {', '.join(SUFFIXES)}")
    if suffix == ".bin":
        return "nuscenes" if path.name.lower().endswith(".pcd.bin") else "kitti"
    return suffix[1:]


def keeps_grid(sweep: Sweep, path: Path) -> bool:
    """Whether writing to `path` keeps every record of the file that was read: an organised cloud in its own format."""
    return sweep.table is not None and sweep.table.shape is not None and sweep.table.kind == kind_of(path)


def _read(kind: str, file: BinaryIO, path: Path, max_points: int) -> PointTable:
    if kind == "pcd":
        return read_pcd(file, path, max_points)
    if kind == "ply":
        return read_ply(file, path, max_points)
    if kind == "npy":
        return read_npy(path, max_points)
    return read_bin(file, path, kind, max_points)


def _sweep(table: PointTable, path: Path) -> Sweep:
    """Judge what was read: the places must be those of a scan, in metres."""
    records = table.records
    names = records.dtype.names
    for name in PLACE:
        if records.dtype[name] not in (np.float32, np.float64):
            raise RecordingError(
                f"{path}: its {name} holds {records.dtype[name]}; allowed are 32- and 64-bit floats, in metres"
            )
    points = np.stack([records[name] for name in PLACE], axis=-1)
    kept = np.flatnonzero(_returned(points))
    _check_places(points, kept, path)
    column = _find(names, INTENSITY)
    intensity = records[column] if column else np.zeros(len(records), np.float32)
    if intensity.ndim != 1 or intensity.dtype == np.uint64 or intensity.dtype == np.int64:
        raise RecordingError(
            f"{path}: its {column} holds {records.dtype[column]}; allowed is one number of 8 to 32 bits"
        )
    intensity = intensity[kept].astype(np.result_type(intensity, np.float32))
    bad = int((~np.isfinite(intensity)).sum())
    if bad:
        raise RecordingError(f"{path}: the {column} of {bad} of {len(kept)} points is not a finite number; {RESTORE}")
    extra = {name: records[name][kept] for name in names if name not in (*PLACE, column)}
    return Sweep(points[kept], intensity, extra, kept, table)


def _check_places(points: np.ndarray, kept: np.ndarray, path: Path) -> None:
    infinite = int(np.isinf(points).any(axis=-1).sum())
    if infinite:
        raise RecordingError(f"{path}: {infinite} of {len(points)} points are infinite; {RESTORE}")
    if not len(kept) or np.abs(points[kept]).max() < NEAREST:
        blank = int(np.isnan(points).any(axis=-1).sum())
        what = f"{blank} points without a place (NaN) and no others" if blank else "all points at the origin"
        raise RecordingError(f"{path}: has {what}; a sweep has at least one return, remove the file")
    farthest = np.abs(points[kept]).max()
    if farthest > FARTHEST:
        raise RecordingError(
            f"{path}: a point lies {farthest:.6g} m from the scanner, allowed are {FARTHEST:g} m; it is in other "
            "units, in coordinates of the map, or no sweep: give metres around the scanner"
        )


def _returned(points: np.ndarray) -> np.ndarray:
    """(N,) whether there is a point at all."""
    return points.any(axis=-1) & ~np.isnan(points).any(axis=-1)


def _check(sweep: Sweep, path: Path) -> None:
    """Refuse to write what could not be read again."""
    number = len(sweep.points)
    columns = {"intensity": sweep.intensity, "kept": sweep.kept, **sweep.extra}
    odd = next((name for name, column in columns.items() if len(column) != number), None)
    if sweep.points.shape != (number, 3) or sweep.intensity.ndim != 1 or odd:
        raise RecordingError(
            f"{path}: a sweep is points (N, 3) and N numbers in each column; got {sweep.points.shape} and "
            f"{odd or 'intensity'} {columns[odd or 'intensity'].shape}"
        )
    if not number:
        raise RecordingError(f"{path}: no point is left to write; a sweep has at least one")
    lost, dark = int((~_returned(sweep.points)).sum()), int((~np.isfinite(sweep.intensity)).sum())
    if lost or dark:
        raise RecordingError(
            f"{path}: of {number} points to be written {lost} have no place (NaN, or at the origin) and {dark} no "
            "finite intensity; leave them out with Sweep.keep"
        )
    _check_places(sweep.points, np.arange(number), path)


def _table(sweep: Sweep, kind: str, path: Path) -> PointTable:
    """The records to be written, in the file's own columns if it stays in its format."""
    source = sweep.table if sweep.table and sweep.table.kind == kind else None
    table = source or PointTable(np.empty(0, dtype=_new_columns(sweep, kind, path)), kind)
    dtype = table.records.dtype
    column = _find(dtype.names, INTENSITY)
    if column is None and sweep.intensity.any():
        dtype, column = np.dtype([*_described(dtype), ("intensity", np.float32)]), "intensity"
    rows = sweep.kept if table.shape else np.arange(len(sweep))
    records = np.zeros(len(table.records) if table.shape else len(sweep), dtype=dtype)
    if table.shape:
        for name in table.records.dtype.names:
            records[name] = table.records[name]
        _clear(records, rows, column)
    for number, name in enumerate(PLACE):
        records[name][rows] = sweep.points[:, number]
    if column:
        records[column][rows] = _fitted(sweep.intensity, dtype[column])
    extra = sweep.extra if source or kind != "nuscenes" else {"ring": sweep.ring}
    for name in dtype.names:
        if name not in (*PLACE, column):
            if name not in extra:
                raise RecordingError(f"{path}: the sweep has lost the column {name!r} that its file has; pass it along")
            records[name][rows] = extra[name]
    return replace(table, records=records)


def _new_columns(sweep: Sweep, kind: str, path: Path) -> np.dtype:
    """The columns of a sweep that was made, or comes from another format."""
    if kind == "kitti":
        return KITTI
    if kind == "nuscenes":
        if sweep.ring is None:
            raise RecordingError(
                f"{path}: nuScenes holds a ring for each point, this sweep has none; write .bin, .pcd or .ply"
            )
        return NUSCENES
    place = sweep.points.dtype if sweep.points.dtype == np.float64 else np.dtype(np.float32)
    odd = next((name for name in sweep.extra if len(name.split()) != 1), None)
    if odd is not None:
        raise RecordingError(
            f"{path}: the column name {odd!r} cannot stand in a header; allowed are names without blanks"
        )
    columns = [(name, place.str, 1) for name in PLACE] + [("intensity", "<f4", 1)]
    return record_type(columns + [(n, c.dtype.str, int(np.prod(c.shape[1:]))) for n, c in sweep.extra.items()], path)


def _clear(records: np.ndarray, rows: np.ndarray, column: str | None) -> None:
    """In a grid, the points that were dropped become cells without a return, in the file's own way of saying so."""
    points = np.stack([records[name] for name in PLACE], axis=-1)
    dropped = _returned(points)
    dropped[rows] = False
    for name in PLACE:
        records[name][dropped] = np.nan if np.isnan(points).any() else 0
    if column:
        records[column][dropped] = 0


def _fitted(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Whole numbers are rounded and kept within what the column can hold."""
    if kind.kind == "f":
        return values.astype(kind)
    limits = np.iinfo(kind)
    return np.rint(values.astype(np.float64)).clip(limits.min, limits.max).astype(kind)


def _described(kind: np.dtype) -> list[tuple[str, np.dtype]]:
    return [(name, kind[name]) for name in kind.names]


def _find(names: tuple[str, ...], wanted: tuple[str, ...]) -> str | None:
    """The column that is named by the first of these words, whatever its case."""
    by_word = {name.lower(): name for name in reversed(names)}
    return next((by_word[word] for word in wanted if word in by_word), None)
