"""Cars: a lofted body, a glass cabin, wheels and lamps, in four shapes."""

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from mmcycle.simulate.mesh import Colour, Look, Material, Mesh, Semantic, Solid, box, loft, merged, scaled, tube

PAINTS: tuple[Colour, ...] = (
    (0.62, 0.63, 0.64),
    (0.30, 0.31, 0.33),
    (0.015, 0.016, 0.02),
    (0.45, 0.02, 0.02),
    (0.02, 0.07, 0.28),
    (0.06, 0.10, 0.14),
    (0.50, 0.40, 0.24),
    (0.03, 0.14, 0.10),
    (0.62, 0.30, 0.03),
    (0.10, 0.25, 0.45),
)
SHARES = np.array([0.2, 0.19, 0.18, 0.11, 0.1, 0.08, 0.04, 0.04, 0.02, 0.04])
HEADLIGHT, TAIL = (5.0, 4.6, 4.0), (2.6, 0.10, 0.05)


def car(mesh: Mesh, rng: Generator, place: tuple[float, float, float, float], driving: bool) -> tuple[int, Array]:
    """-> instance, and (length, width, height) in metres; a driving car has its lights on at night."""
    instance = mesh.new_instance()
    kind = int(rng.choice(4, p=[0.38, 0.32, 0.18, 0.12]))  # saloon, hatchback, estate, van
    length = (4.55, 4.0, 4.65, 4.9)[kind] * rng.uniform(0.95, 1.05)
    width, height = rng.uniform(1.72, 1.86), (1.45, 1.5, 1.62, 1.95)[kind] * rng.uniform(0.97, 1.04)
    paint = Look(
        Semantic.CAR, Material.PAINT, PAINTS[rng.choice(len(PAINTS), p=SHARES)], reflectance=rng.uniform(0.05, 0.5)
    )
    half, belt = length / 2, 0.6 * height + (0.06 if kind == 3 else 0.0)
    rings = [
        _outline(-half * a, half * a, width * b, 0.34, z)
        for a, b, z in (
            (0.95, 0.92, 0.2),
            (0.995, 0.99, 0.34),
            (1.0, 1.0, 0.58),
            (0.985, 0.98, 0.76),
            (0.95, 0.92, belt),
        )
    ]
    for ring in rings[-2:]:  # bonnet and boot fall away
        ring[:, 2] -= 0.14 * np.clip(ring[:, 0] / half - 0.1, 0, 1) + (0.07 if kind == 0 else 0.0) * np.clip(
            -ring[:, 0] / half - 0.3, 0, 1
        )
    mesh.add(loft(rings).at(*place), paint, instance)
    _cabin(mesh, instance, place, paint, kind, (half, width, height, belt - 0.05))
    _wheels(mesh, instance, place, (half, width))
    _fittings(mesh, instance, place, driving, (half, width))
    return instance, np.array([length, width, height])


def _outline(rear: float, front: float, width: float, corner: float, z: float) -> Array:
    """A rounded rectangle seen from above, 16 points; 0: front, 4 and 12: between the doors, 8: rear."""
    half, middle, bevel = width / 2, (front + rear) / 2 - 0.05, 0.3 * corner
    left = [
        (front, half - corner),
        (front - bevel, half - bevel),
        (front - corner, half),
        (middle + 0.05, half),
        (middle - 0.05, half),
        (rear + corner, half),
        (rear + bevel, half - bevel),
        (rear, half - corner),
    ]
    points = [(front, corner - half), *left, *[(x, -y) for x, y in left[:0:-1]]]
    return np.c_[np.array(points), np.full(len(points), z)]


def _cabin(
    mesh: Mesh, instance: int, place: tuple, paint: Look, kind: int, size: tuple[float, float, float, float]
) -> None:
    half, width, height, belt = size
    rear = (-0.62, -0.9, -0.95, -0.96)[kind] * half
    front = (0.42, 0.46, 0.46, 0.66)[kind] * half
    slope = (0.55, 0.22, 0.16, 0.08)[kind]
    low = _outline(rear, front, width * 0.9, 0.16, belt)
    high = _outline(rear + slope, front - (0.62 if kind < 3 else 0.5), width * 0.72, 0.18, height - 0.06)
    shell = loft([low, high], lid=False)
    segment = np.arange(len(shell.triangles)) // 2
    pillar = np.isin(segment, (1, 2, 4, 6, 7, 9, 10, 12, 14, 15)) | (np.isin(segment, (5, 11)) & (kind == 3))
    glass = Look(Semantic.CAR, Material.GLASS, (0.012, 0.015, 0.018), reflectance=0.02)
    mesh.add(Solid(shell.vertices, shell.triangles[~pillar]).at(*place), glass, instance)
    mesh.add(Solid(shell.vertices, shell.triangles[pillar]).at(*place), paint, instance, tint=0.6)
    top = high.copy()
    top[:, :2] = (top[:, :2] - top[:, :2].mean(0)) * 0.92 + top[:, :2].mean(0)
    top[:, 2] = height
    mesh.add(loft([high, top]).at(*place), paint, instance)


def _wheels(mesh: Mesh, instance: int, place: tuple, size: tuple[float, float]) -> None:
    """Each a dark arch, a tyre and a hub, one standing a little out of the other."""
    half, width = size
    for radius, out, tone in ((0.40, 0.004, 0.008), (0.32, 0.02, 0.02), (0.19, 0.03, 0.16)):
        x, z, depth = tube(radius, 0, 0.16, sides=12).vertices.T
        height = np.maximum(z + 0.32, 0.0)
        wheels = [
            Solid(
                np.stack([x + along, side * (width / 2 - 0.16 + out + depth), height], 1),
                tube(radius, 0, 0.16, sides=12).triangles,
            )
            for along in (-0.6 * half, 0.62 * half)
            for side in (-1, 1)
        ]
        mesh.add(
            merged(wheels).at(*place),
            Look(Semantic.CAR, Material.PLAIN, (tone, tone, tone), reflectance=0.05),
            instance,
        )


def _fittings(mesh: Mesh, instance: int, place: tuple, driving: bool, size: tuple[float, float]) -> None:
    """Lamps, plates, grille, mirrors."""
    half, width = size

    def put(
        solid: Solid,
        x: float,
        y: float,
        colour: Colour,
        emission: Colour = (0, 0, 0),
        material: Material = Material.PLAIN,
    ) -> None:
        solid.vertices = solid.vertices + [x, y, 0]
        reflectance = 0.95 if material is Material.GLOW or colour[0] > 0.6 else 0.1
        mesh.add(solid.at(*place), Look(Semantic.CAR, material, colour, emission, reflectance), instance)

    lit = 1.0 if driving else 0.0
    for side in (-1, 1):
        put(
            box(0.2, 0.36, 0.58, 0.73),
            half - 0.10,
            side * (width / 2 - 0.29),
            (0.75, 0.78, 0.8),
            scaled(HEADLIGHT, lit),
            Material.GLOW,
        )
        put(
            box(0.14, 0.26, 0.65, 0.81),
            0.06 - half,
            side * (width / 2 - 0.25),
            (0.30, 0.014, 0.012),
            scaled(TAIL, lit),
            Material.GLOW,
        )
        put(box(0.12, 0.2, 0.88, 1.02), 0.3 * half, side * (width / 2 + 0.04), (0.03, 0.03, 0.03))
    put(box(0.1, 0.9, 0.36, 0.54), half - 0.04, 0, (0.012, 0.012, 0.012))
    put(box(0.06, 0.52, 0.5, 0.61), 0.03 - half - 0.04, 0, (0.68, 0.66, 0.58), scaled((0.12, 0.11, 0.1), lit))
    put(box(0.06, width - 0.5, 0.26, 0.38), 0.02 - half, 0, (0.02, 0.02, 0.02))
