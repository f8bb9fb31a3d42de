"""What a person sees while many things are written: a bar on a terminal, plain lines elsewhere."""
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

Tell = Callable[[int, int], None]       # how many are done, and how many are to be made
SAID = 20                               # lines for a whole job where there is no terminal


class Counted(Protocol):
    """A Tell that may say more in its lines."""

    def __call__(self, done: int, total: int, more: str = "") -> None: ...


@contextmanager
def counted(noun: str, label: str | None = None) -> Iterator[Counted]:
    """To be told of every item, such as "moments"; the bar is taken away however the work ends.

    label: before the bar, the noun unless told
    """
    console = Console(file=sys.stderr, highlight=False)
    if not console.is_terminal:
        yield partial(_say, console, noun)
        return
    bar = Progress(*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn(), console=console)
    task = bar.add_task(label or noun)

    def show(done: int, total: int, more: str = "") -> None:
        bar.start()
        bar.update(task, total=total, completed=done)

    try:
        yield show
    finally:
        bar.stop()


def unsaid(done: int, total: int) -> None:
    """Of work that nobody watches."""


def _say(console: Console, noun: str, done: int, total: int, more: str = "") -> None:
    if done == total or done % max(total // SAID, 1) == 0:
        console.print(f"{done}/{total} {noun}{more}")
