"""Records and their translations side by side: which are shown, stream by stream, with what is known of each."""
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmcycle.config import load_config
from mmcycle.errors import UserError
from mmcycle.files import inside
from mmcycle.modality import Modality, find_modality, known_modalities
from mmcycle.report.album import Album, Shown
from mmcycle.report.numbers import measured, short
from mmcycle.report.pictures import Box, read_boxes, size_of
from mmcycle.report.rows import listing, mapping, number
from mmcycle.report.shelf import Shelf
from mmcycle.strict_yaml import read_yaml

PAIRS = 24                                      # records shown, evenly chosen
STREAMS = 8                                     # of one record
TINY = 128                                      # pixels wide: several fit side by side on a phone
THUMBNAIL = 512                                 # pixels wide
LABELS = 8                                      # label files named under a recording
FACTS = 8                                       # numbers told of one translation


@dataclass(frozen=True)
class Part:
    """One file of a record and what became of it: a stream, or the two of a clip."""

    name: str                                   # "lidar", "camera+audio"
    output: str
    facts: tuple[str, ...]                      # "snr 7.5 dB"
    before: tuple[Shown, ...]
    after: tuple[Shown, ...]

    @property
    def kinds(self) -> set[str]:
        """Of what is shown on either side: picture, sound, points, film."""
        return {shown.kind for shown in (*self.before, *self.after)}

    @property
    def drawn(self) -> bool:
        """Whether something is read along a line, as a spectrogram is."""
        return any(getattr(shown, "strip", False) for shown in (*self.before, *self.after))

    @property
    def slides(self) -> bool:
        """Whether both sides are one picture of one shape, of which a slider shows as much as one likes."""
        if not self.kinds == {"picture"} or self.drawn or not len(self.before) == len(self.after) == 1:
            return False
        one, other = (side[0].width / side[0].height for side in (self.before, self.after))
        return abs(one - other) < 0.02 * one

    @property
    def long(self) -> bool:
        """Whether the translation belongs below its source, not beside it."""
        return "sound" in self.kinds or self.drawn


@dataclass(frozen=True)
class Pair:
    """One record and its translation, as the page shows them."""

    key: str
    copy: str
    parts: tuple[Part, ...]
    copied: tuple[str, ...]                     # streams that were not translated
    labels: tuple[str, ...]
    boxes: int

    @property
    def kinds(self) -> set[str]:
        return set[str]().union(*(part.kinds for part in self.parts))

    @property
    def slides(self) -> bool:
        return any(part.slides for part in self.parts)

    @property
    def tiny(self) -> bool:
        """Whether it would only be blown up by a wide column."""
        sides = [shown for part in self.parts for shown in (*part.before, *part.after)]
        return bool(sides) and all(getattr(shown, "width", 999) <= TINY for shown in sides)

    @property
    def heard(self) -> bool:
        """Whether there is a spectrogram to be clicked."""
        return any(part.drawn and part.kinds & {"sound", "film"} for part in self.parts)


class Shelves(NamedTuple):
    """Where the files of the source are, if it is still there, and those of the data set."""

    source: Shelf | None
    out: Shelf


class Sensors:
    """The modalities of the runs that job.json names, looked up once; they present what is no picture file.

    Only installed modalities are used: a data set may come from a stranger, and must not choose what code is imported.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.runs = mapping(job.get("runs"))        # stream -> where its run was
        self.known: dict[tuple[str, str, str], tuple[Modality | None, Modality | None]] = {}

    def of(self, stream: str, model: dict[str, Any]) -> tuple[Modality | None, Modality | None]:
        """What the model of a stream read, and what it wrote; without its run, the sensor that the stream names.

        A translation within one kind of sensor keeps the format and units of its source, so the source's reads it.
        """
        run, direction = str(self.runs.get(stream, "")), str(model.get("direction"))
        if (stream, run, direction) not in self.known:
            found = _of_run(Path(run) / "config.yaml", direction) if run else None
            one, other = found or (_of_stream(stream),) * 2
            self.known[stream, run, direction] = one, one if type(one) is type(other) else other
        return self.known[stream, run, direction]


def with_translation(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that have anything to show."""
    return [row for row in rows if any(mapping(one).get("translated") for one in mapping(row.get("streams")).values())]


def chosen_rows(rows: list[dict[str, Any]], most: int = PAIRS) -> list[dict[str, Any]]:
    """At most so many of the rows, two or more, evenly chosen from the first to the last."""
    if len(rows) <= most:
        return rows
    return [rows[round(index * (len(rows) - 1) / (most - 1))] for index in range(most)]


def named(rows: list[dict[str, Any]], side: str) -> list[object]:
    """What rows call their recordings and labels: `side` is "source" or "output"."""
    entries = (one for row in rows for one in (*mapping(row.get("streams")).values(), *listing(row.get("labels"))))
    return [mapping(entry).get(side) for entry in entries]


def show_pairs(rows: list[dict[str, Any]], shelves: Shelves, album: Album, sensors: Sensors) -> list[Pair]:
    """The rows, in order; fewer, and still spread, when the page is full."""
    shown: dict[int, Pair] = {}
    for index in _by_halves(len(rows)):
        pair = _pair(rows[index], shelves, album, sensors)
        if album.full:                              # half a pair is no comparison
            break
        shown[index] = pair
    return [shown[index] for index in sorted(shown)]


def _pair(row: dict[str, Any], shelves: Shelves, album: Album, sensors: Sensors) -> Pair:
    """A part for each file that was translated, with its boxes drawn if it has any."""
    streams = {name: mapping(stream) for name, stream in list(mapping(row.get("streams")).items())[:STREAMS]}
    lying: dict[object, list[str]] = defaultdict(list)          # output -> the streams in it
    for name, stream in streams.items():
        lying[str(stream.get("output"))].append(name)
    translated = [names for names in lying.values() if any(streams[name].get("translated") for name in names)]
    labels = [mapping(label) for label in listing(row.get("labels"))]
    before = _files(shelves.source, [label.get("source") for label in labels])
    after = _files(shelves.out, [label.get("output") for label in labels])
    boxes = _boxes(shelves.out, [streams[name] for names in translated for name in names], after)
    parts = []
    for names in translated:
        stream = streams[names[0]]
        model = mapping(mapping(row.get("model")).get(names[-1]))       # a clip is presented by its sound's sensor
        drawn, (one, other) = () if parts else boxes, sensors.of(names[-1], model)
        parts.append(Part(
            name="+".join(names)[:80],
            output=str(stream.get("output"))[:200],
            facts=_facts(mapping(row.get("params")), names),
            before=album.show_on(shelves.source, stream.get("source"), THUMBNAIL, drawn, one, before),
            after=album.show_on(shelves.out, stream.get("output"), THUMBNAIL, drawn, other, after),
        ))
    return Pair(
        key=str(row.get("key"))[:200],
        copy=str(row.get("copy") or "")[:20],
        parts=tuple(parts),
        copied=tuple(name[:80] for name, stream in streams.items() if not stream.get("translated")),
        labels=tuple(str(label.get("output"))[:120] for label in labels[:LABELS]),
        boxes=len(boxes),
    )


def _facts(params: Mapping[str, Any], streams: Sequence[str]) -> tuple[str, ...]:
    """What the manifest tells of this translation: its strength if it is not 1, and "audio.snr_db" as "snr 7.5 dB"."""
    strength = number(params.get("strength"))
    told = [f"strength {short(strength)}"] if math.isfinite(strength) and strength != 1 else []
    own = [(*str(name).partition(".")[::2], number(value)) for name, value in params.items()]
    own = [one for one in own if one[0] in streams and math.isfinite(one[2])]
    times = Counter(name for _, name, _ in own)             # frames and sound may both have one of a name
    told += [measured(name if times[name] == 1 else f"{stream} {name}", value) for stream, name, value in own]
    return tuple(told[:FACTS])


def _files(shelf: Shelf | None, names: Sequence[object]) -> list[Path]:
    """The label files that are there and lie inside of the data set."""
    found = []
    for name in names[:LABELS] if shelf is not None else ():
        place = shelf.place(str(name))
        try:
            path = None if place is None else inside(*place)
        except UserError:                       # it leaves the folder, so it is not followed
            continue
        found += [path] if path is not None and path.is_file() else []
    return found


def _boxes(shelf: Shelf, streams: Sequence[dict[str, Any]], labels: Sequence[Path]) -> tuple[Box, ...]:
    """Those of the first label file that holds any; some tell them in pixels of the picture."""
    size = next((found for found in map(size_of, _files(shelf, [one.get("output") for one in streams])) if found), None)
    return next((found for label in labels if (found := read_boxes(label, size))), ())


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


def _by_halves(number: int) -> list[int]:
    """0 to number - 1 in an order of which every beginning is spread over the whole: 0, 16, 8, 4, 20, ..."""
    return sorted(range(number), key=lambda index: f"{index:08b}"[::-1])
