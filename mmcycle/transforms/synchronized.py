"""Transforms that happen to all streams of a sample at once, by one draw: one coin, one time window, one crop.

Streams are found by their type, tensors without a type by the names given: keys, anywhere in the sample.
"""
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from PIL.Image import Image as Pillow
from torch.utils import _pytree as pytree           # as torchvision.transforms.v2 does
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform
from torchvision.transforms.v2 import functional as F

from mmcycle.errors import UserError
from mmcycle.transforms.leaves import Leaves, listed
from mmcycle.transforms.sensors import Boxes3D, Frames, Points, RangeImage, Wave, wrap
from mmcycle.transforms.streams import stands_under, told
from mmcycle.transforms.views import mirrored_boxes, mirrored_matrix, mirrored_points, mirrored_pose, mirrored_range


class SyncTransform(Transform, ABC):
    """With probability p it happens to the whole sample.

    All that is random is drawn from torch's global generator, and equally much for every sample.
    """

    draws = 0                                       # numbers in [0, 1) that a sample takes, beside the coin

    def __init__(self, p: float):
        super().__init__()
        if not 0 <= p <= 1:
            raise UserError(f"{type(self).__name__}: p is {p}; a probability lies in [0, 1]")
        self.p = p

    def forward(self, *inputs: Any) -> Any:
        """A sample, or its parts -> the same, with all that belongs together changed together."""
        sample = inputs if len(inputs) > 1 else inputs[0]
        coin, *shares = torch.rand(1 + self.draws, dtype=torch.float64).tolist()
        if coin >= self.p:
            return sample
        leaves = self.taken_apart(sample)
        return leaves.put_together(self.changed(leaves, shares))

    def taken_apart(self, sample: Any) -> Leaves:
        return Leaves(sample, type(self).__name__)

    def through(self, kernel: Callable[..., Any], leaf: Any, *arguments: Any) -> Any:
        """One of torchvision's functions of what is flat; before 0.29 it dropped the rate of frames."""
        made = self._call_kernel(kernel, leaf, *arguments)
        return wrap(made, like=leaf) if isinstance(leaf, Frames) else made

    @abstractmethod
    def changed(self, leaves: Leaves, shares: list[float]) -> dict[int, Any]:
        """What is to stand at which places."""


class SyncMirror(SyncTransform):
    """With probability p, left and right change places, in every stream of the sample.

        SyncMirror(pairs=[("left", "right")], intrinsics="K", poses="lidar_to_camera")

    pairs        names of streams that change places: the cameras of a stereo pair, each with all that stands below it
    intrinsics   names of (3, 3) or (3, 4) matrices from places before the camera to pixels
    poses        names of (3, 4) or (4, 4) matrices from the axes of points (x ahead, y left) to a camera's (x right)
    ears         whether a Wave of two channels has a left and a right one, which change places

    Pictures, frames, masks, boxes and key points are flipped, as torchvision does it; y of Points, y and yaw of
    Boxes3D, columns of a RangeImage. What only words say is left as it is ("turns left"; a left hand's key point).
    """

    def __init__(
        self, p: float = 0.5, *, pairs: Iterable[tuple[str, str]] = (), intrinsics: str | Sequence[str] = (),
        poses: str | Sequence[str] = (), ears: bool = True,
    ):
        super().__init__(p)
        self.pairs, self.ears = [tuple(pair) for pair in pairs], ears
        if any(len(pair) != 2 for pair in self.pairs):
            raise UserError(f"SyncMirror: pairs is {pairs!r}; it lists pairs of names: [('left', 'right')]")
        self.intrinsics, self.poses = listed(intrinsics), listed(poses)

    def changed(self, leaves: Leaves, shares: list[float]) -> dict[int, Any]:
        places = leaves.of(tv_tensors.TVTensor, Pillow)
        if not places:
            leaves.refuse(f"nothing in the sample has a type, such as tv_tensors.Mask; it holds {told(leaves.leaves)}")
        made = {place: self._mirrored(leaves.values[place]) for place in places}
        for name in self.intrinsics:
            for place in leaves.tensors(name, (3, 3), (3, 4)):
                made[place] = mirrored_matrix(leaves.values[place], leaves.size()[1])
        for name in self.poses:
            for place in leaves.tensors(name, (3, 4), (4, 4)):
                made[place] = mirrored_pose(leaves.values[place])
        for pair in self.pairs:
            made |= self._exchanged(leaves, made, *pair)
        return made

    def _mirrored(self, leaf: Any) -> Any:
        for kind, mirror in MIRRORS.items():
            if isinstance(leaf, kind):
                return mirror(leaf)
        if isinstance(leaf, Wave):
            two = self.ears and leaf.ndim > 1 and leaf.shape[-2] == 2
            return wrap(leaf.flip(-2), like=leaf) if two else leaf
        return self.through(F.horizontal_flip, leaf)

    def _exchanged(self, leaves: Leaves, made: dict[int, Any], one: str, other: str) -> dict[int, Any]:
        there = {name: _from(name, leaves) for name in (one, other)}
        if there[one].keys() != there[other].keys():
            leaves.refuse(f"{one!r} and {other!r} hold different things and stay apart: {told(leaves.leaves)}")
        now = {place: made.get(place, leaves.values[place]) for side in there.values() for place in side.values()}
        ways = [(there[one][key], there[other][key]) for key in there[one]]
        return {to: now[come] for pair in ways for come, to in (pair, pair[::-1])}


MIRRORS: dict[type, Callable[[Any], Any]] = {
    Points: mirrored_points, Boxes3D: mirrored_boxes, RangeImage: mirrored_range,
}


def _from(name: str, leaves: Leaves) -> dict[str, int]:
    """What stands below a name: the way on from there -> its place."""
    found = {}
    for place in leaves.below(name):
        path = leaves.leaves[place][0]
        depth = next(depth for depth in range(1, len(path) + 1) if stands_under(name, path[:depth]))
        found[pytree.keystr(path[depth:])] = place
    return found
