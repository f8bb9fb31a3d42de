"""Does training on translations help on real recordings of the target? The same network, taught on each training set.

    found = downstream([Path("runs/day_to_night")], Question(test=Path("data/labelled_night")))
    for check in found.checks: print(check.level, check.told)

The translator never saw a label of the target; `test` is read when all networks are to be asked, and by nothing else.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mmcycle import __version__
from mmcycle.errors import UserError
from mmcycle.files import write_json
from mmcycle.generate.dataset import load_translator
from mmcycle.generate.shard import Loader, Share, Translates
from mmcycle.generate.translator import Translator
from mmcycle.metrics.answers import Asked
from mmcycle.metrics.arms import (
    Arm, fourier_of, picture_jitter, picture_light, shuffled, signal_jitter, sometimes, statistics_of,
)
from mmcycle.metrics.gain_verdicts import judge_gain, rows_of, worth
from mmcycle.metrics.labelled import Kind, Listing, Samples, Size, listing, read, values_of
from mmcycle.metrics.self_training import Unlabelled
from mmcycle.metrics.trainings import BATCH, Schooling, answers_of
from mmcycle.metrics.translated import translated
from mmcycle.metrics.verdicts import Check
from mmcycle.modality import Modality, find_modality

FEWEST_STEPS, FEWEST_PASSES = 600, 25           # of a network's training, unless told
STRIDE = 8                                      # of the built-in networks


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is compared with what.

    test         labelled recordings of the target, on which every network is asked
    source, real the labelled source, and recordings of the target (with labels: also an upper bound); those that the
                 runs were trained on where not given
    source_test  labelled recordings of the source: did a network get worse where it was at home?
    size         of every sample, (height, width); that of the target's training crops where not given
    voids        values of masks that count for nothing, beside 255
    self_train   every network also trains itself on `real`, whose labels it does not see
    """

    test: Path
    source: Path | None = None
    real: Path | None = None
    source_test: Path | None = None
    direction: Literal["ab", "ba"] = "ab"
    seeds: int = 5
    seed: int = 0
    size: Size | None = None
    learner: str | None = None
    steps: int | None = None
    copies: int = 1
    keep_best: float = 1.0
    voids: tuple[int, ...] = ()
    self_train: bool = False


@dataclass(frozen=True)
class Gain:
    """Every arm's scores, what ours is worth, a check for each question, and what it was found on."""

    about: dict[str, Any]
    arms: tuple[dict[str, Any], ...]
    gain: dict[str, Any]
    checks: tuple[Check, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; numbers that are not finite are null."""
        checks = [check._asdict() for check in self.checks]
        told = {"about": self.about, "arms": self.arms, "gain": self.gain, "checks": checks, "notes": self.notes}
        return _plain(told)


class _Listed(NamedTuple):
    """The four sets on disk."""

    source: Listing
    real: Listing
    test: Listing
    source_test: Listing | None


class _Stage(NamedTuple):
    """All that is in memory while networks are taught."""

    source: Samples
    ours: tuple[Samples, ...]
    target: Samples
    oracle: Samples | None
    asked: Asked
    source_test: Asked | None


def downstream(runs: Sequence[Path], question: Question, load: Loader = load_translator) -> Gain:
    """One translation, trained once or several times (RUNs), examined by what networks learn from it.

    Keeps translations, finished scores and the result in RUN/evaluation: the same call again goes on where it stopped.
    """
    translators = [load(run, question.direction, Share()) for run in _checked(runs, question)]
    source, target = _sensors(runs, translators)
    stream = type(source).__name__.lower()
    listed = _listed(question, translators[0], stream, target)
    kind, classes = _task(listed, question.voids)
    size = _size(question.size or target.shape[1:], kind)
    made = [
        translated(run, question.direction, one, listed.source, stream, question.copies, question.keep_best)
        for run, one in zip(runs, translators)
    ]
    notes: list[str] = []
    stage = _read(listed, made, target, size, kind, classes, notes)
    schooling = Schooling(
        steps=question.steps or _steps(len(stage.source), kind), learner=question.learner, zoom=_is_picture(target),
        seeds=tuple(range(question.seed, question.seed + question.seeds)),
        unlabelled=_unlabelled_of(stage.target, target) if question.self_train else None,
    )
    found = answers_of(partial(_arms, stage, target), stage.asked, stage.source_test, schooling, runs)
    rows = rows_of(found, stage.asked, stage.source_test)
    gain = worth(found, stage.asked, seed=question.seed)
    about = _about(runs, translators, question, listed, stage, classes, size, schooling)
    result = Gain(about, rows, gain, judge_gain(rows, gain, stage.asked), tuple(notes))
    for run in runs:
        write_json(run / "evaluation" / f"downstream_{question.direction}.json", result.to_dict())
    return result


def _checked(runs: Sequence[Path], question: Question) -> Sequence[Path]:
    for run in runs:
        if not run.is_dir():
            raise UserError(f"{run}: --downstream needs a run folder, in which it keeps what it made")
    if len({run.resolve() for run in runs}) < len(runs):
        raise UserError("a run is named twice; name runs of one config and several run.seed")
    for name, least in (("seeds", 1), ("steps", 1), ("copies", 1)):
        value = getattr(question, name)
        if value is not None and value < least:
            raise UserError(f"{name} is {value}; it must be {least} or more")
    if question.seeds > 20:
        raise UserError(f"seeds is {question.seeds}; 20 are as many as are ever needed")
    if question.seeds < len(runs):
        raise UserError(f"{len(runs)} runs and {question.seeds} seeds: every seed takes the next run, so name as many "
                        f"seeds or more (--seeds {len(runs)})")
    return runs


def _sensors(runs: Sequence[Path], translators: Sequence[Translates]) -> tuple[Modality, Modality]:
    """Source and target of all runs, which must be of one kind for the source itself to be a training set."""
    source, target = translators[0].source, translators[0].target
    for run, one in zip(runs, translators):
        if (one.source, one.target) != (source, target):
            raise UserError(
                f"{run} translates other domains than {runs[0]}; name runs of one config and several run.seed"
            )
    if type(source) is not type(target):
        raise UserError(
            f"{runs[0]} makes {type(target).__name__} of {type(source).__name__}: no network can be taught on both, so "
            "there is nothing to compare with; --downstream needs two domains of one sensor"
        )
    return source, target


def _listed(question: Question, translator: Translates, stream: str, target: Modality) -> _Listed:
    config = translator.config if isinstance(translator, Translator) else None
    sides = (None, None) if config is None else tuple(getattr(config, letter).root for letter in question.direction)
    roots = (_root(question.source, sides[0], "--source"), _root(question.real, sides[1], "--real"), question.test)
    roots += () if question.source_test is None else (question.source_test,)
    found = [listing(root, stream, target.suffixes) for root in roots]
    return _Listed(*found[:3], found[3] if len(found) > 3 else None)


def _root(given: Path | None, trained: Path | None, option: str) -> Path:
    root = given if given is not None else trained
    if root is None:
        raise UserError(f"the run does not say where its recordings lie; name a folder with {option}")
    return Path(root)


def _task(listed: _Listed, voids: tuple[int, ...]) -> tuple[Kind, tuple[str, ...] | tuple[int, ...]]:
    """Classes or masks, as the source has them, and the classes of the source; the test sets must be labelled alike."""
    kind = listed.source.kind
    if kind is None:
        raise UserError(_unlabelled(listed.source))
    for one in (listed.test, listed.source_test):
        if one is not None and not _has(one, kind):
            raise UserError(f"{one.root}: the source has {kind}; {_unlabelled(one)}")
    classes = _classes(listed.source, kind, voids)
    if len(classes) < 2:
        only = classes[0] if classes else "void"
        raise UserError(f"{listed.source.root}: all its labels are {only!r}; two classes or more are needed")
    for one in (listed.test, listed.source_test):
        strange = sorted(set(_classes(one, kind, voids)) - set(classes)) if one is not None else ()
        if strange:
            advice = "leave it out, or name it with --void" if kind == "masks" else "leave it out"
            raise UserError(
                f"{one.root}: has {', '.join(map(str, strange[:5]))}, of which the source {listed.source.root} has "
                f"none ({', '.join(map(str, classes[:20]))}); {advice}"
            )
    return kind, classes


def _has(listed: Listing, kind: Kind) -> bool:
    return all((item.mask if kind == "masks" else item.name) is not None for item in listed.items)


def _classes(listed: Listing, kind: Kind, voids: tuple[int, ...]) -> tuple[str, ...] | tuple[int, ...]:
    return listed.names() if kind == "classes" else values_of(listed, voids)


def _unlabelled(listed: Listing) -> str:
    named, masked = (sum(one is not None for one in each) for each in zip(*((i.name, i.mask) for i in listed.items)))
    return (f"{listed.root}: of {len(listed.items)} recordings (layout {listed.layout}) {named} have a class and "
            f"{masked} a mask; give all of them one: a folder for each class, a labels.csv with the columns file and "
            "label, or masks/ beside the pictures")


def _size(asked: Size, kind: Kind) -> Size:
    """What the networks see: multiples of 8 for masks, 8 at least."""
    if min(asked) < STRIDE:
        raise UserError(f"size {asked[0]}x{asked[1]} is too small; {STRIDE}x{STRIDE} is the least")
    return tuple(round(side / STRIDE) * STRIDE for side in asked) if kind == "masks" else tuple(asked)


def _steps(count: int, kind: Kind) -> int:
    return max(FEWEST_STEPS, math.ceil(FEWEST_PASSES * count / BATCH[kind]))


def _is_picture(modality: Modality) -> bool:
    """Colour and blur mean something in pictures alone."""
    return type(modality) is find_modality("image")


def _unlabelled_of(real: Samples, target: Modality) -> Unlabelled:
    return Unlabelled(real.x, picture_light if _is_picture(target) else signal_jitter)


def _read(
    listed: _Listed, made: Sequence[Listing], target: Modality, size: Size, kind: Kind, classes: Sequence[str | int],
    notes: list[str],
) -> _Stage:
    get = partial(read, modality=target, size=size, classes=classes)
    labelled = _has(listed.real, kind)
    real = get(listed.real, kind=kind if labelled else None)
    names = tuple(map(str, classes))
    asked = Asked(get(listed.test, kind=kind), names, kind)
    absent = [name for name, there in zip(names, asked.there) if not there]
    if absent:
        notes.append(f"the test set shows no {', '.join(absent)}: left out of means over classes")
    if not labelled:
        notes.append(f"{listed.real.root} is not labelled: no upper bound, and no gap that could be closed")
    own = None if listed.source_test is None else Asked(get(listed.source_test, kind=kind), names, kind)
    ours = tuple(get(one, kind=kind) for one in made)
    return _Stage(get(listed.source, kind=kind), ours, real, _known(real, notes) if labelled else None, asked, own)


def _known(real: Samples, notes: list[str]) -> Samples | None:
    """Of labelled recordings of the target those whose class the source has, too."""
    known = (real.y >= 0).flatten(1).any(1) if real.y.ndim > 1 else real.y >= 0
    if not known.all():
        notes.append(f"{int((~known).sum())} recordings of the target are of no class of the source: not in the oracle")
    groups = tuple(group for group, one in zip(real.groups, known.tolist()) if one)
    return Samples(real.x[known], real.y[known], groups) if known.any() else None


def _arms(stage: _Stage, target: Modality, seed: int) -> list[Arm]:
    """Every training set; each is a fair one: the same number of steps, the same small shifts, the same seed.

    The translators take turns, so that what seeds differ by is what another training of everything would differ by.
    """
    classic = picture_jitter if _is_picture(target) else signal_jitter
    fda = fourier_of(stage.target.x) if _is_picture(target) else None
    depends = stage.target.sha256
    number = seed % len(stage.ours)
    ours = stage.ours[number]
    found = [
        Arm("source", (stage.source,)),
        Arm("classic", (stage.source,), classic),
        Arm("statistics", (stage.source,), statistics_of(stage.target.x), depends=depends),
        Arm("fda", (stage.source,), fda, depends=depends) if fda else None,
        Arm("ours", (ours,), translator=number),
        Arm("ours and source", (ours, stage.source), translator=number),
        Arm("ours with classic", (ours, stage.source), classic, translator=number),
        Arm("ours with fda", (ours, stage.source), sometimes(fda), number, depends) if fda else None,
        Arm("ours, labels shuffled", (shuffled(ours, seed),), translator=number),
        Arm("oracle", (stage.oracle,)) if stage.oracle is not None else None,
    ]
    return [arm for arm in found if arm is not None]


def _about(
    runs: Sequence[Path], translators: Sequence[Translates], question: Question, listed: _Listed, stage: _Stage,
    classes: Sequence[str | int], size: Size, schooling: Schooling,
) -> dict[str, Any]:
    sets = {"source": stage.source, "real": stage.target, "test": stage.asked.samples}
    sets |= {} if stage.source_test is None else {"source_test": stage.source_test.samples}
    roots = dict(zip(("source", "real", "test", "source_test"), listed))
    return {
        "runs": [{"run": str(run), "model_sha256": one.sha256} for run, one in zip(runs, translators)],
        "direction": question.direction, "task": stage.asked.kind, "classes": [str(one) for one in classes],
        "sets": {
            name: {"root": str(roots[name].root), "count": len(samples), "sha256": samples.sha256}
            for name, samples in sets.items()
        },
        "translated": [len(ours) for ours in stage.ours], "size": list(size), "steps": schooling.steps,
        "batch": BATCH[stage.asked.kind], "seeds": list(schooling.seeds), "learner": schooling.learner or "built in",
        "self_train": question.self_train, "copies": question.copies, "keep_best": question.keep_best,
        "headline": "ours and source", "version": __version__,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
