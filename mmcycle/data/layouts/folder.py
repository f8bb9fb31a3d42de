"""The plain folder: recordings in any tree, their labels beside them under the same name."""
import re
from collections import defaultdict
from typing import ClassVar

from mmcycle.data.layouts.layout import Layout, Streams, Tree, assemble, stem
from mmcycle.data.records import Collection, Record
from mmcycle.errors import UserError

# A picture so named next to its recording is what somebody drew over it; translating it would spoil the labels.
MARK = re.compile(r"[_-](masks?|labels?|labelids|seg|segmentation|gt|instances?|depth)$", re.IGNORECASE)
LABEL_FOLDERS = frozenset({
    "mask", "masks", "label", "labels", "annotation", "annotations", "gt", "groundtruth", "ground_truth", "seg",
    "segmentation",
})
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".yaml", ".yml", ".names", ".md")
TABLE_NAMES = frozenset({
    "classes.txt", "labels.txt", "obj.names", "train.txt", "val.txt", "test.txt", "readme.txt", "license",
    "license.txt",
})


class Folder(Layout):
    """A recording's labels have its name and any other suffix ("x.json", "x.jpg.json", "x.lines.txt"), a mark
    ("x_mask.png"), or lie in a folder of labels of the same shape ("masks/x.png" for "photos/x.jpg",
    "trainB_mask/x.png" for "trainB/x.jpg").

    Recordings of several streams with one name are one record. Recordings without labels are records all the same.
    """

    name: ClassVar[str] = "folder"

    def recognises(self, tree: Tree, suffixes: tuple[str, ...]) -> str:
        return "any folder of recordings can be read so" if tree.ending(suffixes) else ""

    def collect(self, tree: Tree, streams: Streams) -> Collection:
        return assemble(tree, self.name, streams, *described(tree, streams))


def described(tree: Tree, streams: Streams) -> tuple[list[Record], list[str]]:
    """The records and the tables of a tree in which names alone say what belongs together."""
    recordings = _recordings(tree, streams)
    owner = _owners(tree, recordings)
    sidecars: dict[str, list[str]] = defaultdict(list)
    for file, key in owner.items():
        sidecars[key].append(file)
    by_key: dict[str, dict[str, str]] = defaultdict(dict)
    for path, stream in recordings.items():
        if path in owner:
            continue
        taken = by_key[stem(path)].setdefault(stream, path)
        if taken != path:
            raise UserError(f"{tree.root}: {taken} and {path} share a name and both could be the recording of stream "
                            f"{stream!r}; if one is a mask, move it into a folder called masks/, else rename it")
    records = [Record(key=key, streams=found, labels=tuple(sorted(sidecars[key]))) for key, found in by_key.items()]
    tables = [file for file in tree.files if file not in owner and file not in recordings and is_table(file)]
    return records, tables


def is_table(file: str) -> bool:
    """Whether a file that belongs to no record speaks of the whole data set, by its name."""
    return file.lower().endswith(TABLE_SUFFIXES) or file.lower().rpartition("/")[2] in TABLE_NAMES


def _recordings(tree: Tree, streams: Streams) -> dict[str, str]:
    """Path -> stream, refused where two streams could read the same file."""
    found: dict[str, str] = {}
    for stream, suffixes in streams.items():
        for path in tree.ending(suffixes):
            if path in found:
                raise UserError(f"{tree.root}: {path} could be of stream {found[path]!r} or {stream!r}, both read such "
                                f"files; say which is which in a manifest.jsonl with one column per stream")
            found[path] = stream
    return found


def _owners(tree: Tree, recordings: dict[str, str]) -> dict[str, str]:
    """Label file -> the key of the record that it belongs to."""
    labels = {path for path in recordings if _in_label_folder(path)}
    if len(labels) == len(recordings):          # all of it lies below a folder that is only called so
        labels = set()
    keys = {stem(path) for path in recordings if path not in labels}
    keys -= {key for key in keys if MARK.search(key) and MARK.sub("", key) in keys}
    beside = _by_wildcard(keys) if any(_in_label_folder(file) for file in tree.files) else {}
    owner: dict[str, str] = {}
    for file in tree.files:
        key = _in_marked_folder(file, keys)
        if key is None and file in recordings and file not in labels and stem(file) in keys:
            continue
        key = key or _same_name(file, keys) or _in_parallel(file, beside)
        if key is not None:
            owner[file] = key
        elif file in labels:
            owner[file] = ""                    # a mask of nothing: no record has the empty key, so it becomes a stray
    return owner


def _in_label_folder(path: str) -> bool:
    return any(part.lower() in LABEL_FOLDERS for part in path.split("/")[:-1])


def _same_name(file: str, keys: set[str]) -> str | None:
    """"x.jpg.json", "x.lines.txt" and "x_mask.png" belong to "x"."""
    head = file
    while (shorter := stem(head)) != head:
        head = shorter
        if head in keys:
            return head
        if MARK.search(head) and MARK.sub("", head) in keys:
            return MARK.sub("", head)
    return None


def _in_marked_folder(file: str, keys: set[str]) -> str | None:
    """"trainB_mask/x.png" belongs to "trainB/x"."""
    parts = stem(file).split("/")
    for place, part in enumerate(parts[:-1]):
        if MARK.search(part):
            key = "/".join([*parts[:place], MARK.sub("", part), *parts[place + 1 :]])
            if key in keys:
                return key
    return None


def _by_wildcard(keys: set[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        parts = key.split("/")
        for place in range(len(parts) - 1):
            found["/".join([*parts[:place], "*", *parts[place + 1 :]])].append(key)
    return found


def _in_parallel(file: str, beside: dict[str, list[str]]) -> str | None:
    """"masks/train/x.png" belongs to "images/train/x", if only one folder beside masks/ holds such a name."""
    head = file
    while (shorter := stem(head)) != head:
        head = shorter
        for name in (head, MARK.sub("", head)):
            parts = name.split("/")
            for place, part in enumerate(parts[:-1]):
                if part.lower() in LABEL_FOLDERS:
                    keys = beside.get("/".join([*parts[:place], "*", *parts[place + 1 :]]), [])
                    if len(keys) == 1:
                        return keys[0]
    return None
