"""KITTI: a folder per sensor and per kind of label, a name per moment; objects, SemanticKITTI and simulated drives."""
import re
from typing import ClassVar

from mmcycle.data.layouts.folder import is_table
from mmcycle.data.layouts.layout import Layout, Streams, Tree, assemble
from mmcycle.data.layouts.parallel import groups, is_list
from mmcycle.data.records import Collection, Record

SENSORS = {                                     # folder -> stream, and the files that it may hold
    "image_2": ("camera", (".png", ".jpg", ".jpeg")),
    "image_3": ("camera_right", (".png", ".jpg", ".jpeg")),
    "velodyne": ("lidar", (".bin", ".npy", ".pcd", ".ply")),
}
CONCERNS = {                                    # folder of labels -> the streams that they speak of; others: of all
    "label_2": ("camera", "lidar"),             # boxes in the picture and in space
    "label_3": ("camera_right", "lidar"),
    "semantic": ("camera",),
    "labels": ("lidar",),                       # a class for each point
    "boxes": ("lidar",),
    "planes": ("lidar",),
}
SPLITS = ("training", "testing")
OF_A_DRIVE = ("calib.txt", "poses.txt", "times.txt", "drive.json")
SEQUENCE = re.compile(r"(?:^|/)sequences/[^/]+/(?:velodyne|image_2)$")


class Kitti(Layout):
    """image_2, image_3 and velodyne are the streams camera, camera_right and lidar; label_2, calib and every other
    folder beside them hold labels. Below training/ and testing/, that is the tag split. So does `mmcycle simulate
    drive` write; its drive.json and poses.txt are tables.
    """

    name: ClassVar[str] = "kitti"

    def recognises(self, tree: Tree, suffixes: tuple[str, ...]) -> str:
        known = {folder.rpartition("/")[2] for folder in tree.folders}
        found = known & {"image_2", "velodyne"} and not any(map(SEQUENCE.search, tree.folders))
        return "there are KITTI's folders image_2 or velodyne" if found else ""

    def collect(self, tree: Tree, streams: Streams) -> Collection:
        records = []
        for key, group in groups(tree, set(SENSORS)).items():
            found = {}
            for folder, (stream, suffixes) in SENSORS.items():
                asked = streams.get(stream, suffixes)
                paths = [path for path in group.pop(folder, []) if path.lower().endswith((*asked, *suffixes))]
                if paths:               # of two forms of one recording, that which its run reads
                    found[stream] = next((path for path in paths if path.lower().endswith(asked)), paths[0])
            if found:
                records.append(_record(key, found, group))
        owned = {path for record in records for path in record.labels}
        tables = [file for file in tree.files if file not in owned and _speaks_of_many(file)]
        allowed = {stream: suffixes for stream, suffixes in SENSORS.values()} | dict(streams)
        return assemble(tree, self.name, allowed, records, tables)


class SemanticKitti(Kitti):
    """sequences/00/velodyne/000000.bin with sequences/00/labels/000000.label; image_2 and image_3 as in KITTI. The
    sequence's calib.txt, poses.txt and times.txt are tables.
    """

    name: ClassVar[str] = "semantickitti"

    def recognises(self, tree: Tree, suffixes: tuple[str, ...]) -> str:
        found = next(filter(SEQUENCE.search, tree.folders), "")
        return "sequences/ holds folders with velodyne or image_2" if found else ""


def _record(key: str, found: dict[str, str], group: dict[str, list[str]]) -> Record:
    labels, concerns = [], {}
    for folder, paths in group.items():
        labels += paths
        if folder in CONCERNS:
            concerns |= dict.fromkeys(paths, tuple(stream for stream in CONCERNS[folder] if stream in found))
    split = [part for part in key.split("/")[:-1] if part in SPLITS]
    tags = {"split": split[0]} if split else {}
    return Record(key=key, streams=found, labels=tuple(sorted(labels)), concerns=concerns, tags=tags)


def _speaks_of_many(file: str) -> bool:
    return is_table(file) or is_list(file) or file.rpartition("/")[2] in OF_A_DRIVE
