"""What grows and stands beside the street where nobody built: bushes, hedges, fences, wild trees."""

import numpy as np
from numpy.random import Generator

from mmcycle.simulate.mesh import Colour, Look, Material, Mesh, Semantic, box
from mmcycle.simulate.plan import Plan
from mmcycle.simulate.props import LEAVES, hedge, tree

WOOD = Look(Semantic.FENCE, Material.PLAIN, (0.16, 0.11, 0.07))


def overgrow(mesh: Mesh, rng: Generator, plan: Plan, plots: list[tuple[float, float, int]]) -> None:
    """Empty plots (x from, x to, side) become gardens; bushes stand along every pavement."""
    for start, end, side in plots:
        _garden(mesh, rng, plan, (start, end, side))
    for side in (-1, 1):
        share = rng.uniform(0.1, 0.65)
        for start, end in plan.stretches(2.0):
            for x in np.arange(start, end, 2.2):
                if rng.random() < share:
                    size = np.array([rng.uniform(0.5, 1.1), rng.uniform(0.25, 0.4), rng.uniform(0.4, 1.1)])
                    y = side * (plan.front(side) - 0.35)
                    hedge(mesh, rng, (float(x), float(y), 0.12, 0.0), size, _leaf(rng))


def _garden(mesh: Mesh, rng: Generator, plan: Plan, plot: tuple[float, float, int]) -> None:
    start, end, side = plot
    front, kind = plan.front(side) + 0.4, rng.random()
    if kind < 0.35:
        height = rng.uniform(0.9, 1.7)
        for x in np.arange(start, end, 4.0):  # cut, so that it follows a bend
            rail = box(min(4.0, end - x), 0.06, 0.15, height)
            mesh.add(rail.at(x + min(4.0, end - x) / 2, side * front, 0.12), WOOD, mesh.new_instance())
    elif kind < 0.8:
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


def _leaf(rng: Generator) -> Colour:
    return LEAVES[int(rng.integers(len(LEAVES)))]
