"""An evaluation as a person reads it in a terminal: the numbers, then a line for each verdict."""
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmcycle.metrics.evaluate import Evaluation
from mmcycle.metrics.gain import Gain
from mmcycle.metrics.score import Score
from mmcycle.metrics.verdicts import Check

COLOURS = {"good": "green", "weak": "yellow", "bad": "red"}
INSIDE = ("error", "floor_error")           # of interest to a verdict, not to a reader


def print_scorecard(evaluation: Evaluation, console: Console | None = None) -> None:
    """The table, the verdicts and the notes; without colours where nobody sees them."""
    console = console or Console(highlight=False)
    about = evaluation.about
    table = Table(title=f"{about['run']} {about['direction']}, {about['samples']} samples", title_justify="left")
    for name, side in (("measure", "left"), ("value", "right"), ("95 %", "right")):
        table.add_column(name, justify=side, no_wrap=True)
    table.add_column("beside")
    for name, score in evaluation.scores.items():
        table.add_row(name, _short(score.value), _interval(score), _beside(score))
    console.print(table)
    _print_verdicts(evaluation.checks, evaluation.notes, console)


def print_gain(gain: Gain, console: Console | None = None) -> None:
    """What networks that were taught on each training set are worth: a row for each, then the verdicts."""
    console = console or Console(highlight=False)
    about = gain.about
    runs, seeds = len(about["runs"]), len(about["seeds"])
    title = f"{about['runs'][0]['run']} {about['direction']}, {about['sets']['test']['count']} test recordings, "
    title += f"{len(about['classes'])} classes, {_count(seeds, 'seed')} of {_count(runs, 'translator')}, "
    title += f"{about['steps']} steps"
    table = Table(title=title, title_justify="left")
    measures = [name for name, told in gain.arms[0].items() if isinstance(told, dict) and "mean" in told]
    table.add_column("taught on, then by itself" if about.get("self_train") else "taught on", no_wrap=True)
    for name in measures:
        table.add_column(f"{name.replace('_', ' ')} %", justify="right", no_wrap=True)
    for row in gain.arms:
        style = "bold" if row["name"] == about["headline"] else None
        table.add_row(row["name"], *(_mean(row[name]) for name in measures), style=style)
    console.print(table)
    _print_verdicts(gain.checks, gain.notes, console)


def _print_verdicts(checks: Sequence[Check], notes: Sequence[str], console: Console) -> None:
    for check in checks:
        line = Text(f"{check.level:<5} ", style=COLOURS[check.level])
        advice = f". To do: {check.advice}" if check.advice else ""
        line.append(f"{check.name}: {check.told}{advice}", style="default")
        console.print(line, soft_wrap=True)
    for note in notes:
        console.print(Text(f"note  {note}"), soft_wrap=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _mean(told: Mapping[str, Any]) -> str:
    half = told["half_width"]
    return f"{told['mean']:.1f}" + (f" ± {half:.1f}" if math.isfinite(half) else "")


def _short(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"


def _interval(score: Score) -> str:
    return f"{_short(score.low)} to {_short(score.high)}" if math.isfinite(score.low) else ""


def _beside(score: Score) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in score.beside.items() if name not in INSIDE)
