"""Labelled data sets as they lie on disk: find the layout by name or by looking, and describe what is there."""
from pathlib import Path

from mmcycle import plugins
from mmcycle.data.layouts.layout import Layout, Streams, Tree
from mmcycle.data.records import Collection
from mmcycle.errors import UserError

GROUP = "mmcycle.layouts"                       # of entry points
BUILTIN = {                                     # in the order in which they are tried; the last two fit almost anything
    "streams": "mmcycle.data.layouts.streams:NamedStreams",
    "kitti": "mmcycle.data.layouts.kitti:Kitti",
    "semantickitti": "mmcycle.data.layouts.kitti:SemanticKitti",
    "nuscenes": "mmcycle.data.layouts.nuscenes:NuScenes",
    "cityscapes": "mmcycle.data.layouts.parallel:Cityscapes",
    "voc": "mmcycle.data.layouts.parallel:Voc",
    "coco": "mmcycle.data.layouts.coco:Coco",
    "yolo": "mmcycle.data.layouts.parallel:Yolo",
    "table": "mmcycle.data.layouts.table:Table",
    "clips": "mmcycle.data.layouts.clips:Clips",
    "classes": "mmcycle.data.layouts.classes:ClassFolders",
    "folder": "mmcycle.data.layouts.folder:Folder",
}
SURE = ("streams",)                             # written for mmcycle alone: who has its listing means it
WEAK = ("classes", "folder")


def scan(root: Path, streams: Streams, layout: str | None = None) -> Collection:
    """Describe the labelled data set below `root`; without a `layout`, the one that it looks like."""
    tree = Tree.of(Path(root))
    name = layout or _detect(tree, streams)[0]
    return find_layout(name).collect(tree, streams)


def detect_layout(root: Path, suffixes: tuple[str, ...]) -> tuple[str, str]:
    """The name of the layout that a folder with recordings of these suffixes looks like, and why."""
    return _detect(Tree.of(Path(root)), {"recording": suffixes})


def find_layout(name: str) -> Layout:
    """A built-in name, one of the entry-point group `mmcycle.layouts`, or "package.module:Layout" -> the layout."""
    return plugins.find("layout", name, GROUP, BUILTIN, Layout, "my_lab.logs:Drive")()


def known_layouts() -> dict[str, str]:
    """Every layout that can be named: name -> where it lives."""
    return plugins.known(GROUP, BUILTIN)


def _detect(tree: Tree, streams: Streams) -> tuple[str, str]:
    suffixes = tuple(suffix for each in streams.values() for suffix in each)
    found = {}
    for name in known_layouts():
        if name not in WEAK:
            reason = find_layout(name).recognises(tree, suffixes)
            if reason:
                found[name] = reason
    found = {name: found[name] for name in SURE if name in found} or found
    if len(found) > 1:
        reasons = "; ".join(f"{name} because {reason}" for name, reason in found.items())
        raise UserError(
            f"{tree.root} looks like several layouts: {reasons}. "
            f"Choose one with --layout {' or --layout '.join(found)}."
        )
    if found:
        return next(iter(found.items()))
    reason = find_layout("classes").recognises(tree, suffixes) if len(streams) == 1 else ""
    return ("classes", reason) if reason else ("folder", "no other layout fits")
