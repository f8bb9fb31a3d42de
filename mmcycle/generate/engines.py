"""An engine runs the shards of a job somewhere: here, in the processes of this machine."""
from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from mmcycle.errors import MmcycleError, RecordingError, UserError
from mmcycle.generate.shard import Outcome, Portion, Share, Task, Translates, load_translators, translate_shard
from mmcycle.interruption import Interrupted, signals

ERRORS = {kind.__name__: kind for kind in (RecordingError, UserError, MmcycleError)}    # the narrowest first
TO_ALL = (signal.SIGINT, signal.SIGTERM)        # they reach every process of a job; the parent decides


def run_local(
    task: Task, portions: list[Portion], devices: int, translators: dict[str, Translates],
    tell: Callable[[Outcome], None],
) -> None:
    """Translate the portions in this process, or in `devices` others; returns when all are done.

    No more processes are started than there are portions. Raises what the first failing worker raised, after the others
    finished the item in hand; Interrupted after a signal; MmcycleError when a worker died.
    """
    devices = max(1, min(devices, len(portions)))
    with signals() as caught:
        if devices == 1:
            translate_shard(task, portions, translators=translators, tell=tell, stopping=lambda: bool(caught))
        else:
            _run_processes(task, [portions[worker::devices] for worker in range(devices)], tell, caught)
    tell_signal(caught)


def tell_signal(caught: list[int]) -> None:
    """Interrupted, where a signal ended the work of an engine."""
    if caught:
        name = signal.Signals(caught[0]).name
        raise Interrupted(caught[0], f"stopped by {name} after the item in hand; run the same line again to go on")


def named(error: MmcycleError) -> tuple[str, str]:
    """What crosses to another process: the narrowest of ERRORS, and the sentence."""
    return next(name for name, kind in ERRORS.items() if isinstance(error, kind)), str(error)


def _run_processes(task: Task, shards: list[list[Portion]], tell: Callable[[Outcome], None], caught: list[int]) -> None:
    context = multiprocessing.get_context("spawn")      # a forked CUDA context does not work
    workers: dict[Connection, SpawnProcess] = {}
    try:
        for number, shard in enumerate(shards):
            here, there = context.Pipe()
            given = (task, shard, number, len(shards), there)
            process = context.Process(target=_work, args=given, name=f"mmcycle-{number}")
            with _unheard():
                process.start()
            there.close()
            workers[here] = process
        failure = _listen(dict(workers), tell, caught)
    finally:
        for pipe, process in workers.items():           # a closed pipe tells a worker to stop after the item in hand
            pipe.close()
            process.join()
    if failure is not None:
        raise failure


@contextmanager
def _unheard() -> Iterator[None]:
    """A process started in here does not hear TO_ALL, of which it would die in the seconds until `_work` ignores it."""
    resource_tracker.ensure_running()           # or the first start would do that, and it unblocks them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TO_ALL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _listen(
    workers: dict[Connection, SpawnProcess], tell: Callable[[Outcome], None], caught: list[int]
) -> MmcycleError | None:
    """Pass on what the workers say until all have ended; the first failure, if any, stops the rest."""
    failure: MmcycleError | None = None
    told_to_stop = False
    while workers:
        for pipe in wait(list(workers), timeout=0.2):
            heard = _hear(pipe, workers[pipe])
            if isinstance(heard, Outcome):
                tell(heard)
                continue
            failure = failure or heard
            del workers[pipe]
        if (caught or failure) and not told_to_stop:
            told_to_stop = True
            for pipe in workers:
                _say(pipe, "stop")
    return failure


def _hear(pipe: Connection, process: SpawnProcess) -> Outcome | MmcycleError | None:
    """The next outcome of a worker; None when it ended well; what it raised, or that it died."""
    try:
        kind, *what = pipe.recv()
    except (EOFError, OSError):
        process.join()
        return MmcycleError(f"worker {process.name} died (exit {process.exitcode}); what is done is kept, "
                            "run the same line again to go on. If it happens again: less --devices need less memory.")
    if kind == "outcome":
        return Outcome(*what)
    return None if kind == "ended" else ERRORS[kind](what[0])


def _say(pipe: Connection, *what: object) -> None:
    try:
        pipe.send(what)
    except OSError:
        pass                # the other end is gone; whoever listens notices by itself


def _work(task: Task, shard: list[Portion], number: int, workers: int, pipe: Connection) -> None:
    """The life of one worker process. It ends early when the pipe says so, or breaks: then its parent is dead."""
    for one in TO_ALL:
        signal.signal(one, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TO_ALL)
    try:
        translators = load_translators(task, Share(number, workers))
        translate_shard(task, shard, number, translators, lambda outcome: _say(pipe, "outcome", *outcome), pipe.poll)
        _say(pipe, "ended")
    except MmcycleError as error:
        _say(pipe, *named(error))
