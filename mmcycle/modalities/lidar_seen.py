"""What the networks see of a recording of a LiDAR, and how the recording follows when that is changed.

Letters: N points of a sweep, H rows and W columns of its range image.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mmcycle.modalities.lidar_projection import Projection, restore, unproject
from mmcycle.modalities.lidar_sensor import SensorSpec
from mmcycle.modalities.point_files import RINGS, Sweep
from mmcycle.modalities.range_files import RangeImage

NOBODY = -1                                         # `Sweep.kept` of a point that no file had


@dataclass(frozen=True, eq=False)
class Seen:
    """(H, W) metres, 0 where nothing is seen, and shares of full intensity.

    projection  which points are behind a pixel; None of a range image
    """

    raw: Sweep | RangeImage
    spec: SensorSpec
    range: Tensor
    intensity: Tensor
    projection: Projection | None = None

    def changed(self, metres: Tensor, light: Tensor, keep: Tensor) -> Sweep | RangeImage:
        """The recording with new ranges and shares of intensity, without the pixels that are not kept; all (H, W)."""
        if isinstance(self.raw, RangeImage):
            return self._changed_image(self.raw, metres, light, keep)
        left, kept = restore(table(self.raw), self.projection, metres, keep, light)
        sweep, columns = self.raw.keep(kept.numpy()), left.numpy()
        points, intensity = columns[:, :3].astype(sweep.points.dtype), columns[:, 3].astype(sweep.intensity.dtype)
        return replace(sweep, points=points, intensity=intensity)

    def grown(self, left: Sweep | RangeImage, fresh: Tensor, metres: Tensor, light: Tensor) -> Sweep | RangeImage:
        """What `changed` left, with returns in the middle of the pixels (H, W) that had none; no label knows them."""
        if isinstance(left, RangeImage):
            shine = torch.where(fresh, light * self.spec.intensity_scale, torch.tensor(left.remission))
            there = torch.where(fresh, metres, torch.tensor(left.range))
            return replace(left, range=there.numpy(), remission=shine.numpy())
        new = unproject(torch.where(fresh, metres, 0), light, self.spec).numpy()
        extra = {name: np.zeros((len(new), *column.shape[1:]), column.dtype) for name, column in left.extra.items()}
        ring = next((name for name in extra if name.lower() in RINGS), None)
        if ring is not None and self.raw.ring is not None:
            extra[ring][:] = self._rings(fresh)
        return Sweep(
            np.concatenate([left.points, new[:, :3].astype(left.points.dtype)]),
            np.concatenate([left.intensity, new[:, 3].astype(left.intensity.dtype)]),
            {name: np.concatenate([column, extra[name]]) for name, column in left.extra.items()},
            np.concatenate([left.kept, np.full(len(new), NOBODY)]),
            replace(left.table, shape=None) if left.table else None,
        )

    def _changed_image(self, image: RangeImage, metres: Tensor, light: Tensor, keep: Tensor) -> RangeImage:
        known, old, shine = self.range > 0, torch.tensor(image.range), torch.tensor(image.remission)
        there = torch.where(metres != self.range, metres, old)
        there = torch.where(known, torch.where(keep, there, 0), old)
        shine = torch.where((light != self.intensity) & known, light * self.spec.intensity_scale, shine)
        return replace(image, range=there.numpy(), remission=torch.where(known & ~keep, 0, shine).numpy())

    def _rings(self, fresh: Tensor) -> np.ndarray:
        """(M,) the ring of each fresh pixel: that of its row, or between those of the rows around it."""
        mask = self.projection.mask
        ring = self.raw.ring[self.projection.index[mask].numpy()]
        rows, first = np.unique(mask.nonzero()[:, 0].numpy(), return_index=True)
        return np.rint(np.interp(fresh.nonzero()[:, 0].numpy(), rows, ring[first]))


def table(sweep: Sweep, rings: np.ndarray | None = None) -> np.ndarray:
    """(N, 4 or 5): x, y, z, intensity and, where it is told, the ring."""
    columns = [sweep.points, sweep.intensity[:, None]] + ([] if rings is None else [rings[:, None]])
    kind = np.result_type(sweep.points, sweep.intensity)
    return np.concatenate(columns, axis=1, dtype=kind, casting="unsafe")
