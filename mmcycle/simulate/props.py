"""The things that stand in a street: people, trees, lamps, signs. Each is put at (x, y, z, yaw), yaw in radians."""

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from mmcycle.simulate.mesh import (
    Colour,
    Look,
    Material,
    Mesh,
    Semantic,
    Solid,
    beam,
    box,
    ellipsoid,
    loft,
    scaled,
    tube,
)

CLOTHES: tuple[Colour, ...] = (
    (0.03, 0.04, 0.09),
    (0.35, 0.05, 0.05),
    (0.05, 0.15, 0.32),
    (0.42, 0.40, 0.36),
    (0.02, 0.02, 0.02),
    (0.30, 0.22, 0.04),
    (0.10, 0.20, 0.09),
    (0.40, 0.18, 0.24),
    (0.16, 0.11, 0.07),
)
SKINS: tuple[Colour, ...] = ((0.62, 0.38, 0.27), (0.40, 0.22, 0.14), (0.16, 0.08, 0.05), (0.50, 0.30, 0.20))
LEAVES: tuple[Colour, ...] = (
    (0.10, 0.19, 0.035),
    (0.07, 0.15, 0.04),
    (0.15, 0.20, 0.04),
    (0.26, 0.16, 0.03),
    (0.06, 0.13, 0.05),
)
STEEL = Look(Semantic.POLE, Material.PLAIN, (0.10, 0.11, 0.11))


def person(mesh: Mesh, rng: Generator, place: tuple[float, float, float, float]) -> tuple[int, Array]:
    """-> instance, and (length, width, height); caught in mid-stride or standing."""
    instance = mesh.new_instance()
    tall, stride = rng.uniform(1.5, 1.9), rng.choice([0.04, 0.2]) * rng.uniform(0.8, 1.4)
    hues = rng.choice(len(CLOTHES), 2)
    coat, trousers = (Look(Semantic.PERSON, Material.PLAIN, CLOTHES[k], reflectance=0.35) for k in hues)
    skin = Look(Semantic.PERSON, Material.PLAIN, SKINS[rng.integers(len(SKINS))], reflectance=0.45)
    hair = Look(
        Semantic.PERSON, Material.PLAIN, ((0.02, 0.015, 0.01), (0.12, 0.07, 0.03), (0.3, 0.22, 0.1))[rng.integers(3)]
    )
    hip, shoulder = 0.5 * tall, 0.82 * tall
    for side in (-1, 1):
        foot = np.array([side * stride, side * 0.09, 0.05])
        mesh.add(beam(foot, np.array([0, side * 0.08, hip + 0.06]), 0.085).at(*place), trousers, instance)
        mesh.add(box(0.27, 0.1, 0, 0.09).at(foot[0] + 0.05, foot[1]).at(*place), hair, instance)
        hand = np.array([-side * stride * 0.9, side * 0.25, hip - 0.02])
        mesh.add(beam(np.array([0, side * 0.2, shoulder - 0.04]), hand, 0.055).at(*place), coat, instance)
        mesh.add(ellipsoid((0.06, 0.05, 0.08), hand[2] - 0.04, 6, 4).at(hand[0], hand[1]).at(*place), skin, instance)
    around = np.array([[np.cos(a), np.sin(a)] for a in np.arange(10) / 10 * 2 * np.pi])
    torso = [
        np.c_[around * [d, w], np.full(10, z)]
        for d, w, z in (
            (0.14, 0.18, hip - 0.08),
            (0.13, 0.16, hip + 0.15),
            (0.15, 0.21, shoulder - 0.1),
            (0.09, 0.15, shoulder + 0.01),
        )
    ]
    mesh.add(loft(torso).at(*place), coat, instance)
    mesh.add(tube(0.055, shoulder, 0.9 * tall, sides=6).at(*place), skin, instance)
    mesh.add(ellipsoid((0.095, 0.08, 0.115), 0.935 * tall).at(*place), skin, instance)
    mesh.add(ellipsoid((0.10, 0.09, 0.09), 0.965 * tall).at(-0.02, 0).at(*place), hair, instance)
    return instance, np.array([0.35 + 2 * stride, 0.55, tall])


def tree(
    mesh: Mesh, rng: Generator, place: tuple[float, float, float, float], leaf: Colour, scale: float = 1.0
) -> None:
    """A trunk, a few branches and clouds of leaves, darker below and inside."""
    instance = mesh.new_instance()
    trunk, radius = rng.uniform(2.2, 3.2) * scale, rng.uniform(1.3, 2.1) * scale
    bark = Look(Semantic.VEGETATION, Material.PLAIN, (0.075, 0.055, 0.04))
    mesh.add(tube(0.13 * scale, 0, trunk + radius, 0.06, 7).at(*place), bark, instance)
    centre = np.array([0, 0, trunk + radius * 0.9])
    for _ in range(int(rng.integers(4, 7))):
        middle = centre + rng.normal(size=3) * [0.5, 0.5, 0.42] * radius
        mesh.add(beam(np.array([0, 0, trunk * 0.8]), middle, 0.035 * scale, 4).at(*place), bark, instance)
        foliage(mesh, rng, place, middle, np.full(3, radius * rng.uniform(0.55, 0.8)), leaf, instance)


def hedge(mesh: Mesh, rng: Generator, place: tuple[float, float, float, float], size: Array, leaf: Colour) -> None:
    """A bush of half-size (3,) metres."""
    foliage(mesh, rng, place, np.array([0, 0, size[2] * 0.8]), size, leaf, mesh.new_instance())


def foliage(mesh: Mesh, rng: Generator, place: tuple, centre: Array, radii: Array, leaf: Colour, instance: int) -> None:
    distance = np.hypot(place[0], place[1])
    size = 0.07 + 0.0045 * min(distance, 60.0)  # far leaves are fewer and larger
    count = int(np.clip(4.6 * float(np.prod(radii)) ** (2 / 3) / size**2, 40, 1500))
    out = rng.normal(size=(count, 3))
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    depth = rng.uniform(0.3, 1, count) ** 0.5
    corner = out * depth[:, None] * radii + centre
    sides = rng.normal(size=(2, count, 3)) * size
    vertices = np.stack([corner, corner + sides[0], corner + sides[1]], 1).reshape(-1, 3)
    tint = (0.62 + 0.38 * out[:, 2]) * (0.45 + 0.55 * depth**2) * rng.uniform(0.75, 1.3, count)
    mesh.add(
        Solid(vertices, np.arange(3 * count).reshape(-1, 3)).at(*place),
        Look(Semantic.VEGETATION, Material.LEAF, leaf, reflectance=0.4),
        instance,
        tint=tint * 1.25,
    )


def street_lamp(
    mesh: Mesh, place: tuple[float, float, float, float], height: float, reach: float, glow: Colour
) -> Array:
    """The arm reaches along yaw; -> where the light is (3,), in the frame of the place."""
    instance = mesh.new_instance()
    mesh.add(tube(0.09, 0, height, 0.05).at(*place), STEEL, instance)
    mesh.add(tube(0.13, 0, 1.0, 0.12).at(*place), STEEL, instance)
    mesh.add(
        beam(np.array([0, 0, height - 0.05]), np.array([reach, 0, height + 0.15]), 0.04).at(*place), STEEL, instance
    )
    mesh.add(box(0.75, 0.28, height + 0.12, height + 0.24, 0.8).at(reach, 0).at(*place), STEEL, instance)
    mesh.add(
        box(0.6, 0.22, height + 0.06, height + 0.118).at(reach, 0).at(*place),
        Look(Semantic.POLE, Material.GLOW, (0.7, 0.7, 0.66), scaled(glow, 6.0)),
        instance,
    )
    head = Solid(np.array([[reach, 0, height]]), np.zeros((0, 3), int)).at(*place)
    return head.vertices[0]


def sign(mesh: Mesh, rng: Generator, place: tuple[float, float, float, float]) -> None:
    """A pole with a retro-reflecting disc, square or triangle that looks along yaw."""
    instance = mesh.new_instance()
    height = rng.uniform(2.3, 2.7)
    mesh.add(tube(0.035, 0, height + 0.2).at(*place), STEEL, instance)
    corners = int(rng.choice([3, 4, 16]))
    rim, field = (
        ((0.5, 0.02, 0.02), (0.75, 0.75, 0.75)),
        ((0.02, 0.09, 0.4), (0.7, 0.7, 0.7)),
        ((0.5, 0.02, 0.02), (0.5, 0.02, 0.02)),
    )[rng.integers(3)]
    for radius, out, colour in ((0.38, 0.05, rim), (0.28, 0.056, field)):
        angle = np.arange(corners) / corners * 2 * np.pi + (np.pi / 2 if corners == 3 else np.pi / 4)
        ring = np.c_[np.full(corners, out), radius * np.cos(angle), height + radius * np.sin(angle)]
        look = Look(Semantic.TRAFFIC_SIGN, Material.PLAIN, colour, scaled(colour, 0.25), 0.99)
        mesh.add(loft([ring * [0.9, 1, 1], ring]).at(*place), look, instance)


def traffic_light(mesh: Mesh, rng: Generator, place: tuple[float, float, float, float]) -> None:
    """One lamp of three is lit; it looks along yaw."""
    instance = mesh.new_instance()
    mesh.add(tube(0.06, 0, 3.3).at(*place), STEEL, instance)
    case = Look(Semantic.TRAFFIC_LIGHT, Material.PLAIN, (0.015, 0.02, 0.018))
    mesh.add(box(0.24, 0.32, 2.3, 3.3).at(0.15, 0).at(*place), case, instance)
    lit = int(rng.choice([0, 2]))
    for k, colour in enumerate(((0.9, 0.03, 0.02), (0.9, 0.5, 0.03), (0.04, 0.8, 0.3))):
        glow = colour if k == lit else scaled(colour, 0.06)
        look = Look(Semantic.TRAFFIC_LIGHT, Material.GLOW, glow, scaled(glow, 4.0 if k == lit else 0.2))
        mesh.add(box(0.06, 0.22, 3.02 - 0.31 * k, 3.24 - 0.31 * k).at(0.28, 0).at(*place), look, instance)
