"""How one recording of sound becomes another without being made anew: each band turned up or down, and noise added.

Letters: B batch, M mel bands, T frames. A sample is a log-mel spectrogram (B, 1, M, T) on the fixed scale of [-1, 1];
levels and gains are natural logarithms of magnitudes.
"""
import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcycle.core.heads import Head
from mmcycle.modalities.log_mel import LogMel, power_sum

MOST_SWELLING = 1.2                                 # nepers (10 dB), standard deviation
SWELLING_SECONDS = 0.064
LOUDEST_SHARE = 0.97                                # of a mixture's power that noise may have: 15 dB above the speech
UNIT = 3.0                                          # nepers (26 dB), the grain in which styles and spectra are told


class Scale(Protocol):
    """See modalities/audio.py."""

    def to_sample(self, levels: Tensor) -> Tensor: ...

    def to_levels(self, x: Tensor) -> Tensor: ...


class Gain(Head):
    """Every band of every frame a little louder or softer, within bounds: what noise reduction may do."""

    random = False

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
    is, and how much it swells, is learned. The noise stands to the mixture as it does in the recording that the style was
    read from, so the signal-to-noise ratios of the target domain come over, whatever its absolute levels are.
    """

    random = True

    def __init__(self, front_end: LogMel, bounds: tuple[float, float], scale: Scale):
        super().__init__(front_end, bounds, scale, parts=int(bounds != (0, 0)), style=4 * front_end.mels)
        self.keeps = not self.parts                     # a gain may turn a word down until nobody hears it
        mels = front_end.mels
        self.correction = nn.Sequential(nn.Linear(4 * mels, 128), nn.ReLU(), nn.Linear(128, 2 * mels))
        nn.init.zeros_(self.correction[-1].weight)      # begin with the percentile itself, and swell a little
        nn.init.zeros_(self.correction[-1].bias)

    def look(self, like: Tensor) -> Tensor:
        """Mean, 15th percentile, spread and loudness of every band over time, against the whole's loudness: (B, 4 M)."""
        levels = self.scale.to_levels(like)
        bands = (levels - _loudness(levels))[:, 0]
        loudness = (torch.logsumexp(2 * bands, -1) - math.log(bands.shape[-1])) / 2
        return torch.cat([bands.mean(-1), bands.quantile(0.15, dim=-1), bands.std(-1), loudness], dim=-1) / UNIT

    def plan(self, x: Tensor, parts: Tensor, style: Tensor, strength: float = 1.0) -> Tensor:
        """The log gain, the log level of the noise, and how much that swells (B, 3, M, T)."""
        gain = super().plan(x, parts, style, strength) if self.parts else torch.zeros_like(x)
        level, spread = self._noise(x, style)
        return torch.cat([gain, (level + math.log(max(strength, 1e-9))).expand_as(gain), spread.expand_as(gain)], dim=1)

    def forward(self, x: Tensor, plan: Tensor, rng: torch.Generator) -> Tensor:
        gain, level, spread = plan.split(1, dim=1)
        noise = level + swelling(spread, self.front_end, rng)
        texture = self.front_end.texture(x.shape[-1], rng, batch=(len(x), 1)).to(x.device)
        mixture = power_sum(self.scale.to_levels(x) + gain, noise + texture)
        return self.scale.to_sample(mixture).clamp(-1, 1)

    def _noise(self, x: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        """Its log level (B, 1, M, 1), whose share of the mixture's power is what the style says, and its spread."""
        quietest = style[:, self.front_end.mels : 2 * self.front_end.mels]
        more, spread = self.correction(style).chunk(2, dim=1)
        spread = MOST_SWELLING * torch.sigmoid(UNIT * spread - 1)[:, None, :, None]
        below = UNIT * (quietest + more)[:, None, :, None]                          # against the mixture's loudness
        share = (2 * below).exp().mean((-3, -2), keepdim=True)
        below = below - (share / LOUDEST_SHARE).log().clamp_min(0) / 2
        level = below + _loudness(self.scale.to_levels(x)) - torch.log1p(-share.clamp(max=LOUDEST_SHARE)) / 2
        return level, spread


def swelling(spread: Tensor, front_end: LogMel, rng: torch.Generator) -> Tensor:
    """Slow changes of a log level, (..., M, T), as large as `spread` says: half in all bands together, half in each alone.

    Cars pass, waves break, cups are put down: without it a noise is too steady, and too soft for its quietest moments.
    """
    *batch, mels, frames = spread.shape
    tau = max(SWELLING_SECONDS * front_end.rate / front_end.hop, 1.0)
    reach = round(3 * tau)
    decay = torch.exp(-torch.arange(reach + 1.0) / tau)
    white = torch.randn(math.prod(batch) * (mels + 1), 1, frames + reach, generator=rng, device=rng.device)
    slow = F.conv1d(white, (decay / decay.norm())[None, None].to(white.device)).reshape(*batch, mels + 1, frames)
    return spread * ((slow[..., :1, :] + slow[..., 1:, :]) * 0.5**0.5).to(spread.device)


def _loudness(levels: Tensor) -> Tensor:
    """(B, 1, M, T) -> the log of the root mean square magnitude over all cells, (B, 1, 1, 1)."""
    cells = levels.shape[-2] * levels.shape[-1]
    return (torch.logsumexp(2 * levels, (-2, -1), keepdim=True) - math.log(cells)) / 2
