"""A shelf is where a page finds the files of one data set: loose ones where they lie, those in shards unpacked."""
from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mmcycle.data import hf_files
from mmcycle.data.shards import MARK, TAR, divide
from mmcycle.data.tar_members import members
from mmcycle.errors import MmcycleError
from mmcycle.files import inside

MOST = 1 << 30                                  # bytes unpacked for one page


class Place(NamedTuple):
    """A path, and the folder that it may not leave."""

    folder: Path
    relative: str


class Shelf:
    """The files of `root` that a page may ask for; the few that it needs of a shard are unpacked when first asked for.

    spare   an empty folder of its own
    notes   takes a sentence about each shard that cannot be read
    """

    def __init__(self, root: Path, wanted: Iterable[object], spare: Path, notes: list[str]) -> None:
        self.root, self.spare, self.notes, self.left = root, spare, notes, MOST
        self.wanted: dict[str, set[str]] = defaultdict(set)     # shard -> what a page may ask for of it
        for shard, inner in (divide(name) for name in wanted if isinstance(name, str)):
            if shard and inner:
                self.wanted[shard].add(inner)
        self.unpacked: dict[str, str] = {}                      # "train-0.parquet!7/camera" -> its path in spare

    def place(self, name: object) -> Place | None:
        """Where a file of this name is; None for what is no name, or lies in a shard and cannot be had."""
        if not isinstance(name, str):
            return None
        shard, inner = divide(name)
        if not inner:
            return Place(self.root, name)
        if shard in self.wanted:
            self._unpack(shard, self.wanted.pop(shard))
        found = self.unpacked.get(name)
        return None if found is None else Place(self.spare, found)

    def _unpack(self, shard: str, inners: set[str]) -> None:
        try:
            path = inside(self.root, shard)
            contents = _of_tar if path.suffix.lower() == TAR else _of_table
            for inner, suffix, size, content in contents(path, inners):
                if size > self.left:
                    self.notes.append(f"{shard}: too large to be shown whole.")
                    return
                self._keep(f"{shard}{MARK}{inner}", suffix, content)
                self.left -= size
        except (MmcycleError, OSError) as error:
            self.notes.append(f"{shard}: cannot be shown: {' '.join(str(error).split())[:300]}.")

    def _keep(self, name: str, suffix: str, content: BinaryIO | bytes) -> None:
        target = inside(self.spare, name + suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        else:
            with target.open("wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
        self.unpacked[name] = name + suffix


Found = tuple[str, str, int, BinaryIO | bytes]          # what is in a shard: its name, the suffix it lacks, size, bytes


def _of_tar(path: Path, inners: set[str]) -> Iterator[Found]:
    left = set(inners)
    for member in members(path):
        if member.name in left:
            yield member.name, "", member.size, member.content
            left.discard(member.name)
        if not left:
            return


def _of_table(path: Path, inners: set[str]) -> Iterator[Found]:
    """ROW/COLUMN; a cell knows what kind of file it holds, its column does not."""
    cells: dict[str, set[str]] = defaultdict(set)
    for row, _, column in (inner.partition("/") for inner in inners):
        cells[row].add(column)
    for number, row in enumerate(hf_files.rows(path)):
        for column in cells.pop(str(number), set()) & row.keys():
            content = hf_files.content(row[column])
            if content is not None:
                yield f"{number}/{column}", f".{hf_files.suffix(row[column])}", len(content), content
        if not cells:
            return
