"""Folders of sweeps as sets that are measured, the floor beside them."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmcycle.errors import UserError
from mmcycle.metrics.sweep_sets import beside_the_floor, recordings, sweeps_of
from mmcycle.modalities.lidar import Lidar
from mmcycle.modalities.lidar_sensor import SensorSpec
from mmcycle.modalities.range_files import RangeImage, write_range_image

pytestmark = pytest.mark.usefixtures("one_thread")
LIDAR = Lidar(sensor=SensorSpec(rows=16, columns=64, max_range=50.0, intensity_scale=100.0))


def folder(path: Path, seed: int, number: int = 4, far: float = 20.0) -> Path:
    rng = np.random.default_rng(seed)
    for index in range(number):
        metres = np.where(rng.random((16, 64)) < 0.9, rng.uniform(2, far, (16, 64)), 0).astype(np.float32)
        (path / "below").mkdir(parents=True, exist_ok=True)
        write_range_image(RangeImage(metres, np.full((16, 64), 25, np.float32)), path / "below" / f"{index}.npz")
    return path


def test_a_folder_is_seen_in_metres_and_shares_in_the_order_of_its_names(tmp_path):
    found = sweeps_of(folder(tmp_path / "real", 0), LIDAR)
    rng = np.random.default_rng(0)
    first = np.where(rng.random((16, 64)) < 0.9, rng.uniform(2, 20, (16, 64)), 0)
    assert found.range.shape == (4, 16, 64) and np.allclose(found.range[0], first)
    assert (found.intensity[found.returned] == 0.25).all() and found.azimuth is None
    assert found.elevation.tolist() == pytest.approx(LIDAR.spec.elevations)
    assert [path.name for path in recordings(tmp_path, LIDAR)] == [f"{index}.npz" for index in range(4)]


def test_what_the_carrier_hides_is_not_seen(tmp_path):
    own = replace(LIDAR, ego=((15, 3, 9),))
    found, whole = (sweeps_of(folder(tmp_path / "real", 0), lidar) for lidar in (own, LIDAR))
    assert (found.range[:, 15, 3:10] == 0).all() and (found.range[:, :15] == whole.range[:, :15]).all()


def test_each_distance_stands_beside_its_floor_and_a_set_of_the_same_kind_is_near_it(tmp_path):
    real, same, other = (folder(tmp_path / str(seed), seed, 8, far) for seed, far in ((0, 20), (1, 20), (2, 45)))
    sets = {"same": sweeps_of(same, LIDAR), "other": sweeps_of(other, LIDAR)}
    measured = beside_the_floor(sets, sweeps_of(real, LIDAR))
    assert list(measured)[:3] == ["range patches: same", "range patches: other", "range patches: floor"]
    assert len(measured) % 3 == 0
    assert measured["range w1: other"] > 10 > 1 > measured["range w1: same"]
    assert measured["range w1: floor"] < 1


def test_a_folder_without_sweeps_is_named(tmp_path):
    with pytest.raises(UserError, match=r"empty: holds no sweeps; allowed are \.bin, "):
        sweeps_of(tmp_path / "empty", LIDAR)
