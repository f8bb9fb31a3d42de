"""A wave as the measures of sound look at it: checked, cut into frames, as a spectrogram and as mel bands in dB.

A wave is (N,), floating point, in [-1, 1], at `rate` Hz. Letters: N samples, K frequency bins, T frames.
"""
from functools import lru_cache

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from mmcycle.errors import UserError

FRAME = 0.032                               # seconds; 512 samples at 16 kHz
QUIETEST = -100.0                           # dB below a sine of full scale; quieter bands count as this loud
LOWEST_RATE = 4000                          # Hz; below it the mel bands are narrower than the bins of a frame


def checked(wave: Tensor) -> Tensor:
    """The wave in float64 on the CPU, or an error: measures of broken waves would be numbers like any other."""
    if wave.ndim != 1 or len(wave) == 0 or not wave.is_floating_point():
        found = f"{tuple(wave.shape)} {str(wave.dtype).removeprefix('torch.')}"
        raise UserError(f"a wave is (N,) of floating point numbers, N >= 1, got {found}; measure channels one by one")
    if not wave.isfinite().all():
        raise UserError("the wave has samples that are not finite; mend the recording first")
    return wave.detach().cpu().double()


def checked_rate(rate: int) -> int:
    if rate < LOWEST_RATE:
        raise UserError(f"sound is measured at {LOWEST_RATE} Hz or more, got {rate} Hz; resample it first")
    return rate


def checked_pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two waves that lie sample on sample."""
    if x.shape != y.shape:
        raise UserError(f"two waves of one length are compared, got {tuple(x.shape)} and {tuple(y.shape)}")
    return checked(x), checked(y)


def centred(wave: Tensor) -> Tensor:
    """Without its mean; a constant becomes zeros, not the rounding of its mean."""
    wave = wave - wave.mean()
    return wave if wave.abs().max() > 1e-12 else torch.zeros_like(wave)


def frame_power(wave: Tensor, rate: int) -> Tensor:
    """Mean square of frames of 32 ms that overlap by half, (T,); a wave shorter than that is one frame.

    A last piece shorter than half a frame is not looked at.
    """
    size = min(frame_size(rate), len(wave))
    return wave.unfold(0, size, max(1, size // 2)).square().mean(dim=1)


def frame_size(rate: int) -> int:
    """Samples in 32 ms, even."""
    return 2 * round(FRAME * checked_rate(rate) / 2)


def spectrogram(wave: Tensor, size: int, hop: int) -> Tensor:
    """Magnitude under a Hann window of `size` samples, (K, T), in which a sine of full scale is 1.

    Frames are centred and the edges mirrored; a wave shorter than `size` is filled up with zeros.
    """
    window = torch.hann_window(size, dtype=wave.dtype)
    wave = F.pad(wave, (0, max(0, size - len(wave))))
    padded = F.pad(wave[None], (size // 2, size // 2), mode="reflect")[0]
    spectrum = torch.stft(padded, size, hop, window=window, center=False, return_complex=True)
    return spectrum.abs() * (2 / window.sum())


def log_mel(wave: Tensor, rate: int, *, bands: int, hop: float) -> Tensor:
    """Mean magnitude of mel bands from 0 Hz to half the rate, every `hop` seconds: (bands, T), dB, >= QUIETEST."""
    size = frame_size(rate)
    magnitude = spectrogram(wave, size, round(hop * rate))
    banded = mel_bands(rate, size, bands).to(wave) @ magnitude
    return 20 * banded.clamp_min(10 ** (QUIETEST / 20)).log10()


@lru_cache(maxsize=8)
def mel_bands(rate: int, size: int, bands: int) -> Tensor:
    """Triangles on the Slaney mel scale, (bands, K), each weighing the bins of its band to a sum of 1."""
    from torchaudio.functional import melscale_fbanks

    triangles = melscale_fbanks(size // 2 + 1, 0.0, rate / 2, bands, rate, norm=None, mel_scale="slaney")
    triangles = rearrange(triangles.double(), "bin band -> band bin")
    return triangles / triangles.sum(dim=1, keepdim=True)
