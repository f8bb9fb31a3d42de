"""Distances between two sets of waves: does the noise of the fakes sound like that of the real recordings?

Waves are (N,) in [-1, 1], all of a call at one rate, of any lengths. Letters: W windows, D numbers that describe one.
"""
from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from mmcycle.errors import UserError
from mmcycle.metrics.distances import frechet, standardise
from mmcycle.metrics.wasserstein import wasserstein
from mmcycle.metrics.waves import checked, log_mel

BANDS, HOP = 16, 0.016                      # seconds
WINDOW, STRIDE = 62, 31                     # frames: a second, every half


class SoundDistance(NamedTuple):
    """A distance means little without its floor, the distance of two halves of the real recordings of equal size.

    `waves` and `windows` say how many of each stood on either side: fewer make both numbers larger.
    """

    value: float
    floor: float
    waves: int
    windows: int


def noise_statistics(wave: Tensor, rate: int) -> Tensor:
    """What a second sounds like, whatever is said in it: (W, 64), in dB, float64, one row per half second.

    Mean, deviation, 10th percentile and deviation of the change per frame of 16 log-mel bands, in this order. What is
    left over at the end is not looked at; a wave shorter than a second gives one row.
    """
    bands = log_mel(checked(wave), rate, bands=BANDS, hop=HOP)
    windows = bands.unfold(1, min(WINDOW, bands.shape[1]), STRIDE)
    change = windows.diff(dim=-1) if windows.shape[-1] > 1 else torch.zeros_like(windows)
    described = [
        windows.mean(dim=-1), windows.std(dim=-1, correction=0), windows.quantile(0.1, dim=-1),
        change.std(dim=-1, correction=0),
    ]
    return rearrange(described, "kind band window -> window (kind band)")


def sound_frechet(
    fakes: Sequence[Tensor], reals: Sequence[Tensor], rate: int, rng: torch.Generator, draws: int = 8
) -> SoundDistance:
    """Squared Frechet distance of `noise_statistics`, in deviations of the real ones (rng lives on the CPU).

    The distance of small sets is biased upwards, so fakes and reals are each compared with the same half of the reals,
    both with as many waves and windows; mean over `draws` random halves. A fake set is as good as real at its floor.
    """
    count = min(len(fakes), len(reals) // 2)
    if count < 2:
        found = f"{len(fakes)} and {len(reals)}"
        raise UserError(f"the distance of two sets of sounds needs 2 fake and 4 real waves or more, got {found}")
    described_fakes = [noise_statistics(wave, rate) for wave in fakes]
    described_reals = [noise_statistics(wave, rate) for wave in reals]
    drawn = [_draw(described_fakes, described_reals, count, rng) for _ in range(draws)]
    value, floor, windows = (sum(column) / draws for column in zip(*drawn))
    return SoundDistance(value, floor, count, round(windows))


def wasserstein_1(x: Tensor, y: Tensor) -> float:
    """Distance of two samples of numbers, (N,) and (M,), in their unit: the area between their distribution functions.

    Levels, SNRs and the like of fakes and reals; a shift by s gives s.
    """
    if x.ndim != 1 or y.ndim != 1 or not len(x) or not len(y):
        raise UserError(f"two samples of numbers (N,) and (M,) are compared, got {tuple(x.shape)} and {tuple(y.shape)}")
    if not x.isfinite().all() or not y.isfinite().all():
        raise UserError("a sample has numbers that are not finite; leave them out and say how many they were")
    return wasserstein(x.double(), y.double())


def _draw(fakes: list[Tensor], reals: list[Tensor], count: int, rng: torch.Generator) -> tuple[float, float, int]:
    """One draw of `count` fakes, as many reals to compare with, and as many others for the floor."""
    order = torch.randperm(len(reals), generator=rng).tolist()
    chosen = torch.randperm(len(fakes), generator=rng).tolist()[:count]
    sides = [
        torch.cat([reals[place] for place in order[:count]]),
        torch.cat([reals[place] for place in order[count : 2 * count]]),
        torch.cat([fakes[place] for place in chosen]),
    ]
    windows = min(len(side) for side in sides)
    reference, other, fake = (side[torch.randperm(len(side), generator=rng)[:windows]] for side in sides)
    return frechet(*standardise(reference, fake)), frechet(*standardise(reference, other)), windows
