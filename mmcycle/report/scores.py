"""What `mmcycle evaluate` found of a run: verdicts, and scores between their known cases, as run.html shows them."""
import math
from pathlib import Path
from typing import Any, NamedTuple

from mmcycle.errors import UserError
from mmcycle.files import inside
from mmcycle.report.numbers import short
from mmcycle.report.places import Place, between
from mmcycle.report.rows import LONGEST, listing, mapping, number, read_object

MOST = 60                                       # scores, verdicts or notes shown
LEVELS = ("good", "weak", "bad")
NOT_SCORES = ("checks", "notes", "about")
INSIDE = ("value", "low", "high", "error", "floor_error")       # of a score, but no known case
OTHERS = ("mutual", "negative")                 # told beside a score, but on another scale
CASES = {"floor": "real from real", "real": "real"}             # what known cases are called here, if not as they are

Fact = tuple[str, str]                          # label, value
End = str | tuple[str, float]                   # a known case of the score, or what a number would mean


class Measure(NamedTuple):
    """What a score tells, and between which cases it lies."""

    told: str
    worst: End
    best: End


MEASURES = {
    "realism: kernel distance": Measure("between translations and real recordings", "untranslated", "floor"),
    "realism: frechet distance": Measure("between translations and real recordings", "untranslated", "floor"),
    "realism: way gone": Measure("of the way from the sources to real recordings", "untranslated", "floor"),
    "faithfulness: layout kept": Measure("alike sources become alike translations", "shuffled", ("all", 1)),
    "faithfulness: source found": Measure("translations most like their own source", "chance", ("all", 1)),
    "faithfulness: content distance": Measure("between a source and its translation", "shuffled", ("none", 0)),
    "faithfulness: structure": Measure("agreement of the edges of both", "shuffled", ("all", 1)),
    "faithfulness: edges kept": Measure("edges of the source that are still there", "shuffled", ("all", 1)),
    "faithfulness: edges added": Measure("edges that the source does not have", "shuffled", ("none", 0)),
    "cycle: l1": Measure("error of there and back", "shuffled", ("none", 0)),
    "pairs: l1": Measure("error against the true partner", "untranslated", ("none", 0)),
    "collapse: contrast": Measure("times that of real recordings", ("flat", 0), "real"),
    "collapse: diversity": Measure("of translations, times that of real recordings", ("all alike", 0), "real"),
    "collapse: change": Measure("from source to translation", ("a copy", 0), ("another source", 1)),
    "collapse: intensity correlation": Measure("light stays light", ("turned round", -1), ("as it was", 1)),
}


class Verdict(NamedTuple):
    """A line of good, weak, bad (or a warning), and what to do about it."""

    level: str
    name: str
    told: str
    advice: str


class Shown(NamedTuple):
    """A score as text, and where it lies; `level` is that of the verdict it decided."""

    topic: str
    name: str
    told: str
    value: str
    interval: str
    beside: str
    level: str
    place: Place | None


class Examination(NamedTuple):
    """One direction."""

    direction: str
    verdicts: tuple[Verdict, ...]
    scores: tuple[Shown, ...]
    facts: tuple[Fact, ...]
    notes: tuple[str, ...]

    @property
    def levels(self) -> dict[str, int]:
        """How many verdicts are good, weak and bad."""
        return {level: sum(one.level == level for one in self.verdicts) for level in LEVELS}


def examinations(run: Path, notes: list[str]) -> list[Examination]:
    """Of each direction that was evaluated; `notes` takes what cannot be read."""
    found = ((way, read_found(run, f"evaluation/{way}.json", notes)) for way in ("ab", "ba"))
    return [_examination(way, values) for way, values in found if values]


def read_found(run: Path, name: str, notes: list[str]) -> dict[str, Any]:
    """The object in a file of the run, empty where there is no such file; one that is broken is noted by its name."""
    try:
        path = inside(run, name)
    except UserError as error:
        notes.append(f"{error}.")
        return {}
    if not path.is_file():
        return {}
    found = read_object(path)
    if not found:
        why = "is too large to be shown" if path.stat().st_size > LONGEST else "is no JSON object that says anything"
        notes.append(f"{name} {why} and was passed over; run `mmcycle evaluate` again.")
    return found


def verdicts(values: dict[str, Any]) -> tuple[Verdict, ...]:
    """The lines below "checks"; what has neither a name nor a sentence is none."""
    every = (mapping(check) for check in listing(values.get("checks"))[:MOST])
    return tuple(_verdict(check) for check in every if check.get("name") or check.get("told"))


def _verdict(check: dict[str, Any]) -> Verdict:
    name, told, advice = (_text(check.get(key)) for key in ("name", "told", "advice"))
    return Verdict(check["level"] if check.get("level") in LEVELS else "note", name, told, advice)


def sentences(values: dict[str, Any]) -> tuple[str, ...]:
    """Those below "notes"."""
    return tuple(_text(note) for note in listing(values.get("notes"))[:MOST] if isinstance(note, str))


def facts(about: object, names: tuple[str, ...]) -> tuple[Fact, ...]:
    """(label, value) of what "about" tells under these names."""
    told = mapping(about)
    there = [name for name in names if isinstance(told.get(name), str | int | float)]
    return tuple((name.replace("_", " "), _text(told[name])) for name in there)


def _examination(direction: str, values: dict[str, Any]) -> Examination:
    checks = [mapping(check) for check in listing(values.get("checks"))]
    decided = {str(check.get("score")): str(check.get("level")) for check in checks}
    named = [(str(name), mapping(one)) for name, one in values.items() if name not in NOT_SCORES]
    shown = [_shown(name, one, decided.get(name, "")) for name, one in named if math.isfinite(number(one.get("value")))]
    about = facts(values.get("about"), ("samples", "source", "real", "seed", "version", "model_sha256"))
    return Examination(direction, verdicts(values), tuple(shown[:MOST]), about, sentences(values))


def _shown(name: str, score: dict[str, Any], level: str) -> Shown:
    value, low, high = (number(score.get(key)) for key in INSIDE[:3])
    named = {case[:40]: number(one) for case, one in list(score.items())[:20] if case not in INSIDE}
    cases = {CASES.get(case, case): one for case, one in named.items() if math.isfinite(one)}
    topic, _, measure = name.rpartition(": ")
    return Shown(
        topic=topic[:40], name=measure[:80], told=MEASURES[name].told if name in MEASURES else "",
        value=short(value),
        interval=f"{short(low)} … {short(high)}" if math.isfinite(low) and math.isfinite(high) else "",
        beside=", ".join(f"{case} {short(one)}" for case, one in cases.items()),
        level=level if level in LEVELS else "",
        place=_place(name, value, (low, high), cases),
    )


def _place(name: str, value: float, interval: tuple[float, float], cases: dict[str, float]) -> Place | None:
    """Between the ends that the measure has; of a measure that is not known here, between the outermost numbers."""
    if name in MEASURES:
        worst, best = (_end(end, cases) for end in MEASURES[name][1:])
    else:
        rest = sorted(cases.items(), key=lambda case: case[1])
        worst, best = (rest[0], rest[-1]) if len(rest) > 1 else (None, None)
    if worst is None or best is None:
        return None
    others = {case: one for case, one in cases.items() if case not in OTHERS and one not in (worst[1], best[1])}
    return between(value, interval, worst, best, others)


def _end(end: End, cases: dict[str, float]) -> tuple[str, float] | None:
    """Where sources cannot be compared untranslated, shuffled ones stand in."""
    if not isinstance(end, str):
        return end
    every = [CASES.get(end, end)] + (["shuffled"] if end == "untranslated" else [])
    return next(((case, cases[case]) for case in every if case in cases), None)


def _text(value: object) -> str:
    return str(value)[:600] if isinstance(value, str | int | float) else ""
