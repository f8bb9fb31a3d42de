"""A sweep: what came back to a scanner from each ray, with its labels in the ids of the public data sets."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from mmcycle.files import write_atomic, write_text
from mmcycle.simulate.mesh import Material, Semantic

# SemanticKITTI's ids (Behley et al. 2019) and those of nuScenes-lidarseg (Fong et al. 2022). Neither has traffic
# lights: they are 99, other-object, and 28, man-made.
SEMANTICKITTI = {
    Semantic.ROAD: 40,
    Semantic.SIDEWALK: 48,
    Semantic.BUILDING: 50,
    Semantic.FENCE: 51,
    Semantic.POLE: 80,
    Semantic.TRAFFIC_LIGHT: 99,
    Semantic.TRAFFIC_SIGN: 81,
    Semantic.VEGETATION: 70,
    Semantic.TERRAIN: 72,
    Semantic.PERSON: 30,
    Semantic.CAR: 10,
}
TRUNK = 71  # of SemanticKITTI: wood that is not leaves
NUSCENES = {
    Semantic.ROAD: 24,
    Semantic.SIDEWALK: 26,
    Semantic.BUILDING: 28,
    Semantic.FENCE: 28,
    Semantic.POLE: 28,
    Semantic.TRAFFIC_LIGHT: 28,
    Semantic.TRAFFIC_SIGN: 28,
    Semantic.VEGETATION: 30,
    Semantic.TERRAIN: 27,
    Semantic.PERSON: 2,
    Semantic.CAR: 17,
}
FAINTEST = 0.03  # what comes back with less is reported as 0 (KITTI: a tenth of all returns, of cars' the half)
THINGS = {Semantic.CAR: "Car", Semantic.PERSON: "Pedestrian"}


@dataclass(frozen=True, eq=False)
class Sweep:
    """All (H, W), for each ray; where nothing came back range is 0 and semantic SKY."""

    range: Array  # float32, metres
    semantic: Array  # uint8, Cityscapes train ids
    instance: Array  # int32, 0 = no thing
    material: Array  # uint8, mesh.Material
    incidence: Array  # float32, cosine between ray and surface normal
    reflectance: Array  # float32, of what was hit, 0 to 1
    intensity: Array  # float32, what the sensor reports, 0 to 1
    directions: Array  # (H, W, 3) float32, unit, sensor frame

    @property
    def returned(self) -> Array:
        """(H, W) bool."""
        return self.range > 0

    @property
    def points(self) -> Array:
        """(N, 4) float32: x y z in metres, intensity; of the rays that came back, in the order of `listed`."""
        xyz = self.directions * self.range[..., None]
        return self.listed(np.concatenate([xyz, self.intensity[..., None]], -1)).astype(np.float32)

    @property
    def semantickitti(self) -> Array:
        """(N,) uint32 beside `points`: instance << 16 | SemanticKITTI id; only cars and people have instances."""
        table = _table(SEMANTICKITTI)
        wood = (self.semantic == Semantic.VEGETATION) & (self.material != Material.LEAF)
        ids = np.where(wood, TRUNK, table[self.semantic]).astype(np.uint32)
        thing = np.isin(self.semantic, (Semantic.CAR, Semantic.PERSON))
        return self.listed(ids | np.where(thing, self.instance, 0).astype(np.uint32) << 16)

    @property
    def lidarseg(self) -> Array:
        """(N,) uint8 beside `points`: nuScenes-lidarseg ids."""
        return self.listed(_table(NUSCENES)[self.semantic]).astype(np.uint8)

    def listed(self, image: Array) -> Array:
        """(H, W, ...) -> (N, ...) as in KITTI's files: ring by ring from the top, each counter-clockwise from ahead."""
        level = self.directions[np.abs(self.directions[:, 0, 2]).argmin()]
        around = np.argsort(np.arctan2(level[:, 1], level[:, 0]) % (2 * np.pi), kind="stable")
        return image[:, around][self.returned[:, around]]


def remission(rho: Array, incidence: Array, distance: Array) -> Array:
    """What a sensor that corrects for distance reports: rho cos^0.35, even to 15 m, falling beyond (KITTI measured).

    A retro-reflector sends the light back whatever its angle.
    """
    angle = np.where(rho > 0.9, 1, np.clip(incidence, 0, 1) ** 0.35)
    return np.clip(rho * angle * np.clip(1.15 - np.maximum(distance - 6, 0) / 60, 0.05, 1), 0, 1).astype(np.float32)


def write_sweep(swept: Sweep, points: Path, labels: Path) -> None:
    """KITTI's .bin (x, y, z, remission: little-endian float32) and SemanticKITTI's .label beside it (uint32)."""
    write_atomic(labels, lambda temporary: swept.semantickitti.astype("<u4").tofile(temporary))
    write_atomic(points, lambda temporary: swept.points.astype("<f4").tofile(temporary))


def write_boxes(boxes: Array, semantic: Array, path: Path) -> None:
    """As OpenPCDet and MMDetection3D read their own data sets: x y z length width height yaw name, sensor frame."""
    rows = (" ".join(f"{value:.3f}" for value in box) + f" {THINGS[kind]}\n" for box, kind in zip(boxes, semantic))
    write_text(path, "".join(rows))


def _table(names: dict[Semantic, int]) -> Array:
    table = np.zeros(256, np.uint32)
    table[list(names)] = list(names.values())
    return table
