"""A LiDAR so coarse that a test can sweep with it."""
from dataclasses import dataclass

import numpy as np

from mmcycle.simulate.scanner import turn

ROWS = np.linspace(2, -24, 16)


@dataclass(frozen=True)
class Small:
    """A sensor of 16 x 128."""

    elevations: tuple[float, ...] = tuple(float(angle) for angle in ROWS)
    azimuths: tuple[float, ...] = tuple(float(angle) for angle in turn(128))
    max_range: float = 80.0
