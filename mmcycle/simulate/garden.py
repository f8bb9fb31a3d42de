"""What grows and stands beside the street where nobody built: bushes, hedges, fences, wild trees."""

import numpy as np
from numpy.random import Generator

from mmcycle.simulate.mesh import Colour, Look, Material, Mesh, Semantic, box
from mmcycle.simulate.plan import Plan
from mmcycle.simulate.props import LEAVES, hedge, tree

WOOD = Look(Semantic.FENCE, Material.PLAIN, (0.16, 0.11, 0.07))


def overgrow(mesh: Mesh, rng: Generator, plan: Plan, plots: list[tuple[float, float, int]]) -> None:
    """Empty plots (x from, x to, side) become gardens; bushes stand along every pavement, planted beds at the kerb."""
    for start, end, side in plots:
        _garden(mesh, rng, plan, (start, end, side))
    for side in (-1, 1):
        if rng.random() < 0.6:
            _beds(mesh, rng, plan, side)
        share = rng.uniform(0.1, 0.7)
        for start, end in plan.stretches(2.0):
            for x in np.arange(start, end, 2.2):
                if rng.random() < share:
                    size = np.array([rng.uniform(0.5, 1.1), rng.uniform(0.25, 0.45), rng.uniform(0.4, 1.5)])
                    y = side * (plan.front(side) - 0.35)
                    hedge(mesh, rng, (float(x), float(y), 0.12, 0.0), size, _leaf(rng))


def _garden(mesh: Mesh, rng: Generator, plan: Plan, plot: tuple[float, float, int]) -> None:
    start, end, side = plot
    front, kind = plan.front(side) + 0.4, rng.random()
    if kind < 0.2:
        height = rng.uniform(0.9, 1.7)
        for x in np.arange(start, end, 4.0):  # cut, so that it follows a bend
            rail = box(min(4.0, end - x), 0.06, 0.15, height)
            mesh.add(rail.at(x + min(4.0, end - x) / 2, side * front, 0.12), WOOD, mesh.new_instance())
    elif kind < 0.45:
        height, depth, leaf = rng.uniform(0.8, 1.9), rng.uniform(0.4, 0.9), _leaf(rng)
        for x in np.arange(start, end, 4.0):  # cut, so that it follows a bend
            _cut(mesh, (float(x), side * (front + depth / 2)), (min(4.0, end - x), depth, height), leaf)
    elif kind < 0.75:
        _thicket(mesh, rng, plot, side * (front + 1.0))
    elif kind < 0.9:
        height, leaf = rng.uniform(0.6, 1.1), _leaf(rng)
        for x in np.arange(start + 0.6, end, 1.2):
            hedge(mesh, rng, (float(x), side * front, 0.1, 0.0), np.array([0.8, 0.5, height]), leaf)
    for _ in range(int(rng.integers(4, 11))):
        x, y = rng.uniform(start, end), side * (front + rng.uniform(1.0, 11))
        size = rng.uniform([0.7, 0.7, 0.6], [2.4, 2.2, 2.4])
        hedge(mesh, rng, (float(x), float(y), 0.1, 0.0), size, _leaf(rng))
    for _ in range(int(rng.integers(2, 6))):
        x, y = rng.uniform(start, end), side * (front + rng.uniform(2.5, 25))
        tree(mesh, rng, (float(x), float(y), 0.1, 0.0), _leaf(rng), rng.uniform(0.6, 1.4))


def _thicket(mesh: Mesh, rng: Generator, plot: tuple[float, float, int], y: float) -> None:
    """Bushes as tall as a house's first floor, grown into each other and over the pavement."""
    x, tall = plot[0], rng.uniform(1.2, 2.4)
    while x < plot[1]:
        size = np.array([rng.uniform(1.0, 1.8), rng.uniform(0.7, 1.3), tall * rng.uniform(0.6, 1.2)])
        hedge(mesh, rng, (float(x), y + float(rng.normal() * 0.3), 0.1, 0.0), size, _leaf(rng))
        x += size[0] * rng.uniform(1.1, 1.7)


def _beds(mesh: Mesh, rng: Generator, plan: Plan, side: int) -> None:
    """Low plants in a rim at the kerb, often around a tree."""
    for start, end in plan.stretches(3.0):
        x = start + rng.uniform(0, 8)
        while x < end - 5:
            length, depth = rng.uniform(1.8, 5.0), rng.uniform(0.9, min(1.8, plan.pavement[side > 0] - 0.6))
            y, leaf = side * (plan.kerb(side) + 0.25 + depth / 2), _leaf(rng)
            _cut(mesh, (x, y), (length, depth, rng.uniform(0.12, 0.4)), leaf)
            if rng.random() < 0.6:
                tree(mesh, rng, (x + length / 2, y, 0.1, 0.0), leaf, rng.uniform(0.8, 1.5))
            x += length + rng.uniform(3, 12)


def _cut(mesh: Mesh, corner: tuple[float, float], size: tuple[float, float, float], leaf: Colour) -> None:
    """So dense and so often cut that it is a block; corner: x of its beginning, y of its middle."""
    block = box(*size[:2], 0.1, size[2] + 0.1).at(corner[0] + size[0] / 2, corner[1], 0.0)
    mesh.add(block, Look(Semantic.VEGETATION, Material.LEAF, leaf, reflectance=0.4), mesh.new_instance())


def _leaf(rng: Generator) -> Colour:
    return LEAVES[int(rng.integers(len(LEAVES)))]
