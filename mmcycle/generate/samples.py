"""A sample is one record as shards hold it: a name without dots, its files by field, and where they came from.

Names and fields follow WebDataset: a member is called NAME.FIELD, NAME ends at the first dot after the last slash, and
the end of FIELD tells the type: "png", "camera.png", "mask.png", "json".
"""
from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mmcycle import __version__
from mmcycle.data.layouts.classes import SPLIT
from mmcycle.generate.manifest import Label, Output, Row

ABOUT = "json"                          # the field that says where a sample came from
CLASS = "cls"                           # the number of its class
PICTURES = frozenset({"png", "jpg", "jpeg", "bmp", "gif", "webp", "tif", "tiff", "ppm", "pgm", "jp2"})
SOUNDS = frozenset({"wav", "flac", "ogg", "mp3", "opus", "aiff", "au", "w64", "rf64", "caf"})

Kind = Literal["image", "audio", "bytes"]


@dataclass(frozen=True)
class Sample:
    """name is unique in the data set; fields are sorted, each with the file whose bytes it holds."""

    name: str
    split: str
    row: Row
    fields: dict[str, Output | Label]
    streams: dict[str, str]             # stream -> its field

    @property
    def tags(self) -> dict[str, str]:
        return self.row.tags


@dataclass(frozen=True)
class Contents:
    """All samples of a data set, and what is common to them.

    folder     where their files lie
    origins    path in the source -> how the source calls it, where it was a shard itself: "train-000.tar!7.png"
    """

    folder: Path
    samples: Sequence[Sample]
    origins: Mapping[str, str]

    @cached_property
    def classes(self) -> list[str]:
        """Names of classes; names that are numbers are in their order."""
        names = {sample.tags["class"] for sample in self.samples if "class" in sample.tags}
        return sorted(names, key=lambda name: (int(name) if _are_numbers(names) else 0, name))

    @cached_property
    def tags(self) -> list[str]:
        return sorted({name for sample in self.samples for name in sample.tags})

    @cached_property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(sample.split for sample in self.samples))

    @cached_property
    def fields(self) -> list[str]:
        return sorted({field for sample in self.samples for field in sample.fields})

    @cached_property
    def shapes(self) -> list[tuple[tuple[tuple[str, str], ...], tuple[str, ...]]]:
        """The streams and fields that samples have, each kind of sample once."""
        return sorted({(tuple(sorted(sample.streams.items())), tuple(sample.fields)) for sample in self.samples})

    def class_number(self, sample: Sample) -> int:
        """The number that a class's name is, else its place among the names."""
        name = sample.tags["class"]
        return int(name) if _are_numbers(self.classes) else self.classes.index(name)

    def about(self, sample: Sample) -> dict[str, Any]:
        """Where a sample comes from: the same keys, with values of the same types, in every sample of like fields."""
        row, entries = sample.row, sample.fields
        told = {
            "mmcycle": row.versions.get("mmcycle", __version__),
            "key": row.key,
            "copy": row.copy,
            "class": row.tags.get("class", ""),
            "tags": {name: row.tags.get(name, "") for name in self.tags},
            "streams": sample.streams,
            "source": {field: self.origins.get(entry.source, entry.source) for field, entry in entries.items()},
            "source_sha256": {field: entry.source_sha256 for field, entry in entries.items()},
            "sha256": {field: entry.sha256 for field, entry in entries.items()},
            "model": {stream: asdict(model) for stream, model in sorted(row.model.items())},
            "seed": row.seed,
            "strength": float(row.params["strength"]),
            "facts": {name: float(value) for name, value in sorted(row.params.items()) if name != "strength"},
        }
        return {name: value for name, value in told.items() if value != {}}     # Parquet knows no empty structure


def to_bytes(about: dict[str, Any]) -> bytes:
    """What NAME.json holds."""
    return json.dumps(about, ensure_ascii=False).encode()


def kind(field: str) -> Kind:
    """What the end of a field says of its bytes."""
    suffix = field.rpartition(".")[2]
    return "image" if suffix in PICTURES else "audio" if suffix in SOUNDS else "bytes"


def samples_of(rows: Sequence[Row], tables: frozenset[str]) -> list[Sample]:
    """Every row as a sample, sorted by split and key; `tables` are outputs that speak of many records."""
    alone = len({group for row in rows for group in _groups(row).values()}) == 1
    split_somewhere = any(_split(row) for row in rows)
    found, names = [], set()
    for row in sorted(rows, key=lambda row: (row.key, row.copy)):
        name = _unique(sample_name(row.key, row.copy), names)
        streams = _stream_fields(row, alone)
        fields: dict[str, Output | Label] = {field: row.streams[stream] for stream, field in streams.items()}
        for label in row.labels:
            if label.output not in tables:
                fields[_label_field(row, label.source, fields)] = label
        split = _split(row) or ("other" if split_somewhere else "train")
        found.append(Sample(name, split, row, dict(sorted(fields.items())), streams))
    return sorted(found, key=lambda sample: sample.split)


def sample_name(key: str, copy: int) -> str:
    """A key as shards take it: no dot after the last slash, and no part that readers pass over as hidden."""
    folder, slash, base = key.rpartition("/")
    name = folder + slash + base.replace(".", "_") + (f"_copy{copy}" if copy else "")
    return "/".join(re.sub(r"^(__+|\.+)", "_", part) for part in name.split("/"))


def _groups(row: Row) -> dict[str, tuple[str, ...]]:
    """Output -> the streams that lie in it: a clip holds two."""
    outputs: dict[str, tuple[str, ...]] = {}
    for stream, entry in sorted(row.streams.items()):
        outputs[entry.output] = (*outputs.get(entry.output, ()), stream)
    return outputs


def _stream_fields(row: Row, alone: bool) -> dict[str, str]:
    """Stream -> its field: "png" where the data set has one recording in each record, else "camera.png"."""
    fields = {}
    for output, streams in _groups(row).items():
        suffix = _suffix(output)
        plain = alone and suffix not in (ABOUT, CLASS)
        for stream in streams:
            fields[stream] = suffix if plain else f"{_word('-'.join(streams))}.{suffix}"
    return fields


def _label_field(row: Row, source: str, taken: Mapping[str, object]) -> str:
    """What a label file is to its record: "photos/x_mask.png" mask.png, "calib/x.txt" calib.txt, "x.txt" txt."""
    folder, _, name = source.rpartition("/")
    base = row.key.rpartition("/")[2]
    head, suffix = name.removesuffix(PurePosixPath(name).suffix), _suffix(name)
    role = _word(head.removeprefix(base)) if head.startswith(base) else ""
    if not role:
        paths = (row.key, *(entry.source for entry in row.streams.values()))
        beside = {part for path in paths for part in path.split("/")[:-1]}
        role = next((_word(part) for part in folder.split("/") if part and part not in beside), "")
    if not role and suffix not in (ABOUT, CLASS, *taken):
        return suffix
    role = role or "label"
    return next(field for number in range(1, len(taken) + 2)
                if (field := f"{role}{number if number > 1 else ''}.{suffix}") not in taken)


def _split(row: Row) -> str:
    """The tag, or the first folder of the key where it is called like a split."""
    first = row.key.split("/")[0] if "/" in row.key else ""
    named = row.tags.get("split") or (first if SPLIT.fullmatch(first) else "")
    return "all_" if named == "all" else re.sub(r"\W+", "_", named, flags=re.ASCII)     # "all" means every split


def _suffix(path: str) -> str:
    """"x.PNG" png; `datasets` takes .pcd for a picture (a Photo CD), so a point cloud says that it is bytes."""
    suffix = re.sub(r"\W", "", PurePosixPath(path).suffix).lower() or "bin"
    return "pcd.bin" if suffix == "pcd" else suffix


def _word(text: str) -> str:
    return re.sub(r"[^\w-]+", "_", text).strip("_-").lower()


def _unique(name: str, names: set[str]) -> str:
    """The name, or the name with the first free number; it is taken then."""
    free, number = name, 2
    while free in names:
        free, number = f"{name}-{number}", number + 1
    names.add(free)
    return free


def _are_numbers(names: Iterable[str]) -> bool:
    return all(re.fullmatch(r"0|-?[1-9][0-9]{0,17}", name) for name in names)
