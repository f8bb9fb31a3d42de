"""Street-like noises: what stands behind a voice, made from filtered and modulated noise and from other voices."""
from collections.abc import Callable

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from mmcycle.errors import UserError
from mmcycle.simulate.speech import RATE, WORDS, Voice, coloured, say

SPEAKERS = 5                            # of babble
AIR = 0.01                              # rms of the hiss behind every noise, against it: no place is silent in any band


def make_noise(kind: str, seconds: float, rng: Generator, level_db: float = -30.0) -> Array:
    """(N,) float32 at 16 kHz, in [-1, 1], with an rms of `level_db`, or less where its peaks would not fit."""
    if kind not in NOISES:
        raise UserError(f"there is no noise {kind!r}; the kinds are {', '.join(NOISES)}")
    samples = round(seconds * RATE)
    if samples < 1:
        raise UserError(f"{seconds} seconds of noise are no sound; ask for more")
    wave = NOISES[kind](samples, rng)
    wave = wave / np.sqrt(np.square(wave).mean()) + AIR * rng.standard_normal(samples)
    wave = wave * (10 ** (level_db / 20) / np.sqrt(np.square(wave).mean()))
    return (wave / max(1.0, np.abs(wave).max() / 0.99)).astype(np.float32)


def traffic(samples: int, rng: Generator) -> Array:
    """A far rumble, and cars that pass, one every two seconds, brighter as they come near."""
    wave = coloured(samples, 130, 1.0, rng)
    time = np.arange(samples) / RATE
    for _ in range(1 + rng.poisson(samples / RATE / 2)):
        near = np.exp(-np.square((time - rng.uniform(0, time[-1])) / rng.uniform(0.4, 1.5)))
        loud = rng.uniform(0.5, 2)
        tyres, engine = coloured(samples, 1200, 1.0, rng), coloured(samples, 350, 1.2, rng)
        wave += loud * (near * engine + 0.6 * near**3 * tyres)
    return wave


def rain(samples: int, rng: Generator) -> Array:
    """An even hiss, and drops that can be heard one by one."""
    hits = rng.standard_normal(samples) * (rng.random(samples) < 40 / RATE)
    ring = np.exp(-np.arange(64) / 12) * np.cos(2 * np.pi * 3200 * np.arange(64) / RATE)
    drops = np.convolve(hits, ring)[:samples]
    return coloured(samples, 4500, 1.4, rng) + 6 * drops


def wind(samples: int, rng: Generator) -> Array:
    """Gusts in the lowest octaves."""
    return coloured(samples, 110, 1.3, rng) * _swell(samples, 0.9, rng) + 0.05 * coloured(samples, 900, 0.6, rng)


def machine(samples: int, rng: Generator) -> Array:
    """The hum of a motor, and its fan, which turns a few times a second."""
    time = np.arange(samples) / RATE
    turns, mains = rng.uniform(4, 14), rng.uniform(48, 120)
    hum = sum(np.sin(2 * np.pi * k * mains * time + rng.uniform(0, 6.28)) / k for k in range(1, 12))
    fan = 1 + 0.5 * np.sin(2 * np.pi * turns * time + rng.uniform(0, 6.28))
    return 0.6 * hum + fan * coloured(samples, rng.uniform(700, 2000), 1.5, rng)


def babble(samples: int, rng: Generator) -> Array:
    """Several people talking at once, near and far."""
    wave = np.zeros(samples)
    for _ in range(SPEAKERS):
        voice, spoken = Voice.draw(rng), [np.zeros(0)]
        while sum(map(len, spoken)) < samples:
            spoken.append(say(rng.choice(list(WORDS), 4).tolist(), voice, rng))
        wave += rng.uniform(0.4, 1) * np.roll(np.concatenate(spoken)[:samples], rng.integers(samples))
    return wave


def _swell(samples: int, depth: float, rng: Generator) -> Array:
    """(N,) a positive loudness that comes and goes over about a second; depth in nepers, one standard deviation."""
    places = np.arange(-1, samples / RATE + 2, 0.5)
    return np.exp(depth * np.interp(np.arange(samples) / RATE, places, rng.standard_normal(len(places))))


NOISES: dict[str, Callable[[int, Generator], Array]] = {
    "traffic": traffic, "rain": rain, "wind": wind, "machine": machine, "babble": babble,
}
