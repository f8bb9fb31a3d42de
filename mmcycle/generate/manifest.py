"""A manifest is the list of what a generated data set holds and where each file came from; `verify` checks it.

One line of OUT/manifest.jsonl is one (record, copy), sorted; it holds no time, no host and no absolute output path,
so that the same job gives the same bytes on any number of workers and after any interruption.
"""
from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter, ValidationError

from mmcycle import files
from mmcycle.data.shards import MARK, divide, hashes
from mmcycle.errors import UserError
from mmcycle.generate import ledger

MANIFEST = "manifest.jsonl"
QUARANTINE = "quarantine.jsonl"
LEFT_OUT = "left_out.jsonl"
REPORT = "report.html"
CARD = "README.md"                              # of a data set in shards
OWN = (MANIFEST, QUARANTINE, LEFT_OUT, REPORT)          # top-level names that a source's own files cannot have in OUT

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, kw_only=True)
class Output:
    """One recording: paths are relative to the source and to OUT."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    source: str
    source_sha256: Hash
    output: str
    sha256: Hash
    translated: bool


@dataclass(frozen=True, kw_only=True)
class Label:
    """One label file, or a table that speaks of many records (it then stands in the row of each)."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    source: str
    source_sha256: Hash
    output: str
    sha256: Hash
    how: Literal["copied", "remapped"]


@dataclass(frozen=True, kw_only=True)
class Model:
    """What translated one stream."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    sha256: str
    direction: str
    run: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of manifest.jsonl."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    key: str
    copy: Annotated[int, Field(ge=0)]
    streams: dict[str, Output]
    labels: tuple[Label, ...]
    tags: dict[str, str]
    model: dict[str, Model]
    params: dict[str, float]
    seed: int
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """One line of quarantine.jsonl: a (record, copy) that was not written, and why."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    key: str
    copy: Annotated[int, Field(ge=0)]
    stream: str
    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """One line of left_out.jsonl: a (record, copy) that was translated and is not among the best."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    key: str
    copy: Annotated[int, Field(ge=0)]
    safety: float


@dataclass(frozen=True)
class Verdict:
    """What `verify` found. counts: rows, files, labels, quarantined, left_out where any, total."""

    problems: tuple[str, ...]
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.problems


def item_seed(seed: int, key: str, copy: int) -> int:
    """63 bits of sha256("seed/key/copy"): independent of workers, of the order and of interruptions."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}/{copy}".encode()).digest()[:8], "big") >> 1


def to_line(value: Row | Quarantined | LeftOut) -> str:
    """One line of JSON with its newline; equal values give equal bytes."""
    return _adapter(type(value)).dump_json(value).decode() + "\n"


def from_line(kind: type, line: str | bytes) -> Any:
    """The Row, Quarantined or LeftOut that `line` says; ValueError, in one sentence, when it does not say one."""
    try:
        return _adapter(kind).validate_json(line, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from error


def read_rows(out: Path) -> Iterator[Row]:
    """The rows of OUT/manifest.jsonl, in order; UserError names the line that is not one."""
    for number, row in _lines(out / MANIFEST, Row):
        if isinstance(row, str):
            raise UserError(f"{out / MANIFEST}, line {number}: {row}. Run `mmcycle generate` again to write it anew.")
        yield row


def verify(out: Path, source: Path | None = None) -> Verdict:
    """Compare every file of OUT with the manifest, and the labels with the source where it is still there.

    source    where the source is now; by default where it was when the data set was made
    Nothing is changed. A folder without a manifest is a UserError, all else is a problem in the verdict.
    """
    if not (out / MANIFEST).is_file():
        raise UserError(f"{out}: there is no {MANIFEST}; it was not made by `mmcycle generate`, or not finished")
    check = _Check(out, source or ledger.source_of(out))
    for number, row in _lines(out / MANIFEST, Row):
        if isinstance(row, str):
            check.problems.append(f"{MANIFEST}, line {number}: {row}")
        else:
            check.row(row, number)
    check.quarantined, check.left_out = check.listed(QUARANTINE, Quarantined), check.listed(LEFT_OUT, LeftOut)
    check.strangers()
    check.totals()
    return Verdict(tuple(check.problems), check.counts())


class _Check:
    """What one walk through a manifest has seen so far."""

    def __init__(self, out: Path, source: Path | None) -> None:
        self.out = out
        self.source = source if source is not None and source.is_dir() else None
        self.problems: list[str] = []
        self.seen: dict[str, str] = {}              # output -> the hash that the manifest gives it
        self.shards: dict[Path, dict[str, str]] = {}        # shard -> the hash of everything in it, now
        self.originals: dict[str, str | None] = {}  # source path -> its hash now
        self.labels: set[str] = set()
        self.rows = self.quarantined = self.left_out = 0
        self.last: tuple[str, int] | None = None

    def row(self, row: Row, number: int) -> None:
        self.rows += 1
        if self.last is not None and (row.key, row.copy) <= self.last:
            item = f"{row.key!r} copy {row.copy}"
            self.problems.append(f"{MANIFEST}, line {number}: {item} is listed twice or out of order")
        self.last = (row.key, row.copy)
        for entry in (*row.streams.values(), *row.labels):
            if self._file(entry.output, entry.sha256):
                self._original(entry)
        self.labels.update(label.output for label in row.labels)

    def listed(self, name: str, kind: type) -> int:
        """How many lines a list beside the manifest has; none where there is no such list."""
        count = 0
        for number, row in _lines(self.out / name, kind) if (self.out / name).exists() else ():
            if isinstance(row, str):
                self.problems.append(f"{name}, line {number}: {row}")
            else:
                count += 1
        return count

    def _file(self, relative: str, expected: str) -> bool:
        """Check one output; False when it was checked before."""
        if relative in self.seen:
            if self.seen[relative] != expected:
                self.problems.append(f"{relative}: the manifest gives it two different hashes")
            return False
        self.seen[relative] = expected
        try:
            found = self._hash_of(self.out, relative)
            if found is None:
                self.problems.append(f"{relative}: is missing")
            elif found != expected:
                self.problems.append(f"{relative}: its bytes are not those that were written")
        except (UserError, OSError) as error:
            self.problems.append(f"{relative}: {error}" if isinstance(error, OSError) else str(error))
        return True

    def _hash_of(self, root: Path, relative: str) -> str | None:
        """Of a file, or of what is in a shard: "train-000000.tar!7.png"; None where there is none."""
        shard, inner = divide(relative)
        path = files.inside(root, shard)
        if not path.is_file():
            return None
        return self._in(path).get(inner) if inner else files.sha256(path)

    def _in(self, shard: Path) -> dict[str, str]:
        if shard not in self.shards:
            self.shards[shard] = {}                     # a broken one is told once
            self.shards[shard] = dict(hashes(shard))
        return self.shards[shard]

    def _original(self, entry: Output | Label) -> None:
        """Compare what was copied or translated with its source, where the source is still there."""
        if self.source is None or entry.source.startswith(MARK):       # it was made while the shards were unpacked
            return
        now = self._hash_now(entry.source)
        if now is None:
            self.problems.append(f"{entry.output}: its source {entry.source} is no longer in {self.source}")
        elif now != entry.source_sha256:
            self.problems.append(f"{entry.output}: its source {entry.source} has changed since")
        if isinstance(entry, Label) and entry.how == "copied" and entry.sha256 != entry.source_sha256:
            self.problems.append(f"{entry.output}: the label is not the same as its source {entry.source}")

    def _hash_now(self, relative: str) -> str | None:
        if relative not in self.originals:
            try:
                self.originals[relative] = self._hash_of(self.source, relative)
            except (UserError, OSError):
                self.originals[relative] = None
        return self.originals[relative]

    def strangers(self) -> None:
        """Files that the manifest does not know, and shards that are not as they were written."""
        packed = {divide(name)[0] for name in self.seen if divide(name)[1]}
        own = {*OWN, *packed, CARD} if packed else {*OWN}
        for name, written in ledger.shards(self.out).items():
            path = files.inside(self.out, name)
            if path.is_file() and files.sha256(path) != written:
                self.problems.append(f"{name}: its bytes are not those that were written")
        try:
            for path in files.walk(self.out):
                relative = path.relative_to(self.out).as_posix()
                if relative not in self.seen and relative not in own:
                    self.problems.append(f"{relative}: the manifest does not know this file")
        except UserError as error:
            self.problems.append(str(error))
        for path in ledger.leftovers(self.out):
            name = path.relative_to(self.out).as_posix()
            self.problems.append(f"{name}: left by a killed writer; run `mmcycle generate` again")

    def totals(self) -> None:
        """done + quarantined + left out == total == records * copies, as the finished job counted them."""
        finished = ledger.finished(self.out)
        if finished is None:
            if (self.out / ledger.PLACE).is_dir():
                self.problems.append("the job is not finished: run the same `mmcycle generate` line again")
            return
        for name, found in (("done", self.rows), ("quarantined", self.quarantined), ("left_out", self.left_out)):
            if finished.get(name, 0) != found:
                told = name.replace("_", " ")
                self.problems.append(f"the job counted {finished.get(name, 0)} {told}, the files list {found}")
        done, quarantined, total = (finished[name] for name in ledger.COUNTS)
        left_out = finished.get("left_out", 0)
        if done + quarantined + left_out != total:
            also = f", {left_out} left out" if left_out else ""
            self.problems.append(f"{done} done and {quarantined} quarantined{also} are not {total}")

    def counts(self) -> dict[str, int]:
        also = {"left_out": self.left_out} if self.left_out else {}
        counted = {"rows": self.rows, "files": len(self.seen), "labels": len(self.labels)}
        return counted | {"quarantined": self.quarantined} | also | {
            "total": self.rows + self.quarantined + self.left_out}


def _lines(path: Path, kind: type) -> Iterator[tuple[int, Any]]:
    """(line number, Row or Quarantined, or a sentence about what is wrong with the line)."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield number, from_line(kind, line)
                except ValueError as error:
                    yield number, str(error)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def scrub(reason: str, *folders: Path) -> str:
    """A reason without what differs between two runs: memory addresses, temporary names, the place of the folders."""
    reason = re.sub(r" at 0x[0-9a-fA-F]+|\.tmp-\d+-\d+-", "", reason)
    for folder in folders:
        reason = reason.replace(f"{folder}/", "")
    return reason


@cache
def _adapter(kind: type) -> TypeAdapter:
    return TypeAdapter(kind)
