"""Differentiable augmentation of what a discriminator sees, real and fake (Zhao et al. 2020): for small data sets."""
import torch
from einops import reduce
from torch import Tensor
from torch.nn import functional as F


def diff_augment(x: Tensor, policy: tuple[str, ...], rng: torch.Generator) -> Tensor:
    """(B, C, H, W) -> the same shape; policy is any of "color", "translation", "cutout", applied in that order."""
    if "color" in policy:
        x = _contrast(_brightness(x, rng), rng)
    if "translation" in policy:
        x = _translation(x, rng)
    if "cutout" in policy:
        x = _cutout(x, rng)
    return x


def _brightness(x: Tensor, rng: torch.Generator) -> Tensor:
    return x + (_random(x, rng) - 0.5)


def _contrast(x: Tensor, rng: torch.Generator) -> Tensor:
    mean = reduce(x, "b c h w -> b 1 1 1", "mean")
    return (x - mean) * (_random(x, rng) + 0.5) + mean


def _translation(x: Tensor, rng: torch.Generator, share: float = 0.125) -> Tensor:
    """Move by up to `share` of each side; what comes in is 0."""
    height, width = x.shape[-2:]
    rows = _shift(height, round(height * share), x, rng)
    columns = _shift(width, round(width * share), x, rng)
    padded = F.pad(x, (1, 1, 1, 1))                     # index 0 and the last one are the empty border
    batch = torch.arange(len(x), device=x.device)[:, None, None]
    return padded.movedim(1, -1)[batch, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def _shift(size: int, most: int, x: Tensor, rng: torch.Generator) -> Tensor:
    """(B, size) indices into a side padded by one, moved by a random whole number in [-most, most]."""
    by = torch.randint(-most, most + 1, (len(x), 1), generator=rng, device=x.device)
    return (torch.arange(size, device=x.device) + by + 1).clamp(0, size + 1)


def _cutout(x: Tensor, rng: torch.Generator, share: float = 0.5) -> Tensor:
    """Set a rectangle with half of each side to 0; it may hang over the border."""
    keep_row = _outside(x.shape[-2], share, x, rng)
    keep_column = _outside(x.shape[-1], share, x, rng)
    return x * (keep_row[:, None, :, None] | keep_column[:, None, None, :])


def _outside(size: int, share: float, x: Tensor, rng: torch.Generator) -> Tensor:
    centre = torch.randint(0, size, (len(x), 1), generator=rng, device=x.device)
    return (torch.arange(size, device=x.device) - centre).abs() > size * share / 2


def _random(x: Tensor, rng: torch.Generator) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, generator=rng, device=x.device)
