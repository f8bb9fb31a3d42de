"""One process at a time on a folder that is being written; the lock of a killed process does not block."""
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from mmcycle.errors import MmcycleError, UserError

NAME = ".lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold folder/.lock while the block runs; UserError names the process that holds it already.

    The operating system lets go of the lock when its process ends, however it ends: lockf, because a lock of flock
    would live on in the processes that load data, for seconds after a kill of the one that trains. It keeps out other
    processes only: one process is granted it twice, and loses it as soon as it closes the file anywhere. That is enough
    here, because no command works on one folder in two threads, and only this function opens the file: reports read
    a folder without the lock, as what they read is replaced whole.
    """
    with _locked(folder) as file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _locked(folder: Path) -> TextIO:
    while True:
        file = _opened(folder)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _stands(file, folder / NAME):
                return file
            file.close()                # its last holder has just removed it: it locks nobody out
        except (BlockingIOError, PermissionError) as error:     # POSIX allows both answers
            with file:
                file.seek(0)
                holder = file.read().strip() or "another process"
            raise UserError(f"{folder} is being written by {holder}; wait for it or stop it") from error
        except OSError as error:
            file.close()
            raise MmcycleError(
                f"{folder}: cannot be locked: {error.strerror or error}; choose a folder on another disk"
            ) from error


def _stands(file: TextIO, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _opened(folder: Path) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return open(folder / NAME, "a+", encoding="utf-8", errors="replace")
    except OSError as error:
        raise MmcycleError(f"{folder}: cannot be written to: {error.strerror or error}") from error
