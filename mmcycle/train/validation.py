"""How good the moving averages are, as one number that chooses among the checkpoints of a run; lower is better.

    score         the mean over directions of unlikeness + loss
    unlikeness_b  how far the patches of fake_b are from those of real_b, in units of how far those of real_a are
    loss_a        how far real_a comes back from itself, its translation stored in 8 bits on the way, in units of how
                  far recordings of the domain are from their mean colour; without a way back: 1 - `structure`

Doing nothing scores 1: nothing lost, nothing gained. So does a model that always shows the mean, and one that shows
real recordings of the target, whatever it is given, scores 1 or more. Below 1 is gained what was not paid for.
Patches and not features of a network, because 16 recordings are 16 points to a distance of features and thousands to
this one, for every sensor and without weights. The recordings are those that train: the score chooses, it proves
nothing.
"""
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcycle.metrics.faithfulness import structure

RECORDINGS = 16                         # of each domain, always the same windows
TOGETHER = 4                            # recordings that a network sees at once
PATCH, PLACES, DIRECTIONS = 7, 128, 128
COARSEST = 16                           # pixels; the pyramid ends there
LEVEL = 2 / 255                         # one step of an 8-bit file, on [-1, 1]

Reals = dict[str, Tensor]               # domain -> (N, *shape)


@torch.no_grad()
def validate(generators: nn.ModuleDict, reals: Reals) -> dict[str, float]:
    """Direction -> generator, domain -> its recordings; "score" and what it is the mean of, by name."""
    measured = {}
    for direction, there in generators.items():
        start, end = direction
        real, target = reals[start], reals[end]
        fake = translated(there, real)
        measured[f"unlikeness_{end}"] = apart(fake, target) / max(apart(_untranslated(real, target), target), 1e-6)
        if direction[::-1] in generators:
            rec = translated(generators[direction[::-1]], stored(fake))
            measured[f"loss_{start}"] = _l1(rec, real) / spread(real)
        elif fake.shape[-2:] == real.shape[-2:]:
            measured[f"loss_{start}"] = 1 - structure(real, fake).mean().item()
    return {"score": sum(measured.values()) / len(generators)} | measured


def translated(network: nn.Module, x: Tensor) -> Tensor:
    """(N, *shape_a) -> (N, *shape_b), float32, a few at a time."""
    return torch.cat([network(few).float() for few in x.split(TOGETHER)])


def stored(x: Tensor) -> Tensor:
    """[-1, 1] as an 8-bit file keeps it."""
    return (x.clamp(-1, 1) / LEVEL).round() * LEVEL


def spread(x: Tensor) -> float:
    """How far recordings (N, C, H, W) are from their mean colour; never 0."""
    return max(_l1(x, _mean(x)), 1e-3)


def apart(x: Tensor, y: Tensor) -> float:
    """Two sets (N, C, H, W), (M, C, H, W) -> the sliced Wasserstein distance of their patches, mean over scales.

    Karras et al. 2018, section 5, with all channels in one patch and both sets in units of the deviation of y, so
    that a wrong contrast counts. The same seeded places and directions every time.
    """
    rng, count = torch.Generator().manual_seed(0), min(len(x), len(y))
    distances = []
    for level_x, level_y in zip(_pyramid(x[:count].float()), _pyramid(y[:count].float()), strict=True):
        places = _places(level_y, rng)
        distances.append(_between(_patches(level_x, places), _patches(level_y, places), rng))
    return sum(distances) / len(distances)


def _between(x: Tensor, y: Tensor, rng: torch.Generator) -> float:
    """Patches (P, D) of two sets at one scale -> the mean over directions of their distances."""
    directions = F.normalize(torch.randn(y.shape[1], DIRECTIONS, generator=rng), dim=0).to(y.device)
    shown = (((one - y.mean()) / y.std().clamp_min(1e-6) @ directions).T.cpu().numpy() for one in (x, y))
    x, y = (np.sort(one, axis=1) for one in shown)          # fifteen times faster than torch on a CPU
    return float(np.abs(x - y).mean(dtype=np.float64))


def _places(x: Tensor, rng: torch.Generator) -> list[tuple[slice, slice]]:
    """Windows of (N, C, H, W), as rows and columns."""
    height, width = (min(PATCH, side) for side in x.shape[-2:])
    free = x.shape[-1] - width + 1
    chosen = torch.randperm((x.shape[-2] - height + 1) * free, generator=rng)[:PLACES].tolist()
    corners = [divmod(place, free) for place in chosen]
    return [(slice(top, top + height), slice(left, left + width)) for top, left in corners]


def _patches(x: Tensor, places: list[tuple[slice, slice]]) -> Tensor:
    """(N, C, H, W) -> (K N, C h w): the same windows of every recording."""
    return torch.cat([x[..., rows, columns].flatten(1) for rows, columns in places])


def _pyramid(x: Tensor) -> list[Tensor]:
    """What each halving loses, the finest first, and what is left at last."""
    levels = []
    while min(x.shape[-2:]) >= 2 * COARSEST:
        coarse = F.avg_pool2d(x, 2)
        levels.append(x - F.interpolate(coarse, size=x.shape[-2:], mode="bilinear"))
        x = coarse
    return [*levels, x]


def _untranslated(real: Tensor, target: Tensor) -> Tensor:
    """What doing nothing shows in the target domain: the source, or its mean colour where the source does not fit."""
    return real if real.shape[1:] == target.shape[1:] else _mean(target)


def _mean(x: Tensor) -> Tensor:
    """(N, C, H, W) -> the same shape, every channel at its mean."""
    return x.mean(dim=(0, 2, 3), keepdim=True).expand_as(x)


def _l1(x: Tensor, y: Tensor) -> float:
    return (x - y).abs().mean().item()
