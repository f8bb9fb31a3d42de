"""A scene is one street: triangles, what they are made of, the boxes of cars and people, and the lights. No sensor.

World: metres, right-handed, x along the street, y to the left, z up; traffic keeps right; the ego car stands at x = 0.
A camera looks ahead; for a sensor that turns, and for a drive, the street is also built behind the ego car, greener
and with fewer cars: so that the classes of a sweep have about the shares that they have in SemanticKITTI.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from mmcycle.simulate.buildings import raise_buildings
from mmcycle.simulate.cars import car
from mmcycle.simulate.garden import overgrow
from mmcycle.simulate.mesh import Mesh, Semantic
from mmcycle.simulate.plan import Plan, lay_ground
from mmcycle.simulate.props import LEAVES, hedge, person, sign, street_lamp, traffic_light, tree


@dataclass(frozen=True)
class Weather:
    """sun: unit vector towards it; clouds: 0 clear to 1 overcast; fog: extinction per metre on a foggy day."""

    sun: Array
    clouds: float
    fog: float
    warmth: float


@dataclass(frozen=True, eq=False)
class Scene:
    """Arrays over triangles (T), things with a box (N), street lamps (K), other cars' headlights (S), facades (F)."""

    seed: int
    vertices: Array  # (V, 3) float32, metres
    triangles: Array  # (T, 3) uint32
    uv: Array  # (T, 3, 2) float32, metres along the surface
    colour: Array  # (T, 3) float32, linear
    emission: Array  # (T, 3) float32, radiance at night
    semantic: Array  # (T,) uint8, Cityscapes train ids
    material: Array  # (T,) uint8, mesh.Material
    instance: Array  # (T,) int32, 0 = no thing
    facade: Array  # (T,) int32, row of `facades`, -1 = none
    reflectance: Array  # (T,) float32, infrared
    facades: Array  # (F, 16) float32, columns as in buildings.FACADE
    boxes: Array  # (N, 7) float32: centre x y z, length, width, height, yaw (radians)
    box_instance: Array  # (N,) int32
    box_semantic: Array  # (N,) uint8
    box_way: Array  # (N,) int8: 1 drives along x, -1 against it, 0 stands
    lamps: Array  # (K, 3) float32
    lamp_colour: Array  # (3,) float32
    headlights: Array  # (S, 6) float32: position, unit direction
    ego: Array  # (4,) float32: x, y, z on the road, yaw
    plan: Plan
    weather: Weather


class Thing(NamedTuple):
    """A car or a person on the straight street, before it is bent; place: x, y, z, yaw; size: length, width, height."""

    instance: int
    semantic: Semantic
    place: tuple[float, float, float, float]
    size: Array
    way: int = 0


class Lights(NamedTuple):
    """Street lamps (K, 3), their colour (3,), headlights (S, 6); on the straight street."""

    lamps: Array
    colour: Array
    headlights: Array


class Reach(NamedTuple):
    """Metres of x between which each kind of thing is put."""

    parked: tuple[float, float]
    driving: tuple[float, float, float]  # the first car between the first two
    walking: tuple[float, float]
    crossing: tuple[float, float]
    trees: tuple[float, float, float]
    park: tuple[float, float]
    hedges: tuple[float, float]
    signs: tuple[float, float]
    lamps: tuple[float, float]  # from so many times their spacing, to so many metres
    traffic: float = 1.0  # share of cars that are really there
    empty: float = 0.0  # share of plots without a house, and whether things grow wild


AHEAD = Reach((-12, 120), (9, 40, 120), (5, 60), (10, 40), (4, 14, 125), (-4, 130), (-6, 110), (8, 80), (-1.3, 150))
GREEN = AHEAD._replace(traffic=0.3, empty=0.6)
BEHIND = Reach(
    parked=(-124, -16),
    driving=(-124, -90, -9),
    walking=(-75, 3),
    crossing=(-60, -12),
    trees=(-124, -114, -3),
    park=(-126, -7),
    hedges=(-120, -7.5),
    signs=(-90, -6),
    lamps=(-5, -42),
    traffic=0.3,
    empty=0.6,
)


def street(seed: int, around: bool = False) -> Scene:
    """The same seed gives the same street, bit for bit; `around` gives another, for a sensor that turns or drives."""
    rng = np.random.default_rng(seed)
    plan = Plan.draw(rng)
    mesh, facades, things = Mesh(), list[list[float]](), list[Thing]()
    parts = [_build(mesh, rng, plan, facades, things, GREEN if around else AHEAD)]
    weather = _weather(rng)
    if around:
        parts.append(_build(mesh, rng, plan.behind(), facades, things, BEHIND))
    lamps, headlights = (np.concatenate(lights) for lights in zip(*((p.lamps, p.headlights) for p in parts)))
    return _join(seed, mesh, plan, np.array(facades), things, Lights(lamps, parts[0].colour, headlights), weather)


def _build(
    mesh: Mesh, rng: np.random.Generator, plan: Plan, facades: list, things: list[Thing], reach: Reach
) -> Lights:
    lay_ground(mesh, plan)
    plots = raise_buildings(mesh, rng, plan, facades, reach.empty)
    _park(mesh, rng, plan, things, reach)
    headlights = _drive(mesh, rng, plan, things, reach)
    _walk(mesh, rng, plan, things, reach)
    lamps, glow = _light(mesh, rng, plan, reach)
    _plant(mesh, rng, plan, reach)
    _furnish(mesh, rng, plan, reach)
    if reach.empty:
        overgrow(mesh, rng, plan, plots)
    return Lights(lamps, glow, headlights)


def _weather(rng: np.random.Generator) -> Weather:
    azimuth, height = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(18, 62))
    sun = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    clouds = float(rng.choice([rng.uniform(0.1, 0.6), 1.0], p=[0.82, 0.18]))
    return Weather(sun.astype(np.float32), clouds, float(rng.uniform(0.012, 0.04)), float(rng.uniform(0, 1)))


def _park(mesh: Mesh, rng: np.random.Generator, plan: Plan, things: list[Thing], reach: Reach) -> None:
    for side in (-1, 1):
        if not plan.parking[side > 0]:
            continue
        density, y = reach.traffic * rng.uniform(0.35, 0.9), side * (plan.half + 1.05)
        places = np.arange(*reach.parked, 6.0)
        for x in places + rng.uniform(-0.5, 0.5, len(places)):
            if rng.random() < density and not plan.crossed(x, 5.5):
                yaw = (0 if side < 0 else np.pi) + rng.normal() * 0.015
                place = (float(x), y + rng.normal() * 0.07, 0.0, yaw)
                instance, size = car(mesh, rng, place, driving=False)
                things.append(Thing(instance, Semantic.CAR, place, size))


def _drive(mesh: Mesh, rng: np.random.Generator, plan: Plan, things: list[Thing], reach: Reach) -> Array:
    """Cars in the lanes, none nearer than 9 m; -> their headlights (S, 6), by x."""
    lights = []
    for lane in range(-plan.lanes, plan.lanes):
        y = (lane + 0.5) * plan.lane
        x = rng.uniform(*reach.driving[:2])
        while x < reach.driving[2]:
            if rng.random() < 0.75 * reach.traffic:
                yaw = (0.0 if y < 0 else np.pi) + rng.normal() * 0.01
                place = (float(x), y + rng.normal() * 0.12, 0.0, yaw)
                instance, size = car(mesh, rng, place, driving=True)
                things.append(Thing(instance, Semantic.CAR, place, size, 1 if y < 0 else -1))
                ahead = np.array([np.cos(yaw), np.sin(yaw), -0.03])
                lights.append([*(np.array([x, place[1], 0.66]) + 2.3 * ahead), *ahead])
            x += rng.uniform(10, 45)
    return np.array(sorted(lights)).reshape(-1, 6)


def _walk(mesh: Mesh, rng: np.random.Generator, plan: Plan, things: list[Thing], reach: Reach) -> None:
    for side in (-1, 1):
        for _ in range(int(rng.integers(2, 9))):
            x, y = rng.uniform(*reach.walking), side * rng.uniform(plan.kerb(side) + 0.5, plan.front(side) - 0.4)
            place = (float(x), float(y), 0.13, float(rng.choice([0, np.pi]) + rng.normal() * 0.3))
            if not plan.crossed(x, 1) and _free(things, place):
                instance, size = person(mesh, rng, place)
                things.append(Thing(instance, Semantic.PERSON, place, size))
    for _ in range(int(rng.choice([0, 1, 2], p=[0.6, 0.25, 0.15]))):
        x = plan.zebra + rng.uniform(-1, 1) if plan.zebra > 0 else rng.uniform(*reach.crossing)
        place = (float(x), float(rng.uniform(-plan.half, plan.half)), 0.0, float(rng.choice([-1, 1]) * np.pi / 2))
        if _free(things, place):
            instance, size = person(mesh, rng, place)
            things.append(Thing(instance, Semantic.PERSON, place, size))


def _free(things: list[Thing], place: tuple) -> bool:
    """Is there no car and nobody where a person would stand?"""
    return all(
        abs(other.place[0] - place[0]) > other.size[0] / 2 + 0.5
        or abs(other.place[1] - place[1]) > other.size[1] / 2 + 0.3
        for other in things
    )


def _light(mesh: Mesh, rng: np.random.Generator, plan: Plan, reach: Reach) -> tuple[Array, Array]:
    glow = ((1.0, 0.52, 0.18), (1.0, 0.74, 0.42), (1.0, 0.86, 0.66))[rng.integers(3)]
    spacing, height, arm = rng.uniform(20, 30), rng.uniform(6.0, 8.5), rng.uniform(0.8, 2.0)
    sides = (-1, 1) if rng.random() < 0.7 else (int(rng.choice([-1, 1])),)
    lamps, first = [], reach.lamps[0] * spacing + rng.uniform(0, spacing)
    for k, x in enumerate(np.arange(first, reach.lamps[1], spacing / len(sides))):
        side = sides[k % len(sides)]
        if not plan.crossed(x, 2):
            place = (float(x), side * (plan.kerb(side) + 0.5), 0.13, -side * np.pi / 2)
            lamps.append(street_lamp(mesh, place, height, arm, glow))
    return np.array(lamps).reshape(-1, 3), np.array(glow)


def _plant(mesh: Mesh, rng: np.random.Generator, plan: Plan, reach: Reach) -> None:
    leaf = LEAVES[rng.integers(len(LEAVES))]
    for side in (-1, 1):
        gap = rng.uniform(9, 18)
        if plan.trees[side > 0]:
            for x in np.arange(rng.uniform(*reach.trees[:2]), reach.trees[2], gap):
                if not plan.crossed(x, 3):
                    y = side * (plan.kerb(side) + 1.0)
                    tree(
                        mesh, rng, (float(x), y, 0.1, 0.0), leaf, rng.uniform(0.8, 1.15) * (1.2 if plan.garden else 1.0)
                    )
        if plan.park == side:
            for x in np.arange(*reach.park, 5.0):
                y = side * rng.uniform(plan.front(side) + 2.5, 40)
                if not plan.crossed(x, 4):
                    tree(
                        mesh,
                        rng,
                        (float(x + rng.uniform(-2, 2)), float(y), 0.1, 0.0),
                        LEAVES[int(rng.integers(len(LEAVES)))],
                        rng.uniform(0.9, 1.5),
                    )
        elif plan.garden:
            for x in np.arange(*reach.hedges, 1.7):
                if rng.random() < 0.55 and not plan.crossed(x, 1.5):
                    size = np.array([1.0, 0.45, rng.uniform(0.5, 0.9)])
                    hedge(
                        mesh,
                        rng,
                        (float(x), side * (plan.front(side) + 0.6), 0.1, 0.0),
                        size,
                        LEAVES[int(rng.integers(3))],
                    )


def _furnish(mesh: Mesh, rng: np.random.Generator, plan: Plan, reach: Reach) -> None:
    for side in (-1, 1):
        for _ in range(int(rng.integers(1, 5))):
            x = rng.uniform(*reach.signs)
            if not plan.crossed(x, 1):
                sign(mesh, rng, (float(x), side * (plan.kerb(side) + 0.35), 0.13, np.pi if side < 0 else 0.0))
    if plan.cross > 0:
        for side, x in (
            (-1, plan.cross - plan.gap - 0.5),
            (1, plan.cross + plan.gap + 0.5),
            (1, plan.cross - plan.gap - 0.5),
        ):
            traffic_light(mesh, rng, (x, side * (plan.kerb(side) + 0.4), 0.13, np.pi))


def _join(
    seed: int, mesh: Mesh, plan: Plan, facades: Array, things: list[Thing], lights: Lights, sky: Weather
) -> Scene:
    """One array of everything, bent along the street's arc and laid over its hill."""
    triangles = np.concatenate(mesh.triangles)
    looks = [look for look, _, _ in mesh.looks]
    kinds = mesh.per_triangle([(look.semantic, look.material, thing, facade) for look, thing, facade in mesh.looks])
    ego = np.array([[0.0, -plan.lane / 2 - (plan.lanes - 1) * plan.lane * plan.ego_lane, 0.0]])
    return Scene(
        seed=seed,
        vertices=plan.bent(np.concatenate(mesh.vertices)).astype(np.float32),
        triangles=triangles.astype(np.uint32),
        uv=np.concatenate(mesh.uv).astype(np.float32)[triangles],
        colour=mesh.colours().astype(np.float32),
        emission=mesh.per_triangle([look.emission for look in looks]).astype(np.float32),
        semantic=kinds[:, 0].astype(np.uint8),
        material=kinds[:, 1].astype(np.uint8),
        instance=kinds[:, 2].astype(np.int32),
        facade=kinds[:, 3].astype(np.int32),
        reflectance=mesh.per_triangle([look.reflectance for look in looks]).astype(np.float32),
        facades=facades.astype(np.float32),
        boxes=_bent_boxes(plan, things).astype(np.float32),
        box_instance=np.array([thing.instance for thing in things], np.int32),
        box_semantic=np.array([thing.semantic for thing in things], np.uint8),
        box_way=np.array([thing.way for thing in things], np.int8),
        lamps=plan.bent(lights.lamps).astype(np.float32),
        lamp_colour=lights.colour.astype(np.float32),
        headlights=_bent_headlights(plan, lights.headlights).astype(np.float32),
        ego=np.r_[plan.bent(ego)[0], 0.0].astype(np.float32),
        plan=plan,
        weather=sky,
    )


def _bent_boxes(plan: Plan, things: list[Thing]) -> Array:
    places = np.array([thing.place for thing in things]).reshape(-1, 4)
    sizes = np.array([thing.size for thing in things]).reshape(-1, 3)
    centres = plan.bent(places[:, :3])
    centres[:, 2] += sizes[:, 2] / 2
    return np.c_[centres, sizes, places[:, 3] + plan.curvature * places[:, 0]]


def _bent_headlights(plan: Plan, headlights: Array) -> Array:
    start = plan.bent(headlights[:, :3])
    return np.c_[start, plan.bent(headlights[:, :3] + headlights[:, 3:]) - start]
