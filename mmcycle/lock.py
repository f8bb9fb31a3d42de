"""One process at a time on a folder that is being written; the lock of a killed process does not block."""
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from mmcycle.errors import MmcycleError, UserError


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold folder/.lock while the block runs; UserError names the process that holds it already.

    The operating system lets go of the lock when its process ends, however it ends: lockf, because a lock of flock
    would live on in the processes that load data, for seconds after a kill of the one that trains.
    """
    with _opened(folder) as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UserError(f"{folder} is being written by {file.read().strip() or 'another process'}; wait for it or stop it") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _opened(folder: Path) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return open(folder / ".lock", "a+", encoding="utf-8", errors="replace")
    except OSError as error:
        raise MmcycleError(f"{folder}: cannot be written to: {error.strerror or error}") from error
