"""The command line, called in this process as a person calls it: words in, exit code and what was said out."""
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from mmcycle.cli import main


class Said(NamedTuple):
    """How one call ended."""

    code: int
    out: str
    err: str


def mmcycle(*words: object, at: Path | None = None) -> Said:
    """`mmcycle WORDS...`, in the folder `at`."""
    out, err, code = io.StringIO(), io.StringIO(), None
    argv = ["mmcycle", *map(str, words)]
    with _folder(at), mock.patch.object(sys, "argv", argv), mock.patch.object(sys, "path", [*sys.path]):
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as ended:
                code = ended.code
    return Said(0 if code is None else int(code), out.getvalue(), err.getvalue())


def refused(*words: object, at: Path | None = None) -> str:
    """The one sentence with which a mistake of the user is answered: exit code 2, nothing on stdout, no traceback."""
    said = mmcycle(*words, at=at)
    assert said.code == 2, said
    assert said.out == "", said.out
    assert said.err.startswith("mmcycle: ") and "Traceback" not in said.err, said.err
    return said.err.removeprefix("mmcycle: ").rstrip("\n")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextlib.contextmanager
def _folder(at: Path | None) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(at or before)
    try:
        yield
    finally:
        os.chdir(before)
