"""Sweeps as tensors of somebody's own samples: points (N, 4 to 16), or range images (2 or 3, H, W), all float32.

Points are x, y, z, intensity and whatever else; a range image is metres, intensity and, as a third channel, whether
there is a return. Intensities are in the units of the domain's files. No place, (0, 0, 0) or NaN, and no metres, 0 or
NaN, mean no return.
"""
import numpy as np

from mmcycle.errors import UserError
from mmcycle.modalities.point_files import Sweep
from mmcycle.modalities.range_files import RangeImage

COLUMNS = (4, 16)                                   # fewest and most numbers of a point


def recording(array: np.ndarray, rows: int, columns: int, full_intensity: float) -> Sweep | RangeImage | None:
    """None where the array has neither form; UserError where its numbers are none of a sweep."""
    if array.dtype != np.float32:
        return None
    if array.ndim == 2 and len(array) and COLUMNS[0] <= array.shape[1] <= COLUMNS[1]:
        return _sweep(array, full_intensity)
    if array.ndim == 3 and len(array) in (2, 3) and array.shape[1:] == (rows, columns):
        return _image(array, full_intensity)
    return None


def as_points(sweep: Sweep, like: np.ndarray) -> np.ndarray:
    """(M, K): the rows of `like` (N, K) that still have their point, and those that never had one, in their order;
    then the points that are new, the further columns of which are 0.
    """
    known = sweep.kept >= 0
    rows, stays = sweep.kept[known], ~_placed(like)
    changed = like.copy()
    changed[rows, :3], changed[rows, 3] = sweep.points[known], sweep.intensity[known]
    stays[rows] = True
    fresh = np.zeros((int((~known).sum()), like.shape[1]), like.dtype)
    fresh[:, :3], fresh[:, 3] = sweep.points[~known], sweep.intensity[~known]
    return np.concatenate([changed[stays], fresh])


def as_image(image: RangeImage, like: np.ndarray) -> np.ndarray:
    """(2 or 3, H, W): 0 in every channel where nothing returns. UserError where the grid is not that of `like`."""
    if image.range.shape != like.shape[1:]:
        (rows, columns), had = image.range.shape, like.shape
        raise UserError(
            f"this model makes range images of {rows} x {columns} from those of {had[1]} x {had[2]}, which cannot take "
            "their place; give it points (N, 4), which have no grid"
        )
    there = image.range > 0
    channels = [image.range, np.where(there, image.remission, 0), there]
    return np.stack(channels[: len(like)]).astype(like.dtype)


def _sweep(array: np.ndarray, full_intensity: float) -> Sweep:
    kept = np.flatnonzero(_placed(array))
    points, light = array[kept, :3], array[kept, 3]
    if not len(kept):
        raise UserError(f"none of the {len(array)} points of a sample has a place; leave such a sweep out")
    if not (np.isfinite(points).all() and np.isfinite(light).all()):
        raise UserError("a sample has points whose place or intensity is not finite; remove them before translating")
    _check_light(light, full_intensity)
    return Sweep(points.copy(), light.copy(), kept=kept)


def _image(array: np.ndarray, full_intensity: float) -> RangeImage:
    there = ~np.isnan(array[0]) & (array[0] != 0) & ((array[2] > 0) if len(array) == 3 else True)
    metres, light = np.where(there, array[0], 0), np.where(there, array[1], 0)
    if not there.any():
        raise UserError("a range image of a sample has no return; leave it out")
    if not (np.isfinite(metres).all() and np.isfinite(light).all()) or metres.min() < 0:
        raise UserError(
            f"a range image of a sample has ranges from {metres.min():g} to {metres.max():g}; give finite metres, and "
            "finite intensities, before they are normalised"
        )
    _check_light(light[there], full_intensity)
    return RangeImage(metres, light)


def _check_light(light: np.ndarray, full: float) -> None:
    """A few beyond full intensity are cut; most of them beyond it are in other units."""
    middle = float(np.median(light))
    if not 0 <= middle <= full:
        raise UserError(
            f"half of a sample's intensities are beyond {middle:g}, the model knows 0 to {full:g}; "
            "give them in the units of its files"
        )


def _placed(points: np.ndarray) -> np.ndarray:
    """(N,) whether there is a point at all."""
    place = points[:, :3]
    return place.any(axis=1) & ~np.isnan(place).any(axis=1)
