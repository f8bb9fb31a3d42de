"""Streams that are named by their keys: found in a sample or a batch, and exchanged, all of them together."""
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils import _pytree as pytree           # as torchvision.transforms.v2 does
from torchvision import tv_tensors

from mmcycle.errors import UserError
from mmcycle.transforms.sensors import wrap
from mmcycle.transforms.streams import described, stands_under, told

PRESENT = "present"                     # the key of a sample under which stands which of its streams it has


class Named:
    """A sample or batch taken apart: the tensors of each named stream, and where they stood.

    A name is a key anywhere in the sample, or the index in a tuple; what stands below it belongs to it. Everything
    under "present" is passed by: there the same names say which streams there are.
    """

    def __init__(self, sample: Any, names: Sequence[str | int], asker: object):
        self.sample, self.asker, self.names = sample, type(asker).__name__, tuple(names)
        self._leaves, self._structure = pytree.tree_flatten_with_path(sample)
        self._places = [(name, place) for name in names for place in self._below(name)]
        places = [place for _, place in self._places]
        twice = next((place for place in places if places.count(place) > 1), None)
        if twice is not None:
            self.refuse(f"{pytree.keystr(self._leaves[twice][0])} stands below two of {', '.join(map(repr, names))}")

    @property
    def entries(self) -> list[tuple[str | int, Tensor]]:
        """Every tensor of the streams with the name of its stream, those of one stream together."""
        return [(name, self._leaves[place][1]) for name, place in self._places]

    @property
    def size(self) -> int:
        """The B of a batch, whose streams are all (B, ...)."""
        sizes = {tensor.shape[0] if tensor.ndim else 0 for _, tensor in self.entries}
        if len(sizes) != 1 or sizes == {0}:
            held = ", ".join(f"{name!r} {described(tensor)}" for name, tensor in self.entries)
            self.refuse(f"takes a batch, in which every stream has as many items; it holds {held}")
        return sizes.pop()

    def present(self, size: int | None = None) -> dict[str | int, Tensor]:
        """Which of the named streams there are, as the sample says: () bool of a sample, (size,) of a batch."""
        said = self.sample.get(PRESENT, {}) if isinstance(self.sample, Mapping) else {}
        shape = () if size is None else (size,)
        if not isinstance(said, Mapping):
            self.refuse(f"{PRESENT!r} maps streams to bool tensors; it is {described(said)}")
        masks = {name: torch.as_tensor(said.get(name, torch.ones(shape, dtype=torch.bool))) for name in self.names}
        for name, mask in masks.items():
            if mask.dtype != torch.bool or mask.shape != shape:
                self.refuse(f"{PRESENT!r} of {name!r} is {described(mask)}; it is bool of shape {shape}")
        return masks

    def exchanged(self, made: Sequence[Tensor]) -> Any:
        """The sample with other tensors in the places of `entries`, typed as those were."""
        values = [leaf for _, leaf in self._leaves]
        for (_, place), new in zip(self._places, made, strict=True):
            old = values[place]
            values[place] = wrap(new, like=old) if isinstance(old, tv_tensors.TVTensor) and new is not old else new
        return pytree.tree_unflatten(values, self._structure)

    def refuse(self, sentence: str) -> NoReturn:
        raise UserError(f"{self.asker}: {sentence}")

    def _below(self, name: str | int) -> list[int]:
        places = [place for place, (path, _) in enumerate(self._leaves) if self._stands(name, path)]
        others = [self._leaves[place][1] for place in places if not isinstance(self._leaves[place][1], Tensor)]
        if others or not places:
            found = f"{described(others[0])} stands under {name!r}, no tensor" if others else f"there is no {name!r}"
            self.refuse(f"{found}; the sample holds {told(self._leaves)}")
        return places

    @staticmethod
    def _stands(name: str | int, path: pytree.KeyPath) -> bool:
        return stands_under(name, path) and not stands_under(PRESENT, path)


def along(mask: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, ...), on the device of `like`, to meet its (B, ...)."""
    return mask.to(like.device).reshape(-1, *[1] * (like.ndim - 1))


def probability(p: float, asker: object, of: str = "p") -> float:
    if not 0 <= p <= 1:
        raise UserError(f"{type(asker).__name__}: {of} is {p}; a probability lies in [0, 1]")
    return p


def listed(names: Sequence[str | int], asker: object) -> tuple[str | int, ...]:
    """The names of streams as given to a transform: one at least, and no string in the place of a list."""
    if isinstance(names, str) or not names or len(set(names)) != len(names):
        raise UserError(f"{type(asker).__name__}: streams is {names!r}; it lists names, each once: ('camera', 'wave')")
    return tuple(names)

