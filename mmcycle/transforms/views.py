"""What cameras and scanners see: pictures and their matrices, directions and columns, mirrored and cut.

Axes of a body, and of its points: x ahead, y left, z up. Axes of a camera: x right, y down, z ahead. The middle of a
picture's first pixel is at 0, its edges at -0.5 and 0.5. Azimuths are degrees, positive to the left.
"""
from math import atan2, degrees, radians, tan

import torch
from torch import Tensor

from mmcycle.errors import UserError
from mmcycle.transforms.sensors import Boxes3D, Points, RangeImage, wrap


def mirrored_matrix(matrix: Tensor, width: int) -> Tensor:
    """Intrinsics (3, 3), or (3, 4) with the offset of a stereo pair, of the camera that sees the mirrored world.

    With M = [-1 0 width-1; 0 1 0; 0 0 1] for pixels and D = diag(-1, 1, 1, 1) for places it is M K D.
    """
    flip = matrix.new_tensor([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]])
    places = torch.ones_like(matrix[0])
    places[0] = -1
    return flip @ matrix * places


def mirrored_pose(pose: Tensor) -> Tensor:
    """(3 or 4, 4) from the axes of a body to those of a camera -> the same in the mirrored world."""
    left_of_camera = torch.ones_like(pose[:, :1])
    left_of_camera[0] = -1
    return left_of_camera * pose * pose.new_tensor([1, -1, 1, 1])


def mirrored_points(points: Points) -> Points:
    """y -> -y; further columns are taken for numbers without a side."""
    return wrap(points * _signs(points, 1), like=points)


def mirrored_boxes(boxes: Boxes3D) -> Boxes3D:
    """y and yaw change their signs."""
    return wrap(boxes * _signs(boxes, 1, 6), like=boxes)


def mirrored_range(image: RangeImage) -> RangeImage:
    """Columns from right to left, the window on the other side."""
    middle, width = image.azimuth
    return RangeImage(image.flip(-1), azimuth=(0.0 - middle, width))


def cut_matrix(matrix: Tensor, top: int, left: int, down: float = 1.0, right: float = 1.0) -> Tensor:
    """Intrinsics of the part of a picture that begins at (top, left), its sides then stretched by (down, right)."""
    move = matrix.new_tensor(
        [[right, 0, right * (0.5 - left) - 0.5], [0, down, down * (0.5 - top) - 0.5], [0, 0, 1]]
    )
    return move @ matrix


def matrix_of(fov: float, width: int, height: int) -> Tensor:
    """Intrinsics (3, 3) of a camera that sees `fov` degrees from left to right, its axis in the picture's middle."""
    focal = width / 2 / tan(radians(fov) / 2)
    return torch.tensor(
        [[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]], dtype=torch.float64
    )


def directions(matrix: Tensor, left: int, width: int) -> tuple[float, float]:
    """Azimuths, relative to the camera's axis, of the left and the right edge of these columns of its picture."""
    focal, centre = float(matrix[0, 0]), float(matrix[0, 2])
    edges = (left - 0.5, left + width - 0.5)
    return tuple(degrees(atan2(centre - edge, focal)) for edge in edges)


def seen_between(places: Tensor, left: float, right: float) -> Tensor:
    """(N, 3 or more) -> (N,) whether the azimuth lies between `left` and `right`, across the back too."""
    azimuth = torch.rad2deg(torch.atan2(places[:, 1].double(), places[:, 0].double()))
    return torch.remainder(left - azimuth, 360) < left - right


def seen_through(places: Tensor, matrix: Tensor, pose: Tensor, left: int, width: int) -> Tensor:
    """(N, 3 or more) -> (N,) whether it lies before the camera and in these columns of its picture, however high."""
    at_camera = _moved(pose, places[:, :3].double())
    across, _, depth = _moved(matrix, at_camera).unbind(1)
    column = across / depth
    return (depth > 0) & (column >= left - 0.5) & (column < left + width - 0.5)


def cut_range(image: RangeImage, left: float, right: float, columns: int | None) -> RangeImage:
    """The columns from azimuth `left` down to `right`, to the nearest, or so many around their middle.

    A full turn has no seam; what a smaller window does not show is not there.
    """
    (middle, width), total = image.azimuth, image.shape[-1]
    per_degree = total / width
    ahead = _turned((left + right) / 2 - middle)        # the window's middle, seen from that of the picture
    begin, end = ((width / 2 - ahead + half) * per_degree for half in ((right - left) / 2, (left - right) / 2))
    first, count = round(begin), max(1, round(end) - round(begin))
    if columns:
        first, count = round((begin + end - columns) / 2), columns
    if width < 360:
        last = min(total, first + count)
        first = max(0, first)
        if columns:                                     # as many as were asked for, if need be not quite in the middle
            first = max(0, min(first, total - columns))
            last = first + columns
        count = last - first
    if not 0 < count <= total:
        raise UserError(
            f"SyncCrop: {columns or 'the'} columns from {left:.1f} to {right:.1f} degrees are not in a range image of "
            f"{total} columns, whose azimuth is {image.azimuth}"
        )
    kept = image[..., torch.arange(first, first + count, device=image.device) % total]
    middle = _turned(middle + width / 2 - (first + count / 2) / per_degree)
    return RangeImage(kept, azimuth=(middle, count / per_degree))


def _turned(azimuth: float) -> float:
    """The same direction within [-180, 180)."""
    return (azimuth + 180) % 360 - 180


def _moved(matrix: Tensor, places: Tensor) -> Tensor:
    """(3 or 4, 3 or 4) of (N, 3) -> (N, 3); a fourth column moves."""
    matrix = matrix.to(places)
    turned = places @ matrix[:3, :3].T
    return turned + matrix[:3, 3] if matrix.shape[1] == 4 else turned


def _signs(like: Tensor, *sides: int) -> Tensor:
    signs = torch.ones_like(like[0]) if len(like) else like.new_ones(like.shape[1])
    signs[list(sides)] = -1
    return signs
