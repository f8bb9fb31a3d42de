"""Recordings and their translations side by side: which are shown, by which sensors, with what is known of each."""
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmcycle.config import load_config
from mmcycle.errors import UserError
from mmcycle.files import inside
from mmcycle.modality import Modality, find_modality, known_modalities
from mmcycle.report.album import Album, Shown
from mmcycle.report.numbers import measured, short
from mmcycle.report.pictures import Box, read_boxes
from mmcycle.report.rows import listing, mapping, number
from mmcycle.strict_yaml import read_yaml

PAIRS = 24                                      # records shown, evenly chosen
STREAMS = 8                                     # of one record
THUMBNAIL = 512                                 # pixels wide
LABELS = 8                                      # label files named under a recording
FACTS = 8                                       # numbers told of one translation


@dataclass(frozen=True)
class Pair:
    """One recording and its translation, as the page shows them."""

    key: str
    output: str
    copy: str
    facts: tuple[str, ...]                      # "snr 7.5 dB"
    before: tuple[Shown, ...]
    after: tuple[Shown, ...]
    labels: tuple[str, ...]
    boxes: int

    @property
    def kinds(self) -> set[str]:
        """Of what is shown on either side: picture, sound, points."""
        return {shown.kind for shown in (*self.before, *self.after)}

    @property
    def long(self) -> bool:
        """Whether it is read along a line, so that the translation belongs below its source, not beside it."""
        return "sound" in self.kinds or any(getattr(shown, "strip", False) for shown in (*self.before, *self.after))


class Sensors:
    """The modalities of the runs that job.json names, looked up once; they present what is no picture file.

    Only installed modalities are used: a data set may come from a stranger, and must not choose what code is imported.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.runs = mapping(job.get("runs"))        # stream -> where its run was
        self.known: dict[tuple[str, str, str], tuple[Modality | None, Modality | None]] = {}

    def of(self, stream: str, model: dict[str, Any]) -> tuple[Modality | None, Modality | None]:
        """What the model of a stream read, and what it wrote; without its run, the sensor that the stream names."""
        run, direction = str(self.runs.get(stream, "")), str(model.get("direction"))
        if (stream, run, direction) not in self.known:
            found = _of_run(Path(run) / "config.yaml", direction) if run else None
            self.known[stream, run, direction] = found or (_of_stream(stream),) * 2
        return self.known[stream, run, direction]


def show_pairs(
    rows: list[dict[str, Any]], folder: Path, source: Path | None, album: Album, sensors: Sensors
) -> list[Pair]:
    """The translated recordings of at most PAIRS rows, in order; fewer, and still spread, when the page is full."""
    chosen, shown = _spread(rows), {}
    for index in _by_halves(len(chosen)):
        pairs = _pairs(chosen[index], folder, source, album, sensors)
        if album.full:                              # half a pair is no comparison
            break
        shown[index] = pairs
    return [pair for index in sorted(shown) for pair in shown[index]]


def _pairs(row: dict[str, Any], folder: Path, source: Path | None, album: Album, sensors: Sensors) -> list[Pair]:
    """One for each translated stream of a record, with its boxes drawn if it has any."""
    labels = [mapping(label) for label in listing(row.get("labels"))]
    named = [str(label.get("output")) for label in labels]
    boxes = _boxes(folder, named)
    shown = []
    for name, stream in list(mapping(row.get("streams")).items())[:STREAMS]:
        stream = mapping(stream)
        if not stream.get("translated"):
            continue
        one, other = sensors.of(name, mapping(mapping(row.get("model")).get(name)))
        before = _files(source, [label.get("source") for label in labels]) if source else []
        after = _files(folder, named)
        shown.append(Pair(
            key=str(row.get("key"))[:200],
            output=str(stream.get("output"))[:200],
            copy=str(row.get("copy") or "")[:20],
            facts=_facts(mapping(row.get("params")), name),
            before=album.show(source, stream.get("source"), THUMBNAIL, boxes, one, before) if source else (),
            after=album.show(folder, stream.get("output"), THUMBNAIL, boxes, other, after),
            labels=tuple(label[:120] for label in named[:LABELS]),
            boxes=len(boxes),
        ))
    return shown


def _facts(params: Mapping[str, Any], stream: str) -> tuple[str, ...]:
    """What the manifest tells of this translation: its strength if it is not 1, and "audio.snr_db" as "snr 7.5 dB"."""
    strength = number(params.get("strength"))
    told = [f"strength {short(strength)}"] if math.isfinite(strength) and strength != 1 else []
    own = {str(name).removeprefix(f"{stream}."): number(value) for name, value in params.items()
           if str(name).startswith(f"{stream}.")}
    told += [measured(name, value) for name, value in own.items() if math.isfinite(value)]
    return tuple(told[:FACTS])


def _files(folder: Path, names: Sequence[object]) -> list[Path]:
    """The label files that are there and lie inside of the folder."""
    found = []
    for name in names[:LABELS]:
        try:
            path = inside(folder, str(name))
        except UserError:                       # it leaves the folder, so it is not followed
            continue
        found += [path] if path.is_file() else []
    return found


def _boxes(folder: Path, labels: list[str]) -> tuple[Box, ...]:
    for path in _files(folder, [label for label in labels if label.endswith(".txt")]):
        return read_boxes(path)
    return ()


def _of_run(config: Path, direction: str) -> tuple[Modality, Modality] | None:
    try:
        values, _ = read_yaml(config)
        named = {mapping(values.get(key)).get("modality") for key in ("a", "b")}
        if not all(isinstance(name, str) and name in known_modalities() for name in named):
            return None
        run = load_config(config)
    except (UserError, TypeError, ValueError):
        return None
    return (run.b.modality, run.a.modality) if direction == "ba" else (run.a.modality, run.b.modality)


def _of_stream(stream: str) -> Modality | None:
    """A stream is often named after its sensor, which then is shown with its default settings."""
    try:
        return find_modality(stream)() if stream in known_modalities() else None
    except Exception:                           # settings that have no default, or a plugin that does not import
        return None


def _spread(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most PAIRS rows, evenly chosen from the first to the last."""
    if len(rows) <= PAIRS:
        return rows
    return [rows[round(index * (len(rows) - 1) / (PAIRS - 1))] for index in range(PAIRS)]


def _by_halves(number: int) -> list[int]:
    """0 to number - 1 in an order of which every beginning is spread over the whole: 0, 16, 8, 4, 20, ..."""
    return sorted(range(number), key=lambda index: f"{index:08b}"[::-1])
