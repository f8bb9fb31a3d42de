"""streams.jsonl in the root says of each record where its streams and labels lie: the layout for any sensors.

{"key": "000012", "streams": {"camera": "left/12.jpg", "lidar": "top/7.bin"}, "labels": ["boxes/12.json"],
 "tags": {"weather": "fog"}}

One line per record. `labels` is a list, or says of which streams each file speaks: {"points/7.label": ["lidar"]}.
"""
from __future__ import annotations

from typing import Any, ClassVar

from mmcycle.data.layouts.folder import is_table
from mmcycle.data.layouts.layout import Layout, Streams, Tree, assemble, listed
from mmcycle.data.layouts.table import MAX_TAG, read_lines
from mmcycle.data.records import Collection, Record
from mmcycle.errors import UserError

LISTING = "streams.jsonl"
FIELDS = ("key", "streams", "labels", "tags")
MAX_KEY = 200                                   # characters


class NamedStreams(Layout):
    """Paths are relative to the root. A file may be copied into several records, such as the sweep nearest to two
    pictures, but only one record may have it translated.
    """

    name: ClassVar[str] = "streams"

    def recognises(self, tree: Tree, suffixes: tuple[str, ...]) -> str:
        return f"{LISTING} names its streams" if LISTING in tree.known else ""

    def collect(self, tree: Tree, streams: Streams) -> Collection:
        if LISTING not in tree.known:
            raise UserError(f"{tree.root}: the layout 'streams' needs a {LISTING} in the root, with lines such as "
                            '{"key": "000012", "streams": {"camera": "left/12.jpg", "lidar": "top/7.bin"}}')
        lines: dict[str, int] = {}
        missing: list[str] = []
        records = []
        for number, row in read_lines(tree.root / LISTING):
            record = _Line(tree, number, row, missing).record()
            if record.key in lines:
                raise UserError(f"{tree.root / LISTING}:{number}: the key {record.key!r} is that of line "
                                f"{lines[record.key]} already; give each record its own")
            lines[record.key] = number
            records.append(record)
        if missing:
            raise UserError(f"{tree.root / LISTING}: {len(missing)} of the files that it names are missing, among them "
                            f"{listed(missing)}; add them or take them out of their lines")
        owned = {path for record in records for path in (*record.labels, *record.streams.values())}
        tables = [file for file in tree.files if file not in owned and is_table(file)]
        return assemble(tree, self.name, streams, records, tables)


class _Line:
    """One line of the listing, of which nothing is believed."""

    def __init__(self, tree: Tree, number: int, row: dict[str, Any], missing: list[str]) -> None:
        self.tree, self.number, self.row, self.missing = tree, number, row, missing

    def record(self) -> Record:
        unknown = [name for name in self.row if name not in FIELDS]
        if unknown:
            raise self._wrong(f"{unknown[0]!r} is unknown; a line has {', '.join(FIELDS)}")
        streams = self._table("streams", {})
        if not streams:
            raise self._wrong('`streams` must name at least one recording, such as {"camera": "left/12.jpg"}')
        found = {self._word(name, "the name of a stream"): self._path(path) for name, path in streams.items()}
        concerns = self._concerns(found)
        tags = {self._word(name, "a tag"): self._tag(name, value) for name, value in self._table("tags", {}).items()}
        key = self._word(self.row.get("key"), "`key`")
        labels = tuple(sorted(set(concerns) - set(found.values())))
        told = {path: of for path, of in concerns.items() if of is not None and path in labels}
        return Record(key=key, streams=found, labels=labels, concerns=told, tags=tags)

    def _concerns(self, found: dict[str, str]) -> dict[str, tuple[str, ...] | None]:
        """Label -> its streams, None for one that speaks of all."""
        labels = self.row.get("labels", [])
        if isinstance(labels, list):
            return {self._path(path): None for path in labels}
        concerns: dict[str, tuple[str, ...] | None] = {}
        for path, of in self._table("labels", {}).items():
            if not isinstance(of, list) or not all(isinstance(one, str) and one in found for one in of):
                raise self._wrong(f"`labels`: {path[:MAX_TAG]!r} must speak of a list of streams among "
                                  f"{', '.join(found)}, got {str(of)[:MAX_TAG]}")
            concerns[self._path(path)] = tuple(of)
        return concerns

    def _table(self, name: str, otherwise: dict[str, Any]) -> dict[str, Any]:
        value = self.row.get(name, otherwise)
        if not isinstance(value, dict):
            allowed = "a list of paths or an object" if name == "labels" else "an object"
            raise self._wrong(f"`{name}` must be {allowed}, got {str(value)[:MAX_TAG]}")
        return value

    def _path(self, value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise self._wrong(f"a path must be text, got {str(value)[:MAX_TAG]}")
        path = value.removeprefix("./")
        try:
            if not self.tree.holds(path):
                self.missing.append(f"{value} (line {self.number})")
        except UserError as error:
            raise self._wrong(str(error)) from error
        return path

    def _word(self, value: Any, what: str) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= MAX_KEY or not value.isprintable():
            raise self._wrong(f"{what} must be 1 to {MAX_KEY} printable characters, got {ascii(value)[:MAX_TAG]}")
        return value

    def _tag(self, name: str, value: Any) -> str:
        if isinstance(value, str):
            return self._word(value, f"the tag {name!r}")
        if isinstance(value, bool | int | float):
            return str(value).lower() if isinstance(value, bool) else str(value)
        raise self._wrong(f"the tag {name!r} must be text or a number, got {str(value)[:MAX_TAG]}")

    def _wrong(self, what: str) -> UserError:
        return UserError(f"{self.tree.root / LISTING}:{self.number}: {what}")
