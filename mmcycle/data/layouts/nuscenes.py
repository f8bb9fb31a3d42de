"""nuScenes: one folder per sensor below samples/ and sweeps/, joined by the tables of v1.0-*/ into moments."""
from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from mmcycle.data.layouts.folder import is_table
from mmcycle.data.layouts.layout import Layout, Streams, Tree, assemble, stem
from mmcycle.data.records import Collection, Record
from mmcycle.errors import UserError

SENSOR = re.compile(r"(?:samples|sweeps)/((?:CAM|LIDAR|RADAR)_\w+)/[^/]+")
JOINS = re.compile(r"[^/]+/sample_data\.json")              # v1.0-mini/sample_data.json
OF_POINTS = ("lidarseg.json", "panoptic.json")              # files with a class for each point of a sweep
TABLES = re.compile(r"[^/]+/[^/]+\.json|(?:maps|can_bus|basemap|expansion|prediction)/.+")


class NuScenes(Layout):
    """The streams are called CAM_FRONT, LIDAR_TOP, RADAR_FRONT ...; a key frame with all of its sensors is one record,
    named by its sample token, and each recording between two key frames (sweeps/) is a record of its own.

    The tables and maps are copied; boxes are written in world coordinates, so they hold for every stream.
    """

    name: ClassVar[str] = "nuscenes"

    def recognises(self, tree: Tree, suffixes: tuple[str, ...]) -> str:
        sensors = sorted({folder for folder in tree.folders if SENSOR.fullmatch(f"{folder}/x")})
        return f"there are nuScenes' folders {', '.join(sensors[:2])}" if len(sensors) > 1 else ""

    def collect(self, tree: Tree, streams: Streams) -> Collection:
        joins = [file for file in tree.files if JOINS.fullmatch(file)]
        if not joins:
            raise UserError(f"{tree.root}: what belongs to one moment of nuScenes stands in the tables of a folder "
                            "v1.0-*/ (sample_data.json and the others), which is not there; add it, or read every "
                            "file on its own with --layout folder")
        moments: dict[str, dict[str, str]] = defaultdict(dict)
        tags: dict[str, dict[str, str]] = {}
        owner: dict[str, tuple[str, str]] = {}              # sample_data token -> key, stream
        missing: dict[str, str] = {}
        for table in joins:
            scenes = _scenes(tree, table)
            for row in _rows(tree, table, ("token", "sample_token", "filename")):
                stream = SENSOR.fullmatch(row["filename"])
                if not tree.holds(row["filename"]) or stream is None:
                    missing[row["filename"]] = f"{table} names it, but there is no such recording"
                    continue                                # a part of the data set that was not downloaded
                whole = row.get("is_key_frame") is True and row["filename"].startswith("samples/")
                key = row["sample_token"] if whole else stem(row["filename"])
                moments[key].setdefault(stream[1], row["filename"])
                owner[row["token"]] = key, stream[1]
                tags[key] = scenes.get(row["sample_token"], {})
        concerns = _labels_of_points(tree, joins, owner, streams)
        records = [
            Record(key=key, streams=found, labels=tuple(sorted(concerns[key])), concerns=concerns[key], tags=tags[key])
            for key, found in moments.items()
        ]
        labels = {label for record in records for label in record.labels}
        tables = [file for file in tree.files if file not in labels and (TABLES.fullmatch(file) or is_table(file))]
        whole = assemble(tree, self.name, streams, records, tables)
        return replace(whole, strays=(*whole.strays, *missing.items()))


def _scenes(tree: Tree, join: str) -> dict[str, dict[str, str]]:
    """Sample token -> the tag of its scene, where the tables say it."""
    folder = join.rpartition("/")[0]
    if not {f"{folder}/sample.json", f"{folder}/scene.json"} <= tree.known:
        return {}
    names = {row["token"]: row["name"] for row in _rows(tree, f"{folder}/scene.json", ("token", "name"))}
    samples = _rows(tree, f"{folder}/sample.json", ("token", "scene_token"))
    return {row["token"]: {"scene": names[row["scene_token"]]} for row in samples if row["scene_token"] in names}


def _labels_of_points(
    tree: Tree, joins: list[str], owner: dict[str, tuple[str, str]], streams: Streams
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Key -> label file -> the one stream whose points it speaks of."""
    found: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
    for join in joins:
        for name in OF_POINTS:
            table = f"{join.rpartition('/')[0]}/{name}"
            for row in _rows(tree, table, ("sample_data_token", "filename")) if table in tree.known else ():
                if tree.holds(row["filename"]) and row["sample_data_token"] in owner:
                    key, stream = owner[row["sample_data_token"]]
                    if stream not in streams or row["filename"].endswith(".bin"):
                        found[key][row["filename"]] = (stream,)
    return found


def _rows(tree: Tree, table: str, needed: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The rows of a table, each with text in the columns that are needed."""
    path = tree.root / table
    try:
        rows = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON: {str(error)[:200]}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    if not isinstance(rows, list):
        raise UserError(f"{path}: is no table of nuScenes: it must be a list of rows, got {type(rows).__name__}")
    for row in rows:
        values = [row.get(name) for name in needed] if isinstance(row, dict) else [None]
        if not all(isinstance(value, str) and value and value.isprintable() for value in values):
            raise UserError(f"{path}: is no table of nuScenes: a row must have {', '.join(needed)}, each printable "
                            f"text; got {json.dumps(row)[:200]}")
        yield row
