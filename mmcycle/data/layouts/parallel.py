"""Layouts of folders that stand side by side, one per kind of file: YOLO, VOC, Cityscapes."""
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import ClassVar

from mmcycle.data.layouts.folder import is_table
from mmcycle.data.layouts.layout import Layout, Streams, Tree, assemble, only, stem
from mmcycle.data.records import Collection, Record

Group = dict[str, list[str]]                    # folder -> the files of one moment in it


class Yolo(Layout):
    """images/train/x.jpg with labels/train/x.txt, and masks/ like it; data.yaml and classes.txt are tables."""

    name: ClassVar[str] = "yolo"

    def recognises(self, tree: Tree, suffixes: tuple[str, ...]) -> str:
        known = {folder.rpartition("/")[2] for folder in tree.folders}
        texts = any("/labels/" in f"/{file}" for file in tree.ending((".txt",)))
        return "images/ and labels/ stand side by side" if {"images", "labels"} <= known and texts else ""

    def collect(self, tree: Tree, streams: Streams) -> Collection:
        return _around(tree, self.name, streams, "images", ("labels", "masks", "annotations"))


class Voc(Layout):
    """JPEGImages/x.jpg with Annotations/x.xml, SegmentationClass/x.png ...; the lists of ImageSets/ are tables."""

    name: ClassVar[str] = "voc"

    def recognises(self, tree: Tree, suffixes: tuple[str, ...]) -> str:
        return "there is a folder JPEGImages" if any(_last(folder) == "JPEGImages" for folder in tree.folders) else ""

    def collect(self, tree: Tree, streams: Streams) -> Collection:
        return _around(tree, self.name, streams, "JPEGImages", None)


class Cityscapes(Layout):
    """leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png with gtFine/train/ulm/ulm_000000_000019_gtFine_*."""

    name: ClassVar[str] = "cityscapes"

    def recognises(self, tree: Tree, suffixes: tuple[str, ...]) -> str:
        return "there is a folder leftImg8bit" if "leftImg8bit" in tree.folders else ""

    def collect(self, tree: Tree, streams: Streams) -> Collection:
        stream, suffixes = only(streams, self.name)
        labels: dict[str, list[str]] = defaultdict(list)
        images: dict[str, str] = {}
        for file in tree.files:
            match = CITYSCAPES.fullmatch(file)
            if match and match["folder"] == "leftImg8bit" and file.lower().endswith(suffixes):
                images[match["key"]] = file
            elif match:
                labels[match["key"]].append(file)
        records = [
            Record(
                key=key, streams={stream: path}, labels=tuple(labels[key]),
                tags=dict(zip(("split", "city"), key.split("/")[:-1])),
            )
            for key, path in images.items()
        ]
        tables = [file for file in tree.files if "/" not in file and is_table(file)]
        return assemble(tree, self.name, streams, records, tables)


CITYSCAPES = re.compile(
    r"(?P<folder>\w+)/(?P<key>(?:[^/]+/)*[^/]+?)"
    r"_(?:leftImg8bit|rightImg8bit|gtFine|gtCoarse|disparity|camera|vehicle|timestamp)[^/]*"
)


def _around(tree: Tree, layout: str, streams: Streams, anchor: str, beside: tuple[str, ...] | None) -> Collection:
    """Records are the recordings below `anchor`, labels lie in the folders `beside` it, None: in any."""
    stream, suffixes = only(streams, layout)
    records = []
    for group in groups(tree, {anchor}).values():
        labels = tuple(sorted(
            path for folder, paths in group.items() for path in paths
            if folder != anchor and (beside is None or folder in beside)
        ))
        for path in group.get(anchor, []):
            if path.lower().endswith(suffixes):
                records.append(Record(key=stem(path), streams={stream: path}, labels=labels))
    owned = {path for record in records for path in record.labels}
    tables = [file for file in tree.files if file not in owned and (is_table(file) or is_list(file))]
    return assemble(tree, layout, streams, records, tables)


def groups(tree: Tree, anchors: set[str]) -> Mapping[str, Group]:
    """What has the same name in folders beside an anchor: "training/000012" -> {"image_2": [...], "calib": [...]}."""
    found: dict[str, Group] = defaultdict(lambda: defaultdict(list))
    places = {above for folder in tree.folders for above, name in [_split(folder)] if name in anchors}
    for file in tree.files:
        for above, folder, below in _places(file):
            if above in places and "ImageSets" != folder:
                found[above + stem(below)][folder].append(file)
                break
    return found


def _places(file: str) -> Iterator[tuple[str, str, str]]:
    """"a/b/x.png" -> ("a/", "b", "x.png"), ("", "a", "b/x.png"): above, folder, below, the deepest folder first."""
    parts = file.split("/")
    for place in reversed(range(len(parts) - 1)):
        yield "".join(part + "/" for part in parts[:place]), parts[place], "/".join(parts[place + 1 :])


def _split(folder: str) -> tuple[str, str]:
    above, slash, name = folder.rpartition("/")
    return above + slash, name


def _last(folder: str) -> str:
    return folder.rpartition("/")[2]


def is_list(file: str) -> bool:
    """Whether a file is one of VOC's and KITTI's lists of names."""
    return "ImageSets/" in file and file.lower().endswith(".txt")
