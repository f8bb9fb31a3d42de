"""Label safety: how sure it is that what the labels speak of is still there in a translation, 1 at best, per item.

By default the agreement of the edges of source and translation, whatever the sensor; or that of a model of the user's
own, trained on the source, before and after. It stands in the manifest ("image.safety") and can leave out the worst.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from math import ceil
from typing import TYPE_CHECKING

from mmcycle.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from mmcycle.generate.manifest import Row
    from mmcycle.generate.shard import Translates

NAME = "safety"                         # of the number, after the stream and a dot
Item = tuple[str, int]                  # key, copy


def agreement(x: Tensor, y: Tensor, judge: str | None = None) -> float | None:
    """Samples of source and translation (C, H, W), (C', H', W') in [-1, 1] -> how far they agree, rounded.

    judge  "my_lab.nets:classifier"; without one grids of two sizes cannot be compared: None
    """
    import torch

    from mmcycle.metrics.faithfulness import structure

    with torch.inference_mode():
        if judge is not None:
            return round(_same_opinion(load_judge(judge), x, y, judge), 4)
        if x.shape[-2:] != y.shape[-2:]:
            return None
        return round(structure(x.double(), y.double()).item(), 4)   # double: the same on any number of threads


def judges_of(judge: str | None, translators: Mapping[str, Translates]) -> dict[str, str]:
    """"[STREAM=]PACKAGE.MODULE:FUNCTION" -> stream -> what is imported for it; it is imported now, to fail now."""
    if judge is None:
        return {}
    stream, _, name = judge.rpartition("=")
    if not stream and len(translators) > 1:
        raise UserError(f"--judge {judge}: say of which stream it judges, such as {next(iter(translators))}={judge}")
    stream = stream or next(iter(translators))
    if stream not in translators:
        raise UserError(f"--judge {judge}: no stream {stream!r} is translated; there is {', '.join(translators)}")
    if type(translators[stream].source) is not type(translators[stream].target):
        raise UserError(f"--judge {judge}: source and translation of {stream!r} are of two sensors, and one model "
                        "cannot judge both")
    load_judge(name)
    return {stream: name}


def check_comparable(keep_best: float, judges: Mapping[str, str], translators: Mapping[str, Translates]) -> None:
    """Choosing the best needs a score of every item."""
    if keep_best == 1:
        return
    for stream, one in translators.items():
        grids = one.source.shape[-2:], one.target.shape[-2:]
        if stream not in judges and (type(one.source) is not type(one.target) or grids[0] != grids[1]):
            sensors = " and ".join(f"{type(side).__name__} of {height} x {width}"
                                   for side, (height, width) in zip((one.source, one.target), grids))
            raise UserError(f"keep_best needs a score, and {sensors}, stream {stream!r}, have no edges in common; "
                            "keep all of them, or name a judge")


@cache
def load_judge(name: str) -> Callable[[Tensor], Tensor]:
    """What the function "package.module:function" returns: a model (1, C, H, W) -> class scores (1, K, ...)."""
    from torch import nn

    module, _, attribute = name.partition(":")
    try:
        judge = getattr(import_module(module), attribute)()
    except Exception as error:          # a function of the user's may fail in any way
        raise UserError(f"--judge {name!r} could not be built: {error}. It names a function without arguments that "
                        "returns your model, such as my_lab.nets:classifier") from error
    if not callable(judge):
        raise UserError(f"--judge {name!r} returned {type(judge).__name__}; it must return a model, such as a "
                        "torch.nn.Module")
    return judge.eval().requires_grad_(False) if isinstance(judge, nn.Module) else judge


def _same_opinion(judge: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, name: str) -> float:
    """What the probabilities of the classes have in common, sum of the smaller ones; the mean over places."""
    import torch

    device = next((one.device for one in judge.parameters()), None) if isinstance(judge, torch.nn.Module) else None
    before, after = (judge(one[None].clone().to(device)) for one in (x, y))
    shapes = [tuple(one.shape) if isinstance(one, torch.Tensor) else type(one).__name__ for one in (before, after)]
    if shapes[0] != shapes[1] or isinstance(shapes[0], str) or len(shapes[0]) < 2 or shapes[0][1] < 2:
        raise UserError(f"--judge {name!r} says {shapes[0]} of a source, {shapes[1]} of its translation; expected the "
                        "scores of two or more classes, (1, K) or (1, K, h, w), alike for both")
    return torch.minimum(*(one.double().softmax(dim=1) for one in (before, after))).sum(dim=1).mean().item()


def safety_of(row: Row) -> float | None:
    """The score of one item: that of its stream that agrees least; None where no stream has one."""
    scores = [value for name, value in row.params.items() if name.endswith(f".{NAME}")]
    return min(scores, default=None)


def best(scores: Mapping[Item, float], share: float) -> set[Item]:
    """The share of the items that agree best, at least one; of equals the first by key and copy."""
    ordered = sorted(scores, key=lambda item: (-scores[item], item))
    return set(ordered[: max(1, ceil(share * len(ordered) - 1e-9))])
