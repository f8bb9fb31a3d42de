"""Self-training: a network also learns from unlabelled recordings of the target, which its own running mean labels.

A mean teacher (Tarvainen and Valpola, 2017) in the manner of DACS (Tranheden et al., 2021). The teacher labels
recordings as they are; the student must answer alike where half of the classes of a labelled sample were pasted over
them (ClassMix, Olsson et al., 2021) and the light is another. What the teacher says counts by the share of a recording
of which it is sure. In the end statistics of batch norm are those of the target (AdaBN, Li et al., 2016). Labelled
samples are lit otherwise as well, and those with masks moved further and mirrored, in every arm alike.

Letters: N samples, C channels, H W size, K classes.
"""
from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from mmcycle.data.seeds import seed_of
from mmcycle.metrics.arms import Arm, Batches, Change
from mmcycle.metrics.labelled import Samples

ALONE = 0.25                                    # of all steps: before, the teacher knows too little
MEMORY = 0.99                                   # of the teacher, for each step
SURE = 0.9                                      # the chance that a teacher gives an answer of which it is sure
AT_ONCE = 16                                    # recordings whose statistics are taken together


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """x (N, C, H, W) in [-1, 1] of the target, whose labels nobody looks at; light: by what two views of it differ."""

    x: Tensor
    light: Change

    @property
    def sha256(self) -> str:
        return Samples(self.x, None, ()).sha256

    def batches(self, like: Batches, masks: bool) -> Batches:
        """Of the size of `like`; y is 0, or -1 in masks where a shifted recording shows nothing."""
        shape = (len(self.x), *self.x.shape[2:]) if masks else (len(self.x),)
        samples = Samples(self.x, torch.zeros(shape, dtype=torch.long), tuple(map(str, range(len(self.x)))))
        return replace(like, arm=Arm("unlabelled", (samples,)), seed=seed_of(like.seed, "unlabelled"), light=None)


@dataclass(frozen=True, eq=False)
class Teacher:
    """The running mean of a student.

    batches    unlabelled recordings of each step
    bring      what a sample goes through before any network sees it
    weight     (K,) of each class
    """

    network: nn.Module
    batches: Batches
    light: Change
    bring: Callable[[Tensor], Tensor]
    weight: Tensor

    def loss(self, student: nn.Module, step: int, x: Tensor, y: Tensor) -> Tensor:
        """What the student's answers on the target are worth to its teacher; x, y: labelled samples to paste from."""
        rng = torch.Generator().manual_seed(seed_of(self.batches.seed, "light", step))
        seen, inside = self.batches(step)
        labels, sure = self.labels(seen, inside)
        if labels.ndim == 3:
            seen, labels, sure = pasted((seen, labels, sure), x, y, rng)
        scores = student(self.bring(self.light(seen, rng)))
        each = F.cross_entropy(scores, labels, self.weight, ignore_index=-1, reduction="none")
        whole = (self.weight[labels.clamp_min(0)] * (labels >= 0)).sum()
        return (each * sure).sum() / whole.clamp_min(1e-9)

    @torch.no_grad()
    def labels(self, x: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's answers, -1 where `inside` is, and the share of each sample's answers of which it is sure."""
        _as_they_come(self.network)
        chance, labels = self.network(self.bring(x)).float().softmax(1).max(1)
        labels = torch.where(inside >= 0, labels, -1)
        known, sure = ((one.reshape(len(x), -1)).double() for one in (labels >= 0, (labels >= 0) & (chance > SURE)))
        share = (sure.sum(1) / known.sum(1).clamp_min(1)).float()
        return labels, share.reshape(-1, *[1] * (labels.ndim - 1)).expand_as(labels)

    @torch.no_grad()
    def follow(self, student: nn.Module, step: int) -> None:
        """One step towards the student: weights by their running mean, all else as the student has it."""
        part = max(1 - MEMORY, 1 / (step + 1))
        for mine, its in zip(self.network.parameters(), student.parameters()):
            mine.lerp_(its, part)
        for mine, its in zip(self.network.buffers(), student.buffers()):
            mine.copy_(its)

    def at_home(self) -> nn.Module:
        """The network itself, statistics of batch norm taken anew from all recordings of the target."""
        x = self.batches.arm.pools[0].x
        update_bn([self.bring(part) for part in x.chunk(math.ceil(len(x) / AT_ONCE))], self.network)
        return self.network


def teacher_of(
    student: nn.Module, unlabelled: Unlabelled, like: Batches, bring: Callable[[Tensor], Tensor], weight: Tensor,
    masks: bool,
) -> Teacher:
    """A teacher that knows what the student does."""
    network = copy.deepcopy(student).requires_grad_(False)
    return Teacher(network, unlabelled.batches(like, masks), unlabelled.light, bring, weight)


def pasted(
    seen: tuple[Tensor, Tensor, Tensor], x: Tensor, y: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """seen: x (N, C, H, W), labels (N, H, W), how much they count; half of the classes of labelled ones come over."""
    cut = torch.zeros_like(seen[1], dtype=torch.bool)
    rows = torch.arange(len(cut)) % len(x)
    x, y = x[rows], y[rows]
    for mine, labels in zip(cut, y):
        classes = labels[labels >= 0].unique()
        half = torch.randperm(len(classes), generator=rng)[: math.ceil(len(classes) / 2)]
        mine.copy_(torch.isin(labels, classes[half]))
    return torch.where(cut[:, None], x, seen[0]), torch.where(cut, y, seen[1]), torch.where(cut, 1.0, seen[2])


def _as_they_come(network: nn.Module) -> None:
    """Batch norm by the statistics of what it sees, everything else at rest."""
    network.eval()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.train()
