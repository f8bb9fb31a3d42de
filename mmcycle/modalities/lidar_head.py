"""How a sweep becomes one of another domain without being made anew: returns are lost, moved a little, recoloured.

Letters: B batch, H rows, W columns. A sample is (B, 3, H, W): range on a logarithmic scale, intensity, and whether
there is a return, 1 or -1; without one, all three are -1.
"""
import math
from typing import NamedTuple

import torch
from torch import Tensor

from mmcycle.core.heads import Head
from mmcycle.core.nets import move

START, SWING = 3.0, 8.0                             # logit of being kept at first, and how far it can go from there
GRAIN = 0.5                                         # the largest spread of the intensity
SURE = 1e-6                                         # the least chance of the unlikely: logits beyond 14 are certain


class Scale(NamedTuple):
    """The fixed map between metres and [-1, 1]: log2(r + 1), so that a metre counts nearby more than far away."""

    near: float
    far: float

    def to_sample(self, metres: Tensor) -> Tensor:
        return (metres + 1).log2() * (2 / math.log2(self.far + 1)) - 1

    def to_metres(self, x: Tensor) -> Tensor:
        return self.within(((x + 1) * (math.log2(self.far + 1) / 2)).exp2() - 1)

    def within(self, metres: Tensor) -> Tensor:
        """Inside of the limits by so much that a point on its ray, rounded, is still inside."""
        return metres.clamp(self.near * (1 + 1e-6), self.far * (1 - 1e-6))


def sample(scale: Scale, metres: Tensor, intensity: Tensor, returned: Tensor) -> Tensor:
    """(H, W) each, intensity as a share -> (3, H, W)."""
    seen = torch.stack([scale.to_sample(metres), intensity * 2 - 1, torch.ones_like(metres)])
    return torch.where(returned, seen, -1.0).clamp(-1, 1)


class Returns(Head):
    """Whatever was hit stays where it is, within `max_shift` metres, so that labels of points and boxes stay true.

    A return may be lost, never invented. Which are lost is drawn, each with its own learned chance, and learned
    through the draw as in DUSty (Nakashima and Kurazume 2021): a hard choice, whose gradient is that of the soft one
    at `temperature` (Jang et al. 2017; Maddison et al. 2017).
    """

    def __init__(self, scale: Scale, max_shift: float, temperature: float):
        super().__init__(parts=4)
        self.scale, self.max_shift, self.temperature = scale, max_shift, temperature

    def plan(self, x: Tensor, parts: Tensor, style: Tensor, strength: float = 1.0) -> Tensor:
        """Metres farther away, change and spread of the intensity as shares, logit of being kept: (B, 4, H, W)."""
        shift, shine, grain, kept = parts.float().unbind(1)
        brighter = (move(x[:, 1], strength * shine) - x[:, 1]) / 2
        spread = strength * GRAIN * grain.clamp_min(0)
        away = strength * self.max_shift * shift
        return torch.stack([away, brighter, spread, _rarer(START + SWING * kept, strength)], dim=1)

    def forward(self, x: Tensor, plan: Tensor, rng: torch.Generator) -> Tensor:
        shift, brighter, spread, logit = plan.unbind(1)
        kept = _chosen(torch.sigmoid((logit + chance(logit, rng)) / self.temperature))
        brighter = brighter + spread * speckle(spread, rng)
        returned = _chosen((x[:, 2] + 1) / 2)
        metres = self.scale.within(self.scale.to_metres(x[:, 0]) + shift)
        seen = torch.stack([self.scale.to_sample(metres), x[:, 1] + 2 * brighter, torch.ones_like(metres)], dim=1)
        return ((returned * kept)[:, None] * (seen + 1) - 1).clamp(-1, 1)


def chance(logit: Tensor, rng: torch.Generator) -> Tensor:
    """Logistic noise of the same shape: logit + noise is above 0 as often as the logit says."""
    return torch.rand(logit.shape, generator=rng, device=rng.device).clamp(SURE, 1 - SURE).logit().to(logit.device)


def speckle(spread: Tensor, rng: torch.Generator) -> Tensor:
    """Normal noise of the same shape: no two returns of one surface are equally bright."""
    return torch.randn(spread.shape, generator=rng, device=rng.device).to(spread.device)


def _chosen(soft: Tensor) -> Tensor:
    """1 where soft is above a half, else 0; backwards as if it were soft itself."""
    return (soft > 0.5).to(soft.dtype) + (soft - soft.detach())


def _rarer(logit: Tensor, strength: float) -> Tensor:
    """The logit when only this share of what would be lost is lost."""
    if strength == 1:
        return logit
    lost = strength * torch.sigmoid(-logit)
    return torch.log1p(-lost) - lost.clamp_min(1e-30).log()
