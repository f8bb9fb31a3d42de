"""A table in the root names the recordings and says what is known of them: CSV, TSV or JSON Lines."""
from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mmcycle.data.layouts.folder import described, is_table
from mmcycle.data.layouts.layout import Layout, Streams, Tree, assemble, listed, only, peek, stem
from mmcycle.data.records import Collection, Record
from mmcycle.errors import UserError

NAMES = ("manifest.jsonl", "metadata.jsonl", "labels.jsonl", "metadata.csv", "labels.csv", "manifest.csv", "labels.tsv")
FILE_COLUMNS = ("file", "file_name", "filename", "path")
MAX_TAG = 200                                   # characters; longer cells are left in the table

Row = dict[str, Any]


class Table(Layout):
    """manifest.jsonl, metadata.csv, labels.csv ... with a column `file`, `file_name`, `filename` or `path`; a JSONL or
    CSV may have one column per stream instead. Cells that name another file of the data set name a label of the record.
    """

    name: ClassVar[str] = "table"

    def recognises(self, tree: Tree, suffixes: tuple[str, ...]) -> str:
        found = [name for name in NAMES if name in tree.known and _has_files(tree, name)]
        return f"{found[0]} lists its files" if found else ""

    def collect(self, tree: Tree, streams: Streams) -> Collection:
        found = [name for name in NAMES if name in tree.known and _has_files(tree, name, streams)]
        if not found:
            raise UserError(f"{tree.root}: the layout 'table' needs one of {', '.join(NAMES)} with a column "
                            f"{' or '.join(FILE_COLUMNS)}, or one column per stream ({', '.join(streams)})")
        rows: dict[str, list[tuple[dict[str, str], Row]]] = defaultdict(list)
        missing: list[str] = []
        for row in read_rows(tree.root / found[0]).rows:
            files = _files_of(tree, found[0], row, streams, missing)
            if files:
                rows[stem(next(iter(files.values())))].append((files, row))
        if missing:
            raise UserError(f"{tree.root / found[0]}: {len(missing)} of the files that it lists are missing, among "
                            f"them {listed(missing)}; add them or delete their rows")
        beside = {record.key: record for record in _by_name(tree, streams)}
        records = [_record(tree, found[0], key, told, beside.get(key), streams) for key, told in rows.items()]
        return assemble(tree, self.name, streams, records, [found[0], *_other_tables(tree, records, found[0])])


@dataclass(frozen=True)
class Sheet:
    """A table's rows and how to write them again; cells of a CSV are text, of JSON Lines any value."""

    rows: list[Row]
    columns: list[str]
    dump: Callable[[list[Row]], bytes]


def read_rows(path: Path) -> Sheet:
    """Read a .csv, .tsv or .jsonl; UserError names the line that is not one."""
    if path.suffix.lower() != ".jsonl":
        return _read_csv(path, _text(path))
    rows = [row for _, row in read_lines(path)]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return Sheet(rows, columns, lambda out: b"".join(to_json(row) + b"\n" for row in out))


def read_lines(path: Path) -> list[tuple[int, Row]]:
    """Every line of JSON Lines that is not empty, with its number."""
    rows = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{path}:{number}: is not JSON: {_brief(error)}; each line must be one object"
                ) from error
            if not isinstance(row, dict):
                raise UserError(
                    f"{path}:{number}: must be an object such as {{\"file\": \"a.png\"}}, "
                    f"got {type(row).__name__}"
                )
            rows.append((number, row))
    return rows


def delimiter_of(head: str) -> str:
    """What parts the cells of a table, told by its first line."""
    return next((mark for mark in ("\t", ",", ";") if mark in head), ",")


def to_json(value: Any) -> bytes:
    """JSON in UTF-8, one line; half a surrogate pair, which UTF-8 cannot hold, is left as an escape."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def _read_csv(path: Path, text: str) -> Sheet:
    head = text.partition("\n")[0]
    delimiter = delimiter_of(head)
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if line]
    except csv.Error as error:
        raise UserError(f"{path}: is not a table: {error}") from error
    columns = lines[0] if lines else []
    if len(set(columns)) < len(columns):
        raise UserError(f"{path}: its header names a column twice: {', '.join(columns)}")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(columns):
            raise UserError(f"{path}: row {number} has {len(line)} cells, the header has {len(columns)}")
    rows = [dict(zip(columns, line)) for line in lines[1:]]
    ending = "\r\n" if head.endswith("\r") else "\n"

    def dump(out: list[Row]) -> bytes:
        page = io.StringIO(newline="")
        writer = csv.DictWriter(page, columns, delimiter=delimiter, lineterminator=ending)
        writer.writeheader()
        writer.writerows(out)
        return page.getvalue().encode()

    return Sheet(rows, columns, dump)


def _has_files(tree: Tree, name: str, streams: Streams | None = None) -> bool:
    """By the first row of a table whether it lists files; a table that cannot be read is told when it is collected."""
    head = peek(tree.root / name, 2**20)[0].partition(b"\n")[0].decode("utf-8-sig", errors="replace").strip()
    if name.endswith(".jsonl"):
        try:
            row = json.loads(head)
        except (ValueError, RecursionError):
            return streams is not None
        columns = list(row) if isinstance(row, dict) else []
        values = row.values() if columns and streams is None else ()
        files = any(isinstance(one, str) and one in tree.known for one in values)
        return files or any(column in columns for column in (*FILE_COLUMNS, *(streams or ())))
    columns = [column.strip('"') for column in head.replace(";", ",").replace("\t", ",").split(",")]
    return any(column in columns for column in (*FILE_COLUMNS, *(streams or ())))


def _files_of(tree: Tree, table: str, row: Row, streams: Streams, missing: list[str]) -> dict[str, str]:
    """Stream -> path of one row; what is not there goes to `missing`, what leaves the root is an error."""
    named = {stream: row[stream] for stream in streams if row.get(stream)}
    if not named:
        column = next((column for column in FILE_COLUMNS if row.get(column)), None)
        if column is None:
            raise UserError(f"{tree.root / table}: a row names no file: {json.dumps(row)[:200]}")
        named = {only(streams, Table.name)[0]: row[column]}
    found = {}
    for stream, value in named.items():
        if not isinstance(value, str):
            raise UserError(f"{tree.root / table}: {stream}: a path must be text, got {json.dumps(value)[:80]}")
        path = value.removeprefix("./")
        if tree.holds(path):
            found[stream] = path
        else:
            missing.append(value)
    return found


def _by_name(tree: Tree, streams: Streams) -> list[Record]:
    try:
        return described(tree, streams)[0]
    except UserError:                           # names alone do not tell; the table does
        return []


def _record(
    tree: Tree, table: str, key: str, told: list[tuple[dict[str, str], Row]], beside: Record | None, streams: Streams
) -> Record:
    files = told[0][0]
    for others, _ in told:
        if others != files:
            raise UserError(f"{tree.root / table}: {', '.join(files.values())} and {', '.join(others.values())} share "
                            f"the name {key!r}; give them different names")
    rows = [row for _, row in told]
    labels = set(beside.labels if beside else ()) - set(files.values())
    tags = {}
    for column, value in rows[0].items():
        if value in (None, "") or not isinstance(value, str | int | float):
            continue
        if column in streams or column in FILE_COLUMNS:
            continue
        if isinstance(value, str) and value.removeprefix("./") in tree.known:
            labels.add(value.removeprefix("./"))
        elif len(str(value)) <= MAX_TAG and all(row.get(column) == value for row in rows):
            tags[column] = str(value).encode("utf-8", "backslashreplace").decode()     # half a surrogate pair
    return Record(key=key, streams=files, labels=tuple(sorted(labels - set(files.values()))), tags=tags)


def _other_tables(tree: Tree, records: list[Record], table: str) -> list[str]:
    owned = {path for record in records for path in (*record.labels, *record.streams.values())}
    return [file for file in tree.files if file != table and file not in owned and is_table(file)]


def _brief(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
