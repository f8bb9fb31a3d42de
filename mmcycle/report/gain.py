"""What `mmcycle evaluate --downstream` found: the arms that were trained, on one axis, as run.html shows them."""
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from mmcycle.report.curves import ticks
from mmcycle.report.numbers import Card, count, short
from mmcycle.report.places import Mark, Place, on_axis
from mmcycle.report.rows import listing, mapping, number
from mmcycle.report.scores import Fact, Verdict, facts, read_found, sentences, verdicts

ARMS, MEASURES, CLASSES, SCORES = 24, 4, 60, 200        # shown at most, of each
GUIDES = ("source", "oracle")                   # arms that the others are compared with
LEAST = 10.0                                    # points that an axis of per cents is long
ABOUT = ("task", "learner", "self_train", "steps", "batch", "copies", "keep_best", "version")
PER_CENT = re.compile(r"accuracy|iou|recall|precision|f1|source_test")
CALLED = {"source_test": "on the source's own test set"}


class Arm(NamedTuple):
    """One training set, by its mean over seeds ± half of the 95 % interval; its marks are single seeds."""

    name: str
    told: str
    value: str
    half: str
    place: Place
    headline: bool


class Chart(NamedTuple):
    """All arms by one measure; guides are where the arms of GUIDES lie."""

    measure: str
    unit: str
    arms: tuple[Arm, ...]
    guides: tuple[Mark, ...]
    ticks: tuple[Mark, ...]


class Classes(NamedTuple):
    """One measure class by class: a row of text for each, a column for each arm."""

    measure: str
    arms: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


class Gain(NamedTuple):
    """One direction."""

    direction: str
    verdicts: tuple[Verdict, ...]
    cards: list[Card]
    charts: tuple[Chart, ...]
    classes: tuple[Classes, ...]
    facts: tuple[Fact, ...]
    notes: tuple[str, ...]


def gains(run: Path, notes: list[str]) -> list[Gain]:
    """Of each direction that was measured; `notes` takes what cannot be read."""
    shown = []
    for way in ("ab", "ba"):
        values = read_found(run, f"evaluation/downstream_{way}.json", notes)
        if values:
            arms = [mapping(arm) for arm in listing(values.get("arms"))[:ARMS]]
            about = mapping(values.get("about"))
            gain = mapping(values.get("gain"))
            cards, charts = _cards(gain), _charts(arms, about.get("headline"), gain.get("measure"))
            shown.append(Gain(way, verdicts(values), cards, charts, _classes(arms), _facts(about), sentences(values)))
    return shown


def _cards(gain: dict[str, Any]) -> list[Card]:
    """What the headline arm is worth, in large type."""
    difference, p, closed = (number(gain.get(key)) for key in ("difference", "p", "gap_closed"))
    cards = []
    if math.isfinite(difference):
        against = f"{str(gain.get('arm'))[:40]} against {str(gain.get('against'))[:40]}"
        interval = _interval(gain, "low", "high", 1)
        cards.append(Card("gain, points", f"{difference:+.1f}", f"{interval}; {against}" if interval else against,
                          alarm=difference < 0))
    if math.isfinite(closed):
        share = min(max(closed, 0.0), 1.0)
        cards.append(Card("gap closed", f"{100 * closed:.0f} %", _interval(gain, "gap_low", "gap_high", 100), share))
    if math.isfinite(p):
        seeds = number(gain.get("seeds"))
        cards.append(Card("p", short(p), f"sign flips over {count(seeds)} seeds" if math.isfinite(seeds) else ""))
    return cards


def _interval(gain: dict[str, Any], low: str, high: str, scale: int) -> str:
    ends = [scale * number(gain.get(key)) for key in (low, high)]
    return f"95 %: {ends[0]:.0f} … {ends[1]:.0f}" if all(map(math.isfinite, ends)) else ""


def _charts(arms: list[dict[str, Any]], headline: object, main: object) -> tuple[Chart, ...]:
    """One for each measure of which any arm has a mean; of the main one single translators are told, too."""
    names = dict.fromkeys(str(key) for arm in arms for key, one in arm.items() if math.isfinite(_mean(one)))
    return tuple(_chart(name, arms, headline, name == main) for name in list(names)[:MEASURES])


def _chart(measure: str, arms: list[dict[str, Any]], headline: object, main: bool) -> Chart:
    arms = [arm for arm in arms if math.isfinite(_mean(arm.get(measure)))]
    unit, scale = _unit(measure, [_mean(arm[measure]) for arm in arms])
    means = [scale * _mean(arm[measure]) for arm in arms]
    halves = [scale * abs(number(arm[measure].get("half_width"))) for arm in arms]
    singles = [[scale * one for one in _finite(arm[measure].get("scores"))] for arm in arms]
    reached = [mean + way * half for mean, half in zip(means, halves) for way in (-1, 1) if math.isfinite(half)]
    reached = [min(max(one, 0.0), 100.0) for one in reached] if unit else reached
    marks, axis = _axis([*means, *reached, *(one for every in singles for one in every)], unit)
    guides = {str(arm.get("name")): mean for arm, mean in zip(arms, means) if arm.get("name") in GUIDES}
    drawn, lines = [], ()
    for arm, mean, half, each in zip(arms, means, halves, singles):
        place, lines = on_axis(mean, half, axis, each, guides)
        told = _told(half, unit) if math.isfinite(half) else ""
        first = headline is not None and arm.get("name") == headline
        each_of = _translators(arm, unit) if main else ""
        drawn.append(Arm(_name(arm), each_of, _told(mean, unit), told, place, first))
    labels = tuple(Mark(on_axis(one, math.nan, axis)[0].dot, f"{short(one)}{unit and ' ' + unit}") for one in marks)
    return Chart(CALLED.get(measure, measure.replace("_", " "))[:60], unit, tuple(drawn), lines, labels)


def _unit(measure: str, means: list[float]) -> tuple[str, float]:
    """Accuracies and overlaps are told in per cent, whether they are written so or as shares."""
    if not PER_CENT.search(measure.lower()) or not all(0 <= one <= 100 for one in means):
        return "", 1.0
    return "%", 100.0 if all(one <= 1 for one in means) and any(means) else 1.0


def _axis(values: list[float], unit: str) -> tuple[list[float], tuple[float, float]]:
    """Round numbers, and the ends of what holds them and every value; a few per cent do not look like many."""
    low, high = min(values), max(values)
    least = LEAST if unit else max(0.05 * abs(high), 1e-3)
    if high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
        low, high = (100 - least, 100.0) if unit and high > 100 else (0.0, least) if unit and low < 0 else (low, high)
    marks = ticks(low, high)
    return marks, (min(low, marks[0]), max(high, marks[-1]))


def _translators(arm: dict[str, Any], unit: str) -> str:
    """What each of several translators is worth, where that is told."""
    every = arm.get("translators")
    found = _finite([mapping(one).get("mean") for one in every] if isinstance(every, list) else None)
    return f"translators {', '.join(_told(one, unit) for one in found[:8])}" if len(found) > 1 else ""


def _classes(arms: list[dict[str, Any]]) -> tuple[Classes, ...]:
    """Measures that are told class by class: {"recall": {"red": 80, "green": 74}}."""
    named: dict[str, dict[str, None]] = {}
    for arm in arms:
        for measure, by in arm.items():
            if "mean" not in mapping(by) and any(math.isfinite(number(one)) for one in mapping(by).values()):
                named.setdefault(measure, {}).update(dict.fromkeys(by))
    return tuple(_table(measure, list(names)[:CLASSES], arms) for measure, names in list(named.items())[:MEASURES])


def _table(measure: str, names: list[str], arms: list[dict[str, Any]]) -> Classes:
    there = [arm for arm in arms if any(math.isfinite(number(mapping(arm.get(measure)).get(name))) for name in names)]
    values = {name: [number(mapping(arm.get(measure)).get(name)) for arm in there] for name in names}
    unit, scale = _unit(measure, [one for row in values.values() for one in row if math.isfinite(one)])
    rows = tuple((str(name)[:60], tuple(_told(scale * one, unit) for one in row)) for name, row in values.items())
    return Classes(f"{measure.replace('_', ' ')[:60]}{unit and ', ' + unit}", tuple(map(_name, there)), rows)


def _facts(about: dict[str, Any]) -> tuple[Fact, ...]:
    """What was compared: the sets with their sizes, the models, the seeds."""
    told: list[Fact] = []
    for name, one in list(mapping(about.get("sets")).items())[:8]:
        size = number(mapping(one).get("count"))
        told.append((str(name).replace("_", " ")[:40], f"{str(mapping(one).get('root'))[:200]} ({count(size)})"))
    for one in listing(about.get("runs"))[:8]:
        told.append(("model", f"{str(mapping(one).get('run'))[:200]} {str(mapping(one).get('model_sha256'))[:12]}"))
    seeds = [short(one) for one in _finite(about.get("seeds"))]
    return (*told, *facts(about, ABOUT), *([("seeds", ", ".join(seeds[:20]))] if seeds else []))


def _finite(values: object) -> list[float]:
    found = (number(value) for value in listing(values)[:SCORES])
    return [value for value in found if math.isfinite(value)]


def _mean(one: object) -> float:
    return number(mapping(one).get("mean"))


def _name(arm: dict[str, Any]) -> str:
    return str(arm.get("name", "no name"))[:80]


def _told(value: float, unit: str) -> str:
    return f"{value:.1f}" if unit and math.isfinite(value) else short(value)
