"""Flicker: how much a translated film changes from frame to frame where the film itself does not."""
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from math import nan
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from mmcycle.data.clips import frames, open_clip
from mmcycle.errors import UserError

STILL = 3.0                                 # levels of 255, mean change of a still place; grain and coding make 1 to 2
NEIGHBOURS = 9                              # pixels, side of a place


class Flicker(NamedTuple):
    """Mean absolute change from one frame to the next in still places, in levels of 255.

    translated  of the translation; what it has more than the source is what the translator added
    source      of the film itself: grain and coding
    still       share of all places and steps that were still, in [0, 1]; NaN above where there was none
    """

    translated: float
    source: float
    still: float


def clip_flicker(source: Path, translated: Path) -> Flicker:
    """Of two files with the same frames; two frames of each are in memory."""
    return flicker(*((frame.pixels for frame in frames(open_clip(path))) for path in (source, translated)))


def mean_flicker(films: Iterable[tuple[Path, Path]]) -> Flicker:
    """Of (source, translated) files, the mean over those that stand still somewhere; NaN and 0 where none does."""
    found = [clip_flicker(*both) for both in films]
    found = [one for one in found if one.still > 0]
    return Flicker(*(fmean(column) for column in zip(*found))) if found else Flicker(nan, nan, 0.0)


def flicker(source: Iterable[np.ndarray], translated: Iterable[np.ndarray]) -> Flicker:
    """Frames (H, W, 3) uint8 of both films, in step."""
    total = torch.zeros(3, dtype=torch.float64)             # translated, source, still
    places = 0
    for moved, change in zip_longest(_steps(source), _steps(translated)):
        if moved is None or change is None:
            raise UserError("flicker compares films of as many frames, in step; one of them ended first")
        if moved.shape != change.shape:
            raise UserError(f"frames of one size are compared, got {tuple(moved.shape)} and {tuple(change.shape)}")
        around = F.avg_pool2d(moved[None], NEIGHBOURS, 1, NEIGHBOURS // 2, count_include_pad=False)[0]
        still = (around <= STILL).double()
        total += torch.stack([(change * still).sum(), (moved * still).sum(), still.sum()])
        places += still.numel()
    if not places:
        raise UserError("flicker needs two frames or more")
    return Flicker(float(total[0] / total[2]), float(total[1] / total[2]), float(total[2] / places))


def _steps(film: Iterable[np.ndarray]) -> Iterator[Tensor]:
    """|frame - the one before|, mean of its colours, (H, W); the first frame has none before it."""
    before: Tensor | None = None
    for pixels in film:
        now = rearrange(torch.from_numpy(np.array(pixels)), "h w c -> c h w").float()
        if before is not None:
            yield (now - before).abs().mean(0)
        before = now
