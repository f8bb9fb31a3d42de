"""The Hub without a network: a snapshot that is a folder of the test, or an error."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


class Stub(ModuleType):
    """asked: (name, revision, patterns) of every call."""

    def __init__(self, answer: Path | Exception) -> None:
        super().__init__("huggingface_hub")
        self.answer, self.asked = answer, []

    def snapshot_download(self, name: str, *, revision: str | None, allow_patterns: list[str]) -> Any:
        self.asked.append((name, revision, allow_patterns))
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


def install(monkeypatch: pytest.MonkeyPatch, answer: Path | Exception) -> Stub:
    """Put the stub in the place of huggingface_hub for one test."""
    stub = Stub(answer)
    monkeypatch.setitem(sys.modules, "huggingface_hub", stub)
    return stub
