"""OUT/.mmcycle: the description of a job, the lock that keeps a second process away, and the journals of its workers."""
from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from mmcycle import files
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
        raise UserError(f"{path}: cannot be read ({error}); without it the job cannot be resumed. Use another folder.") from error
    if not isinstance(job, dict) or not isinstance(job.get("source"), str):
        raise UserError(f"{path}: does not describe a job; without it the job cannot be resumed. Use another folder.")
    return job


def write_job(out: Path, job: dict[str, Any], counts: dict[str, int] | None) -> None:
    """Write job.json; with `counts` the job is finished."""
    files.write_json(out / PLACE / JOB, job | {"finished": counts})


def finished(out: Path) -> dict[str, int] | None:
    """done, quarantined and total of a finished job; None for one that is not."""
    counts = (read_job(out) or {}).get("finished")
    if not isinstance(counts, dict) or not all(isinstance(counts.get(name), int) for name in COUNTS):
        return None
    return counts


def source_of(out: Path) -> Path | None:
    """Where the source was when OUT was made, as the user wrote it."""
    job = read_job(out)
    return None if job is None else Path(job["source"])


class Lock:
    """One process at a time works on OUT. The system lets go when the process dies, so a dead one never blocks."""

    def __init__(self, out: Path) -> None:
        self.path = out / PLACE / "lock"
        self.file: int | None = None

    def __enter__(self) -> Lock:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while self.file is None:
                self.file = self._take()
        except OSError as error:
            raise MmcycleError(f"{self.path}: could not be written: {error.strerror}") from error
        return self

    def __exit__(self, *exception: object) -> None:
        self.path.unlink(missing_ok=True)
        if self.file is not None:
            os.close(self.file)

    def _take(self) -> int | None:
        """The open and locked file; None when its last holder removed it meanwhile."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            self._hold(descriptor)
            if not self.path.exists() or not os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                os.close(descriptor)
                return None
        except UserError:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()} {platform.node()}\n".encode())
        return descriptor

    def _hold(self, descriptor: int) -> None:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 300, 0).decode(errors="replace").split()
            who = f"process {holder[0]} on {holder[1]}" if len(holder) == 2 else "another process"
            raise UserError(f"{self.path.parent.parent}: {who} is writing there; wait for it, or choose another folder") from None
        except OSError:
            pass        # a file system without locks: two writers waste work, but write the same bytes under the same names


class Journal:
    """What one worker has finished, one line each, on the disk before the next item counts as begun.

    A new file for every run: the torn last line of a killed worker is never written after.
    """

    def __init__(self, out: Path, worker: int) -> None:
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
