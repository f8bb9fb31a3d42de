"""Clips: files that hold both pictures and sound, in any tree; the folder that a clip lies in is its class."""
from dataclasses import replace
from typing import ClassVar

from mmcycle.data.clips import SUFFIXES
from mmcycle.data.layouts.classes import NO_CLASS, SPLIT, class_of
from mmcycle.data.layouts.folder import described
from mmcycle.data.layouts.layout import Layout, Streams, Tree, assemble
from mmcycle.data.records import Collection, Record

UNSAID = NO_CLASS | {"clips", "videos", "video"}


class Clips(Layout):
    """"dog/a.mp4" and "train/dog/a.mp4": one file with the streams camera and audio; the tags are class and split.

    Labels lie beside a clip as beside any recording: "dog/a.json", "dog/a.align". A clip without sound, or without
    pictures, is told when it is opened.
    """

    name: ClassVar[str] = "clips"

    def recognises(self, tree: Tree, suffixes: tuple[str, ...]) -> str:
        clips = tree.ending(SUFFIXES)
        others = tree.ending(suffixes) if suffixes else []
        return f"there are {len(clips)} clips, such as {clips[0]}" if len(clips) > len(others) else ""

    def collect(self, tree: Tree, streams: Streams) -> Collection:
        records, tables = described(tree, {"clip": SUFFIXES})
        found = [_clip(record) for record in records]
        return assemble(tree, self.name, {"camera": SUFFIXES, "audio": SUFFIXES}, found, tables)


def _clip(record: Record) -> Record:
    path = record.streams["clip"]
    name, first = class_of(path), path.split("/")[0]
    tags = {"class": name} if name and name.lower() not in UNSAID and not SPLIT.fullmatch(name) else {}
    if "/" in path and SPLIT.fullmatch(first):
        tags["split"] = first
    return replace(record, streams={"camera": path, "audio": path}, tags=tags)
