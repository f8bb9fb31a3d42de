"""OUT/.mmcycle: the description of a job, the lock that keeps other processes away, and the journals of its workers."""
from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from mmcycle import files, lock
from mmcycle.errors import MmcycleError, UserError

PLACE = ".mmcycle"
JOB = "job.json"
COUNTS = ("done", "quarantined", "total")


def read_job(out: Path) -> dict[str, Any] | None:
    """The job that OUT was begun with, or None; UserError when job.json is not readable as one."""
    path = out / PLACE / JOB
    try:
        job = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}), so the job cannot be resumed. Use another folder."
        ) from error
    if not isinstance(job, dict) or not isinstance(job.get("source"), str):
        raise UserError(f"{path}: does not describe a job, so it cannot be resumed. Use another folder.")
    return job


def write_job(out: Path, job: dict[str, Any], counts: dict[str, int] | None) -> None:
    """Write job.json; with `counts` the job is finished."""
    files.write_json(out / PLACE / JOB, job | {"finished": counts})


def finished(out: Path) -> dict[str, int] | None:
    """done, quarantined and total of a finished job, left_out where any were; None for one that is not."""
    counts = (read_job(out) or {}).get("finished")
    if not isinstance(counts, dict) or not all(isinstance(counts.get(name, 0), int) for name in (*COUNTS, "left_out")):
        return None
    if not all(name in counts for name in COUNTS):
        return None
    return counts


def source_of(out: Path) -> Path | None:
    """Where the source was when OUT was made, as the user wrote it."""
    job = read_job(out)
    return None if job is None else Path(job["source"])


def shards(out: Path) -> dict[str, str]:
    """Shard -> its SHA-256, of a finished job that was packed."""
    told = (read_job(out) or {}).get("shards")
    return {name: str(digest) for name, digest in told.items()} if isinstance(told, dict) else {}


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """One process at a time works on OUT; UserError names the other one. What the disk refuses is an MmcycleError."""
    try:
        with lock.held(out / PLACE):
            try:
                yield
            finally:
                (out / PLACE / lock.NAME).unlink(missing_ok=True)
    except OSError as error:
        raise MmcycleError(f"{error.filename or out}: {error.strerror or error}. What is done is kept.") from error


class Journal:
    """What one worker has finished, one line each, on the disk before the next item counts as begun.

    A new file for every run: the torn last line of a killed worker is never written after.
    """

    def __init__(self, out: Path, worker: int) -> None:
        self.turn = threading.Lock()
        names = (out / PLACE / f"journal-{worker}-{run}.jsonl" for run in count())
        self.path = next(path for path in names if not path.exists())
        try:
            self.file = self.path.open("xb")
        except OSError as error:
            raise MmcycleError(f"{self.path}: could not be written: {error.strerror}") from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()

    def append(self, line: str) -> None:
        try:
            with self.turn:
                self.file.write(line.encode())
                self.file.flush()
            os.fsync(self.file.fileno())
        except OSError as error:
            raise MmcycleError(f"{self.path}: could not be written: {error.strerror}. What is done is kept.") from error


def journal_lines(out: Path) -> Iterator[bytes]:
    """Every whole line of every journal; a torn one has no newline and is work to do again."""
    for path in _journals(out):
        with path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))


def clear(out: Path) -> None:
    """Remove the journals of a finished job."""
    for path in _journals(out):
        path.unlink(missing_ok=True)


def leftovers(out: Path) -> list[Path]:
    """The temporary files that killed writers left anywhere in OUT."""
    return sorted(
        Path(folder, name)
        for folder, _, names in os.walk(out)
        for name in names
        if name.startswith(".tmp-")
    )


def _journals(out: Path) -> list[Path]:
    return sorted((out / PLACE).glob("journal-*-*.jsonl"))
