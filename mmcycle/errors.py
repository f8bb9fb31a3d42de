"""The errors that a person can act on: each says what was found, where, what is allowed and what to do."""
from importlib import import_module
from types import ModuleType


class MmcycleError(Exception):
    """Something failed that the user did not cause: a full disk, a lost worker. The command line exits with 1."""


class UserError(MmcycleError):
    """The user can mend it: a wrong path, an unknown key, a broken recording. The command line exits with 2."""


class RecordingError(UserError):
    """One recording cannot be read or written; `generate --on-error quarantine` records it and goes on."""


def need(module: str, purpose: str, install: str | None = None) -> ModuleType:
    """Import an optional library at the moment of need, or say what needs it and how to get it."""
    try:
        return import_module(module)
    except (ImportError, OSError) as error:
        package = install or module.split(".")[0]
        raise UserError(
            f"{purpose} needs {package}, which did not import ({error}). Install it: pip install '{package}'"
        ) from error
