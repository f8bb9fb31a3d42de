"""What a LiDAR looks at: the directions of its rows and columns, how far it sees, and the scale of its intensities."""
from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from math import inf, isfinite
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Le

from mmcycle.errors import RecordingError, UserError

MOST_ROWS, MOST_COLUMNS = 1024, 16384
DIMMEST = 0.02                          # of full intensity; no street is so dark that its brightest return has less
ENOUGH = 100                            # returns of which one is bright


@dataclass(frozen=True, kw_only=True)
class SensorSpec:
    """The grid of a range image, H rows by W columns, and the limits of the sensor that fills it.

    Angles are in degrees. Elevation 0 is level, positive is up. Azimuth 0 is straight ahead (+x), 90 is left (+y);
    columns run from left to right, so that of a full turn column 0 looks back, W/2 ahead, and the left half left,
    as in SemanticKITTI.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    rows: Annotated[int, Gt(0), Le(MOST_ROWS)] = 64
    columns: Annotated[int, Gt(0), Le(MOST_COLUMNS)] = 1024
    fov: tuple[float, float] = (3.0, -25.0)         # upper edge of the top row, lower edge of the last
    measured: tuple[float, ...] = ()                # or where the middle of every row looks, top row first
    azimuth: tuple[float, float] = (0.0, 360.0)     # middle and width of what the columns cover
    min_range: Annotated[float, Gt(0)] = 0.9        # metres; nearer points are not shown to the networks
    max_range: Annotated[float, Gt(0)] = 80.0       # metres
    intensity_scale: Annotated[float, Gt(0)] = 1.0  # what is written for full intensity: 1 KITTI, 255 nuScenes
    margin: Annotated[float, Ge(0), Le(90)] = 1.0   # how far beyond the outer rows a point may lie and still be theirs

    def __post_init__(self) -> None:
        centre, width = self.azimuth
        numbers = (*self.fov, *self.measured, centre, width, self.min_range, self.max_range, self.margin)
        if not all(isfinite(number) for number in numbers):
            raise UserError("a sensor's angles, ranges and margin must be finite numbers")
        if not (0 < self.rows <= MOST_ROWS and 0 < self.columns <= MOST_COLUMNS):
            raise UserError(
                f"rows and columns: got {self.rows} x {self.columns}; "
                f"allowed are 1 to {MOST_ROWS} rows and 1 to {MOST_COLUMNS} columns"
            )
        if self.measured and len(self.measured) != self.rows:
            raise UserError(f"measured: has {len(self.measured)} elevations for rows: {self.rows}; give one for each")
        if not all(above > below for above, below in pairwise((90.0001, *self.elevations, -90.0001))):
            name, got = ("measured", self.measured) if self.measured else ("fov", self.fov)
            raise UserError(f"{name}: must fall from the top row to the last, within 90 to -90 degrees; got {got}")
        if not (0 < width <= 360 and -360 <= centre <= 360):
            raise UserError(f"azimuth: got ({centre}, {width}); give (middle, width), the width above 0 and up to 360")
        if not 0 < self.min_range < self.max_range:
            raise UserError(
                f"min_range, max_range: got {self.min_range} and {self.max_range}; "
                "both must be above 0 m, the first smaller"
            )
        if not 0 <= self.margin <= 90:
            raise UserError(f"margin: got {self.margin}; it must be 0 to 90 degrees")
        if not 0 < self.intensity_scale < inf:
            raise UserError(f"intensity_scale: got {self.intensity_scale}; it must be above 0")

    @property
    def elevations(self) -> tuple[float, ...]:
        """Where the middle of each row looks, degrees, top row first."""
        if self.measured:
            return self.measured
        top, bottom = self.fov
        return tuple(float(top + (row + 0.5) * (bottom - top) / self.rows) for row in range(self.rows))

    @property
    def azimuths(self) -> tuple[float, ...]:
        """Where the middle of each column looks, degrees in [-180, 180), from left to right."""
        centre, width = self.azimuth
        turned = (centre + width / 2 - (column + 0.5) * width / self.columns for column in range(self.columns))
        return tuple((angle + 180) % 360 - 180 for angle in turned)

    @property
    def row_edges(self) -> np.ndarray:
        """(H + 1,) degrees, falling: halfway between two rows; the outermost lie `margin` beyond their rows' own."""
        centres = np.array(self.elevations, dtype=np.float64)
        middles = (centres[1:] + centres[:-1]) / 2
        if self.rows == 1:
            top, bottom = (self.fov if not self.measured else (centres[0], centres[0]))
        else:
            top, bottom = 2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1]
        outer = np.array([top + self.margin, bottom - self.margin]).clip(-90, 90)
        return np.concatenate([outer[:1], middles, outer[1:]])

    @property
    def full_turn(self) -> bool:
        """The last column touches the first."""
        return self.azimuth[1] == 360


def check_light(light: np.ndarray, full: float) -> None:
    """RecordingError for intensities that are not in the units of a sensor: they would come back in other ones."""
    if len(light) < ENOUGH:
        return
    brightest, middle = float(light.max()), float(np.median(light))
    if 0 < brightest <= DIMMEST * full or middle > full:
        found = f"half of its intensities are beyond {middle:g}" if middle > full else (
            f"its brightest return has intensity {brightest:g}")
        raise RecordingError(
            f"{found}, full intensity is {full:g} here: these are other units; scale them, or set full_intensity"
        )


def preset(name: str) -> SensorSpec:
    """A sensor by its name, as people write it; UserError says which names there are."""
    wanted = name.lower().replace("_", "-").replace(" ", "-")
    if wanted in PRESETS:
        return PRESETS[wanted]
    hint = get_close_matches(wanted[:100], PRESETS, n=1)
    meant = f"; did you mean {hint[0]!r}?" if hint else "."
    raise UserError(f"unknown sensor {name[:100]!r}{meant} Known: {', '.join(PRESETS)}; or describe it by its fields")


def _even(top: float, bottom: float, rows: int) -> tuple[float, ...]:
    """Elevations at even distances, the first and the last where the data sheet has them."""
    return tuple(round(float(angle), 4) for angle in np.linspace(top, bottom, rows))


def _ouster(width: float, rows: int, near: float, far: float) -> SensorSpec:
    """Ouster gives the vertical field of view from the first beam to the last, level in its middle."""
    return SensorSpec(
        rows=rows, measured=_even(width / 2, -width / 2, rows), min_range=near, max_range=far, intensity_scale=255.0
    )


# Median elevation of the rows of 17 sweeps of KITTI raw, unfolded. The data sheet says +2 to -24.8, a third of a
# degree apart above and half a degree below; the lasers of one unit are not on that grid.
HDL_64E = (
    2.635, 2.261, 2.001, 1.550, 1.284, 0.868, 0.606, 0.237, -0.108, -0.506, -0.794, -1.137, -1.509, -1.852, -2.178,
    -2.523, -2.816, -3.193, -3.452, -3.832, -4.128, -4.479, -4.785, -5.113, -5.497, -5.819, -6.119, -6.399, -6.780,
    -7.155, -7.375, -7.749, -8.369, -8.895, -9.362, -9.754, -10.218, -10.818, -11.315, -11.739, -12.191, -12.614,
    -13.139, -13.657, -14.226, -14.665, -15.158, -15.519, -16.130, -16.651, -17.210, -17.662, -18.161, -18.562,
    -19.017, -19.560, -20.070, -20.668, -21.155, -21.553, -21.999, -22.631, -23.152, -23.633,
)
# Velodyne VLP-32C user manual 63-9325, appendix on sensor specifications: closer together around the horizon.
VLP_32C = (
    15.0, 10.333, 7.0, 4.667, 3.333, 2.333, 1.667, 1.333, 1.0, 0.667, 0.333, 0.0, -0.333, -0.667, -1.0, -1.333,
    -1.667, -2.0, -2.333, -2.667, -3.0, -3.333, -3.667, -4.0, -4.667, -5.333, -6.148, -7.254, -8.843, -11.31,
    -15.639, -25.0,
)
# Ranges and fields of view: user manuals of the Velodyne HDL-64E S2 (KITTI's files end at 80 m), HDL-32E (63-9113),
# VLP-16 (63-9243), VLP-32C; data sheets of the Ouster OS0, OS1 and OS2, revision 6 (their own unit's beam angles, which
# `fit_sensor` finds, differ by a few tenths of a degree). The number of columns is a choice: Ouster's own is 1024,
# the Velodynes turn at 1800 to 2200 firings.
PRESETS: dict[str, SensorSpec] = {
    "hdl-64e": SensorSpec(measured=HDL_64E),
    "hdl-64e-spherical": SensorSpec(fov=(3.0, -25.0), margin=0.0),       # the grid of SemanticKITTI's range images
    "hdl-32e": SensorSpec(
        rows=32, measured=_even(10.67, -30.67, 32), min_range=1.0, max_range=100.0, intensity_scale=255.0
    ),
    "vlp-16": SensorSpec(rows=16, measured=_even(15, -15, 16), min_range=0.5, max_range=100.0, intensity_scale=255.0),
    "vlp-32c": SensorSpec(rows=32, measured=VLP_32C, min_range=0.5, max_range=200.0, intensity_scale=255.0),
    "os0-64": _ouster(90, 64, near=0.3, far=50.0),
    "os0-128": _ouster(90, 128, near=0.3, far=50.0),
    "os1-32": _ouster(45, 32, near=0.3, far=120.0),
    "os1-64": _ouster(45, 64, near=0.3, far=120.0),
    "os1-128": _ouster(45, 128, near=0.3, far=120.0),
    "os2-64": _ouster(22.5, 64, near=1.0, far=240.0),
    "os2-128": _ouster(22.5, 128, near=1.0, far=240.0),
}
