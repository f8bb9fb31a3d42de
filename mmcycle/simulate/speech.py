"""Speech-like sound: digits spoken by made-up voices, with the words known.

Good enough to be told apart and to have pauses, pitch, moving resonances and consonants of noise; nobody would take it
for a person. Voiced sound is a sum of harmonics under five resonances (Fant 1960), so nothing is filtered sample by
sample and nothing aliases. Letters: N samples, T control frames of 5 ms.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from mmcycle.errors import UserError

RATE = 16_000                           # Hz
CONTROL = 80                            # samples between two control frames
HIGHEST = 7_600.0                       # Hz, of a harmonic
HIGH_RESONANCES = (3500.0, 4500.0)      # Hz; the same for every sound, unlike the first three
ROOM = 10 ** (-80 / 20)                 # rms of the silence


class Phone(NamedTuple):
    """One sound of a word: how long, where a man's first three resonances lie, and what makes it sound."""

    seconds: float
    formants: tuple[float, float, float] = (500.0, 1500.0, 2500.0)      # Hz
    voice: float = 0.0                  # amplitude of the harmonics
    hiss: float = 0.0                   # rms of the noise
    colour: tuple[float, float] = (4000.0, 1.0)     # Hz, octaves: middle and width of the noise


PHONES = {                              # vowels after Peterson and Barney 1952, table II
    "i": Phone(0.14, (270, 2290, 3010), 1), "I": Phone(0.09, (390, 1990, 2550), 1),
    "E": Phone(0.12, (530, 1840, 2480), 1), "A": Phone(0.14, (730, 1090, 2440), 1),
    "O": Phone(0.14, (570, 840, 2410), 1), "U": Phone(0.12, (300, 870, 2240), 1),
    "V": Phone(0.10, (640, 1190, 2390), 1), "R": Phone(0.11, (490, 1350, 1690), 1),
    "w": Phone(0.06, (290, 610, 2150), 0.6), "r": Phone(0.06, (310, 1060, 1380), 0.6),
    "n": Phone(0.07, (250, 1350, 2300), 0.35), "v": Phone(0.06, (220, 1100, 2080), 0.35, 0.06, (5000, 1.5)),
    "z": Phone(0.07, (240, 1390, 2530), 0.3, 0.2, (5500, 0.5)), "s": Phone(0.1, (320, 1390, 2530), 0, 0.4, (5500, 0.5)),
    "f": Phone(0.09, (340, 1100, 2080), 0, 0.12, (5000, 1.5)), "th": Phone(0.08, (320, 1290, 2540), 0, 0.1, (6000, 1)),
    ".": Phone(0.06),                   # closed lips or tongue, before a burst
    "T": Phone(0.025, (400, 1700, 2600), 0, 0.5, (4000, 0.8)), "K": Phone(0.03, (350, 1800, 2400), 0, 0.5, (1800, 0.6)),
}
WORDS = {
    "zero": "z I r O U", "one": "w V n", "two": ". T U", "three": "th r i", "four": "f O R", "five": "f A I v",
    "six": "s I . K s", "seven": "s E v V n", "eight": "E I . T", "nine": "n A I n",
}


@dataclass(frozen=True)
class Voice:
    """Who speaks."""

    pitch: float                        # Hz
    tract: float                        # resonances against those of an average man: shorter throats have higher ones
    breath: float                       # rms of the noise that goes with the voice
    pace: float                         # seconds of a sound against the table's

    @classmethod
    def draw(cls, rng: Generator) -> "Voice":
        """From low and long to high and short, as men, women and children are."""
        height = rng.uniform(0, 1)
        return cls(
            pitch=90 * 2.6**height * rng.uniform(0.93, 1.07), tract=1 + 0.22 * height + rng.normal(0, 0.02),
            breath=rng.uniform(0.01, 0.05), pace=rng.uniform(0.85, 1.3),
        )


class Tracks(NamedTuple):
    """What the mouth does, at every control frame."""

    formants: Array                     # (T, 5) Hz
    voice: Array                        # (T,) amplitude
    hisses: dict[tuple[float, float], Array]        # colour -> (T,) rms


def say(words: Sequence[str], voice: Voice, rng: Generator, level_db: float = -26.0) -> Array:
    """(N,) float32 at 16 kHz in [-1, 1]; `level_db` is the rms of vowels; a pause before, between and after words.

    The same words of one voice come out a little otherwise every time.
    """
    unknown = [word for word in words if word not in WORDS]
    if unknown or not words:
        raise UserError(f"cannot say {', '.join(unknown) or 'nothing'}; the words are {', '.join(WORDS)}")
    tracks = _tracks(_spoken(words, voice, rng), voice)
    samples = len(tracks.voice) * CONTROL
    sounding = _buzz(tracks, _pitch(voice, len(tracks.voice), rng), samples)
    for colour, size in tracks.hisses.items():
        sounding += _at_samples(size, samples) * coloured(samples, *colour, rng)
    sounding += _at_samples(voice.breath * tracks.voice, samples) * coloured(samples, 2500 * voice.tract, 1.2, rng)
    wave = sounding * 10 ** (level_db / 20) + ROOM * rng.standard_normal(samples)
    return (wave / max(1.0, np.abs(wave).max() / 0.99)).astype(np.float32)


def coloured(samples: int, middle: float, octaves: float, rng: Generator) -> Array:
    """(N,) Gaussian noise of rms 1 around `middle` Hz; `octaves` is one standard deviation of its magnitude."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / RATE)
    frequency[0] = 1.0
    wave = np.fft.irfft(spectrum * np.exp(-((np.log2(frequency / middle) / octaves) ** 2) / 2), samples)
    return wave / np.sqrt(np.square(wave).mean())


def _spoken(words: Sequence[str], voice: Voice, rng: Generator) -> list[tuple[Phone, int]]:
    """Every sound with the control frames that it takes; speech begins and ends in silence."""
    pauses = [rng.uniform(0.12, 0.35), *rng.uniform(0.02, 0.25, len(words) - 1), rng.uniform(0.12, 0.35)]
    phones = []
    for word, pause in zip([*words, ""], pauses):
        phones.append((Phone(pause), pause))
        for name in WORDS.get(word, "").split():
            phones.append((PHONES[name], PHONES[name].seconds * voice.pace * rng.uniform(0.85, 1.15)))
    return [(phone, max(1, round(seconds * RATE / CONTROL))) for phone, seconds in phones]


def _tracks(phones: Sequence[tuple[Phone, int]], voice: Voice) -> Tracks:
    """Resonances glide over 60 ms from sound to sound, loudness over 20 ms."""
    frames = [count for _, count in phones]

    def held(values: Sequence[float]) -> Array:
        return np.repeat(np.asarray(values, dtype=np.float64), frames)

    low = [_smooth(held([np.log(phone.formants[place]) for phone, _ in phones]), 13) for place in range(3)]
    high = [np.full(sum(frames), np.log(frequency)) for frequency in HIGH_RESONANCES]
    colours = sorted({phone.colour for phone, _ in phones if phone.hiss})
    hisses = {
        colour: _smooth(held([phone.hiss * (phone.colour == colour) for phone, _ in phones]), 5) for colour in colours
    }
    formants = voice.tract * np.exp(np.stack([*low, *high], axis=1))
    return Tracks(formants, _smooth(held([phone.voice for phone, _ in phones]), 5), hisses)


def _pitch(voice: Voice, frames: int, rng: Generator) -> Array:
    """(T,) Hz: falls by a quarter, as statements do, and is never quite steady."""
    wander = _smooth(rng.standard_normal(frames + 40), 31)[20:-20]
    return voice.pitch * np.linspace(1.12, 0.87, frames) * (1 + 0.06 * wander)


def _buzz(tracks: Tracks, pitch: Array, samples: int) -> Array:
    """(N,) harmonics, each as loud as the resonances let it through; rms about 1 in vowels."""
    turn = np.exp(2j * np.pi * np.cumsum(_at_samples(pitch, samples)) / RATE)
    tone, wave = turn.copy(), np.zeros(samples)
    power = np.zeros(len(pitch))
    for number in range(1, int(HIGHEST / pitch.min()) + 1):
        size = _through(number * pitch, tracks.formants) / number * (number * pitch < HIGHEST)
        power += np.square(size) / 2
        wave += _at_samples(tracks.voice * size, samples) * tone.imag
        tone *= turn
    loud = tracks.voice > 0.8
    return wave / np.sqrt(power[loud].mean() if loud.any() else power.mean())


def _through(frequency: Array, formants: Array) -> Array:
    """(T,) Hz, (T, 5) Hz -> (T,): magnitude of five resonances in a row, 60 Hz wide and more the higher they are."""
    width = 60 + 0.03 * formants
    square = np.square(formants)
    gain = square / np.hypot(square - np.square(frequency)[:, None], width * frequency[:, None])
    return gain.prod(axis=1)


def _at_samples(track: Array, samples: int) -> Array:
    """(T,) -> (N,), straight lines between the frames."""
    held = np.pad(track, 1, mode="edge")        # frame t lies in the middle of its samples
    ramp = np.arange(CONTROL) / CONTROL
    lines = held[:-1, None] + np.diff(held)[:, None] * ramp         # eight times faster than np.interp
    return lines.reshape(-1)[CONTROL // 2 : CONTROL // 2 + samples]


def _smooth(track: Array, frames: int) -> Array:
    """(T,) averaged under a Hann window of an odd number of frames."""
    window = np.hanning(frames + 2)[1:-1]
    padded = np.pad(track, frames // 2, mode="edge")
    return np.convolve(padded, window / window.sum(), mode="valid")
