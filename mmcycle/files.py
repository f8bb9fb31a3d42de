"""Files written so that a kill leaves the old one or the new one, and paths that cannot leave their folder."""
import hashlib
import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from mmcycle.errors import MmcycleError, UserError

HOST = socket.gethostname().encode()    # two machines that write into one folder may have equal process numbers


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write(temporary)` make the file beside its place, flush it to the disk, then rename it into place.

    The temporary name keeps the suffix, because many writers choose their format by it, and starts with ".tmp-".
    """
    _make_folder(path.parent)
    mark = hashlib.sha256(os.fsencode(path.name) + HOST).hexdigest()[:12]   # a long name with a prefix is too long
    temporary = path.parent / f".tmp-{os.getpid()}-{threading.get_native_id()}-{mark}{path.suffix}"
    try:
        write(temporary)
        _sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise MmcycleError(
            f"{path}: could not be written: {error.strerror or error}. Nothing was overwritten."
        ) from error
    except MmcycleError as error:       # nobody knows the temporary name
        told, true = str(temporary), str(path)
        error.args = tuple(word.replace(told, true) if isinstance(word, str) else word for word in error.args)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8") and None)


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically, indented and with a final newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def copy_atomic(source: Path, target: Path) -> None:
    """Copy a file's bytes atomically."""
    write_atomic(target, lambda temporary: shutil.copyfile(source, temporary) and None)


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill(temporary)` fill a folder beside its place, flush all of it, then rename it into place.

    An older folder at `path` is replaced; a kill leaves the old one, the new one, or none, never half a one.
    """
    _make_folder(path.parent)
    temporary, old = (path.parent / f".tmp-{os.getpid()}-{age}-{path.name}" for age in ("new", "old"))
    for stale in (temporary, old):
        shutil.rmtree(stale, ignore_errors=True)
    try:
        temporary.mkdir()
        fill(temporary)
        for file in sorted(temporary.rglob("*")):
            _sync(file)
        _sync(temporary)
        if path.is_dir():
            os.replace(path, old)           # removing a folder takes many steps, renaming it takes one
        os.replace(temporary, path)
    except OSError as error:
        raise MmcycleError(
            f"{path}: could not be written: {error.strerror or error}. Nothing was overwritten."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    _sync(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove what a kill left of files that were being written into a folder, while nobody else writes there."""
    for path in folder.glob(".tmp-*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inside(folder: Path, relative: str) -> Path:
    """folder / relative, refused when it is absolute or would leave the folder, also through symbolic links."""
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in relative or not _is_utf8(relative):
        raise UserError(f"{relative!r} is not a path inside {folder}: it must be relative and must not contain '..'")
    joined = folder.joinpath(*path.parts)
    if not joined.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{relative!r} leaves {folder} through a symbolic link; it was neither read nor written")
    return joined


def walk(root: Path) -> Iterator[Path]:
    """Every regular file below root, sorted; symbolic links are followed, no folder is entered again below itself.

    Names starting with a dot are passed over: they are nobody's recordings. A name that is not UTF-8 is an error.
    """
    above, levels = [root.resolve()], [_entries(root)]          # a stack: a tree may be deeper than Python's calls
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            above.pop()
            levels.pop()
        elif _holds(entry.is_dir):
            real = Path(entry.path).resolve()
            if real not in above:
                above.append(real)
                levels.append(_entries(Path(entry.path)))
        elif _holds(entry.is_file):
            yield Path(entry.path)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed: {error.strerror}") from error
    for entry in entries:
        if not entry.name.startswith("."):
            if not _is_utf8(entry.name):
                name = os.fsencode(entry.name)
                raise UserError(f"{folder}: the name {name!r} is not UTF-8; rename the file, manifests are UTF-8 text")
            yield entry


def _holds(claim: Callable[[], bool]) -> bool:
    try:
        return claim()
    except OSError:                 # a symbolic link that points at itself
        return False


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MmcycleError(f"{path}: the folder could not be made: {error.strerror or error}") from error


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _sync(path: Path) -> None:
    """Ask the operating system to put a file or folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
