"""Recordings of speech and noise as the benchmarks use them: read at one rate, mixed, and handed to a translator."""
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch

from mmcycle.metrics.noise_level import mix_at_snr
from mmcycle.modalities.sound_files import Sound


def read(path: Path, rate: int) -> np.ndarray:
    """(N,) float32 at `rate` Hz."""
    wave, own = soundfile.read(path, dtype="float32")
    return wave if own == rate else librosa.resample(wave, orig_sr=own, target_sr=rate)


def mixed(wave: np.ndarray, noise: np.ndarray, snr: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """The wave with a random piece of the noise, at `snr` decibels below the level of its speech."""
    noise = np.tile(noise, -(-len(wave) // len(noise)))
    start = rng.integers(0, len(noise) - len(wave) + 1)
    piece = np.ascontiguousarray(noise[start : start + len(wave)], dtype=np.float32)
    return mix_at_snr(torch.from_numpy(wave), torch.from_numpy(piece), snr, rate).wave.float().numpy()


def sound(wave: np.ndarray, rate: int, subtype: str = "FLOAT") -> Sound:
    """A recording of one channel."""
    return Sound(np.ascontiguousarray(wave[:, None], dtype=np.float32), rate, subtype)
