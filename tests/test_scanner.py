"""The scanner: geometry against worked distances, labels, and the sensor made by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmcycle.errors import UserError
from mmcycle.simulate.mesh import Material, Semantic
from mmcycle.simulate.scene import street
from mmcycle.simulate.street import write_street

pytest.importorskip("open3d")
from small_sensor import ROWS, Small  # noqa: E402
from mmcycle.simulate import sensor_model  # noqa: E402
from mmcycle.simulate.scanner import Pose, Scanner, boxes_seen, directions, scan, sensed, turn  # noqa: E402
from mmcycle.simulate.sweep import SEMANTICKITTI, Sweep, remission, write_boxes, write_sweep  # noqa: E402

DATA = Path(__file__).parents[2] / "shared" / "data" / "lidar"


@pytest.fixture(scope="module")
def scene():
    return street(6, around=True)


@pytest.fixture(scope="module")
def scanner(scene):
    return Scanner(scene)


@pytest.fixture(scope="module")
def swept(scene, scanner):
    return scanner.sweep(Pose.aboard(scene), directions(ROWS, 256))


def a_wall(distance: float) -> Sweep:
    """16 x 64 rays that all met a plain wall head-on."""
    shape = (16, 64)
    full = np.full(shape, distance, np.float32)
    grey, ones = np.full(shape, 0.3, np.float32), np.ones(shape, np.float32)
    semantic = np.full(shape, Semantic.BUILDING, np.uint8)
    plain = np.full(shape, Material.PLAIN, np.uint8)
    rays = directions(np.linspace(2, 30, 16), 64)
    return Sweep(full, semantic, np.zeros(shape, np.int32), plain, ones, grey, grey, rays)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_columns_run_from_behind_over_the_left_to_ahead_over_the_right():
    assert turn(4).tolist() == [135, 45, -45, -135]
    rays = directions(np.array([0.0]), np.array([180.0, 90.0, 0.0, -90.0]))[0]
    assert np.allclose(rays, [[-1, 0, 0], [0, 1, 0], [1, 0, 0], [0, -1, 0]], atol=1e-6)
    assert directions(np.array([30.0]), np.array([0.0]))[0, 0] == pytest.approx([np.sqrt(0.75), 0, 0.5])


def test_a_level_scanner_over_flat_ground_measures_height_over_sine(scene, scanner):
    """Straight down to the road: h / sin(depression); the hill changes it by less than a few centimetres at 3 m."""
    x, y, z, _ = (float(v) for v in scene.ego)
    pose = Pose(x, y, z + 2.0)
    sweep = scanner.sweep(pose, directions(np.array([-30.0, -60.0, -90.0]), np.array([0.0])))
    assert sweep.semantic.ravel().tolist() == [Semantic.ROAD] * 3
    assert sweep.range.ravel() == pytest.approx([4.0, 2 / np.sin(np.pi / 3), 2.0], rel=0.03)
    assert sweep.incidence[2, 0] == pytest.approx(1.0, abs=1e-3)


def test_points_are_ray_times_range_and_labels_stand_beside_them(swept):
    assert swept.points.dtype == np.float32 and swept.points.shape == (swept.returned.sum(), 4)
    assert np.linalg.norm(swept.points[:, :3], axis=1) == pytest.approx(swept.listed(swept.range), rel=1e-5)
    assert len(swept.semantickitti) == len(swept.lidarseg) == len(swept.points)
    assert (swept.semantic[~swept.returned] == Semantic.SKY).all() and (swept.instance[~swept.returned] == 0).all()


def test_points_are_listed_as_in_kittis_files_ring_by_ring_counter_clockwise_from_ahead():
    rows = directions(np.array([2.0, -2.0]), 8)
    row = np.full((2, 8), 5, np.float32)
    row[1, 3] = 0
    zero = np.zeros((2, 8))
    sweep = Sweep(row, zero, zero, zero, zero, zero, zero, rows)
    assert sweep.listed(np.arange(16).reshape(2, 8)).tolist() == [3, 2, 1, 0, 7, 6, 5, 4, 10, 9, 8, 15, 14, 13, 12]
    angle = np.degrees(np.arctan2(sweep.points[:8, 1], sweep.points[:8, 0])) % 360
    assert angle == pytest.approx(np.arange(8) * 45 + 22.5, abs=1e-3)


def test_a_pose_turns_left_pitches_up_and_rolls_right():
    ahead, left = np.array([1, 0, 0, 1]), np.array([0, 1, 0, 1])
    assert Pose(1, 2, 3, yaw=90).matrix @ ahead == pytest.approx([1, 3, 3, 1])
    assert (Pose(0, 0, 0, pitch=30).matrix @ ahead)[2] == pytest.approx(0.5)
    assert (Pose(0, 0, 0, roll=30).matrix @ left)[2] == pytest.approx(0.5)


def test_points_of_a_moved_and_turned_scanner_lie_on_the_same_street(scene, scanner):
    """What one pose measures, another sees at the same place of the world: a ray at the point hits it or nearer."""
    first = scanner.sweep(Pose.aboard(scene), directions(ROWS, 64))
    matrix = Pose.aboard(scene).matrix
    world = first.points[:, :3] @ matrix[:3, :3].T + matrix[:3, 3]
    pose = replace(Pose.aboard(scene), x=2.0, yaw=40.0, pitch=3.0, roll=-2.0)
    local = (world - pose.matrix[:3, 3]) @ pose.matrix[:3, :3]
    far = np.linalg.norm(local, axis=1)
    porous = np.isin(first.listed(first.material), (Material.GLASS, Material.LEAF, Material.GRASS))
    solid = ~porous & (far > 1) & (far < 79)
    rays = (local / far[:, None])[None, solid].astype(np.float32)
    again = scanner.sweep(pose, rays).range[0]
    assert (again[again > 0] < far[solid][again > 0] + 0.3).mean() > 0.999
    assert np.isclose(again, far[solid], atol=0.05).mean() > 0.75


def test_the_ids_of_the_two_public_label_sets(swept):
    ids, back = swept.semantickitti, swept.listed(swept.semantic)
    told = {Semantic.ROAD: 40, Semantic.SIDEWALK: 48, Semantic.BUILDING: 50, Semantic.CAR: 10}
    for semantic, expected in told.items():
        assert set((ids & 0xFFFF)[back == semantic]) == {expected}
    assert set((ids & 0xFFFF)[back == Semantic.VEGETATION]) <= {70, 71}
    assert ((ids >> 16 > 0) == np.isin(back, (Semantic.CAR, Semantic.PERSON))).all()
    assert set(swept.lidarseg[back == Semantic.ROAD]) == {24} and set(swept.lidarseg[back == Semantic.CAR]) == {17}
    assert set(SEMANTICKITTI) == set(Semantic) - {Semantic.SKY, Semantic.VOID}


def test_boxes_hold_the_points_of_their_things_in_the_sensors_frame(scene, swept, tmp_path):
    boxes, semantic = boxes_seen(scene, Pose.aboard(scene), swept)
    thing = np.isin(swept.semantic, (Semantic.CAR, Semantic.PERSON)) & swept.returned
    thing &= np.bincount(swept.instance[thing], minlength=swept.instance.max() + 1)[swept.instance] >= 5
    points = swept.points[swept.listed(thing), :3]
    inside = np.zeros((len(boxes), len(points)), bool)
    for row, box in zip(inside, boxes):
        x, y, z = (points - box[:3]).T
        local = np.stack([x * np.cos(box[6]) + y * np.sin(box[6]), y * np.cos(box[6]) - x * np.sin(box[6]), z], 1)
        row[:] = (np.abs(local) <= box[3:6] / 2 + 0.2).all(1)
    assert len(boxes) > 3 and (inside.sum(1) >= 5).all() and inside.any(0).all()
    write_boxes(boxes, semantic, tmp_path / "boxes.txt")
    lines = (tmp_path / "boxes.txt").read_text().splitlines()
    read = np.array([[float(word) for word in line.split()[:7]] for line in lines])
    assert read == pytest.approx(boxes, abs=6e-4)
    names = {Semantic.CAR: "Car", Semantic.PERSON: "Pedestrian"}
    assert [line.split()[7] for line in lines] == [names[Semantic(kind)] for kind in semantic]


def test_the_whole_turn_sees_a_street(swept):
    quarters = np.split(swept.returned[8:], 4, axis=1)
    assert all(part.mean() > 0.9 for part in quarters)
    for half in (np.s_[:, :64], np.s_[:, 96:160]):  # behind, and ahead
        assert {Semantic.ROAD, Semantic.SIDEWALK, Semantic.BUILDING} <= set(swept.semantic[half].ravel().tolist())
    assert (swept.semantic[:, [0, -1]] == Semantic.ROAD).mean() > 0.5


@pytest.mark.skipif(not DATA.exists(), reason="the shared data are not here")
def test_ranges_are_spread_as_in_a_real_city():
    """Shares of returns by distance differ from KITTI's by at most 0.1 in any of eight rings (6 streets)."""
    rows = np.loadtxt(DATA / "hdl64_ring_elevation_deg.txt")
    rings = [0, 5, 10, 15, 20, 30, 40, 60, 80]
    sim = np.zeros(8)
    for seed in range(6):
        built = street(seed, around=True)
        sim += np.histogram(ranges(scan(built, Pose.aboard(built), rows, 128).range), rings)[0]
    real = np.zeros(8)
    for path in sorted((DATA / "kitti_raw_driveB").glob("*.npz"))[::30]:
        with np.load(path) as file:
            real += np.histogram(ranges(file["range"] * float(file["range_scale"])), rings)[0]
    assert np.abs(sim / sim.sum() - real / real.sum()).max() < 0.1


def ranges(image: np.ndarray) -> np.ndarray:
    return image[image > 0]


def test_remission_is_even_to_fifteen_metres_and_falls_beyond():
    rho = np.full(4, 0.4)
    seen = remission(rho, np.ones(4), np.array([3.0, 15.0, 36.0, 1e3]))
    assert seen == pytest.approx([0.4, 0.4, 0.4 * (1.15 - 30 / 60), 0.4 * 0.05], rel=1e-5)
    assert remission(np.array([0.4]), np.array([0.5]), np.array([5.0]))[0] == pytest.approx(0.4 * 0.5**0.35)
    assert remission(np.array([0.99]), np.array([0.1]), np.array([5.0]))[0] == pytest.approx(0.99)


def test_the_same_seed_scans_the_same_bytes_and_another_does_not(scene):
    sweeps = [scan(scene, Pose.aboard(scene), ROWS, 64, seed=s, mode="calibrated", noise=0.02) for s in (1, 1, 2)]
    assert sweeps[0].points.tobytes() == sweeps[1].points.tobytes()
    assert sweeps[0].points.tobytes() != sweeps[2].points.tobytes()


def test_a_calibrated_sensor_only_takes_away_and_keeps_the_labels(swept):
    real = sensed(swept, "calibrated", 0.0, np.random.default_rng(0))
    assert (swept.returned | ~real.returned).all()
    kept = real.returned
    assert 0.6 < kept.sum() / swept.returned.sum() < 0.98
    assert np.array_equal(real.semantic[kept], swept.semantic[kept])
    assert np.array_equal(real.instance[kept], swept.instance[kept])
    assert np.abs(real.range - swept.range)[kept].max() < 0.06
    assert (real.intensity[kept] <= 0.99).all()


def test_drops_come_in_patches(swept):
    """Of the rays whose left neighbour is lost, more are lost than of all."""
    real = sensed(swept, "calibrated", 0.0, np.random.default_rng(0))
    lost = (swept.returned & ~real.returned)[:, 1:]
    pair = swept.returned[:, 1:] & swept.returned[:, :-1]
    before = (swept.returned & ~real.returned)[:, :-1]
    assert lost[pair & before].mean() > lost[pair].mean() + 0.1


def test_far_and_flat_and_dark_surfaces_are_lost_first():
    def share(distance: float, rho: float, incidence: float) -> float:
        wall = a_wall(distance)
        wall = replace(wall, reflectance=wall.reflectance * 0 + np.float32(rho), incidence=wall.incidence * incidence)
        return float(sensor_model.calibrated(wall, np.random.default_rng(0)).returned.mean())

    assert share(10, 0.4, 1.0) > 0.99 and share(40, 0.4, 0.05) > 0.9  # a road keeps its returns at 40 m
    assert share(75, 0.02, 0.05) < share(75, 0.4, 0.05) < 1.0


def test_the_own_car_hides_what_is_low_behind_and_nothing_above_the_horizon():
    rays = directions(np.array([2.0, 0.0, -8.0, -23.0]), 360)
    hidden = sensor_model._behind_ego(rays)
    assert not hidden[:2].any() and hidden[3, [0, -1]].all()
    assert 0.02 < hidden[3].mean() < 0.5 and not hidden[2].any()


def test_a_smooth_field_has_unit_variance_and_closes_the_turn():
    field = sensor_model.smooth(np.random.default_rng(0), (64, 1024), 1.7, 2.8)
    assert field.std() == pytest.approx(1.0, abs=0.05)
    inner = np.abs(np.diff(field, axis=1)).mean()
    assert np.abs(field[:, 0] - field[:, -1]).mean() < 3 * inner


def test_noise_has_its_sigma():
    by = sensor_model.noisy(a_wall(20.0), 0.02, np.random.default_rng(0)).range - 20
    assert by.std() == pytest.approx(0.02, rel=0.1) and abs(by.mean()) < 0.003


def test_a_sweep_is_written_as_kitti_does(swept, tmp_path):
    write_sweep(swept, tmp_path / "a.bin", tmp_path / "a.label")
    points = np.frombuffer((tmp_path / "a.bin").read_bytes(), "<f4").reshape(-1, 4)
    labels = np.frombuffer((tmp_path / "a.label").read_bytes(), "<u4")
    assert np.array_equal(points, swept.points) and np.array_equal(labels, swept.semantickitti)
    assert len(points) == len(labels) and points[:, 3].max() <= 1


def test_a_street_with_lidar_is_written_again_byte_for_byte(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for out in (one, two):
        write_street(out, 2, 5, ("day", "lidar"), (64, 32), sensor=Small())
    first = files_of(one)
    assert first == files_of(two)
    assert {"lidar/velodyne/000001.bin", "lidar/labels/000001.label", "day/images/000001.png"} <= set(first)
    (one / "lidar/labels/000000.label").unlink()
    write_street(one, 2, 5, ("day", "lidar"), (64, 32), sensor=Small())
    assert files_of(one) == first
    with pytest.raises(UserError, match="already holds a street with lidar .* Choose another folder"):
        write_street(one, 2, 5, ("day", "lidar"), (64, 32), sensor=Small(max_range=50.0))


def test_lidar_alone_writes_no_photographs(tmp_path):
    write_street(tmp_path / "out", 1, 5, ("lidar",), sensor=Small(), mode="calibrated")
    assert set(files_of(tmp_path / "out")) == {
        "street.json",
        "lidar/velodyne/000000.bin",
        "lidar/labels/000000.label",
        "lidar/boxes/000000.txt",
    }


def test_impossible_orders_are_refused(scene, tmp_path):
    with pytest.raises(UserError, match="the view lidar needs a sensor"):
        write_street(tmp_path / "a", 1, views=("lidar",))
    with pytest.raises(UserError, match="unknown sensor mode 'real'; a scanner is ideal or calibrated"):
        scan(scene, Pose.aboard(scene), ROWS, 64, mode="real")
    with pytest.raises(UserError, match=r"elevations \(2, 2\) and azimuths \(64,\)"):
        directions(np.zeros((2, 2)), 64)
    assert not any(tmp_path.iterdir())


def test_a_street_all_around_is_the_same_for_the_same_seed_and_goes_on_behind(scene):
    again = street(6, around=True)
    assert again.vertices.tobytes() == scene.vertices.tobytes() and again.boxes.tobytes() == scene.boxes.tobytes()
    assert street(6).vertices[:, 0].min() > -60 and scene.vertices[:, 0].min() < -120
    assert (scene.boxes[:, 0] < -20).sum() > 3
    assert len(scene.triangles) == len(scene.facade) and scene.facade.max() < len(scene.facades)
