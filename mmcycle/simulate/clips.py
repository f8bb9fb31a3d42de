"""Small clips of a street, drawn and not photographed: what moves can be seen and heard, by day or night, in noise.

OUT/clips.json
OUT/ball/000.mp4     bounces, and thuds when it does        OUT/bird/000.mp4     flaps, and chirps as often
OUT/car/000.mp4      drives by, loudest when it is near
The same seed draws the same street and movement by day and by night, and makes the same sound with and without noise.
"""
from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from PIL import Image, ImageDraw

from mmcycle.data.clip_writer import BIT_RATE, BLOCK, OPTIONS, encoder_for
from mmcycle.data.seeds import seed_of
from mmcycle.errors import UserError, need
from mmcycle.files import write_atomic, write_json
from mmcycle.simulate.noises import NOISES, make_noise
from mmcycle.simulate.speech import RATE
from mmcycle.simulate.street import agreed

KINDS = ("ball", "bird", "car")
VIEWS = ("day", "night")
FPS = 12
SIDES = (16, 1024)                      # pixels, even: the colours of H.264 are kept for squares of four
FINER = 3                               # drawn so much larger, for soft edges
NOISY_DB = (-34.0, -24.0)               # rms of the noise; the things are at -26
MOONLIGHT = np.array([0.16, 0.19, 0.30])


def write_clips(
    out: Path, takes: int, seed: int = 0, view: str = "day", noisy: bool = False, seconds: float = 2.0,
    size: tuple[int, int] = (144, 96),
) -> None:
    """Write what is missing: `takes` clips of each kind, width x height pixels, with mono sound at 16 kHz."""
    _check(takes, view, seconds, size)
    wanted = {"kind": "clips", "seed": seed, "view": view, "noisy": noisy, "seconds": seconds, "size": list(size)}
    agreed(out / "clips.json", wanted, "clips")
    write_json(out / "clips.json", wanted)
    for kind in KINDS:
        for take in range(takes):
            path = out / kind / f"{take:03d}.mp4"
            if not path.exists():
                film, wave = play(kind, (seed, take), view, noisy, seconds, size)
                write_atomic(path, lambda temporary: _encode(temporary, film, wave))


def play(
    kind: str, seed: tuple[int, int], view: str, noisy: bool, seconds: float, size: tuple[int, int]
) -> tuple[list[Array], Array]:
    """Frames (H, W, 3) uint8 and the sound (N,) float32 of one clip."""
    drawn, heard = (np.random.default_rng(seed_of(seed[0], name, kind, seed[1])) for name in ("drawn", "heard"))
    street, times = _Street(drawn, size), np.arange(round(seconds * FPS)) / FPS
    pace, start = drawn.uniform(1.5, 2.5), drawn.uniform(0, 1)          # beats a second; share of a beat
    away = drawn.uniform(0.0, 0.25) * seconds           # seconds from half of the time to half of the way
    along = [(time - seconds / 2 - away) / seconds * 1.1 + 0.5 for time in times]
    frames = [street.photograph(kind, x, (time * pace + start) % 1, view) for x, time in zip(along, times)]
    wave = _sound(kind, seconds, pace, start, seconds / 2 + away, heard)
    if noisy:
        wave = wave + make_noise(str(heard.choice(list(NOISES))), seconds, heard, heard.uniform(*NOISY_DB))
    return frames, wave.clip(-1, 1).astype(np.float32)


class _Street:
    """Houses behind a road, drawn once; what moves is put before them."""

    def __init__(self, rng: Generator, size: tuple[int, int]) -> None:
        self.width, self.height = (FINER * side for side in size)
        self.size, self.windows = size, []
        self.paint = tuple(int(value) for value in rng.uniform(60, 255, 3))
        page = Image.new("RGB", (self.width, self.height), (126, 130, 134))
        draw, ground = ImageDraw.Draw(page), int(0.68 * self.height)
        for row in range(ground):
            draw.line((0, row, self.width, row), tuple(int(v) for v in np.array([120, 175, 235]) + 70 * row / ground))
        left = -rng.uniform(0, 0.2) * self.width
        while left < self.width:
            left = self._house(draw, rng, left, ground)
        draw.rectangle((0, ground, self.width, ground + 0.05 * self.height), (176, 172, 164))
        for mark in range(0, 8, 2):
            draw.rectangle((mark / 8 * self.width, 0.86 * self.height, (mark + 1) / 8 * self.width, 0.88 * self.height),
                           (230, 230, 225))
        self.page = page

    def _house(self, draw: ImageDraw.ImageDraw, rng: Generator, left: float, ground: int) -> float:
        """Where the next one begins."""
        right, roof = left + rng.uniform(0.16, 0.3) * self.width, ground - rng.uniform(0.25, 0.45) * self.height
        wall = rng.uniform(110, 215) * rng.uniform(0.8, 1.1, 3)
        draw.rectangle((left, roof, right, ground), tuple(int(value) for value in wall))
        step = 0.065 * self.width
        for x in np.arange(left + step / 2, right - step / 2, step):
            for y in np.arange(roof + 0.04 * self.height, ground - 0.06 * self.height, 0.11 * self.height):
                box = (x, y, x + 0.55 * step, y + 0.06 * self.height)
                draw.rectangle(box, (74, 84, 98))
                if rng.random() < 0.4:
                    self.windows.append(box)
        return right + rng.uniform(0, 0.06) * self.width

    def photograph(self, kind: str, along: float, beat: float, view: str) -> Array:
        """`along` 0 to 1 from left to right; `beat` 0 to 1: from one bounce, or flap, to the next."""
        page = self.page.copy()
        lamps = _MOVERS[kind](ImageDraw.Draw(page), along * self.width, beat, self)
        shown = np.asarray(page.resize(self.size, Image.Resampling.BOX), dtype=np.float64)
        if view == "night":
            before = (np.asarray(page) != np.asarray(self.page)).any(axis=2)
            shown = shown * MOONLIGHT + self._lights(lamps, before)
        return shown.clip(0, 255).round().astype(np.uint8)

    def _lights(self, lamps: Sequence[tuple[float, float, float]], hidden: Array) -> Array:
        """(H, W, 3): lit windows, but not where they are hidden, and lamps (x, y, reach) that shine around them."""
        page = Image.new("RGB", (self.width, self.height))
        for box in self.windows:
            ImageDraw.Draw(page).rectangle(box, (200, 150, 70))
        page.paste(0, mask=Image.fromarray(hidden))
        light = np.asarray(page.resize(self.size, Image.Resampling.BOX), dtype=np.float64)
        rows, columns = np.mgrid[: self.size[1], : self.size[0]] * FINER
        for x, y, reach in (*lamps, (0.1 * self.width, 0.5 * self.height, 0.2 * self.height),
                            (0.75 * self.width, 0.5 * self.height, 0.2 * self.height)):
            shine = np.exp(-(np.square(columns - x) + np.square(rows - y)) / reach**2)
            light = light + shine[..., None] * [150, 118, 66]
        return light


def _ball(draw: ImageDraw.ImageDraw, x: float, beat: float, street: _Street) -> list[tuple[float, float, float]]:
    radius, ground = 0.07 * street.height, 0.93 * street.height
    y = ground - radius - 4 * beat * (1 - beat) * 0.45 * street.height
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), street.paint, (40, 40, 40), FINER)
    return []


def _bird(draw: ImageDraw.ImageDraw, x: float, beat: float, street: _Street) -> list[tuple[float, float, float]]:
    span, y = 0.09 * street.width, (0.16 + 0.02 * np.sin(2 * np.pi * beat)) * street.height
    lift = 0.12 * street.height * np.cos(2 * np.pi * beat)
    draw.line(((x - span, y - lift), (x, y), (x + span, y - lift)), (30, 30, 36), 2 * FINER)
    draw.ellipse((x - span / 3, y - span / 6, x + span / 3, y + span / 6), (30, 30, 36))
    return []


def _car(draw: ImageDraw.ImageDraw, x: float, beat: float, street: _Street) -> list[tuple[float, float, float]]:
    w, h, ground = 0.15 * street.width, 0.12 * street.height, 0.92 * street.height
    draw.rectangle((x - w, ground - 1.6 * h, x + w, ground - 0.4 * h), street.paint)
    draw.polygon(((x - 0.6 * w, ground - 1.6 * h), (x - 0.4 * w, ground - 2.5 * h), (x + 0.4 * w, ground - 2.5 * h),
                  (x + 0.6 * w, ground - 1.6 * h)), (70, 90, 110), street.paint, FINER)
    for wheel in (-0.55, 0.55):
        place, radius = x + wheel * w, 0.45 * h
        draw.ellipse((place - radius, ground - 2 * radius, place + radius, ground), (25, 25, 28))
    return [(x + 1.3 * w, ground - h, 0.11 * street.height)]


_MOVERS = {"ball": _ball, "bird": _bird, "car": _car}


def _sound(kind: str, seconds: float, pace: float, start: float, near: float, rng: Generator) -> Array:
    """(N,) at -26 dB rms; `near`: when a car is in the middle of the picture."""
    time = np.arange(round(seconds * RATE)) / RATE
    if kind == "car":
        pitch = rng.uniform(60, 110)
        hum = sum(np.sin(2 * np.pi * k * pitch * time + rng.uniform(0, 6.28)) / k for k in range(1, 16))
        wave = hum * (0.15 + np.exp(-np.square((time - near) / (0.3 * seconds))))
    else:
        since = (time * pace + start) % 1 / pace                        # seconds since the last bounce, or flap
        low, high = rng.uniform(1800, 2600), rng.uniform(12_000, 20_000)
        chirp = np.sin(2 * np.pi * (low * since + high * since**2)) * np.exp(-np.square((since - 0.06) / 0.03))
        thud = np.sin(2 * np.pi * rng.uniform(120, 200) * since) * np.exp(-since / 0.05)
        wave = chirp if kind == "bird" else thud
    wave = wave + 0.002 * rng.standard_normal(len(time))
    return wave * (10 ** (-26 / 20) / np.sqrt(np.square(wave).mean()))


def _encode(path: Path, film: Sequence[Array], wave: Array) -> None:
    av = need("av", "making clips")
    name = encoder_for(".mp4")
    with path.open("wb") as file, av.open(file, "w", format="mp4") as out:
        out.flags |= 0x400                                              # bit-exact: no dates, no random numbers
        video, audio = out.add_stream(name, rate=FPS, options=OPTIONS[name]), out.add_stream("aac", rate=RATE)
        video.height, video.width = film[0].shape[:2]
        video.pix_fmt, audio.codec_context.layout = "yuv420p", "mono"
        audio.codec_context.bit_rate = BIT_RATE["aac"]
        for index, pixels in enumerate(film):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            _timed(picture, index, FPS)
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
        for begin in range(0, len(wave), BLOCK):
            block = av.AudioFrame.from_ndarray(wave[None, begin : begin + BLOCK].copy(), format="fltp", layout="mono")
            block.sample_rate = RATE
            _timed(block, begin, RATE)
            out.mux(audio.encode(block))
        out.mux(audio.encode(None))


def _timed(frame: Any, place: int, rate: int) -> None:
    frame.pts, frame.time_base = place, Fraction(1, rate)


def _check(takes: int, view: str, seconds: float, size: tuple[int, int]) -> None:
    if view not in VIEWS:
        raise UserError(f"unknown view {view!r}; clips are made by {' or '.join(VIEWS)}")
    if takes < 1 or not 0.5 <= seconds <= 60:
        raise UserError(f"{takes} takes of {seconds:g} s: give a take or more, of 0.5 to 60 s")
    if not all(SIDES[0] <= side <= SIDES[1] and side % 2 == 0 for side in size):
        raise UserError(f"size {size[0]}x{size[1]}: width and height are even, {SIDES[0]} to {SIDES[1]} pixels")
