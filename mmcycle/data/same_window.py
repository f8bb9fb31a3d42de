"""Whether two sensors cut the same window out of what they saw of one place, so that partners can be compared."""
import torch
from torch import Tensor

from mmcycle.modality import Modality

NEAR = 0.05             # of a side: how far apart the corners of two equal windows may lie
SEEDS = range(8)        # more than one: a window may be mirrored or not

Size = tuple[int, int]


class SameWindow:
    """Of recordings of two sizes (H', W'): do crops with one seed show the same part, the same way round?"""

    def __init__(self, a: Modality, b: Modality) -> None:
        self.sensors = a, b
        self.known: dict[tuple[Size, Size], bool] = {}

    def __call__(self, size_a: Size, size_b: Size) -> bool:
        sizes = tuple(size_a), tuple(size_b)
        if sizes not in self.known:
            self.known[sizes] = all(self._distance(sizes, seed) <= NEAR for seed in SEEDS)
        return self.known[sizes]

    def _distance(self, sizes: tuple[Size, Size], seed: int) -> float:
        first, second = (_corners(sensor, size, seed) for sensor, size in zip(self.sensors, sizes))
        return float((first - second).abs().max())


def _corners(modality: Modality, size: Size, seed: int) -> Tensor:
    """(2, 2): row and column of a window's first and last corner, as shares of the recording."""
    height, width = size
    ramps = torch.linspace(0, 1, height)[:, None].expand(size), torch.linspace(0, 1, width).expand(size)
    cuts = (modality.crop(ramp.expand(modality.shape[0], *size).contiguous(), torch.Generator().manual_seed(seed))
            for ramp in ramps)
    return torch.stack([torch.stack([cut[0, 0, 0], cut[0, -1, -1]]) for cut in cuts])
