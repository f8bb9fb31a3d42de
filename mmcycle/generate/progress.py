"""What a person sees while a data set is written."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mmcycle.generate.dataset import Job
from mmcycle.progress import counted


@contextmanager
def job_progress() -> Iterator[Callable[[Job], None]]:
    """What `generate` tells of each item."""
    with counted("recordings", "generating") as tell:
        yield lambda job: tell(
            job.done + job.skipped + job.quarantined, job.total, f", {job.quarantined} quarantined"
        )
