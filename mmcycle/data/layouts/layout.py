"""A layout knows one way in which labelled data sets lie on disk; it describes what is there and never writes."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from mmcycle.data.records import Collection, Record
from mmcycle.errors import UserError
from mmcycle.files import inside, walk

Streams = Mapping[str, tuple[str, ...]]         # stream name -> the suffixes, lower case, that its recordings may have


@dataclass(frozen=True)
class Tree:
    """A folder's files, relative to its root with '/', sorted; listed once and asked by many layouts."""

    root: Path
    files: tuple[str, ...]

    @staticmethod
    def of(root: Path) -> Tree:
        """List a folder; names that are not UTF-8 are refused, loops of symbolic links end."""
        if not root.is_dir():
            raise UserError(
                f"{root}: {'is a file' if root.exists() else 'does not exist'}; give the folder of the data set"
            )
        start = len(str(root / "x")) - 1
        return Tree(root, tuple(sorted(str(path)[start:] for path in walk(root))))

    @cached_property
    def known(self) -> frozenset[str]:
        return frozenset(self.files)

    @cached_property
    def folders(self) -> frozenset[str]:
        """Every folder that holds a file, somewhere below it."""
        found: set[str] = set()
        for file in self.files:
            while "/" in file:
                file = file.rpartition("/")[0]
                if file in found:
                    break
                found.add(file)
        return frozenset(found)

    def holds(self, path: str) -> bool:
        """Whether a path that a table names is one of the files; UserError when it would leave the root."""
        if path not in self.known and (path.startswith("/") or ".." in path.split("/") or "\0" in path):
            inside(self.root, path)
        return path in self.known

    def ending(self, suffixes: Iterable[str]) -> list[str]:
        """The files with one of the suffixes, whatever their case."""
        wanted = tuple(suffixes)
        return [file for file in self.files if file.lower().endswith(wanted)]


class Layout(ABC):
    """Write `name`, `recognises` and `collect` to add one."""

    name: ClassVar[str]

    @abstractmethod
    def recognises(self, tree: Tree, suffixes: tuple[str, ...]) -> str:
        """Why this layout fits, as the end of "it looks like ... because"; empty when it does not."""

    @abstractmethod
    def collect(self, tree: Tree, streams: Streams) -> Collection:
        """Describe the data set; UserError says what is missing."""


def only(streams: Streams, layout: str) -> tuple[str, tuple[str, ...]]:
    """The name and suffixes of the one stream that a layout with a single kind of recording has."""
    if len(streams) != 1:
        raise UserError(f"the layout {layout!r} has one stream, but {len(streams)} were named: {', '.join(streams)}")
    return next(iter(streams.items()))


def peek(path: Path, size: int) -> tuple[bytes, bytes]:
    """The first and the last bytes of a file, at most `size` of each."""
    try:
        with path.open("rb") as file:
            head = file.read(size)
            file.seek(max(file.seek(0, 2) - size, 0))
            return head, file.read(size)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def listed(names: Sequence[str]) -> str:
    """The first five, fit for one line of a terminal."""
    return ", ".join((name if name.isprintable() else ascii(name))[:200] for name in names[:5])


def stem(path: str) -> str:
    """The path without its last suffix: "train/x.tar.gz" -> "train/x.tar"."""
    folder, slash, name = path.rpartition("/")
    head, dot, _ = name.rpartition(".")
    return folder + slash + (head if dot and head else name)


def assemble(
    tree: Tree, layout: str, streams: Streams, records: Iterable[Record], tables: Iterable[str] = ()
) -> Collection:
    """The collection of records and tables; other files become strays. No records, or a key twice, is an error."""
    ordered = sorted(records, key=lambda record: record.key)
    if not ordered:
        raise UserError(_nothing_found(tree, layout, streams))
    for one, other in zip(ordered, ordered[1:]):
        if one.key == other.key:
            paths = ", ".join([*one.streams.values(), *other.streams.values()])
            raise UserError(f"{tree.root}: {paths} would share the key {one.key!r}; give them different names, "
                            f"or move masks into a folder called masks/")
    claimed = set(tables)
    for record in ordered:
        claimed.update(record.streams.values(), record.labels)
    readable = tuple(suffix for suffixes in streams.values() for suffix in suffixes)
    strays = tuple((file, _why(file, readable)) for file in tree.files if file not in claimed)
    return Collection(
        root=tree.root, layout=layout, records=tuple(ordered), tables=tuple(sorted(tables)), strays=strays
    )


def _why(file: str, readable: tuple[str, ...]) -> str:
    return "a recording outside of the layout" if file.lower().endswith(readable) else "no recording of this name"


def _nothing_found(tree: Tree, layout: str, streams: Streams) -> str:
    kinds = Counter(Path(file).suffix.lower() or "no suffix" for file in tree.files).most_common(5)
    found = f" ({', '.join(f'{kind}: {count}' for kind, count in kinds)})" if kinds else ""
    allowed = "; ".join(f"stream {name!r} reads {', '.join(suffixes)}" for name, suffixes in streams.items())
    return (f"{tree.root}: found {len(tree.files)} files{found} but no recording in the layout {layout!r}; {allowed}. "
            f"Another layout can be chosen with --layout.")
