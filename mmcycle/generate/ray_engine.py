"""Ray runs the portions of a job in workers on many machines: the same shard function, the same bytes.

A worker that is lost is started again by Ray, wherever there is room, and does again what it had in hand: the same
bytes under the same names, and one row in the manifest. Every machine must see the source, the runs and OUT.
"""
from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from mmcycle import files
from mmcycle.errors import MmcycleError, UserError, need
from mmcycle.generate import ledger
from mmcycle.generate.engines import ERRORS, named, tell_signal
from mmcycle.generate.shard import Outcome, Portion, Share, Task, Translates, load_translators, translate_shard
from mmcycle.interruption import signals

LONGEST, PIECES = 32, 16                # records that are in hand at once; a worker gets its share in so many pieces
RETRIES = 2                             # of a piece that has cost a worker its life
KNOCK = 20.0                            # seconds for a cluster to answer
PATIENCE = 60.0                         # seconds without any worker before that is said
SHARED = "With --engine ray, the source, the runs and OUT lie on storage that every machine sees under the same path"


class Report(NamedTuple):
    """What a worker has done of a piece, and what ended it: a kind of ERRORS and a sentence."""

    outcomes: tuple[Outcome, ...] = ()
    error: tuple[str, str] | None = None


class Hand(NamedTuple):
    """A worker, and what it has in hand: none while it starts."""

    worker: Any
    piece: Sequence[Portion] = ()

    @property
    def over(self) -> str:
        if not self.piece:
            return "its start"
        first, last = self.piece[0].record.key, self.piece[-1].record.key
        return repr(first) if first == last else f"{first!r} to {last!r}"


class Place(NamedTuple):
    """Where the job was begun. Only who sees the mark, which bears a name drawn for this run, sees this OUT."""

    folder: Path
    mark: Path


def run_ray(task: Task, portions: list[Portion], devices: int, tell: Callable[[Outcome], None]) -> None:
    """Translate the portions in `devices` workers, each with a GPU where the cluster has any, else with a core.

    The cluster is the one that runs: that of RAY_ADDRESS, of `ray start` on this machine, or of the calling program;
    where there is none, it is this machine, until the job ends. Raises as `run_local` does.
    """
    if not portions:
        return
    ray = need("ray", "--engine ray", "mmcycle[ray]")
    with _connected(ray), _marked(task.out) as place, signals() as caught:
        workers = _hired(ray, task, place, min(devices, len(portions)))
        try:
            failure = _drive(ray, workers, deque(_pieces(portions, len(workers))), tell, caught)
        finally:
            for worker in workers:
                ray.kill(worker)
    if failure is not None:
        raise failure
    tell_signal(caught)


class Worker:
    """One worker process. It does one piece at a time; `stop`, heard meanwhile, ends it after the item in hand."""

    def __init__(self, task: Task, place: Place, number: int) -> None:
        self.task, self.place, self.number = task, place, number
        self.translators: dict[str, Translates] | None = None
        self.turn, self.stopped = threading.Lock(), threading.Event()

    def prepare(self) -> Report:
        """Load the models, after a look at what this machine has and sees."""
        return self._reported(lambda tell: self._ready())

    def translate(self, portions: list[Portion]) -> Report:
        """Write and journal the portions; see `translate_shard`."""
        return self._reported(lambda tell: translate_shard(
            self.task, portions, self.number, self._ready(), tell, self.stopped.is_set))

    def stop(self) -> None:
        self.stopped.set()

    def _reported(self, act: Callable[[Callable[[Outcome], None]], object]) -> Report:
        done: list[Outcome] = []
        with self.turn:                 # Ray may send a call again while the network hides that the first one runs
            try:
                act(done.append)
            except MmcycleError as error:
                return Report(tuple(done), named(error))
        return Report(tuple(done))

    def _ready(self) -> dict[str, Translates]:
        if self.translators is None:
            self._enter()
            self._check_versions()
            self.translators = load_translators(self.task, Share())     # Ray shows each worker its own GPU
        return self.translators

    def _enter(self) -> None:
        """Work where the job was begun, so that paths mean what they meant there."""
        task, who = self.task, _here()
        places = [task.source, task.out, *(run for run, _ in task.runs.values())]
        try:
            os.chdir(self.place.folder)
        except OSError as error:
            relative = next((path for path in places if not path.is_absolute()), None)
            if relative is not None:
                raise UserError(f"{relative} is a path below {self.place.folder}, which {who} does not see. {SHARED}; "
                                "give absolute paths") from error
        if not self.place.mark.exists():
            raise UserError(f"{task.out}: {who} sees another folder there, or none. {SHARED}.")
        for path in places:
            if not path.exists():
                raise UserError(f"{path}: {who} does not see it. {SHARED}.")

    def _check_versions(self) -> None:
        """Another version of a library may write other bytes."""
        for library, wanted in self.task.versions.items():
            try:
                found = version(library)
            except PackageNotFoundError:
                continue                # carried, not installed: nothing is known of it
            if found != wanted:
                raise UserError(f"{_here()} has {library} {found}, the job was begun with {wanted}; install the same "
                                "versions on all machines, or the data set would not be the same everywhere")


def _here() -> str:
    return f"the Ray worker on {socket.gethostname()}"


def _pieces(portions: list[Portion], workers: int) -> Iterator[list[Portion]]:
    """Small enough for workers of unequal speed to end together, and for a lost one to cost little."""
    size = min(max(len(portions) // (PIECES * workers), 1), LONGEST)
    yield from (portions[start : start + size] for start in range(0, len(portions), size))


def _hired(ray: Any, task: Task, place: Place, count: int) -> list[Any]:
    """Handles of workers that start when the cluster has room. Two threads each: one works, one hears `stop`."""
    gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
    hire = ray.remote(Worker).options(
        num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=RETRIES, max_concurrency=2 + RETRIES
    )
    return [hire.remote(task, place, number) for number in range(count)]


def _drive(
    ray: Any, workers: list[Any], pieces: deque[list[Portion]], tell: Callable[[Outcome], None], caught: list[int]
) -> MmcycleError | None:
    """Give the pieces to whoever is free until all are done; the first failure, if any, stops the rest."""
    failure: MmcycleError | None = None
    starting = {worker.prepare.remote(): Hand(worker) for worker in workers}
    working: dict[Any, Hand] = {}
    late = time.monotonic() + PATIENCE
    while working or (pieces and not caught and failure is None):       # nobody waits for workers that still start
        for ref in ray.wait([*working, *starting], timeout=0.2)[0]:
            hand, late = working.pop(ref, None) or starting.pop(ref), float("inf")
            report = _received(ray, ref, hand)
            for outcome in report.outcomes:
                tell(outcome)
            if report.error is not None:
                failure = failure or ERRORS[report.error[0]](report.error[1])
            if pieces and not caught and failure is None:
                piece = pieces.popleft()
                working[hand.worker.translate.remote(piece)] = Hand(hand.worker, piece)
        if caught or failure is not None:
            for hand in working.values():           # again and again: who was just started again has not heard it
                hand.worker.stop.remote()
        if time.monotonic() > late:
            late = float("inf")
            warnings.warn("Ray has started no worker yet: its machines are busy, or none has a free core or GPU; "
                          "`ray status` tells, and this waits", stacklevel=3)
    return failure


def _received(ray: Any, ref: Any, hand: Hand) -> Report:
    """What a worker answers, or how it failed to."""
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        told = f"a Ray worker failed over {hand.over}: {_lines(error)[-1]}"
    except ray.exceptions.RayError as error:
        lines = _lines(error)
        why = lines[-1] if "creation task" in lines[0] else lines[0]
        told = f"{RETRIES + 1} Ray workers died one after the other over {hand.over} ({why[:200]})"
    advice = ("What is done is kept, run the same line again to go on. "
              "If it happens again: less --devices need less memory.")
    return Report(error=(MmcycleError.__name__, f"{told}. {advice}"))


def _lines(error: Exception) -> list[str]:
    return [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]


@contextmanager
def _connected(ray: Any) -> Iterator[None]:
    """Ray, as the program has it, or for as long as this lasts."""
    if ray.is_initialized():
        yield
        return
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        _knock(os.environ.get("RAY_ADDRESS", ""))
        with warnings.catch_warnings():             # of what Ray will change some day
            warnings.simplefilter("ignore")
            ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    except Exception as error:                      # Ray raises of every kind here, also of the plainest
        raise UserError(f"--engine ray: no cluster answers ({_lines(error)[0]}). Start one (`ray start --head`) and "
                        "name it in RAY_ADDRESS, or unset RAY_ADDRESS to work on this machine") from error
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)   # Ray sets its own, for the whole program
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ray itself knocks for many minutes where nobody is at home."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=KNOCK).close()


@contextmanager
def _marked(out: Path) -> Iterator[Place]:
    """The mark is taken away in the end; over NFS that also makes this machine look again which journals are there."""
    mark = (out / ledger.PLACE / f".tmp-ray-{secrets.token_hex(8)}").absolute()
    files.write_text(mark, "")
    try:
        yield Place(Path.cwd(), mark)
    finally:
        mark.unlink(missing_ok=True)
