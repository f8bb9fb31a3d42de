"""How light reaches and leaves a street: by day, at night and through fog. All radiances are linear."""

from collections.abc import Callable

import numpy as np
from numpy import ndarray as Array

from mmcycle.simulate.mesh import Material, Semantic
from mmcycle.simulate.scene import Scene, Weather
from mmcycle.simulate.surface import Appearance, Hits, dot, fractal, white

Blocked = Callable[
    [Array, Array, float], Array
]  # from (N, 3), towards (N, 3), how far in steps of towards -> (N,) bool
HAZE = 0.0011  # extinction per metre of a clear day


def day(scene: Scene, hits: Hits, look: Appearance, sky_seen: Array, blocked: Blocked) -> Array:
    """Sun with one shadow ray per hit, sky light by the share of sky seen, a bounce from the ground, mirrored sky."""
    weather = scene.weather
    sunshine, skylight = _daylight(weather)
    lit = np.clip(dot(hits.normal, weather.sun), 0, None)
    leaf = scene.material[hits.triangle] == Material.LEAF
    lit[leaf] = 0.35 + 0.3 * lit[leaf]  # leaves scatter light to both sides
    towards = np.flatnonzero(lit > 0)
    start = hits.point[towards] + 0.012 * hits.normal[towards]
    lit[towards[blocked(start, np.broadcast_to(weather.sun, start.shape), np.inf)]] = 0.0
    radiance = look.albedo * (lit[:, None] * sunshine + _ambient(hits, sky_seen, skylight))
    radiance += _mirror(hits, look, lambda ray: sky_by_day(ray, weather)) * (0.35 + 0.65 * sky_seen)[:, None]
    signal = scene.semantic[hits.triangle] == Semantic.TRAFFIC_LIGHT
    radiance[signal] += 0.35 * look.glow[signal]
    return scatter(radiance, hits.distance, HAZE, 0.9 * _horizon(weather))


def _daylight(weather: Weather) -> tuple[Array, Array]:
    """Radiance of a white wall facing the sun, and of one that sees the whole sky."""
    low = 1 - np.clip(weather.sun[2] / 0.8, 0, 1)
    colour = np.float32([1.0, 0.95 - 0.13 * low, 0.88 - 0.32 * low])
    clear = np.clip(1.6 - 1.6 * weather.clouds, 0, 1)
    grey = weather.clouds**2
    sky = (1 - grey) * np.float32([0.46, 0.58, 0.80]) + grey * np.float32([0.86, 0.90, 0.95])
    return (2.5 * clear * colour).astype(np.float32), (0.62 * sky).astype(np.float32)


def _ambient(hits: Hits, sky_seen: Array, skylight: Array) -> Array:
    up = (0.5 + 0.5 * hits.normal[:, 2])[:, None]
    ground = 0.42 * skylight * np.float32([1.0, 0.9, 0.75])
    return sky_seen[:, None] * (up * skylight + (1 - up) * ground)


def _mirror(hits: Hits, look: Appearance, sky: Callable[[Array], Array]) -> Array:
    """The sky in glossy things, stronger at grazing angles (Schlick 1994); low down a dim street is mirrored."""
    out = np.zeros_like(look.albedo)
    at = np.flatnonzero(look.gloss > 0.03)
    direction, normal = hits.direction[at], hits.normal[at]
    facing = dot(direction, normal)
    ray = direction - 2 * facing[:, None] * normal
    share = look.gloss[at] + (1 - look.gloss[at]) * (1 + np.clip(facing, -1, 0)) ** 5
    street = np.clip(0.5 + 4 * (ray[:, 2] - 0.12), 0.22, 1)  # opposite houses hide the low sky
    ray[:, 2] = np.maximum(ray[:, 2], 0.05)
    out[at] = sky(ray) * (share * street)[:, None]
    return out


def sky_by_day(ray: Array, weather: Weather) -> Array:
    """(N, 3) unit rays -> radiance: blue above, pale at the horizon, a glow around the sun, fractal clouds."""
    height = np.clip(ray[:, 2], 0, 1)
    blue = np.float32([0.07, 0.20, 0.52]) * (1.0 - 0.2 * weather.warmth)
    pale = _horizon(weather)
    share = np.exp(-height / 0.22)[:, None]
    colour = share * pale + (1 - share) * blue
    near_sun = np.clip(dot(ray, weather.sun), 0, 1)
    veil = np.clip(1.5 - 1.5 * weather.clouds, 0.0, 1)
    colour = colour + veil * (0.35 * near_sun**8 + 0.5 * near_sun**60 + 6.0 * (near_sun > 0.9993))[
        :, None
    ] * np.float32([1.0, 0.86, 0.62])
    spread = 1.0 / (height + 0.09)
    x, y = ray[:, 0] * spread, ray[:, 1] * spread
    shift = 9.0 * weather.warmth
    density = _smooth_fractal(x + shift, y - shift, 0.035)
    body = np.clip((density - 0.64 + 0.36 * weather.clouds) / 0.24, 0, 1) * np.clip(height / 0.10, 0, 1) ** 0.5
    dense = np.clip((density - 0.5) * 1.8, 0, 1)
    cloud = (
        np.float32([1.0, 1.0, 1.02]) * (1.12 - 0.42 * dense * (0.4 + 0.6 * weather.clouds))[:, None]
        + 0.25 * veil * near_sun[:, None] ** 6
    )
    overcast = weather.clouds**4
    grey = (0.72 - 0.5 * (density - 0.5))[:, None] * np.float32([0.95, 0.98, 1.02])
    colour = colour + body[:, None] * 0.92 * (cloud - colour)
    return (colour + overcast * (grey - colour)).astype(np.float32)


def _smooth_fractal(u: Array, v: Array, cell: float) -> Array:
    """Fractal noise without visible cells."""
    x, y = u / cell, v / cell
    i, j = np.floor(x), np.floor(y)
    fx, fy = x - i, y - j
    lower = fractal(i, j, 1) * (1 - fx) + fractal(i + 1, j, 1) * fx
    upper = fractal(i, j + 1, 1) * (1 - fx) + fractal(i + 1, j + 1, 1) * fx
    return lower * (1 - fy) + upper * fy


def _horizon(weather: Weather) -> Array:
    warm = weather.warmth * (1 - np.clip(weather.sun[2] / 0.7, 0, 1))
    return np.float32([0.56 + 0.22 * warm, 0.68 + 0.02 * warm, 0.82 - 0.14 * warm]) * (1.0 - 0.08 * weather.clouds)


def fog(scene: Scene, hits: Hits, look: Appearance, sky_seen: Array) -> Array:
    """A grey day without sun, seen through fog."""
    air = airlight(scene.weather)
    light = 1.3 * air
    radiance = look.albedo * _ambient(hits, sky_seen, light) + 0.6 * _mirror(
        hits, look, lambda ray: np.broadcast_to(light * 0.7, ray.shape)
    )
    glowing = np.isin(scene.semantic[hits.triangle], (Semantic.TRAFFIC_LIGHT, Semantic.CAR))
    radiance[glowing] += 0.4 * look.glow[glowing]
    return scatter(radiance, hits.distance, scene.weather.fog, air)


def airlight(weather: Weather) -> Array:
    """The radiance of fog that is endlessly thick: bluish in the middle of the day, yellowish when the sun is low."""
    return np.float32([0.58, 0.65, 0.73]) + np.float32([0.09, 0.03, -0.05]) * weather.warmth * (1 - weather.sun[2])


def scatter(radiance: Array, distance: Array, extinction: float, air: Array) -> Array:
    """Koschmieder's law: L = L0 exp(-b d) + A (1 - exp(-b d)) (Koschmieder 1924; Narasimhan & Nayar 2002, eq. 1).

    radiance (N, 3), distance (N,) metres (inf = sky), extinction b per metre, air (3,).
    """
    through = np.exp(-extinction * np.asarray(distance, np.float32))[:, None]
    return (radiance * through + air * (1 - through)).astype(np.float32)


def night(scene: Scene, hits: Hits, look: Appearance, sky_seen: Array, blocked: Blocked) -> Array:
    """Street lamps (one shadow ray to the strongest), the ego car's and other cars' headlights, lit windows."""
    light = _ambient(hits, sky_seen, np.float32([0.012, 0.014, 0.024])) + _lamps(scene, hits, blocked)
    beams = _ego_beam(scene, hits) + _headlights(scene, hits)
    shining = scene.reflectance[hits.triangle] > 0.9
    beams[shining] = np.minimum(12.0 * beams[shining], 2.5)  # plates and signs send light back to its source
    glow = scene.lamp_colour * 0.05 * sky_seen[:, None] * np.clip(1 - hits.point[:, 2:] / 14, 0, 1)
    radiance = look.albedo * (light + glow + beams[:, None] * np.float32([1.0, 0.97, 0.9])) + look.glow
    radiance += 0.8 * _mirror(hits, look, lambda ray: sky_at_night(ray, scene))
    return scatter(radiance, hits.distance, HAZE * 2, 0.03 * scene.lamp_colour)


def sky_at_night(ray: Array, scene: Scene) -> Array:
    """Near black, the city's glow on the horizon and on the clouds, stars where it is clear."""
    height = np.clip(ray[:, 2], 0, 1)
    glow = np.float32([0.055, 0.042, 0.034]) * np.exp(-height / 0.16)[:, None] * (0.6 + 0.8 * scene.weather.warmth)
    colour = np.float32([0.005, 0.009, 0.020]) * (1.5 - height)[:, None] + glow
    spread = 1.0 / (height + 0.09)
    cloud = np.clip(
        _smooth_fractal(ray[:, 0] * spread, ray[:, 1] * spread, 0.035) - 0.66 + 0.42 * scene.weather.clouds, 0, 1
    )
    colour = colour + cloud[:, None] * (0.035 * np.float32([0.45, 0.47, 0.55]) + glow)
    star = white(np.arctan2(ray[:, 1], ray[:, 0]) * 210, ray[:, 2] * 210)
    bright = (star > 0.9965) * (cloud < 0.05) * np.clip(height / 0.2 - 0.4, 0, 1) * 90 * (star - 0.9963)
    return (colour + bright[:, None] * np.float32([0.9, 0.95, 1.0])).astype(np.float32)


def _lamps(scene: Scene, hits: Hits, blocked: Blocked) -> Array:
    """Inverse square, a cone that looks down, cosine of incidence."""
    total = np.zeros(len(hits.point), np.float32)
    best, strongest = np.zeros(len(total), np.float32), np.zeros(len(total), np.int64)
    x, y, _ = hits.point.T
    for k, lamp in enumerate(scene.lamps):
        at = np.flatnonzero((np.abs(x - lamp[0]) < 17) & (np.abs(y - lamp[1]) < 17))
        if len(at) == 0:
            continue
        towards = lamp - hits.point[at]
        square = dot(towards, towards) + 0.3
        length = np.sqrt(square)
        down = np.clip(towards[:, 2] / length, 0, 1)
        facing = np.clip(dot(towards, hits.normal[at]) / length, 0, 1)
        power = 46.0 * facing * down**2 / square
        total[at] += power
        brighter = power > best[at]
        best[at[brighter]], strongest[at[brighter]] = power[brighter], k
    at = np.flatnonzero(best > 0.01)
    if len(at):
        start = hits.point[at] + 0.015 * hits.normal[at]
        hidden = at[blocked(start, scene.lamps[strongest[at]] - start, 0.97)]
        total[hidden] -= best[hidden]
    return total[:, None] * scene.lamp_colour


def _ego_beam(scene: Scene, hits: Hits) -> Array:
    """A low beam: wide, and cut off just below the horizon."""
    return _beam(hits, scene.ego[:3] + np.float32([1.6, 0, 0.7]), np.float32([1, 0, 0]), 170.0)


def _headlights(scene: Scene, hits: Hits) -> Array:
    total = np.zeros(len(hits.point), np.float32)
    for lamp in scene.headlights[:4]:  # farther ones light nothing that is seen
        total += _beam(hits, lamp[:3], lamp[3:], 130.0)
    return total


def _beam(hits: Hits, source: Array, ahead: Array, power: float) -> Array:
    out = np.zeros(len(hits.point), np.float32)
    at = np.flatnonzero((dot(hits.point, ahead) > dot(source[None], ahead) + 0.3) & (hits.distance < 70))
    ray = hits.point[at] - source
    square = dot(ray, ray) + 0.5
    length = np.sqrt(square)
    side = (ray[:, 1] * ahead[0] - ray[:, 0] * ahead[1]) / length
    lift = ray[:, 2] / length - ahead[2]
    wide = np.exp(-((side / 0.34) ** 2))
    high = (
        np.where(lift < -0.012, np.exp(-(((lift + 0.012) / 0.13) ** 2)), np.exp(-(((lift + 0.012) / 0.018) ** 2)))
        + 0.02
    )
    facing = np.clip(-dot(ray, hits.normal[at]) / length, 0, 1)
    out[at] = power * wide * high * facing / square
    return out
