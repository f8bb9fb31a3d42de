"""A recording larger than memory allows, in tiles that agree: blended seams, one set of normalisation moments.

Instance norm looks at the whole recording, so tiles that each use their own moments differ in colour. Here a mosaic of
patches from all over the recording is normalised jointly first, and its moments serve every tile.
"""
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmcycle.core import nets
from mmcycle.core.bilateral import Overview
from mmcycle.core.moments import SharedMoments
from mmcycle.modality import grow

ALIGNMENT = max(nets.STRIDE.values())       # tiles start where the halved grids of the whole recording have a cell
PATCH = 256                                 # side of the mosaic's patches

Translate = Callable[[Tensor], Tensor]


def translate_tiled(
    generator: nn.Module, x: Tensor, whole: Translate, forward: Translate, tile: int, overlap: int, wraps: bool = False
) -> Tensor:
    """(C, H, W) -> (C', H, W) in tiles of `tile` pixels that overlap by `overlap` or a little more.

    whole translates one (C, h, w), forward one batch (B, C, h, w); both run `generator`. Where the grid wraps, what
    lies beyond its two ends is shown to the outermost tiles, so that they meet.
    """
    if wraps:
        beyond, width = -(-overlap // ALIGNMENT) * ALIGNMENT, x.shape[-1]
        x = x[..., torch.arange(-beyond, width + beyond) % width]
        return translate_tiled(generator, x, whole, forward, tile, overlap)[..., beyond : beyond + width]
    windows = list(_windows(x.shape[-2], x.shape[-1], tile, overlap))
    with shared_moments(generator):
        forward(_mosaic(grow(x, 2 * ALIGNMENT, 2 * ALIGNMENT), tile))
        total, weight = None, torch.zeros(x.shape[-2:])
        for rows, columns in windows:
            y = whole(x[:, rows, columns])
            ramp = _ramp(rows, x.shape[-2], overlap)[:, None] * _ramp(columns, x.shape[-1], overlap)[None, :]
            total = torch.zeros(len(y), *x.shape[-2:]) if total is None else total
            total[:, rows, columns] += ramp * y
            weight[rows, columns] += ramp
    return total / weight


def _mosaic(x: Tensor, tile: int) -> Tensor:
    """(C, H, W) -> evenly spread patches (B, C, h, w) of together at most four tiles."""
    size = x.shape[-2:]
    height, width = (min(PATCH, side // ALIGNMENT * ALIGNMENT) for side in size)
    most = max(4 * tile * tile // (height * width), 4)
    down = min(-(-size[0] // height), max(round((most * size[0] / size[1]) ** 0.5), 1))
    right = min(-(-size[1] // width), max(most // down, 1))
    return torch.stack([
        x[:, top : top + height, left : left + width]
        for top in _spread(size[0] - height, down) for left in _spread(size[1] - width, right)
    ])


def _windows(height: int, width: int, tile: int, overlap: int) -> Iterator[tuple[slice, slice]]:
    for rows in _spans(height, tile, overlap):
        for columns in _spans(width, tile, overlap):
            yield rows, columns


def _spans(size: int, tile: int, overlap: int) -> list[slice]:
    """Evenly spread windows of `tile` that cover `size` and overlap by at least `overlap`; the last one ends it."""
    if size <= tile:
        return [slice(0, size)]
    starts = _spread(size - tile, -(-(size - overlap) // (tile - overlap - ALIGNMENT)))
    return [slice(start, start + tile) for start in starts[:-1]] + [slice(starts[-1], size)]


def _spread(last: int, count: int) -> list[int]:
    """`count` evenly spread starts from 0 to `last`, on the alignment."""
    return [i * last // max(count - 1, 1) // ALIGNMENT * ALIGNMENT for i in range(count)]


def _ramp(window: slice, size: int, overlap: int) -> Tensor:
    """Weights of a tile along one side: 1 inside and at the recording's border, almost 0 towards a neighbour."""
    place = torch.arange(window.start, window.stop)
    rise = (place - window.start + 1) / (overlap + 1) if window.start > 0 else torch.ones(len(place))
    fall = (window.stop - place) / (overlap + 1) if window.stop < size else torch.ones(len(place))
    return torch.minimum(rise, fall).clamp(max=1)


@contextmanager
def shared_moments(network: nn.Module) -> Iterator[list[SharedMoments]]:
    """While open, what looks at the whole uses the moments of the first batch for all that follow, or what `share` says.

    Opened while it is open, it changes nothing: the frames of a film share their moments, their tiles do too.
    """
    looking = [module for module in network.modules() if isinstance(module, nets.InstanceNorm | Overview)]
    if any(module.moments is not None for module in looking):
        yield [module.moments for module in looking]
        return
    for module in looking:
        module.moments = SharedMoments()
    try:
        yield [module.moments for module in looking]
    finally:
        for module in looking:
            module.moments = None
