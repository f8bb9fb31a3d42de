"""A PLY file (Stanford polygon format 1.0) as a list of points: text, or binary in either byte order."""
from __future__ import annotations

from pathlib import Path
from typing import BinaryIO


from mmcycle.errors import RecordingError
from mmcycle.modalities.point_table import (
    PointTable, check_count, header, read_binary, read_text, record_type, refuse_more, text_of, whole,
)

ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4",
    "float64": "f8",
}
NAMES = {       # the older names, which every reader knows, but for ushort: Open3D knows it as uint16 alone
    "i1": "char", "u1": "uchar", "i2": "short", "u2": "uint16", "i4": "int", "u4": "uint", "f4": "float",
    "f8": "double",
}


def read_ply(file: BinaryIO, path: Path, max_points: int) -> PointTable:
    """Its vertices are the points, all their numbers are columns; faces and what else follows are passed over."""
    encoding, elements, columns = _header(file, path)
    count = whole(elements[0][1], "element vertex", path)
    check_count(count, max_points, path)
    order = ORDERS[encoding]
    kind = record_type([(name, order + TYPES[number], 1) for name, number in columns], path)
    records = (read_text if encoding == "ascii" else read_binary)(file, kind, count, path)
    if len(elements) == 1:
        refuse_more(file, count, path)
    return PointTable(records, "ply", encoding)


def ply_bytes(table: PointTable, path: Path) -> bytes:
    """The whole file; RecordingError for columns that PLY cannot hold."""
    records, encoding = table.records, table.encoding if table.encoding in ORDERS else "binary_little_endian"
    lines = ["ply", f"format {encoding} 1.0", f"element vertex {len(records)}"]
    for name in records.dtype.names:
        number = NAMES.get(records.dtype[name].str[1:])
        if number is None:
            raise RecordingError(
                f"{path}: PLY cannot hold the column {name!r} of {records.dtype[name]}; write a .pcd file"
            )
        lines.append(f"property {number} {name}")
    top = "\n".join([*lines, "end_header\n"]).encode("utf-8")
    if encoding == "ascii":
        return top + text_of(records)
    return top + records.astype(records.dtype.newbyteorder(ORDERS[encoding])).tobytes()


def _header(file: BinaryIO, path: Path) -> tuple[str, list[list[str]], list[tuple[str, str]]]:
    """The encoding, (name, count) of each element, and (name, type) of each number of a vertex, the first element."""
    if file.readline(8).rstrip() != b"ply":
        raise RecordingError(f"{path}: does not begin with 'ply'; it is no PLY file")
    encoding, elements, columns = "", [], []
    for name, *words in header(file, path, last="end_header"):
        if name == "format":
            encoding = words[0] if words else ""
        elif name == "element":
            elements.append(words)
        elif name == "property" and elements and elements[0] is elements[-1]:
            columns.append(_column(words, path))
    if encoding not in ORDERS:
        raise RecordingError(f"{path}: its PLY header says format {encoding!r}; allowed are {', '.join(ORDERS)}")
    if not elements or len(elements[0]) != 2 or elements[0][0] != "vertex":
        found = " ".join(elements[0]) if elements else "none"
        raise RecordingError(
            f"{path}: its first PLY element is {found!r}; allowed is 'vertex N', the points stand first"
        )
    return encoding, elements, columns


def _column(words: list[str], path: Path) -> tuple[str, str]:
    if len(words) != 2 or words[0] not in TYPES:
        raise RecordingError(
            f"{path}: its PLY header says property {' '.join(words)!r} of a vertex; allowed is a number with a name: "
            f"{', '.join(NAMES.values())}"
        )
    return words[1], words[0]
