"""How near a translation comes to the truth, where true partners are known: simulated pairs, aligned cameras."""
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmcycle.errors import UserError
from mmcycle.metrics.distances import RandomFeatures, kid, l1, ssim, standardise
from mmcycle.metrics.faithfulness import structure

Load = Callable[[Path], Tensor]


def nearness(source: Sequence[Tensor], translated: Sequence[Tensor], truth: Sequence[Tensor]) -> dict[str, float]:
    """Recordings (C, H, W) in [-1, 1] of equal size, in the same order -> every measure by name.

    Each is given for the translation and, as the baseline, for the untranslated source. l1 and kid: less is better.
    """
    if not len(source) == len(translated) == len(truth) > 1:
        raise UserError(
            f"{len(source)} sources, {len(translated)} translations, {len(truth)} truths: need as many of each, "
            "2 or more"
        )
    before, after, real = (torch.stack(list(group)) for group in (source, translated, truth))
    features = RandomFeatures(real.shape[1])
    seen = features(real)
    return {
        "l1 translated - truth": l1(after, real).mean().item(),
        "l1 source - truth": l1(before, real).mean().item(),
        "ssim translated - truth": ssim(after, real).mean().item(),
        "ssim source - truth": ssim(before, real).mean().item(),
        "kid translated - truth": kid(*standardise(seen, features(after)), kernel="rbf"),
        "kid source - truth": kid(*standardise(seen, features(before)), kernel="rbf"),
        "structure kept": structure(before, after).mean().item(),
    }


def nearness_of_folders(source: Path, translated: Path, truth: Path, load: Load) -> dict[str, float]:
    """The same for three folders whose recordings share their names; `load` turns a file into (C, H, W) in [-1, 1]."""
    names = sorted(path.name for path in truth.iterdir() if not path.name.startswith("."))
    missing = [name for name in names if not (source / name).is_file() or not (translated / name).is_file()]
    if missing:
        raise UserError(f"{missing[0]} is in {truth}, but not in both {source} and {translated}")
    return nearness(*([load(folder / name) for name in names] for folder in (source, translated, truth)))
