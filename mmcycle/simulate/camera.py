"""A camera looks at a scene once and photographs it under any light; every photograph of a scene shares its labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from mmcycle.errors import UserError, need
from mmcycle.simulate import light
from mmcycle.simulate.develop import develop
from mmcycle.simulate.mesh import Semantic
from mmcycle.simulate.scene import Scene
from mmcycle.simulate.surface import Appearance, Hits, appearance, dot

VIEWS = ("day", "night", "fog")
OFFSETS = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))  # four rays per pixel, in pixels (x, y)
SKY_RAYS, SKY_REACH = 2, 7.0  # per ray; metres beyond which nothing darkens a place


@dataclass(frozen=True)
class Camera:
    """A pinhole. fov: horizontal, degrees; position: x, y, z in metres; yaw to the left and pitch up, degrees."""

    width: int = 256
    height: int = 144
    fov: float = 64.0
    position: tuple[float, float, float] = (0.0, -1.6, 1.5)
    yaw: float = 0.0
    pitch: float = -1.0

    @classmethod
    def aboard(cls, scene: Scene, width: int = 256, height: int = 144) -> "Camera":
        """Behind the windscreen of the scene's ego car; mounting height, yaw and pitch vary a little with the scene."""
        rng = np.random.default_rng((scene.seed, 1))
        x, y, z, heading = (float(v) for v in scene.ego)
        return cls(
            width,
            height,
            float(rng.uniform(58, 70)),
            (x, y + float(rng.normal() * 0.15), z + float(rng.uniform(1.3, 1.75))),
            float(np.degrees(heading)) + float(rng.normal() * 3.0),
            float(rng.uniform(-1.0, 3.5)),
        )


@dataclass(frozen=True, eq=False)
class Photograph:
    """rgb (H, W, 3) uint8; semantic (H, W) uint8, Cityscapes train ids; instance (H, W) int32, 0 = none;
    depth (H, W) float32, metres along the optical axis, inf = sky."""

    rgb: Array
    semantic: Array
    instance: Array
    depth: Array


def photograph(scene: Scene, camera: Camera, view: str) -> Photograph:
    """One view alone; the same bytes as among several."""
    return photographs(scene, camera, (view,))[view]


def photographs(scene: Scene, camera: Camera, views: Sequence[str] = ("day", "night")) -> dict[str, Photograph]:
    """The rays are cast once, and every view is lit from them. An unknown view is a UserError."""
    for view in views:
        if view not in VIEWS:
            raise UserError(f"unknown view {view!r}; a camera photographs {', '.join(VIEWS)}")
    rays, axis = _rays(camera)
    world = _World(scene)
    landed, hits = world.cast(np.float32(camera.position), rays)
    sky_seen = _share_of_sky(world, hits, landed, camera, scene.seed)
    look = appearance(scene, hits)
    semantic, instance, depth = _labels(scene, camera, landed, hits, axis)
    out = {}
    for view in views:
        radiance = np.empty((len(rays), 3), np.float32)
        radiance[landed] = _lit(view, scene, hits, look, sky_seen, world)
        radiance[~landed] = _sky(view, scene, rays[~landed])
        pixels = np.minimum(radiance, 6.0).reshape(camera.height, camera.width, len(OFFSETS), 3).mean(2)
        rng = np.random.default_rng((scene.seed, 2, VIEWS.index(view)))
        out[view] = Photograph(develop(pixels, view, rng), semantic, instance, depth)
    return out


def _lit(view: str, scene: Scene, hits: Hits, look: Appearance, sky_seen: Array, world: "_World") -> Array:
    if view == "fog":
        return light.fog(scene, hits, look, sky_seen)
    return (light.day if view == "day" else light.night)(scene, hits, look, sky_seen, world.blocked)


def _sky(view: str, scene: Scene, rays: Array) -> Array:
    if view == "fog":
        return light.airlight(scene.weather) * (1.0 + 0.12 * np.clip(rays[:, 2:], 0, 1))
    return light.sky_by_day(rays, scene.weather) if view == "day" else light.sky_at_night(rays, scene)


class _World:
    """The scene in Open3D's ray caster, on one thread: processes, not threads, make it fast."""

    def __init__(self, scene: Scene) -> None:
        self._open3d = need("open3d", "Simulating a street")
        self._scene = scene
        self._caster = self._open3d.t.geometry.RaycastingScene(nthreads=1)
        self._caster.add_triangles(self._open3d.core.Tensor(scene.vertices), self._open3d.core.Tensor(scene.triangles))

    def cast(self, origin: Array, rays: Array) -> tuple[Array, Hits]:
        """-> which rays landed (N,), and where."""
        answer = self._caster.cast_rays(self._tensor(np.broadcast_to(origin, rays.shape), rays), nthreads=1)
        distance = answer["t_hit"].numpy()
        landed = np.isfinite(distance)
        rays, distance = rays[landed], distance[landed]
        triangle = answer["primitive_ids"].numpy()[landed].astype(np.int64)
        normal = answer["primitive_normals"].numpy()[landed]
        normal /= np.sqrt(dot(normal, normal))[:, None]
        normal *= -np.where(dot(normal, rays) > 0, 1, -1)[:, None].astype(np.float32)
        b, c = answer["primitive_uvs"].numpy()[landed].T[..., None]
        corner = self._scene.uv[triangle]
        uv = corner[:, 0] * (1 - b - c) + corner[:, 1] * b + corner[:, 2] * c
        return landed, Hits(origin + distance[:, None] * rays, normal, rays, distance, triangle, uv)

    def blocked(self, start: Array, towards: Array, reach: float) -> Array:
        """Is anything between start and start + reach * towards?"""
        return self._caster.test_occlusions(
            self._tensor(start, towards), tnear=0.0, tfar=float(reach), nthreads=1
        ).numpy()

    def _tensor(self, start: Array, towards: Array) -> object:
        return self._open3d.core.Tensor(np.concatenate([start, towards], 1, dtype=np.float32))


def _rays(camera: Camera) -> tuple[Array, Array]:
    """Unit rays (H * W * 4, 3), and the optical axis (3,)."""
    yaw, pitch, reach = np.radians(camera.yaw), np.radians(camera.pitch), np.tan(np.radians(camera.fov) / 2)
    ahead = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    down = np.cross(ahead, right)
    offset = np.array(OFFSETS)
    x = (np.arange(camera.width)[None, :, None] + 0.5 + offset[:, 0]) * 2 / camera.width - 1
    y = ((np.arange(camera.height)[:, None, None] + 0.5 + offset[:, 1]) * 2 - camera.height) / camera.width
    rays = ahead + reach * (x[..., None] * right + y[..., None] * down)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    return rays.reshape(-1, 3).astype(np.float32), ahead.astype(np.float32)


def _share_of_sky(world: _World, hits: Hits, landed: Array, camera: Camera, seed: int) -> Array:
    """Ambient occlusion (N,), 0..1: cosine-weighted short rays, averaged over a pixel and its like neighbours."""
    rng = np.random.default_rng((seed, 3))
    seen = np.zeros(len(hits.point), np.float32)
    for _ in range(SKY_RAYS):
        scatter = rng.standard_normal(hits.normal.shape, dtype=np.float32)
        scatter = hits.normal + scatter / np.sqrt(dot(scatter, scatter))[:, None]
        seen += ~world.blocked(hits.point + 0.012 * hits.normal, scatter, SKY_REACH)
    whole = np.zeros((3, len(landed)), np.float32)
    whole[:, landed] = seen / SKY_RAYS, np.ones_like(seen), np.log(hits.distance)
    share, count, depth = whole.reshape(3, camera.height, camera.width, len(OFFSETS)).sum(3)
    depth = depth / np.maximum(count, 1)
    total, weights = np.zeros_like(share), np.full_like(share, 1e-6)
    for dy in (-2, -1, 0, 1, 2):
        for dx in (-2, -1, 0, 1, 2):
            like = np.abs(np.roll(depth, (dy, dx), (0, 1)) - depth) < 0.04
            total += np.roll(share, (dy, dx), (0, 1)) * like
            weights += np.roll(count, (dy, dx), (0, 1)) * like
    return np.repeat((total / weights).ravel(), len(OFFSETS))[landed]


def _labels(scene: Scene, camera: Camera, landed: Array, hits: Hits, axis: Array) -> tuple[Array, Array, Array]:
    """One of the four rays speaks for its pixel: the first of those that most of the others agree with."""
    count = len(OFFSETS)
    semantic = np.full(len(landed), int(Semantic.SKY), np.uint8)
    instance, depth = np.zeros(len(landed), np.int32), np.full(len(landed), np.inf, np.float32)
    semantic[landed], instance[landed] = scene.semantic[hits.triangle], scene.instance[hits.triangle]
    depth[landed] = hits.distance * dot(hits.direction, axis)
    identity = (instance.astype(np.int64) * 256 + semantic).reshape(-1, count)
    votes = (identity[:, :, None] == identity[:, None, :]).sum(2)
    chosen = np.arange(len(identity)) * count + votes.argmax(1)
    shape = camera.height, camera.width
    return semantic[chosen].reshape(shape), instance[chosen].reshape(shape), depth[chosen].reshape(shape)
