"""Recall: does each translation still tell its own source from all the others?

Content is compared place by place after each set has been centred and scaled by itself, so that what a domain does to
all of its recordings alike does not count. Letters: N samples, D numbers that describe one.
"""
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from mmcycle.errors import UserError
from mmcycle.metrics.score import Score

TURNS = 199                                 # permutations that tell what chance gives


def likeness(source: Tensor, fake: Tensor) -> Tensor:
    """Content (N, D) and (N, D) -> cosines (N, N): row i is source i, column j translation j."""
    if source.shape != fake.shape or source.ndim != 2 or len(source) < 2:
        found = f"{tuple(source.shape)} and {tuple(fake.shape)}"
        raise UserError(f"as many sources as translations, 2 or more, got {found}")
    return _alone(source) @ _alone(fake).T


def source_found(alike: Tensor) -> Score:
    """Share of translations whose most similar source is their own; "mutual" where both choose each other."""
    own = torch.arange(len(alike))
    found, wanted = alike.argmax(0) == own, alike.argmax(1) == own
    low, high = _wilson(int(found.sum()), len(own))
    beside = {"mutual": (found & wanted).float().mean().item(), "chance": 1 / len(own)}
    return Score(found.float().mean().item(), low, high, beside)


def content_distance(alike: Tensor) -> Score:
    """Mean of 1 - cosine between source and translation, 0 for equal content, beside that of all other pairs."""
    own = alike.diag()
    others = (alike.sum() - own.sum()) / (len(alike) * (len(alike) - 1))
    half = 1.96 * own.std().item() / len(own) ** 0.5
    value = 1 - own.mean().item()
    return Score(value, value - half, value + half, {"shuffled": 1 - others.item()})


def layout_kept(source: Tensor, fake: Tensor, seed: int = 0) -> Score:
    """Correlation of who resembles whom among sources (N, D) and among translations (N, D'), of any two sensors.

    The Mantel statistic (Mantel 1967); "shuffled" is the 95th percentile over orders of the translations.
    """
    if len(source) != len(fake) or len(source) < 4:
        raise UserError(f"as many sources as translations, 4 or more, got {len(source)} and {len(fake)}")
    one, other = _alone(source) @ _alone(source).T, _alone(fake) @ _alone(fake).T
    rng = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(source), generator=rng) for _ in range(TURNS)]
    chance = torch.tensor([_correlation(one, other[order][:, order]) for order in orders])
    return Score(_correlation(one, other), beside={"shuffled": chance.quantile(0.95).item()})


def chance_of(hits: int, count: int) -> float:
    """How likely guessing finds `hits` sources of `count` or more."""
    p = 1 / count
    below = sum(math.comb(count, k) * p**k * (1 - p) ** (count - k) for k in range(hits))
    return max(1 - below, 0.0)


def _alone(features: Tensor) -> Tensor:
    """A set centred and scaled by itself, every sample of length 1; what does not vary is 0."""
    centred = features.double() - features.double().mean(dim=0)
    scale = centred.std(dim=0)
    return F.normalize(torch.where(scale > 1e-6, centred / scale.clamp_min(1e-6), 0.0), dim=1)


def _correlation(one: Tensor, other: Tensor) -> float:
    """Of two symmetric tables, without their diagonals; 0 where one does not vary."""
    rows, columns = torch.triu_indices(len(one), len(one), offset=1)
    x, y = one[rows, columns], other[rows, columns]
    x, y = x - x.mean(), y - y.mean()
    lengths = x.norm() * y.norm()
    return (x @ y / lengths).item() if lengths > 1e-9 else 0.0


def _wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z, share = 1.96, hits / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return max(middle - half, 0.0), min(middle + half, 1.0)
