"""What keeps a translated film from flickering: its normalisation and its changes follow the film slowly.

A translator looks at one frame at a time, so what it does to a wall that does not move differs from frame to frame.
No optical flow is computed: where the film stands still there is nothing to follow, where it moves flicker is not seen.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mmcycle.generate.tiles import shared_moments

FOLLOW = 0.1                                # share that each frame has in the moments of instance norm
STILL = 6.0                                 # levels of 255: where the film differs by this, smoothing fades to a third
NEIGHBOURS = 5                              # pixels: the side of the square over which that is averaged
FAINT = 0.05                                # levels of 255, squared: grain below it is kept as it is
CUT = 30.0                                  # levels of 255, mean of a frame: it shows another scene


class Steadied:
    """Smooths over time the change that a translation makes, where and while the film itself stands still.

    smooth  in [0, 1): how much of the change shown before is kept in a still place; 0.8 leaves a seventh of the
            flicker and lags by five frames. Two frames are kept in memory
    """

    def __init__(self, smooth: float):
        self.smooth = smooth
        self.seen: Tensor | None = None     # (3, H, W), the film as it was averaged ...
        self.change: Tensor | None = None   # ... and the change that goes with it

    def __call__(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 of the film and of its translation -> the translation to be shown, likewise."""
        film, made = _levels(before), _levels(after)
        x, change = film, made - film
        if self.seen is not None:
            moved = (x - self.seen).abs().amax(0, keepdim=True)
            moved = F.avg_pool2d(moved, NEIGHBOURS, 1, NEIGHBOURS // 2, count_include_pad=False)
            kept = self.smooth * (-(moved / STILL).square()).exp()
            x, change = torch.lerp(x, self.seen, kept), torch.lerp(change, self.change, kept)
        self.seen, self.change = x, change
        steady, grain = x + change, film - x
        shown = (steady + _gain(grain, made - steady) * grain).round().clamp(0, 255).to(torch.uint8)
        return rearrange(shown, "c h w -> h w c").contiguous().numpy()


@contextmanager
def steady_moments(network: nn.Module) -> Iterator[Callable[[np.ndarray], None]]:
    """While open, instance norm sees a film, not frames: its moments follow by a tenth with each, and leap at a cut.

    The answer is to be called with each frame (H, W, 3) before that is translated. A first pass over the clip would
    give it one set of moments, wrong for all of a walk out of a house into the street.
    """
    last: np.ndarray | None = None
    with shared_moments(network) as moments:

        def show(pixels: np.ndarray) -> None:
            nonlocal last
            leaps = last is None or float(np.abs(pixels.astype(np.int16) - last).mean()) > CUT
            for one in moments:
                one.share = 1.0 if leaps else FOLLOW
            last = pixels

        yield show


def _gain(grain: Tensor, made: Tensor) -> Tensor:
    """How much of the film's grain the translation shows, (1, H, W) in [0, 1]: the slope of one over the other nearby.

    Smoothing the change alone would bring all of it back: a night made of a day has less, for it is darker.
    """
    def mean(z: Tensor) -> Tensor:
        return F.avg_pool2d(z.mean(0, keepdim=True), NEIGHBOURS, 1, NEIGHBOURS // 2, count_include_pad=False)

    common = mean(made * grain) - mean(made) * mean(grain)
    return ((common + FAINT) / (mean(grain.square()) - mean(grain).square() + FAINT)).clamp(0, 1)


def _levels(pixels: np.ndarray) -> Tensor:
    return rearrange(torch.from_numpy(np.array(pixels)), "h w c -> c h w").float()
