"""An evaluation as a person reads it in a terminal: the numbers, then a line for each verdict."""
import math

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmcycle.metrics.evaluate import Evaluation
from mmcycle.metrics.score import Score

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
    for check in evaluation.checks:
        line = Text(f"{check.level:<5} ", style=COLOURS[check.level])
        advice = f". To do: {check.advice}" if check.advice else ""
        line.append(f"{check.name}: {check.told}{advice}", style="default")
        console.print(line, soft_wrap=True)
    for note in evaluation.notes:
        console.print(Text(f"note  {note}"), soft_wrap=True)


def _short(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"


def _interval(score: Score) -> str:
    return f"{_short(score.low)} to {_short(score.high)}" if math.isfinite(score.low) else ""


def _beside(score: Score) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in score.beside.items() if name not in INSIDE)
