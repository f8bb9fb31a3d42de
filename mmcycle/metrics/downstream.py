"""Is a data set worth training on? One small network taught on each of several sets, and how sure the scores are.

Letters: N samples, C channels, H W size, K classes.
"""
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcycle.errors import UserError

Epoch = Callable[[int], tuple[Tensor, Tensor]]      # number of the pass -> samples (N, C, H, W), classes (N,)


class Interval(NamedTuple):
    """A mean over seeds and half of its 95 % confidence interval (Student's t); nan for fewer than two."""

    mean: float
    half_width: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.half_width:.1f}"


class Classifier:
    """Three convolutions of 16, 32, 64 channels, the largest answer over the sample, one linear layer.

    Samples are brought to the mean and deviation of the first training set.
    """

    def __init__(self, channels: int, classes: int):
        widths = (channels, 16, 32, 64)
        blocks = [
            layer for c, d in zip(widths, widths[1:])
            for layer in (nn.Conv2d(c, d, 3, padding=1), nn.BatchNorm2d(d), nn.ReLU(), nn.MaxPool2d(2))
        ]
        self.network = nn.Sequential(*blocks, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, classes))
        self.mean, self.deviation = torch.zeros(()), torch.ones(())

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the class of each, (N,)."""
        self.network.eval()
        parts = ((part - self.mean) / self.deviation for part in x.split(256))
        return torch.cat([self.network(part).argmax(1) for part in parts])

    def accuracy(self, x: Tensor, classes: Tensor) -> float:
        """Per cent."""
        return 100 * (self(x) == classes).float().mean().item()


def classifier(training: Epoch, classes: int, seed: int, epochs: int = 8, batch: int = 32) -> Classifier:
    """Teach a new network; `training` may give other samples in every pass, as augmentation does.

    AdamW under a one-cycle schedule with a peak of 4e-3, labels smoothed by 0.05. The same seed gives the same network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x, y = training(0)
        made = Classifier(x.shape[1], classes)
        made.mean, made.deviation = x.mean(), x.std().clamp_min(1e-8)
        optimiser = torch.optim.AdamW(made.network.parameters(), 2e-3)
        steps = epochs * math.ceil(len(x) / batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
        for epoch in range(epochs):
            x, y = training(epoch)
            for rows in torch.randperm(len(x)).split(batch):
                scores = made.network.train()((x[rows] - made.mean) / made.deviation)
                F.cross_entropy(scores, y[rows], label_smoothing=0.05).backward()
                optimiser.step()
                optimiser.zero_grad()
                schedule.step()
    return made


class Segmenter(nn.Module):
    """A U-Net of four scales, group norm (Wu and He 2018): batches of whole streets are too small for batch norm.

    (N, C, H, W) -> scores of each class (N, K, H, W). norm: another one, of so many channels.
    """

    def __init__(
        self, channels: int, classes: int, widths: tuple[int, int, int, int] = (16, 32, 64, 64),
        norm: Callable[[int], nn.Module] = partial(nn.GroupNorm, 8),
    ):
        super().__init__()
        self.down = nn.ModuleList(_pair(c, d, norm) for c, d in zip((channels, *widths), widths))
        self.up = nn.ModuleList(_pair(c + d, d, norm) for c, d in zip(widths[:0:-1], widths[-2::-1]))
        self.last = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            seen.append(x)
        for block, finer in zip(self.up, seen[-2::-1]):
            x = block(torch.cat([F.interpolate(x, size=finer.shape[-2:]), finer], dim=1))
        return self.last(x)


class HalfSegmenter(nn.Module):
    """A wider U-Net at half of the resolution, batch norm, in bfloat16: for batches of 8 or more pictures.

    (N, C, H, W), H and W even -> scores of each class (N, K, H, W). By name for `--learner`:
    mmcycle.metrics.downstream:HalfSegmenter
    """

    def __init__(self, channels: int, classes: int, widths: tuple[int, int, int, int] = (32, 64, 96, 128)):
        super().__init__()
        stem = nn.Conv2d(channels, widths[0], 4, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        self.first, self.rest = nn.Sequential(*stem), Segmenter(widths[0], 4 * classes, widths, nn.BatchNorm2d)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
            return F.pixel_shuffle(self.rest(self.first(x)), 2).float()


def segmenter(training: Epoch, classes: int, seed: int, steps: int = 300, lr: float = 3e-3) -> Segmenter:
    """Teach a new network; `training` gives the batch of each step, classes (N, H, W) with -1 where none counts.

    Rare classes weigh more, by the root of their share in the first ten batches; gradients are clipped at 1.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = (training(step)[1].flatten() + 1 for step in range(10))
        share = torch.stack([torch.bincount(one, minlength=classes + 1)[1:] for one in first])
        weight = (share.sum() / share.sum(0).clamp_min(1)).sqrt()
        network = Segmenter(training(0)[0].shape[1], classes)
        optimiser = torch.optim.AdamW(network.parameters(), lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps)
        for step in range(steps):
            x, y = training(step)
            F.cross_entropy(network(x), y, weight=weight / weight.mean(), ignore_index=-1).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
    return network.eval()


def overlaps(found: Tensor, truth: Tensor, classes: int) -> list[float]:
    """Intersection over union of every class, per cent, over all places where truth is not -1; nan where none is."""
    known = truth >= 0
    pairs = torch.bincount(truth[known] * classes + found[known], minlength=classes**2)
    pairs = pairs.reshape(classes, classes).double()
    hit = pairs.diag()
    union = pairs.sum(0) + pairs.sum(1) - hit
    return [100 * float(h / u) if u else math.nan for h, u in zip(hit, union)]


def _pair(c: int, d: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    steps = ((nn.Conv2d(n, d, 3, padding=1, bias=False), norm(d), nn.ReLU()) for n in (c, d))
    return nn.Sequential(*(layer for step in steps for layer in step))


def interval(scores: Sequence[float]) -> Interval:
    """Scores of independent seeds -> their mean and how far it can be trusted."""
    values = torch.tensor(scores, dtype=torch.float64)
    count = len(values)
    if count < 2:
        return Interval(float(values.mean()), math.nan, count)
    from scipy.stats import t

    return Interval(float(values.mean()), float(t.ppf(0.975, count - 1) * values.std() / count**0.5), count)


def sign_flip(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The chance of a mean difference as large as this one, either way, if the sign of each pair were a coin's.

    Exact over all 2^N signs; five pairs can reach 0.0625 at best.
    """
    if len(ours) != len(theirs) or not 1 <= len(ours) <= 20:
        raise UserError(f"{len(ours)} and {len(theirs)} scores: need as many of each, 1 to 20")
    differences = torch.tensor(ours, dtype=torch.float64) - torch.tensor(theirs, dtype=torch.float64)
    signs = torch.tensor(list(product((1.0, -1.0), repeat=len(differences))), dtype=torch.float64)
    sums = (signs @ differences).abs()
    return float((sums >= differences.sum().abs() - 1e-9).double().mean())


def gap_closed(source: float, ours: float, oracle: float) -> float:
    """Share of the way from training on the source alone to training on the target's labels."""
    return (ours - source) / (oracle - source)
