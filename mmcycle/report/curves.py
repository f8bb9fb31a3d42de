"""Curves: numbers over steps -> the geometry of a chart, which the page draws as SVG.

Lengths are in the units of a WIDTH x HEIGHT view box; the plot fills it between the margins.
"""
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mmcycle.report.numbers import short

WIDTH, HEIGHT = 480, 210
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 8, 24
MOST_POINTS = 320                               # on one line: more cannot be seen
OUTSIDE = 0.01                                  # share of the values that may lie outside: one spike hides nothing

Points = Sequence[tuple[float, float]]          # (step, value); NaN values are gaps
Scale = Callable[[float], float]                # value -> position


@dataclass(frozen=True)
class Line:
    """One series: `raw` and `smooth` are SVG path data."""

    name: str
    raw: str
    smooth: str
    last: str
    lowest: str
    highest: str


@dataclass(frozen=True)
class Chart:
    """Ticks are (position, label); marks are positions on the x axis, where the run was resumed."""

    title: str
    caption: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    marks: tuple[float, ...]


def chart(
    title: str, series: Mapping[str, Points], caption: str = "", marks: Sequence[float] = (), exact: bool = False
) -> Chart | None:
    """Series by name -> a chart; None when there is not one finite value.

    An exact series (a schedule, a count) is not smoothed, and shown from zero.
    """
    finite = [(step, value) for points in series.values() for step, value in points if math.isfinite(value)]
    if not finite:
        return None
    steps = _span([step for step, _ in finite], outside=0)
    soft = {name: points if exact else smoothed(points) for name, points in series.items()}
    also = [value for points in soft.values() for _, value in points]
    values = _span([value for _, value in finite], outside=OUTSIDE, also=[*also, 0.0] if exact else also)
    y_ticks = ticks(*values)
    low, high = min(values[0], y_ticks[0]), max(values[1], y_ticks[-1])
    x, y = _scale(*steps, LEFT, WIDTH - RIGHT), _scale(low, high, HEIGHT - BOTTOM, TOP)
    lines = tuple(_line(name, points, soft[name], x, y) for name, points in series.items() if _any_finite(points))
    return Chart(
        title=title,
        caption=caption,
        lines=lines,
        x_ticks=tuple((round(x(step), 1), short(step)) for step in ticks(*steps)),
        y_ticks=tuple((round(y(value), 1), label) for value, label in zip(y_ticks, _labels(y_ticks))),
        marks=tuple(round(x(step), 1) for step in marks if steps[0] < step < steps[1]),
    )


def smoothed(points: Points) -> list[tuple[float, float]]:
    """Exponential moving average over about a fortieth of the points, without a bias towards 0 at the start.

    Gaps stay gaps and are not averaged in.
    """
    keep = 1 - 1 / max(1.0, len(points) / 40)
    total = weight = 0.0
    result = []
    for step, value in points:
        if math.isfinite(value):
            total, weight = keep * total + value, keep * weight + 1
            result.append((step, total / weight))
        else:
            result.append((step, math.nan))
    return result


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers (1, 2, 5 times a power of ten) in [low, high], about `wanted` of them and at least two."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    gap = min((factor * power for factor in (1, 2, 5, 10)), key=lambda gap: abs(gap - rough))
    found = [index * gap for index in range(math.ceil(low / gap - 1e-9), math.floor(high / gap + 1e-9) + 1)]
    return found if len(found) > 1 else [low, high]


def _labels(values: Sequence[float]) -> list[str]:
    """Short, with more digits where two would be told alike: 1.002 and 1.004."""
    told = [short(value) for value in values]
    if len(set(told)) == len(told):
        return told
    digits = -math.floor(math.log10(abs(values[1] - values[0])))
    return [f"{value:.{min(max(digits, 0), 12)}f}" for value in values]


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    """[low, high] -> [start, end]."""
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _line(name: str, points: Points, soft: Points, x: Scale, y: Scale) -> Line:
    values = [value for _, value in points if math.isfinite(value)]
    return Line(
        name=name,
        raw=_path(_thinned(points), x, y),
        smooth=_path(_every(soft), x, y),
        last=short(values[-1]),
        lowest=short(min(values)),
        highest=short(max(values)),
    )


def _path(points: Points, x: Scale, y: Scale) -> str:
    """SVG path data that lifts the pen at gaps."""
    parts, down = [], False
    for step, value in points:
        if math.isfinite(value):
            parts.append(f"{'L' if down else 'M'}{x(step):.1f} {min(max(y(value), -999), 999):.1f}")
        down = math.isfinite(value)
    return "".join(parts)


def _thinned(points: Points) -> Points:
    """At most MOST_POINTS, keeping the lowest and the highest of each stretch, so that spikes and gaps stay visible."""
    if len(points) <= MOST_POINTS:
        return points
    size = math.ceil(2 * len(points) / MOST_POINTS)
    kept = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        gap = next((point for point in stretch if not math.isfinite(point[1])), None)
        finite = [point for point in stretch if math.isfinite(point[1])]
        extremes = {min(finite, key=lambda p: p[1]), max(finite, key=lambda p: p[1])} if finite else set()
        kept += sorted(extremes | ({gap} if gap else set()), key=lambda p: p[0])
    return kept


def _every(points: Points) -> Points:
    """At most MOST_POINTS, evenly chosen, with the last one."""
    stride = math.ceil(len(points) / MOST_POINTS)
    return points[(len(points) - 1) % stride :: stride]


def _span(values: Sequence[float], outside: float, also: Sequence[float] = ()) -> tuple[float, float]:
    """The interval that holds all but a share of the values, and all of `also`; never empty."""
    ordered = sorted(values)
    cut = int(len(ordered) * outside / 2)
    finite = [value for value in also if math.isfinite(value)]
    low, high = min([ordered[cut], *finite]), max([ordered[-1 - cut], *finite])
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        pad = abs(low) * 0.1 or 1.0
        return low - pad, high + pad
    return low, high


def _any_finite(points: Points) -> bool:
    return any(math.isfinite(value) for _, value in points)
