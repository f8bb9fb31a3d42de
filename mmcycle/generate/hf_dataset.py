"""Parquet shards that `datasets.load_dataset` opens with typed columns, their files embedded.

Columns: `key`; a stream under its own name, Image or Audio where it is one; label files such as `mask_png`; `label`, a
ClassLabel, where the records have classes; `tags`; `provenance`, where all of it came from, as JSON.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmcycle.errors import UserError, need
from mmcycle.generate.samples import Contents, Sample, kind, to_bytes

if TYPE_CHECKING:
    from datasets import Features

PATHS = "data/{split}-*.parquet"
ABOUT_IN = "the column `provenance`"
GROUP_ROWS, GROUP_BYTES = 100, 64 << 20             # of one row group, which is held in memory
OWN = ("key", "label", "tags", "provenance")


def check() -> None:
    """UserError, before the work, where the library is missing."""
    need("datasets", "writing a Hugging Face data set (--to hf)", "mmcycle[hf]")


def shard_name(split: str, number: int, of: int) -> str:
    return f"data/{split}-{number:05}-of-{of:05}.parquet"


def member(place: int, sample: Sample, field: str) -> str:
    """Row and column."""
    return f"{place}/{_columns(sample.streams, sample.fields)[field]}"


def write_shard(path: Path, samples: Sequence[Sample], contents: Contents) -> None:
    """One row for each sample, in row groups that fit into memory; equal samples give equal bytes."""
    arrow, parquet = need("pyarrow", "Parquet"), need("pyarrow.parquet", "Parquet")
    schema = _features(contents).arrow_schema       # it tells the types to `datasets`
    with parquet.ParquetWriter(path, schema) as writer:
        for group in _groups(samples, contents.folder):
            rows = [_row(sample, contents) for sample in group]
            writer.write_table(arrow.Table.from_pylist(rows, schema=schema))


def features(contents: Contents) -> list[dict[str, Any]]:
    """None for the data card: every shard tells its own."""
    return []


def _features(contents: Contents) -> Features:
    datasets = need("datasets", "writing a Hugging Face data set (--to hf)", "mmcycle[hf]")
    found: dict[str, Any] = {"key": datasets.Value("string")}
    plain = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    types = {"image": datasets.Image(), "audio": datasets.Audio(), "bytes": plain}
    kinds: dict[str, set[str]] = {}
    for streams, fields in contents.shapes:
        for field, column in _columns(dict(streams), fields).items():
            kinds.setdefault(column, set()).add(kind(field))
    for column, of in sorted(kinds.items()):
        found[column] = types[next(iter(of))] if len(of) == 1 else plain
    if contents.classes:
        found["label"] = datasets.ClassLabel(names=contents.classes)
    if contents.tags:
        found["tags"] = {name: datasets.Value("string") for name in contents.tags}
    found["provenance"] = datasets.Value("string")
    return datasets.Features(found)


def _columns(streams: Mapping[str, str], fields: Iterable[str]) -> dict[str, str]:
    """Field -> its column: the stream's name, or "mask_png"; one that is called as ours are gets a mark."""
    named: dict[str, str] = {}
    for stream, field in streams.items():
        named[field] = f"{named[field]}_{stream}" if field in named else stream         # a clip is of two streams
    named = {field: named.get(field, field.replace(".", "_")) for field in fields}
    return {field: f"{name}_" if name in OWN else name for field, name in named.items()}


def _row(sample: Sample, contents: Contents) -> dict[str, Any]:
    row: dict[str, Any] = {"key": sample.name}
    for field, column in _columns(sample.streams, sample.fields).items():
        content = (contents.folder / sample.fields[field].output).read_bytes()
        row[column] = {"bytes": content, "path": f"{sample.name.rpartition('/')[2]}.{field}"}
    if contents.classes:
        row["label"] = contents.classes.index(sample.tags["class"]) if "class" in sample.tags else None
    if contents.tags:
        row["tags"] = {name: sample.tags.get(name) for name in contents.tags}
    return row | {"provenance": to_bytes(contents.about(sample)).decode()}


def _groups(samples: Sequence[Sample], folder: Path) -> Iterator[list[Sample]]:
    group: list[Sample] = []
    held = 0
    for sample in samples:
        size = sum((folder / entry.output).stat().st_size for entry in sample.fields.values())
        if size >= 2**31:
            raise UserError(f"{sample.row.key}: is of {size >> 20} MiB, a cell of Parquet holds less than 2048; "
                            "write it --to webdataset")
        if group and (len(group) == GROUP_ROWS or held + size > GROUP_BYTES):
            yield group
            group, held = [], 0
        group.append(sample)
        held += size
    if group:
        yield group
