"""The members of a tar file from anywhere, read one after the other: only plain files with names inside a folder."""
from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from mmcycle.errors import UserError
from mmcycle.files import inside

MOST = 10_000_000                       # members of one tar file
LONGEST = 1000                          # bytes of a name


class Member(NamedTuple):
    """A plain file of a tar: its name as it stands there, without "./" in front."""

    name: str
    size: int
    content: BinaryIO


def members(path: Path) -> Iterator[Member]:
    """Every plain file, in order; its content is good until the next is asked for.

    Folders and hidden files ("._1.png", which an archiver of another system adds) are passed over. UserError names a
    member that is a link, a device or sparse, leaves its folder, or a file that is no tar or ends too early.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            for number, info in enumerate(tar):
                if number >= MOST:
                    raise UserError(f"{path}: has more than {MOST} members; split it")
                if info.isdir():
                    continue
                name = _checked(path, info)
                if not any(part.startswith(".") for part in name.split("/")):
                    yield Member(name, info.size, tar.extractfile(info))
                tar.members = []        # else all headers stay in memory
            _check_end(path, tar.offset)
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: cannot be read as a tar file: {str(error)[:200] or type(error).__name__}") from error


def split_name(name: str) -> tuple[str, str]:
    """"a.b/7.camera.png" -> ("a.b/7", "camera.png"): key and field as WebDataset has them, the field may be empty."""
    folder, slash, base = name.rpartition("/")
    key, _, field = base.partition(".")
    return folder + slash + key, field


def _check_end(path: Path, offset: int) -> None:
    """A whole tar ends with blocks of zeros; the library takes a broken header for an end too."""
    with path.open("rb") as file:
        file.seek(offset)
        end = file.read(tarfile.BLOCKSIZE)
    if len(end) < tarfile.BLOCKSIZE or any(end):
        raise UserError(f"{path}: is damaged or was not written to its end, at byte {offset}; write or copy it anew")


def _checked(path: Path, info: tarfile.TarInfo) -> str:
    shown = ascii(info.name)[:200]
    kinds = {"a symbolic link": info.issym(), "a hard link": info.islnk(), "sparse": info.issparse(),
             "neither a file nor a folder": not info.isreg()}
    wrong = next((kind for kind, so in kinds.items() if so), None)
    if wrong:
        raise UserError(f"{path}: the member {shown} is {wrong}; only plain files are read, write the tar anew")
    name = str(PurePosixPath(info.name))
    try:
        inside(path.parent / "members", info.name)
    except UserError as error:
        raise UserError(f"{path}: the member {shown} would leave its folder; nothing was unpacked") from error
    if len(name.encode()) > LONGEST or not name.isprintable():
        raise UserError(f"{path}: the member {shown} has a name that is too long or unprintable; write the tar anew")
    return name
