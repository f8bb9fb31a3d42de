"""One crop of what a camera sees, and of what other sensors saw in these directions."""
from collections.abc import Mapping, Sequence
from math import atan2, degrees
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree           # as torchvision.transforms.v2 does
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from mmcycle.errors import UserError
from mmcycle.transforms.leaves import Leaves, companions, listed
from mmcycle.transforms.sensors import Boxes3D, Points, RangeImage, wrap
from mmcycle.transforms.streams import described
from mmcycle.transforms.synchronized import SyncTransform
from mmcycle.transforms.views import cut_matrix, cut_range, directions, matrix_of, seen_between, seen_through


class SyncCrop(SyncTransform):
    """With probability p, a random window of the pictures, and of sweeps what lies in its directions.

        SyncCrop((224, 448), intrinsics="K", pose="lidar_to_camera", with_points={"points": "point_labels"})

    size         height and width of the pictures that come out, in pixels
    scale        (low, high) in (0, 1]: the window's sides, as shares of the largest one of this form that fits, and it
                 is resized to `size`; None: the window is `size` itself
    intrinsics   names of (3, 3) or (3, 4) matrices from places before the camera to pixels, which are changed too; the
                 first tells what the window sees
    fov          degrees that the whole picture sees from left to right, where there are no intrinsics
    heading      degrees to the left into which the camera looks, in the axes of the points
    pose         name of the (3, 4) or (4, 4) matrix from the axes of the points to the camera's (z ahead): the points
                 are those that its columns show. None: camera and scanner stand at one place, directions decide
    with_points  name of Points or Boxes3D -> names of what has as many rows and goes with them
    columns      pixels that a range image keeps around the middle of the window; None: exactly those that it sees,
                 more in the middle of the picture than at its sides

    Pictures, frames, masks, boxes and key points are cut as torchvision does it (its SanitizeBoundingBoxes, after this,
    drops boxes that nothing is left of). A point is kept at whatever height; a Boxes3D whose centre is seen. A range
    image keeps the columns of the window's directions, as if camera and scanner stood at one place.
    """

    draws = 3

    def __init__(
        self, size: tuple[int, int], p: float = 1.0, *, scale: tuple[float, float] | None = None,
        intrinsics: str | Sequence[str] = (), fov: float | None = None, heading: float = 0.0, pose: str | None = None,
        with_points: Mapping[str, str | Sequence[str]] | None = None, columns: int | None = None,
    ):
        super().__init__(p)
        if len(size) != 2 or min(size) < 1:
            raise UserError(f"SyncCrop: size is {size}; it is (height, width) in pixels")
        if scale and not 0 < scale[0] <= scale[1] <= 1:
            raise UserError(f"SyncCrop: scale is {scale}; it lies in (0, 1], the lower end first")
        if fov is not None and not 0 < fov < 180:
            raise UserError(f"SyncCrop: fov is {fov}; a flat picture sees more than 0 and less than 180 degrees")
        if columns is not None and columns < 1:
            raise UserError(f"SyncCrop: columns is {columns}; it is 1 at least")
        self.intrinsics = listed(intrinsics)
        if self.intrinsics and fov is not None:
            raise UserError("SyncCrop: the intrinsics tell what is seen; leave out fov")
        if pose and (heading or not self.intrinsics):
            raise UserError("SyncCrop: a pose needs intrinsics, to tell the pixels of points, and takes no heading")
        self.size, self.scale, self.fov, self.heading, self.pose = tuple(size), scale, fov, heading, pose
        self.with_points, self.columns = companions(with_points), columns

    def changed(self, leaves: Leaves, shares: list[float]) -> dict[int, Any]:
        window = self._window(leaves, shares)
        made = {place: self._cut(leaves.values[place], window) for place in leaves.flat}
        matrices = [place for name in self.intrinsics for place in leaves.tensors(name, (3, 3), (3, 4))]
        top, left, height, width = window
        stretch = (self.size[0] / height, self.size[1] / width)
        made |= {place: cut_matrix(leaves.values[place], top, left, *stretch) for place in matrices}
        if leaves.of(Points, Boxes3D, RangeImage):
            made |= self._seen(leaves, self._matrix(leaves, matrices), left, width)
        return made

    def _window(self, leaves: Leaves, shares: list[float]) -> tuple[int, int, int, int]:
        """top, left, height, width"""
        have, (height, width) = leaves.size(), self.size
        if self.scale:
            low, high = self.scale
            share = low + (high - low) * shares[0]
            fit = min(have[0] / height, have[1] / width) * share
            height, width = (max(1, min(most, round(side * fit))) for most, side in zip(have, self.size, strict=True))
        if height > have[0] or width > have[1]:
            leaves.refuse(
                f"{height} x {width} pixels do not fit into pictures of {have[0]} x {have[1]}; "
                "resize them before, or give scale"
            )
        return int(shares[1] * (have[0] - height + 1)), int(shares[2] * (have[1] - width + 1)), height, width

    def _cut(self, leaf: Any, window: tuple[int, int, int, int]) -> Any:
        cut = self.through(F.crop, leaf, *window)
        return self.through(F.resize, cut, list(self.size)) if self.scale else cut

    def _matrix(self, leaves: Leaves, matrices: list[int]) -> Tensor:
        if matrices:
            return leaves.values[matrices[0]].double()
        if self.fov is None:
            leaves.refuse("to know what of a sweep the window sees it needs intrinsics=, or fov= in degrees")
        height, width = leaves.size()
        return matrix_of(self.fov, width, height)

    def _seen(self, leaves: Leaves, matrix: Tensor, left: int, width: int) -> dict[int, Any]:
        pose = leaves.values[leaves.tensors(self.pose, (3, 4), (4, 4))[0]].double() if self.pose else None
        heading = self.heading if pose is None else degrees(atan2(pose[2, 1], pose[2, 0]))
        edges = [heading + edge for edge in directions(matrix, left, width)]
        rows = {}
        for place in leaves.of(Points, Boxes3D):
            places = leaves.values[place].as_subclass(Tensor)
            together = pose is None
            rows[place] = seen_between(places, *edges) if together else seen_through(places, matrix, pose, left, width)
        rows |= self._beside(leaves, rows)
        made = {place: _rows(leaves.values[place], keep) for place, keep in rows.items()}
        return made | {place: cut_range(leaves.values[place], *edges, self.columns) for place in leaves.of(RangeImage)}

    def _beside(self, leaves: Leaves, rows: dict[int, Tensor]) -> dict[int, Tensor]:
        """Which rows of what goes with the points are kept."""
        found = {}
        for name, beside in self.with_points.items():
            streams = [place for place in leaves.below(name) if place in rows]
            for label in beside:
                mates = leaves.below(label)
                if [_length(leaves.values[mate]) for mate in mates] != [len(rows[place]) for place in streams]:
                    has = ", ".join(described(leaves.values[place]) for place in (*streams, *mates))
                    leaves.refuse(f"{label!r} goes with {name!r}, as many rows with as many points; they are {has}")
                found |= {mate: rows[place] for place, mate in zip(streams, mates, strict=True)}
        self._refuse_forgotten(leaves, rows, found)
        return found

    def _refuse_forgotten(self, leaves: Leaves, rows: dict[int, Tensor], found: dict[int, Tensor]) -> None:
        named = {place for name in (*self.intrinsics, self.pose) if name for place in leaves.below(name)}
        for place in set(range(len(leaves.values))) - {*rows, *found, *named, *leaves.of(tv_tensors.TVTensor)}:
            for points in leaves.of(Points):
                if _length(leaves.values[place]) == len(rows[points]) > 0:
                    where = [pytree.keystr(leaves.leaves[one][0]) for one in (place, points)]
                    leaves.refuse(f"{where[0]} has as many rows as {where[1]}; say with_points= that it goes with them")


def _length(leaf: Any) -> int:
    """-1: it has no rows."""
    return len(leaf) if isinstance(leaf, Tensor) and leaf.ndim else -1


def _rows(leaf: Tensor, keep: Tensor) -> Tensor:
    kept = leaf[keep.to(leaf.device)]
    return wrap(kept, like=leaf) if isinstance(leaf, tv_tensors.TVTensor) else kept
