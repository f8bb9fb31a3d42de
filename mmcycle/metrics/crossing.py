"""How much of a recording another sensor's picture of it shows: against the true partner, and by what judges see.

Letters: N recordings, C channels, H W size. Attributes are such as "car ahead": 0 or 1, "view": day or night.
"""
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmcycle.data.samplers import Domain
from mmcycle.errors import UserError
from mmcycle.metrics.distances import l1, ssim
from mmcycle.metrics.downstream import Classifier, classifier
from mmcycle.modality import Modality

Attributes = Mapping[str, Tensor]               # name -> (N,) whole numbers, 0 or more; -1 where it cannot be told
RARE = 0.1                                      # of the recordings: what is rarer, or commoner, is not asked for
SIDES = ("left", "ahead", "right")              # thirds of a picture


def whole(root: Path, modality: Modality) -> Tensor:
    """Every recording below a folder, by name: (N, C, H, W) in [-1, 1]; all must be of one size."""
    domain = Domain(root, modality)
    return torch.stack([domain.whole(index) for index in range(len(domain))])


def attributes_of(numbers: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Name -> (N,), as labels give them -> without those that a tenth of the recordings, or fewer, decide."""
    found = {name: torch.as_tensor(values, dtype=torch.int64) for name, values in numbers.items()}
    most = {name: int(values.bincount().max()) for name, values in found.items()}
    return {name: values for name, values in found.items() if most[name] <= (1 - RARE) * len(values)}


def masks(folder: Path) -> Tensor:
    """The masks of a folder (.png), by name: (N, H, W), the class of each pixel."""
    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise UserError(f"{folder} holds no masks (.png)")
    return torch.stack([torch.from_numpy(_mask(path)).long() for path in paths])


def presence(shown: Tensor, classes: Mapping[str, int], share: float = 0.05) -> dict[str, Tensor]:
    """Classes of pixels (N, H, W) -> "car left", "car ahead" ...: (N,), 1 where it fills `share` of that third."""
    thirds = shown.tensor_split(3, dim=2)
    return {
        f"{name} {side}": ((third == value).float().mean((1, 2)) >= share).long()
        for name, value in classes.items() for side, third in zip(SIDES, thirds)
    }


def baselines(source: Tensor, partner: Tensor, asked: Tensor) -> dict[str, Tensor]:
    """What needs no learning: the mean of all partners, and the partner of the nearest source (L1).

    Known pairs source (N, C, H, W) and partner (N, C', H', W'); asked (M, C, H, W) -> each (M, C', H', W').
    """
    if not len(source) == len(partner) > 0:
        raise UserError(f"{len(source)} sources and {len(partner)} partners: need as many of each, one or more")
    nearest = torch.cdist(asked.flatten(1), source.flatten(1), p=1).argmin(1)
    return {"mean": partner.mean(0).expand(len(asked), *partner.shape[1:]), "nearest": partner[nearest]}


def nearness(made: Mapping[str, Tensor], truth: Tensor) -> dict[str, float]:
    """Name -> pictures (N, C, H, W) in [-1, 1] -> "l1: name" (less is better) and "ssim: name"."""
    found = {f"l1: {name}": l1(pictures, truth).mean().item() for name, pictures in made.items()}
    return found | {f"ssim: {name}": ssim(pictures, truth).mean().item() for name, pictures in made.items()}


def seen_attributes(
    training: Tensor, told: Attributes, made: Mapping[str, Tensor], truth: Attributes, seed: int = 0, epochs: int = 12
) -> dict[str, float]:
    """Balanced accuracy, per cent, of classifiers taught on real recordings and shown those of each name in `made`.

    One classifier for each attribute of `told` that varies in the truth. "attribute: name", the mean of all as
    "attributes: name", and what guessing gives as "attributes: chance".
    """
    asked = [name for name in told if len(np.unique(truth[name])) > 1]
    guides: dict[str, Classifier] = {
        name: classifier(lambda epoch, y=told[name]: (training, y), int(told[name].max()) + 1, seed, epochs)
        for name in asked
    }
    answers = {who: {name: guides[name](pictures) for name in asked} for who, pictures in made.items()}
    return agreement(answers, truth)


def agreement(answers: Mapping[str, Attributes], truth: Attributes) -> dict[str, float]:
    """Who -> attributes (N,) against the truth -> balanced accuracy, per cent, named as by `seen_attributes`.

    Attributes are asked for where all answer and the truth varies.
    """
    truth = {name: torch.as_tensor(values) for name, values in truth.items()}
    asked = [name for name in next(iter(answers.values())) if name in truth and len(truth[name].unique()) > 1]
    if not asked:
        raise UserError("no attribute varies in both sets of recordings: take more of them")
    found: dict[str, float] = {}
    for who, said in answers.items():
        single = {name: balanced(torch.as_tensor(said[name]), truth[name]) for name in asked}
        found |= {f"{name}: {who}": value for name, value in single.items()}
        found[f"attributes: {who}"] = sum(single.values()) / len(single)
    chance = [100 / len(truth[name].unique()) for name in asked]
    return found | {"attributes: chance": sum(chance) / len(chance)}


def balanced(said: Tensor, truth: Tensor) -> float:
    """The share of right answers, per cent, as the mean over the true values: a constant answer is worth chance."""
    values = truth.unique()
    return 100 * sum((said[truth == value] == value).double().mean().item() for value in values) / len(values)


def _mask(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)
