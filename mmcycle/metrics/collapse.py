"""Collapse: the ways in which a translator gives up, each with a number of its own.

Samples are (N, C, H, W) in [-1, 1]. Letters: N samples, C channels, H W size, D numbers that describe one.
"""
import torch
from torch import Tensor

from mmcycle.metrics.distances import l1
from mmcycle.metrics.faithfulness import luminance
from mmcycle.metrics.score import Score

FLAT = 1e-4                                 # a deviation below it, in [-1, 1], is rounding


def contrast(fake: Tensor, real: Tensor) -> Score:
    """Mean deviation within a translation, in that of a real recording; 0: every translation is one flat colour."""
    found, wanted = (x.std(dim=(-2, -1), correction=0).mean() for x in (fake, real))
    return Score((found / wanted.clamp_min(FLAT)).item(), beside={"real": 1.0})


def diversity(fake: Tensor, real: Tensor) -> Score:
    """Mean distance between two translations, in that between two reals, by features (N, D); 0: all are one."""
    found, wanted = (torch.pdist(x.double()).mean() for x in (fake, real))
    return Score((found / wanted.clamp_min(1e-9)).item(), beside={"real": 1.0})


def change(source: Tensor, fake: Tensor) -> Score:
    """Mean difference of a translation from its source, in that of a source from another; 0: nothing was done."""
    unrelated = torch.stack([l1(source, source.roll(turn, 0)) for turn in _turns(len(source))]).mean()
    return Score((l1(source, fake).mean() / unrelated.clamp_min(FLAT)).item(), beside={"shuffled": 1.0})


def intensity_correlation(source: Tensor, fake: Tensor) -> Score:
    """Mean correlation over places of source and translation; below 0 the light is turned round, as in a negative.

    Flat samples count as 0. "negative" is the share of samples below 0, "shuffled" the mean over strangers.
    """
    own = _correlation(source, fake)
    strangers = torch.stack([_correlation(source, fake.roll(turn, 0)) for turn in _turns(len(source))])
    half = 1.96 * own.std().item() / len(own) ** 0.5
    mean = own.mean().item()
    beside = {"shuffled": strangers.mean().item(), "negative": (own < 0).float().mean().item()}
    return Score(mean, mean - half, mean + half, beside)


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    """Of luminances: two (N, C, H, W) -> (N,)."""
    x, y = (luminance(one).flatten(1) for one in (x, y))
    x, y = x - x.mean(dim=1, keepdim=True), y - y.mean(dim=1, keepdim=True)
    flat = torch.minimum(x.std(dim=1, correction=0), y.std(dim=1, correction=0)) < FLAT
    return torch.where(flat, 0.0, (x * y).sum(dim=1) / (x.norm(dim=1) * y.norm(dim=1)).clamp_min(1e-12))


def _turns(count: int) -> list[int]:
    """A few ways to turn a row of samples so that none stays in its place."""
    return sorted({max(count * part // 4, 1) for part in (1, 2, 3)})
