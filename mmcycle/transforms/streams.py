"""One stream of a sample: which of its tensors are meant, and how what became of them is put back.

A sample is what a data set gives for one index: a tensor, a tuple, a dict, nested as deep as anyone likes.
"""
from abc import ABC, abstractmethod
from typing import Any

import torch
from PIL.Image import Image as Pillow
from torch import Tensor
from torch.utils import _pytree as pytree           # as torchvision.transforms.v2 does
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from mmcycle.errors import UserError
from mmcycle.transforms.sensors import SENSORS, Boxes3D, wrap

LABELS = (tv_tensors.BoundingBoxes, tv_tensors.Mask, tv_tensors.KeyPoints, Boxes3D)     # they speak of a stream only
MODES = ("L", "RGB")                                # of Pillow's pictures: those of which every number is a shade
MANY = 8                                            # that a message lists


class StreamTransform(v2.Transform, ABC):
    """A transform that happens to one stream with probability p; everything else in the sample passes untouched.

    stream    a key, anywhere in the sample, or the index in a tuple. None: what is typed (tv_tensors, Pillow) and fits,
              as in v2; else the one plain tensor that fits; two of them are an error, not a guess

    All that is random is drawn from torch's global generator, as v2's own transforms do, and equally much for every
    sample: a loader with a seeded generator repeats itself, its workers and epochs differ.
    """

    def __init__(self, p: float, stream: str | int | None):
        super().__init__()
        if not 0 <= p <= 1:
            raise UserError(f"{type(self).__name__}: p is {p}; a probability lies in [0, 1]")
        self.p, self.stream = p, stream

    @property
    @abstractmethod
    def wants(self) -> str:
        """What is looked for, in words."""

    @abstractmethod
    def fits(self, leaf: Any) -> bool:
        """Whether this tensor or picture may be what is looked for."""

    def forward(self, *inputs: Any) -> Any:
        """A sample, or its parts -> the same with its stream transformed."""
        sample = inputs if len(inputs) > 1 else inputs[0]
        leaves, structure = pytree.tree_flatten_with_path(sample)
        meant = self._meant(leaves)
        values = [leaf for _, leaf in leaves]
        applies = bool(torch.rand(()) < self.p)
        params = self.make_params(values)
        if not applies:
            return sample
        made = {place: self.transform(values[place], params) for place in meant}
        self.check_outputs(values, made)
        return pytree.tree_unflatten([made.get(place, leaf) for place, leaf in enumerate(values)], structure)

    def check_outputs(self, values: list[Any], made: dict[int, Any]) -> None:
        """Refuse what would not agree with the rest of the sample; places in `values` -> what stands there now."""

    def _meant(self, leaves: list[tuple[pytree.KeyPath, Any]]) -> list[int]:
        """The places of the stream among the leaves."""
        if self.stream is not None:
            below = [place for place, (path, _) in enumerate(leaves) if stands_under(self.stream, path)]
            if not below:
                raise UserError(f"{type(self).__name__}: the sample has no {self.stream!r}; it holds {told(leaves)}")
            fitting = below if len(below) == 1 else [place for place in below if self.fits(leaves[place][1])]
            return fitting or self._refuse(f"nothing under {self.stream!r}", leaves)
        found = [place for place, (_, leaf) in enumerate(leaves) if _may_be_guessed(leaf) and self.fits(leaf)]
        typed = [place for place in found if isinstance(leaves[place][1], tv_tensors.TVTensor | Pillow)]
        kinds = {type(leaf) if isinstance(leaf, SENSORS) else None for leaf in (leaves[place][1] for place in typed)}
        if not typed and len(found) > 1 or len(kinds) > 1:
            names = " and ".join(pytree.keystr(leaves[place][0]) for place in typed or found)
            raise UserError(f"{type(self).__name__}: {names} may each be {self.wants}; name one with stream=")
        return typed or found or self._refuse("nothing in the sample", leaves)

    def _refuse(self, what: str, leaves: list[tuple[pytree.KeyPath, Any]]) -> list[int]:
        raise UserError(f"{type(self).__name__}: {what} is {self.wants}; it holds {told(leaves)}")


def stands_under(name: str | int, path: pytree.KeyPath) -> bool:
    """Whether a leaf is, or lies below, what has this key anywhere in the sample, or this index in its tuple."""
    if isinstance(name, int):
        return bool(path) and isinstance(path[0], pytree.SequenceKey) and path[0].idx == name
    keys = [entry.key for entry in path if isinstance(entry, pytree.MappingKey)]
    return name in keys + [entry.name for entry in path if isinstance(entry, pytree.GetAttrKey)]


def tensor_of(leaf: Tensor | Pillow) -> Tensor:
    """On the CPU, channels first, without its type and its past; floats become float32."""
    if isinstance(leaf, Pillow):
        if leaf.mode not in MODES:
            raise UserError(f"a picture of mode {leaf.mode!r} cannot be taken; convert it to one of {', '.join(MODES)}")
        return F.pil_to_tensor(leaf)
    tensor = leaf.detach().as_subclass(Tensor).cpu()
    return tensor.float() if tensor.is_floating_point() else tensor


def like(made: Tensor, leaf: Tensor | Pillow) -> Tensor | Pillow:
    """With the type, dtype and device of what it was made from."""
    if isinstance(leaf, Pillow):
        return F.to_pil_image(made, mode=leaf.mode)
    made = made.to(leaf.device, leaf.dtype)
    return wrap(made, like=leaf) if isinstance(leaf, tv_tensors.TVTensor) else made


def described(leaf: Any) -> str:
    """Tensor (1, 800) float32"""
    if isinstance(leaf, Tensor):
        return f"{type(leaf).__name__} {tuple(leaf.shape)} {str(leaf.dtype).removeprefix('torch.')}"
    return f"{type(leaf).__name__} of mode {leaf.mode!r}" if isinstance(leaf, Pillow) else type(leaf).__name__


def told(leaves: list[tuple[pytree.KeyPath, Any]]) -> str:
    """['wave'] Tensor (1, 800) float32, ['label'] int"""
    words = [f"{pytree.keystr(path)} {described(leaf)}".lstrip() for path, leaf in leaves[:MANY]]
    return ", ".join(words) + (", ..." if len(leaves) > MANY else "") if words else "nothing"


def _may_be_guessed(leaf: Any) -> bool:
    return isinstance(leaf, Tensor | Pillow) and not isinstance(leaf, (*LABELS, tv_tensors.Video))
