"""What a generated data set tells: its manifest, quarantine and job, as the values that dataset.html shows."""
import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmcycle.config import load_config
from mmcycle.errors import UserError
from mmcycle.files import inside
from mmcycle.modality import Modality, known_modalities
from mmcycle.report.numbers import Card, count, short
from mmcycle.report.pictures import Album, Box, Thumbnail, read_boxes
from mmcycle.report.rows import listing, mapping, number, read_object, read_rows
from mmcycle.strict_yaml import read_yaml

PAIRS = 24                                      # records shown, evenly chosen
QUARANTINED = 200                               # rows of the quarantine shown
THUMBNAIL = 512                                 # pixels wide
LABELS = 8                                      # label files named under a picture


@dataclass(frozen=True)
class Pair:
    """One recording and its translation, as the page shows them."""

    key: str
    output: str
    copy: str
    strength: str
    before: Thumbnail | None
    after: Thumbnail | None
    labels: tuple[str, ...]
    boxes: int


class Sensors:
    """The modalities of the runs that job.json names, looked up once; they draw what is no picture file.

    Only installed modalities are used: a data set may come from a stranger, and must not choose what code is imported.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.runs = mapping(job.get("runs"))        # stream -> where its run was
        self.known: dict[tuple[str, str], tuple[Modality | None, Modality | None]] = {}

    def of(self, stream: str, model: dict[str, Any]) -> tuple[Modality | None, Modality | None]:
        """What the model of a stream read, and what it wrote; (None, None) when its run is gone."""
        run, direction = str(self.runs.get(stream, "")), str(model.get("direction"))
        if run and (run, direction) not in self.known:
            self.known[run, direction] = _sensors(Path(run) / "config.yaml", direction)
        return self.known.get((run, direction), (None, None))


def describe_dataset(folder: Path) -> dict[str, Any]:
    """Everything dataset.html needs."""
    rows, notes = read_rows(folder / "manifest.jsonl")
    quarantine, more = read_rows(folder / "quarantine.jsonl")
    notes += more
    job = read_object(folder / ".mmcycle" / "job.json")
    source = _source(job, notes)
    album, sensors = Album(), Sensors(job)
    pairs = [pair for row in _spread(rows) for pair in _pairs(row, folder, source, album, sensors)]
    notes += album.notes
    return {
        "name": folder.resolve().name,
        "summary": _cards(rows, quarantine),
        "streams": _streams(rows),
        "models": _models(rows),
        "labels": _labels(rows),
        "tags": _tags(rows),
        "pairs": pairs,
        "has_source": source is not None,
        "details": _facts(rows, job),
        "quarantine": [_quarantined(row) for row in quarantine[:QUARANTINED]],
        "quarantine_left": max(0, len(quarantine) - QUARANTINED),
        "job": json.dumps(job, indent=2, ensure_ascii=False)[:20_000] if job else "",
        "remarks": notes,
    }


def _source(job: dict[str, Any], notes: list[str]) -> Path | None:
    """The source's root, if the job names one that still exists."""
    named = job.get("source")
    if isinstance(named, str) and "\0" not in named and Path(named).is_dir():
        return Path(named)
    notes.append("The source data set was not found, so translations are shown without it.")
    return None


def _sensors(config: Path, direction: str) -> tuple[Modality | None, Modality | None]:
    try:
        values, _ = read_yaml(config)
        named = {mapping(values.get(key)).get("modality") for key in ("a", "b")}
        if not all(isinstance(name, str) and name in known_modalities() for name in named):
            return None, None
        run = load_config(config)
    except (UserError, TypeError):
        return None, None
    return (run.b.modality, run.a.modality) if direction == "ba" else (run.a.modality, run.b.modality)


def _spread(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most PAIRS rows, evenly chosen from the first to the last."""
    if len(rows) <= PAIRS:
        return rows
    return [rows[round(index * (len(rows) - 1) / (PAIRS - 1))] for index in range(PAIRS)]


def _pairs(row: dict[str, Any], folder: Path, source: Path | None, album: Album, sensors: Sensors) -> list[Pair]:
    """One for each translated stream of a record: both pictures, with its boxes drawn if it has any."""
    labels = [str(mapping(label).get("output")) for label in listing(row.get("labels"))]
    boxes = _boxes(folder, labels)
    strength = number(mapping(row.get("params")).get("strength"))
    shown = []
    for name, stream in mapping(row.get("streams")).items():
        stream = mapping(stream)
        if not stream.get("translated"):
            continue
        one, other = sensors.of(name, mapping(mapping(row.get("model")).get(name)))
        shown.append(Pair(
            key=str(row.get("key"))[:200],
            output=str(stream.get("output"))[:200],
            copy=str(row.get("copy") or "")[:20],
            strength=short(strength) if math.isfinite(strength) and strength != 1 else "",
            before=album.show(source, stream.get("source"), THUMBNAIL, boxes, one) if source else None,
            after=album.show(folder, stream.get("output"), THUMBNAIL, boxes, other),
            labels=tuple(label[:120] for label in labels[:LABELS]),
            boxes=len(boxes),
        ))
    return shown


def _boxes(folder: Path, labels: list[str]) -> tuple[Box, ...]:
    for label in labels:
        if label.endswith(".txt"):
            try:
                return read_boxes(inside(folder, label))
            except UserError:                   # it leaves the folder, so it is not followed
                continue
    return ()


def _cards(rows: list[dict[str, Any]], quarantine: list[dict[str, Any]]) -> list[Card]:
    keys = {str(row.get("key")) for row in rows}
    total, bad = len(rows) + len(quarantine), bool(quarantine)
    copies = f"{count(len(keys))} records × {len(rows) / len(keys):.2g} copies" if len(rows) > len(keys) else ""
    files = sum(len(mapping(row.get("streams"))) for row in rows)
    labels = len({str(mapping(label).get("output")) for row in rows for label in listing(row.get("labels"))})
    return [
        Card("done", count(len(rows)), copies or f"of {count(total)}", len(rows) / total if total else None),
        Card("quarantined", count(len(quarantine)), "named below" if bad else "nothing refused", alarm=bad),
        Card("recordings", count(files), "written"),
        Card("label files", count(labels), "kept" if labels else "none beside the recordings"),
    ]


def _streams(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Per stream: how many files were translated, and how many copied."""
    translated, copied = Counter(), Counter()
    for row in rows:
        for name, stream in mapping(row.get("streams")).items():
            (translated if mapping(stream).get("translated") else copied)[str(name)[:80]] += 1
    names = dict.fromkeys([*translated, *copied])
    return [{"name": name, "translated": count(translated[name]), "copied": count(copied[name])} for name in names][:50]


def _models(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Every model that wrote a stream: run, direction, hash, and the number of records."""
    used = Counter()
    for row in rows:
        for stream, model in mapping(row.get("model")).items():
            used[(stream, *(str(mapping(model).get(key, "")) for key in ("run", "direction", "sha256")))] += 1
    return [
        {"stream": stream[:80], "run": run[:200], "direction": way[:20], "sha256": digest[:64], "records": count(n)}
        for (stream, run, way, digest), n in used.most_common(20)
    ]


def _labels(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Per kind of label file (its suffix): how it was carried, and how often."""
    every = {                                   # a table stands in the row of each record it speaks of
        (str(label.get("output")), str(label.get("how"))[:40])
        for row in rows for label in map(mapping, listing(row.get("labels")))
    }
    carried = Counter((PurePosixPath(output).suffix[:20] or "no suffix", how) for output, how in every)
    ordered = sorted(carried.items(), key=lambda item: (-item[1], item[0]))
    return [{"suffix": suffix, "how": how, "files": count(files)} for (suffix, how), files in ordered[:20]]


def _tags(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Per tag and value: how many records."""
    seen = Counter((str(tag)[:60], str(value)[:60]) for row in rows for tag, value in mapping(row.get("tags")).items())
    return [{"tag": tag, "value": value, "records": count(records)} for (tag, value), records in seen.most_common(40)]


def _facts(rows: list[dict[str, Any]], job: dict[str, Any]) -> list[tuple[str, str]]:
    """(label, value) pairs about where the data set comes from."""
    versions = mapping(rows[-1].get("versions")) if rows else {}
    facts = [(key, job.get(key)) for key in ("command", "source", "layout", "seed", "copies", "strength")]
    facts += sorted((versions or mapping(job.get("versions"))).items())
    return [(str(label)[:40], _plain(value)) for label, value in facts if value is not None]


def _plain(value: object) -> str:
    if isinstance(value, list):
        return " – ".join(dict.fromkeys(map(str, value)))[:400]     # strength: lowest and highest
    return str(value)[:400]


def _quarantined(row: dict[str, Any]) -> dict[str, str]:
    return {key: str(row.get(key, ""))[:300] for key in ("key", "copy", "stream", "path", "reason")}

