"""A sweep on its sensor's grid: the nearest point of every pixel, where it really is, and the points again."""
import dataclasses
import re
from math import cos, floor, radians, sin
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcycle.errors import RecordingError, UserError
from mmcycle.modalities.lidar_projection import project, project_all, restore, unproject
from mmcycle.modalities.lidar_sensor import SensorSpec, preset

DATA = Path(__file__).parents[2] / "shared" / "data" / "lidar"
real = pytest.mark.skipif(not DATA.exists(), reason="the shared recordings are not here")
SMALL = SensorSpec(rows=4, columns=8, fov=(10.0, -30.0), min_range=1.0, max_range=50.0, margin=0.0)


def at(azimuth, elevation, range, intensity=0.5):
    """A point by its direction in degrees and its range in metres."""
    a, e = radians(azimuth), radians(elevation)
    return [range * cos(e) * cos(a), range * cos(e) * sin(a), range * sin(e), intensity]


def sweep(*points):
    return torch.tensor(points, dtype=torch.float32)


def kitti(name="kitti_bin/driveB_000000.bin"):
    return torch.from_numpy(np.fromfile(DATA / name, dtype=np.float32).reshape(-1, 4))


def cloud(n=4000, seed=0, spec=SMALL):
    """Random points, some beyond every limit, none within a thousandth of a pixel's edge."""
    rng = np.random.default_rng(seed)
    u = (rng.integers(0, spec.columns, n) + rng.uniform(0.001, 0.999, n)) / spec.columns
    v = (rng.integers(-1, spec.rows + 1, n) + rng.uniform(0.001, 0.999, n)) / spec.rows
    azimuth = spec.azimuth[0] + spec.azimuth[1] * (0.5 - u)
    elevation = spec.fov[0] - v * (spec.fov[0] - spec.fov[1])
    points = [at(*ray) for ray in zip(azimuth, elevation, rng.uniform(0.5, 60, n), rng.uniform(0, 1, n))]
    return np.array(points, dtype=np.float32).reshape(-1, 4)


def slow(points, spec):
    """Range and index images, point by point."""
    range_image, index = np.zeros((spec.rows, spec.columns)), np.full((spec.rows, spec.columns), -1)
    edges, (centre, width) = spec.row_edges, spec.azimuth
    for i, (x, y, z) in enumerate(points[:, :3].astype(np.float64)):
        r = np.sqrt(x * x + y * y + z * z)
        if not spec.min_range <= r <= spec.max_range:
            continue
        v = sum(np.degrees(np.arcsin(z / r)) <= edges) - 1
        u = floor((centre + width / 2 - np.degrees(np.arctan2(y, x))) % 360 / width * spec.columns)
        if 0 <= v < spec.rows and 0 <= u < spec.columns and (index[v, u] < 0 or r < range_image[v, u]):
            range_image[v, u], index[v, u] = r, i
    return range_image, index


# Where a point falls


def test_one_point_falls_where_it_is_seen():
    image = project(sweep(at(22.5, -15, 7.0, 0.25)), SMALL)
    assert image.index.tolist() == [[-1] * 8, [-1] * 8, [-1, -1, -1, 0, -1, -1, -1, -1], [-1] * 8]
    assert image.range[2, 3] == pytest.approx(7.0, abs=1e-5) and image.range.sum() == image.range[2, 3]
    assert image.intensity[2, 3] == 0.25
    assert image.azimuth[2, 3] == pytest.approx(radians(22.5)) and image.elevation[2, 3] == pytest.approx(radians(-15))


@pytest.mark.parametrize(("azimuth", "column"), [(179, 0), (91, 1), (89, 2), (1, 3), (-1, 4), (-91, 6), (-179, 7)])
def test_columns_run_from_the_back_over_the_left_to_the_front(azimuth, column):
    assert project(sweep(at(azimuth, 0, 5)), SMALL).pixel.tolist() == [8 + column]


def test_exactly_behind_is_one_column_from_both_sides():
    both = sweep([-5.0, 0.0, 0.0, 1.0], [-5.0, -0.0, 0.0, 1.0])
    assert project(both, SMALL).pixel.tolist() == [8, 8]


def test_the_edge_of_a_pixel_belongs_to_the_right_and_to_the_lower_one():
    edges = sweep([5.0, 0.0, 0.0, 1.0], [0.0, 5.0, 0.0, 1.0])           # ahead: column 4; left: column 2; row 1
    assert project(edges, SMALL).pixel.tolist() == [8 + 4, 8 + 2]


@pytest.mark.parametrize("columns", [512, 1024, 2048])
def test_every_pixel_returns_to_itself(columns):
    spec = dataclasses.replace(preset("hdl-64e"), columns=columns)
    full = torch.full((64, columns), 20.0)
    image = project(unproject(full, full / 20, spec), spec, "elevation")
    assert torch.equal(image.index.flatten(), torch.arange(64 * columns, dtype=torch.int32))
    torch.testing.assert_close(image.range, full)


@pytest.mark.parametrize("azimuth", [(0.0, 90.0), (180.0, 100.0), (-170.0, 40.0), (350.0, 359.0)])
def test_every_pixel_of_a_partial_window_returns_to_itself(azimuth):
    spec = dataclasses.replace(SMALL, columns=16, azimuth=azimuth)
    full = torch.full((4, 16), 20.0)
    image = project(unproject(full, full / 20, spec), spec)
    assert torch.equal(image.index.flatten(), torch.arange(64, dtype=torch.int32))
    assert image.method == "elevation"


def test_points_beside_a_partial_window_are_outside():
    spec = dataclasses.replace(SMALL, azimuth=(180.0, 100.0))
    image = project(sweep(at(129, 0, 5), at(131, 0, 5), at(-131, 0, 5), at(-129, 0, 5), at(0, 0, 5)), spec)
    assert image.pixel.tolist() == [32, 8 + 7, 8, 32, 32]
    assert image.outside.tolist() == [0, 3, 4]


def test_a_point_falls_into_the_nearest_of_uneven_rows():
    spec = SensorSpec(rows=3, columns=4, measured=(4.0, 0.0, -6.0), margin=0.5)
    angles = (6.4, 6.6, 2.1, 1.9, -2.9, -3.1, -9.4, -9.6)
    pixels = project(sweep(*(at(10, angle, 5) for angle in angles)), spec).pixel
    assert (pixels // 4).tolist() == [0, 3, 0, 1, 1, 2, 2, 3]


# Who wins


def test_the_nearest_point_wins_whatever_the_order():
    far, near = at(0, 0, 9.0), at(0, 0, 4.0)
    for order, winner in (([near, far], 0), ([far, near], 1), ([far, near, far], 1)):
        image = project(sweep(*order), SMALL)
        assert image.index.max() == winner and image.range.max() == pytest.approx(4.0)
        assert image.hidden.tolist() == [i for i in range(len(order)) if i != winner]


def test_of_two_equal_points_the_first_is_shown():
    assert project(sweep(at(0, 0, 9.0), at(0, 0, 9.0)), SMALL).index.max() == 0


def test_points_without_direction_or_beyond_the_limits_are_never_shown():
    nan, inf = float("nan"), float("inf")
    points = sweep(
        [0, 0, 0, 1], [nan, 1, 1, 1], [1, nan, 1, 1], [1, 1, nan, 1], [inf, 1, 1, 1], [-inf, 1, 1, 1], at(0, 0, 0.99),
        at(0, 0, 50.1), at(0, 10.1, 5), at(0, -30.1, 5), at(0, 0, 5),
    )
    for method in ("auto", "unfold", "elevation"):
        image = project(points, SMALL, method)
        assert image.outside.tolist() == list(range(10))
        assert image.visible.tolist() == [False] * 10 + [True]


@pytest.mark.parametrize("n", [0, 1])
def test_an_empty_sweep_and_one_at_the_origin_give_an_empty_image(n):
    image = project(torch.zeros(n, 4), SMALL)
    assert not image.mask.any() and image.range.sum() == 0 and len(image.pixel) == n
    assert torch.equal(image.azimuth[0], torch.tensor(np.radians(SMALL.azimuths), dtype=torch.float32))
    assert restore(torch.zeros(n, 4), image, image.range, image.mask)[1].tolist() == list(range(n))


@pytest.mark.parametrize("spec", [
    SMALL, dataclasses.replace(SMALL, azimuth=(-160.0, 120.0)), dataclasses.replace(SMALL, rows=16, columns=33),
])
def test_it_is_the_slow_projection(spec):
    points = cloud(spec=spec)
    image, (range_image, index) = project(points, spec, "elevation"), slow(points, spec)
    np.testing.assert_array_equal(image.index, index)
    np.testing.assert_allclose(image.range, range_image, rtol=1e-6)
    seen = index >= 0
    np.testing.assert_array_equal(image.intensity[seen], points[index[seen], 3])
    x, y, z = points[index[seen], :3].T.astype(np.float64)
    np.testing.assert_allclose(image.azimuth[seen], np.arctan2(y, x), atol=1e-6)
    np.testing.assert_allclose(image.elevation[seen], np.arctan2(z, np.hypot(x, y)), atol=1e-6)
    shown, hidden, outside = image.visible.sum(), len(image.hidden), len(image.outside)
    assert shown == seen.sum() and shown + hidden + outside == len(points)


def test_many_sweeps_at_once_are_what_each_is_alone():
    sweeps = [cloud(300, seed=1), cloud(0), cloud(500, seed=2), cloud(1, seed=3)]
    for together, alone in zip(project_all(sweeps, SMALL), [project(one, SMALL) for one in sweeps], strict=True):
        for name in ("range", "intensity", "index", "azimuth", "elevation", "pixel"):
            assert torch.equal(getattr(together, name), getattr(alone, name)), name
        assert together.notes == alone.notes
    assert project_all([], SMALL) == []


def test_the_same_sweep_gives_the_same_bytes_and_is_not_changed():
    points = cloud()
    before = points.copy()
    points.setflags(write=False)
    assert torch.equal(project(points, SMALL).index, project(points, SMALL).index)
    np.testing.assert_array_equal(points, before)


# How rows are found


RINGS = SensorSpec(rows=4, columns=8, measured=(3.0, 1.0, -1.0, -3.0), max_range=50.0)


def turns(elevations=RINGS.elevations, start=0, n=16, tilt=5.0):
    """Ring after ring to the left, each tilted so far that it crosses the rows beside it; the ring of each point."""
    points, ring = [], []
    for number, elevation in enumerate(elevations):
        for azimuth in np.arange(n) / n * 360 + start + 1:
            points.append(at(azimuth, elevation + tilt * cos(radians(azimuth)), 10))
            ring.append(number)
    return sweep(*points), torch.tensor(ring)


def test_rings_one_after_the_other_are_unfolded():
    points, ring = turns()
    image = project(points, RINGS)
    assert image.method == "unfold" and image.notes == ()
    assert torch.equal(image.pixel // 8, ring)
    assert not torch.equal(project(points, RINGS, "elevation").pixel // 8, ring)


def test_rings_that_begin_at_the_bottom_are_turned_over():
    points, ring = turns(RINGS.elevations[::-1])
    assert torch.equal(project(points, RINGS, "unfold").pixel // 8, 3 - ring)


def test_points_without_direction_do_not_break_the_unfolding():
    points, ring = turns()
    holes = points.clone()
    holes[[0, 5, 15, 16, 31, 32, 33]] = 0
    holes[47, 1] = float("nan")
    image = project(holes, RINGS)
    inside = image.pixel < 32
    assert image.method == "unfold" and inside.sum() == len(points) - 8
    assert torch.equal((image.pixel // 8)[inside], ring[inside])


@pytest.mark.parametrize(("points", "words"), [
    (turns((3.0, 1.0, -1.0))[0], "unfolding found 3 rings, expected 4: used elevation"),
    (turns(start=90)[0], "unfolding found 5 rings, expected 4: used elevation"),
    (turns((13.0, 11.0, 9.0, 7.0))[0], r"unfolding found rings that lie \d+.\d degrees from the sensor's rows: used"),
])
def test_unfolding_that_fails_says_so(points, words):
    image = project(points, dataclasses.replace(RINGS, margin=30.0), "unfold")
    assert image.method == "elevation"
    assert len(image.notes) == 1 and re.search(words, image.notes[0])
    torch.testing.assert_close(image.pixel, project(points, dataclasses.replace(RINGS, margin=30.0), "elevation").pixel)


@pytest.mark.parametrize("upwards", [False, True])
@pytest.mark.parametrize("shuffled", [False, True])
def test_rows_are_told_by_a_ring_column_counted_from_either_end(upwards, shuffled):
    points, ring = turns()
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0)) if shuffled else torch.arange(64)
    column = (3 - ring if upwards else ring)[:, None]
    image = project(torch.cat([points, column], dim=1)[order], RINGS, ring=4)
    assert image.method == "ring"
    assert torch.equal(image.pixel // 8, ring[order])


@pytest.mark.parametrize(("ring", "words"), [
    (lambda ring: ring + 1, "the ring column runs from 1 to 4, expected 0 to 3: used elevation"),
    (lambda ring: ring - 1, "the ring column runs from -1 to 2"),
    (lambda ring: ring + 0.5, "the ring column holds numbers that are not whole"),
    (lambda ring: ring * float("nan"), "the ring column holds numbers that are not whole"),
    (lambda ring: ring * 1e30, "the ring column holds numbers that are not whole|runs from"),
    (lambda ring: torch.full_like(ring, 3), "found rings that lie 3.0 degrees from the sensor's rows"),
])
def test_a_ring_column_that_is_none_says_so(ring, words):
    points, true = turns()
    image = project(torch.cat([points, ring(true.float())[:, None]], dim=1), RINGS, "ring", ring=4)
    assert image.method == "elevation" and re.search(words, image.notes[0])


def test_an_empty_ring_leaves_its_row_empty():
    points, ring = turns()
    some = ring != 1
    image = project(torch.cat([points, ring[:, None]], dim=1)[some], RINGS, ring=4)
    assert image.method == "ring" and image.mask.any(dim=1).tolist() == [True, False, True, True]


# And back


def test_points_come_back_along_the_kept_angles():
    points = cloud()
    image = project(points, SMALL)
    back = unproject(image.range, image.intensity, SMALL, image.azimuth, image.elevation)
    np.testing.assert_allclose(back, points[image.index[image.mask]], atol=1e-4)


def test_without_angles_points_lie_in_the_middle_of_their_pixels():
    range_image = torch.zeros(4, 8)
    range_image[1, 4] = 10.0
    point = unproject(range_image, torch.full((4, 8), 0.5), dataclasses.replace(SMALL, intensity_scale=255.0))
    expected = at(-22.5, -5, 10.0, 127.5)
    np.testing.assert_allclose(point, [expected], rtol=1e-6)


def test_what_does_not_change_is_restored_bit_for_bit():
    points = np.column_stack([cloud(), np.arange(4000, dtype=np.float32)])
    image = project(points, SMALL)
    back, kept = restore(points, image, image.range, image.mask, image.intensity)
    np.testing.assert_array_equal(back, points)
    np.testing.assert_array_equal(kept, np.arange(4000))


def test_points_move_along_their_own_rays_and_hidden_ones_as_far():
    points = np.array([at(10, 0, 4, 0.2), at(20, -2, 9, 0.6), at(170, 0, 7, 0.5), at(0, 80, 5, 0.5)], dtype=np.float32)
    image = project(points, SMALL)
    assert image.hidden.tolist() == [1] and image.outside.tolist() == [3]
    back, kept = restore(points, image, image.range + 0.5, image.mask, image.intensity - 0.3)
    expected = [at(10, 0, 4.5, 0), at(20, -2, 9.5, 0.3), at(170, 0, 7.5, 0.2), at(0, 80, 5, 0.5)]
    np.testing.assert_allclose(back, expected, atol=1e-5)
    assert kept.tolist() == [0, 1, 2, 3]


def test_hidden_points_are_dropped_with_the_one_that_hides_them():
    points = np.array([at(10, 0, 9), at(170, 0, 7), at(10, 0, 4), at(0, 80, 5)], dtype=np.float32)
    image = project(points, SMALL)
    keep = image.mask.clone()
    keep[image.range == image.range[image.mask].min()] = False
    back, kept = restore(points, image, image.range, keep)
    assert kept.tolist() == [1, 3]
    np.testing.assert_array_equal(back, points[[1, 3]])
    assert restore(points, image, image.range, keep, outside=False)[1].tolist() == [1]
    assert restore(points, image, torch.zeros_like(image.range), image.mask, outside=False)[1].tolist() == []


def test_intensities_are_written_in_the_sensors_own_scale():
    spec = dataclasses.replace(SMALL, intensity_scale=255.0)
    points = np.array([at(10, 0, 4, 51.0), at(100, 0, 4, 37.0)], dtype=np.float64)
    image = project(points, spec)
    np.testing.assert_allclose(image.intensity[image.mask], [37 / 255, 0.2])
    back, _ = restore(points, image, image.range, image.mask, image.intensity + 0.9 * (image.intensity > 0.15))
    assert back.dtype == torch.float64 and back[:, 3].tolist() == [255.0, 37.0]


# What is refused


@pytest.mark.parametrize("points", [torch.zeros(5, 3), torch.zeros(5), torch.zeros(5, 4, dtype=torch.int32)])
def test_what_is_not_a_table_of_points_is_refused(points):
    with pytest.raises(RecordingError, match="a table of floats with x, y, z, intensity"):
        project(points, SMALL)


def test_wrong_arguments_are_refused():
    points = torch.zeros(5, 4)
    with pytest.raises(UserError, match="unknown projection 'ringed'; allowed are auto, ring, unfold, elevation"):
        project(points, SMALL, "ringed")
    with pytest.raises(UserError, match="needs to know which column"):
        project(points, SMALL, "ring")
    with pytest.raises(RecordingError, match="column 4 is to hold the ring, but the points have columns 0 to 3"):
        project(points, SMALL, ring=4)
    with pytest.raises(UserError, match="the sweep has 4 points, its projection 5"):
        restore(points[:4], project(points, SMALL), torch.zeros(4, 8), torch.ones(4, 8))
    with pytest.raises(UserError, match=r"a range image of \(4, 9\) is not of this sensor: 4 rows, 8 columns"):
        unproject(torch.zeros(4, 9), torch.zeros(4, 9), SMALL)


# Real sweeps


@real
@pytest.mark.parametrize("name", ["kitti_bin/driveB_000000.bin", "kitti_pairs/velodyne/000002.bin"])
@pytest.mark.parametrize("columns", [512, 1024, 2048])
def test_a_real_sweep_unfolds_and_comes_back(name, columns):
    points, spec = kitti(name), dataclasses.replace(preset("hdl-64e"), columns=columns)
    image = project(points, spec)
    assert image.method == "unfold" and not image.notes
    assert image.mask.any(dim=1).all() and len(image.outside) < 10
    back = unproject(image.range, image.intensity, spec, image.azimuth, image.elevation)
    assert (back - points[image.index[image.mask].long()]).abs().max() < 1e-4
    same, kept = restore(points, image, image.range, image.mask, image.intensity)
    assert torch.equal(same, points) and len(kept) == len(points)


@real
def test_a_real_sweep_is_projected_as_by_the_slow_projection():
    points, spec = kitti()[::7], dataclasses.replace(preset("hdl-64e-spherical"), columns=512)
    image, (range_image, index) = project(points, spec, "elevation"), slow(points.numpy(), spec)
    different = image.index.numpy() != index
    assert different.sum() <= 4                     # a point on the edge of a pixel, in single precision
    np.testing.assert_allclose(image.range.numpy()[~different], range_image[~different], rtol=1e-6)


@real
def test_a_sweep_cut_to_the_camera_falls_back_and_says_so():
    image = project(kitti("kitti_front_fov/000001.bin"), preset("hdl-64e"))
    assert image.method == "elevation" and "expected 64: used elevation" in image.notes[0]
    assert image.visible.sum() > 8_000


@real
def test_a_stored_range_image_is_its_own_projection():
    """The shared images were unfolded by other code, which took the point at the origin that ends the file for a ring:
    all their rows lie one too high."""
    with np.load(DATA / "kitti_raw_driveB" / "000000.npz") as stored:
        ranges = stored["range"] * stored["range_scale"]
    image = project(kitti(), preset("hdl-64e"))
    assert (abs(image.range[2:].numpy() - ranges[1:-1]) < 0.0025).mean() > 0.999
