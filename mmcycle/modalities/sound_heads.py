"""How one recording of sound becomes another without being made anew: each band turned up or down, and noise added.

Letters: B batch, M mel bands, T frames. A sample is a log-mel spectrogram (B, 1, M, T) on the fixed scale of [-1, 1];
levels and gains are natural logarithms of magnitudes.
"""
import math
from typing import Protocol

import torch
from torch import Tensor, nn

from mmcycle.core.heads import Head
from mmcycle.modalities.log_mel import LogMel, power_sum

LOUDEST_SHARE = 0.97                                # of a mixture's power that noise may have: 15 dB above the speech
UNIT = 3.0                                          # nepers (26 dB), the grain in which styles and spectra are told


class Scale(Protocol):
    """See modalities/audio.py."""

    def to_sample(self, levels: Tensor) -> Tensor: ...

    def to_levels(self, x: Tensor) -> Tensor: ...


class Gain(Head):
    """Every band of every frame a little louder or softer, within bounds: what noise reduction may do."""

    def __init__(self, front_end: LogMel, bounds: tuple[float, float], scale: Scale, parts: int = 1, style: int = 0):
        super().__init__(parts=parts, style=style)
        self.front_end, self.bounds, self.scale = front_end, bounds, scale

    def plan(self, x: Tensor, parts: Tensor, style: Tensor, strength: float = 1.0) -> Tensor:
        """The log gain (B, 1, M, T)."""
        low, high = self.bounds
        return strength * torch.where(parts < 0, -low * parts, high * parts)[:, :1]

    def forward(self, x: Tensor, plan: Tensor, rng: torch.Generator) -> Tensor:
        return self.scale.to_sample(self.scale.to_levels(x) + plan).clamp(-1, 1)


class AddNoise(Gain):
    """Gain, and noise whose spectrum and loudness follow a style: the power of speech and noise adds up.

    What is left of a band in its quietest moments is mostly noise (Martin 2001, minimum statistics); how much more there
    is, is learned. The noise stands to the mixture as it does in the recording that the style was read from, so the signal-to-noise
    ratios of the target domain come over, whatever its absolute levels are. Its short-time fluctuation is that of
    noise, not a learned one.
    """

    def __init__(self, front_end: LogMel, bounds: tuple[float, float], scale: Scale):
        super().__init__(front_end, bounds, scale, parts=int(bounds != (0, 0)), style=3 * front_end.mels)
        mels = front_end.mels
        self.correction = nn.Sequential(nn.Linear(3 * mels, 128), nn.ReLU(), nn.Linear(128, mels))
        nn.init.zeros_(self.correction[-1].weight)      # begin with the percentile itself
        nn.init.zeros_(self.correction[-1].bias)

    def look(self, like: Tensor) -> Tensor:
        """Mean, 15th percentile and spread of every band over time, against the level of the whole: (B, 3 M)."""
        bands = (self.scale.to_levels(like) - _loudness(self.scale.to_levels(like)))[:, 0] / UNIT
        return torch.cat([bands.mean(-1), bands.quantile(0.15, dim=-1), bands.std(-1)], dim=-1)

    def plan(self, x: Tensor, parts: Tensor, style: Tensor, strength: float = 1.0) -> Tensor:
        """The log gain and the log level of the noise (B, 2, M, T)."""
        gain = super().plan(x, parts, style, strength) if self.parts else torch.zeros_like(x)
        return torch.cat([gain, self._noise(x, style).expand_as(gain) + math.log(max(strength, 1e-9))], dim=1)

    def forward(self, x: Tensor, plan: Tensor, rng: torch.Generator) -> Tensor:
        gain, noise = plan.split(1, dim=1)
        texture = self.front_end.texture(x.shape[-1], rng, batch=(len(x), 1)).to(x.device)
        mixture = power_sum(self.scale.to_levels(x) + gain, noise + texture)
        return self.scale.to_sample(mixture).clamp(-1, 1)

    def _noise(self, x: Tensor, style: Tensor) -> Tensor:
        """Its log level (B, 1, M, 1): its share of the mixture's power is what the style says."""
        quietest = style[:, self.front_end.mels : 2 * self.front_end.mels]
        below = UNIT * (quietest + self.correction(style))[:, None, :, None]        # against the mixture's loudness
        share = (2 * below).exp().mean((-3, -2), keepdim=True)
        below = below - (share / LOUDEST_SHARE).log().clamp_min(0) / 2
        return below + _loudness(self.scale.to_levels(x)) - torch.log1p(-share.clamp(max=LOUDEST_SHARE)) / 2


def _loudness(levels: Tensor) -> Tensor:
    """(B, 1, M, T) -> the log of the root mean square magnitude over all cells, (B, 1, 1, 1)."""
    cells = levels.shape[-2] * levels.shape[-1]
    return (torch.logsumexp(2 * levels, (-2, -1), keepdim=True) - math.log(cells)) / 2
