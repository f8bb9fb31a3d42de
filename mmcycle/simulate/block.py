"""The plan of a street, and what it is built of: ground, kerbs and buildings."""
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from mmcycle.simulate.mesh import Colour, Look, Material, Mesh, Semantic, Solid, box, floor, loft, wall

START, END, SIDE = -45.0, 190.0, 62.0               # metres; where the street, and its side streets, are closed
FACADE = ("bay", "storey", "window_width", "window_height", "ground_height", "height", "lit", "style", "seed",
          "trim_r", "trim_g", "trim_b", "shop", "sign_r", "sign_g", "sign_b")       # columns of Scene.facades, metres or shares
WALLS: tuple[Colour, ...] = ((0.52, 0.44, 0.33), (0.60, 0.57, 0.50), (0.42, 0.30, 0.22), (0.50, 0.26, 0.18), (0.34, 0.36, 0.38),
                             (0.58, 0.42, 0.28), (0.35, 0.17, 0.11), (0.44, 0.47, 0.42), (0.62, 0.50, 0.42), (0.30, 0.13, 0.09))
SIGNS: tuple[Colour, ...] = ((0.9, 0.1, 0.08), (0.1, 0.35, 0.9), (0.95, 0.6, 0.1), (0.1, 0.7, 0.35), (0.9, 0.85, 0.75), (0.8, 0.15, 0.6))
ROOFS: tuple[Colour, ...] = ((0.22, 0.085, 0.05), (0.09, 0.09, 0.10), (0.15, 0.10, 0.075))


@dataclass(frozen=True)
class Plan:
    """Widths in metres; pairs are (right, left); cross: x of the crossing street's middle, or -1000; gap: half its width."""

    kind: str
    lanes: int                  # per direction
    lane: float
    parking: tuple[bool, bool]
    pavement: tuple[float, float]
    garden: float               # between pavement and houses
    trees: tuple[bool, bool]
    cross: float
    gap: float
    zebra: float                # x of the middle of a zebra crossing, or -1000
    ego_lane: int               # counted from the middle when there are two
    curvature: float            # 1 / metres, left is positive
    hill: float                 # metres
    phase: float

    @classmethod
    def draw(cls, rng: Generator) -> "Plan":
        """City streets with shops, residential ones with gardens, wide boulevards with trees."""
        kind = str(rng.choice(["city", "residential", "boulevard"], p=[0.42, 0.36, 0.22]))
        wide = kind == "boulevard"
        cross = float(rng.uniform(28, 70)) if rng.random() < 0.55 else -1000.0
        gap = float(rng.uniform(4, 6))
        zebra = cross - gap - 3.5 if cross > 0 and rng.random() < 0.8 else float(rng.choice([-1000, rng.uniform(12, 40)]))
        parking = tuple(bool(v) for v in rng.random(2) < (0.8 if not wide else 0.4))
        pavement = tuple(float(v) for v in rng.uniform(2.0, 3.6, 2) + (1.8 if wide else 0.0))
        trees = tuple(bool(v) for v in rng.random(2) < {"city": 0.3, "residential": 0.5, "boulevard": 0.95}[kind])
        return cls(kind=kind, lanes=2 if wide else 1, lane=float(rng.uniform(2.8, 3.5)), parking=parking, pavement=pavement,
                   garden=float(rng.uniform(3, 6)) if kind == "residential" else 0.0, trees=trees, cross=cross, gap=gap, zebra=zebra,
                   ego_lane=int(rng.integers(2)) if wide else 0, curvature=float(rng.uniform(-1, 1) / 420 + 1e-6),
                   hill=float(rng.uniform(-1.2, 1.2)), phase=float(rng.uniform(0, 6.28)))

    @property
    def half(self) -> float:
        """Half the width of the lanes together."""
        return self.lanes * self.lane

    def kerb(self, side: int) -> float:
        """Distance of the kerb from the middle line; side is -1 (right) or 1 (left)."""
        return self.half + (2.1 if self.parking[side > 0] else 0.25)

    def front(self, side: int) -> float:
        """Distance at which the pavement ends."""
        return self.kerb(side) + self.pavement[side > 0]

    def crossed(self, x: float, margin: float) -> bool:
        """Would something of this half-length stand in the crossing street?"""
        return abs(x - self.cross) < self.gap + margin

    def stretches(self, margin: float) -> list[tuple[float, float]]:
        """Intervals of x on which something runs along the street, leaving the crossing free."""
        if self.cross < 0:
            return [(START, END)]
        return [(START, self.cross - self.gap - margin), (self.cross + self.gap + margin, END)]

    def bent(self, points: Array) -> Array:
        """Straight street (N, 3) -> the street along its arc, over its hill."""
        x, y, z = np.asarray(points, np.float64).reshape(-1, 3).T
        angle = self.curvature * x
        along, left = np.sin(angle) / self.curvature, (1 - np.cos(angle)) / self.curvature
        rise = self.hill * (np.sin(x / 55 + self.phase) - np.sin(self.phase))
        return np.stack([along - y * np.sin(angle), left + y * np.cos(angle), z + rise], 1)


def lay_ground(mesh: Mesh, plan: Plan) -> None:
    """Road, side road, parking bays, kerbs, pavements, gardens."""
    asphalt = Look(Semantic.ROAD, Material.ASPHALT, (0.105, 0.105, 0.11), reflectance=0.2)
    plain = Look(Semantic.ROAD, Material.JUNCTION, (0.10, 0.10, 0.105), reflectance=0.2)
    kerb = Look(Semantic.SIDEWALK, Material.PLAIN, (0.36, 0.35, 0.33))
    paving = Look(Semantic.SIDEWALK, Material.PAVING, (0.30, 0.285, 0.265))
    yard = Look(Semantic.TERRAIN, Material.GRASS, (0.075, 0.12, 0.03)) if plan.garden else paving
    mesh.add(floor(_steps(START, END), np.linspace(-plan.half, plan.half, 5), 0.0), asphalt)
    for side in (-1, 1):
        edge, front = plan.kerb(side), plan.front(side)
        mesh.add(floor(_steps(START, END), _sorted(side, plan.half, edge), 0.0), plain)
        if plan.cross > 0:
            mesh.add(floor(_steps(plan.cross - plan.gap, plan.cross + plan.gap), _sorted(side, edge, SIDE, 8), 0.0), plain)
        for start, end in plan.stretches(0.0):
            x = _steps(start, end)
            mesh.add(wall((start, side * edge), (end, side * edge), 0.0, 0.13), kerb)
            mesh.add(floor(x, _sorted(side, edge, edge + 0.18), 0.13), kerb)
            mesh.add(floor(x, _sorted(side, edge + 0.18, front), 0.13), paving)
            mesh.add(floor(x, _sorted(side, front, SIDE, 5), 0.12), yard)
            for rim in (start, end):
                if abs(rim - plan.cross) < plan.gap + 1:
                    mesh.add(wall((rim, side * edge), (rim, side * SIDE), 0.0, 0.13), kerb)


def _steps(start: float, end: float) -> Array:
    return np.linspace(start, end, max(2, int((end - start) / 4) + 1))


def _sorted(side: int, near: float, far: float, count: int = 2) -> Array:
    return np.sort(side * np.linspace(near, far, count))


def raise_buildings(mesh: Mesh, rng: Generator, plan: Plan) -> Array:
    """Two rows along the street, and the rows that close its ends; -> the table of facades (F, 16)."""
    facades: list[list[float]] = []
    for side in (-1, 1):
        for start, end in plan.stretches(2.5):
            x = start
            while x < end - 5:
                width = min(rng.uniform(9, 20), end - x)
                set_back = plan.front(side) + plan.garden + (rng.uniform(0, 1.2) if plan.garden else rng.choice([0.0, 0.25]))
                _building(mesh, rng, plan, facades, (x, x + width, side * set_back, side))
                x += width + (rng.uniform(1.5, 5) if plan.garden and rng.random() < 0.6 else 0.0)
        if plan.cross > 0:
            for offset in (-14.0, 0.0, 14.0):
                _building(mesh, rng, plan, facades, (plan.cross + offset - 7, plan.cross + offset + 7, side * (SIDE - 0.5), side))
    _close(mesh, rng, plan, facades)
    return np.array(facades)


def _close(mesh: Mesh, rng: Generator, plan: Plan, facades: list) -> None:
    for y in np.arange(-60, 60, 12.0):
        height, row = _height(rng, plan), len(facades)
        facades.append(_facade(rng, plan, height))
        look = Look(Semantic.BUILDING, Material.FACADE, WALLS[rng.integers(len(WALLS))])
        mesh.add(wall((END - 1, y + 12), (END - 1, y), -0.5, height), look, mesh.new_instance(), facade=row)


def _height(rng: Generator, plan: Plan) -> float:
    low, high = {"city": (3, 7), "residential": (2, 4), "boulevard": (4, 8)}[plan.kind]
    return float(rng.integers(low, high)) * 3.1 + 1.2


def _facade(rng: Generator, plan: Plan, height: float) -> list[float]:
    style = int(rng.choice(3, p={"city": [0.45, 0.4, 0.15], "residential": [0.5, 0.5, 0.0], "boulevard": [0.5, 0.2, 0.3]}[plan.kind]))
    shop = plan.kind != "residential" and rng.random() < 0.75
    bay = rng.uniform(1.7, 3.0) if style < 2 else rng.uniform(1.3, 1.8)
    trim = np.array((0.62, 0.6, 0.55)) if rng.random() < 0.65 else np.array((0.16, 0.15, 0.14))
    neon = np.array(SIGNS[rng.integers(len(SIGNS))])
    return [bay, 3.1, rng.uniform(0.42, 0.6) if style < 2 else 0.84, rng.uniform(0.48, 0.62) if style < 2 else 0.7,
            3.9 if shop else 1.0, height, float(np.clip(rng.normal(0.35, 0.1), 0.1, 0.7)), style, rng.uniform(0, 500),
            *(trim * rng.uniform(0.8, 1.1)), float(shop), *neon]


def _building(mesh: Mesh, rng: Generator, plan: Plan, facades: list, plot: tuple[float, float, float, int]) -> None:
    """plot: x from, x to, y of the front, and the side of the street it stands on."""
    left, right, front, side = plot
    instance, row, height = mesh.new_instance(), len(facades), _height(rng, plan)
    facades.append(_facade(rng, plan, height))
    shop, depth = facades[row][12] > 0, rng.uniform(9, 13)
    facades.append([*facades[row][:4], 1.0, *facades[row][5:12], 0.0, *facades[row][13:]])      # no shops round the corner
    back = front + side * depth
    stone = Look(Semantic.BUILDING, Material.FACADE, tuple(np.array(WALLS[rng.integers(len(WALLS))]) * rng.uniform(0.85, 1.15)))
    trim = Look(Semantic.BUILDING, Material.PLAIN, tuple(facades[row][9:12]))
    mesh.add(wall((left, front), (right, front), 0.1, height), stone, instance, facade=row)
    for x in (left, right):
        mesh.add(wall((x, front), (x, back), 0.1, height), stone, instance, facade=row + 1)
    if plan.kind == "residential" or rng.random() < 0.25:
        _gable(mesh, rng, instance, (left, right, front, back, height, side), stone)
    else:
        roof = Look(Semantic.BUILDING, Material.ROOF, ROOFS[1])
        mesh.add(floor(np.linspace(left, right, 4), np.sort([front, back]), height - 0.6), roof, instance)
        mesh.add(_slab(left, right, front - side * 0.28, front + side * 0.1, height - 0.1, height + 0.22), trim, instance)
    if shop and rng.random() < 0.6:
        _awning(mesh, rng, instance, (left, right, front, side))
    if not shop or rng.random() < 0.5:
        _balconies(mesh, rng, instance, facades[row], (left, right, front, side, height))


def _slab(left: float, right: float, near: float, far: float, low: float, high: float) -> Solid:
    return box(right - left, abs(far - near), low, high).at((left + right) / 2, (near + far) / 2)


def _gable(mesh: Mesh, rng: Generator, instance: int, plot: tuple, stone: Look) -> None:
    left, right, front, back, height, side = plot
    ridge, middle = height + abs(back - front) * rng.uniform(0.28, 0.42), (front + back) / 2
    eaves, over = height - 0.18, 0.35
    tiles = Look(Semantic.BUILDING, Material.ROOF, ROOFS[rng.integers(len(ROOFS))])
    ends = np.array([[x, y, z] for x in (left - over, right + over) for y, z in ((front - side * 0.5, eaves), (middle, ridge), (back, eaves))])
    mesh.add(Solid(ends, np.array([[0, 3, 4], [0, 4, 1], [1, 4, 5], [1, 5, 2]]), ends[:, [0, 2]]), tiles, instance)
    for x in (left, right):
        mesh.add(Solid(np.array([[x, front, height], [x, middle, ridge - 0.1], [x, back, height]]), np.array([[0, 1, 2]])),
                 Look(Semantic.BUILDING, Material.PLAIN, stone.colour), instance)
    if rng.random() < 0.7:
        x = rng.uniform(left + 1, right - 1)
        mesh.add(box(0.7, 0.7, height, ridge + 0.8).at(x, middle - side * 0.6), Look(Semantic.BUILDING, Material.PLAIN, WALLS[6]), instance)


def _awning(mesh: Mesh, rng: Generator, instance: int, plot: tuple) -> None:
    left, right, front, side = plot
    look = Look(Semantic.BUILDING, Material.PLAIN, tuple(0.5 * np.array(SIGNS[rng.integers(len(SIGNS))])))
    stripe = Look(Semantic.BUILDING, Material.PLAIN, (0.6, 0.58, 0.52))
    for k, x in enumerate(np.arange(left + 0.6, right - 1.0, 0.5)):
        corners = np.array([[x, front - side * 0.02, 3.0], [x + 0.5, front - side * 0.02, 3.0],
                            [x + 0.5, front - side * 1.2, 2.5], [x, front - side * 1.2, 2.5]])
        lip = np.concatenate([corners[2:], corners[2:] - [0, 0, 0.2]])[[1, 0, 2, 3]]
        mesh.add(Solid(np.concatenate([corners, lip]), np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])), (look, stripe)[k % 2], instance)


def _balconies(mesh: Mesh, rng: Generator, instance: int, facade: list[float], plot: tuple) -> None:
    left, right, front, side, height = plot
    bay, storey, ground = facade[0], facade[1], facade[4]
    slab = Look(Semantic.BUILDING, Material.PLAIN, (0.4, 0.39, 0.37))
    rail = Look(Semantic.BUILDING, Material.PLAIN, tuple(facade[9:12]))
    column = rng.random(int((right - left) / bay)) < 0.3
    for k in np.flatnonzero(column):
        middle = left + (k + 0.5) * bay
        for z in np.arange(ground + storey, height - 2.2, storey):
            a, b = middle - bay * 0.42, middle + bay * 0.42
            mesh.add(_slab(a, b, front - side * 0.9, front, z + 0.15, z + 0.27), slab, instance)
            mesh.add(_slab(a, b, front - side * 0.9, front - side * 0.84, z + 0.27, z + 1.1), rail, instance)


