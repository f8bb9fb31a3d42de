"""Distances between two waves: what was lost on the way through a codec, what a translation did to the speech.

Waves are (N,) in [-1, 1], at `rate` Hz where that matters, and lie sample on sample. STOI and PESQ come from the
libraries pystoi and pesq, which are optional; ask `available` first.
"""
import math
import warnings
from importlib.util import find_spec
from typing import Literal

from torch import Tensor

from mmcycle.errors import need
from mmcycle.metrics.waves import centred, checked_pair, checked_rate, log_mel, spectrogram

BANDS, HOP = 64, 0.008                      # of the log-spectral distance; seconds
RESOLUTIONS = (512, 1024, 2048)             # window lengths, samples
MAGNITUDE_FLOOR = 1e-5                      # of a sine of full scale, where its logarithm is taken
SHORTEST_FOR_STOI = 0.397                   # seconds; 30 frames, on which it correlates
SHORTEST_FOR_PESQ = 0.25                    # seconds


def log_spectral_distance(x: Tensor, y: Tensor, rate: int) -> float:
    """In dB: root mean square over 64 mel bands, mean over frames of 32 ms every 8 ms.

    0 for equal waves, 6.02 for a wave and its double. Bands below -100 dB of full scale count as -100.
    """
    x, y = checked_pair(x, y)
    difference = log_mel(x, rate, bands=BANDS, hop=HOP) - log_mel(y, rate, bands=BANDS, hop=HOP)
    return difference.square().mean(dim=0).sqrt().mean().item()


def multi_resolution_stft(estimate: Tensor, reference: Tensor) -> float:
    """Spectral convergence plus mean difference of the log magnitudes (nepers), mean over three window lengths.

    Yamamoto et al. 2020, with windows of 512, 1024 and 2048 samples and hops of a quarter of them.
    """
    estimate, reference = checked_pair(estimate, reference)
    total = 0.0
    for size in RESOLUTIONS:
        got, wanted = (spectrogram(wave, size, size // 4) for wave in (estimate, reference))
        convergence = (got - wanted).norm() / wanted.norm().clamp_min(MAGNITUDE_FLOOR)
        logarithms = (got.clamp_min(MAGNITUDE_FLOOR) / wanted.clamp_min(MAGNITUDE_FLOOR)).log().abs().mean()
        total += (convergence + logarithms).item()
    return total / len(RESOLUTIONS)


def si_sdr(estimate: Tensor, reference: Tensor) -> float:
    """Signal to distortion ratio in dB, whatever the gain; Le Roux et al. 2019, of waves without their mean.

    Above 100 for a scaled copy, infinite where rounding allows; nan where either wave is constant.
    """
    estimate, reference = (centred(wave) for wave in checked_pair(estimate, reference))
    if not estimate.any() or not reference.any():
        return math.nan
    target = (estimate @ reference) / (reference @ reference) * reference
    ratio = target.square().sum() / (estimate - target).square().sum()
    return 10 * ratio.log10().item()


def available(measure: Literal["stoi", "pesq"]) -> bool:
    """Is the library installed that this measure needs?"""
    return find_spec({"stoi": "pystoi", "pesq": "pesq"}[measure]) is not None


def stoi(clean: Tensor, other: Tensor, rate: int) -> float:
    """Short-time objective intelligibility of `other`, 1 at best; Taal et al. 2011.

    nan where the clean speech is silent, or has less than 0.4 s within 40 dB of its loudest frame.
    """
    pystoi = need("pystoi", "STOI", install="mmcycle[eval]")
    clean, other = checked_pair(clean, other)
    if len(clean) < SHORTEST_FOR_STOI * checked_rate(rate) or not clean.any():
        return math.nan
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
        try:
            return float(pystoi.stoi(clean.numpy(), other.numpy(), rate))
        except RuntimeWarning:
            return math.nan


def pesq(clean: Tensor, other: Tensor, rate: int) -> float:
    """Perceptual quality of `other`, 1 to 4.64; ITU-T P.862.2 (wide band), at 8 kHz P.862.1 (narrow band, to 4.55).

    Other rates are brought to 16 kHz. Numbers of the two bands cannot be compared. nan where no speech is found in
    the clean wave, where the other is silent, and below 0.25 s.
    """
    library = need("pesq", "PESQ", install="pesq")
    clean, other = checked_pair(clean, other)
    if len(clean) < SHORTEST_FOR_PESQ * checked_rate(rate) or not clean.any() or not other.any():
        return math.nan
    band = "nb" if rate == 8000 else "wb"
    clean, other = _at_16_khz(clean, rate), _at_16_khz(other, rate)
    try:
        return float(library.pesq(8000 if band == "nb" else 16000, clean.numpy(), other.numpy(), band))
    except (library.NoUtterancesError, library.BufferTooShortError):
        return math.nan


def _at_16_khz(wave: Tensor, rate: int) -> Tensor:
    """8 and 16 kHz, which PESQ knows, stay as they are."""
    from torchaudio.functional import resample

    return wave if rate in (8000, 16000) else resample(wave, rate, 16000)
