"""How a sweep becomes one of another domain without being made anew: returns are lost, moved a little, recoloured.

Letters: B batch, H rows, W columns. A sample is (B, 3, H, W): range on a logarithmic scale, intensity, and whether
there is a return, 1 or -1; without one, all three are -1.
"""
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mmcycle.core.heads import Head
from mmcycle.core.nets import move
from mmcycle.modalities.lidar_texture import Texture, woven

SWING = 3.0                                         # how far the logit of being kept can be learned away from the usual
TAILS = 2.0                                         # deviations, beyond which no range is spread
GRAIN = 0.5                                         # the largest spread of the intensity
ROUGH = 0.25                                        # the largest spread of the range, as a share of the largest shift
SURE = 1e-6                                         # the least chance of the unlikely: logits beyond 14 are certain
GAP = (5, 17)                                       # rows, columns: what a smaller hole has around it, it has behind it
DARK = (0.01, 0.04, 0.1, 0.2, 0.35)                 # shares of full intensity, between which losses are counted
SMALL = 0.005                                       # of full intensity: no two nearer ones are told apart
DOUBT = 8.0                                         # counts of what is usual in its row that every cell starts with
BRIGHT = 4.0                                        # styles tell intensities in quarters of full intensity
QUANTILES = (0.02, 0.06, 0.12, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97)    # of the intensities of a row, in styles


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


class Luck(NamedTuple):
    """What one draw makes of a plan, (..., H, W) each: metres away, change of the intensity, kept where above 0."""

    away: Tensor
    brighter: Tensor
    kept: Tensor


class Returns(Head):
    """Whatever was hit stays where it is, within `max_shift` metres, so that labels of points and boxes stay true.

    A return may be lost, never invented. How often that happens is counted on sweeps of the target domain, row by row
    and by how dark it is around the loss, and in which patches: a hole so small that returns surround it is no sky,
    something was there to be hit. How many are lost in each row of this sweep, and how bright the rest is, follows a
    style, read off one sweep. What depends on more than that is learned, through the draw as in DUSty (Nakashima and
    Kurazume 2021): a hard choice, whose gradient is that of the soft one at `temperature` (Jang et al. 2017; Maddison
    et al. 2017).
    """

    keeps = True

    def __init__(self, scale: Scale, max_shift: float, temperature: float, rows: int):
        super().__init__(parts=5, style=(2 + len(QUANTILES)) * rows)
        self.scale, self.max_shift, self.temperature = scale, max_shift, temperature
        self.register_buffer("lost", torch.zeros(rows, len(DARK) + 1, dtype=torch.float64))
        self.register_buffer("hit", torch.zeros_like(self.lost))
        self.texture = Texture()

    def look(self, like: Tensor) -> Tensor:
        """Of every row: the share lost in small holes, that of neighbours lost together, quantiles of the intensity,
        0 where a row has no return: (B, 12 H)."""
        there = ((like[:, 2:] + 1) / 2).clamp(0, 1)[:, 0]
        behind = _closed(there)
        lost = behind * (1 - there)
        count = behind.sum(-1).clamp_min(1)
        together = (lost[..., 1:] * lost[..., :-1]).sum(-1) / count
        light = torch.where(there > 0.5, (like[:, 1] + 1) / 2, torch.nan)
        levels = torch.nanquantile(light, torch.tensor(QUANTILES, device=light.device), dim=-1).nan_to_num()
        return torch.cat([lost.sum(-1) / count, together, *(BRIGHT * levels)], dim=-1)

    @torch.no_grad()
    def observe(self, like: Tensor, style: Tensor) -> None:
        super().observe(like, style)
        there = like[:, 2] > 0
        behind = (_closed(there.float()) > 0) | there
        cells = self._cells((like[:, 1] + 1) / 2, there)
        for row, count in ((self.lost, behind & ~there), (self.hit, there)):
            row += torch.bincount(cells[count], minlength=row.numel()).to(row).view_as(row)
        self.texture.observe(behind & ~there, behind)

    def plan(self, x: Tensor, parts: Tensor, style: Tensor, strength: float = 1.0) -> Tensor:
        """Metres farther away and their spread, change and spread of the intensity as shares, logit of being kept, and
        the shares of a texture: (B, 5 + F, H, W)."""
        shift, rough, shine, grain, kept = parts.float().unbind(1)
        own, light = self.look(x), (x[:, 1] + 1) / 2
        even = _as_bright(light, self._columns(x, own)[2:], self._columns(x, style)[2:])
        brighter = strength * (move(2 * even.clamp(0, 1) - 1, shine) - x[:, 1]) / 2
        usual = self._usual(x, light + brighter.detach(), own, style)
        logit = _rarer(_as_many(usual + SWING * kept, usual, x[:, 2] > 0), strength)
        jitter = ROUGH * self.max_shift * rough.clamp_min(0)
        away = shift * (self.max_shift - TAILS * jitter)
        grain = GRAIN * grain.clamp_min(0)
        said = torch.stack([strength * away, strength * jitter, brighter, strength * grain, logit], dim=1)
        shares = self.texture.shares.to(said)[:, None, None]
        return torch.cat([said, shares.expand(len(x), -1, *said.shape[-2:])], dim=1)

    def forward(self, x: Tensor, plan: Tensor, rng: torch.Generator) -> Tensor:
        away, brighter, kept = luck(plan, rng)
        kept = _chosen(torch.sigmoid(kept / self.temperature))
        returned = _chosen((x[:, 2] + 1) / 2)
        metres = self.scale.within(self.scale.to_metres(x[:, 0]) + away)
        seen = torch.stack([self.scale.to_sample(metres), x[:, 1] + 2 * brighter, torch.ones_like(metres)], dim=1)
        return ((returned * kept)[:, None] * (seen + 1) - 1).clamp(-1, 1)

    def _usual(self, x: Tensor, light: Tensor, own: Tensor, style: Tensor) -> Tensor:
        """The logit of being kept (B, H, W) that was counted where it is as dark, for this style's rows more or less.

        What the source has lost already in its rows, such as behind the carrier's own parts, is not lost once more.
        """
        row = (self.lost.sum(1, keepdim=True) + 1) / ((self.lost + self.hit).sum(1, keepdim=True) + 20)
        rare = (self.lost + DOUBT * row) / (self.lost + self.hit + DOUBT)
        lost = rare.float().flatten()[self._cells(light, x[:, 2] > 0)]
        mine = self._columns(x, own)[0]
        known = self.styles[: max(min(int(self.seen), len(self.styles)), 1)].mean(0, keepdim=True)
        more, usual = (self._columns(x, one)[0].clamp(0.01, 0.99).logit() for one in (style, known))
        return ((1 - lost) / (1 - mine).clamp_min(0.05)).clamp(0.01, 0.995).logit() - (more - usual).clamp(-1, 1)

    def _columns(self, x: Tensor, style: Tensor) -> tuple[Tensor, ...]:
        """A style (B, 12 H) -> its columns (B, H, 1), in a sample's own rows."""
        columns = style.unflatten(1, (2 + len(QUANTILES), -1))
        if columns.shape[-1] != x.shape[-2]:
            columns = F.interpolate(columns, size=x.shape[-2], mode="linear")
        lost, together, *levels = columns[..., None].unbind(1)
        return lost, together, *(level / BRIGHT for level in levels)

    def _cells(self, light: Tensor, there: Tensor) -> Tensor:
        """Intensities (B, H, W) in [0, 1], and where they are known -> where in `lost` each pixel counts."""
        rows, kinds = self.lost.shape
        row = torch.linspace(0, rows - 1, light.shape[-2], device=light.device).round().long()[:, None]
        return row * kinds + torch.bucketize(_around(light, there), torch.tensor(DARK, device=light.device))


def luck(plan: Tensor, rng: torch.Generator) -> Luck:
    """One draw, (..., 5 + F, H, W): see `Returns.plan`."""
    away, jitter, brighter, grain, logit = plan[..., :5, :, :].unbind(-3)
    range_noise, grains = (
        torch.randn(logit.shape, generator=rng, device=rng.device).to(logit.device) for _ in range(2)
    )
    fate = torch.special.ndtr(woven(plan[..., 5:, :, :], rng)).clamp(SURE, 1 - SURE).logit()
    return Luck(away + jitter * range_noise.clamp(-TAILS, TAILS), brighter + grain * grains, logit + fate)


def _as_bright(light: Tensor, own: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> Tensor:
    """Intensities (B, H, W) of a row, moved so that its quantiles (B, H, 1) become the wanted ones.

    Straight lines between them, and from the outer ones to 0 and 1; where several are equal, to their middle.
    """
    low, high = own[0], own[-1]
    made = wanted[0] * (light / low.clamp_min(SMALL)).clamp(0, 1)
    for k in range(len(own) - 1):
        step = ((light - own[k] + SMALL) / (own[k + 1] - own[k] + 2 * SMALL)).clamp(0, 1)
        made = made + (wanted[k + 1] - wanted[k]) * step
    return made + (1 - wanted[-1]) * ((light - high) / (1 - high).clamp_min(SMALL)).clamp(0, 1)


def _around(light: Tensor, there: Tensor) -> Tensor:
    """(B, H, W) -> the mean of what is known around each pixel, in a small window or else a larger; 0 if nothing."""
    found = torch.zeros_like(light)
    known = torch.stack([torch.where(there, light, 0), there.to(light)], dim=1)
    for down, across in (GAP, (3, 5)):                  # the smaller one last: it is nearer
        wide = F.avg_pool2d(known, (1, across), 1, (0, across // 2))
        total, count = F.avg_pool2d(wide, (down, 1), 1, (down // 2, 0)).unbind(1)
        found = torch.where(count > 0, total / count.clamp_min(1e-6), found)
    return found


def _closed(there: Tensor) -> Tensor:
    """(B, H, W) of 0 and 1: holes smaller than GAP filled (morphological closing); no gradient.

    Above and below all rows is nothing.
    """
    down, across = GAP
    wide = F.max_pool2d(there.detach(), (1, across), 1, (0, across // 2))
    empty = 1 - F.max_pool2d(wide, (down, 1), 1, (down // 2, 0))
    empty = F.max_pool2d(empty, (1, across), 1, (0, across // 2))
    return 1 - F.max_pool2d(F.pad(empty, (0, 0, down // 2, down // 2), value=1.0), (down, 1), 1)


def _chosen(soft: Tensor) -> Tensor:
    """1 where soft is above a half, else 0; backwards as if it were soft itself."""
    return (soft > 0.5).to(soft.dtype) + (soft - soft.detach())


def _as_many(logit: Tensor, usual: Tensor, where: Tensor) -> Tensor:
    """Every row of logits shifted until, of the returns there, as many are kept as by the usual logits; (B, H, W) all.

    Which are lost can so be learned, and never how many: a discriminator of patches, most of which lost nothing, would
    rather see none lost at all.
    """
    with torch.no_grad():
        wanted = (torch.sigmoid(usual) * where).sum(-1, keepdim=True)
        shift = torch.zeros_like(wanted)
        for _ in range(6):                          # Newton's method; the sum is monotonous in the shift
            chance = torch.sigmoid(logit + shift) * where
            slope = (chance * (1 - chance)).sum(-1, keepdim=True)
            shift += ((wanted - chance.sum(-1, keepdim=True)) / slope.clamp_min(1e-3)).clamp(-2, 2)
        chance = torch.sigmoid(logit + shift) * where
        weight = chance * (1 - chance)
        weight = weight / weight.sum(-1, keepdim=True).clamp_min(1e-6)
    level = (weight * logit).sum(-1, keepdim=True)
    return logit + shift - (level - level.detach())     # the shift follows the logits: implicit function theorem


def _rarer(logit: Tensor, strength: float) -> Tensor:
    """The logit when only this share of what would be lost is lost."""
    if strength == 1:
        return logit
    lost = strength * torch.sigmoid(-logit)
    return torch.log1p(-lost) - lost.clamp_min(1e-30).log()
