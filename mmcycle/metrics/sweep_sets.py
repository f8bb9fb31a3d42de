"""Folders of sweeps measured against real ones: what is shown of each, and every distance beside its floor."""
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from mmcycle.errors import UserError
from mmcycle.metrics.sweeps import Sweeps, compare, halves


class Grid(Protocol):
    """What must be known of a sensor: see `mmcycle.modalities.lidar_sensor`."""

    elevations: tuple[float, ...]
    azimuths: tuple[float, ...]
    full_turn: bool


class Seen(Protocol):
    """(H, W) metres and shares of full intensity."""

    range: Tensor
    intensity: Tensor


class Lidar(Protocol):
    """A modality of sweeps."""

    suffixes: tuple[str, ...]
    spec: Grid

    def load(self, path: Path) -> Any: ...

    def to_tensor(self, raw: Any) -> tuple[Tensor, Seen]: ...


def recordings(folder: Path, lidar: Lidar) -> list[Path]:
    """Every sweep in a folder, and below, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if path.name.lower().endswith(lidar.suffixes))


def sweeps_of(folder: Path, lidar: Lidar) -> Sweeps:
    """As range images, without what the carrier of the sensor hides; intensities as shares, whatever the files hold."""
    images = [lidar.to_tensor(lidar.load(path)) for path in recordings(folder, lidar)]
    if not images:
        raise UserError(f"{folder}: holds no sweeps; allowed are {', '.join(lidar.suffixes)}")
    metres, light = (torch.stack(each) for each in zip(*[((x[2] > 0) * at.range, at.intensity) for x, at in images]))
    around = None if lidar.spec.full_turn else torch.tensor(lidar.spec.azimuths)
    return Sweeps(metres, light, elevation=torch.tensor(lidar.spec.elevations), azimuth=around)


def beside_the_floor(sets: Mapping[str, Sweeps], reals: Sweeps) -> dict[str, float]:
    """"drop map: translated" and so on for every set by name, then "drop map: floor": two `halves` of the reals."""
    found = {name: compare(sweeps, reals) for name, sweeps in sets.items()}
    found["floor"] = compare(*halves(reals))
    return {f"{what}: {name}": values[what] for what in found["floor"] for name, values in found.items()}
