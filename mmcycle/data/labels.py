"""What becomes of labels when a data set is written in several copies: names of copies, and tables that know them.

Files that belong to one record are always copied byte for byte, also a VOC xml, whose <filename> goes on naming the
original: a reader finds an annotation by its own name. Tables speak of many records, so they are rewritten.
"""
from __future__ import annotations

import copy as copies
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from mmcycle.data.layouts.coco import image_paths, read_coco
from mmcycle.data.layouts.layout import Tree, stem
from mmcycle.data.layouts.streams import LISTING
from mmcycle.data.layouts.table import read_lines, read_rows, to_json
from mmcycle.data.records import Collection
from mmcycle.errors import UserError

Names = Mapping[tuple[str, int], Mapping[str, str]]     # (key, copy) -> stream -> the path that was written

# What a data set appends to the name of a moment to say which file of it this is: the copy's mark goes before it, so
# that "x_copy1_leftImg8bit.png" still goes with "x_copy1_gtFine_labelIds.png", "x_copy1.jpg" with "x_copy1_mask.png".
KIND = re.compile(
    r"(_leftImg8bit|_rightImg8bit|_gtFine_\w+|_gtCoarse_\w+|_disparity|_camera|_vehicle|_timestamp"
    r"|[_-](?:masks?|labels?|labelIds|seg|segmentation|gt|instances?|depth))$", re.IGNORECASE
)


def copy_name(path: str, copy: int) -> str:
    """The path of copy `copy` of any file of a record: copy 0 keeps its name, "a/x.jpg" becomes "a/x_copy2.jpg".

    The mark goes before the first dot and before what says which file of a record it is, so files that belonged
    together by name still do, and two files never get one name, unless a file of the source is called so.
    """
    if copy == 0:
        return path
    folder, slash, name = path.rpartition("/")
    head, dot, suffixes = name.partition(".")
    kind = KIND.search(head)
    place = kind.start() if kind and kind.start() > 0 else len(head)
    return f"{folder}{slash}{head[:place]}_copy{copy}{head[place:]}{dot}{suffixes}"


def remap(collection: Collection, table: str, names: Names) -> bytes:
    """A table that names what was written: every row of a record comes once for each of its copies in `names`.

    COCO json, CSV, TSV, JSON Lines and lists of names (.txt) are rewritten; a table that names no record is returned as
    it is, and so is every table when each record was written once under its own name. Rows of records that are not in
    `names` (quarantined ones) go; rows that speak of no record stay. UserError: tables of nuScenes know no copies.
    """
    path = collection.root / table
    suffix = path.suffix.lower()
    if not changes(collection, names):
        return path.read_bytes()
    written = _Written(collection, names)
    if collection.layout == "nuscenes" and suffix == ".json" and any(copy for _, copy in names):
        raise UserError(f"{path}: the tables of nuScenes name one recording for each sensor and moment, so they cannot "
                        "name copies; write one copy, or several data sets with different seeds")
    if collection.layout == "streams" and table == LISTING:
        return _remap_listing(collection, written)
    if suffix == ".json" and collection.layout == "coco":
        return _remap_coco(collection, table, written)
    if suffix in (".csv", ".tsv", ".jsonl"):
        return _remap_rows(collection, table, written)
    if suffix == ".txt":
        return _remap_list(collection, table, written)
    return path.read_bytes()


def changes(collection: Collection, names: Names) -> bool:
    """Whether anything is called otherwise than in the source, is missing, or is there more than once."""
    same = {(record.key, 0): record.streams for record in collection.records}
    return {item: dict(streams) for item, streams in names.items()} != same


class _Written:
    """Finds what was written for a path of the source."""

    def __init__(self, collection: Collection, names: Names) -> None:
        self.names = names
        self.of_path = {
            path: (record.key, stream) for record in collection.records for stream, path in record.streams.items()
        }
        self.of_label = {path: record.key for record in collection.records for path in record.labels}
        self.copies: dict[str, list[int]] = defaultdict(list)
        for key, copy in sorted(names):
            self.copies[key].append(copy)

    def paths(self, path: str) -> list[tuple[int, str]]:
        """(copy, path) of each copy of a recording."""
        key, stream = self.of_path[path]
        return [(copy, self.names[key, copy].get(stream, copy_name(path, copy))) for copy in self.copies[key]]


def _remap_listing(collection: Collection, written: _Written) -> bytes:
    """streams.jsonl: a line for each copy, in the order of the original's lines."""
    out = []
    for _, row in read_lines(collection.root / LISTING):
        for copy in written.copies[row["key"]]:
            streams = {name: written.names[row["key"], copy][name] for name in row["streams"]}
            fresh = row | {"key": copy_name(row["key"], copy), "streams": streams}
            named = {path: copy_name(path.removeprefix("./"), copy) for path in row.get("labels", ())}
            if isinstance(row.get("labels"), dict):
                fresh["labels"] = {named[path]: of for path, of in row["labels"].items()}
            elif named:
                fresh["labels"] = list(named.values())
            out.append(to_json(fresh) + b"\n")
    return b"".join(out)


def _remap_coco(collection: Collection, table: str, written: _Written) -> bytes:
    value = read_coco(collection.root / table)
    where = image_paths(Tree(collection.root, tuple(written.of_path)), table, value)
    by_image: dict[int | str, list[dict[str, Any]]] = defaultdict(list)
    for annotation in value.get("annotations", []):
        by_image[annotation["image_id"]].append(annotation)
    image_ids, annotation_ids = _fresh(value["images"]), _fresh(value.get("annotations", []))
    images, annotations = [], []
    for copy, image, name in _copies_of_images(value["images"], where, written):
        entry = image | {"file_name": name}
        if copy > 0:
            entry["id"] = next(image_ids)
        images.append(entry)
        for annotation in by_image[image["id"]]:
            twin = copies.copy(annotation) | {"image_id": entry["id"]}
            if copy > 0:
                twin |= {"id": next(annotation_ids)} if "id" in annotation else {}
                twin |= {"file_name": copy_name(annotation["file_name"], copy)} if "file_name" in annotation else {}
            annotations.append(twin)
    value["images"] = images
    if "annotations" in value:
        value["annotations"] = annotations
    return to_json(value)


def _copies_of_images(
    images: list[dict[str, Any]], where: dict[str, str], written: _Written
) -> Iterator[tuple[int, dict[str, Any], str]]:
    """(copy, image, its new file_name): all originals first, in their order, then the copies."""
    found = []
    for place, image in enumerate(images):
        base = where[image["file_name"]].removesuffix(image["file_name"])
        for copy, path in written.paths(where[image["file_name"]]):
            found.append((copy > 0, place, copy, image, path.removeprefix(base)))
    for _, _, copy, image, name in sorted(found, key=lambda row: row[:3]):
        yield copy, image, name


def _fresh(entries: list[dict[str, Any]]) -> Iterator[int | str]:
    """Ids that no entry has: numbers above all of them, or text when an id is text."""
    ids = {entry["id"] for entry in entries if "id" in entry}
    number = max((one for one in ids if isinstance(one, int)), default=0)
    text = any(isinstance(one, str) for one in ids)
    while True:
        number += 1
        one = f"copy{number}" if text else number
        if one not in ids:
            yield one


def _remap_rows(collection: Collection, table: str, written: _Written) -> bytes:
    sheet = read_rows(collection.root / table)
    base = table.rpartition("/")[0] + "/" if "/" in table else ""
    rows, found = [], False
    for row in sheet.rows:
        cells = {column: _resolve(value, base, written) for column, value in row.items() if isinstance(value, str)}
        cells = {column: path for column, path in cells.items() if path is not None}
        keys = {
            written.of_path[path][0] if path in written.of_path else written.of_label[path] for path in cells.values()
        }
        if len(keys) != 1:                      # a row of no record, or of several, such as a pair
            rows.append(row)
            continue
        found = True
        rows += [_row_of_copy(row, cells, copy, written) for copy in written.copies[keys.pop()]]
    return sheet.dump(rows) if found else (collection.root / table).read_bytes()


def _resolve(value: str, base: str, written: _Written) -> str | None:
    """The path of the source that a cell means: as seen from the table, or from the root."""
    value = value.removeprefix("./")
    return next((path for path in (base + value, value) if path in written.of_path or path in written.of_label), None)


def _row_of_copy(row: dict[str, Any], cells: dict[str, str], copy: int, written: _Written) -> dict[str, Any]:
    fresh = dict(row)
    for column, path in cells.items():
        new = dict(written.paths(path))[copy] if path in written.of_path else copy_name(path, copy)
        if new != path:                         # the cell's own way of writing a path is kept
            whole = row[column].endswith(path)
            fresh[column] = row[column].removesuffix(path) + new if whole else _relative(row[column], path, new)
    return fresh


def _relative(cell: str, path: str, new: str) -> str:
    """`new` written as `cell` writes `path`, which leaves out the folder of the table."""
    dot = "./" if cell.startswith("./") else ""
    return dot + new.removeprefix(path.removesuffix(cell.removeprefix("./")))


def _remap_list(collection: Collection, table: str, written: _Written) -> bytes:
    """A list of names, one a line (ImageSets/train.txt); what follows a name ("000012 -1") goes with each copy."""
    path = collection.root / table
    try:
        lines = path.read_bytes().decode("utf-8").splitlines(keepends=True)
    except UnicodeDecodeError:
        return path.read_bytes()
    known = _names_in_lists(written)
    heads = [_head(line, known) for line in lines]
    if "ImageSets/" not in table and not all(head.removeprefix("./") in known or not head for head in heads):
        return path.read_bytes()                # a list of classes may share a word with a recording
    out = []
    for line, head in zip(lines, heads):
        source = known.get(head.removeprefix("./"))
        for copy, new in written.paths(source) if source else [(0, "")]:
            if out and not out[-1].endswith("\n"):
                out[-1] += "\n"
            out.append(line.replace(head, _as_listed(head, source, copy, new), 1) if source else line)
    return "".join(out).encode()


def _head(line: str, known: Mapping[str, str]) -> str:
    """What a line names: all of it, as names may hold spaces, or its first word."""
    whole = line.strip()
    return whole if whole.removeprefix("./") in known else (line.split() or [""])[0]


def _names_in_lists(written: _Written) -> dict[str, str]:
    """All ways in which a list may name a recording -> its path; a bare name only where no other is called so."""
    known: dict[str, str] = {}
    bare: dict[str, list[str]] = defaultdict(list)
    for path in written.of_path:
        known[path] = known[stem(path)] = path
        bare[path.rpartition("/")[2]].append(path)
        bare[stem(path).rpartition("/")[2]].append(path)
    alone = {name: paths[0] for name, paths in bare.items() if len({written.of_path[path][0] for path in paths}) == 1}
    return alone | known


def _as_listed(head: str, source: str, copy: int, new: str) -> str:
    """"000012" -> "000012_copy1", "./images/x.jpg" -> "./images/x_copy1.jpg"."""
    return head.removesuffix(source) + new if head.endswith(source) else copy_name(head, copy)
