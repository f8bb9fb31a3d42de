"""A PCD file (Point Cloud Library, format 0.7 and the older ones): text, binary, or binary in compressed columns."""
from __future__ import annotations

from pathlib import Path
from struct import pack, unpack
from typing import BinaryIO

import numpy as np

from mmcycle.errors import RecordingError
from mmcycle.modalities.point_table import (
    RESTORE, PointTable, check_count, header, native, packed, read_binary, read_text, record_type, refuse_more,
    remaining, text_of, whole,
)

ENCODINGS = ("ascii", "binary", "binary_compressed")
SIZES = {"F": ("4", "8"), "I": ("1", "2", "4", "8"), "U": ("1", "2", "4", "8")}
PADDING = "_"                   # the name of columns that only fill space
MOST_SHRUNK = 88                # LZF writes at most 264 bytes for three


def read_pcd(file: BinaryIO, path: Path, max_points: int) -> PointTable:
    """RecordingError where the header lies, also about sizes: they are judged before memory is asked for."""
    lines = _lines(file, path)
    kind, padding = _columns(lines, path)
    shape, count = _size(lines, path)
    check_count(count, max_points, path)
    encoding = lines["DATA"][0]
    if encoding == "ascii":
        records = read_text(file, kind, count, path)
    elif encoding == "binary":
        records = read_binary(file, kind, count, path)
    else:
        records = _read_compressed(file, kind, count, path)
    refuse_more(file, count, path)
    if padding:
        records = packed(records, tuple(name for name in kind.names if name not in padding))
    return PointTable(records, "pcd", encoding, shape, tuple(lines["VIEWPOINT"]))


def pcd_bytes(table: PointTable, path: Path) -> bytes:
    """The whole file. Compressed columns are written as literals: any reader opens them, floats would hardly shrink."""
    records, encoding = table.records, table.encoding if table.encoding in ENCODINGS else "binary"
    height, width = table.shape or (1, len(records))
    columns = [records.dtype[name] for name in records.dtype.names]
    for name, column in zip(records.dtype.names, columns, strict=True):
        if str(column.base.itemsize) not in SIZES.get(column.base.kind.upper(), ()):
            raise RecordingError(f"{path}: PCD cannot hold the column {name!r} of {column}; convert it to float32")
    lines = {
        "VERSION": ["0.7"],
        "FIELDS": list(records.dtype.names),
        "SIZE": [str(column.base.itemsize) for column in columns],
        "TYPE": [column.base.kind.upper() for column in columns],
        "COUNT": [str(int(np.prod(column.shape))) for column in columns],
        "WIDTH": [str(width)],
        "HEIGHT": [str(height)],
        "VIEWPOINT": list(table.viewpoint),
        "POINTS": [str(len(records))],
        "DATA": [encoding],
    }
    top = "# .PCD v0.7 - Point Cloud Data file format\n" + "".join(
        f"{name} {' '.join(words)}\n" for name, words in lines.items()
    )
    if encoding == "ascii":
        body = text_of(records)
    else:
        little = records.astype(records.dtype.newbyteorder("<"))
        body = little.tobytes() if encoding == "binary" else _compressed(little)
    return top.encode("utf-8") + body


def _lines(file: BinaryIO, path: Path) -> dict[str, list[str]]:
    """The header, complete: what an older format left out is filled in."""
    found: dict[str, list[str]] = {}
    for name, *words in header(file, path, last="DATA"):
        if not name.startswith("#"):
            found[{"COLUMNS": "FIELDS"}.get(name, name)] = words
    missing = [name for name in ("FIELDS", "SIZE", "TYPE", "WIDTH", "HEIGHT", "DATA") if not found.get(name)]
    if missing:
        raise RecordingError(f"{path}: its PCD header lacks {', '.join(missing)}; {RESTORE}")
    encoding = " ".join(found["DATA"])
    if encoding not in ENCODINGS:
        raise RecordingError(f"{path}: its PCD header says DATA {encoding!r}; allowed are {', '.join(ENCODINGS)}")
    found.setdefault("COUNT", ["1"] * len(found["FIELDS"]))
    found.setdefault("VIEWPOINT", list(PointTable.viewpoint))
    if len(found["VIEWPOINT"]) != 7 or not all(_is_number(word) for word in found["VIEWPOINT"]):
        raise RecordingError(f"{path}: its PCD header's VIEWPOINT is not seven numbers; write 0 0 0 1 0 0 0")
    return found


def _columns(lines: dict[str, list[str]], path: Path) -> tuple[np.dtype, list[str]]:
    """The type of one record as it lies in the file, and the names given to its padding."""
    names, sizes, kinds, counts = (lines[name] for name in ("FIELDS", "SIZE", "TYPE", "COUNT"))
    if not len(names) == len(sizes) == len(kinds) == len(counts):
        raise RecordingError(
            f"{path}: its PCD header has {len(names)} FIELDS, {len(sizes)} SIZE, {len(kinds)} TYPE and {len(counts)} "
            "COUNT; each column needs one of each"
        )
    columns, padding = [], []
    for name, size, kind, count in zip(names, sizes, kinds, counts, strict=True):
        if size not in SIZES.get(kind, ()):
            raise RecordingError(
                f"{path}: its PCD header says TYPE {kind} of SIZE {size} for {name!r}; allowed are F 4 8, I and U 1 2 "
                "4 8"
            )
        if name == PADDING:
            name = f"{PADDING} {len(padding)}"              # a blank: no real column can have that name
            padding.append(name)
        repeat = whole(count, "COUNT", path)
        if repeat == 0:
            raise RecordingError(f"{path}: its PCD header says COUNT 0 for {name!r}; allowed are whole numbers from 1")
        columns.append((name, f"<{kind.lower()}{size}", repeat))
    return record_type(columns, path), padding


def _size(lines: dict[str, list[str]], path: Path) -> tuple[tuple[int, int] | None, int]:
    """(H, W) of an organised cloud, and the number of points."""
    height, width = (whole(lines[name][0], name, path) for name in ("HEIGHT", "WIDTH"))
    count = whole(lines["POINTS"][0], "POINTS", path) if lines.get("POINTS") else height * width
    if count != height * width:
        raise RecordingError(
            f"{path}: its PCD header lies: WIDTH {width} times HEIGHT {height} is not POINTS {count}; {RESTORE}"
        )
    return ((height, width) if height > 1 else None), count


def _read_compressed(file: BinaryIO, kind: np.dtype, count: int, path: Path) -> np.ndarray:
    """Columns one after the other, shrunk together by LZF, after the sizes of both as uint32."""
    sizes = file.read(8)
    shrunk, full = unpack("<II", sizes) if len(sizes) == 8 else (0, 0)
    if full != count * kind.itemsize or shrunk > remaining(file) or full > MOST_SHRUNK * shrunk:
        raise RecordingError(
            f"{path}: its header says {count} points of {kind.itemsize} bytes, its compressed part says {shrunk} bytes "
            f"that become {full}, {remaining(file)} follow: the file is cut or its header lies; {RESTORE}"
        )
    content = _expanded(file.read(shrunk), full, path)
    records, start = np.empty(count, dtype=kind), 0
    for name in kind.names:
        column = kind[name]
        values = np.frombuffer(content, dtype=column.base, count=count * int(np.prod(column.shape)), offset=start)
        records[name] = values.reshape(count, *column.shape)
        start += values.nbytes
    return native(records)


def _expanded(shrunk: bytes, full: int, path: Path) -> bytes:
    """LZF (Lehmann, liblzf): runs of literals, and pieces of what is written already, perhaps of themselves."""
    out, at, end = bytearray(), 0, len(shrunk)
    try:
        while at < end and len(out) <= full:
            control = shrunk[at]
            at += 1
            if control < 32:
                out += shrunk[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += shrunk[at]
                at += 1
            distance = ((control & 31) << 8 | shrunk[at]) + 1
            at += 1
            start, length = len(out) - distance, length + 2
            if start < 0:
                raise IndexError
            piece = out[start : start + length]
            out += piece if len(piece) == length else (piece * (length // distance + 1))[:length]
    except IndexError:
        out.clear()
    if len(out) != full or at != end:
        raise RecordingError(f"{path}: its compressed points are damaged; {RESTORE}")
    return bytes(out)


def _compressed(records: np.ndarray) -> bytes:
    content = b"".join(records[name].tobytes() for name in records.dtype.names)
    runs = (content[start : start + 32] for start in range(0, len(content), 32))
    shrunk = b"".join(bytes([len(run) - 1]) + run for run in runs)
    return pack("<II", len(shrunk), len(content)) + shrunk


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False
