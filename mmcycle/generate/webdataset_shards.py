"""WebDataset shards: plain tar files whose members NAME.FIELD stand together, the same bytes for the same samples."""
from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from mmcycle.generate.samples import ABOUT, CLASS, Contents, Sample, kind, to_bytes

PATHS = "{split}-*.tar"                 # how a data card finds the shards of a split
ABOUT_IN = "the `.json` of each"
TYPES = {"image": "image", "audio": "audio", "bytes": "binary"}
DECODED = ("json", "npy", "npz", "id", "index", "mp", "msg", "cbor", "ten", "tb", "pth")    # `datasets` opens these


def check() -> None:
    """Nothing but the standard library writes tar files."""


def shard_name(split: str, number: int, of: int) -> str:
    return f"{split}-{number:06}.tar"


def member(place: int, sample: Sample, field: str) -> str:
    """What a field of the sample at `place` of a shard is called in it."""
    return f"{sample.name}.{field}"


def write_shard(path: Path, samples: Sequence[Sample], contents: Contents) -> None:
    """Members are owned by nobody and of no time, so that equal samples give equal bytes."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as shard:
        for sample in samples:
            own = {ABOUT: to_bytes(contents.about(sample))}
            if "class" in sample.tags:
                own[CLASS] = str(contents.class_number(sample)).encode()
            for field in sorted({*sample.fields, *own}):
                if field in own:
                    _add(shard, f"{sample.name}.{field}", io.BytesIO(own[field]), len(own[field]))
                    continue
                file = contents.folder / sample.fields[field].output
                with file.open("rb") as opened:
                    _add(shard, f"{sample.name}.{field}", opened, file.stat().st_size)


def features(contents: Contents) -> list[dict[str, Any]]:
    """The columns for the data card; none where a label is of a kind that `datasets` gives a type of its own."""
    if any(field.rpartition(".")[2] in DECODED for field in contents.fields):
        return []
    told = {field: "string" if field.endswith("txt") else TYPES[kind(field)] for field in contents.fields}
    told |= {CLASS: "int64"} if contents.classes else {}
    columns = [{"name": name, "dtype": dtype} for name, dtype in told.items()]
    about: dict[str, Any] = {}
    for sample in contents.samples:
        _merge(about, contents.about(sample))
    columns.append(_column(ABOUT, about))
    return [*columns, {"name": "__key__", "dtype": "string"}, {"name": "__url__", "dtype": "string"}]


def _add(shard: tarfile.TarFile, name: str, content: BinaryIO, size: int) -> None:
    info = tarfile.TarInfo(name)        # of 1970, of nobody, mode 0644
    info.size = size
    shard.addfile(info, content)


def _merge(into: dict[str, Any], value: dict[str, Any]) -> None:
    for name, one in value.items():
        if isinstance(one, dict):
            _merge(into.setdefault(name, {}), one)
        else:
            into.setdefault(name, one)


def _column(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"name": name, "struct": [_column(key, one) for key, one in value.items()]}
    return {"name": name, "dtype": {int: "int64", float: "float64"}.get(type(value), "string")}
