"""The contract of a modality as executable laws: each is checked alone and tells the sensor's author what to do."""
from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmcycle.laws import FOUNDATION, MODALITY_LAWS, SAMPLE_LAWS, Case
from mmcycle.modality import Modality


@dataclass(frozen=True)
class Law:
    """One law and what came of it; `found` is empty when it holds, else a sentence for the sensor's author."""

    name: str
    sample: str                                     # the file, or "" for a law of the modality itself
    found: str

    @property
    def passed(self) -> bool:
        return not self.found

    def __str__(self) -> str:
        about = f" [{self.sample}]" if self.sample else ""
        return f"ok      {self.name}{about}" if self.passed else f"BROKEN  {self.name}{about}: {self.found}"


def check_modality(
    modality: Modality,
    samples: Sequence[Path | Any],
    tolerance: float = 0.01,
    distance: Callable[[Any, Any], float] | None = None,
) -> list[Law]:
    """Check every law of the contract, on every sample: a file, or a recording in its native form.

    tolerance    how far a recording may move when it is turned into a tensor and back, or saved and loaded
    distance     between two recordings; none: mean |difference| of their tensors, which lie in [-1, 1]
    """
    laws = [Law(name, "", _judge(law, modality)) for name, law in MODALITY_LAWS.items()]
    for sample in samples:
        name = sample.name if isinstance(sample, Path) else type(sample).__name__
        laws += _sample_laws(modality, sample, name, tolerance, distance)
    return laws


def _sample_laws(modality: Modality, sample: Any, name: str, tolerance: float, distance: Any) -> list[Law]:
    laws, raw, suffix = [], sample, modality.suffixes[0]
    if isinstance(sample, Path):
        try:
            raw, suffix = modality.load(sample), sample.suffix
        except Exception as error:
            return [Law("load reads the sample", name, _told(error))]
        laws.append(Law("load reads the sample", name, ""))
    for title, law in SAMPLE_LAWS.items():
        with tempfile.TemporaryDirectory() as folder:
            case = Case(modality, deepcopy(raw), suffix, Path(folder), tolerance, distance)
            laws.append(Law(title, name, _judge(law, case)))
        if title == FOUNDATION and not laws[-1].passed:
            break                                   # what stands on it would only repeat it
    return laws


def _judge(law: Callable[[Any], str], subject: Any) -> str:
    try:
        return law(subject)
    except Exception as error:                      # a stranger's code: whatever it raises is a finding
        return _told(error)


def _told(error: Exception) -> str:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f" ({Path(frame.tb_frame.f_code.co_filename).name}, line {frame.tb_lineno})" if frame else ""
    return f"{type(error).__name__}: {error}{place}"
