"""A drive: camera and scanner on one car, and what KITTI's own definitions say of the files."""

import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import mmcycle, refused
from mmcycle.errors import UserError
from mmcycle.progress import counted
from mmcycle.simulate.crew import share_out
from mmcycle.simulate.mesh import Semantic
from mmcycle.simulate.scene import street

pytest.importorskip("open3d")
from small_sensor import Small  # noqa: E402
from mmcycle.simulate import drive as mmcycle_drive  # noqa: E402
from mmcycle.simulate.sweep import write_sweep  # noqa: E402
from mmcycle.simulate.drive import (  # noqa: E402
    TO_CAMERA,
    camera_at,
    drive,
    intrinsics,
    moved,
    open_road,
    trajectory,
    write_drive,
)
from mmcycle.simulate.scanner import Pose  # noqa: E402


@pytest.fixture(scope="module")
def scene():
    return street(6, around=True)


@pytest.fixture(scope="module")
def drive_folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("drive") / "out"
    write_drive(out, Small(), steps=2, spacing=6.0, seed=1, size=(160, 64))
    return out


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_impossible_drives_are_refused(scene, tmp_path):
    with pytest.raises(UserError, match="12 steps of 10.5 m: give at least one step, and at most 110 m"):
        drive(scene, 12, 10.5)
    with pytest.raises(UserError, match="unknown view 'dusk'"):
        write_drive(tmp_path / "b", Small(), 1, view="dusk")
    with pytest.raises(UserError, match="size 4x64: width and height"):
        write_drive(tmp_path / "b", Small(), 1, size=(4, 64))
    assert not any(tmp_path.iterdir())


def test_a_straightened_street_is_the_inverse_of_a_bent_one(scene):
    points = np.random.default_rng(0).uniform((-140, -60, 0), (190, 60, 10), (200, 3))
    assert scene.plan.straightened(scene.plan.bent(points)) == pytest.approx(points, abs=1e-9)


def test_a_drive_follows_its_lane_at_the_height_of_its_scanner(scene):
    poses = drive(scene, 5, 10.0)
    places = scene.plan.straightened(np.array([[pose.x, pose.y, pose.z] for pose in poses]))
    lane = scene.plan.straightened(scene.ego[:3])[0, 1]
    assert places[:, 0] == pytest.approx([0, 10, 20, 30, 40], abs=1e-6)
    assert np.abs(places[:, 1] - lane).max() <= 0.2 + 1e-6 and places[:, 2] == pytest.approx(1.73)


def test_cars_that_drive_go_on_and_everything_else_stays(scene):
    later = moved(scene, 10.0)
    before, after = (scene.plan.straightened(s.boxes[:, :3]) for s in (scene, later))
    assert after[:, 0] - before[:, 0] == pytest.approx(10.0 * scene.box_way, abs=1e-3)
    assert after[:, 1:] == pytest.approx(before[:, 1:], abs=1e-3)
    still = ~np.isin(scene.instance, scene.box_instance[scene.box_way != 0])
    assert np.array_equal(later.vertices[scene.triangles[still]], scene.vertices[scene.triangles[still]])
    car = scene.box_instance[scene.box_way != 0][0]
    sizes = [np.ptp(s.plan.straightened(s.vertices[s.triangles[s.instance == car]]), axis=0) for s in (scene, later)]
    assert sizes[0] == pytest.approx(sizes[1], abs=1e-3)


def test_the_ego_car_and_the_nearest_headlights_go_with_a_drive(scene):
    later = moved(scene, 10.0)
    ego = scene.plan.straightened(later.ego[:3])[0]
    assert ego == pytest.approx(scene.plan.straightened(scene.ego[:3])[0] + [10, 0, 0], abs=1e-4)
    assert later.ego[3] == pytest.approx(10 * scene.plan.curvature)
    away = np.linalg.norm(later.headlights[:, :2] - later.ego[:2], axis=1)
    assert (np.diff(away) >= -1e-3).all() and len(away) == len(scene.headlights)
    assert np.linalg.norm(later.headlights[:, 3:], axis=1) == pytest.approx(1, abs=1e-2)


def test_nobody_stands_on_an_open_road():
    removed = 0
    for seed in range(6):
        scene = street(seed, around=True)
        free = open_road(scene)
        place = free.plan.straightened(free.boxes[:, :3])
        assert (np.abs(place[free.box_semantic == Semantic.PERSON, 1]) > free.plan.half).all()
        assert set(free.instance[free.semantic == Semantic.PERSON]) <= set(free.box_instance)
        removed += len(scene.boxes) - len(free.boxes)
    assert removed > 0


def test_a_drive_has_every_file_of_every_moment_and_resumes_byte_for_byte(drive_folder):
    first = files_of(drive_folder)
    kinds = {"image_2": "png", "semantic": "png", "velodyne": "bin", "labels": "label"}
    kinds |= dict.fromkeys(("label_2", "calib", "boxes"), "txt")
    expected = {f"{kind}/{k:06d}.{suffix}" for kind, suffix in kinds.items() for k in range(2)}
    assert set(first) == expected | {"drive.json", "poses.txt"}
    (drive_folder / "velodyne/000001.bin").unlink()
    write_drive(drive_folder, Small(), steps=2, spacing=6.0, seed=1, size=(160, 64))
    assert files_of(drive_folder) == first
    with pytest.raises(UserError, match="already holds a drive with spacing 6.0; asked for spacing 5.0"):
        write_drive(drive_folder, Small(), steps=2, spacing=5.0, seed=1, size=(160, 64))


def test_a_drive_without_a_camera_has_the_same_sweeps_and_needs_no_time_for_it(drive_folder, tmp_path):
    write_drive(tmp_path / "out", Small(), steps=2, spacing=6.0, seed=1, size=(160, 64), view="none")
    made, whole = files_of(tmp_path / "out"), files_of(drive_folder)
    folders = {name.partition("/")[0] for name in made}
    assert folders == {"velodyne", "labels", "boxes", "calib", "drive.json", "poses.txt"}
    assert all(whole[name] == content for name, content in made.items() if name != "drive.json")


def test_two_processes_write_the_bytes_of_one(drive_folder, tmp_path):
    options = {"steps": 4, "spacing": 6.0, "seed": 1, "size": (160, 64), "view": "none"}
    write_drive(tmp_path / "one", Small(), **options)
    write_drive(tmp_path / "two", Small(), **options, workers=2)
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one")


def test_two_processes_tell_of_every_moment_and_a_hundred_are_told_in_twenty_lines(capsys):
    told = []
    share_out(abs, range(6), 2, lambda done, total: told.append((done, total)), before=3)
    assert told == [(done, 9) for done in range(4, 10)]
    with counted("moments") as tell:
        share_out(abs, range(100), 1, tell)
    lines = capsys.readouterr().err.splitlines()
    assert (len(lines), lines[0], lines[-1]) == (20, "5/100 moments", "100/100 moments")


def test_a_signal_stops_a_drive_after_the_moment_in_hand_and_the_same_line_goes_on(drive_folder, tmp_path, monkeypatch):
    written, options = [], ("--moments", 3, "--spacing", 6, "--seed", 1, "--view", "none", "--sensor", "vlp-16")

    def stopped(points, labels):
        written.append(points)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(mmcycle_drive, "write_sweep", lambda swept, *files: (write_sweep(swept, *files), stopped(*files)))
        said = mmcycle("simulate", "drive", tmp_path / "out", *options)
    assert said.code == 128 + signal.SIGTERM and len(written) == 1
    stopped_by = "mmcycle: stopped by SIGTERM after the item in hand; run the same line again to go on\n"
    assert said.err == f"1/3 moments\n{stopped_by}"
    assert not [name for name in files_of(tmp_path / "out") if ".tmp-" in name]
    again, whole = (mmcycle("simulate", "drive", tmp_path / name, *options) for name in ("out", "whole"))
    assert again == (0, f"{tmp_path}/out: 3 moments (lidar)\n", "2/3 moments\n3/3 moments\n")
    assert whole.code == 0 and files_of(tmp_path / "out") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("words, told", [
    (["--moments", 200], "200 steps of 1 m: give at least one step, and at most 110 m in all"),
    (["--view", "dusk"], "unknown view 'dusk'; a camera photographs day, night, fog; none is no camera"),
    (["--mode", "perfect"], "unknown sensor mode 'perfect'; a scanner is ideal or calibrated"),
    (["--sensor", "hdl-46e"], "unknown sensor 'hdl-46e'; did you mean 'hdl-64e'?"),
    (["--size", "wide"], "--size 'wide': expected WIDTHxHEIGHT"),
])
def test_a_mistake_about_a_drive_is_answered_in_a_sentence_and_writes_nothing(tmp_path, words, told):
    assert told in refused("simulate", "drive", tmp_path / "out", *words)
    assert not any(tmp_path.iterdir())


def test_points_projected_by_the_written_calibration_meet_their_class_in_the_picture(drive_folder):
    """A reader of ten lines, as KITTI's devkit says: pixel = P2 R0_rect Tr_velo_to_cam point."""
    static = {40: 0, 48: 1, 50: 2, 70: 8, 71: 8, 72: 9}  # SemanticKITTI -> Cityscapes train ids
    same, by_class = [], []
    for k in range(2):
        rows = dict(line.split(":") for line in (drive_folder / f"calib/{k:06d}.txt").read_text().splitlines())
        read = {name: np.array(numbers.split(), float).reshape(3, -1) for name, numbers in rows.items()}
        points = np.fromfile(drive_folder / f"velodyne/{k:06d}.bin", "<f4").reshape(-1, 4)
        labels = np.fromfile(drive_folder / f"labels/{k:06d}.label", "<u4") & 0xFFFF
        camera = np.c_[points[:, :3], np.ones(len(points))] @ read["Tr_velo_to_cam"].T @ read["R0_rect"].T
        pixel = np.c_[camera, np.ones(len(points))] @ read["P2"].T
        u, v = np.round(pixel[:, :2] / pixel[:, 2:]).astype(int).T
        mask = np.array(Image.open(drive_folder / f"semantic/{k:06d}.png"))
        seen = (camera[:, 2] > 1) & (u >= 0) & (v >= 0) & (u < mask.shape[1]) & (v < mask.shape[0])
        seen &= np.isin(labels, list(static))
        expected = np.array([static[label] for label in labels[seen].tolist()])
        same.append(expected == mask[v[seen], u[seen]])
        by_class.append(expected)
    same, by_class = np.concatenate(same), np.concatenate(by_class)
    assert len(same) > 300 and len(set(by_class)) >= 3
    assert same.mean() > 0.9


def test_label_2_stands_where_the_scanner_measured_the_car(drive_folder):
    """KITTI's box, read by its definition, holds the sweep's points of one car instance."""
    found = 0
    for k in range(2):
        points = np.fromfile(drive_folder / f"velodyne/{k:06d}.bin", "<f4").reshape(-1, 4)
        labels = np.fromfile(drive_folder / f"labels/{k:06d}.label", "<u4")
        camera = np.c_[points[:, :3], np.ones(len(points))] @ TO_CAMERA[:3].T
        cars = camera[labels & 0xFFFF == 10], (labels >> 16)[labels & 0xFFFF == 10]
        for line in (drive_folder / f"label_2/{k:06d}.txt").read_text().splitlines():
            kind, *numbers = line.split()
            truncated, occluded, alpha, *frame, h, w, length, x, y, z, turn_y = map(float, numbers)
            assert kind in ("Car", "Pedestrian") and 0 <= truncated <= 1 and occluded in (0, 1, 2)
            assert 0 <= frame[0] < frame[2] <= 159 and 0 <= frame[1] < frame[3] <= 63
            assert np.cos(turn_y - np.arctan2(x, z) - alpha) > 0.999
            local = cars[0] - [x, y, z]
            along = local @ [np.cos(turn_y), 0, -np.sin(turn_y)]
            across = local @ [np.sin(turn_y), 0, np.cos(turn_y)]
            inside = (np.abs(along) < length / 2 + 0.1) & (np.abs(across) < w / 2 + 0.15)
            inside &= np.abs(local[:, 1] + h / 2) < h / 2 + 0.1
            if kind == "Car" and inside.sum() > 5:
                found += 1
                assert len(set(cars[1][inside])) == 1
                assert inside.sum() == (cars[1] == cars[1][inside][0]).sum()
    assert found > 0


def test_the_trajectory_leads_from_one_camera_to_the_next(scene):
    poses = drive(scene, 3, 10.0)
    rows = [np.array(line.split(), float).reshape(3, 4) for line in trajectory(poses).splitlines()]
    assert rows[0] == pytest.approx(np.eye(4)[:3], abs=1e-9)
    centre = np.array(camera_at(poses[2], 100, 50).position)
    back = np.array(camera_at(poses[0], 100, 50).position)
    assert np.linalg.norm(rows[2][:, 3]) == pytest.approx(np.linalg.norm(centre - back), rel=1e-6)
    assert rows[1][2, 3] > 9  # z of the camera is ahead


def test_intrinsics_put_the_edges_of_the_view_at_the_edges_of_the_picture(scene):
    camera = camera_at(Pose(0, 0, 2), 101, 51)
    focal = 50.5 / np.tan(np.radians(camera.fov) / 2)
    assert intrinsics(camera) == pytest.approx(np.array([[focal, 0, 50], [0, focal, 25], [0, 0, 1]]))
