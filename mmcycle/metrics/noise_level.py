"""How loud the noise is: exactly where clean speech and noise are known apart, estimated where only their sum is.

Waves are (N,) in [-1, 1] at `rate` Hz; levels and ratios are in dB. The level of speech is that of its active frames,
so that the pauses of a recording, which are its speaker's choice, do not count as quiet speech.
"""
import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from mmcycle.errors import UserError
from mmcycle.metrics.waves import centred, checked, frame_power

ACTIVE = 0.05                               # of the loudest frame's rms (-26 dB); louder frames are active
FULL_SCALE = 1 - 2**-15                     # the largest sample that 16 bits hold
SPEECH_SHAPE = 0.4                          # of the Gamma distribution that amplitudes of clean speech follow
WADA_RANGE = (-20.0, 100.0)                 # dB; estimates end there
PERCENTILE_RANGE = (0.0, 100.0)


class Mixture(NamedTuple):
    """wave = scale * (clean + louder or quieter noise); scale is 1 unless the sum would have clipped."""

    wave: Tensor
    scale: float


def active_level_db(wave: Tensor, rate: int) -> float:
    """Level of the active frames, 0 for a square wave of full scale; -inf for silence."""
    power = frame_power(checked(wave), rate)
    return _decibel(power[power >= ACTIVE**2 * power.max()].mean())


def snr_db(clean: Tensor, noise: Tensor, rate: int) -> float:
    """Level of the active speech over the mean level of the noise; the lengths may differ."""
    return active_level_db(clean, rate) - _decibel(checked(noise).square().mean())


def mix_at_snr(clean: Tensor, noise: Tensor, snr: float, rate: int) -> Mixture:
    """Speech at its own level plus noise at `snr` dB below it; both scaled down together only where they would clip."""
    if clean.shape != noise.shape:
        found = f"{tuple(clean.shape)} and {tuple(noise.shape)}"
        raise UserError(f"speech and noise of one length are mixed, got {found}; cut or repeat the noise first")
    if not math.isfinite(snr):
        raise UserError(f"speech and noise are mixed at a finite ratio in dB, got {snr}")
    if not clean.any() or not noise.any():
        silent = "noise" if clean.any() else "speech"
        raise UserError(f"silent {silent} cannot be mixed at a ratio; choose another wave")
    mixed = clean + noise * 10 ** ((snr_db(clean, noise, rate) - snr) / 20)
    peak = mixed.abs().max().item()
    scale = FULL_SCALE / peak if peak > FULL_SCALE else 1.0
    return Mixture(mixed * scale, scale)


def wada_snr(wave: Tensor) -> float:
    """Estimate of the SNR from the distribution of the amplitudes alone; Kim & Stern 2008.

    Speech is taken as Gamma distributed with shape 0.4, noise as Gaussian: noise other than that shifts the estimate.
    Trustworthy from 0 to 20 dB and for a second or more. Between -20 and 100; -20 for silence and constants. Digital
    silence at both ends is cut away; inside, it reads as very clean.
    """
    wave = checked(wave)
    sounding = wave.nonzero()[:, 0]
    size = centred(wave[sounding[0] : sounding[-1] + 1] if len(sounding) else wave).abs()
    if not size.any():
        return WADA_RANGE[0]
    size = size.clamp_min(2**-16 * size.max())                  # a zero of 16 bits is a small number, not none
    return _looked_up((size.mean().log() - size.log().mean()).item())


def percentile_snr(wave: Tensor, rate: int) -> float:
    """Distance of the 90th and the 10th percentile of the power of 32 ms frames: a range, used where WADA fails.

    Grows with the SNR well above 30 dB, but is not it: for speech in noise of 0, 10, 20 and 30 dB it is about 9, 16, 25
    and 33. Between 0 and 100; 0 for constants, silence and waves of one frame.
    """
    power = frame_power(centred(checked(wave)), rate)
    if not power.any():
        return PERCENTILE_RANGE[0]
    level = 10 * power.clamp_min(power.max() * 1e-10).log10()
    high, low = level.quantile(level.new_tensor([0.9, 0.1])).tolist()
    return min(high - low, PERCENTILE_RANGE[1])


def _decibel(power: Tensor) -> float:
    return 10 * power.log10().item()


def _looked_up(peakiness: float) -> float:
    """Linear between the rows of the table, ends held."""
    ratios, values = wada_table()
    right = int(torch.searchsorted(values, peakiness).clamp(1, len(values) - 1))
    share = (peakiness - values[right - 1]) / (values[right] - values[right - 1])
    return torch.lerp(ratios[right - 1], ratios[right], share.clamp(0, 1)).item()


@lru_cache(maxsize=1)
def wada_table() -> tuple[Tensor, Tensor]:
    """SNRs of -20 to 100 dB and what `ln E|z| - E ln|z|` of speech plus noise is there, both (121,), rising.

    Kim & Stern 2008: summed over the logarithm of the speech's amplitude, from e^-60 (weight 1e-11) to e^5. Louder
    speech has the same weights farther along that axis, so one long grid serves every SNR.
    """
    per_db, decibel = 8, math.log(10) / 20
    log_speech = torch.arange(-60, 5, decibel / per_db, dtype=torch.float64)
    weight = (SPEECH_SHAPE * log_speech - log_speech.exp()).exp()
    weight = weight / weight.sum()
    ratios = torch.arange(WADA_RANGE[0], WADA_RANGE[1] + 1, dtype=torch.float64)
    steps = torch.arange(len(log_speech) + per_db * (len(ratios) - 1), dtype=torch.float64)
    log_rms = math.log(SPEECH_SHAPE * (SPEECH_SHAPE + 1)) / 2
    over_noise = (log_speech[0] - log_rms + decibel * (WADA_RANGE[0] + steps / per_db)).exp()
    size, log_size = (grid.unfold(0, len(log_speech), per_db) @ weight for grid in _noisy(over_noise))
    return ratios, size.log() - log_size


def _noisy(a: Tensor) -> tuple[Tensor, Tensor]:
    """E|a + n| and E ln|a + n| for standard normal n and a > 0: a folded normal, a noncentral chi-square distribution.

    The latter is a Poisson mixture of central ones, with mean logarithms digamma(j + 1/2) + ln 2; a series from 12 on.
    """
    size = (2 / math.pi) ** 0.5 * torch.exp(-a.square() / 2) + a * torch.erf(a / 2**0.5)
    half = a.clamp_max(12).square()[:, None] / 2
    j = torch.arange(200, dtype=a.dtype)
    poisson = torch.exp(torch.xlogy(j, half) - half - torch.lgamma(j + 1))
    near = (poisson @ torch.digamma(j + 0.5) + math.log(2)) / 2
    far = a.log() - 1 / (2 * a.square()) - 3 / (4 * a**4)
    return size, torch.where(a < 12, near, far)
