"""What a person sees while scenes or moments are written: a bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

Tell = Callable[[int, int], None]       # how many are done, and how many are to be made
SAID = 20                               # lines for a whole job where there is no terminal


@contextmanager
def counted(noun: str) -> Iterator[Tell]:
    """To be told of every item, such as "moments"; the bar is taken away however the work ends."""
    console = Console(file=sys.stderr, highlight=False)
    if not console.is_terminal:
        yield lambda done, total: _say(console, noun, done, total)
        return
    bar = Progress(*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn(), console=console)
    task = bar.add_task(noun)

    def show(done: int, total: int) -> None:
        bar.start()
        bar.update(task, total=total, completed=done)

    try:
        yield show
    finally:
        bar.stop()


def unsaid(done: int, total: int) -> None:
    """Of work that nobody watches."""


def _say(console: Console, noun: str, done: int, total: int) -> None:
    if done == total or done % max(total // SAID, 1) == 0:
        console.print(f"{done}/{total} {noun}")
