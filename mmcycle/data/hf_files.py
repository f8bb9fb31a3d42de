"""Tables of a Hugging Face data set on disk, .parquet or .arrow, read without executing or downloading anything.

Only pyarrow is needed. A cell that holds a file is a structure of `bytes` and `path`; the path is a name, never opened.
"""
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmcycle.errors import UserError, need

SUFFIXES = (".parquet", ".arrow")
ROWS = 16                               # held in memory at once
MAGIC = {                               # first bytes -> suffix, for cells that do not name their file
    b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"fLaC": "flac", b"OggS": "ogg", b"GIF8": "gif", b"BM": "bmp",
    b"II*\0": "tif", b"MM\0*": "tif", b"ID3": "mp3", b"ply\n": "ply",
}

Row = dict[str, Any]


def rows(path: Path) -> Iterator[Row]:
    """Every row, as column -> value; UserError when the file is no table."""
    arrow = need("pyarrow", "reading a Hugging Face data set", "mmcycle[hf]")
    try:
        for batch in _batches(path):
            yield from (row for start in range(0, len(batch), ROWS) for row in batch.slice(start, ROWS).to_pylist())
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table of Parquet or Arrow: {_first_line(error)}") from error


def class_names(path: Path) -> dict[str, list[str]]:
    """Column -> the names of its classes, where it is a ClassLabel."""
    features = _features(path)
    told = {column: feature.get("names") for column, feature in features.items() if isinstance(feature, dict)}
    return {column: names for column, names in told.items()
            if isinstance(names, list) and all(isinstance(name, str) for name in names)}


def recording_columns(path: Path) -> list[str]:
    """The columns that are declared to be Image, Audio or Video."""
    return [column for column, feature in _features(path).items()
            if isinstance(feature, dict) and feature.get("_type") in ("Image", "Audio", "Video")]


def is_file(value: Any) -> bool:
    return isinstance(value, dict) and "bytes" in value and set(value) <= {"bytes", "path"} or isinstance(value, bytes)


def content(value: Any) -> bytes | None:
    """The bytes of a cell: those that it holds, text in UTF-8, anything else as JSON; None where nothing is held."""
    if is_file(value):
        return value if isinstance(value, bytes) else value["bytes"]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace")
    return None if value is None else json.dumps(value, ensure_ascii=False, default=str).encode()


def suffix(value: Any) -> str:
    """What a file in a cell is, by its name or its first bytes: "png"."""
    path = value.get("path") if isinstance(value, dict) else None
    name = path.replace("\\", "/").rpartition("/")[2] if isinstance(path, str) else ""
    end = name.rpartition(".")[2].lower() if "." in name else ""
    if end.isascii() and end.isalnum() and len(end) <= 8:
        return "pcd" if name.lower().endswith(".pcd.bin") else end
    head = content(value)[:16]
    if head[:4] == b"RIFF":
        return {b"WAVE": "wav", b"WEBP": "webp", b"AVI ": "avi"}.get(head[8:12], "bin")
    return next((end for magic, end in MAGIC.items() if head.startswith(magic)), "bin")


def _batches(path: Path) -> Iterator[Any]:
    if path.suffix == ".parquet":
        parquet = need("pyarrow.parquet", "reading Parquet", "mmcycle[hf]")
        with parquet.ParquetFile(path) as table:
            yield from table.iter_batches(batch_size=ROWS)
        return
    arrow = need("pyarrow", "reading a Hugging Face data set", "mmcycle[hf]")
    with arrow.OSFile(str(path)) as file, arrow.ipc.open_stream(file) as stream:
        yield from stream


def _features(path: Path) -> dict[str, Any]:
    """What `datasets` wrote into the table's schema about its columns."""
    arrow = need("pyarrow", "reading a Hugging Face data set", "mmcycle[hf]")
    try:
        if path.suffix == ".parquet":
            schema = need("pyarrow.parquet", "reading Parquet", "mmcycle[hf]").read_schema(path)
        else:
            with arrow.OSFile(str(path)) as file, arrow.ipc.open_stream(file) as stream:
                schema = stream.schema
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (arrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read as a table of Parquet or Arrow: {_first_line(error)}") from error
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}                       # written by another program: columns are what they hold
    return features if isinstance(features, dict) else {}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
