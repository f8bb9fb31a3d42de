"""A mesh under construction: triangles that know what they are made of, and the simple solids they come from."""

from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache

import numpy as np
from numpy import ndarray as Array


class Semantic(IntEnum):
    """The Cityscapes train ids of what stands in our streets (Cordts et al. 2016); 255 is void."""

    ROAD, SIDEWALK, BUILDING, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN = 0, 1, 2, 4, 5, 6, 7
    VEGETATION, TERRAIN, SKY, PERSON, CAR, VOID = 8, 9, 10, 11, 13, 255


class Material(IntEnum):
    """What decides texture and gloss; the colour itself belongs to each triangle."""

    PLAIN, ASPHALT, PAVING, GRASS, FACADE, ROOF, PAINT, GLASS, LEAF, GLOW, JUNCTION = range(11)


_BOX = np.array(
    [
        [0, 1, 5],
        [0, 5, 4],
        [1, 2, 6],
        [1, 6, 5],
        [2, 3, 7],
        [2, 7, 6],
        [3, 0, 4],
        [3, 4, 7],
        [4, 5, 6],
        [4, 6, 7],
        [0, 2, 1],
        [0, 3, 2],
    ]
)
Colour = tuple[float, float, float]  # linear light, 0 to 1
DARK: Colour = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Look:
    """emission: radiance at night, linear; reflectance: share of infrared laser light sent back, 0 to 1."""

    semantic: Semantic
    material: Material
    colour: Colour
    emission: Colour = DARK
    reflectance: float = 0.3


@dataclass
class Solid:
    """vertices (V, 3) in metres; triangles (T, 3); uv (V, 2), metres along the surface."""

    vertices: Array
    triangles: Array
    uv: Array | None = None

    def at(self, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> "Solid":
        """Turned about the vertical (radians), then moved (metres)."""
        cos, sin = np.cos(yaw), np.sin(yaw)
        a, b, c = self.vertices.T
        return Solid(np.stack([a * cos - b * sin + x, a * sin + b * cos + y, c + z], 1), self.triangles, self.uv)


@dataclass
class Mesh:
    """Lists of parts, joined once by the scene."""

    vertices: list[Array] = field(default_factory=list)
    triangles: list[Array] = field(default_factory=list)
    uv: list[Array] = field(default_factory=list)  # (V, 2) each
    tints: list[Array | float] = field(default_factory=list)
    looks: list[tuple[Look, int, int]] = field(default_factory=list)  # look, instance, facade
    size: int = 0
    instances: int = 0

    def new_instance(self) -> int:
        """The next free instance number; 0 is everything that is not a thing."""
        self.instances += 1
        return self.instances

    def add(self, solid: Solid, look: Look, instance: int = 0, tint: Array | float = 1.0, facade: int = -1) -> None:
        """tint multiplies the colour, for all triangles or for each (T,)."""
        self.vertices.append(solid.vertices)
        self.triangles.append(solid.triangles + self.size)
        self.uv.append(np.zeros((len(solid.vertices), 2)) if solid.uv is None else solid.uv)
        self.tints.append(tint)
        self.looks.append((look, instance, facade))
        self.size += len(solid.vertices)

    def per_triangle(self, values: list[tuple[float, ...]]) -> Array:
        """One row per part -> one row per triangle."""
        return np.repeat(np.array(values), [len(part) for part in self.triangles], axis=0)

    def colours(self) -> Array:
        """(T, 3), tinted."""
        tint = np.concatenate([np.broadcast_to(tint, len(part)) for tint, part in zip(self.tints, self.triangles)])
        return self.per_triangle([look.colour for look, _, _ in self.looks]) * tint[:, None]


def merged(solids: list[Solid]) -> Solid:
    """Several solids as one; their uv is dropped."""
    starts = np.cumsum([0] + [len(solid.vertices) for solid in solids])
    triangles = [solid.triangles + start for solid, start in zip(solids, starts)]
    return Solid(np.concatenate([solid.vertices for solid in solids]), np.concatenate(triangles))


def loft(rings: list[Array], lid: bool = True) -> Solid:
    """Skin over rings of equally many points (n, 3), bottom first, and a lid; segment k of ring r is 2(rn + k), +1."""
    vertices = np.concatenate([*rings, rings[-1].mean(0)[None]] if lid else rings)
    return Solid(vertices, _skin(len(rings), len(rings[0]), lid))


@lru_cache(maxsize=64)
def _skin(rings: int, count: int, lid: bool) -> Array:
    first = (np.arange(rings - 1)[:, None] * count + np.arange(count)).ravel()
    second = (np.arange(rings - 1)[:, None] * count + (np.arange(count) + 1) % count).ravel()
    sides = np.stack([first, second, second + count, first, second + count, first + count], 1).reshape(-1, 3)
    last = (rings - 1) * count + np.arange(count)
    top = np.stack([last, np.roll(last, -1), np.full(count, rings * count)], 1)
    triangles = np.concatenate([sides, top]) if lid else sides
    triangles.flags.writeable = False
    return triangles


def box(length: float, width: float, low: float, high: float, taper: float = 1.0) -> Solid:
    """Centred on the vertical axis; the top is `taper` times the bottom."""
    x, y, s = length / 2, width / 2, taper
    return Solid(
        np.array(
            [
                [x, -y, low],
                [x, y, low],
                [-x, y, low],
                [-x, -y, low],
                [s * x, -s * y, high],
                [s * x, s * y, high],
                [-s * x, s * y, high],
                [-s * x, -s * y, high],
            ]
        ),
        _BOX,
    )


def tube(radius: float, low: float, high: float, top: float | None = None, sides: int = 8) -> Solid:
    """An upright cylinder, or a cone with radius `top` at its upper end."""
    upper = radius if top is None else top
    ring = np.zeros((2, sides, 3))
    ring[..., :2] = _circle(sides) * np.array([radius, upper])[:, None, None]
    ring[0, :, 2], ring[1, :, 2] = low, high
    return loft([ring[0], ring[1]])


@lru_cache(maxsize=16)
def _circle(sides: int) -> Array:
    angle = np.arange(sides) / sides * 2 * np.pi
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def ellipsoid(radii: tuple[float, float, float], height: float, around: int = 10, rings: int = 6) -> Solid:
    """Centred `height` metres above the origin."""
    angle = np.arange(around) / around * 2 * np.pi
    tilt = -np.pi / 2 + (np.arange(rings) + 0.3) / (rings - 0.4) * np.pi
    layers = [
        np.stack(
            [
                radii[0] * np.cos(angle) * np.cos(t),
                radii[1] * np.sin(angle) * np.cos(t),
                np.full(around, height + radii[2] * np.sin(t)),
            ],
            1,
        )
        for t in tilt
    ]
    return loft(layers)


def beam(start: Array, end: Array, radius: float, sides: int = 6) -> Solid:
    """A straight bar between two points."""
    axis = (end - start) / np.linalg.norm(end - start)
    side = np.cross(axis, [0.0, 0.0, 1.0] if abs(axis[2]) < 0.9 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    other = np.cross(axis, side)
    angle = (np.arange(sides) / sides * 2 * np.pi)[:, None]
    ring = radius * (np.cos(angle) * side + np.sin(angle) * other)
    return loft([start + ring, end + ring])


def wall(start: tuple[float, float], end: tuple[float, float], low: float, high: float) -> Solid:
    """An upright rectangle over the line start-end, cut every 4 m so that it can follow a bend; uv (along, up)."""
    length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
    share = np.linspace(0, 1, max(2, int(length / 4) + 2))
    ground = np.outer(1 - share, start) + np.outer(share, end)
    vertices = np.concatenate([np.c_[ground, np.full(len(share), low)], np.c_[ground, np.full(len(share), high)]])
    uv = np.concatenate([np.c_[share * length, 0 * share], np.c_[share * length, 0 * share + high - low]])
    return Solid(vertices, strip(len(share), 2), uv)


def floor(x: Array, y: Array, z: float) -> Solid:
    """A level grid over sorted x (n,) and y (m,); uv is (x, y)."""
    plane = np.stack(np.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)
    return Solid(np.c_[plane, np.full(len(plane), z)], strip(len(x), len(y)), plane.copy())


def strip(across: int, along: int) -> Array:
    """Triangles of a grid of `along` rows of `across` points each."""
    index = np.arange(across * along).reshape(along, across)
    a, b, c, d = index[:-1, :-1].ravel(), index[:-1, 1:].ravel(), index[1:, 1:].ravel(), index[1:, :-1].ravel()
    return np.stack([a, b, c, a, c, d], 1).reshape(-1, 3)


def scaled(colour: Colour, factor: float) -> Colour:
    """A brighter or darker one of the same hue."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor
