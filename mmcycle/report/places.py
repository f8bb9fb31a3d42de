"""Places: where a number lies on a line between known cases, in percent of its length, as the page draws it."""
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmcycle.report.numbers import short

BEYOND = 0.5                                    # of the way between the ends: how far outside of them a line reaches
MARGIN = 3.0                                    # percent at either side, so that a dot is drawn whole


class Mark(NamedTuple):
    """A known case on the line, or one of many measurements."""

    at: float
    told: str = ""


class Place(NamedTuple):
    """A dot, the interval around it, and what else is on the line; all from 0 to 100."""

    dot: float
    span: tuple[float, float] | None
    marks: tuple[Mark, ...]                     # of two known cases: the worst, the best, then others


def between(
    value: float, interval: tuple[float, float], worst: tuple[str, float], best: tuple[str, float],
    others: Mapping[str, float] = {},
) -> Place | None:
    """The worst known case is on the left and the best on the right, whichever is the larger number."""
    (_, start), (_, end) = worst, best
    if not all(map(math.isfinite, (value, start, end))) or start == end:
        return None
    share = {one: min(max((one - start) / (end - start), -BEYOND), 1 + BEYOND)
             for one in (value, start, end, *others.values(), *interval) if math.isfinite(one)}
    low, high = min(share.values()), max(share.values())

    def at(one: float) -> float:
        return _percent((share[one] - low) / (high - low))

    known = {worst[0]: start, best[0]: end} | {name: one for name, one in others.items() if math.isfinite(one)}
    inner = sorted(map(at, interval)) if all(map(math.isfinite, interval)) else None
    return Place(
        dot=at(value), span=(inner[0], inner[1]) if inner else None,
        marks=tuple(Mark(at(one), f"{name} {short(one)}") for name, one in known.items()),    )


def on_axis(
    value: float, half: float, axis: tuple[float, float], each: Sequence[float] = (), guides: Mapping[str, float] = {}
) -> tuple[Place, tuple[Mark, ...]]:
    """value ± half on an axis that many lines share, with marks for single measurements; and the guides on it."""
    low, high = axis

    def at(one: float) -> float:
        return _percent((min(max(one, low), high) - low) / (high - low))

    span = (at(value - half), at(value + half)) if math.isfinite(half) else None
    singles = tuple(Mark(at(one), short(one)) for one in each if math.isfinite(one))
    return Place(at(value), span, singles), tuple(Mark(at(one), name) for name, one in guides.items())


def _percent(share: float) -> float:
    return round(MARGIN + share * (100 - 2 * MARGIN), 2)
