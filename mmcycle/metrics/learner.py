"""A small network that is taught on one training set and then asked: the same schedule whatever the network.

Letters: N samples, C channels, H W size, K classes.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcycle.errors import UserError
from mmcycle.metrics.arms import Batches
from mmcycle.metrics.downstream import Classifier, Segmenter
from mmcycle.metrics.labelled import Kind
from mmcycle.metrics.self_training import ALONE, Unlabelled, teacher_of

Learner = Callable[[int, int], nn.Module]       # channels, classes -> (N, C, H, W) to (N, K) or (N, K, H, W)

FIRST = 10                                      # batches that tell the mean and deviation of a training set
AT_ONCE = 64                                    # samples
RATES = {"classes": 4e-3, "masks": 3e-3}        # peaks of the one-cycle schedule


class Taught(NamedTuple):
    """A network, and what its samples are brought to before it sees them."""

    network: nn.Module
    mean: Tensor
    deviation: Tensor

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> classes, (N,) or (N, H, W)."""
        self.network.eval()
        parts = [self.network((part - self.mean) / self.deviation).argmax(1) for part in x.split(AT_ONCE)]
        return torch.cat(parts)


def find_learner(name: str | None, kind: Kind) -> Learner:
    """The built-in network of the task, or the function "package.module:function"."""
    if name is None:
        return Segmenter if kind == "masks" else lambda channels, classes: Classifier(channels, classes).network
    module, colon, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:                  # a module of the user's may fail in any way while it is imported
        raise UserError(f"--learner {name!r} could not be imported: {error}. It names a function (channels, classes) "
                        "that returns your network, such as my_lab.nets:small") from error
    if not callable(found):
        raise UserError(f"--learner {name!r} is {type(found).__name__}; it must be a function (channels, classes)")
    return found


def teach(
    learner: Learner, batches: Batches, classes: int, kind: Kind, steps: int, seed: int,
    unlabelled: Unlabelled | None = None,
) -> Taught:
    """A new network, taught for `steps` batches; the same seed gives the same network.

    AdamW under a one-cycle schedule, gradients clipped at 1. Rare classes weigh more: by the inverse of their share, in
    masks by its root. Labels of classes are smoothed by 0.05. Samples are brought to the mean and deviation of the
    first ten batches. With `unlabelled` the network trains itself on these, too, and its running mean is returned.
    """
    mean, deviation = _statistics(batches, unlabelled)
    weight = _weight(batches, classes, kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = learner(mean.shape[1], classes)
        _check(network, (batches(0)[0][:2] - mean) / deviation, classes, kind)
        teacher = None
        if unlabelled is not None:
            bring = partial(_brought, mean=mean, deviation=deviation)
            teacher = teacher_of(network, unlabelled, batches, bring, weight, kind == "masks")
        optimiser = torch.optim.AdamW(network.parameters(), RATES[kind] / 2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATES[kind], total_steps=steps)
        network.train()
        for step in range(steps):
            x, y = batches(step)
            if (y >= 0).any():
                _loss(network((x - mean) / deviation), y, weight).backward()
            if teacher is not None and step >= ALONE * steps:
                teacher.loss(network, step, x, y).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
            if teacher is not None:
                teacher.follow(network, step)
        return Taught(network if teacher is None else teacher.at_home(), mean, deviation)


def _statistics(batches: Batches, unlabelled: Unlabelled | None) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, (1, C, 1, 1)."""
    first = torch.cat([batches(step)[0] for step in range(FIRST)] + ([] if unlabelled is None else [unlabelled.x]))
    return first.mean((0, 2, 3), keepdim=True), first.std((0, 2, 3), keepdim=True).clamp_min(1e-4)


def _brought(x: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    return (x - mean) / deviation


def _loss(scores: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    smoothing = 0.05 if y.ndim == 1 else 0.0
    return F.cross_entropy(scores, y, weight, ignore_index=-1, label_smoothing=smoothing)


def _weight(batches: Batches, classes: int, kind: Kind) -> Tensor:
    """(K,), 1 on average over what is there; every pool counts alike."""
    counts = [torch.bincount(pool.y.flatten() + 1, minlength=classes + 1)[1:].double() for pool in batches.arm.pools]
    share = sum(count / count.sum().clamp_min(1) for count in counts) / len(counts)
    weight = torch.where(share > 0, 1 / share.clamp_min(1e-9), 0)
    weight = weight.sqrt() if kind == "masks" else weight
    return (weight / (weight * share).sum().clamp_min(1e-9)).float()


def _check(network: object, x: Tensor, classes: int, kind: Kind) -> None:
    """What somebody else's network answers."""
    if not isinstance(network, nn.Module):
        raise UserError(f"--learner returned {type(network).__name__}; it must return a torch.nn.Module")
    expected = (len(x), classes) if kind == "classes" else (len(x), classes, *x.shape[-2:])
    try:
        with torch.no_grad():
            found = network.eval()(x)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"--learner: the network does not take {tuple(x.shape)}: {error}") from error
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if shape != expected:
        raise UserError(f"--learner: the network answers {tuple(x.shape)} with {shape}; expected scores {expected}")
