"""Every network that a comparison of training sets needs: taught one after the other, each remembered once done."""
from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmcycle import __version__
from mmcycle.files import write_text
from mmcycle.metrics import answers, arms, downstream, learner, self_training
from mmcycle.metrics.answers import MAIN, Asked
from mmcycle.metrics.arms import Arm, Batches
from mmcycle.metrics.learner import Learner, find_learner, teach
from mmcycle.metrics.self_training import Unlabelled

SCORES = Path("evaluation", "downstream", "scores")
BATCH = {"classes": 32, "masks": 8}


class Schooling(NamedTuple):
    """How every network of a comparison is taught. learner: see `find_learner`; zoom: see `Batches`; unlabelled: on
    which recordings every network also trains itself.
    """

    steps: int
    seeds: tuple[int, ...]
    learner: str | None
    zoom: bool
    unlabelled: Unlabelled | None = None


class Answered(NamedTuple):
    """One network's answers, as `answers` keeps them; `source` on the source's own test set, where there is one."""

    test: np.ndarray
    source: np.ndarray | None


Answers = dict[tuple[str, int | None, int], Answered]       # name of the arm, translator, seed


def answers_of(
    arms_of: Callable[[int], Sequence[Arm]], asked: Asked, source_test: Asked | None, schooling: Schooling,
    runs: Sequence[Path],
) -> Answers:
    """Teach every arm with every seed, or remember what an earlier call answered under the same circumstances."""
    network = find_learner(schooling.learner, asked.kind)
    found: Answers = {}
    todo = [(arm, seed) for seed in schooling.seeds for arm in arms_of(seed)]
    with _progress(len(todo)) as tell:
        for arm, seed in todo:
            file = Path(f"{_key(arm, seed, asked, source_test, schooling)}.json")
            answered = next((kept for run in runs if (kept := _kept(run / SCORES / file, asked, source_test))), None)
            if answered is None:
                answered = _answered(arm, seed, asked, source_test, schooling, network)
                home = runs[arm.translator or 0]
                kept = {"test": answered.test.tolist()}
                kept |= {} if answered.source is None else {"source": answered.source.tolist()}
                write_text(home / SCORES / file, json.dumps(kept))
            found[arm.name, arm.translator, seed] = answered
            tell(f"{arm.name}, seed {seed}: {asked.score(answered.test)[MAIN[asked.kind]]:.1f}")
    return found


def _answered(
    arm: Arm, seed: int, asked: Asked, source_test: Asked | None, schooling: Schooling, network: Learner
) -> Answered:
    batches, more = Batches(arm, BATCH[asked.kind], seed, schooling.zoom), schooling.unlabelled
    if more is not None:
        batches = replace(batches, far=True, light=more.light)
    taught = teach(network, batches, len(asked.classes), asked.kind, schooling.steps, seed, more)
    own = None if source_test is None else source_test.tally(taught(source_test.samples.x))
    return Answered(asked.tally(taught(asked.samples.x)), own)


def _key(arm: Arm, seed: int, asked: Asked, source_test: Asked | None, schooling: Schooling) -> str:
    """Everything that decides an answer, the code that teaches included."""
    code = [inspect.getsource(module) for module in (answers, arms, downstream, learner, self_training)]
    told = [
        __version__, torch.__version__, arm.sha256, seed, asked.samples.sha256, asked.classes,
        source_test and source_test.samples.sha256, schooling.steps, schooling.learner, schooling.zoom,
        _source_of(schooling.learner), schooling.unlabelled and schooling.unlabelled.sha256, code,
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def _source_of(name: str | None) -> str:
    """The module of the user's network, so that a changed network is taught anew."""
    try:
        return "" if name is None else inspect.getsource(sys.modules[name.partition(":")[0]])
    except (KeyError, OSError, TypeError):      # built in, or without source
        return ""


def _kept(file: Path, asked: Asked, source_test: Asked | None) -> Answered | None:
    """What an earlier call wrote; what cannot be read is work to do again."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        test = np.array(value["test"], dtype=np.int64)
        own = None if source_test is None else np.array(value["source"], dtype=np.int64)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    fits = asked.fits(test) and (own is None or source_test.fits(own))
    return Answered(test, own) if fits else None


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, a line for each network elsewhere."""
    console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        done = iter(range(1, total + 1))
        yield lambda told: console.print(f"{next(done)}/{total} {told}", markup=False)
        return
    columns = (TextColumn("teaching"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=total)
        yield lambda told: bar.update(task, advance=1, description=told)
