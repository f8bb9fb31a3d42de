"""Sweeps of a spinning LiDAR, seen by the networks as range images: range, intensity, and where something returned.

Letters: N points of a sweep, H rows and W columns of the sensor's grid.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from mmcycle.errors import RecordingError, UserError
from mmcycle.modalities import lidar_array, point_files, range_files
from mmcycle.modalities.lidar_sensor import MOST_COLUMNS, SensorSpec, check_light, preset
from mmcycle.modalities.point_files import Sweep, read_sweep, write_sweep
from mmcycle.modalities.point_labels import PointLabels, keep_labels, read_labels, write_labels
from mmcycle.modalities.point_table import MAX_POINTS
from mmcycle.modalities.range_files import RangeImage, read_range_image, write_range_image
from mmcycle.modality import Cloud, Drawing, Fit, Modality

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mmcycle.core.heads import Head
    from mmcycle.modalities.lidar_head import Scale
    from mmcycle.modalities.lidar_projection import Projection
    from mmcycle.modalities.lidar_seen import Seen

Run = tuple[Annotated[int, Ge(0)], Annotated[int, Ge(0)], Annotated[int, Ge(0)]]
UNLABELLED = 0                                      # of SemanticKITTI; "noise" of nuScenes lidarseg


@dataclass(frozen=True, kw_only=True)
class Lidar(Modality):
    """Sweeps as points (.bin, .pcd.bin, .pcd, .ply, .npy), or as range images (.npz).

    The networks see the nearest point of every pixel. A file comes back with its own points, columns and format: what
    is asked of a pixel happens to all points behind it, each on its own ray, and what the grid cannot show (beyond its
    window or its limits) stays as it was. Points that go take their labels with them.
    """

    sensor: str | SensorSpec = "hdl-64e"            # a preset, or rows, fov or measured ... of your own
    columns: Annotated[int, Gt(0), Le(MOST_COLUMNS)] | None = None      # of the range image; none: the sensor's own
    max_range: Annotated[float, Gt(0)] | None = None                    # metres; none: the sensor's own
    full_intensity: Annotated[float, Gt(0)] | None = None   # as files hold it: 1, 100, 255; none: the sensor's own
    window: Annotated[int, Gt(0)] | None = None     # columns of a training crop, all rows; none: every column
    projection: Literal["auto", "ring", "unfold", "elevation"] = "auto"     # how points find their row
    ego: tuple[Run, ...] = ()                       # (row, first column, last): what the carrier hides, in both domains
    change: Literal["any", "returns"] = "any"       # what becoming this domain may do to a sweep:
    #   any      every pixel is made anew     returns  returns may be lost, recoloured, and shifted within max_shift
    max_shift: Annotated[float, Ge(0)] = 0.05       # metres
    temperature: Annotated[float, Gt(0)] = 1.0      # of the choice which returns are lost, while learning it
    max_points: Annotated[int, Gt(0), Le(MAX_POINTS)] = MAX_POINTS      # larger files are refused before they are read

    suffixes: ClassVar[tuple[str, ...]] = (*point_files.SUFFIXES, *range_files.SUFFIXES)

    def __post_init__(self) -> None:
        spec = self.spec
        if self.window is not None and self.window > spec.columns:
            raise UserError(f"window: got {self.window}; the range image has {spec.columns} columns")
        for row, first, last in self.ego:
            if not (row < spec.rows and first <= last < spec.columns):
                raise UserError(
                    f"ego: got ({row}, {first}, {last}); it is (row, first column, last column) within "
                    f"{spec.rows} rows and {spec.columns} columns"
                )

    @property
    def spec(self) -> SensorSpec:
        """The sensor with every number filled in."""
        return _spec(self.sensor, self.columns, self.max_range, self.full_intensity)

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.spec.rows, self.window or self.spec.columns

    @property
    def wraps(self) -> bool:
        """Only where a crop is the whole turn: the networks never see the two ends of a narrower one meet."""
        return self.spec.full_turn and self.shape[2] == self.spec.columns

    def load(self, path: Path) -> Sweep | RangeImage:
        """Also refused: what holds nothing that this sensor could see, is of another grid, or in other units."""
        return self.read(path, units=True)

    def read(self, path: Path, units: bool) -> Sweep | RangeImage:
        """units: whether intensities in other units are refused, as `load` does; `fit` is there to tell them."""
        try:
            if path.suffix.lower() in range_files.SUFFIXES:
                image = read_range_image(path, self.max_points)
                self._check_image(image)
                return image
            sweep = read_sweep(path, self.max_points)
            self._check_sweep(sweep)
            if units:
                check_light(sweep.intensity, self.spec.intensity_scale)
        except RecordingError as error:
            raise error if path.name in str(error) else RecordingError(f"{path}: {error}") from error
        return sweep

    def save(self, raw: Sweep | RangeImage, path: Path) -> None:
        """By the suffix: points become a range image, a range image becomes points in the middle of its pixels."""
        if path.suffix.lower() in range_files.SUFFIXES:
            write_range_image(raw if isinstance(raw, RangeImage) else self._as_image(raw), path)
        else:
            write_sweep(raw if isinstance(raw, Sweep) else self._as_sweep(raw), path)

    def to_tensor(self, raw: Sweep | RangeImage) -> tuple[Tensor, Seen]:
        seen = self._seen(raw)
        return self._sample(seen), seen

    def from_tensor(self, x: Tensor, context: Seen | None) -> Sweep | RangeImage:
        """Every pixel that changed gets its new range and intensity, or loses its points; what is new is added last.

        No context: points in the middle of their pixels, in KITTI's order. A sweep has at least one return.
        """
        import torch

        x = x.detach().float().cpu()
        hidden = self._hidden(x)
        there = _some((x[2] > 0) & ~hidden, x[2] - 4 * hidden)
        metres, light = self._scale.to_metres(x[0]), (x[1].clamp(-1, 1) + 1) / 2
        if context is None or context.range.shape != there.shape:
            return self._made(torch.where(there, metres, 0), light)
        before, known = self._sample(context), context.range > 0
        metres = torch.where(((x[0] == before[0]) | hidden) & known, context.range, metres)
        light = torch.where(((x[1] == before[1]) | hidden) & known, context.intensity, light)
        left = context.changed(metres, light, there | hidden)
        fresh = there & ~known
        return context.grown(left, fresh, metres, light) if fresh.any() else left

    def head(self, source: Modality) -> Head | None:
        """None, or what keeps the geometry; both domains must then share grid, limits and ego."""
        from mmcycle.modalities.lidar_head import Returns

        if self.change == "any" or type(source) is not type(self):
            return None
        for what in ("elevations", "azimuths", "min_range", "max_range"):
            if getattr(self.spec, what) != getattr(source.spec, what):
                raise ValueError(
                    f"change='returns' keeps every point on its ray, so {what} of both sensors must be equal"
                )
        if source.ego != self.ego:
            raise ValueError("change='returns' needs the same ego in both domains: what the carrier of one hides, no "
                             "recording of the other may show")
        return Returns(self._scale, self.max_shift, self.temperature, self.spec.rows)

    def carry_out(
        self, plan: Tensor, context: Seen, rng: torch.Generator
    ) -> tuple[Sweep | RangeImage, dict[str, float]]:
        """plan (5 + F, H, W): see `Returns.plan`. Points that the carrier of this domain hides are lost too.

        Facts: `kept_share` of the pixels that had a return, `shift_m`, the mean distance by which these moved.
        """
        from mmcycle.modalities.lidar_head import luck

        away, brighter, kept = luck(plan, rng)
        known = context.range > 0
        shown = known & ~self._hidden(plan)
        keep = _some((kept > 0) & shown, kept - 1e3 * ~shown)
        metres = self._scale.within(context.range + away).where(away != 0, context.range)
        light = (context.intensity + brighter).clamp(0, 1).where(brighter != 0, context.intensity)
        moved = float((metres - context.range)[keep].abs().mean())
        share = float(keep.sum() / known.sum().clamp_min(1))
        return context.changed(metres, light, keep), {"kept_share": round(share, 4), "shift_m": round(moved, 4)}

    def from_array(self, array: np.ndarray, rate: int | None = None) -> Sweep | RangeImage | None:
        """Points (N, 4 to 16) or a range image (2 or 3, H, W) of this sensor's grid: see `lidar_array`."""
        if rate is not None:
            raise UserError("a sweep has no rate; leave rate out")
        spec = self.spec
        raw = lidar_array.recording(array, spec.rows, spec.columns, spec.intensity_scale)
        if raw is not None:
            try:
                (self._check_sweep if isinstance(raw, Sweep) else self._check_image)(raw)
            except RecordingError as error:
                raise UserError(f"a sweep of a sample cannot be translated: {error}") from error
        return raw

    def to_array(self, raw: Sweep | RangeImage, like: np.ndarray) -> np.ndarray:
        """Points that were lost are gone, with the rest of their row; in a range image they are 0."""
        if like.ndim == 2:
            return lidar_array.as_points(raw, like)
        return lidar_array.as_image(raw if isinstance(raw, RangeImage) else self._as_image(raw), like)

    def relabel(self, label: Path, target: Path, raw: Sweep | RangeImage) -> bool:
        """`.label` of SemanticKITTI and `.bin` of nuScenes lidarseg lose the points that the sweep lost."""
        from mmcycle.modalities.lidar_cloud import is_of_points

        if not isinstance(raw, Sweep) or not is_of_points(label):
            return False
        known = raw.kept >= 0
        if known.all():
            in_grid = raw.table is not None and raw.table.shape is not None
            keep_labels(label, target, raw.kept, raw.records, in_place=in_grid)
        else:
            old = read_labels(label, raw.records)
            numbers = (np.where(known, one[raw.kept], UNLABELLED) for one in (old.semantic, old.instance))
            write_labels(PointLabels(*numbers), target)
        return True

    def crop(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Of a full turn, a window that begins anywhere."""
        import torch

        if not self.spec.full_turn:
            return super().crop(x, rng)
        _, right = torch.rand(2, generator=rng).tolist()
        return x[..., (torch.arange(self.shape[2]) + int(right * x.shape[-1])) % x.shape[-1]].contiguous()

    def render(self, x: Tensor) -> Tensor:
        """Range (near is red, far is blue), intensity and returns, one below the other; black where there is none."""
        import torch

        x = x.float().cpu().clamp(-1, 1)
        there = x[2] > 0
        metres = self._scale.to_metres(x[0])
        share = (metres / self.spec.max_range).clamp(0, 1).sqrt() * (len(COLOURS) - 1)
        lower = share.floor().long().clamp(max=len(COLOURS) - 2)
        table = torch.tensor(COLOURS, dtype=torch.float32)
        colour = torch.lerp(table[lower], table[lower + 1], (share - lower)[..., None]).permute(2, 0, 1)
        light = ((x[1] + 1) / 2).sqrt() * 255                   # most of a street is dark
        strips = [colour * there, (light * there).expand(3, -1, -1), (255.0 * there).expand(3, -1, -1)]
        return torch.cat(strips, dim=1).round().to(torch.uint8)

    def present(self, raw: Sweep | RangeImage, labels: Sequence[Path] = ()) -> tuple[Drawing, Cloud]:
        """Strips of range, intensity and returns, and the points themselves."""
        from mmcycle.modalities.lidar_cloud import cloud

        sweep = raw if isinstance(raw, Sweep) else self._as_sweep(raw)
        return Drawing(self.render(self.to_tensor(raw)[0]), strip=True), cloud(sweep, self.spec.intensity_scale, labels)

    def metrics(self) -> dict[str, Callable[[Tensor, Tensor], float]]:
        return {"range_error_m": self._range_error, "drop_disagreement": drop_disagreement}

    def with_ego(self, paths: Iterable[Path]) -> Lidar:
        """The same, with `ego` as some tens of recordings of different places show it."""
        from mmcycle.modalities.lidar_fit import ego_of, runs_of

        seen = [self._seen(self.load(path)).range.numpy() for path in paths]
        return replace(self, ego=runs_of(ego_of(np.stack(seen), self.spec)))

    def fit(self, paths: Sequence[Path], partner: Modality, measure: bool = False) -> Fit:
        """Rows, losses, brightness, and `ego`, which both domains of one grid share; measured: `sensor`."""
        from mmcycle.modalities.lidar_survey import survey

        return survey(self, paths, partner, measure)

    def _range_error(self, x: Tensor, y: Tensor) -> float:
        """Mean metres between two samples (3, H, W), where both have a return; 0 where they never do."""
        both = (x[2] > 0) & (y[2] > 0)
        gap = (self._scale.to_metres(x[0].double()) - self._scale.to_metres(y[0].double())).abs()
        return float(gap[both].mean()) if both.any() else 0.0

    @property
    def _scale(self) -> Scale:
        from mmcycle.modalities.lidar_head import Scale

        return Scale(self.spec.min_range, self.spec.max_range)

    def _hidden(self, x: Tensor) -> Tensor:
        """(H, W) bool: what the carrier fills; nothing in an image of other size than the sensor's."""
        size = tuple(x.shape[-2:])
        return _mask(*size, self.ego if size == (self.spec.rows, self.spec.columns) else ())

    def _sample(self, seen: Seen) -> Tensor:
        from mmcycle.modalities.lidar_head import sample

        return sample(self._scale, seen.range, seen.intensity, (seen.range > 0) & ~self._hidden(seen.range))

    def _seen(self, raw: Sweep | RangeImage) -> Seen:
        import torch

        from mmcycle.modalities.lidar_seen import Seen

        spec = self.spec
        if isinstance(raw, Sweep):
            image = self._projected(raw)
            return Seen(raw, spec, image.range, image.intensity, image)
        self._check_image(raw)
        metres, light = (torch.tensor(one, dtype=torch.float32) for one in (raw.range, raw.remission))
        inside = torch.from_numpy(self._inside(raw))
        return Seen(raw, spec, torch.where(inside, metres, 0), torch.where(inside, light / spec.intensity_scale, 0))

    def _projected(self, sweep: Sweep) -> Projection:
        from mmcycle.modalities.lidar_projection import project
        from mmcycle.modalities.lidar_rows import told_gaps
        from mmcycle.modalities.lidar_seen import table

        rings = sweep.ring
        if self.projection == "ring" and rings is None:
            raise RecordingError("the sweep has no column that tells the ring; use projection: auto")
        found = project(table(sweep, rings), self.spec, self.projection, None if rings is None else 4)
        if self.projection in ("ring", "unfold") and found.method != self.projection:
            raise RecordingError(f"its rows cannot be told as projection: {self.projection} asks; {found.notes[0]}")
        if found.notes:
            warnings.warn(f"{found.notes[0]}; say projection: elevation if that is meant", stacklevel=4)
        if strange := told_gaps(found.mask):
            warnings.warn(strange, stacklevel=4)
        return found

    def _check_sweep(self, sweep: Sweep) -> None:
        spec = self.spec
        if self.projection in ("ring", "unfold"):
            self._projected(sweep)
        distance = np.linalg.norm(sweep.points, axis=1)
        up = np.degrees(np.arcsin(np.clip(sweep.points[:, 2] / distance, -1, 1)))
        left = np.degrees(np.arctan2(sweep.points[:, 1], sweep.points[:, 0])) - spec.azimuth[0]
        inside = (distance >= spec.min_range) & (distance <= spec.max_range)
        inside &= (up <= spec.row_edges[0]) & (up >= spec.row_edges[-1])
        inside &= np.abs((left + 180) % 360 - 180) <= spec.azimuth[1] / 2
        if not inside.any():
            raise RecordingError(
                f"none of its {len(sweep)} points lies where this sensor looks: {spec.min_range:g} to "
                f"{spec.max_range:g} m, elevations of {spec.row_edges[-1]:.1f} to {spec.row_edges[0]:.1f} degrees, "
                f"azimuths within {spec.azimuth[1] / 2:g} degrees of {spec.azimuth[0]:g}; describe its own sensor"
            )

    def _check_image(self, image: RangeImage) -> None:
        spec = self.spec
        if image.range.shape != (spec.rows, spec.columns):
            raise RecordingError(
                f"is a range image of {image.range.shape[0]} rows and {image.range.shape[1]} columns, the sensor of "
                f"this domain has {spec.rows} and {spec.columns}; set sensor and columns"
            )
        if not self._inside(image).any():
            raise RecordingError(
                f"none of its returns lies within {spec.min_range:g} to {spec.max_range:g} m; set the sensor's limits"
            )

    def _inside(self, image: RangeImage) -> np.ndarray:
        """(H, W) bool: within the limits of the sensor, as far as the steps of the file can tell."""
        slack = float(image.scale or 0) / 2
        return (image.range >= self.spec.min_range - slack) & (image.range <= self.spec.max_range + slack)

    def _as_image(self, sweep: Sweep) -> RangeImage:
        image = self._projected(sweep)
        return RangeImage(image.range.numpy(), image.intensity.numpy() * np.float32(self.spec.intensity_scale))

    def _as_sweep(self, image: RangeImage) -> Sweep:
        seen = self._seen(image)
        return self._made(seen.range, seen.intensity)

    def _made(self, metres: Tensor, light: Tensor) -> Sweep:
        """(H, W) -> points row by row, each row to the left from straight ahead: so KITTI's files unfold."""
        from mmcycle.modalities.lidar_projection import unproject
        from mmcycle.modalities.lidar_rows import centres
        from mmcycle.modalities.lidar_seen import NOBODY

        if len(metres) != self.spec.rows:
            raise UserError(f"a range image of {len(metres)} rows is not of this sensor, which has {self.spec.rows}")
        spec = replace(self.spec, columns=metres.shape[1])
        order = np.argsort(np.mod(spec.azimuths, 360), kind="stable")
        around = centres(spec, metres.device)[1].expand_as(metres)
        points = unproject(metres[:, order], light[:, order], spec, around[:, order]).numpy()
        ring = np.nonzero(metres.numpy() > 0)[0].astype(np.uint16)
        nobody = np.full(len(points), NOBODY)
        return Sweep(np.ascontiguousarray(points[:, :3]), points[:, 3].copy(), {"ring": ring}, nobody)


COLOURS = ((165, 0, 38), (244, 109, 67), (254, 224, 144), (171, 217, 233), (69, 117, 180), (49, 54, 149))


def drop_disagreement(x: Tensor, y: Tensor) -> float:
    """Share of the pixels of two samples (3, H, W) in which one has a return and the other has none."""
    return float(((x[2] > 0) != (y[2] > 0)).double().mean())


@lru_cache(maxsize=64)
def _spec(sensor: str | SensorSpec, columns: int | None, far: float | None, full: float | None) -> SensorSpec:
    own = {"columns": columns, "max_range": far, "intensity_scale": full}
    spec = preset(sensor) if isinstance(sensor, str) else sensor
    return replace(spec, **{name: value for name, value in own.items() if value is not None})


@lru_cache(maxsize=16)
def _mask(rows: int, columns: int, runs: tuple[Run, ...]) -> Tensor:
    """Nobody writes into it."""
    import torch

    mask = torch.zeros(rows, columns, dtype=torch.bool)
    for row, first, last in runs:
        mask[row, first : last + 1] = True
    return mask


def _some(keep: Tensor, score: Tensor) -> Tensor:
    """At least one: the best."""
    if not keep.any():
        keep = keep.clone()
        keep.view(-1)[score.argmax()] = True
    return keep
