"""Points in space as bytes that the page's viewer reads: few enough, and eight bytes or so for each."""
import base64
import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mmcycle.errors import UserError
from mmcycle.modality import Cloud
from mmcycle.report.numbers import count

MOST_POINTS = 16_384                            # in one viewer, evenly drawn from all
FARTHEST = 20                                   # times the median distance: what lies beyond is an error of the sensor
MOST_COLOURS = 4                                # ways to colour the points of one viewer


@dataclass(frozen=True)
class Viewer:
    """A cloud as the script of the page unpacks it.

    points      base64 of x, y, z of each point (int16, little-endian, in `unit` metres), then a byte each by colouring
    colourings  JSON, [name, "scale" (0 to 255) or "classes" (the class modulo 256)] in the order of the bytes
    """

    kind: ClassVar[str] = "points"
    points: str
    unit: float
    reach: float                                # metres from the scanner that most points lie within
    colourings: str
    about: str


def viewer(cloud: Cloud) -> Viewer:
    """UserError when the cloud is none; points that are not finite are left out."""
    points = np.asarray(cloud.points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise UserError(f"a cloud is an array (points, 3); got {points.shape}")
    chosen = _chosen(points)
    shown = points[chosen]
    far = np.linalg.norm(shown, axis=1)
    unit = max(float(np.abs(shown).max(initial=0)), 1e-3) / 32767
    colours = list(cloud.colours.items())[:MOST_COLOURS]
    layers = [_bytes(name, np.asarray(values), len(points), chosen) for name, values in colours]
    content = b"".join([np.rint(shown / unit).astype("<i2").tobytes(), *(layer for _, layer in layers)])
    whole = f" of {count(len(points))}" if len(shown) < len(points) else ""
    return Viewer(
        points=base64.b64encode(content).decode(),
        unit=float(f"{unit:.6g}"),
        reach=float(f"{np.quantile(far, 0.8) if len(far) else 1:.3g}"),
        colourings=json.dumps([[name[:40], kind] for (name, _), (kind, _) in zip(colours, layers)]),
        about=f"{count(len(shown))}{whole} points",
    )


def _chosen(points: np.ndarray) -> np.ndarray:
    """Positions of the points that are shown, in their order; the same points give the same choice."""
    with np.errstate(all="ignore"):
        far = np.linalg.norm(points, axis=1)
        finite = np.isfinite(far)
        near = finite & (far <= FARTHEST * (np.median(far[finite]) if finite.any() else 0))
    places = np.flatnonzero(near)
    if len(places) <= MOST_POINTS:
        return places
    return np.sort(np.random.default_rng(0).choice(places, MOST_POINTS, replace=False))


def _bytes(name: str, values: np.ndarray, points: int, chosen: np.ndarray) -> tuple[str, bytes]:
    if values.shape != (points,):
        raise UserError(f"the colouring {name!r} has {values.shape} values for {points} points")
    values = values[chosen]
    if values.dtype.kind in "iub":
        return "classes", (values.astype(np.int64) % 256).astype(np.uint8).tobytes()
    return "scale", np.rint(np.nan_to_num(values).clip(0, 1) * 255).astype(np.uint8).tobytes()
