"""A sensor model made by hand: what a spinning LiDAR loses and distorts. The baseline that learning has to beat.

Nothing here is fitted to recordings; the figures are those of data sheets, of geometry, or round.
"""

from dataclasses import replace

import numpy as np
from numpy import ndarray as Array

from mmcycle.simulate.mesh import Material, Semantic
from mmcycle.simulate.sweep import FAINTEST, Sweep, remission

# The car that carries the sensor, as boxes in the sensor frame: x, y, z from, x, y, z to (metres). After the drawing
# of KITTI's station wagon (Geiger et al. 2013, fig. 3): the roof's rear end, the roof bars, two antennas behind, the
# housing of the cameras ahead and the side of the rack.
EGO = (
    (-1.0, -0.46, -0.45, -0.45, 0.46, -0.28),
    (-1.05, -0.34, -0.40, -0.95, -0.24, -0.19),
    (-1.05, 0.24, -0.40, -0.95, 0.34, -0.19),
    (0.25, -0.04, -0.20, 0.40, 0.04, -0.11),
    (-0.08, -0.66, -0.45, 0.08, -0.58, -0.17),
)
_LINK = 0.35  # of an e-fold: how unsure a single shot is
_PATCH = 0.6  # how much the surface varies from patch to patch


def calibrated(swept: Sweep, rng: np.random.Generator) -> Sweep:
    """Shots are lost where little light comes back (far, flat, dark), in patches; glass and the own car take theirs."""
    gain = np.exp(0.15 * rng.standard_normal((swept.range.shape[0], 1)))
    kept = swept.returned & _strong_enough(swept, rng) & ~_behind_ego(swept.directions)
    speckle = 0.12 * smooth(rng, swept.range.shape, 2.7, 1.8) + 0.18 * rng.standard_normal(swept.range.shape)
    intensity = remission(swept.reflectance, swept.incidence, swept.range) * gain * np.exp(speckle)
    intensity = np.where(intensity < FAINTEST, 0, np.round(np.clip(intensity, 0, 0.99), 2))
    intensity = np.where(swept.reflectance > 0.9, 0.99, intensity)
    step = rng.normal(0, 0.012, (swept.range.shape[0], 1))  # each laser is mounted a little off
    return _only(replace(swept, intensity=intensity.astype(np.float32), range=_shifted(swept.range, step)), kept)


def noisy(swept: Sweep, sigma: float, rng: np.random.Generator) -> Sweep:
    """Gaussian noise of sigma metres along each ray."""
    if sigma <= 0:
        return swept
    return replace(swept, range=_shifted(swept.range, rng.normal(0, sigma, swept.range.shape)))


def smooth(rng: np.random.Generator, shape: tuple[int, int], down: float, across: float) -> Array:
    """A random field of unit variance, bilinear between knots so many degrees apart; its columns close the turn.

    Degrees are those of a sweep with 0.42 degrees between rows, around the full turn.
    """
    rows, columns = max(2, round(shape[0] * 0.42 / down)), max(4, round(360 / across))
    knots = rng.standard_normal((rows + 1, columns))
    v, u = np.linspace(0, rows, shape[0]), np.arange(shape[1]) * columns / shape[1]
    top, left = np.minimum(v.astype(int), rows - 1), u.astype(int)
    right, dv, du = (left + 1) % columns, (v - top)[:, None], (u - left)[None]
    upper = knots[top][:, left] * (1 - du) + knots[top][:, right] * du
    lower = knots[top + 1][:, left] * (1 - du) + knots[top + 1][:, right] * du
    field = upper * (1 - dv) + lower * dv
    return field / np.sqrt((((1 - dv) ** 2 + dv**2) * ((1 - du) ** 2 + du**2)))


def _strong_enough(swept: Sweep, rng: np.random.Generator) -> Array:
    """A logistic-like law in the logarithm of the power that comes back: rho cos / r^2, times a patchy surface."""
    shape = swept.range.shape
    power = np.maximum(swept.reflectance, 0.01) * np.maximum(swept.incidence, 0.03) / np.maximum(swept.range, 1) ** 2
    patch = smooth(rng, shape, 1.7, 2.8)
    margin = 2.2 * np.log10(power * 8e5) + _PATCH * patch + _LINK * rng.standard_normal(shape)
    house = swept.semantic == Semantic.BUILDING  # its rooms have curtains, blinds and goods
    panes = np.where(house, 0.4, -0.2) + 0.9 * smooth(rng, shape, 0.85, 1.4) + _LINK * rng.standard_normal(shape)
    return np.where(swept.material == Material.GLASS, np.minimum(panes, margin), margin) > 0


def _behind_ego(directions: Array) -> Array:
    """(H, W): does the ray meet a box of the own car? (slab method, Kay and Kajiya 1986)"""
    inverse = 1 / np.where(np.abs(directions) < 1e-6, np.float32(1e-6), directions)
    inverse = np.ascontiguousarray(np.moveaxis(inverse, -1, 0))
    hit = np.zeros(directions.shape[:2], bool)
    for bounds in np.float32(EGO):
        low, high = bounds[:3, None, None] * inverse, bounds[3:, None, None] * inverse
        near, far = np.minimum(low, high).max(0), np.maximum(low, high).min(0)
        hit |= (near <= far) & (far > 0)
    return hit


def _shifted(distance: Array, by: Array) -> Array:
    return np.where(distance > 0, np.maximum(distance + by, 0.01), 0).astype(np.float32)


def _only(swept: Sweep, kept: Array) -> Sweep:
    return replace(
        swept,
        range=np.where(kept, swept.range, 0).astype(np.float32),
        semantic=np.where(kept, swept.semantic, np.uint8(Semantic.SKY)),
        instance=np.where(kept, swept.instance, 0),
        material=np.where(kept, swept.material, np.uint8(Material.PLAIN)),
        incidence=np.where(kept, swept.incidence, 0).astype(np.float32),
        reflectance=np.where(kept, swept.reflectance, 0).astype(np.float32),
        intensity=np.where(kept, swept.intensity, 0).astype(np.float32),
    )
