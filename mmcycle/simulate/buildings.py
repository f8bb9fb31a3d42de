"""Houses: walls with a facade each, roofs, awnings, balconies; two rows along the street and more to close the view."""

import numpy as np
from numpy.random import Generator

from mmcycle.simulate.mesh import Colour, Look, Material, Mesh, Semantic, Solid, box, floor, wall
from mmcycle.simulate.plan import SIDE, Plan

# The columns of Scene.facades: metres, shares, a style (0 plaster, 1 brick, 2 glass), a number to draw from, colours.
FACADE = tuple(
    "bay storey window_width window_height ground_height height lit style seed "
    "trim_r trim_g trim_b shop sign_r sign_g sign_b".split()
)
WALLS: tuple[Colour, ...] = (
    (0.52, 0.44, 0.33),
    (0.60, 0.57, 0.50),
    (0.42, 0.30, 0.22),
    (0.50, 0.26, 0.18),
    (0.34, 0.36, 0.38),
    (0.58, 0.42, 0.28),
    (0.35, 0.17, 0.11),
    (0.44, 0.47, 0.42),
    (0.62, 0.50, 0.42),
    (0.30, 0.13, 0.09),
)
SIGNS: tuple[Colour, ...] = (
    (0.9, 0.1, 0.08),
    (0.1, 0.35, 0.9),
    (0.95, 0.6, 0.1),
    (0.1, 0.7, 0.35),
    (0.9, 0.85, 0.75),
    (0.8, 0.15, 0.6),
)
ROOFS: tuple[Colour, ...] = ((0.22, 0.085, 0.05), (0.09, 0.09, 0.10), (0.15, 0.10, 0.075))


def raise_buildings(
    mesh: Mesh, rng: Generator, plan: Plan, facades: list[list[float]], empty: float = 0.0
) -> list[tuple[float, float, int]]:
    """Two rows along the street, and the rows that close its ends; their facades (16,) are appended.

    empty: the share of plots that nobody built on; -> those: x from, x to, side.
    """
    plots: list[tuple[float, float, int]] = []
    for side in (-1, 1):
        for start, end in plan.stretches(2.5):
            x = start
            while x < end - 5:
                width = min(rng.uniform(9, 20), end - x)
                set_back = (
                    plan.front(side) + plan.garden + (rng.uniform(0, 1.2) if plan.garden else rng.choice([0.0, 0.25]))
                )
                set_back = SIDE - 12.0 if plan.park == side else set_back  # beyond the park the town goes on
                if empty > 0 and rng.random() < empty:
                    plots.append((x, x + width, side))
                else:
                    _building(mesh, rng, plan, facades, (x, x + width, side * set_back, side))
                x += width + (rng.uniform(1.5, 5) if plan.garden and rng.random() < 0.6 else 0.0)
        if plan.cross > 0:
            for offset in (-14.0, 0.0, 14.0):
                _building(
                    mesh,
                    rng,
                    plan,
                    facades,
                    (plan.cross + offset - 7, plan.cross + offset + 7, side * (SIDE - 0.5), side),
                )
    _close(mesh, rng, plan, facades)
    return plots


def _close(mesh: Mesh, rng: Generator, plan: Plan, facades: list) -> None:
    x = plan.end - 1 if plan.end > 0 else plan.start + 1
    for y in np.arange(-60, 60, 12.0):
        height, row = _height(rng, plan), len(facades)
        facades.append(_facade(rng, plan, height))
        look = Look(Semantic.BUILDING, Material.FACADE, WALLS[rng.integers(len(WALLS))])
        mesh.add(wall((x, y + 12), (x, y), -0.5, height), look, mesh.new_instance(), facade=row)


def _height(rng: Generator, plan: Plan) -> float:
    low, high = {"city": (3, 7), "residential": (2, 4), "boulevard": (4, 8)}[plan.kind]
    return float(rng.integers(low, high)) * 3.1 + 1.2


def _facade(rng: Generator, plan: Plan, height: float) -> list[float]:
    style = int(
        rng.choice(
            3, p={"city": [0.45, 0.4, 0.15], "residential": [0.5, 0.5, 0.0], "boulevard": [0.5, 0.2, 0.3]}[plan.kind]
        )
    )
    shop = plan.kind != "residential" and rng.random() < 0.75
    bay = rng.uniform(1.7, 3.0) if style < 2 else rng.uniform(1.3, 1.8)
    trim = np.array((0.62, 0.6, 0.55)) if rng.random() < 0.65 else np.array((0.16, 0.15, 0.14))
    neon = np.array(SIGNS[rng.integers(len(SIGNS))])
    return [
        bay,
        3.1,
        rng.uniform(0.42, 0.6) if style < 2 else 0.84,
        rng.uniform(0.48, 0.62) if style < 2 else 0.7,
        3.9 if shop else 1.0,
        height,
        float(np.clip(rng.normal(0.35, 0.1), 0.1, 0.7)),
        style,
        rng.uniform(0, 500),
        *(trim * rng.uniform(0.8, 1.1)),
        float(shop),
        *neon,
    ]


def _building(mesh: Mesh, rng: Generator, plan: Plan, facades: list, plot: tuple[float, float, float, int]) -> None:
    """Plot: x from, x to, y of the front, and the side of the street it stands on."""
    left, right, front, side = plot
    instance, row, height = mesh.new_instance(), len(facades), _height(rng, plan)
    facades.append(_facade(rng, plan, height))
    shop, depth = facades[row][12] > 0, rng.uniform(9, 13)
    facades.append([*facades[row][:4], 1.0, *facades[row][5:12], 0.0, *facades[row][13:]])  # no shops round the corner
    back = front + side * depth
    stone = Look(
        Semantic.BUILDING, Material.FACADE, tuple(np.array(WALLS[rng.integers(len(WALLS))]) * rng.uniform(0.85, 1.15))
    )
    trim = Look(Semantic.BUILDING, Material.PLAIN, tuple(facades[row][9:12]))
    mesh.add(wall((left, front), (right, front), 0.1, height), stone, instance, facade=row)
    for x in (left, right):
        mesh.add(wall((x, front), (x, back), 0.1, height), stone, instance, facade=row + 1)
    if plan.kind == "residential" or rng.random() < 0.25:
        _gable(mesh, rng, instance, (left, right, front, back, height, side), stone)
    else:
        roof = Look(Semantic.BUILDING, Material.ROOF, ROOFS[1])
        mesh.add(floor(np.linspace(left, right, 4), np.sort([front, back]), height - 0.6), roof, instance)
        mesh.add(
            _slab(left, right, front - side * 0.28, front + side * 0.1, height - 0.1, height + 0.22), trim, instance
        )
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
    ends = np.array(
        [
            [x, y, z]
            for x in (left - over, right + over)
            for y, z in ((front - side * 0.5, eaves), (middle, ridge), (back, eaves))
        ]
    )
    mesh.add(Solid(ends, np.array([[0, 3, 4], [0, 4, 1], [1, 4, 5], [1, 5, 2]]), ends[:, [0, 2]]), tiles, instance)
    for x in (left, right):
        mesh.add(
            Solid(np.array([[x, front, height], [x, middle, ridge - 0.1], [x, back, height]]), np.array([[0, 1, 2]])),
            Look(Semantic.BUILDING, Material.PLAIN, stone.colour),
            instance,
        )
    if rng.random() < 0.7:
        x = rng.uniform(left + 1, right - 1)
        mesh.add(
            box(0.7, 0.7, height, ridge + 0.8).at(x, middle - side * 0.6),
            Look(Semantic.BUILDING, Material.PLAIN, WALLS[6]),
            instance,
        )


def _awning(mesh: Mesh, rng: Generator, instance: int, plot: tuple) -> None:
    left, right, front, side = plot
    look = Look(Semantic.BUILDING, Material.PLAIN, tuple(0.5 * np.array(SIGNS[rng.integers(len(SIGNS))])))
    stripe = Look(Semantic.BUILDING, Material.PLAIN, (0.6, 0.58, 0.52))
    for k, x in enumerate(np.arange(left + 0.6, right - 1.0, 0.5)):
        corners = np.array(
            [
                [x, front - side * 0.02, 3.0],
                [x + 0.5, front - side * 0.02, 3.0],
                [x + 0.5, front - side * 1.2, 2.5],
                [x, front - side * 1.2, 2.5],
            ]
        )
        lip = np.concatenate([corners[2:], corners[2:] - [0, 0, 0.2]])[[1, 0, 2, 3]]
        mesh.add(
            Solid(np.concatenate([corners, lip]), np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])),
            (look, stripe)[k % 2],
            instance,
        )


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
