"""The part of a sound that a page can play: short enough to be embedded, at a rate that every browser knows."""
from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np

from mmcycle.errors import need
from mmcycle.modalities.sound_files import Sound
from mmcycle.modality import Clip

LONGEST = 20.0                                      # seconds
MOST_SAMPLES = 480_000                              # of all channels: 10 s of 48 kHz, 5 s when stereo
LOWEST_RATE, HIGHEST_RATE = 8_000, 48_000           # Hz


def excerpt(sound: Sound) -> Sound:
    """The beginning of a sound, as much as fits on a page."""
    samples, channels = sound.samples.shape
    rate = min(sound.rate, HIGHEST_RATE)
    seconds = min(LONGEST, MOST_SAMPLES / rate / min(channels, 2))
    kept = min(samples, max(round(seconds * sound.rate), 1))
    return sound if kept == samples else replace(sound, samples=sound.samples[:kept])


def clip(sound: Sound, part: Sound) -> Clip:
    """`part` of `sound` as FLAC of 16 bits: the mean of more than two channels, softer where it would be cut off."""
    soundfile, soxr = need("soundfile", "sound in a report"), need("soxr", "sound in a report")
    samples = part.samples if part.samples.shape[1] <= 2 else part.samples.mean(axis=1, keepdims=True)
    rate = min(max(part.rate, LOWEST_RATE), HIGHEST_RATE)
    if rate != part.rate:
        resampled = soxr.resample(samples, part.rate, rate)
        samples = resampled if len(resampled) else samples[:1]
    peak = float(np.abs(samples).max(initial=0))
    about = [_length(len(sound.samples) / sound.rate, len(part.samples) / part.rate), f"{sound.rate / 1000:g} kHz"]
    if sound.samples.shape[1] > 1:
        about.append("stereo" if sound.samples.shape[1] == 2 else f"the mean of {sound.samples.shape[1]} channels")
    if peak > 1:
        about.append(f"played {20 * np.log10(peak):.1f} dB softer")
    buffer = BytesIO()
    soundfile.write(buffer, samples / max(peak, 1.0), rate, format="FLAC", subtype="PCM_16")
    return Clip(buffer.getvalue(), "audio/flac", ", ".join(about))


def _length(whole: float, part: float) -> str:
    told = f"{whole:.0f} s" if whole >= 100 else f"{whole:.1f} s" if whole >= 0.1 else f"{1000 * whole:.2g} ms"
    return told if part == whole else f"the first {part:.0f} s of {told}"
