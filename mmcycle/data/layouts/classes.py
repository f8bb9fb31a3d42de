"""Class folders: the name of the folder that a recording lies in is its class (torchvision's ImageFolder)."""
import re
from dataclasses import replace
from typing import ClassVar

from mmcycle.data.layouts.folder import LABEL_FOLDERS, described
from mmcycle.data.layouts.layout import Layout, Streams, Tree, assemble, only
from mmcycle.data.records import Collection, Record
from mmcycle.errors import UserError

SPLIT = re.compile(r"(train|training|val|valid|validation|test|testing|dev|eval)[AB]?", re.IGNORECASE)
NO_CLASS = LABEL_FOLDERS | {
    "images", "image", "img", "imgs", "photos", "frames", "audio", "wavs", "lidar", "velodyne", "camera", "data",
}


class ClassFolders(Layout):
    """"cat/x.jpg" and "train/cat/x.jpg"; the tags are class and, where there is one, split."""

    name: ClassVar[str] = "classes"

    def recognises(self, tree: Tree, suffixes: tuple[str, ...]) -> str:
        folders = [class_of(file) for file in tree.ending(suffixes)]
        classes = {name for name in folders if name}
        if len(classes) < 2 or None in folders:
            return ""
        if any(name.lower() in NO_CLASS or SPLIT.fullmatch(name) for name in classes):
            return ""
        return f"every recording lies in one of {len(classes)} folders, such as {sorted(classes)[0]}/"

    def collect(self, tree: Tree, streams: Streams) -> Collection:
        only(streams, self.name)
        records, tables = described(tree, streams)
        return assemble(tree, self.name, streams, [_tagged(tree, record) for record in records], tables)


def _tagged(tree: Tree, record: Record) -> Record:
    path = next(iter(record.streams.values()))
    name = class_of(path)
    if name is None:
        raise UserError(f"{tree.root}: {path} lies in no folder of a class; move it, or choose --layout folder")
    first = path.split("/")[0]
    split = {"split": first} if path.count("/") > 1 and SPLIT.fullmatch(first) else {}
    return replace(record, tags={"class": name} | split)


def class_of(path: str) -> str | None:
    """The first folder that is no split."""
    parts = path.split("/")[:-1]
    if len(parts) > 1 and SPLIT.fullmatch(parts[0]):
        parts = parts[1:]
    return parts[0] if parts else None
