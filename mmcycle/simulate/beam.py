"""What a laser's beam makes of leaves, grass, window panes and paint: how deep it goes, and how much comes back.

Every figure is a function of the place alone, so that all sweeps of a street meet the same leaves and curtains.
"""

import numpy as np
from numpy import ndarray as Array

from mmcycle.simulate.mesh import Material, Semantic
from mmcycle.simulate.scene import Scene
from mmcycle.simulate.surface import fractal, panes, white

PAINT = (0.02, 0.55)  # infrared reflectance of the darkest and the lightest paint
THROUGH = 0.7  # what two passes through a clean pane leave
BLADE = 0.06  # metres that grass stands above its ground
FLEECE = (0.05, 0.15)  # metres that a beam goes into leaves, on average to the next one, and at most into a hollow
WIDER = 2.5  # times: a beam has a width, and comes back from any leaf that it touches
_RECESS = 0.15  # metres that panes lie behind their wall


def painted(reflectance: Array) -> Array:
    """0.05 to 0.5 as drawn for a car -> what its paint sends back.

    Dark pigments swallow infrared and lacquer mirrors it away: most cars are darker than they look. On KITTI's drives
    half of all that comes back from cars is reported as 0.
    """
    dark, light = PAINT
    return dark + (light - dark) * ((np.asarray(reflectance) - 0.05) / 0.45).clip(0, 1) ** 4


def fuller(scene: Scene) -> Array:
    """(V, 3): the corners of the scene, its single leaves as large as they are to a beam."""
    leaf = scene.triangles[scene.material == Material.LEAF]
    alone = leaf[(np.bincount(leaf.ravel(), minlength=len(scene.vertices))[leaf] == 1).all(1)]
    out = scene.vertices.copy()
    corners = out[alone]
    middle = corners.mean(1, keepdims=True)
    out[alone] = middle + WIDER * (corners - middle)
    return out


def depth(scene: Scene, triangle: Array, point: Array, incidence: Array) -> Array:
    """(N,) metres that the beam goes on behind (N, 3), where it met leaves; grass is met before its ground."""
    x, y, z = point.T
    grain = white(x + 0.7 * z, y + 1.3 * z, 0.04)
    hollow = white(x + 0.5 * z, y + 0.8 * z, 0.3)
    material, semantic = scene.material[triangle], scene.semantic[triangle]
    hedge = (material == Material.LEAF) & (semantic == Semantic.VEGETATION)
    into = np.minimum(-FLEECE[0] * np.log(np.maximum(grain, 1e-3)) + FLEECE[1] * hollow, 0.5)
    over = -BLADE * grain / np.maximum(incidence, 0.15)
    return np.where(hedge, into, np.where(material == Material.GRASS, over, 0)).astype(np.float32)


def texture(scene: Scene, triangle: Array, point: Array) -> Array:
    """(N,), 1 on average: no surface is even; walls have smooth parts, and others full of edges, joints and ivy."""
    x, y, z = point.T
    grain = white(x + 0.6 * z, y + 1.1 * z, 0.03) - 0.5
    semantic = scene.semantic[triangle]
    busy = white(x + 0.9 * z, y + 1.7 * z, 0.9) < 0.4
    spread = np.where(semantic == Semantic.BUILDING, np.where(busy, 1.0, 0.2), 0.4)
    spread = np.where(semantic == Semantic.VEGETATION, 0.7, spread)
    return (1 + spread * grain + 0.4 * (fractal(x + 0.7 * z, y + 0.7 * z, 0.05) - 0.5)).astype(np.float32)


def windows(scene: Scene, triangle: Array, uv: Array) -> tuple[Array, Array, Array]:
    """Of triangles (N,) of facades, at (N, 2) metres: is it a pane, metres to what is behind, the reflectance of that.

    A pane itself sends next to nothing back. Behind most hang curtains and blinds; behind the others is a room, and
    behind a shop's its goods.
    """
    row, (u, v) = scene.facades[scene.facade[triangle]], uv.T
    opening, shop = panes(row, u, v)
    bay, storey, ground, seed = row[:, 0], row[:, 1], row[:, 4], row[:, 8]
    column, level = np.floor(u / bay) + seed, np.where(v < ground, -1, np.floor((v - ground) / storey))
    chance, hue = (white(column * 1.7 + k, level * 2.3 + k) for k in (31.0, 77.0))
    goods = white(u + seed, v + seed, 0.42)
    room = opening & (chance < 0.1)
    behind = np.where(shop, 0.3 + 0.5 * goods, np.where(room, 0.4 + 1.0 * hue, _RECESS + 0.15 * hue))
    rho = THROUGH * np.where(shop, 0.35 + 0.5 * goods, np.where(room, 0.4, 0.5 + 0.4 * hue))
    return opening | shop, behind, rho
