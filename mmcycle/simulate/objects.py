"""The cars and people that a camera sees, as lines of KITTI's label_2."""

from collections.abc import Iterator

import numpy as np
from numpy import ndarray as Array

from mmcycle.errors import need
from mmcycle.simulate.camera import Photograph
from mmcycle.simulate.scene import Scene
from mmcycle.simulate.sweep import THINGS

SMALLEST = 12  # visible pixels; what is smaller is not told
NEAREST = 0.1  # metres before the lens


def kitti_lines(scene: Scene, shot: Photograph, to_camera: Array, intrinsics: Array) -> Iterator[str]:
    """to_camera (4, 4): world -> camera frame; intrinsics (3, 3). In the order of the scene's boxes.

    type truncated occluded alpha, left top right bottom (pixels, of all of it that lies in the picture), height width
    length, x y z of the middle of its bottom, rotation_y. Occluded: 0 at least 80 % seen, 1 at least 40 %, 2 less.
    """
    count = np.bincount(shot.instance.ravel(), minlength=int(scene.instance.max()) + 1)
    for thing, semantic, box in zip(scene.box_instance, scene.box_semantic, scene.boxes):
        if count[thing] < SMALLEST:
            continue
        triangles = scene.triangles[scene.instance == thing]
        points = (scene.vertices[triangles.ravel()] @ to_camera[:3, :3].T) + to_camera[:3, 3]
        frame, truncated = _frame(points, intrinsics, shot.semantic.shape)
        share = count[thing] / max(_pixels_alone(points, frame, intrinsics), 1)
        occluded = 0 if share >= 0.8 else 1 if share >= 0.4 else 2
        yield f"{THINGS[semantic]} {truncated:.2f} {occluded} {_placed(box, to_camera, frame)}\n"


def _frame(points: Array, intrinsics: Array, shape: tuple[int, int]) -> tuple[Array, float]:
    """(left, top, right, bottom) within the picture, and the share of the box outside it."""
    pixels = points[points[:, 2] > NEAREST] @ intrinsics.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    whole = np.r_[pixels.min(0), pixels.max(0)]
    limit = np.array([shape[1], shape[0]]) - 1.0
    inside = np.r_[np.clip(whole[:2], 0, limit), np.clip(whole[2:], 0, limit)]
    area = [float(np.prod(np.maximum(frame[2:] - frame[:2], 1e-6))) for frame in (inside, whole)]
    return inside, 1 - min(area[0] / area[1], 1.0)


def _pixels_alone(points: Array, frame: Array, intrinsics: Array) -> int:
    """How many pixels the thing would cover if nothing stood before it; points (3 T, 3), camera frame."""
    open3d = need("open3d", "Simulating a drive")
    caster = open3d.t.geometry.RaycastingScene(nthreads=1)
    index = np.arange(len(points), dtype=np.uint32).reshape(-1, 3)
    caster.add_triangles(open3d.core.Tensor(points.astype(np.float32)), open3d.core.Tensor(index))
    low, high = np.floor(frame[:2]).astype(int), np.ceil(frame[2:]).astype(int) + 1
    pixels = np.stack([*np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))], -1).reshape(-1, 2)
    rays = np.c_[pixels, np.ones(len(pixels))] @ np.linalg.inv(intrinsics).T
    start = np.zeros_like(rays)
    answer = caster.test_occlusions(open3d.core.Tensor(np.c_[start, rays].astype(np.float32)), nthreads=1)
    return int(answer.numpy().sum())


def _placed(box: Array, to_camera: Array, frame: Array) -> str:
    """alpha, frame, sizes, place and rotation; box: centre x y z, length, width, height, yaw in the world."""
    length, width, height, yaw = (float(v) for v in box[3:])
    bottom = box[:3].astype(np.float64) - [0, 0, height / 2]
    x, y, z = to_camera[:3, :3] @ bottom + to_camera[:3, 3]
    ahead = to_camera[:3, :3] @ [np.cos(yaw), np.sin(yaw), 0.0]
    turn = _wrapped(np.arctan2(-ahead[2], ahead[0]))  # 0: it looks to the right of the picture
    alpha = _wrapped(turn - np.arctan2(x, z))
    numbers = [*frame, height, width, length, x, y, z, turn]
    return f"{alpha:.2f} " + " ".join(f"{value:.2f}" for value in numbers)


def _wrapped(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
