"""Wasserstein distances: of two samples of numbers, and of the patches of two sets of pictures with one channel.

Letters: B pictures of a set, H W size, K places, P numbers in a patch, D directions, N M values of either side.
"""
import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from mmcycle.errors import UserError

PLACES, DIRECTIONS = 512, 128           # a second seed moves the mean over scales by about 2 %
COARSEST = 16                           # pixels; the pyramid ends there, as in Karras et al. 2018


def wasserstein(fake: Tensor, real: Tensor) -> float:
    """The 1-Wasserstein distance of two samples (N,), (M,), in their unit: the area between their distributions."""
    if not fake.numel() or not real.numel():
        raise UserError(f"a distance of samples needs values on both sides, got {fake.numel()} and {real.numel()}")
    fake, real = _ordered(fake.flatten()), _ordered(real.flatten())
    steps = _ordered(torch.cat([fake, real]))
    passed_fake, passed_real = (torch.searchsorted(one, steps[:-1], right=True) for one in (fake, real))
    apart = (passed_fake * len(real) - passed_real * len(fake)).abs()   # counted, so that equal samples give 0 exactly
    return (apart * steps.double().diff()).sum().item() / (len(fake) * len(real))


def sliced_wasserstein(fake: Tensor, real: Tensor, patch: int = 7, *, ring: bool = True, seed: int = 0) -> list[float]:
    """Distance of the patches of two sets (B, H, W) at each scale, the finest first. Karras et al. 2018, section 5.

    Patches of a Laplacian pyramid, cut at the same seeded places of every picture, are projected on seeded directions;
    the result is the mean over directions of the one-dimensional Wasserstein distances. Two departures from the paper:
    both sets are measured in the reals' mean and deviation (theirs each in its own, which forgives a wrong contrast),
    and a set of more pictures is thinned to as many quantiles as the smaller one has patches. Few pictures are farther
    apart than many: compare only numbers of about equal N and M. `ring`: the last column touches the first.
    """
    if fake.shape[1:] != real.shape[1:] or fake.ndim != 3 or min(real.shape[1:]) < patch:
        found = f"{tuple(fake.shape)} and {tuple(real.shape)}"
        raise UserError(f"two sets (B, H, W) of equal H and W, {patch} or more, are compared, got {found}")
    rng = torch.Generator().manual_seed(seed)
    directions = F.normalize(torch.randn(DIRECTIONS, patch * patch, generator=rng), dim=1).to(real.device)
    distances = []
    for level_fake, level_real in zip(_pyramid(fake.float(), ring, patch), _pyramid(real.float(), ring, patch)):
        places = _places(level_real, patch, ring, rng)
        x, y = _patches(level_fake, places, patch, ring), _patches(level_real, places, patch, ring)
        mean, deviation = y.double().mean().float(), y.double().std().float().clamp_min(1e-6)
        x, y = (directions @ ((patches - mean) / deviation) for patches in (x, y))
        distances.append(_between_rows(x, y))
    return distances


def _pyramid(x: Tensor, ring: bool, patch: int) -> list[Tensor]:
    """What each halving of (B, H, W) loses, the finest first, and what is left at last."""
    levels = []
    while min(x.shape[1:]) >= 2 * max(COARSEST, patch):
        coarse = _smooth(x, ring)[:, ::2, ::2]
        spread = torch.zeros_like(x)
        spread[:, ::2, ::2] = coarse
        levels.append(x - 4 * _smooth(spread, ring))
        x = coarse
    return [*levels, x]


def _smooth(x: Tensor, ring: bool) -> Tensor:
    """Weights 1 4 6 4 1 along both sides (Burt and Adelson 1983)."""
    x = F.pad(x[:, None], (2, 2, 0, 0), mode="circular" if ring else "reflect")
    x = F.pad(x, (0, 0, 2, 2), mode="reflect")[:, 0]
    for side in (1, 2):             # eight times faster than a convolution with one channel
        a, b, c, d, e = (x.narrow(side, start, x.shape[side] - 4) for start in range(5))
        x = (a + e).add_(b + d, alpha=4).add_(c, alpha=6).div_(16)
    return x


def _places(level: Tensor, patch: int, ring: bool, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(K,) rows and (K,) columns where a patch begins; the same in every sweep, whatever the order of the sweeps."""
    height = level.shape[1] - patch + 1
    width = level.shape[2] if ring else level.shape[2] - patch + 1
    chosen = torch.randperm(height * width, generator=rng)[:PLACES].to(level.device)
    return chosen // width, chosen % width


def _patches(level: Tensor, places: tuple[Tensor, Tensor], patch: int, ring: bool) -> Tensor:
    """(B, H, W) -> (P, B K)."""
    if ring:
        level = torch.cat([level, level[:, :, : patch - 1]], dim=2)
    rows, columns = places
    return rearrange(level.unfold(1, patch, 1).unfold(2, patch, 1)[:, rows, columns], "b k i j -> (i j) (b k)")


def _between_rows(x: Tensor, y: Tensor) -> float:
    """Mean over D of the Wasserstein distances of rows (D, N), (D, M), both read at min(N, M) quantiles."""
    count = min(x.shape[1], y.shape[1])
    quantiles = torch.arange(count, dtype=torch.float64).add(0.5) / count
    x, y = (_ordered(one)[:, (quantiles * one.shape[1]).long()] for one in (x, y))
    return (x - y).abs().double().mean().item()


def _ordered(x: Tensor) -> Tensor:
    """Sorted along the last side, by numpy, which is fifteen times faster at it on a CPU."""
    return torch.from_numpy(np.sort(x.cpu().numpy(), axis=-1))
