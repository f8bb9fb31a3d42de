"""Captions of simulated streets: what is counted, how it is said, and that it can be read back."""
import itertools

import numpy as np
import pytest

from command import mmcycle
from mmcycle.errors import UserError
from mmcycle.simulate.captioned import write_captioned
from mmcycle.simulate.captions import KINDS, MANY, Shown, caption, is_caption, parse, read_captions
from mmcycle.simulate.mesh import Semantic
from mmcycle.simulate.scene import street
from mmcycle.simulate.staged import MOST, staged
from mmcycle.simulate.street import seed_of


def masks(*things: tuple[Semantic, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(kind, instance, pixels) one below the other, in 100 x 100 pixels of road."""
    semantic, instance = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.int32)
    for row, (kind, number, pixels) in enumerate(things):
        semantic[row, :pixels], instance[row, :pixels] = kind, number
    return semantic, instance


def test_things_are_counted_once_each_and_only_where_they_fill_enough_of_the_picture():
    cars = [(Semantic.CAR, 1, 50), (Semantic.CAR, 1, 50), (Semantic.CAR, 2, 50), (Semantic.CAR, 3, 49)]
    shown = Shown.of(*masks(*cars, (Semantic.PERSON, 9, 60), (Semantic.VEGETATION, 0, 90)), "night")
    assert shown == Shown("night", (2, 1, 0, 0))        # 50 of 10000 pixels are named, 49 are not; a hedge is no thing
    assert caption(shown) == "two cars and one person by night"


def test_more_than_three_are_many():
    shown = Shown.of(*masks(*((Semantic.VEGETATION, number, 60) for number in range(1, 8))), "day")
    assert shown.counts == (0, 0, MANY, 0) and caption(shown) == "many trees by day"


@pytest.mark.parametrize(("shown", "said"), [
    (Shown("fog", (0, 0, 0, 0)), "an empty street in fog"),
    (Shown("day", (1, 0, 0, 1)), "one car and one traffic light by day"),
    (Shown("night", (3, 4, 2, 2)), "three cars, many people, two trees and two traffic lights by night"),
])
def test_a_caption_reads_as_a_person_would_say_it(shown, said):
    assert caption(shown) == said


def test_every_caption_can_be_read_back_and_fits_into_96_bytes():
    every = itertools.product(range(MANY + 1), repeat=len(KINDS))
    for view, counts in itertools.product(("day", "night", "fog"), every):
        shown = Shown(view, counts)
        assert parse(caption(shown)) == shown and len(caption(shown)) < 96


def test_a_caption_is_one_only_letter_for_letter():
    assert is_caption("two cars by night\n") and is_caption("an empty street by day")
    assert not any(map(is_caption, ("", "two cars", "two car by night", "one person and one car by day", "by night")))


@pytest.mark.parametrize(("text", "shown"), [
    ("", Shown("", (0, 0, 0, 0))),
    ("Two cars,\none car BY NIGHT by day", Shown("night", (2, 0, 0, 0))),
    ("xone car, two carts and three trees in fo", Shown("", (0, 0, 3, 0))),
])
def test_of_what_is_no_caption_only_what_can_be_read_counts(text, shown):
    assert parse(text) == shown


def test_attributes_name_what_a_classifier_may_be_asked():
    found = {"car": 2, "person": 0, "tree": 2, "traffic light": 1}       # several is 2
    assert Shown("night", (2, 0, 4, 1)).attributes == {"view": 1, **found}
    assert Shown("", (2, 0, 4, 1)).attributes["view"] == -1


def test_the_captions_of_a_folder_are_read_by_name_and_a_folder_without_any_is_refused(tmp_path):
    (tmp_path / "1.txt").write_text("one tree by night")
    (tmp_path / "0.txt").write_text("two cars by day")
    assert {name: found.tolist() for name, found in read_captions(tmp_path).items()} == {
        "view": [0, 1], "car": [2, 0], "person": [0, 0], "tree": [0, 1], "traffic light": [0, 0]
    }
    with pytest.raises(UserError, match="holds no caption: write them with"):
        read_captions(tmp_path / "none")


def test_simulate_street_writes_a_caption_beside_each_photograph(tmp_path):
    pytest.importorskip("open3d")
    said = mmcycle(
        "simulate", "street", tmp_path / "s", "--scenes", 2, "--size", "48x32", "--views", "day,night", "--captions"
    )
    assert said.code == 0, said.err
    for stem in ("000000", "000001"):
        day, night = ((tmp_path / "s" / view / "captions" / f"{stem}.txt").read_text() for view in ("day", "night"))
        assert day.endswith("by day\n") and night == day.replace("by day", "by night")
        assert caption(parse(day)) + "\n" == day


def test_captioned_pictures_show_as_many_things_near_by_as_their_captions_say(tmp_path):
    pytest.importorskip("open3d")
    write_captioned(tmp_path / "few", 6, seed=4, size=(48, 32))
    for view in ("day", "night"):
        assert len([*(tmp_path / "few" / "image" / view).iterdir()]) == 6
        told = [(tmp_path / "few" / "text" / view / f"{index:06d}.txt").read_text() for index in range(6)]
        assert all(is_caption(text) and text.endswith(f"by {view}\n") for text in told)
        shown = {parse(text).counts for text in told}
        assert len(shown) > 2 and max(max(counts) for counts in shown) <= MOST
        assert all(trees == lights == 0 for _, _, trees, lights in shown)
    first = (tmp_path / "few" / "image" / "day" / "000003.png").read_bytes()
    write_captioned(tmp_path / "one", 4, seed=4, size=(48, 32))
    assert (tmp_path / "one" / "image" / "day" / "000003.png").read_bytes() == first     # by seed and number alone


def test_captioned_pictures_of_another_order_or_of_no_size_are_refused(tmp_path):
    pytest.importorskip("open3d")
    write_captioned(tmp_path, 1, seed=4, size=(32, 16))
    with pytest.raises(UserError, match="already holds captioned pictures with seed 4; asked for seed 5"):
        write_captioned(tmp_path, 1, seed=5, size=(32, 16))
    with pytest.raises(UserError, match="0 scenes of 8x16 pixels: give one scene"):
        write_captioned(tmp_path / "new", 0, size=(8, 16))


def test_a_staged_street_shows_chosen_things_in_front_of_the_car_and_no_others():
    scene = street(seed_of(11, 0))
    counts = set()
    for seed in range(8):
        few = staged(scene, np.random.default_rng(seed))
        cars, people = ((few.box_semantic == kind).sum() for kind in (Semantic.CAR, Semantic.PERSON))
        counts |= {int(cars), int(people)}
        place = few.plan.straightened(few.boxes[:, :3])[:, :2] - few.plan.straightened(few.ego[:3])[0, :2]
        assert cars <= MOST and people <= MOST and len(few.triangles) == len(few.semantic) == len(few.instance)
        assert ((place[:, 0] > 4) & (place[:, 0] < 12) & (np.abs(place[:, 1]) < 4.1)).all()
        assert set(np.unique(few.instance)) == {0, *few.box_instance.tolist()}
        for row, instance in enumerate(few.box_instance):       # the triangles went where the box went
            corners = few.vertices[few.triangles[few.instance == instance]].reshape(-1, 3)
            middle = (corners.min(0) + corners.max(0)) / 2
            assert np.abs(middle - few.boxes[row, :3])[:2].max() < 0.6
    assert counts == {0, 1, 2}
