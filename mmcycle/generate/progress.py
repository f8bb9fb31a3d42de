"""What a person sees while a data set is written: a bar on a terminal, plain lines elsewhere."""
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from mmcycle.generate.dataset import Job

SAID = 20                               # lines for a whole job where there is no terminal


@contextmanager
def job_progress() -> Iterator[Callable[[Job], None]]:
    """What `generate` tells of each item; the bar is taken away however the job ends."""
    console = Console(file=sys.stderr, highlight=False)
    if not console.is_terminal:
        yield lambda job: _say(console, job)
        return
    bar = Progress(*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn(), console=console)
    task = bar.add_task("generating")

    def show(job: Job) -> None:
        bar.start()
        bar.update(task, total=job.total, completed=_handled(job))

    try:
        yield show
    finally:
        bar.stop()


def _say(console: Console, job: Job) -> None:
    if _handled(job) == job.total or _handled(job) % max(job.total // SAID, 1) == 0:
        console.print(f"{_handled(job)}/{job.total} recordings, {job.quarantined} quarantined")


def _handled(job: Job) -> int:
    return job.done + job.skipped + job.quarantined
