"""A street with few things, all of them near: what a small picture can show and a short caption can count."""

from dataclasses import replace

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from mmcycle.simulate.mesh import Semantic
from mmcycle.simulate.scene import Scene

MOST = 2  # of each kind
CAR_PLACES = ((11.0, 3.6), (10.0, 0.2), (11.0, -3.6))  # metres ahead of the ego car, and to its left
PERSON_PLACES = ((5.6, 1.7), (5.2, -0.1), (5.6, -1.8))


def staged(scene: Scene, rng: Generator) -> Scene:
    """None, one or two cars and people of the street in front of the ego car, each as often; all others are away.

    So are trees, lamp posts and signs; lamps still shine. A street with too few people shows those that it has.
    """
    chosen = [
        _drawn(scene, kind, places, rng)
        for kind, places in ((Semantic.CAR, CAR_PLACES), (Semantic.PERSON, PERSON_PLACES))
    ]
    things, places = (np.concatenate(parts) for parts in zip(*chosen))
    stays = (scene.instance == 0) | np.isin(scene.instance, scene.box_instance[things])
    return _without(_put(scene, things, places), stays, things)


def _drawn(scene: Scene, kind: Semantic, places: tuple, rng: Generator) -> tuple[Array, Array]:
    """Rows of boxes (N,), and x, y of where they are to stand (N, 2), on the straight street."""
    count, there = int(rng.integers(MOST + 1)), np.flatnonzero(scene.box_semantic == kind)
    things = rng.permutation(there)[:count]
    ego = scene.plan.straightened(scene.ego[:3])[0, :2]
    spots = rng.permutation(np.array(places))[: len(things)]
    return things, spots + rng.uniform(-0.4, 0.4, spots.shape) + ego


def _put(scene: Scene, things: Array, places: Array) -> Scene:
    step = np.zeros((len(scene.vertices), 3))
    boxes = scene.boxes.copy()
    for thing, (x, y) in zip(things, places):
        middle = scene.plan.straightened(boxes[thing, :3])[0]
        change = np.array([x - middle[0], y - middle[1], 0.0])
        step[scene.triangles[scene.instance == scene.box_instance[thing]]] = change
        boxes[thing, :3] = scene.plan.bent(middle + change)[0]
        boxes[thing, 6] += scene.plan.curvature * change[0]
    going, vertices = step.any(1), scene.vertices.copy()
    vertices[going] = scene.plan.bent(scene.plan.straightened(vertices[going]) + step[going])
    return replace(scene, vertices=vertices, boxes=boxes)


def _without(scene: Scene, stays: Array, things: Array) -> Scene:
    kept = {name: getattr(scene, name)[stays] for name in _OF_TRIANGLES}
    left = {name: getattr(scene, name)[things] for name in _OF_THINGS}
    return replace(scene, **kept, **left, headlights=scene.headlights[:0])


_OF_TRIANGLES = "triangles uv colour emission semantic material instance facade reflectance".split()
_OF_THINGS = "boxes box_instance box_semantic box_way".split()
