"""What the networks' answers say of a translation: a row for each training set, what ours is worth, and verdicts.

The headline is "ours and source", named beforehand; the best of the arms is never picked after the fact.
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np

from mmcycle.metrics.answers import MAIN, Asked
from mmcycle.metrics.downstream import gap_closed, interval, sign_flip
from mmcycle.metrics.trainings import Answered, Answers
from mmcycle.metrics.verdicts import Check, Level

HEADLINE = "ours and source"
PLACEBO = "ours, labels shuffled"
CHEAP = ("classic", "statistics", "fda")        # what costs nothing: the best of them is what ours must beat
UNSTABLE = 5.0                                  # points between two translators
HARM = 2.0                                      # points lost on the source's own test set
SURE = 3                                        # seeds, at least, before a gain is called good
GAP = 2.0                                       # points between oracle and source that can be closed

NO_GAIN = ("mmcycle evaluate RUN says whether the translations are unrealistic or unfaithful; train longer, leave out "
           "the least safe (--keep-best 0.8), or use the cheap augmentation")
MORE_SEEDS = "more seeds (--seeds 10), a larger test set"
NO_ROOM = "take a test set that the source does not prepare for, or be content with the source"
SWAPPED = "the test set leaks into what was taught, or is too small: look at both"
RETRAIN = "name runs of other seeds, and choose by what was not tested on; train longer, or raise loss.cycle"
FORGOTTEN = "train on translations and source together, or on more of the source"

Row = Mapping[str, Any]


def rows_of(answers: Answers, asked: Asked, source_test: Asked | None) -> tuple[dict[str, Any], ...]:
    """An arm each: its measures with mean, half_width (95 %, t over seeds) and scores, one for each seed.

    "translators" have mean and scores each, where any were at work.
    """
    rows, main = [], MAIN[asked.kind]
    for name in dict.fromkeys(arm for arm, _, _ in answers):
        mine = _of(answers, name)
        row: dict[str, Any] = {"name": name} | _measures([asked.score(one.test) for one in mine.values()])
        by: dict[int, list[float]] = {}
        for (translator, _), score in zip(mine, row[main]["scores"]):
            if translator is not None:
                by.setdefault(translator, []).append(score)
        row["translators"] = [{"mean": mean(by[number]), "scores": by[number]} for number in sorted(by)]
        if source_test is not None:
            row["source_test"] = _measures([source_test.score(one.source) for one in mine.values()])[main]
        rows.append(row)
    return tuple(rows)


def worth(answers: Answers, asked: Asked, seed: int = 0) -> dict[str, Any]:
    """The headline arm against the better cheap one, and how much of the way to the target's own labels is gone.

    p: sign flips over seeds. low, high: 95 % over redrawn test items, of the difference and of the closed gap.
    """
    main, draws = MAIN[asked.kind], asked.draws(seed)
    scores = {
        name: [asked.score(one.test)[main] for one in _of(answers, name).values()]
        for name in dict.fromkeys(arm for arm, _, _ in answers)
    }
    against = max((name for name in CHEAP if name in scores), key=lambda name: mean(scores[name]))
    drawn = {name: asked.redrawn([a.test for key, a in answers.items() if key[0] == name], draws)
             for name in ("source", HEADLINE, against, "oracle") if name in scores}
    low, high = np.quantile(drawn[HEADLINE] - drawn[against], (0.025, 0.975)).tolist()
    differences = [one - other for one, other in zip(scores[HEADLINE], scores[against])]
    found = {
        "arm": HEADLINE, "against": against, "measure": main, "difference": mean(differences), "low": low, "high": high,
        "differences": differences, "p": sign_flip(scores[HEADLINE], scores[against]), "seeds": len(differences),
    }
    return found | _gap(scores, drawn)


def _gap(scores: Mapping[str, Sequence[float]], drawn: Mapping[str, np.ndarray]) -> dict[str, Any]:
    if "oracle" not in scores or mean(scores["oracle"]) - mean(scores["source"]) < GAP:
        return {"gap_closed": None, "gap_low": None, "gap_high": None}
    closed = gap_closed(*(mean(scores[name]) for name in ("source", HEADLINE, "oracle")))
    way = drawn["oracle"] - drawn["source"]
    sure = way > 0
    shares = ((drawn[HEADLINE] - drawn["source"])[sure] / way[sure]) if sure.any() else np.array([math.nan])
    low, high = np.quantile(shares, (0.025, 0.975)).tolist()
    return {"gap_closed": closed, "gap_low": low, "gap_high": high}


def judge_gain(rows: Sequence[Row], gain: Row, asked: Asked) -> tuple[Check, ...]:
    """Every question that the scores can answer."""
    named = {row["name"]: row for row in rows}
    checks = (_gain(named, gain), _placebo(named, asked), _stable(named), _ceiling(named, gain), _harm(named))
    return tuple(check for check in checks if check is not None)


def _gain(rows: Mapping[str, Row], gain: Row) -> Check:
    ours, cheap = (rows[gain[which]][gain["measure"]]["mean"] for which in ("arm", "against"))
    seen = (f"{gain['arm']} {ours:.1f} against {gain['against']} {cheap:.1f}: {gain['difference']:+.1f}, 95 % over "
            f"test items {gain['low']:+.1f} to {gain['high']:+.1f}; p {gain['p']:.3g} over {gain['seeds']} seed"
            f"{'' if gain['seeds'] == 1 else 's'}")
    if gain["gap_closed"] is not None:
        seen += (f"; {gain['gap_closed']:.0%} of the gap closed, {gain['gap_low']:.0%} to {gain['gap_high']:.0%}")
    if gain["difference"] <= 0:
        return Check("gain", "bad", f"training on these translations does not help ({seen})", NO_GAIN, gain["measure"])
    if gain["low"] > 0 and min(gain["differences"]) > 0 and gain["seeds"] >= SURE:
        return Check("gain", "good", f"training on these translations helps ({seen})", "", gain["measure"])
    told = f"training on these translations may help, which is not sure yet ({seen})"
    return Check("gain", "weak", told, MORE_SEEDS, gain["measure"])


def _placebo(rows: Mapping[str, Row], asked: Asked) -> Check:
    """Of masks no chance is known, as many show the road below: there the true labels must be worth more."""
    measure = "balanced_accuracy" if asked.kind == "classes" else MAIN[asked.kind]
    found, ours = rows[PLACEBO][measure], rows["ours"][measure]["mean"]
    if asked.kind == "masks":
        seen = f"masks of other pictures {found['mean']:.1f}, the true ones {ours:.1f}"
        level: Level = "good" if ours > found["mean"] + 1 else "bad"
        advice = "" if level == "good" else NO_GAIN
        told = "the masks of the translations say more than where things usually are" if level == "good" else \
            "the masks of the translations say no more than where things usually are"
        return Check("placebo", level, f"{told} ({seen})", advice, measure)
    chance = 100 / int(asked.there.sum())
    reach = max(5.0, found["half_width"] if math.isfinite(found["half_width"]) else 15.0)
    seen = f"balanced accuracy {found['mean']:.1f}, chance {chance:.1f}"
    if found["mean"] <= chance + reach:
        return Check("placebo", "good", f"with shuffled labels nothing is learnt ({seen})", "", measure)
    return Check("placebo", "bad", f"with shuffled labels something is learnt all the same ({seen})", SWAPPED, measure)


def _stable(rows: Mapping[str, Row]) -> Check | None:
    """Whether translators differ by more than the seeds of one; nothing to say where each had one seed."""
    scores = [one["scores"] for one in rows[HEADLINE]["translators"]]
    if len(scores) < 2 or min(map(len, scores)) < 2:
        return None
    means = [mean(one) for one in scores]
    seen = f"{len(means)} translators: {', '.join(f'{one:.1f}' for one in means)}"
    if max(means) - min(means) > max(UNSTABLE, *(max(one) - min(one) for one in scores)):
        return Check("stable", "weak", f"unstable: it matters which run is taken ({seen})", RETRAIN, "translators")
    return Check("stable", "good", f"every run is worth about the same ({seen})", "", "translators")


def _ceiling(rows: Mapping[str, Row], gain: Row) -> Check | None:
    if "oracle" not in rows:
        return None
    source, oracle = (rows[name][gain["measure"]]["mean"] for name in ("source", "oracle"))
    seen = f"source {source:.1f}, labels of the target itself {oracle:.1f}"
    if oracle - source < GAP:
        told = f"there is no gap that a translation could close ({seen})"
        return Check("room", "weak", told, NO_ROOM, gain["measure"])
    return Check("room", "good", f"there is something to win ({seen})", "", gain["measure"])


def _harm(rows: Mapping[str, Row]) -> Check | None:
    if "source_test" not in rows[HEADLINE]:
        return None
    before, after = (rows[name]["source_test"]["mean"] for name in ("source", HEADLINE))
    seen = f"on the source's own test set {after:.1f}, before {before:.1f}"
    if after < before - HARM:
        told = f"what was known of the source is partly forgotten ({seen})"
        return Check("no harm", "weak", told, FORGOTTEN, "source_test")
    return Check("no harm", "good", f"nothing of the source is forgotten ({seen})", "", "source_test")


def _of(answers: Answers, name: str) -> dict[tuple[int | None, int], Answered]:
    """(translator, seed) -> what the networks of an arm answered, in the order of the seeds."""
    return {(translator, seed): one for (arm, translator, seed), one in answers.items() if arm == name}


def _measures(scores: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Measure -> mean, half_width and scores; "recall: cat" and the like go into one dict of means."""
    found: dict[str, Any] = {}
    for name in scores[0]:
        values = [one[name] for one in scores]
        group, colon, which = name.partition(": ")
        if colon:
            found.setdefault(group, {})[which] = mean(values)
        else:
            told = interval(values)
            found[name] = {"mean": told.mean, "half_width": told.half_width, "scores": values}
    return found
