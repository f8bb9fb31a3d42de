"""A scanner turns in a scene and measures it: range, reflectance and the label of every ray of a sweep.

Sensor frame: metres, x ahead, y to the left, z up, as KITTI's Velodyne. Images are (H, W): row 0 looks highest,
column 0 looks backwards, the middle looks ahead, the left half looks to the left (+y).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from einops import rearrange
from numpy import ndarray as Array

from mmcycle.errors import UserError, need
from mmcycle.simulate.beam import depth, fuller, painted, texture, windows
from mmcycle.simulate.mesh import Material, Semantic
from mmcycle.simulate.scene import Scene
from mmcycle.simulate.sensor_model import calibrated, noisy
from mmcycle.simulate.sweep import FAINTEST, Sweep, remission

MODES = ("ideal", "calibrated")
FEWEST = 5  # points on a thing; with fewer it gets no box
NEAREST = 0.9  # metres; what is nearer does not come back
# Infrared reflectance seen head-on, mean and spread between things: such that the remission of a sweep has the means
# that SemanticKITTI has (road .21, sidewalk .30, terrain .34, building .43, vegetation .33, pole .19, person .37).
REFLECTANCE = {
    Semantic.ROAD: (0.37, 0.03),
    Semantic.SIDEWALK: (0.49, 0.03),
    Semantic.BUILDING: (0.55, 0.13),
    Semantic.FENCE: (0.36, 0.10),
    Semantic.POLE: (0.23, 0.12),
    Semantic.TRAFFIC_LIGHT: (0.23, 0.10),
    Semantic.VEGETATION: (0.44, 0.06),
    Semantic.TERRAIN: (0.56, 0.04),
    Semantic.PERSON: (0.45, 0.12),
}
BARK = 0.36  # of trunks


class Sensor(Protocol):
    """What a scanner must know of a sensor: the grid of its range images, degrees, and how far it sees, metres."""

    @property
    def elevations(self) -> tuple[float, ...]:
        """(H,) above the horizon, top row first."""

    @property
    def azimuths(self) -> tuple[float, ...]:
        """(W,) to the left of straight ahead."""

    @property
    def max_range(self) -> float: ...


@dataclass(frozen=True)
class Pose:
    """Where a sensor is: metres in the world, and degrees; yaw to the left, pitch up, roll to the right."""

    x: float
    y: float
    z: float
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0

    @classmethod
    def aboard(cls, scene: Scene, height: float = 1.73) -> "Pose":
        """On the roof of the scene's ego car; height, pitch and roll vary a little with the scene."""
        rng = np.random.default_rng((scene.seed, 5))
        x, y, z, heading = (float(v) for v in scene.ego)
        pitch = np.degrees(scene.plan.heading(0.0)[1]) + rng.normal() * 0.5
        tall = z + height + float(rng.uniform(-0.08, 0.08))
        return cls(x, y + float(rng.normal() * 0.2), tall, float(np.degrees(heading)), float(pitch), rng.normal() * 0.4)

    @property
    def matrix(self) -> Array:
        """(4, 4): sensor frame -> world."""
        (cy, cp, cr), (sy, sp, sr) = (f(np.radians([self.yaw, self.pitch, self.roll])) for f in (np.cos, np.sin))
        yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        pitch = np.array([[cp, 0, -sp], [0, 1, 0], [sp, 0, cp]])
        roll = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
        out = np.eye(4)
        out[:3, :3], out[:3, 3] = yaw @ pitch @ roll, (self.x, self.y, self.z)
        return out


class Scanner:
    """A scene in Open3D's ray caster: built once, then swept from any pose."""

    def __init__(self, scene: Scene, threads: int = 1) -> None:
        self._tensor = need("open3d", "Simulating a LiDAR").core.Tensor
        self.scene, self._threads, self._rho = scene, threads, _reflectance(scene)
        self._caster = need("open3d", "Simulating a LiDAR").t.geometry.RaycastingScene(nthreads=threads)
        self._caster.add_triangles(self._tensor(fuller(scene)), self._tensor(scene.triangles))

    def sweep(self, pose: Pose, directions: Array, max_range: float = 80.0) -> Sweep:
        """directions: (H, W, 3), unit, sensor frame. An ideal sensor: whatever is hit within max_range comes back."""
        turned = (directions @ pose.matrix[:3, :3].T.astype(np.float32)).astype(np.float32)
        start = np.broadcast_to(np.float32([pose.x, pose.y, pose.z]), turned.shape)
        answer = self._caster.cast_rays(self._tensor(np.concatenate([start, turned], -1)), nthreads=self._threads)
        distance = answer["t_hit"].numpy()
        landed = (distance >= NEAREST) & (distance <= max_range)
        triangle = np.where(landed, answer["primitive_ids"].numpy(), 0).astype(np.int64)
        normal = answer["primitive_normals"].numpy()
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
        incidence = np.where(landed, np.minimum(np.abs((normal * turned).sum(-1)), 1), 0).astype(np.float32)
        distance = np.where(landed, distance, 0)
        further, rho, glass = self._met(landed, triangle, start + turned * distance[..., None], incidence, answer)
        distance = distance + further
        material = np.where(glass, np.uint8(Material.GLASS), self.scene.material[triangle])
        light = remission(rho, incidence, distance)
        return Sweep(
            range=distance.astype(np.float32),
            semantic=np.where(landed, self.scene.semantic[triangle], np.uint8(Semantic.SKY)),
            instance=np.where(landed, self.scene.instance[triangle], 0),
            material=np.where(landed, material, np.uint8(Material.PLAIN)),
            incidence=incidence,
            reflectance=rho,
            intensity=np.where(light < FAINTEST, np.float32(0), light),
            directions=directions,
        )

    def _met(
        self, landed: Array, triangle: Array, point: Array, incidence: Array, answer: dict
    ) -> tuple[Array, Array, Array]:
        """(H, W) each, 0 where nothing was met: metres that the beam goes on, the reflectance there, is it a pane?"""
        further, rho, glass = (np.zeros(landed.shape, kind) for kind in (np.float32, np.float32, bool))
        at = np.nonzero(landed)
        which, where = triangle[at], point[at]
        further[at] = depth(self.scene, which, where, incidence[at])
        uneven = (self._rho[which] * texture(self.scene, which, where)).clip(0.02, 0.9)
        rho[at] = np.where(self._rho[which] > 0.9, self._rho[which], uneven)
        at = np.nonzero(landed & (self.scene.facade[triangle] >= 0))
        which, corner = self.scene.uv[triangle[at]], answer["primitive_uvs"].numpy()[at]
        b, c = corner.T[..., None]
        uv = which[:, 0] * (1 - b - c) + which[:, 1] * b + which[:, 2] * c
        pane, behind, light = windows(self.scene, triangle[at], uv)
        glass[at] = pane
        further[at] = np.where(pane, behind / np.maximum(incidence[at], 0.3), further[at])
        rho[at] = np.where(pane, light * texture(self.scene, triangle[at], point[at]), rho[at])
        return further, rho, glass


def scan(
    scene: Scene,
    pose: Pose,
    elevations: Array,
    azimuths: Array | int,
    max_range: float = 80.0,
    seed: int = 0,
    mode: str = "ideal",
    noise: float = 0.0,
) -> Sweep:
    """One sweep of a scene; for several poses build a `Scanner` once.

    elevations: (H,) degrees; azimuths: (W,) degrees, left is positive, or how many columns a full turn has;
    noise: standard deviation of the range, metres. `calibrated` is the hand-made sensor of `sensor_model`.
    """
    check_mode(mode)
    swept = Scanner(scene).sweep(pose, directions(elevations, azimuths), max_range)
    return sensed(swept, mode, noise, np.random.default_rng((seed, 6)))


def sensed(swept: Sweep, mode: str, noise: float, rng: np.random.Generator) -> Sweep:
    """What a sensor reports of what an ideal one would have seen."""
    return noisy(calibrated(swept, rng) if mode == "calibrated" else swept, noise, rng)


def boxes_seen(scene: Scene, pose: Pose, swept: Sweep) -> tuple[Array, Array]:
    """-> (N, 7) centre x y z, length, width, height, yaw in the sensor frame (metres, radians), and (N,) semantic.

    Of the things with at least five points. A pitched sensor sees boxes that are level as its own.
    """
    count = np.bincount(swept.instance[swept.returned], minlength=int(scene.instance.max()) + 1)
    seen = count[scene.box_instance] >= FEWEST
    matrix, boxes = pose.matrix, scene.boxes[seen].astype(np.float64)
    boxes[:, :3] = (boxes[:, :3] - matrix[:3, 3]) @ matrix[:3, :3]
    boxes[:, 6] = (boxes[:, 6] - np.radians(pose.yaw) + np.pi) % (2 * np.pi) - np.pi
    return boxes, scene.box_semantic[seen]


def check_mode(mode: str) -> None:
    """An unknown mode is a UserError."""
    if mode not in MODES:
        raise UserError(f"unknown sensor mode {mode!r}; a scanner is {' or '.join(MODES)}")


def directions(elevations: Array, azimuths: Array | int) -> Array:
    """(H, W, 3) unit vectors in the sensor frame; a number of columns means the bin centres of a full turn."""
    up = np.asarray(elevations, np.float64)
    around = turn(azimuths) if isinstance(azimuths, int) else np.asarray(azimuths, np.float64)
    if up.ndim != 1 or around.ndim != 1 or not up.size or not around.size or np.abs(up).max() > 90:
        raise UserError(
            f"elevations {up.shape} and azimuths {around.shape}: give a list of each in degrees, "
            "elevations between -90 and 90"
        )
    up, around = np.radians(up)[:, None], np.radians(around)[None]
    rays = np.stack([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up) + 0 * around])
    return rearrange(rays, "xyz h w -> h w xyz").astype(np.float32)


def turn(columns: int) -> Array:
    """(W,) degrees: the centres of the columns of a full turn, from +180 (behind) over 0 (ahead) to -180."""
    return 180 - (np.arange(columns) + 0.5) * 360 / columns


def _reflectance(scene: Scene) -> Array:
    """(T,) float32: by class, each thing a little its own; cars and signs know theirs by part."""
    draw = np.clip(np.random.default_rng((scene.seed, 7)).standard_normal(int(scene.instance.max()) + 1), -2, 2)
    draw[0] = 0.0
    mean, spread = np.zeros(256), np.zeros(256)
    for semantic, (middle, width) in REFLECTANCE.items():
        mean[semantic], spread[semantic] = middle, width
    rho = mean[scene.semantic] + spread[scene.semantic] * draw[scene.instance]
    rho = np.where((scene.semantic == Semantic.VEGETATION) & (scene.material != Material.LEAF), BARK, rho)
    own = np.isin(scene.semantic, (Semantic.CAR, Semantic.TRAFFIC_SIGN))
    parts = np.where(scene.material == Material.PAINT, painted(scene.reflectance), scene.reflectance)
    return np.clip(np.where(own, parts, rho), 0.02, 0.99).astype(np.float32)
