"""What a ray sees where it lands: colour, gloss and glow of asphalt, facades, leaves and paint, by procedural noise."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy import ndarray as Array

from mmcycle.simulate.mesh import Material
from mmcycle.simulate.scene import Scene

TILE = 512  # the noise repeats after this many cells


@dataclass(frozen=True)
class Hits:
    """Where N rays landed. Unit vectors; the normal looks at the viewer; distance in metres along the ray."""

    point: Array  # (N, 3)
    normal: Array  # (N, 3)
    direction: Array  # (N, 3), from the viewer
    distance: Array  # (N,)
    triangle: Array  # (N,)
    uv: Array  # (N, 2), metres


@dataclass
class Appearance:
    """albedo and glow (N, 3) linear, gloss (N,): share of the mirror image seen head-on; glow is radiance at night."""

    albedo: Array
    gloss: Array
    glow: Array


def appearance(scene: Scene, hits: Hits) -> Appearance:
    """Texture is a function of the place alone, so every view of a scene shares it."""
    material = scene.material[hits.triangle]
    look = Appearance(scene.colour[hits.triangle], np.zeros(len(material), np.float32), scene.emission[hits.triangle])
    fine = np.minimum(1.0, 9.0 / hits.distance).astype(np.float32)  # grain thinner than a pixel only flickers
    for which, paint in (
        (Material.ASPHALT, _asphalt),
        (Material.JUNCTION, _junction),
        (Material.PAVING, _paving),
        (Material.GRASS, _grass),
        (Material.FACADE, _facade),
        (Material.ROOF, _roof),
        (Material.PLAIN, _plain),
    ):
        at = np.flatnonzero(material == which)
        if len(at):
            paint(scene, hits, look, at, fine[at])
    look.gloss[material == Material.PAINT] = 0.07
    look.gloss[material == Material.GLASS] = 0.12
    return look


@lru_cache(maxsize=1)
def tiles() -> tuple[Array, Array]:
    """White and fractal (1/f) noise on a torus (TILE, TILE); white is uniform in 0..1, the fractal one mostly so."""
    rng = np.random.default_rng(20)
    white = rng.random((TILE, TILE), dtype=np.float32)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(TILE), np.fft.rfftfreq(TILE), indexing="ij"))
    frequency[0, 0] = np.inf
    cloud = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(TILE, TILE))) / frequency**1.5)
    return white, (0.5 + 0.22 * cloud / cloud.std()).clip(0, 1).astype(np.float32)


def white(u: Array, v: Array, cell: float = 1.0) -> Array:
    """One random number in 0..1 per square cell of this size (metres)."""
    return tiles()[0][_index(u, cell), _index(v, cell)]


def fractal(u: Array, v: Array, cell: float) -> Array:
    """Stains and clouds, 0..1; details down to one cell."""
    return tiles()[1][_index(u, cell), _index(v, cell)]


def dot(a: Array, b: Array) -> Array:
    """(N, 3), (N, 3) or (3,) -> (N,); numpy's own sum over so short an axis is several times slower."""
    return a[:, 0] * b[..., 0] + a[:, 1] * b[..., 1] + a[:, 2] * b[..., 2]


def _index(u: Array, cell: float) -> Array:
    return np.floor(u / cell).astype(np.int64) & (TILE - 1)


def _asphalt(scene: Scene, hits: Hits, look: Appearance, at: Array, fine: Array) -> None:
    u, v = hits.uv[at].T
    wear = _junction(scene, hits, look, at, fine)
    track = np.cos((v / scene.plan.lane - 0.5) * 4 * np.pi)  # two wheel tracks per lane
    look.albedo[at] *= (1.0 + 0.09 * track)[:, None]
    paint = _markings(scene, u, v) * np.clip(1.25 - 0.8 * wear, 0.25, 0.95)
    look.albedo[at] += paint[:, None] * (np.float32([0.62, 0.62, 0.6]) - look.albedo[at])
    look.gloss[at] = 0.02


def _markings(scene: Scene, u: Array, v: Array) -> Array:
    plan, across = scene.plan, np.abs(v)
    free = np.abs(u - plan.cross) > plan.gap + 1.0
    before = np.abs(u - plan.zebra) > 2.2
    dash = np.mod(u, 8.0) < 3.6
    middle = (across < 0.07) & dash if plan.lanes == 1 else np.abs(across - 0.14) < 0.055
    lanes = (np.abs(across - plan.lane) < 0.06) & dash & (plan.lanes == 2)
    edge = np.abs(across - plan.half + 0.18) < 0.055
    zebra = (np.abs(u - plan.zebra) < 1.6) & (np.mod(v - 0.25, 1.0) < 0.52) & (across < plan.half)
    stop = (np.abs(u - plan.zebra + 2.6) < 0.17) & (v < -0.1) & (v > -plan.half + 0.2)
    return (((middle | lanes | edge) & free & before) | zebra | stop).astype(np.float32)


def _junction(scene: Scene, hits: Hits, look: Appearance, at: Array, fine: Array) -> Array:
    u, v = hits.uv[at].T
    stain = fractal(u, v, 0.11)
    patch = (white(u * 0.31 + 7, v + 3.3, 2.9) > 0.86) * 0.16
    crack = (np.abs(fractal(u + 40, v, 0.05) - 0.5) < 0.007) * fine
    shade = 0.72 + 0.56 * stain - patch + 0.42 * (white(u, v, 0.02) - 0.5) * fine
    look.albedo[at] *= (shade * (1 - 0.5 * crack)).astype(np.float32)[:, None]
    return stain


def _paving(scene: Scene, hits: Hits, look: Appearance, at: Array, fine: Array) -> None:
    u, v = hits.uv[at].T
    row = np.floor(v / 0.45)
    slab = u / 0.6 + 0.5 * np.mod(row, 2)
    joint = ((np.mod(slab, 1) < 0.035) | (np.mod(v / 0.45, 1) < 0.045)) * np.minimum(1, 1.6 * fine)
    tone = 0.84 + 0.26 * (white(slab, row) - 0.5) * np.minimum(1, 2 * fine) + 0.36 * fractal(u, v, 0.08)
    look.albedo[at] *= (tone * (1 - 0.5 * joint) + 0.16 * (white(u, v, 0.015) - 0.5) * fine).astype(np.float32)[:, None]


def _grass(scene: Scene, hits: Hits, look: Appearance, at: Array, fine: Array) -> None:
    u, v = hits.uv[at].T
    tone = 0.55 + 0.7 * fractal(u, v, 0.06) + 0.5 * (white(u, v, 0.03) - 0.5) * np.minimum(1, 2 * fine)
    dry = (fractal(u + 11, v, 0.13) > 0.6)[:, None] * np.float32([0.05, 0.03, 0.0])
    look.albedo[at] = look.albedo[at] * tone.astype(np.float32)[:, None] + dry


def _roof(scene: Scene, hits: Hits, look: Appearance, at: Array, fine: Array) -> None:
    x, y, z = hits.point[at].T
    row = np.mod(z / 0.22, 1) < 0.22
    tone = 0.8 + 0.4 * fractal(x + y, z * 2, 0.1) + 0.3 * (white(x + y, z, 0.25) - 0.5) - 0.25 * row * fine
    look.albedo[at] *= tone.astype(np.float32)[:, None]


def _plain(scene: Scene, hits: Hits, look: Appearance, at: Array, fine: Array) -> None:
    x, y, z = hits.point[at].T
    look.albedo[at] *= (0.85 + 0.3 * fractal(x + 0.7 * z, y + 0.7 * z, 0.05)).astype(np.float32)[:, None]


def _facade(scene: Scene, hits: Hits, look: Appearance, at: Array, fine: Array) -> None:
    """A grid of windows in a wall; the ground floor may be a shop. At night some windows are lit."""
    u, v = hits.uv[at].T
    row = scene.facades[scene.facade[hits.triangle[at]]]
    bay, storey, width, tall, ground, _, _, _, seed = row[:, :9].T
    shop = (row[:, 12] > 0) & (v < ground)
    column, level = np.floor(u / bay), np.where(v < ground, -1, np.floor((v - ground) / storey))
    across, up = u / bay - column, (v - ground) / storey - level
    opening, show = panes(row, u, v)
    _wall(look, at, row, (u, v, across, up, level), fine)
    _window(
        look,
        at[opening],
        row[opening],
        (across - 0.5)[opening] / width[opening] + 0.5,
        (up[opening] - 0.52) / tall[opening] + 0.5,
        column[opening] + seed[opening],
        level[opening],
    )
    _shop(look, at[show], row[show], u[show], v[show])
    _board(look, at, row, shop, (u, v))


def panes(row: Array, u: Array, v: Array) -> tuple[Array, Array]:
    """Where a facade (N, 16) has a window, and where a shop window; u, v in metres along and up the wall."""
    bay, storey, width, tall, ground, height = row[:, :6].T
    column, level = np.floor(u / bay), np.where(v < ground, -1, np.floor((v - ground) / storey))
    across, up = u / bay - column, (v - ground) / storey - level
    opening = (
        (np.abs(across - 0.5) < width / 2)
        & (np.abs(up - 0.52) < tall / 2)
        & (v > ground)
        & (ground + (level + 1) * storey < height - 0.3)
    )
    shop = (row[:, 12] > 0) & (v < ground)
    return opening, shop & (np.mod(u / 3.2, 1) > 0.08) & (v > 0.55) & (v < ground - 1.15)


def _wall(look: Appearance, at: Array, row: Array, grid: tuple[Array, Array, Array, Array, Array], fine: Array) -> None:
    u, v, across, up, level = grid
    width, tall, ground, height, style = row[:, 2], row[:, 3], row[:, 4], row[:, 5], row[:, 7]
    seed = row[:, 8]
    course = np.floor(v / 0.075)
    brick = (
        0.3 * (white(u / 0.24 + 0.5 * np.mod(course, 2) + seed, course) - 0.5)
        - 0.3 * (np.mod(v / 0.075, 1) < 0.16) * fine
    )
    streak = fractal(u + seed, v * 0.22 + seed, 0.06)
    tone = 0.78 + 0.4 * streak + np.where(style == 1, brick, 0.1 * (white(u, v, 0.04) - 0.5)) * np.minimum(1, 2 * fine)
    tone *= np.clip(0.72 + 0.14 * v, 0.72, 1.0)  # splashed and sooty near the ground
    look.albedo[at] *= tone.astype(np.float32)[:, None]
    trim = row[:, 9:12]
    frame = (
        (np.abs(across - 0.5) < width / 2 + 0.055) & (np.abs(up - 0.52) < tall / 2 + 0.05) & (level >= 0) & (style < 2)
    )
    band = ((v > ground) & (np.mod(v - ground, row[:, 1]) < 0.16)) | (v > height - 0.55) | (v < 0.5)
    edged = (frame | (band & (style != 1))) & (v < height)
    look.albedo[at[edged]] = trim[edged] * (0.75 + 0.3 * streak[edged])[:, None]


def _window(look: Appearance, at: Array, row: Array, across: Array, up: Array, column: Array, level: Array) -> None:
    """across and up run 0..1 over the opening; the upper and one side edge lie in the shade of the reveal."""
    chance, hue, drape = (white(column * 1.7 + k, level * 2.3 + k) for k in (0.0, 31.0, 77.0))
    curtain = (np.abs(across - 0.5) > 0.5 - 0.34 * drape) & (drape > 0.3)
    blind = up > 1.5 - hue
    pane = 0.018 + 0.26 * (curtain | blind) * (0.7 + 0.3 * np.cos(across * 60))
    reveal = np.clip((1 - up) / 0.14, 0.25, 1) * np.clip(across / 0.08, 0.35, 1)
    bars = (
        (np.abs(across - 0.5) < 0.035)
        | ((np.abs(up - 0.66) < 0.025) & (hue > 0.4))
        | (np.abs(across - 0.5) > 0.465)
        | (np.abs(up - 0.5) > 0.47)
    )
    albedo = (pane * reveal)[:, None] * np.float32([1.0, 0.97, 0.9])
    look.albedo[at] = np.where(bars[:, None], 0.75 * row[:, 9:12] * reveal[:, None], albedo)
    look.gloss[at] = np.where(bars, 0.03, 0.5 * np.clip(reveal, 0.5, 1))
    lit = (chance < row[:, 6]) & ~bars
    warm = np.float32([[1.0, 0.58, 0.22], [1.0, 0.74, 0.42], [1.0, 0.86, 0.66], [0.55, 0.75, 1.0]])[
        (hue * 3.15).astype(int)
    ]
    room = (0.35 + 0.9 * np.clip(up, 0, 1) ** 0.7) * np.where(curtain | blind, 0.5, 1.0) * (0.35 + 1.1 * drape)
    inside = 0.8 + 0.4 * (white(across * 5 + column, up * 4 + level) - 0.5)
    look.glow[at] = np.where(lit[:, None], warm * (0.85 * room * inside)[:, None], 0.0)


def _shop(look: Appearance, at: Array, row: Array, u: Array, v: Array) -> None:
    goods = white(u + row[:, 8], v + row[:, 8], 0.42) * (v < 1.9)
    mullion = np.mod(u / 1.6, 1) < 0.04
    tint = np.stack([goods, white(u + 9, v, 0.42), white(u, v + 9, 0.42)], 1)
    look.albedo[at] = np.where(mullion[:, None], 0.05, 0.02 + 0.16 * tint * goods[:, None])
    look.gloss[at] = np.where(mullion, 0.02, 0.4)
    open_ = white(row[:, 8], row[:, 8] * 3.1) < 0.7
    strength = np.where(open_, 0.85, 0.08) * (0.35 + 0.65 * np.clip(v / 3, 0, 1)) * (1 - 0.75 * goods)
    look.glow[at] = np.where(
        mullion[:, None], 0.0, strength[:, None] * (np.float32([1.0, 0.84, 0.6]) * (0.7 + 0.3 * tint))
    )


def _board(look: Appearance, at: Array, row: Array, shop: Array, grid: tuple[Array, Array]) -> None:
    """The name board above a shop window, with blocks for letters."""
    u, v = grid
    rise = (v - (row[:, 4] - 1.0)) / 0.75
    on = shop & (rise > 0) & (rise < 1)
    at, row, u, rise = at[on], row[on], u[on], rise[on]
    place = np.mod(u, 5.2)
    letter = (
        (place > 1.2)
        & (place < 4.2)
        & (np.mod(place, 0.36) < 0.26)
        & (np.abs(rise - 0.5) < 0.3)
        & (white(u + row[:, 8], rise * 5, 0.12) > 0.3)
    )
    colour = row[:, 13:16]
    pale = np.float32([0.9, 0.88, 0.82])
    look.albedo[at] = np.where(letter[:, None], pale * 0.7, colour * 0.4)
    neon = white(row[:, 8] + 5, row[:, 8]) < 0.6
    look.glow[at] = np.where(neon[:, None], np.where(letter[:, None], pale * 2.2, colour * 0.45), 0.0)
    look.gloss[at] = 0.05
