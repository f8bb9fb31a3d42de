"""Faithfulness of a translation: is what the labels speak of still where it was?

All measures look at luminance gradients, so light and colour may change freely; edges may not. They compare recordings
of equal height and width, whatever their channels.
"""
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from mmcycle.errors import UserError
from mmcycle.metrics.distances import blur, gaussian_window

LUMA = (0.299, 0.587, 0.114)                # of red, green, blue; ITU-R BT.601
EDGE_SHARE = 0.1                            # of the places with the strongest gradients, which count as edges
FLAT = 1e-4                                 # a gradient below it, in [-1, 1] per pixel, is rounding


def structure(source: Tensor, translated: Tensor) -> Tensor:
    """Correlation of the gradient strengths, 1 when all edges stayed: two (..., C, H, W) -> (...).

    Unchanged by contrast, brightness and inversion. Two flat recordings score 1 (nothing was lost), one scores 0.
    """
    a, b = _both(source, translated)
    a, b = a.flatten(-2), b.flatten(-2)
    flat_a, flat_b = a.amax(dim=-1) < FLAT, b.amax(dim=-1) < FLAT
    a, b = a - a.mean(dim=-1, keepdim=True), b - b.mean(dim=-1, keepdim=True)
    score = (a * b).sum(dim=-1) / (a.norm(dim=-1) * b.norm(dim=-1)).clamp_min(1e-12)
    return torch.where(flat_a | flat_b, (flat_a & flat_b).to(score), score)


def edges_kept(source: Tensor, translated: Tensor, reach: int = 1) -> Tensor:
    """Share of the source's edges that the translation has too, within `reach` pixels: two (..., C, H, W) -> (...)."""
    a, b = _both(source, translated)
    return _covered(_edges(a), _edges(b), reach)


def edges_added(source: Tensor, translated: Tensor, reach: int = 1) -> Tensor:
    """Share of the translation's edges that the source did not have: invented lamps, leaves, cars."""
    a, b = _both(source, translated)
    return 1 - _covered(_edges(b), _edges(a), reach)


def luminance(x: Tensor) -> Tensor:
    """(..., C, H, W) -> (..., H, W): red, green and blue weighted as the eye does, other channels averaged."""
    if x.shape[-3] != 3:
        return x.mean(dim=-3)
    return (x * rearrange(torch.tensor(LUMA).to(x), "c -> c 1 1")).sum(dim=-3)


def _both(source: Tensor, translated: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient strengths of both, (..., H, W)."""
    same = source.shape[:-3] == translated.shape[:-3] and source.shape[-2:] == translated.shape[-2:]
    if source.ndim < 3 or not same:
        found = f"{tuple(source.shape)} and {tuple(translated.shape)}"
        raise UserError(f"faithfulness compares (..., C, H, W) of equal H and W, got {found}")
    return _gradient(luminance(source)), _gradient(luminance(translated))


def _gradient(x: Tensor) -> Tensor:
    """Strength of the gradient after a slight blur (sigma 1) that keeps single noisy pixels from being edges."""
    flat = x.reshape(-1, 1, *x.shape[-2:])
    smooth = blur(F.pad(flat, (4, 4, 4, 4), mode="replicate"), gaussian_window(7, 1.0))
    across = (smooth[..., 1:-1, 2:] - smooth[..., 1:-1, :-2]) / 2
    down = (smooth[..., 2:, 1:-1] - smooth[..., :-2, 1:-1]) / 2
    return torch.hypot(across, down).reshape(x.shape)


def _edges(gradient: Tensor) -> Tensor:
    """(..., H, W) -> where the strongest gradients are, as booleans."""
    flat = gradient.flatten(-2)
    rank = max(1, round(flat.shape[-1] * EDGE_SHARE))
    threshold = flat.topk(rank, dim=-1).values[..., -1, None, None]
    return gradient >= threshold.clamp_min(FLAT)


def _covered(edges: Tensor, by: Tensor, reach: int) -> Tensor:
    """Share of `edges` that lie within `reach` of `by`; 1 where there are none."""
    near = by.to(torch.float32).reshape(-1, 1, *by.shape[-2:])
    near = F.max_pool2d(near, 2 * reach + 1, stride=1, padding=reach).reshape(by.shape).bool()
    count = edges.sum(dim=(-2, -1))
    share = (edges & near).sum(dim=(-2, -1)) / count.clamp_min(1)
    return torch.where(count == 0, torch.ones_like(share), share)
