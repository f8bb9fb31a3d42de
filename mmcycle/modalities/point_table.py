"""A table of points as a file lays it out: one record for each point, the columns in the file's order and types."""
from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mmcycle.errors import RecordingError

PLACE = ("x", "y", "z")
MAX_POINTS = 20_000_000         # one turn of the finest scanner has half a million
LARGEST_RECORD = 4096           # bytes of one point
LONGEST_LINE = 65_536           # bytes of one line of a header
MOST_LINES = 2000               # of a header
RESTORE = "restore it from where it was copied"


@dataclass(frozen=True, eq=False)
class PointTable:
    """What stands in a file, nothing judged and nothing left out but padding.

    records    structured, in this machine's byte order; a column may hold several numbers a point
    kind       kitti, nuscenes, npy, pcd or ply
    encoding   how a format that knows several ways wrote it: ascii, binary ...
    shape      (H, W) of an organised cloud, row after row; None for a list of points
    viewpoint  where the sensor stood, as a PCD says it: three metres and a quaternion (w, x, y, z)
    """

    records: np.ndarray
    kind: str
    encoding: str = "binary"
    shape: tuple[int, int] | None = None
    viewpoint: tuple[str, ...] = ("0", "0", "0", "1", "0", "0", "0")


@contextmanager
def opened(path: Path, what: str) -> Iterator[BinaryIO]:
    """An ordinary file to read from; a pipe or a device would never end."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise RecordingError(f"{path}: cannot be read as {what}: it is a directory or a device; give a file")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise RecordingError(
            f"{path}: cannot be read as {what}: {error.strerror or error}; mend or remove it"
        ) from error


def remaining(file: BinaryIO) -> int:
    """The bytes from here to the end of the file."""
    return os.fstat(file.fileno()).st_size - file.tell()


def header(file: BinaryIO, path: Path, last: str) -> Iterator[list[str]]:
    """The words of each line of a text header, down to the line that begins with `last`, without empty lines."""
    for _ in range(MOST_LINES):
        line = file.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            break
        words = line.decode("utf-8", errors="replace").split()
        if words:
            yield words
        if words[:1] == [last]:
            return
    raise RecordingError(f"{path}: its header has no line {last!r}; it is cut or no file of this kind: {RESTORE}")


def whole(word: str, what: str, path: Path) -> int:
    """A whole number, zero or more, as a header says it; written out so that '+1', '1_000' and '1e3' are none."""
    if not (word.isascii() and word.isdigit() and len(word) <= 18):
        raise RecordingError(f"{path}: its header says {what} {word[:40]!r}; allowed are whole numbers from 0")
    return int(word)


def record_type(columns: list[tuple[str, str, int]], path: Path) -> np.dtype:
    """(name, numpy type, numbers a point) of each column -> the type of one record."""
    names = [name for name, _, _ in columns]
    if not set(PLACE) <= set(names):
        raise RecordingError(f"{path}: has the columns {', '.join(names)[:200] or 'none'}; a sweep needs x, y and z")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RecordingError(f"{path}: its header names the column {twice[0]!r} twice; rename one of them")
    size = sum(np.dtype(kind).itemsize * count for _, kind, count in columns)
    if size > LARGEST_RECORD:
        raise RecordingError(f"{path}: its header says {size} bytes for one point; allowed are {LARGEST_RECORD}")
    return np.dtype([(name, kind) if count == 1 else (name, kind, (count,)) for name, kind, count in columns])


def check_count(count: int, max_points: int, path: Path) -> None:
    """A file of no points, or of more than the reader is told to hold, is refused before anything is allocated."""
    if count == 0:
        raise RecordingError(f"{path}: holds no points; remove it, a sweep has at least one")
    if count > max_points:
        raise RecordingError(f"{path}: holds {count} points, more than max_points = {max_points}")


def read_binary(file: BinaryIO, kind: np.dtype, count: int, path: Path) -> np.ndarray:
    """`count` records of any byte order."""
    expected, found = count * kind.itemsize, remaining(file)
    if found < expected:
        raise RecordingError(
            f"{path}: its header says {count} points of {kind.itemsize} bytes, {expected} bytes follow it by that, "
            f"found {found}: the file is cut or its header lies; {RESTORE}"
        )
    return native(np.frombuffer(file.read(expected), dtype=kind))


def read_text(file: BinaryIO, kind: np.dtype, count: int, path: Path) -> np.ndarray:
    """`count` records, one in a line."""
    lines: list[str] = []
    while len(lines) < count and (line := file.readline(LONGEST_LINE)):
        if line.strip():
            lines.append(line.decode("ascii", errors="replace"))
    if len(lines) < count:
        raise RecordingError(f"{path}: its header says {count} points, {len(lines)} lines follow it; {RESTORE}")
    try:
        with np.errstate(over="ignore"):            # what overflows is infinite, and infinite points are refused
            return np.loadtxt(lines, dtype=native_type(kind), comments=None, ndmin=1)
    except ValueError as error:
        reason = str(error).split(";")[0]
        raise RecordingError(f"{path}: its text is not what its header says: {reason}; {RESTORE}") from error


def refuse_more(file: BinaryIO, count: int, path: Path) -> None:
    """After the last record nothing may follow: labels would belong to other points than the header says."""
    rest = remaining(file)
    if file.read(LONGEST_LINE).strip(b" \t\r\n\0"):
        raise RecordingError(
            f"{path}: its header says {count} points, {rest} bytes follow the last one: its header lies; {RESTORE}"
        )


def text_of(records: np.ndarray) -> bytes:
    """One line for each record, each number as short as it can be and still be itself."""
    columns: list[list[str]] = []
    for name in records.dtype.names:
        values = records[name].reshape(len(records), -1)
        columns += [values[:, number].astype(str).tolist() for number in range(values.shape[1])]
    return "".join(f"{' '.join(row)}\n" for row in zip(*columns, strict=True)).encode("ascii")


def native(records: np.ndarray) -> np.ndarray:
    """The same numbers in this machine's byte order, in memory of their own."""
    return records.astype(native_type(records.dtype))


def packed(records: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Some columns of the records, without gaps between them, in this machine's byte order."""
    out = np.empty(len(records), dtype=[(name, native_type(records.dtype[name])) for name in names])
    for name in names:
        out[name] = records[name]
    return out


def native_type(kind: np.dtype) -> np.dtype:
    return kind.newbyteorder("=")
