"""In which patches returns are lost: in long runs of a row, in blobs, or each alone; counted, and drawn again.

Letters: B batch, H rows, W columns, F fields. A field is noise that neighbours share over so many rows and columns.
"""
import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FIELDS = ((0.0, 0.0), (0.0, 1.5), (0.0, 5.0), (0.0, 16.0), (1.2, 1.5), (1.2, 5.0), (2.5, 12.0))    # rows, columns
LAGS = [(down, across) for down in (0, 1, 2) for across in (0, 1, 2, 4, 8, 16, 32)]
FITS = 100


class Texture(nn.Module):
    """What shares of luck neighbouring returns have in common, so that losses come in patches as in the target domain.

    A sum of independent normal fields decides what is lost; `shares` are their variances, fitted to how often two
    pixels so far apart are lost together.
    """

    def __init__(self) -> None:
        super().__init__()
        alone = torch.tensor([float(field == (0.0, 0.0)) for field in FIELDS])
        self.register_buffer("shares", alone)                                           # (F,), sum 1
        self.register_buffer("together", torch.zeros(len(LAGS), dtype=torch.float64))
        self.register_buffer("pairs", torch.zeros(len(LAGS), dtype=torch.float64))
        self.register_buffer("rate", torch.zeros(2, dtype=torch.float64))              # lost, all

    @torch.no_grad()
    def observe(self, lost: Tensor, known: Tensor) -> None:
        """(B, H, W) bool: what was lost, of all that there was to be hit. The shares follow."""
        lost = lost.double()
        often = lost.sum((0, 2), keepdim=True) / known.sum((0, 2), keepdim=True).clamp_min(1)
        unusual = torch.where(known, lost - often, 0.0)                                 # for its row
        self.rate += torch.stack([lost.sum(), known.sum()]).to(self.rate)
        height, width = lost.shape[-2:]
        for number, (down, across) in enumerate(LAGS):
            if down < height and across < width:
                first = (..., slice(None, height - down), slice(None, width - across))
                second = (..., slice(down, None), slice(across, None))
                self.together[number] += (unusual[first] * unusual[second]).sum()
                self.pairs[number] += (known[first] & known[second]).sum()
        if self.rate[0] > 0 and self.together[0] > 0:
            self.shares.copy_(self._fitted())

    def _fitted(self) -> Tensor:
        """Non-negative least squares by multiplicative steps (Lee and Seung 2001)."""
        measured = self.together / self.pairs.clamp_min(1)
        wanted = _of_normals(measured / measured[0], float(self.rate[0] / self.rate[1])).clamp_min(0)
        reach = torch.tensor(_reaches(), dtype=torch.float64, device=wanted.device)     # (lags, F)
        shares = torch.full_like(reach[0], 1 / len(FIELDS))
        for _ in range(FITS):
            shares = shares * (reach.T @ wanted) / (reach.T @ (reach @ shares)).clamp_min(1e-12)
        return (shares / shares.sum().clamp_min(1e-12)).float()


def woven(shares: Tensor, rng: torch.Generator) -> Tensor:
    """Shares of the fields (..., F, H, W), summing to 1 -> standard normal noise (..., H, W), correlated so."""
    *batch, _, height, width = shares.shape
    total = torch.zeros(*batch, height, width, device=shares.device)
    for share, (down, across) in zip(shares.unbind(-3), FIELDS, strict=True):
        above, beside = _bell(down), _bell(across)
        size = (math.prod(batch), 1, height + len(above) - 1, width + len(beside) - 1)
        noise = torch.randn(size, generator=rng, device=rng.device)
        noise = F.conv2d(F.conv2d(noise, above[None, None, :, None].to(noise)), beside[None, None, None].to(noise))
        total = total + share.sqrt() * noise.reshape(*batch, height, width).to(share)
    return total


@lru_cache(maxsize=16)
def _bell(sigma: float) -> Tensor:
    """A Gaussian, its squares summing to 1; a single 1 for sigma 0."""
    reach = math.ceil(2.5 * sigma)
    bell = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * sigma**2 + 1e-12))
    return bell / bell.norm()


def _reaches() -> list[list[float]]:
    """Of every lag, the correlation that every field has there."""
    def shared(lag: int, sigma: float) -> float:
        return math.exp(-(lag**2) / (4 * sigma**2)) if sigma else float(lag == 0)

    return [[shared(down, field[0]) * shared(across, field[1]) for field in FIELDS] for down, across in LAGS]


def _of_normals(measured: Tensor, rate: float) -> Tensor:
    """Correlations of events of this rate -> those of the normal variables that, below a threshold, are the events.

    The share of pairs grows with the correlation by the density of two normals at the threshold (Sheppard 1899).
    """
    rate = min(max(rate, 1e-4), 1 - 1e-4)
    threshold = float(torch.special.ndtri(torch.tensor(rate, dtype=torch.float64)))
    normal = torch.sin(torch.linspace(0, math.pi / 2, 513, dtype=torch.float64))         # dense towards 1
    angle = torch.linspace(0, math.pi / 2, 513, dtype=torch.float64)
    density = torch.exp(-(threshold**2) / (1 + normal)) / (2 * math.pi)                   # by the angle: no pole at 1
    event = torch.cat([torch.zeros(1, dtype=torch.float64), torch.cumulative_trapezoid(density, angle)])
    event = (event / (rate * (1 - rate))).to(measured.device)
    place = torch.searchsorted(event, measured.clamp(0, float(event[-1])).contiguous()).clamp(1, len(event) - 1)
    low, high = event[place - 1], event[place]
    part = ((measured - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    normal = normal.to(measured.device)
    return torch.lerp(normal[place - 1], normal[place], part)
