"""A scanning radar: echoes in decibels over azimuth and range, one sweep in a .radar file."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Gt
from torch import Tensor

from mmcycle.errors import RecordingError
from mmcycle.files import write_atomic
from mmcycle.modality import Modality

MAGIC = b"RADAR1"


@dataclass(frozen=True, kw_only=True)
class Radar(Modality):
    """A file is MAGIC, the numbers of azimuths and of range bins (uint32), then float32 echoes in decibels."""

    azimuths: Annotated[int, Gt(0)] = 32            # of a training crop
    bins: Annotated[int, Gt(0)] = 32                # of a training crop
    loudest: Annotated[float, Gt(0)] = 60.0         # decibels; echoes lie in [0, loudest]

    suffixes: ClassVar[tuple[str, ...]] = (".radar",)

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, self.azimuths, self.bins

    def load(self, path: Path) -> np.ndarray:
        content = path.read_bytes()
        rows, columns = np.frombuffer(content, "<u4", 2, len(MAGIC)) if len(content) >= 14 else (0, 0)
        if not content.startswith(MAGIC) or len(content) != 14 + 4 * int(rows) * int(columns) or len(content) == 14:
            raise RecordingError(f"{path}: is not one whole radar sweep; record it again")
        return np.frombuffer(content, "<f4", offset=14).reshape(rows, columns).copy()

    def save(self, raw: np.ndarray, path: Path) -> None:
        content = MAGIC + np.array(raw.shape, "<u4").tobytes() + raw.astype("<f4").tobytes()
        write_atomic(path, lambda temporary: temporary.write_bytes(content) and None)

    def to_tensor(self, raw: np.ndarray) -> tuple[Tensor, None]:
        return torch.from_numpy(raw * (2 / self.loudest) - 1).float().clamp(-1, 1)[None], None

    def from_tensor(self, x: Tensor, context: None) -> np.ndarray:
        return ((x[0].numpy() + 1) * (self.loudest / 2)).astype(np.float32)
