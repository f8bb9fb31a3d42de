"""A sample's leaves, by their place, their name and their type.

A name is a key anywhere in the sample; what stands below it belongs to it.
"""
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from PIL.Image import Image as Pillow
from torch import Tensor
from torch.utils import _pytree as pytree           # as torchvision.transforms.v2 does
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from mmcycle.errors import UserError
from mmcycle.transforms.streams import described, stands_under, told

FLAT = (tv_tensors.Image, tv_tensors.Video, tv_tensors.Mask, tv_tensors.BoundingBoxes, tv_tensors.KeyPoints, Pillow)


class Leaves:
    """A sample taken apart: its leaves, and where they stood. What stands under the names in `whole` is one leaf."""

    def __init__(self, sample: Any, asker: str, whole: Sequence[str] = ()):
        chosen = {id(node) for node in _under(sample, whole)}
        self.leaves, self._structure = pytree.tree_flatten_with_path(sample, is_leaf=lambda node: id(node) in chosen)
        self.values, self.asker = [leaf for _, leaf in self.leaves], asker

    def below(self, name: str) -> list[int]:
        """The places of what stands under this name; at least one."""
        places = [place for place, (path, _) in enumerate(self.leaves) if stands_under(name, path)]
        return places or self.refuse(f"the sample has no {name!r}; it holds {told(self.leaves)}")

    def tensors(self, name: str, *shapes: tuple[int, ...]) -> list[int]:
        """The places below this name, all of them floats of one of the shapes; -1 stands for any number."""
        for place in (places := self.below(name)):
            leaf = self.values[place]
            if not isinstance(leaf, Tensor) or not any(_is_of(leaf, shape) for shape in shapes):
                allowed = " or ".join(str(shape).replace("-1", "N") for shape in shapes)
                self.refuse(f"{name!r} is {described(leaf)}; it is floats of {allowed}")
        return places

    def of(self, *kinds: type) -> list[int]:
        return [place for place, leaf in enumerate(self.values) if isinstance(leaf, kinds)]

    @property
    def flat(self) -> list[int]:
        """Pictures and what lies on them, which torchvision crops and flips: those with a type."""
        return self.of(*FLAT)

    def size(self) -> tuple[int, int]:
        """Height and width, in pixels, of all that is flat."""
        sizes = {tuple(F.get_size(self.values[place])) for place in self.flat}
        if len(sizes) != 1:
            kinds = " and ".join(f"{height} x {width}" for height, width in sorted(sizes)) or "no pictures"
            self.refuse(f"the pictures of a sample have one size, and this holds {kinds}; {told(self.leaves)}")
        return sizes.pop()

    def put_together(self, made: Mapping[int, Any]) -> Any:
        return pytree.tree_unflatten([made.get(place, leaf) for place, leaf in enumerate(self.values)], self._structure)

    def refuse(self, sentence: str) -> NoReturn:
        raise UserError(f"{self.asker}: {sentence}")


def listed(names: str | Sequence[str]) -> tuple[str, ...]:
    """One name is a list of one."""
    return (names,) if isinstance(names, str) else tuple(names)


def companions(given: Mapping[str, str | Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
    """The name of a stream -> the names of what has as many rows and goes with them."""
    return {name: listed(names) for name, names in (given or {}).items()}


def _under(sample: Any, names: Sequence[str]) -> Iterable[Any]:
    """What stands under these names, lists as such."""
    fields = getattr(sample, "_fields", ())
    if isinstance(sample, Mapping) or fields:
        items = sample.items() if isinstance(sample, Mapping) else zip(fields, sample, strict=True)
        for key, value in items:
            yield from [value] if key in names else _under(value, names)
    elif isinstance(sample, list | tuple):
        for value in sample:
            yield from _under(value, names)


def _is_of(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    fits = (want in (-1, has) for want, has in zip(shape, tensor.shape, strict=True))
    return tensor.is_floating_point() and tensor.ndim == len(shape) and all(fits)
