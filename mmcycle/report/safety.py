"""How safe the labels of a data set are: what agrees with its source best and least, and how all scores are spread."""
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from mmcycle.report.curves import ticks
from mmcycle.report.numbers import count, short
from mmcycle.report.places import Mark
from mmcycle.report.rows import mapping, number

ENDS = 6                                        # records shown at either end, at most
BINS = 32
LISTED = 12                                     # items that were left out, by name

Row = dict[str, Any]


class Bar(NamedTuple):
    """Of the histogram, in percent of its width and height: what stays stands on what was left out."""

    at: float
    width: float
    kept: float
    left_out: float
    told: str


class Safety(NamedTuple):
    """The scores of all items, kept and left out."""

    bars: tuple[Bar, ...]
    ticks: tuple[Mark, ...]
    judge: str
    scored: str
    left_out: str
    cut: str                                    # the lowest score of what stays
    worst_out: tuple[tuple[str, str, str], ...]     # key, copy, score of what was left out, the worst first


def score_of(row: Row) -> float:
    """That of its stream that agrees least; NaN where no stream has one."""
    scores = [number(value) for name, value in mapping(row.get("params")).items() if str(name).endswith(".safety")]
    return min((score for score in scores if math.isfinite(score)), default=math.nan)


def ends(rows: list[Row]) -> tuple[list[Row], list[Row], list[Row]]:
    """Those that agree least, the worst first; best, the best first; and all others in their order."""
    scored = [row for row in rows if math.isfinite(score_of(row))]
    size = min(ENDS, len(scored) // 3)
    ordered = sorted(scored, key=score_of)
    low, high = ordered[:size], ordered[::-1][:size]
    shown = {id(row) for row in (*low, *high)}
    return low, high, [row for row in rows if id(row) not in shown]


def describe_safety(rows: list[Row], left_out: list[Row], job: Row) -> Safety | None:
    """None where nothing has a score. left_out: the rows of left_out.jsonl."""
    kept = [score for score in map(score_of, rows) if math.isfinite(score)]
    gone = sorted((row for row in left_out if math.isfinite(number(row.get("safety")))), key=lambda row: row["safety"])
    out = [number(row["safety"]) for row in gone]
    if not kept and not out:
        return None
    judges = ", ".join(str(name)[:80] for name in mapping(job.get("judges")).values())
    listed = tuple(
        (str(row.get("key"))[:200], str(row.get("copy") or "")[:20], short(row["safety"])) for row in gone[:LISTED]
    )
    bars, marks = _histogram(kept, out)
    return Safety(
        bars, marks, judge=f"{judges}, before and after" if judges else "the edges of source and translation",
        scored=count(len(kept) + len(out)), left_out=count(len(out)) if out else "",
        cut=short(min(kept)) if kept else "–", worst_out=listed,
    )


def _histogram(kept: Sequence[float], out: Sequence[float]) -> tuple[tuple[Bar, ...], tuple[Mark, ...]]:
    low, high = min([*kept, *out]), max([*kept, *out])
    low, high = (low, high) if high - low > 1e-6 * max(abs(low), abs(high), 1) else (low - 0.1, high + 0.1)
    marks = ticks(low, high)
    low, high = min(low, marks[0]), max(high, marks[-1])
    numbers = [[0] * BINS, [0] * BINS]
    for index, scores in enumerate((kept, out)):
        for score in scores:
            numbers[index][min(int((score - low) / (high - low) * BINS), BINS - 1)] += 1
    highest = max(one + other for one, other in zip(*numbers))
    step = (high - low) / BINS
    bars = tuple(
        Bar(
            at=round(100 * place / BINS, 2), width=round(92 / BINS, 2),
            kept=round(100 * stay / highest, 1), left_out=round(100 * gone / highest, 1),
            told=f"{short(low + place * step)} to {short(low + (place + 1) * step)}: {stay} kept, {gone} left out",
        )
        for place, (stay, gone) in enumerate(zip(*numbers)) if stay + gone
    )
    return bars, tuple(Mark(round(100 * (one - low) / (high - low), 2), short(one)) for one in marks)
