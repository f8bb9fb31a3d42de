"""Judges of made pictures, taught on true photographs: one reads the class of each pixel, one counts things.

Letters: N pictures, C channels, H W size. Both are convolutions alone, so they know a thing wherever it stands.
"""
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcycle.metrics.downstream import segmenter

Reader = Callable[[Tensor], Tensor]             # (N, C, H, W) -> the class of each pixel (N, H, W)
Counter = Callable[[Tensor], dict[str, Tensor]]         # (N, C, H, W) -> attribute -> (N,)
RARE_PIXELS = 0.005                             # of all: classes that a reader is not taught


def reader(pictures: Tensor, classes: Tensor, seed: int = 0, steps: int = 800, batch: int = 8) -> Reader:
    """A segmenter taught on pictures (N, C, H, W) and the classes of their pixels, but for those below RARE_PIXELS.

    It gives classes as they are numbered in `classes`. H and W must be multiples of 8.
    """
    kinds = [kind for kind in classes.unique().tolist() if (classes == kind).float().mean() > RARE_PIXELS]
    told = sum((classes == kind) * (at + 1) for at, kind in enumerate(kinds)) - 1
    rng = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(pictures), (steps, batch), generator=rng)
    network = segmenter(lambda step: (pictures[chosen[step]], told[chosen[step]]), len(kinds), seed, steps)

    @torch.inference_mode()
    def read(asked: Tensor) -> Tensor:
        return torch.cat([torch.tensor(kinds)[network(part.float()).argmax(1)] for part in asked.split(64)])

    return read


def counter(pictures: Tensor, told: Mapping[str, Tensor], seed: int = 0, passes: int = 20, batch: int = 32) -> Counter:
    """Taught on pictures (N, C, H, W) and attributes, (N,) whole numbers from 0; half of the batches are mirrored.

    Answers are made of means over all places: a maximum, as `Classifier` takes it, cannot tell one thing from two.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Counter(pictures, {name: int(values.max()) + 1 for name, values in told.items()})
        optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
        steps = passes * math.ceil(len(pictures) / batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
        for _ in range(passes):
            for rows in torch.randperm(len(pictures)).split(batch):
                x = pictures[rows].flip(3) if torch.rand(()) < 0.5 else pictures[rows]
                scores = network(x)
                sum(F.cross_entropy(scores[n], told[n][rows], label_smoothing=0.05) for n in scores).backward()
                optimiser.step()
                optimiser.zero_grad()
                schedule.step()
    network.eval()

    @torch.inference_mode()
    def count(asked: Tensor) -> dict[str, Tensor]:
        parts = [network(part.float()) for part in asked.split(64)]
        return {name: torch.cat([part[name] for part in parts]).argmax(1) for name in told}

    return count


class _Counter(nn.Module):
    """Four convolutions of 16, 32, 64, 64 channels, the mean over the picture, one linear layer for each attribute."""

    def __init__(self, like: Tensor, values: Mapping[str, int]):
        super().__init__()
        widths = (like.shape[1], 16, 32, 64)
        steps = [
            layer for c, d in zip(widths, widths[1:])
            for layer in (nn.Conv2d(c, d, 3, padding=1), nn.BatchNorm2d(d), nn.ReLU(), nn.MaxPool2d(2))
        ]
        self.body = nn.Sequential(*steps, nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.heads = nn.ModuleDict({name: nn.Linear(64, count) for name, count in values.items()})
        self.mean, self.deviation = like.mean(), like.std().clamp_min(1e-8)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        z = self.body((x - self.mean) / self.deviation).mean((2, 3))
        return {name: head(z) for name, head in self.heads.items()}
