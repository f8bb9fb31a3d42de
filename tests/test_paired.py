"""Sweeps and photographs of one car as two domains: equal names are one moment, and all have one calibration."""
from dataclasses import dataclass

import numpy as np
import pytest

from mmcycle.errors import UserError
from mmcycle.simulate import paired
from mmcycle.simulate.paired import MOMENTS, write_paired


@dataclass(frozen=True)
class Small:
    elevations: tuple[float, ...] = tuple(np.linspace(10, -20, 8))
    azimuths: tuple[float, ...] = tuple(np.linspace(40, -40, 16))
    max_range: float = 60.0


def test_each_street_gives_a_few_moments_under_equal_names_and_is_built_once(tmp_path, monkeypatch):
    pytest.importorskip("open3d")
    write_paired(tmp_path, Small(), streets=2, seed=3, size=(32, 16))
    names = [f"{street:03d}-{moment:06d}" for street in range(2) for moment in range(MOMENTS)]
    for domain, suffix in (("lidar", "bin"), ("camera", "png"), ("masks", "png")):
        assert sorted(path.name for path in (tmp_path / domain).iterdir()) == [f"{name}.{suffix}" for name in names]
    drive = tmp_path / "drives" / "001"
    assert (tmp_path / "camera" / "001-000002.png").read_bytes() == (drive / "image_2" / "000002.png").read_bytes()
    assert (tmp_path / "lidar" / "001-000002.bin").read_bytes() == (drive / "velodyne" / "000002.bin").read_bytes()
    calibrations = {path.read_text() for path in tmp_path.glob("drives/*/calib/*.txt")}
    assert len(calibrations) == 1

    monkeypatch.setattr(paired, "write_drive", lambda *a, **k: pytest.fail("the street was built again"))
    write_paired(tmp_path, Small(), streets=2, seed=3, size=(32, 16))


def test_a_folder_of_another_order_is_refused(tmp_path):
    pytest.importorskip("open3d")
    (tmp_path / "paired.json").write_text('{"kind": "paired", "seed": 3, "size": [32, 16]}')
    with pytest.raises(UserError, match="already holds pairs of sweeps and photographs with seed 3"):
        write_paired(tmp_path, Small(), streets=1, seed=4, size=(32, 16))
    with pytest.raises(UserError, match="1001 streets: give 1 to 1000"):
        write_paired(tmp_path / "new", Small(), streets=1001)
