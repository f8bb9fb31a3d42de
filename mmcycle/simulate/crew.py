"""The processes that write scenes or moments: one or several, and whole items whatever stops them."""

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from mmcycle.errors import MmcycleError
from mmcycle.interruption import Interrupted, signals
from mmcycle.progress import Tell, unsaid


def share_out(
    work: Callable[[int], None], items: Sequence[int], workers: int, tell: Tell = unsaid, before: int = 0
) -> None:
    """Do every item, in this process or, where there are enough items for all, in `workers` others.

    `tell` hears after each how many are done, of how many; `before` of them were there already. After a signal, items in
    hand are finished, then Interrupted is raised. MmcycleError where a process died.
    """
    with signals() as caught:
        if workers == 1 or len(items) < 2 * workers:
            for done, item in enumerate(items, before + 1):
                if caught:
                    break
                work(item)
                tell(done, before + len(items))
        else:
            _in_processes(work, items, workers, caught, lambda done: tell(before + done, before + len(items)))
    if caught:
        name = signal.Signals(caught[0]).name
        raise Interrupted(caught[0], f"stopped by {name} after the item in hand; run the same line again to go on")


def _in_processes(
    work: Callable[[int], None], items: Sequence[int], workers: int, caught: list[int], tell: Callable[[int], None]
) -> None:
    left, flying, finished = iter(items), set[Future](), 0
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_signals_to_the_parent) as pool:
            while True:
                if not caught:
                    flying |= {pool.submit(work, item) for item in islice(left, 2 * workers - len(flying))}
                if not flying:
                    return
                done, flying = wait(flying, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    finished += 1
                    tell(finished)
    except BrokenProcessPool as error:
        told = "a worker died; what is done is kept, run the same line again, with fewer --workers"
        raise MmcycleError(told) from error


def _leave_signals_to_the_parent() -> None:
    """Ctrl-C reaches the whole group."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
