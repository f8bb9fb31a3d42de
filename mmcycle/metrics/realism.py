"""Realism: how far a set of translations is from real recordings, beside the distance of real ones from each other.

All sets have equal numbers of samples, because a distance of small sets grows as they shrink. Letters: N samples, D.
"""
import math

import torch
from torch import Tensor

from mmcycle.errors import UserError
from mmcycle.metrics.distances import frechet, kid_interval, standardise
from mmcycle.metrics.score import Score

DRAWS = 100                                 # of the bootstrap of the Frechet distance


def kernel_distance(reference: Tensor, real: Tensor, fake: Tensor, untranslated: Tensor | None, seed: int = 0) -> Score:
    """KID of looks (N, D) with a mixture of Gaussian kernels: 0 where fakes cannot be told from reals, at most 2.

    `real` are other recordings than `reference`: they make the floor.
    """
    _equal(reference, real, fake, untranslated)
    rng = torch.Generator().manual_seed(seed)
    found = {name: kid_interval(*standardise(reference, other), rng, "rbf", draws=300)
             for name, other in _sets(real, fake, untranslated).items()}
    beside = {name: one.value for name, one in found.items() if name != "fake"}
    return Score(found["fake"].value, found["fake"].low, found["fake"].high,
                 beside | {"floor_error": found["floor"].error, "error": found["fake"].error})


def frechet_distance(
    reference: Tensor, real: Tensor, fake: Tensor, untranslated: Tensor | None, seed: int = 0
) -> Score:
    """Root of the squared Frechet distance of the Gaussians of features (N, D), D well below N; grows without bound.

    The bias that drawing twice the same recording brings is taken from the interval.
    """
    _equal(reference, real, fake, untranslated)
    found = {name: math.sqrt(frechet(reference, other)) for name, other in _sets(real, fake, untranslated).items()}
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.tensor([math.sqrt(frechet(_drawn(reference, rng), _drawn(fake, rng))) for _ in range(DRAWS)])
    bias = drawn.mean().item() - found["fake"]
    low, high = (max(value - bias, 0.0) for value in drawn.quantile(torch.tensor([0.025, 0.975])).tolist())
    return Score(found.pop("fake"), low, high, found)


def way_gone(distance: Score) -> float | None:
    """Share of the way from the untranslated source to real recordings; below 0 it went elsewhere.

    None where the domains cannot be told apart, or where the source has another sensor.
    """
    floor, start = distance.beside["floor"], distance.beside.get("untranslated")
    return None if start is None or start < 1.5 * floor else (start - distance.value) / (start - floor)


def _sets(real: Tensor, fake: Tensor, untranslated: Tensor | None) -> dict[str, Tensor]:
    sets = {"fake": fake, "floor": real}
    return sets if untranslated is None else sets | {"untranslated": untranslated}


def _drawn(features: Tensor, rng: torch.Generator) -> Tensor:
    return features[torch.randint(len(features), (len(features),), generator=rng)]


def _equal(*sets: Tensor | None) -> None:
    sizes = [len(one) for one in sets if one is not None]
    if len(set(sizes)) != 1 or sizes[0] < 2:
        raise UserError(f"realism compares sets of equal numbers, 2 or more, got {sizes}")
