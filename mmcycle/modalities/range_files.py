"""A range image file: one turn of a scanner as a grid, rows from the top laser down, in an .npz of named arrays."""
from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mmcycle.errors import RecordingError
from mmcycle.files import write_atomic
from mmcycle.modalities.point_table import MAX_POINTS, RESTORE, opened

SUFFIXES = (".npz",)
KEYS = ("range", "range_scale", "remission")
MOST_ARRAYS = 64
MOST_NUMBERS = 16               # in all arrays together, for each cell of the largest grid


@dataclass(frozen=True, eq=False)
class RangeImage:
    """H rows of W columns; column 0 looks back, W/2 ahead (+x), the left half to the left (+y).

    range      (H, W) float32 metres, 0 where nothing came back
    remission  (H, W) float32 in the file's own units, 0..99 or 0..255 where the file holds whole numbers
    extra      every other array of the file, unchanged: "label" (H, W) holds where range is above 0
    scale      metres of one step, where the file holds whole numbers; None where it holds metres
    kinds      how the file holds range and remission
    """

    range: np.ndarray
    remission: np.ndarray
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    scale: np.float32 | None = None
    kinds: tuple[str, str] = ("<f4", "<f4")


def read_range_image(path: Path, max_points: int = MAX_POINTS) -> RangeImage:
    """RecordingError for all that is not a range image; sizes are judged before memory is asked for."""
    try:
        with opened(path, "a range image") as file, zipfile.ZipFile(file) as archive:
            arrays = _arrays(archive, path, max_points)
    except RecordingError:
        raise
    except Exception as error:          # a damaged archive is answered with almost any exception
        reason = str(error) or type(error).__name__
        raise RecordingError(f"{path}: cannot be read as a range image: {reason}; mend or remove it") from error
    return _image(arrays, path, max_points)


def write_range_image(image: RangeImage, path: Path) -> None:
    """Write as it was read: same arrays, same types; the same numbers give the same bytes."""
    if path.suffix.lower() not in SUFFIXES:
        raise RecordingError(f"{path}: range images cannot be written as {path.suffix!r}; allowed is .npz")
    arrays = {"range": _steps(image, path)}
    if image.scale is not None:
        arrays["range_scale"] = np.float32(image.scale)
    arrays["remission"] = _fitted(image.remission, np.dtype(image.kinds[1]))
    if image.remission.shape != image.range.shape or not np.isfinite(image.remission).all():
        raise RecordingError(f"{path}: remission is one finite number for each cell; got {image.remission.shape}")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in (arrays | image.extra).items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), zipfile.ZIP_DEFLATED)   # dated 1980
    write_atomic(path, lambda temporary: temporary.write_bytes(buffer.getvalue()) and None)


def _arrays(archive: zipfile.ZipFile, path: Path, max_points: int) -> dict[str, np.ndarray]:
    members = archive.infolist()
    most = max_points * MOST_NUMBERS
    if len(members) > MOST_ARRAYS or sum(member.file_size for member in members) > most:
        raise RecordingError(
            f"{path}: says it holds {len(members)} arrays of {sum(member.file_size for member in members)} bytes "
            f"together; allowed are {MOST_ARRAYS} of {most}"
        )
    arrays = {}
    for member in members:
        with archive.open(member) as file:
            content = file.read(member.file_size + 1)
        arrays[member.filename.removesuffix(".npy")] = _array(content, member.filename, path)
    return arrays


def _array(content: bytes, name: str, path: Path) -> np.ndarray:
    """An array whose header says no more than there is."""
    file: BinaryIO = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, in_columns, kind = read(file)
    number = 1
    for side in shape:
        number *= int(side)
    if kind.hasobject or number * kind.itemsize != len(content) - file.tell() or any(side < 0 for side in shape):
        raise RecordingError(
            f"{path}: its array {name} says {kind} {shape}, {len(content) - file.tell()} bytes follow: its header "
            f"lies; {RESTORE}"
        )
    flat = np.frombuffer(content, dtype=kind, offset=file.tell()).copy()
    return flat.reshape(shape, order="F" if in_columns else "C")


def _image(arrays: dict[str, np.ndarray], path: Path, max_points: int) -> RangeImage:
    missing = [name for name in ("range", "remission") if name not in arrays]
    if missing:
        raise RecordingError(
            f"{path}: has the arrays {', '.join(arrays) or 'none'}; a range image needs range and remission (H, W), "
            "and range_scale, metres of one step, where range holds whole numbers"
        )
    steps, remission = arrays["range"], arrays["remission"]
    if steps.ndim != 2 or not 0 < steps.size <= max_points or remission.shape != steps.shape:
        raise RecordingError(
            f"{path}: its range is {steps.shape} and its remission {remission.shape}; allowed are equal grids (H, W) "
            f"of up to {max_points} cells"
        )
    if steps.dtype.kind not in "fu" or remission.dtype.kind not in "fu":
        raise RecordingError(
            f"{path}: its range holds {steps.dtype} and its remission {remission.dtype}; allowed are floats and "
            "unsigned numbers"
        )
    scale = _scale(arrays, path)
    metres = np.where(np.isnan(steps), 0, steps).astype(np.float32) * (1 if scale is None else scale)
    if not np.isfinite(metres).all() or metres.min() < 0 or not metres.any():
        raise RecordingError(
            f"{path}: its ranges go from {metres.min():g} to {metres.max():g} m; allowed are finite metres, 0 for no "
            "return, at least one return"
        )
    light = remission.astype(np.float32)
    if not np.isfinite(light).all():
        raise RecordingError(
            f"{path}: the remission of {(~np.isfinite(light)).sum()} cells is not a finite number; {RESTORE}"
        )
    extra = {name: array for name, array in arrays.items() if name not in KEYS}
    return RangeImage(metres, light, extra, scale, (steps.dtype.str, remission.dtype.str))


def _scale(arrays: dict[str, np.ndarray], path: Path) -> np.float32 | None:
    whole, given = arrays["range"].dtype.kind == "u", arrays.get("range_scale")
    if not whole and given is None:
        return None
    if not whole or given is None or given.size != 1 or given.dtype.kind != "f" or not 0 < given.item() < 10:
        found = "none" if given is None else f"{given.dtype} {given.tolist()!r:.40}"
        raise RecordingError(
            f"{path}: its range holds {arrays['range'].dtype} and its range_scale is {found}; allowed are whole "
            "numbers with the metres of one step, above 0 and below 10, or metres without"
        )
    return np.float32(given.item())


def _steps(image: RangeImage, path: Path) -> np.ndarray:
    """Ranges as the file holds them; a return never becomes 0, which says there was none."""
    metres, kind = image.range, np.dtype(image.kinds[0])
    if metres.ndim != 2 or not np.isfinite(metres).all() or metres.min(initial=0) < 0 or not metres.any():
        raise RecordingError(
            f"{path}: a range image is (H, W) finite metres with at least one return; got {metres.shape}"
        )
    if kind.kind == "f":
        return metres.astype(kind)
    farthest = np.iinfo(kind).max * float(image.scale)
    if metres.max() > farthest:
        raise RecordingError(
            f"{path}: a return at {metres.max():.2f} m is beyond the {farthest:.2f} m that {kind} steps of "
            f"{image.scale} m can hold; give it a larger scale"
        )
    steps = np.rint(metres.astype(np.float64) / float(image.scale))
    return np.where(metres > 0, steps.clip(1, np.iinfo(kind).max), 0).astype(kind)


def _fitted(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    if kind.kind == "f":
        return values.astype(kind)
    return np.rint(values).clip(0, np.iinfo(kind).max).astype(kind)
