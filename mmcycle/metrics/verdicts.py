"""What the scores of an evaluation mean: for each question a level, a sentence, and what to do where it is not good."""
from collections.abc import Mapping
from typing import Literal, NamedTuple

from mmcycle.metrics.realism import way_gone
from mmcycle.metrics.recall import chance_of
from mmcycle.metrics.score import Score

Level = Literal["good", "weak", "bad"]

ALIKE = 0.05                                # kernel distance above the floor that is as good as real
GONE = 0.5                                  # share of the way to real recordings that is worth having
RARE = 0.001                                # how unlikely luck must be

REALISM = ("train longer; raise train.steps or model.width, lower loss.cycle and loss.identity, or set "
           "train.diff_augment where recordings are few")
FAITHFUL = "raise loss.cycle, set loss.consistency: both, or loss.low_resolution; balance what the two folders show"
LOST = f"do not train on these translations with the labels of their sources; {FAITHFUL}"
CYCLE = "raise loss.cycle, or train longer"
HIDDEN = "the way back reads a message hidden in the translation; lower loss.cycle, or set loss.consistency: nce"
COLLAPSE = "go back to an earlier checkpoint; lower train.lr, set loss.r1: 1, or set train.diff_augment"
UNCHANGED = "lower loss.identity and loss.cycle, or train longer"
INVERTED = ("right where one domain is a negative of the other (thermal, sketch), else set loss.low_resolution, "
            "raise loss.identity, or begin again with another run.seed")


class Check(NamedTuple):
    """The answer to one question; `score` names the number that decided."""

    name: str
    level: Level
    told: str
    advice: str
    score: str


def judge(scores: Mapping[str, Score], samples: int) -> tuple[Check, ...]:
    """Every question that the scores can answer, in the order of a report."""
    asked = (
        _realistic(scores), _faithful(scores, samples), _structure(scores), _cycle(scores), _pairs(scores),
        _contrast(scores), _varied(scores), _changed(scores), _upright(scores),
    )
    return tuple(check for check in asked if check is not None)


def _realistic(scores: Mapping[str, Score]) -> Check:
    name = "realism: kernel distance"
    score, gone = scores[name], way_gone(scores["realism: frechet distance"])
    floor, start = score.beside["floor"], score.beside.get("untranslated")
    seen = f"kernel distance {score.value:.3f}, real recordings from each other {floor:.3f}"
    seen += "" if start is None else f", untranslated {start:.3f}"
    if score.value <= floor + max(ALIKE, 2 * score.beside["error"]) and (gone is None or gone > GONE):
        return Check("realistic", "good", f"translations look like real recordings ({seen})", "", name)
    if (gone is None and start is None and score.value < 0.3) or (gone is not None and gone > GONE):
        way = "" if gone is None else f"{gone:.0%} of the way is gone, but "
        return Check("realistic", "weak", f"{way}translations can be told from real recordings ({seen})", REALISM, name)
    nearer = "" if gone is None or gone < 0.1 else f" beyond {gone:.0%} of the way"
    return Check("realistic", "bad", f"translations do not look like real recordings{nearer} ({seen})", REALISM, name)


def _faithful(scores: Mapping[str, Score], samples: int) -> Check:
    name = "faithfulness: source found"
    if name not in scores:
        return _layout(scores["faithfulness: layout kept"])
    score = scores[name]
    seen = f"{score.value:.0%} of translations are most like their own source, chance is {score.beside['chance']:.1%}"
    if chance_of(round(score.value * samples), samples) > RARE and score.value < 1:
        return Check("faithful", "bad", f"translations do not show what their sources show ({seen})", LOST, name)
    if score.value < 0.5:
        return Check("faithful", "weak", f"much of what tells sources apart is lost ({seen})", FAITHFUL, name)
    return Check("faithful", "good", f"translations show what their sources show ({seen})", "", name)


def _layout(score: Score) -> Check:
    """Between two sensors there is only who resembles whom."""
    name = "faithfulness: layout kept"
    seen = f"correlation {score.value:.2f}, by chance up to {score.beside['shuffled']:.2f}"
    if score.value <= score.beside["shuffled"]:
        return Check("faithful", "bad", f"alike sources do not become alike translations ({seen})", LOST, name)
    level: Level = "weak" if score.value < 0.3 else "good"
    advice = FAITHFUL if level == "weak" else ""
    return Check("faithful", level, f"alike sources become alike translations ({seen})", advice, name)


def _structure(scores: Mapping[str, Score]) -> Check | None:
    name = "faithfulness: structure"
    if name not in scores:
        return None
    score = scores[name]
    strangers = score.beside["shuffled"]
    kept = (score.value - strangers) / max(1 - strangers, 1e-6)
    seen = f"agreement of edges {score.value:.2f}, with strangers {strangers:.2f}"
    if kept >= 0.3:
        return Check("in place", "good", f"things stay where they are ({seen})", "", name)
    if kept >= 0.1:
        return Check("in place", "weak", f"many edges moved, went or came ({seen})", FAITHFUL, name)
    return Check("in place", "bad", f"edges are not where they were ({seen})", LOST, name)


def _cycle(scores: Mapping[str, Score]) -> Check | None:
    name = "cycle: l1"
    if name not in scores:
        return None
    score = scores[name]
    share, whisper = score.value / max(score.beside["shuffled"], 1e-9), score.beside["after a whisper"]
    seen = f"error {score.value:.3f}, against strangers {score.beside['shuffled']:.3f}, after a whisper {whisper:.3f}"
    if share > 0.6:
        return Check("reversible", "bad", f"the way back does not lead to the source ({seen})", CYCLE, name)
    if whisper > 2 * score.value and whisper > 0.02:
        return Check("reversible", "weak", f"noise that nobody sees doubles the error or more ({seen})", HIDDEN, name)
    if share > 0.3:
        return Check("reversible", "weak", f"the way back loses much of the source ({seen})", CYCLE, name)
    return Check("reversible", "good", f"the way back leads to the source ({seen})", "", name)


def _pairs(scores: Mapping[str, Score]) -> Check | None:
    name = "pairs: l1"
    if name not in scores:
        return None
    score = scores[name]
    before = score.beside.get("untranslated", score.beside["shuffled"])
    seen = ", ".join(f"{which} {value:.3f}" for which, value in [("error", score.value), *score.beside.items()])
    if score.high < min(before, score.beside["shuffled"]):
        return Check("true", "good", f"translations come nearer to their true partners ({seen})", "", name)
    if score.value < min(before, score.beside["shuffled"]):
        return Check("true", "weak", f"translations come hardly nearer to their true partners ({seen})", LOST, name)
    return Check("true", "bad", f"translations are no nearer to their true partners ({seen})", LOST, name)


def _contrast(scores: Mapping[str, Score]) -> Check:
    name = "collapse: contrast"
    value = scores[name].value
    seen = f"{value:.2f} times the contrast of real recordings"
    if value > 2:
        return Check("contrast", "weak", f"translations are harsh ({seen})", COLLAPSE, name)
    if value > 0.5:
        return Check("contrast", "good", f"translations are neither flat nor harsh ({seen})", "", name)
    return Check("contrast", "weak" if value > 0.2 else "bad", f"translations are flat ({seen})", COLLAPSE, name)


def _varied(scores: Mapping[str, Score]) -> Check:
    name = "collapse: diversity"
    value = scores[name].value
    level: Level = "good" if value > 0.6 else "weak" if value > 0.3 else "bad"
    told = "translations differ as real recordings do" if level == "good" else "translations are much alike"
    return Check("varied", level, f"{told} ({value:.2f} of the distance)", "" if level == "good" else COLLAPSE, name)


def _changed(scores: Mapping[str, Score]) -> Check | None:
    name = "collapse: change"
    if name not in scores:
        return None
    value = scores[name].value
    level: Level = "good" if value > 0.03 else "weak" if value > 0.01 else "bad"
    told = "translations differ from their sources" if level == "good" else "translations are copies of their sources"
    seen = f"by {value:.1%} of what two sources differ"
    return Check("changed", level, f"{told} ({seen})", "" if level == "good" else UNCHANGED, name)


def _upright(scores: Mapping[str, Score]) -> Check | None:
    name = "collapse: intensity correlation"
    if name not in scores:
        return None
    score = scores[name]
    level: Level = "bad" if score.value < -0.3 else "weak" if score.high < 0 else "good"
    told = "light stays light and dark stays dark" if level == "good" else "light and dark are turned round"
    seen = f"correlation {score.value:.2f}, negative in {score.beside['negative']:.0%}"
    return Check("upright", level, f"{told} ({seen})", "" if level == "good" else INVERTED, name)
