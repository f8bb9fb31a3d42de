"""The simulated street: deterministic, exactly paired, labelled from geometry, lit by the laws it cites."""

import json
import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmcycle.errors import UserError
from mmcycle.simulate import light
from mmcycle.simulate.develop import develop
from mmcycle.simulate.mesh import Look, Material, Mesh, Semantic, box, merged, tube, wall
from mmcycle.simulate.plan import Plan
from mmcycle.simulate.scene import street
from mmcycle.simulate.street import CLASSES, boxes, seed_of, write_street, yolo_lines

pytest.importorskip("open3d")
from mmcycle.simulate.camera import Camera, Photograph, photograph, photographs  # noqa: E402

SIZE = (96, 54)


@pytest.fixture(scope="module")
def scene():
    return street(3)


@pytest.fixture(scope="module")
def views(scene):
    return photographs(scene, Camera.aboard(scene, *SIZE), ("day", "night", "fog"))


def the_files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_the_same_seed_builds_the_same_street(scene):
    again = street(3)
    for field in fields(scene):
        value = getattr(scene, field.name)
        if isinstance(value, np.ndarray):
            assert value.tobytes() == getattr(again, field.name).tobytes(), field.name
    assert np.array_equal(scene.weather.sun, again.weather.sun)


def test_the_same_seed_takes_the_same_photograph_alone_or_among_others(scene, views):
    alone = photograph(scene, Camera.aboard(scene, *SIZE), "night")
    assert np.array_equal(alone.rgb, views["night"].rgb)
    assert np.array_equal(alone.depth, views["night"].depth)


def test_another_seed_is_another_street(scene):
    other = street(4)
    assert other.vertices.shape != scene.vertices.shape or not np.array_equal(other.vertices, scene.vertices)


def test_streets_come_in_several_kinds():
    assert {Plan.draw(np.random.default_rng(seed)).kind for seed in range(30)} == {"city", "residential", "boulevard"}


def test_every_triangle_is_described_and_every_box_names_a_thing(scene):
    count = len(scene.triangles)
    for name in ("uv", "colour", "emission", "semantic", "material", "instance", "facade", "reflectance"):
        assert len(getattr(scene, name)) == count, name
    assert scene.triangles.max() < len(scene.vertices)
    assert set(np.unique(scene.semantic)) <= {int(member) for member in Semantic}
    assert scene.facade.max() < len(scene.facades)
    assert ((scene.colour >= 0) & (scene.reflectance[:, None] <= 1)).all()
    assert np.isclose(np.linalg.norm(scene.weather.sun), 1)
    assert set(scene.box_semantic) == {Semantic.CAR, Semantic.PERSON}


def test_the_box_of_a_car_holds_its_triangles(scene):
    for box_, instance in zip(scene.boxes, scene.box_instance):
        points = scene.vertices[scene.triangles[scene.instance == instance].ravel()] - box_[:3]
        cos, sin = np.cos(-box_[6]), np.sin(-box_[6])
        local = np.stack(
            [points[:, 0] * cos - points[:, 1] * sin, points[:, 0] * sin + points[:, 1] * cos, points[:, 2]], 1
        )
        assert (np.abs(local) <= box_[3:6] / 2 + 0.2).all()


def test_nobody_stands_inside_a_car():
    for seed in range(4):
        scene = street(seed)
        people = scene.boxes[scene.box_semantic == Semantic.PERSON]
        for car in scene.boxes[scene.box_semantic == Semantic.CAR]:
            assert (np.hypot(people[:, 0] - car[0], people[:, 1] - car[1]) > car[4] / 2).all()


def test_the_values_of_night_are_less_than_two_thirds_of_those_of_day():
    for seed in (3, 4, 5):
        scene = street(seed)
        views = photographs(scene, Camera.aboard(scene, *SIZE))
        assert views["night"].rgb.mean() < 0.66 * views["day"].rgb.mean()


def test_some_windows_are_lit_at_night():
    bright = 0
    for seed in (2, 5):
        scene = street(seed)
        night = photograph(scene, Camera.aboard(scene, *SIZE), "night")
        bright += int(((night.rgb.max(2) > 110) & (night.semantic == Semantic.BUILDING)).sum())
    assert bright > 20


def test_all_views_share_one_mask(views):
    for view in ("night", "fog"):
        assert np.array_equal(views["day"].semantic, views[view].semantic)
        assert np.array_equal(views["day"].instance, views[view].instance)


def test_masks_depth_and_sky_agree(views):
    day = views["day"]
    assert day.rgb.dtype == np.uint8 and day.semantic.dtype == np.uint8
    assert day.instance.dtype == np.int32 and day.depth.dtype == np.float32
    assert np.array_equal(np.isinf(day.depth), day.semantic == Semantic.SKY)
    assert (day.depth > 0).all()
    assert day.semantic[-1, SIZE[0] // 2] == Semantic.ROAD


def test_the_road_ahead_lies_where_a_pinhole_camera_sees_it(scene):
    """On flat ground h below a level camera, row y sees depth h f / (y - middle), f = width / (2 tan(fov / 2))."""
    camera = Camera(64, 64, fov=90.0, position=(0.0, float(scene.ego[1]), float(scene.ego[2]) + 1.5), pitch=0.0)
    depth = photograph(scene, camera, "day").depth[63, 32]
    assert depth == pytest.approx(1.5 * 32 / 31.5, rel=0.05)  # the hill may rise a little on the way


def test_a_box_is_the_tightest_around_its_pixels():
    instance = np.zeros((10, 20), np.int32)
    instance[2:5, 3:9] = 7
    instance[6:9, 12:16] = 4
    instance[0, 0:11] = 9  # eleven pixels: too small
    semantic = np.where(instance == 7, 13, np.where(instance == 4, 11, np.where(instance == 9, 13, 0))).astype(np.uint8)
    photo = Photograph(np.zeros((10, 20, 3), np.uint8), semantic, instance, np.ones((10, 20), np.float32))
    assert list(boxes(photo)) == [(1, 12, 6, 16, 9), (0, 3, 2, 9, 5)]
    assert yolo_lines(photo) == ["1 0.700000 0.750000 0.200000 0.300000", "0 0.300000 0.350000 0.300000 0.300000"]


def test_boxes_cover_exactly_the_visible_pixels_of_cars_and_people(views):
    found = list(boxes(views["day"]))
    assert found
    for label, left, top, right, bottom in found:
        inside = views["day"].semantic[top:bottom, left:right] == (Semantic.CAR, Semantic.PERSON)[label]
        assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def test_fog_follows_koschmieders_law():
    """Black and white at 0 m, 10 m and infinity, extinction 0.05: transmission 1, exp(-0.5), 0."""
    radiance = np.array([[1.0, 0.0, 0.5]] * 3, np.float32)
    seen = light.scatter(radiance, np.array([0.0, 10.0, np.inf]), 0.05, np.float32([0.6, 0.6, 0.6]))
    through = math.exp(-0.5)
    expected = [
        [1.0, 0.0, 0.5],
        [through + 0.6 * (1 - through), 0.6 * (1 - through), 0.5 * through + 0.6 * (1 - through)],
        [0.6] * 3,
    ]
    assert np.allclose(seen, expected, atol=1e-6)


def test_fog_takes_contrast_from_what_is_far(views):
    depth, semantic = views["day"].depth, views["day"].semantic
    far = (depth > 60) & (semantic != Semantic.SKY)
    assert far.sum() > 20
    assert views["fog"].rgb[far].std() < 0.6 * views["day"].rgb[far].std()


def test_the_sky_is_brighter_towards_the_sun(scene):
    clear = scene.weather.__class__(scene.weather.sun, 0.0, 0.02, 0.5)
    sun = clear.sun[None]
    away = sun * np.float32([-1, -1, 1])
    assert light.sky_by_day(sun, clear).sum() > 1.5 * light.sky_by_day(away, clear).sum()


def test_a_brighter_radiance_develops_into_a_brighter_pixel():
    ramp = np.tile(np.linspace(0, 0.5, 40, dtype=np.float32)[None, :, None], (40, 1, 3))
    picture = develop(ramp, "day", np.random.default_rng(0)).astype(float).mean(axis=(0, 2))
    assert (np.diff(picture) > -2).all() and picture[-1] > picture[0] + 100


def test_solids_have_the_size_they_were_asked_for():
    assert np.ptp(box(4, 2, 0, 1.5).vertices, axis=0) == pytest.approx([4, 2, 1.5])
    assert np.ptp(tube(0.5, 1, 3, sides=8).vertices, axis=0) == pytest.approx([1, 1, 2])
    solid = wall((0, 0), (3, 4), 1.0, 2.5)
    assert solid.uv.max(0) == pytest.approx([5, 1.5])
    moved = box(4, 2, 0, 1).at(10, 0, 0, np.pi / 2)
    assert np.ptp(moved.vertices, axis=0) == pytest.approx([2, 4, 1]) and moved.vertices[:, 0].mean() == pytest.approx(
        10
    )


def test_a_mesh_numbers_its_parts_and_tints_its_triangles():
    mesh, look = Mesh(), Look(Semantic.CAR, Material.PAINT, (0.5, 0.25, 1.0))
    mesh.add(box(1, 1, 0, 1), look, mesh.new_instance(), tint=np.linspace(0, 1.1, 12))
    mesh.add(merged([box(1, 1, 0, 1), box(1, 1, 2, 3)]), look, mesh.new_instance())
    assert np.concatenate(mesh.triangles).max() == 23
    assert mesh.colours()[0] == pytest.approx([0, 0, 0]) and mesh.colours()[-1] == pytest.approx([0.5, 0.25, 1.0])
    assert mesh.per_triangle([(i,) for _, i, _ in mesh.looks]).ravel().tolist() == [1] * 12 + [2] * 24


def test_a_folder_of_streets_resumes_and_its_first_scenes_do_not_depend_on_how_many(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    write_street(one, scenes=1, seed=5, size=SIZE)
    write_street(two, scenes=2, seed=5, size=SIZE)
    first, both = the_files(one), the_files(two)
    assert all(both[name] == first[name] for name in first if name != "street.json")
    stamp = (two / "day/images/000000.png").stat().st_mtime_ns
    (two / "night/images/000001.png").unlink()
    write_street(two, scenes=2, seed=5, size=SIZE)
    assert the_files(two) == both
    assert (two / "day/images/000000.png").stat().st_mtime_ns == stamp
    write_street(one, scenes=2, seed=5, size=SIZE)
    assert the_files(one) == both


def test_the_folder_has_images_masks_and_boxes_with_the_same_stem(tmp_path):
    write_street(tmp_path / "out", scenes=1, seed=5, views=("day", "fog"), size=SIZE)
    files = set(the_files(tmp_path / "out"))
    assert files == {
        "street.json",
        "day/classes.txt",
        "day/images/000000.png",
        "fog/images/000000.png",
        "day/masks/000000.png",
        "day/labels/000000.txt",
    }
    with Image.open(tmp_path / "out/day/masks/000000.png") as mask:
        assert mask.mode == "L" and mask.size == SIZE
    assert (tmp_path / "out/day/classes.txt").read_text().split() == list(CLASSES)
    told = json.loads((tmp_path / "out/street.json").read_text())
    assert (told["seed"], told["scenes"], told["views"], told["size"]) == (5, 1, ["day", "fog"], list(SIZE))
    for line in (tmp_path / "out/day/labels/000000.txt").read_text().splitlines():
        label, cx, cy, w, h = line.split()
        assert label in "01"
        assert float(cx) - float(w) / 2 >= -1e-6 and float(cx) + float(w) / 2 <= 1 + 1e-6
        assert float(cy) - float(h) / 2 >= -1e-6 and float(cy) + float(h) / 2 <= 1 + 1e-6


def test_seeds_of_scenes_differ_and_fit_in_63_bits():
    seeds = {seed_of(seed, index) for seed in range(5) for index in range(40)}
    assert len(seeds) == 200 and all(0 <= seed < 2**63 for seed in seeds)


def test_a_folder_of_another_street_is_refused(tmp_path):
    (tmp_path / "street.json").write_text(json.dumps({"seed": 1, "views": ["day", "night"], "size": list(SIZE)}))
    with pytest.raises(UserError, match="already holds a street with seed 1; asked for seed 2"):
        write_street(tmp_path, scenes=1, seed=2, size=SIZE)


@pytest.mark.parametrize("text", ["not json", "[1, 2]"])
def test_a_broken_street_json_is_refused_by_name(tmp_path, text):
    (tmp_path / "street.json").write_text(text)
    with pytest.raises(UserError, match="street.json: .* mend it"):
        write_street(tmp_path, scenes=1, size=SIZE)


def test_a_folder_full_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no street.json"):
        write_street(tmp_path, scenes=1, size=SIZE)


@pytest.mark.parametrize(
    ("views", "scenes", "size", "match"),
    [
        (("dusk",), 1, SIZE, "views dusk: name at least one of day, night, fog, lidar, each once"),
        (("day", "day"), 1, SIZE, "views day, day: name"),
        ((), 1, SIZE, r"views \(none\)"),
        (("day",), 0, SIZE, "0 scenes by 1 workers"),
        (("day",), 1, (8, 54), "size 8x54: width and height must be 16 to 4096"),
    ],
)
def test_an_impossible_order_is_refused_before_anything_is_written(tmp_path, views, scenes, size, match):
    with pytest.raises(UserError, match=match):
        write_street(tmp_path / "out", scenes=scenes, views=views, size=size)
    assert not (tmp_path / "out").exists()


def test_a_camera_names_the_views_it_knows(scene):
    with pytest.raises(UserError, match="unknown view 'dawn'; a camera photographs day, night, fog"):
        photographs(scene, Camera(), ("dawn",))
