"""Sweeps as bare numbers: .bin files without a header, by the name's convention, and numpy's .npy arrays."""
from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mmcycle.errors import RecordingError
from mmcycle.modalities.point_table import PLACE, PointTable, check_count, packed, record_type, remaining

KITTI = np.dtype([(name, "<f4") for name in (*PLACE, "intensity")])
NUSCENES = np.dtype([(name, "<f4") for name in (*PLACE, "intensity", "ring")])
MOST_COLUMNS = 64               # of an .npy
MOST_RINGS = 1024


def read_bin(file: BinaryIO, path: Path, kind: str, max_points: int) -> PointTable:
    """KITTI (Geiger et al. 2013) and nuScenes (Caesar et al. 2020): float32 after float32, no header."""
    record = NUSCENES if kind == "nuscenes" else KITTI
    size, step = remaining(file), record.itemsize
    check_count(-(-size // step), max_points, path)
    content = file.read(size)
    if _is_text(content[:4096]):
        raise RecordingError(f"{path}: is text, not the float32 numbers of a .bin sweep; name it by its own format")
    if size % step:
        named = "a nuScenes sweep, a name that ends in .pcd.bin" if kind == "nuscenes" else "a KITTI sweep"
        other = "KITTI sweeps end in .bin alone" if kind == "nuscenes" else "nuScenes sweeps must end in .pcd.bin"
        raise RecordingError(
            f"{path}: has {size} bytes, which is no multiple of {step}, the bytes of one point of {named}; it is cut, "
            f"or named for another format: {other}"
        )
    records = packed(np.frombuffer(content, dtype=record), record.names)
    if kind == "nuscenes" and not is_ring(records["ring"]):
        raise RecordingError(f"{path}: its fifth column is no ring number; a name that ends in .pcd.bin says nuScenes")
    return PointTable(records, kind)


def read_npy(path: Path, max_points: int) -> PointTable:
    """(N, K), an organised (H, W, K), or named columns: a structured array (N,) or (H, W)."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")         # mapped: its header is judged first
    except Exception as error:          # numpy answers a damaged header with almost any exception
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise RecordingError(f"{path}: cannot be read as an array: {reason}; save it with numpy.save") from error
    named = array.dtype.names is not None
    grid = array.shape if named else array.shape[:-1]
    if len(grid) not in (1, 2) or not (named or 3 <= array.shape[-1] <= MOST_COLUMNS):
        raise RecordingError(
            f"{path}: has the shape {array.shape}; a sweep is (points, columns) or (rows, azimuths, columns) of 3 to "
            f"{MOST_COLUMNS} columns: x, y, z, intensity ..."
        )
    check_count(int(np.prod(grid)), max_points, path)
    kind = array.dtype if named else np.dtype([(_column_name(n), array.dtype) for n in range(array.shape[-1])])
    if any(kind[name].base.kind not in "fiu" or kind[name].base.itemsize > 8 for name in kind.names):
        raise RecordingError(f"{path}: holds {array.dtype}; allowed are floats and whole numbers of up to 64 bits")
    record_type([(name, kind[name].base.str, int(np.prod(kind[name].shape))) for name in kind.names], path)
    records = np.ascontiguousarray(array).view(kind).reshape(-1)
    shape = (int(grid[0]), int(grid[1])) if len(grid) == 2 else None
    return PointTable(packed(records, kind.names), "npy", "named" if named else "plain", shape)


def bin_bytes(table: PointTable) -> bytes:
    """float32 after float32, the low byte first."""
    return table.records.astype(table.records.dtype.newbyteorder("<")).tobytes()


def npy_bytes(table: PointTable) -> bytes:
    records = table.records
    kinds = {records.dtype[name] for name in records.dtype.names}
    conventional = all(name == _column_name(number) for number, name in enumerate(records.dtype.names))
    if table.encoding != "named" and conventional and len(kinds) == 1:
        array = records.view(kinds.pop()).reshape(*(table.shape or (len(records),)), len(records.dtype.names))
    else:
        array = records.reshape(table.shape or -1)
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def is_ring(column: np.ndarray) -> bool:
    """Whether a column can be the number of the laser that each point is from."""
    return column.ndim == 1 and bool(((column >= 0) & (column < MOST_RINGS) & (column == np.rint(column))).all())


def _is_text(content: bytes) -> bool:
    return all(32 <= byte < 127 or byte in b"\t\r\n" for byte in content)


def _column_name(number: int) -> str:
    return (*PLACE, "intensity")[number] if number < 4 else f"column_{number}"
