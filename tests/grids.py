"""A sensor that is nothing but its grid, for tests of what knows only shapes."""
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from mmcycle.config import Config, from_dict
from mmcycle.core.model import CycleModel, generator
from mmcycle.core.settings import Networks, Objective
from mmcycle.generate.translator import Translator
from mmcycle.modality import Modality


@dataclass(frozen=True, kw_only=True)
class Grid(Modality):
    """A recording is its tensor."""

    channels: int = 3
    height: int = 16
    width: int = 16

    suffixes: ClassVar[tuple[str, ...]] = (".grid",)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    def load(self, path: Path) -> Tensor:
        return torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.float32).reshape(self.shape)

    def save(self, raw: Tensor, path: Path) -> None:
        path.write_bytes(raw.numpy().tobytes())

    def to_tensor(self, raw: Tensor) -> tuple[Tensor, None]:
        return raw, None

    def from_tensor(self, x: Tensor, context: None) -> Tensor:
        return x


class Ring(Grid):
    """A grid whose last column touches the first."""

    wraps: ClassVar[bool] = True


class Rigid(Grid):
    """A grid whose networks run on one size only."""

    extensive: ClassVar[bool] = False


TINY = {"width": 4, "blocks": 1, "discriminator_width": 4, "discriminator_layers": 1}


def networks(**changes: object) -> Networks:
    return Networks(**(TINY | changes))


def model(a: Modality | None = None, b: Modality | None = None, nets: Networks | None = None, *, seed: int = 0, **objective) -> CycleModel:
    """A tiny model, the same for the same seed; objective as in Objective."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    return CycleModel(a or Grid(), b or a or Grid(), nets or networks(), Objective(**objective), rng)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Uniform in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def config(a: dict | None = None, b: dict | None = None, **model: object) -> Config:
    """Two grids of 32 x 32, unless a and b say otherwise."""
    side = {"modality": "grids:Grid", "height": 32, "width": 32}
    return from_dict({"name": "tiny", "a": {"name": "a"} | side | (a or {}), "b": {"name": "b"} | side | (b or {}), "model": TINY | model})


def translator(made: Config | None = None, direction: str = "ab", seed: int = 0, **options: object) -> Translator:
    """Random weights, large enough that the translation differs from gray."""
    made = made or config()
    torch.manual_seed(seed)
    source, target = (getattr(made, domain).modality for domain in direction)
    network = generator(source, target, made.model)
    return Translator(made, direction, network.state_dict(), device="cpu", **options)
