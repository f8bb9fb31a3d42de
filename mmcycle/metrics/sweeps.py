"""Distances between two sets of sweeps of a spinning scanner, seen as range images and from above.

Letters: B sweeps of a set, H beams (the highest first), W columns, N M how many points or sweeps are compared.
Ranges are in metres, 0 where nothing came back; angles in degrees.
Every distance is 0 for equal sets, does not depend on the order of the sweeps, and means little alone: two halves of
one drive differ as well. `with_floor` gives both numbers. What differs between streets is no fault of a sensor: where
scenes are few, intensities and the finest patches tell simulated from real; the view from above does not.
"""
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from mmcycle.errors import UserError
from mmcycle.metrics.wasserstein import sliced_wasserstein, wasserstein

FIELD, BINS = 160.0, 100                # metres and cells of the view from above, along each side
NEAR, FAR = 3.0, 70.0                   # metres; what is nearer is the car itself, what is farther is chance


@dataclass(frozen=True, eq=False)
class Sweeps:
    """The range images of one set, in the order in which they were recorded."""

    range: Tensor                       # (B, H, W) metres, 0 where nothing came back
    intensity: Tensor                   # (B, H, W) in the same units on both sides; ignored where nothing came back
    labels: Tensor | None = None        # (B, H, W) class ids; ignored where nothing came back
    elevation: Tensor | None = None     # (H,) degrees above the horizon, for the view from above
    azimuth: Tensor | None = None       # (W,) degrees to the left of straight ahead where less than a turn is seen;
                                        # None: a full turn whose column 0 begins behind and whose W / 2 is ahead

    def __post_init__(self) -> None:
        shape = self.range.shape
        if self.range.ndim != 3 or not self.range.numel():
            raise UserError(f"a set of sweeps has ranges of (B, H, W), got {tuple(shape)}")
        wanted = {"intensity": shape, "labels": shape, "elevation": shape[1:2], "azimuth": shape[2:]}
        for name, expected in wanted.items():
            found = getattr(self, name)
            if found is not None and found.shape != expected:
                raise UserError(f"ranges of {tuple(shape)} need {name} of {tuple(expected)}, got {tuple(found.shape)}")
        if not ((self.range >= 0) & self.range.isfinite()).all() or not self.intensity[self.returned].isfinite().all():
            raise UserError("ranges must be finite and not below 0, intensities finite where something came back")
        if not self.returned.any():
            raise UserError("nothing came back in any sweep of the set; is the range 0 everywhere?")

    @property
    def returned(self) -> Tensor:
        """(B, H, W): where something came back."""
        return self.range > 0

    @property
    def ring(self) -> bool:
        """Does the last column touch the first?"""
        return self.azimuth is None

    def part(self, chosen: Tensor) -> "Sweeps":
        """The sweeps of these numbers."""
        labels = None if self.labels is None else self.labels[chosen]
        return Sweeps(self.range[chosen], self.intensity[chosen], labels, self.elevation, self.azimuth)


class Measured(NamedTuple):
    """A distance of fakes from reals, and the same distance of reals from reals: less is not to be expected."""

    value: float
    floor: float


def compare(
    fakes: Sweeps, reals: Sweeps, classes: Mapping[int, str] | None = None, seed: int = 0
) -> dict[str, float]:
    """Every distance by name. `classes` names the label ids whose returns are also compared one by one.

    A class is left out where one side has no return of it; the view from above, where the elevations are unknown.
    """
    _comparable(fakes, reals, classes)
    scales = {
        "range patches": sliced_wasserstein(_log_range(fakes), _log_range(reals), ring=reals.ring, seed=seed),
        "intensity patches": sliced_wasserstein(_intensity(fakes), _intensity(reals), ring=reals.ring, seed=seed),
    }
    found = {name: sum(values) / len(values) for name, values in scales.items()}
    found |= {f"{name}, finest": values[0] for name, values in scales.items()}
    found["drop rate"] = abs((fakes.range == 0).double().mean() - (reals.range == 0).double().mean()).item()
    found["drop map"] = drop_map_error(fakes.range, reals.range)
    found["drop given left"] = abs(drop_given_left(fakes.range, fakes.ring) - drop_given_left(reals.range, reals.ring))
    found |= _values(fakes, reals, fakes.returned, reals.returned, "")
    for number, name in (classes or {}).items():
        inside = fakes.returned & (fakes.labels == number), reals.returned & (reals.labels == number)
        if inside[0].any() and inside[1].any():
            found |= _values(fakes, reals, *inside, f" of {name}")
    if reals.elevation is not None:
        seen = [_seen_from_above(sweeps) for sweeps in (fakes, reals)]
        found |= {"bev jsd": bev_jsd(*seen), "bev mmd": bev_mmd(*seen)}
    return found


def with_floor(
    fakes: Sweeps, reals: Sweeps, classes: Mapping[int, str] | None = None, blocks: int = 2, seed: int = 0
) -> dict[str, Measured]:
    """`compare`, and beside every number its floor: the same between the two `halves` of the reals.

    Small sets are farther apart than large ones of the same kind, so the comparison is fairest when there are about
    half as many fakes as reals. A class that one of the halves lacks has the floor nan.
    """
    floors = compare(*halves(reals, blocks), classes, seed)
    return {
        name: Measured(value, floors.get(name, math.nan))
        for name, value in compare(fakes, reals, classes, seed).items()
    }


def halves(sweeps: Sweeps, blocks: int = 2) -> tuple[Sweeps, Sweeps]:
    """Cut a recording into `blocks` of successive sweeps and give them out in turn.

    Never sweep by sweep: neighbours show nearly the same, and the halves would look alike whatever is measured. Two
    blocks, the first and the second half of the drive, lie farthest apart and also differ in the streets they show.
    """
    count = len(sweeps.range)
    if blocks < 2 or blocks % 2 or count < blocks:
        raise UserError(f"{count} sweeps cannot be halved in {blocks} blocks: blocks must be even, 2 to {count}")
    second = torch.arange(count) * blocks // count % 2 == 1
    return sweeps.part(torch.nonzero(~second)[:, 0]), sweeps.part(torch.nonzero(second)[:, 0])


def describe(sweeps: Sweeps) -> dict[str, float]:
    """What one set is like, to see in which direction two sets differ."""
    returned = sweeps.returned
    return {
        "drop rate": 1 - returned.double().mean().item(),
        "drop given left": drop_given_left(sweeps.range, sweeps.ring),
        "mean range": sweeps.range[returned].double().mean().item(),
        "mean intensity": sweeps.intensity[returned].double().mean().item(),
    }


def drop_map_error(fake: Tensor, real: Tensor) -> float:
    """Mean over pixels of how far the shares of sweeps with nothing there (0) differ: two (B, H, W), 0 to 1."""
    return ((fake == 0).double().mean(dim=0) - (real == 0).double().mean(dim=0)).abs().mean().item()


def drop_given_left(ranges: Tensor, ring: bool = True) -> float:
    """How often nothing came back where nothing came back one column to the left: (B, H, W) -> 0 to 1.

    The drop rate itself for drops that ignore each other, about 0.9 for real ones, which come as windows, dark paint
    and the car's own body. The sky counts, so a scanner without faults may reach 0.85. 0 for a set without drops.
    """
    here = ranges == 0
    left = here.roll(1, dims=-1)
    if not ring:
        here, left = here[..., 1:], left[..., 1:]
    return (here & left).sum().item() / max(left.sum().item(), 1)


def points(ranges: Tensor, elevation: Tensor, azimuth: Tensor | None = None) -> Tensor:
    """(B, H, W) metres with the angles of `Sweeps` -> (B, H, W, 3): x ahead, y to the left, z up."""
    if azimuth is None:
        azimuth = 180 - 360 * (torch.arange(ranges.shape[-1], device=ranges.device) + 0.5) / ranges.shape[-1]
    up, around = rearrange(torch.deg2rad(elevation), "h -> h 1").to(ranges), torch.deg2rad(azimuth).to(ranges)
    rise = torch.sin(up).expand(ranges.shape[-2:])
    aim = torch.stack([torch.cos(up) * torch.cos(around), torch.cos(up) * torch.sin(around), rise], dim=-1)
    return rearrange(ranges, "b h w -> b h w 1") * aim


def bev_histogram(cloud: Tensor) -> Tensor:
    """(N, 3 or more) metres -> (100, 100): how many points fall in each cell of 1.6 m, x along the rows.

    Of the points more than 3 m and less than 70 m away, as Zyrianov et al. 2022 count them.
    """
    distance = cloud[:, :3].double().norm(dim=1)
    cell = (cloud[(distance > NEAR) & (distance < FAR), :2].double() + FIELD / 2) / (FIELD / BINS)
    row, column = cell.long().unbind(dim=1)
    return torch.bincount(row * BINS + column, minlength=BINS * BINS).reshape(BINS, BINS)


def bev_jsd(fake: Tensor, real: Tensor) -> float:
    """Jensen-Shannon distance of the summed histograms (N, 100, 100), (M, 100, 100): 0 to 0.833.

    The square root of the divergence in nats, which is what scipy's `jensenshannon` and the published numbers are.
    """
    p, q = (_share(histograms.double().sum(dim=0).flatten()) for histograms in (fake, real))
    middle = ((p + q) / 2).clamp_min(torch.finfo(torch.float64).tiny)
    divergence = (torch.special.xlogy(p, p / middle).sum() + torch.special.xlogy(q, q / middle).sum()) / 2
    return divergence.clamp_min(0).sqrt().item()


def bev_mmd(fake: Tensor, real: Tensor, width: float = 0.5) -> float:
    """Squared maximum mean discrepancy of histograms (N, 100, 100), (M, 100, 100), each scaled to sum 1.

    A Gaussian kernel of that width and the biased estimate, as published: every sweep meets itself, so that equal sets
    give 0. Papers often print it times 10,000.
    """
    a, b = (_share(histograms.double().flatten(1)) for histograms in (fake, real))
    within_a, within_b, across = (torch.exp(-torch.cdist(*pair).square() / (2 * width**2)).mean()
                                  for pair in ((a, a), (b, b), (a, b)))
    return (within_a + within_b - 2 * across).item()


def _comparable(fakes: Sweeps, reals: Sweeps, classes: Mapping[int, str] | None) -> None:
    if fakes.range.shape[1:] != reals.range.shape[1:]:
        found = f"{tuple(fakes.range.shape)} and {tuple(reals.range.shape)}"
        raise UserError(f"sweeps are compared beam by beam and column by column, got (B, H, W) of {found}")
    for name in ("elevation", "azimuth"):
        if (getattr(fakes, name) is None) != (getattr(reals, name) is None):
            raise UserError(f"{name} is known for one of the two sets only; give it for both or for neither")
    if classes and (fakes.labels is None or reals.labels is None):
        raise UserError("classes are compared where both sets have labels; give labels, or no classes")


def _values(fakes: Sweeps, reals: Sweeps, of_fakes: Tensor, of_reals: Tensor, suffix: str) -> dict[str, float]:
    """How far the ranges (metres) and intensities of these pixels are apart."""
    return {
        f"range w1{suffix}": wasserstein(fakes.range[of_fakes], reals.range[of_reals]),
        f"intensity w1{suffix}": wasserstein(fakes.intensity[of_fakes], reals.intensity[of_reals]),
    }


def _log_range(sweeps: Sweeps) -> Tensor:
    """So that a metre counts nearby more than far away."""
    return torch.log2(sweeps.range.float() + 1)


def _intensity(sweeps: Sweeps) -> Tensor:
    return torch.where(sweeps.returned, sweeps.intensity.float(), 0.0)


def _seen_from_above(sweeps: Sweeps) -> Tensor:
    clouds = points(sweeps.range.float(), sweeps.elevation, sweeps.azimuth)
    return torch.stack([bev_histogram(cloud) for cloud in rearrange(clouds, "b h w xyz -> b (h w) xyz")])


def _share(counts: Tensor) -> Tensor:
    return counts / counts.sum(dim=-1, keepdim=True).clamp_min(1)
