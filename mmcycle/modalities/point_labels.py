"""A file of point labels: one number for each record of a sweep, as SemanticKITTI and nuScenes lidarseg write them."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmcycle.errors import RecordingError
from mmcycle.files import write_atomic
from mmcycle.modalities.point_table import MAX_POINTS, opened, remaining

KINDS = {".label": np.dtype("<u4"), ".bin": np.dtype("u1")}        # SemanticKITTI, nuScenes lidarseg


@dataclass(frozen=True, eq=False)
class PointLabels:
    """semantic and instance are (N,) uint16; instance 0 belongs to no thing, or the file knows no instances."""

    semantic: np.ndarray
    instance: np.ndarray

    def __len__(self) -> int:
        return len(self.semantic)


def read_labels(path: Path, n_points: int | None = None) -> PointLabels:
    """A `.label` is uint32, instance << 16 | semantic (Behley et al. 2019); a `.bin` is uint8, the class alone.

    RecordingError where there are not exactly `n_points` of them, if given: `Sweep.records` says how many.
    """
    numbers = _numbers(path, n_points).astype(np.uint32)
    return PointLabels((numbers & 0xFFFF).astype(np.uint16), (numbers >> 16).astype(np.uint16))


def write_labels(labels: PointLabels, path: Path) -> None:
    """Write as the suffix says; RecordingError for a label that the format cannot hold."""
    kind = _kind(path)
    semantic, instance = (_within_16_bits(values, path) for values in (labels.semantic, labels.instance))
    if len(semantic) != len(instance) or not len(semantic):
        raise RecordingError(
            f"{path}: {len(semantic)} semantic labels and {len(instance)} instances; each point needs one of each"
        )
    if kind.itemsize == 1 and (semantic.max() > 255 or instance.any()):
        raise RecordingError(
            f"{path}: lidarseg holds classes from 0 to 255 and no instances; found class {semantic.max()} and instance "
            f"{instance.max()}: write a .label file"
        )
    content = (instance << 16 | semantic).astype(kind).tobytes()
    write_atomic(path, lambda temporary: temporary.write_bytes(content) and None)


def keep_labels(source: Path, target: Path, kept: np.ndarray, n_points: int, *, in_place: bool = False) -> None:
    """Write the labels of the points at `kept` (positions in the sweep's file) in that order, all bits unchanged.

    in_place  the sweep's file keeps its grid (`keeps_grid`): so do its labels, and those of dropped points become 0
    """
    if _kind(source) != _kind(target):
        raise RecordingError(f"{target}: the labels of {source.name} must keep their format, {source.suffix}")
    numbers = _numbers(source, n_points)
    kept = np.asarray(kept)
    if kept.ndim != 1 or kept.dtype.kind not in "iu" or not len(kept):
        raise RecordingError(f"{target}: kept points are (N,) whole numbers; got {kept.shape} of {kept.dtype}")
    if kept.min() < 0 or kept.max() >= n_points:
        raise RecordingError(
            f"{target}: kept points are numbered {kept.min()} to {kept.max()}; allowed are 0 to {n_points - 1}"
        )
    left = numbers[kept]
    if in_place:
        left = np.zeros_like(numbers)
        left[kept] = numbers[kept]
    write_atomic(target, lambda temporary: temporary.write_bytes(left.tobytes()) and None)


def _numbers(path: Path, n_points: int | None) -> np.ndarray:
    """(N,) as they lie in the file."""
    kind = _kind(path)
    with opened(path, "point labels") as file:
        _check_size(remaining(file), kind.itemsize, n_points, path)
        return np.fromfile(file, dtype=kind)


def _check_size(size: int, step: int, n_points: int | None, path: Path) -> None:
    if size % step:
        raise RecordingError(
            f"{path}: has {size} bytes, which is no multiple of {step}, the bytes of one label; it is cut"
        )
    number = size // step
    if n_points is not None and number != n_points:
        raise RecordingError(
            f"{path}: has {number} labels, its sweep has {n_points} points; they do not belong together, or one of "
            "them is cut"
        )
    if not 0 < number <= MAX_POINTS:
        raise RecordingError(f"{path}: has {number} labels; allowed are 1 to {MAX_POINTS}")


def _kind(path: Path) -> np.dtype:
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise RecordingError(
            f"{path}: {path.suffix!r} is no file of point labels; allowed are .label (SemanticKITTI) and .bin "
            "(nuScenes lidarseg)"
        )
    return kind


def _within_16_bits(values: np.ndarray, path: Path) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or values.dtype.kind not in "iu" or len(values) and (values.min() < 0 or values.max() > 0xFFFF):
        raise RecordingError(
            f"{path}: point labels are (N,) whole numbers from 0 to 65535; got {values.dtype} {values.shape}"
        )
    return values.astype(np.uint32)
