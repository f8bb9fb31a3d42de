"""A sensor is recovered from its own sweeps, and what they cannot tell is said."""
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcycle.errors import RecordingError, UserError
from mmcycle.modalities.lidar_fit import fit_sensor
from mmcycle.modalities.lidar_projection import unproject
from mmcycle.modalities.lidar_sensor import HDL_64E, SensorSpec, preset

DATA = Path(__file__).parents[2] / "shared" / "data" / "lidar"
real = pytest.mark.skipif(not DATA.exists(), reason="the shared recordings are not here")
TRUE = SensorSpec(
    rows=8, columns=64, measured=(6.0, 4.0, 2.5, 1.0, -1.0, -4.0, -9.0, -16.0), max_range=40.0, intensity_scale=255.0
)
SILENT, RIGID = (6, slice(10, 20)), (7, slice(40, 50))      # what the carrier hides, and where it is seen itself


def sweeps(count=12, spec=TRUE, seed=0, carrier=True):
    """Random ranges, a tenth of them lost, the rows as in column 4."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        ranges = rng.uniform(3, 40, (spec.rows, spec.columns)) * (rng.random((spec.rows, spec.columns)) < 0.9)
        if carrier:
            ranges[SILENT], ranges[RIGID] = 0, 1.5
        image = torch.tensor(ranges, dtype=torch.float32)
        jitter = torch.tensor(rng.normal(0, 0.001, ranges.shape), dtype=torch.float32)
        up = torch.deg2rad(torch.tensor(spec.elevations))[:, None] + jitter
        share = torch.tensor(rng.uniform(0, 1, ranges.shape), dtype=torch.float32)
        points = unproject(image, share, spec, elevation=up)
        made.append(np.column_stack([points, image.nonzero()[:, 0]]).astype(np.float32))
    return made


@pytest.mark.parametrize("ring", [4, None])
def test_a_sensor_is_recovered(ring):
    fit = fit_sensor(sweeps(), columns=64, ring=ring)
    np.testing.assert_allclose(fit.spec.elevations, TRUE.elevations, atol=0.05)
    assert (fit.spec.azimuth, fit.spec.max_range, fit.spec.intensity_scale) == ((0, 360), 40, 255)
    assert fit.spec.min_range == 1.4 and fit.sweeps == 12        # 1.49999, rounded down
    peaks = "rows told by the peaks of all elevations: points have no ring and do not unfold"
    assert fit.notes == (() if ring else (peaks,))


def test_the_drop_rate_and_the_carrier_are_mapped():
    fit = fit_sensor(iter(sweeps()), columns=64, ring=4)
    expected = np.zeros((8, 64), dtype=bool)
    expected[SILENT] = expected[RIGID] = True
    np.testing.assert_array_equal(fit.ego, expected)
    assert (fit.drop_rate[SILENT] == 1).all() and (fit.drop_rate[RIGID] == 0).all()
    assert abs(fit.drop_rate[:6].mean() - 0.1) < 0.02


def test_the_moments_are_those_of_the_points_shown():
    fit = fit_sensor(sweeps(carrier=False), columns=64, ring=4)
    points = np.concatenate(sweeps(carrier=False))
    ranges = np.linalg.norm(points[:, :3], axis=1)
    for name, values in {"range": ranges, "log_range": np.log2(1 + ranges), "intensity": points[:, 3] / 255}.items():
        assert fit.mean[name] == pytest.approx(values.mean(), rel=1e-3)
        assert fit.std[name] == pytest.approx(values.std(), rel=1e-3)


def test_few_sweeps_say_nothing_of_what_never_returns():
    fit = fit_sensor(sweeps(2), columns=64, ring=4)
    assert not fit.ego[SILENT].any() and fit.ego[RIGID].all()
    assert "2 sweeps are too few" in fit.notes[0]


@pytest.mark.parametrize(("centre", "width"), [(0.0, 100.0), (180.0, 100.0), (-170.0, 60.0), (90.0, 300.0)])
def test_a_window_is_recovered_also_across_the_back(centre, width):
    spec = dataclasses.replace(TRUE, columns=600, azimuth=(centre, width))
    fit = fit_sensor(sweeps(2, spec, carrier=False), columns=600, ring=4)
    assert (fit.spec.azimuth[0] - centre + 180) % 360 - 180 == pytest.approx(0, abs=0.5)
    assert fit.spec.azimuth[1] == pytest.approx(width, abs=1)


def test_a_silent_ring_keeps_its_row():
    without = [points[points[:, 4] != 2] for points in sweeps()]
    fit = fit_sensor(without, columns=64, ring=4)
    np.testing.assert_allclose(fit.spec.elevations, TRUE.elevations, atol=0.05)      # 2.5 lies between 4 and 1


def test_rings_counted_from_the_bottom_are_the_same_sensor():
    upwards = [points * [1, 1, 1, 1, -1] + [0, 0, 0, 0, 7] for points in sweeps()]
    assert fit_sensor(upwards, columns=64, ring=4).spec == fit_sensor(sweeps(), columns=64, ring=4).spec


@pytest.mark.parametrize(
    ("brightest", "scale"), [(0.0, 1), (1.0, 1), (99, 255), (255, 255), (256, 65535), (70000, 70000)]
)
def test_full_intensity_is_the_next_known_scale(brightest, scale):
    points = sweeps(1)[0]
    points[:, 3] *= brightest / points[:, 3].max()
    assert fit_sensor([points], columns=64, ring=4).spec.intensity_scale == pytest.approx(scale)


def test_points_without_direction_are_left_out():
    holes = [np.concatenate([points, np.zeros((9, 5)), np.full((3, 5), np.nan)]) for points in sweeps()]
    assert fit_sensor(holes, columns=64, ring=4).spec == fit_sensor(sweeps(), columns=64, ring=4).spec


def test_rows_that_nothing_tells_must_be_given():
    rng = np.random.default_rng(0)
    cloud = np.column_stack([rng.normal(0, 10, (5000, 3)), rng.random(5000)])
    with pytest.raises(UserError, match="rows cannot be told from these sweeps.*give rows"):
        fit_sensor([cloud])
    fit = fit_sensor([cloud], rows=16)
    assert fit.spec.rows == 16 and "rows assumed at even distances" in fit.notes[0]


def test_what_is_no_sweep_is_refused():
    with pytest.raises(UserError, match="fitted to no points"):
        fit_sensor([np.zeros((4, 4))])
    with pytest.raises(UserError, match="fitted to no points"):
        fit_sensor([])
    with pytest.raises(RecordingError, match=r"a sweep is a table with x, y, z, intensity.*got \(4, 3\)"):
        fit_sensor([np.zeros((4, 3))])
    with pytest.raises(UserError, match="column 3 does not hold a ring from 0 to H - 1; leave ring out"):
        fit_sensor(sweeps(2), ring=3)
    with pytest.raises(UserError, match="column 4 does not hold a ring from 0 to 4 - 1"):
        fit_sensor(sweeps(2), ring=4, rows=4)


@real
def test_the_rows_of_an_hdl_64e_are_recovered_within_a_tenth_of_a_degree():
    files = [*(DATA / "kitti_bin").glob("*.bin"), *(DATA / "kitti_pairs" / "velodyne").glob("*.bin")]
    clouds = [np.fromfile(file, dtype=np.float32).reshape(-1, 4) for file in files]
    fit = fit_sensor(clouds)
    np.testing.assert_allclose(fit.spec.elevations, HDL_64E, atol=0.1)
    assert (fit.spec.azimuth, fit.spec.max_range, fit.spec.intensity_scale) == ((0, 360), 80, 1)


@real
def test_the_window_of_sweeps_cut_to_the_camera_is_found():
    files = sorted((DATA / "kitti_front_fov").glob("*.bin"))
    spec = fit_sensor([np.fromfile(file, dtype=np.float32).reshape(-1, 4) for file in files], rows=64).spec
    assert spec.azimuth == (pytest.approx(0, abs=2), pytest.approx(81, abs=2))


@real
def test_the_rows_of_an_hdl_32e_are_recovered_without_rings():
    """nuScenes' sweeps as points along the known rows."""
    clouds = []
    for number in range(4):
        with np.load(DATA / "nuscenes" / f"{number}.npz") as stored:
            ranges, remission = stored["range"] * stored["range_scale"], stored["remission"].astype(np.float32)
        clouds.append(unproject(torch.from_numpy(ranges), torch.from_numpy(remission) / 255, preset("hdl-32e")))
    fit = fit_sensor(clouds)
    np.testing.assert_allclose(fit.spec.elevations, preset("hdl-32e").elevations, atol=0.1)
    assert fit.spec.intensity_scale == 255
