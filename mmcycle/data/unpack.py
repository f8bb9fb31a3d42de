"""Shards from anywhere, unpacked into a plain folder that names its streams, labels and classes in streams.jsonl."""
from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmcycle.data import hf_files
from mmcycle.data.layouts.folder import LABEL_FOLDERS, MARK as LABEL_MARK
from mmcycle.data.layouts.layout import Streams
from mmcycle.data.layouts.streams import LISTING, MAX_KEY
from mmcycle.data.layouts.table import MAX_TAG
from mmcycle.data.shards import MARK, TAR, splits_of
from mmcycle.data.tar_members import members, split_name
from mmcycle.errors import MmcycleError, UserError
from mmcycle.files import inside

ORIGINS = ".origins.json"               # of an unpacked folder: path -> "train-000000.tar!7.png"
LARGEST_TOLD = 1 << 20                  # bytes of a member that is read for its tags
OURS = ("key", "label", "tags", "provenance")       # columns that `--to hf` adds
CLASS_COLUMNS = ("label", "labels", "class", "cls")


@dataclass
class _Sample:
    """What is known of one sample."""

    key: str
    fields: dict[str, str] = field(default_factory=dict)        # "camera.png" -> its path in the folder
    streams: dict[str, str] = field(default_factory=dict)       # stream -> field, where the shard itself tells it
    tags: dict[str, str] = field(default_factory=dict)


Write = Callable[[Path], Any]


class _Folder:
    """The folder that is being filled; of a hollow one only the names are made."""

    def __init__(self, root: Path, hollow: bool) -> None:
        self.root, self.hollow = root, hollow
        self.origins: dict[str, str] = {}

    def add(self, sample: _Sample, name: str, origin: str, write: Write) -> None:
        path = f"{sample.key}.{name.removesuffix('.bin') if name.lower().endswith('pcd.bin') else name}"
        if path in self.origins:
            raise UserError(f"{origin}: its name is that of {self.origins[path]} too; give each its own")
        target = inside(self.root, path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch() if self.hollow else write(target)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise UserError(f"{origin}: a file and a folder would have one name; rename it") from error
        self.origins[path] = origin
        sample.fields[name.lower()] = path


def unpack(source: Path, shards: list[Path], folder: Path, reads: Streams, hollow: bool = False) -> None:
    """Fill an empty folder with the samples of the shards, below a folder for each split.

    reads      stream -> suffixes, of the streams that will be translated
    hollow     files are left empty: enough to find out what would be done
    Nothing of a shard is executed, no link is followed or made. UserError names the shard and what is wrong with it.
    """
    needed, free = sum(path.stat().st_size for path in shards), shutil.disk_usage(folder).free
    if needed > free and not hollow:
        raise MmcycleError(f"{folder}: {needed >> 20} MiB of shards are to be unpacked and {free >> 20} MiB are free; "
                           "choose an OUT on a larger disk")
    filling, splits = _Folder(folder, hollow), splits_of(source, shards)
    samples = (_from_tars if shards[0].suffix.lower() == TAR else _from_tables)(source, splits, filling)
    if not samples:
        raise UserError(f"{source}: its {len(shards)} shards hold no samples; a member is called KEY.SUFFIX")
    with (folder / LISTING).open("w", encoding="utf-8") as listing:
        for sample in sorted(samples, key=lambda sample: sample.key):
            listing.write(json.dumps(_line(source, sample, reads), ensure_ascii=False) + "\n")
    (folder / ORIGINS).write_text(json.dumps(filling.origins, ensure_ascii=False), encoding="utf-8")


def origins_of(folder: Path) -> dict[str, str]:
    """Path -> how the shards call it; what was made of all of them, the listing, has no shard before the mark."""
    return json.loads((folder / ORIGINS).read_text(encoding="utf-8")) | {LISTING: f"{MARK}{LISTING}"}


def _from_tars(source: Path, splits: Mapping[Path, str], folder: _Folder) -> list[_Sample]:
    prefixes = _prefixes(splits)                # reads all headers: a bad name is told before anything is written
    samples: dict[str, _Sample] = {}
    for shard, split in splits.items():
        name_of_shard = shard.relative_to(source).as_posix()
        try:
            for member in members(shard):
                key, name = split_name(member.name)
                if not name:                    # as WebDataset does
                    continue
                whole = _joined(prefixes[shard], key)
                sample = samples.setdefault(whole, _sample(whole, split, f"{name_of_shard}{MARK}{member.name}"))
                told = member.content.read(LARGEST_TOLD) if name.lower() in ("cls", "json") else b""
                if name.lower() == "cls" and _learn(sample, {"class": told.decode("utf-8", "replace").strip()}):
                    continue
                if name.lower() == "json" and _learn_own(sample, _parsed(told)):
                    continue
                write = _copier(member.content, told)
                folder.add(sample, name, f"{name_of_shard}{MARK}{member.name}", write)
        except tarfile.TarError as error:
            raise UserError(f"{shard}: cannot be read as a tar file: {error}") from error
    return [sample for sample in samples.values() if sample.fields]


def _prefixes(splits: Mapping[Path, str]) -> dict[Path, str]:
    """Shard -> the folder of its samples: its split, and its own name where keys begin anew in each shard."""
    seen: dict[str, Path] = {}
    again = False
    for shard, split in splits.items():
        for member in members(shard):
            again |= seen.setdefault(_joined(split, split_name(member.name)[0]), shard) != shard
    return {
        shard: "/".join(part for part in (split, shard.name.removesuffix(shard.suffix) if again else "") if part)
        for shard, split in splits.items()
    }


def _from_tables(source: Path, splits: Mapping[Path, str], folder: _Folder) -> list[_Sample]:
    samples: dict[str, _Sample] = {}
    counts: dict[str, int] = {}
    for shard, split in splits.items():
        classes, recordings = hf_files.class_names(shard), hf_files.recording_columns(shard)
        for place, row in enumerate(hf_files.rows(shard)):
            origin = f"{shard.relative_to(source).as_posix()}{MARK}{place}"
            number = counts[split] = counts.get(split, -1) + 1
            about = _parsed(row.get("provenance"))
            key = _joined(split, _own_key(row.get("key")) or f"{number:08}")
            key = key if key not in samples else _joined(split, f"{number:08}")
            if key in samples:
                raise UserError(f"{origin}: its key {key!r} is that of another row too; give each row its own")
            sample = samples[key] = _sample(key, split, origin)
            own = _learn_own(sample, about)
            about = about if own else {}
            for column, value in row.items():
                if value is None or own and column in OURS:
                    continue
                name = _add_cell(sample, column, value, classes.get(column), f"{origin}/{column}", folder, about)
                labelled = column.lower() in LABEL_FOLDERS or LABEL_MARK.search(f"_{column}")
                if name and not own and column in recordings and not labelled:
                    sample.streams[column] = name
    return [sample for sample in samples.values() if sample.fields]


def _add_cell(
    sample: _Sample, column: str, value: Any, classes: list[str] | None, origin: str, folder: _Folder,
    about: dict[str, Any],
) -> str | None:
    """A cell becomes a file, whose field is returned, or a tag; `about` knows the fields that had to become columns."""
    word = re.sub(r"[^\w-]+", "_", column) or "column"
    if hf_files.is_file(value):
        content = hf_files.content(value)
        if content is None:
            raise UserError(f"{origin}: names a file and does not hold it; save the data set with its files embedded")
        suffix = hf_files.suffix(value)
        named = suffix if word == suffix else f"{word.removesuffix('_' + suffix)}.{suffix}"
        name = _own_field(about, column) or named
    else:
        if classes and isinstance(value, int) and 0 <= value < len(classes):
            column, value = "class" if column in CLASS_COLUMNS else column, classes[value]
        if isinstance(value, str | int | float) and _learn(sample, {column: str(value)}):
            return None
        name, content = f"{word}.{'txt' if isinstance(value, str) else 'json'}", hf_files.content(value)
    folder.add(sample, name, origin, lambda target: target.write_bytes(content))
    return name.lower()


def _line(source: Path, sample: _Sample, reads: Streams) -> dict[str, Any]:
    """The sample's line of streams.jsonl."""
    streams = {stream: name for stream, name in sample.streams.items() if name in sample.fields}
    for stream, suffixes in reads.items():
        if stream not in streams:
            found = _recording(source, sample, stream, suffixes)
            streams = {name: one for name, one in streams.items() if one != found}
            streams |= {stream: found} if found else {}
    streams = {stream: sample.fields[name] for stream, name in streams.items()}
    if not streams:
        allowed = "; ".join(f"{stream}: {', '.join(suffixes)}" for stream, suffixes in reads.items())
        raise UserError(f"{source}: the sample {sample.key!r} has {', '.join(sorted(sample.fields))} and none that a "
                        f"run reads ({allowed})")
    labels = sorted({*sample.fields.values()} - {*streams.values()})
    return {"key": sample.key, "streams": streams, "labels": labels, "tags": sample.tags}


def _recording(source: Path, sample: _Sample, stream: str, suffixes: tuple[str, ...]) -> str | None:
    """The field that a run reads: the one named as its stream, else the one without a name, else the only one."""
    fits = [name for name, path in sample.fields.items() if path.lower().endswith(suffixes)]
    named = [name for name in fits if name.rpartition(".")[0] == stream]
    bare = [name for name in fits if "." not in name]
    others = [name for name in fits if not LABEL_MARK.search(f"_{name.rpartition('.')[0]}")]
    found = named or bare or others
    if len(found) > 1:
        raise UserError(f"{source}: in the sample {sample.key!r} both {found[0]} and {found[1]} could be the stream "
                        f"{stream!r}; name it as the member is: --with {found[0].rpartition('.')[0] or stream}=RUN")
    return found[0] if found else None


def _sample(key: str, split: str, origin: str) -> _Sample:
    if len(key) > MAX_KEY or not key.isprintable() or not key.rpartition("/")[2]:
        raise UserError(f"{origin}: its key must be 1 to {MAX_KEY} printable characters; write the shard anew")
    return _Sample(key, tags={"split": split} if split else {})


def _learn(sample: _Sample, tags: dict[str, Any]) -> bool:
    """Keep what is short and printable; whether all of it was."""
    good = {name: value for name, value in tags.items() if _is_word(name) and _is_word(value)}
    for name, value in good.items():
        sample.tags.setdefault(name, value)
    return len(good) == len(tags)


def _learn_own(sample: _Sample, about: Any) -> bool:
    """Whether a sample's JSON is what `mmcycle generate --to` wrote; then its streams and tags are believed."""
    if not isinstance(about, dict) or not isinstance(about.get("mmcycle"), str) or "source_sha256" not in about:
        return False
    tags, streams = about.get("tags"), about.get("streams")
    if isinstance(tags, dict):
        sample.tags.pop("class", None)          # the name counts, not its number
        _learn(sample, tags)
    if isinstance(streams, dict):
        sample.streams = {name: one for name, one in streams.items() if _is_word(name) and isinstance(one, str)}
    return True


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TAG and value.isprintable()


def _own_key(value: Any) -> str:
    """A key that a table gives, where it can be a path."""
    plain = isinstance(value, str) and value.isprintable() and 0 < len(value) <= MAX_KEY
    parts = value.split("/") if plain else []
    good = parts and all(part and not part.startswith(".") and "\\" not in part for part in parts)
    return value if good and "." not in parts[-1] else ""


def _own_field(about: dict[str, Any], column: str) -> str:
    """The field that `--to hf` wrote into a column."""
    streams, fields = (told if isinstance(told, dict) else {} for told in (about.get("streams"), about.get("sha256")))
    found = streams.get(column) or next((name for name in fields if name.replace(".", "_") == column), "")
    found = found if isinstance(found, str) else ""
    return found if re.fullmatch(r"[\w-]+(\.[\w-]+)*", found) else ""


def _joined(prefix: str, key: str) -> str:
    return key if not prefix or key.startswith(f"{prefix}/") else f"{prefix}/{key}"


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str | bytes) else None
    except (ValueError, RecursionError):
        return None


def _copier(content: Any, head: bytes) -> Write:
    def write(target: Path) -> None:
        with target.open("wb") as file:
            file.write(head)
            shutil.copyfileobj(content, file, 1 << 20)

    return write
