"""A discriminator that sees what a translation was made of, beside it: does this belong to that?"""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcycle.core import nets

SEEN = 8            # channels that show a source of another grid


class PairDiscriminator(nn.Module):
    """Judges a translation together with its source, which it has as further channels (Isola et al. 2017, eq. 1).

    view shows the source on the grid of the translation: the source itself, where the grids are one, or a `View`.
    """

    def __init__(self, view: nn.Module, judge: nn.Module):
        super().__init__()
        self.view, self.judge = view, judge

    def beside(self, x: Tensor, source: Tensor) -> Tensor:
        """Samples (B, *shape_b) and what they are, or are said to be, made of (B, *shape_a) -> (B, C, H, W)."""
        return torch.cat([x, self.view(source).to(x.dtype)], dim=1)

    def forward(self, pair: Tensor) -> Tensor:
        """What `beside` gave -> scores (B, 1, h, w)."""
        return self.judge(pair)


class View(nn.Module):
    """(B, *shape_a) -> (B, 8, H, W): what an encoder reads, carried to the grid of another sensor and enlarged."""

    def __init__(self, encoder: nn.Module, latent: tuple[int, int, int], grid: tuple[int, int], size: tuple[int, int]):
        """latent: the shape (D, h, w) of what the encoder gives; grid: that of b's latent; size: H, W."""
        super().__init__()
        d, *own = latent
        self.encoder, self.regrid, self.size = encoder, nets.Regrid(d, tuple(own), grid), size
        self.thin = nn.Conv2d(d, SEEN, 1)

    def forward(self, x: Tensor) -> Tensor:
        latent, *_ = self.encoder(x)
        return F.interpolate(self.thin(self.regrid(latent)), self.size)
