"""LaserMix and PolarMix: where every point of the mix is from, and that its labels came along."""
from math import cos, radians, sin
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from mmcycle.errors import UserError
from mmcycle.transforms import LaserMix, PolarMix
from mmcycle.transforms.sensors import Boxes3D, Points, RangeImage

DATA = Path(__file__).parents[2] / "shared" / "data" / "lidar"
CAR, ROAD = 10, 40


def at(azimuth, elevation, range=10.0):
    a, e = radians(azimuth), radians(elevation)
    return [range * cos(e) * cos(a), range * cos(e) * sin(a), range * sin(e)]


def sweep(n, seed):
    """Random points; column 3 is a name of their own, which they share with their labels."""
    rng = np.random.default_rng(seed)
    rays = zip(rng.uniform(-180, 180, n), rng.uniform(-25, 3, n), rng.uniform(2, 50, n))
    names = np.arange(n) + 1000 * seed
    points = np.column_stack([[at(*ray) for ray in rays], names]).astype(np.float32)
    classes = rng.choice([CAR, ROAD], n)
    things = np.where(classes == CAR, rng.integers(1, 4, n), 0)
    return {
        "points": Points(points), "labels": torch.from_numpy(classes), "instances": torch.from_numpy(things),
        "names": torch.from_numpy(names), "file": f"{seed}.bin",
    }


def image(seed, azimuth=(0.0, 360.0), rows=8, columns=36):
    """A range image whose channel 1 names the pixel; a tenth of it is empty."""
    rng = np.random.default_rng(seed)
    range = np.where(rng.random((rows, columns)) < 0.1, 0, rng.uniform(2, 50, (rows, columns)))
    names = np.arange(rows * columns).reshape(rows, columns) + 1000 * seed
    classes = rng.choice([CAR, ROAD], (rows, columns))
    return {
        "view": RangeImage(np.stack([range, names]).astype(np.float32), azimuth=azimuth),
        "labels": torch.from_numpy(classes), "instances": torch.from_numpy(np.where(classes == CAR, 2, 0)),
    }


def directions(points):
    """Azimuth and elevation in degrees, by numpy."""
    x, y, z = points.numpy()[:, :3].astype(np.float64).T
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))


def origin(made, a, b):
    """For every point of a mix, whether it is of b, and its place there; found by its name, checked to the bit."""
    names = made["names"].numpy()
    of_b = names >= b["names"].numpy().min()
    place = np.where(of_b, names - b["names"].numpy().min(), names - a["names"].numpy().min())
    for which, one in ((~of_b, a), (of_b, b)):
        for key in ("points", "labels", "names"):
            assert torch.equal(made[key][which].as_subclass(torch.Tensor), one[key][place[which]].as_subclass(torch.Tensor))
    return of_b, place


def always(value):
    """Stands for torch.rand."""
    return lambda *shape, dtype=None: torch.full(() if shape == ((),) else shape, value, dtype=dtype)


def seeds(count=12):
    for seed in range(count):
        torch.manual_seed(seed)
        yield seed


A, B = sweep(400, 1), sweep(300, 2)
LASER = LaserMix(elevation=(-25, 3), also=("names",))
POLAR = {"things": [CAR], "also": ("names",)}


# LaserMix


def test_bands_of_elevation_are_in_turn_of_the_one_sweep_and_the_other():
    drawn = set()
    for _ in seeds(30):
        made = LASER(A, B)
        of_b, _ = origin(made, A, B)
        fits = [
            (areas, first) for areas in (3, 4, 5, 6) for first in (0, 1)
            if np.array_equal(of_b, (np.floor((3 - directions(made["points"])[1]) / (28 / areas)) + first) % 2 == 1)
        ]
        assert len(fits) == 1
        drawn.add(fits[0])
        areas, first = fits[0]
        for one, turn in ((A, 0), (B, 1)):                                  # and nothing of a band is missing
            band = np.floor((3 - directions(one["points"])[1]) / (28 / areas))
            assert ((band + first) % 2 == turn).sum() == (of_b == bool(turn)).sum()
    assert len(drawn) >= 7


def test_two_bands_worked_by_hand():
    one = {"points": torch.tensor([at(0, 2), at(0, -20), at(90, -5)]), "labels": torch.tensor([1, 2, 3])}
    two = {"points": torch.tensor([at(0, 3), at(0, -25), at(90, -12)]), "labels": torch.tensor([4, 5, 6])}
    found = set()
    for _ in seeds():
        made = LaserMix([2], stream="points")(one, two)                     # from -25 to 3: the middle is -11
        found.add(tuple(made["labels"].tolist()))
        assert len(made["points"]) == len(made["labels"])
    assert found == {(1, 3, 5, 6), (2, 4)}


def test_points_beyond_the_bands_belong_to_the_outermost():
    one = {"points": torch.tensor([at(0, 60), at(0, -60)]), "labels": torch.tensor([1, 2])}
    two = {"points": torch.tensor([at(0, 70), at(0, -70)]), "labels": torch.tensor([3, 4])}
    made = {tuple(LaserMix([2], elevation=(-10, 10), stream="points")(one, two)["labels"].tolist()) for _ in seeds()}
    assert made == {(1, 4), (2, 3)}


def test_points_at_the_origin_or_that_are_no_numbers_are_there_once_at_most_with_their_labels():
    odd = {"points": torch.tensor([[0.0, 0, 0], [torch.nan, 1, 1], [1, torch.inf, 1]]), "labels": torch.tensor([1, 2, 3])}
    for _ in seeds():
        made = LaserMix(stream="points")(odd, {"points": torch.tensor([at(0, 1)]), "labels": torch.tensor([4])})
        assert len(set(made["labels"].tolist())) == len(made["labels"]) == len(made["points"])
    none = {"points": torch.zeros(0, 4), "labels": torch.zeros(0).long()}
    assert LaserMix(stream="points")(none, none)["points"].shape == (0, 4)


def test_rows_of_range_images_are_mixed_with_their_labels():
    one, two = image(1), image(2)
    for _ in seeds():
        made = LaserMix([4], stream="view")(one, two)
        of_b = made["view"][1] >= 2000
        expected = np.isin(np.arange(8) // 2, (0, 2)) ^ bool(not of_b[0, 0])
        np.testing.assert_array_equal(of_b.numpy(), np.tile(expected[:, None], (1, 36)))
        assert torch.equal(made["labels"], torch.where(of_b, two["labels"], one["labels"]))
        assert torch.equal(made["view"].as_subclass(torch.Tensor), torch.where(of_b, two["view"], one["view"]))
        assert type(made["view"]) is RangeImage and made["view"].azimuth == (0.0, 360.0)


# PolarMix


def one_arc(inside, outside):
    """Whether azimuths `inside` lie in one half of the circle and `outside` in the other."""
    every = np.concatenate([inside, outside]) % 360
    order = np.argsort(every)
    is_inside = (np.arange(len(every)) < len(inside))[order]
    changes = np.flatnonzero(is_inside != np.roll(is_inside, 1))
    edges = every[order][changes]                           # the first of each arc
    lasts = every[order][changes - 1]
    return len(changes) == 2 and all((lasts[1 - n] - edges[n]) % 360 < 180 for n in (0, 1))


def test_a_sector_of_azimuth_is_of_the_other_sweep_and_all_else_of_the_first():
    mix, shares = PolarMix(**POLAR, swap=1, paste=0), []
    for _ in seeds():
        made = mix(A, B)
        of_b, place = origin(made, A, B)
        kept_a, kept_b = (np.isin(np.arange(len(one["points"])), place[of_b == turn]) for one, turn in ((A, False), (B, True)))
        a, b = (directions(one["points"])[0] for one in (A, B))
        assert one_arc(np.concatenate([a[~kept_a], b[kept_b]]), np.concatenate([a[kept_a], b[~kept_b]]))
        shares.append(of_b.mean())
    assert 0.2 < np.mean(shares) < 0.7 and np.std(shares) > 0


def test_things_are_pasted_where_they_are_and_turned_about_the_sensor():
    mix, cars = PolarMix(**POLAR, swap=0), B["labels"] == CAR
    for _ in seeds():
        made = mix(A, B)
        n, m = len(A["points"]), int(cars.sum())
        assert len(made["points"]) == n + 3 * m == len(made["labels"]) == len(made["instances"])
        assert torch.equal(made["points"][:n], A["points"]) and torch.equal(made["points"][n : n + m], B["points"][cars])
        turns = []
        for start in (n + m, n + 2 * m):
            copy, given = made["points"][start : start + m].numpy().astype(np.float64), B["points"][cars].numpy().astype(np.float64)
            np.testing.assert_array_equal(copy[:, 2:], given[:, 2:])        # height and whatever else
            np.testing.assert_allclose(np.hypot(copy[:, 0], copy[:, 1]), np.hypot(given[:, 0], given[:, 1]), rtol=1e-6)
            turn = (np.degrees(np.arctan2(copy[:, 1], copy[:, 0]) - np.arctan2(given[:, 1], given[:, 0]))) % 360
            assert np.ptp(turn) < 1e-3
            turns.append(turn.mean())
            assert torch.equal(made["names"][start : start + m], B["names"][cars])
        assert 0 < turns[0] < 120 < turns[1] < 240
        assert (made["labels"][n:] == CAR).all()


def test_a_turn_worked_by_hand(monkeypatch):
    monkeypatch.setattr(torch, "rand", always(0.5))
    one = {"points": torch.zeros(1, 4), "labels": torch.tensor([ROAD])}
    two = {"points": torch.tensor([[3.0, 0, 1, 0.7], [5, 0, 0, 0]]), "labels": torch.tensor([CAR, ROAD])}
    made = PolarMix([CAR], swap=0, copies=2, stream="points")(one, two)["points"]       # (0 + 0.5) * 360 / 2 = 90 degrees
    torch.testing.assert_close(made, torch.tensor([[0.0, 0, 0, 0], [3, 0, 1, 0.7], [0, 3, 1, 0.7]]), atol=1e-6, rtol=0)


def test_no_point_is_there_twice_when_a_sector_is_swapped_and_things_are_pasted_where_they_are():
    for _ in seeds():
        made = PolarMix(**POLAR, swap=1, copies=1)(A, B)
        of_b, place = origin(made, A, B)
        assert len(np.unique(place[of_b])) == of_b.sum()
        assert set(np.flatnonzero(B["labels"] == CAR)) <= set(place[of_b])              # each of the things is there


def test_without_swap_and_paste_nothing_happens():
    made = PolarMix(**POLAR, swap=0, paste=0)(A, B)
    assert torch.equal(made["points"], A["points"]) and torch.equal(made["instances"], A["instances"])
    assert torch.equal(PolarMix(**(POLAR | {"things": []}), swap=0)(A, B)["points"], A["points"])


def test_columns_of_range_images_are_swapped_and_things_turned_over_the_seam():
    one, two = image(1), image(2)
    for _ in seeds():
        made = PolarMix([CAR], swap=1, paste=0)(one, two)
        of_b = (made["view"][1] >= 2000).numpy()
        assert of_b.all(axis=0).sum() == of_b.any(axis=0).sum() == 18                   # half a turn of 36 columns
        assert np.abs(np.diff(np.append(of_b[0], of_b[0, 0]).astype(int))).sum() == 2  # in one piece, over the seam
        made = PolarMix([CAR], swap=0, copies=3)(one, two)
        names = made["view"][1].int().numpy()
        pasted = names >= 2000
        rows, columns = np.divmod(names[pasted] - 2000, 36)
        np.testing.assert_array_equal(rows, np.nonzero(pasted)[0])
        moved = (columns - np.nonzero(pasted)[1]) % 36                                  # to the left, which is +azimuth
        assert len(np.unique(moved)) == 3 and 0 in moved and ((moved <= 24)).all()
        before, there = one["view"][0].numpy()[pasted], made["view"][0].numpy()[pasted]
        assert ((before == 0) | (there < before)).all() and (there > 0).all()           # the nearer of two stays
        assert (made["labels"].numpy()[pasted] == CAR).all()
        assert torch.equal(made["labels"][~torch.from_numpy(pasted)], one["labels"][~torch.from_numpy(pasted)])
        np.testing.assert_array_equal(there, two["view"][0].numpy()[rows, columns])


def test_in_a_window_no_thing_comes_in_at_the_other_side(monkeypatch):
    def only(column):
        view, labels = torch.zeros(1, 1, 10), torch.zeros(1, 10, dtype=torch.int64)
        view[0, 0, column], labels[0, column] = 5.0, CAR
        return {"view": RangeImage(view, azimuth=(0.0, 90.0)), "labels": labels}

    def pasted(column, share):
        monkeypatch.setattr(torch, "rand", always(share))
        empty = {"view": RangeImage(torch.zeros(1, 1, 10), azimuth=(0.0, 90.0)), "labels": torch.zeros(1, 10, dtype=torch.int64)}
        return (PolarMix([CAR], swap=0, copies=2)(empty, only(column))["labels"][0] == CAR).nonzero()[:, 0].tolist()

    assert pasted(5, 0.2) == [1, 5]                         # 0.2 * 180 = 36 degrees are 4 columns to the left
    assert pasted(3, 0.2) == [3]                            # beyond the left edge
    assert pasted(3, 0.9) == [3]                            # 162 degrees


# What belongs to the points


@pytest.mark.parametrize("mix", [LASER, PolarMix(**POLAR, swap=1)], ids=["laser", "polar"])
def test_things_of_two_sweeps_keep_numbers_of_their_own(mix):
    for _ in seeds():
        made = mix(A, B)
        of_b = made["names"].numpy() >= 2000
        before = np.where(of_b, B["instances"].numpy()[made["names"].numpy() % 1000 * of_b], A["instances"].numpy()[made["names"].numpy() % 1000 * ~of_b])
        after = made["instances"].numpy()
        assert ((after == 0) == (before == 0)).all()
        assert not set(after[~of_b]) & set(after[of_b]) - {0}
        assert ((after - before)[of_b & (before > 0)] % 3 == 0).all()                   # each sweep has three things
        np.testing.assert_array_equal(after[~of_b], before[~of_b])


def test_a_turned_thing_is_another_one_than_that_where_it_was():
    for _ in seeds(4):
        made = PolarMix(**POLAR, swap=1)(A, B)
        of_b = made["names"].numpy() >= 2000
        assert set(made["instances"].numpy()[of_b]) == set(range(4, 13)) | {0}          # 3 of a; 3 times 3 of b


def test_what_is_not_of_the_points_is_that_of_the_first_sweep():
    made = LASER(A, B)
    assert made["file"] == "1.bin" and list(made) == list(A) and type(made["points"]) is Points
    assert torch.equal(B["instances"], sweep(300, 2)["instances"])                      # what was given stays


def test_sweeps_without_instances_are_mixed_too():
    one, two = ({key: value for key, value in one.items() if key != "instances"} for one in (A, B))
    origin(LASER(one, two), A, B)


def test_numbers_that_a_dtype_cannot_hold_are_refused():
    small = [one | {"instances": (one["instances"] * 40).to(torch.uint8)} for one in (A, B)]
    with pytest.raises(UserError, match="instances of uint8 cannot hold 360, the number of a thing in the mix; give them as int64"):
        PolarMix(**POLAR)(*small)


# A list of sweeps


def test_each_sweep_of_a_list_is_mixed_with_another_one():
    many = [sweep(100, seed) for seed in range(1, 6)]
    for _ in seeds(6):
        made = LASER(many)
        partners = [sorted(set((one["names"] // 1000).tolist())) for one in made]
        assert [one["file"] for one in made] == [one["file"] for one in many]
        assert all(len(pair) == 2 and place + 1 in pair for place, pair in enumerate(partners))
        others = [next(number for number in pair if number != place + 1) for place, pair in enumerate(partners)]
        assert sorted(others) == [1, 2, 3, 4, 5]
    assert LASER([A]) == [A] and LASER([]) == []


def test_a_share_of_the_sweeps_is_mixed():
    torch.manual_seed(0)
    mixed = [(one["names"] >= 2000).any() for _ in range(100) for one in LaserMix(p=0.3, also=("names",))([A, B])[:1]]
    assert abs(int(torch.stack(mixed).sum()) - 30) < 4 * (100 * 0.3 * 0.7) ** 0.5
    assert LaserMix(p=0, also=("names",))(A, B)["points"] is A["points"]


def test_the_same_seed_gives_the_same_mix_and_as_much_is_drawn_whatever_p_is():
    def run(mix, seed=0):
        torch.manual_seed(seed)
        return mix(A, B)["names"].tolist(), torch.rand(()).item()

    mix = v2.Compose([PolarMix(**POLAR)])
    assert run(mix) == run(ForkingPickler.loads(ForkingPickler.dumps(mix))) != run(mix, 1)
    assert run(PolarMix(**POLAR, p=0))[1] == run(PolarMix(**POLAR, p=1))[1]
    assert run(LaserMix(also=("names",), p=0))[1] == run(LaserMix(also=("names",), p=1))[1]


def test_a_loader_mixes_what_it_collates():
    def collate(sweeps):
        made = LASER(sweeps)
        return {"points": [one["points"] for one in made], "labels": torch.cat([one["labels"] for one in made])}

    for made in DataLoader([sweep(100, seed) for seed in range(1, 5)], batch_size=2, collate_fn=collate):
        assert sum(len(points) for points in made["points"]) == len(made["labels"])


def real(name):
    """A labelled sweep as the range image that it is stored as, and as points."""
    with np.load(DATA / "semantickitti" / name) as file:
        range, labels = file["range"].astype(np.float32) * float(file["range_scale"]), file["label"].astype(np.int64)
    azimuth = np.radians(180 - (np.arange(1024) + 0.5) * 360 / 1024)
    elevation = np.radians(3 - (np.arange(64)[:, None] + 0.5) * 28 / 64)
    x, y, z = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation) + 0 * azimuth
    points = (range * np.stack([x, y, z])).transpose(1, 2, 0).astype(np.float32)
    cloud = {"points": Points(points[range > 0]), "labels": torch.from_numpy(labels[range > 0])}
    return cloud, {"view": RangeImage(range[None]), "labels": torch.from_numpy(labels)}


@pytest.mark.skipif(not (DATA / "semantickitti").exists(), reason="the shared recordings are not here")
@pytest.mark.parametrize("mix", [LaserMix([4], elevation=(-25, 3)), PolarMix([1], swap=1, paste=0)], ids=["laser", "polar"])
def test_real_sweeps_are_mixed_alike_as_points_and_as_range_images(mix):
    (cloud_a, image_a), (cloud_b, image_b) = real("1.npz"), real("16.npz")
    torch.manual_seed(0)
    cloud = mix(cloud_a, cloud_b)
    torch.manual_seed(0)
    image = mix(image_a, image_b)
    shown = image["view"][0] > 0
    assert cloud["labels"].bincount(minlength=20).tolist() == image["labels"][shown].bincount(minlength=20).tolist()
    ranges = np.sort(np.linalg.norm(cloud["points"].numpy().astype(np.float64), axis=1))
    np.testing.assert_allclose(ranges, np.sort(image["view"][0][shown].numpy()), rtol=1e-6)
    given = {row.tobytes() for one in (cloud_a, cloud_b) for row in one["points"].numpy()}
    assert all(row.tobytes() in given for row in cloud["points"].numpy())


# What is refused


@pytest.mark.parametrize("make, message", [
    (lambda: LaserMix([1, 2]), r"LaserMix: areas are \(1, 2\); numbers of bands, 2 or more each"),
    (lambda: LaserMix([]), r"areas are \(\)"),
    (lambda: LaserMix(elevation=(3, -25)), r"elevation is \(3, -25\); \(lowest, highest\) in degrees"),
    (lambda: LaserMix(p=1.5), "LaserMix: p is 1.5"),
    (lambda: PolarMix([CAR], sector=360), "PolarMix: sector is 360 and copies 3; allowed are 0 to 360 degrees"),
    (lambda: PolarMix([CAR], copies=0), "copies 0"),
    (lambda: PolarMix([CAR], swap=-1), "PolarMix: swap is -1; a probability"),
    (lambda: PolarMix([CAR], paste=2), "PolarMix: paste is 2; a probability"),
])
def test_a_mix_that_makes_no_sense_is_refused_at_once(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("one, two, message", [
    (A, B | {"points": Points(B["points"].double())}, r"'points' is Tensor \(400, 4\) float32 in one sweep, Tensor \(300, 4\) float64 in the other"),
    (A, {key: value for key, value in B.items() if key != "instances"}, "one sweep has instances and the other has not"),
    (A, {key: value for key, value in B.items() if key != "labels"}, "a sweep lacks labels; it holds points, instances, names, file"),
    (A, B | {"labels": B["labels"][1:]}, r"'labels' Tensor \(299,\) int64 stands beside the points of 'points' Points .*; it is of another number"),
    (A | {"times": torch.zeros(400)}, B, r"'times' Tensor \(400,\) float32 stands beside .*; it seems to belong to them and is not named in also="),
    (A | {"boxes": Boxes3D(torch.zeros(2, 7))}, B, r"'boxes' is Boxes3D \(2, 7\) float32; boxes do not hold for a mix of two sweeps"),
    (A | {"mask": tv_tensors.Mask(torch.zeros(2, 7))}, B, "'mask' is Mask"),
    ({"labels": A["labels"]}, B, r"takes points \(N, 3 or more\) or one range image \(C, H, W\), named with stream=; found 'labels' Tensor"),
    (A | {"view": image(1)["view"]}, B, "named with stream="),
    (A, image(2), "a sweep lacks points, names; it holds view, labels, instances"),
    (A, 3, "a sweep is a dict; got int"),
])
def test_sweeps_that_do_not_go_together_are_told(one, two, message):
    with pytest.raises(UserError, match="LaserMix: .*" + message):
        LASER(one, two)


def test_range_images_of_two_sizes_are_refused():
    with pytest.raises(UserError, match=r"'view' is Tensor \(2, 8, 36\) float32 in one sweep, Tensor \(2, 8, 40\) float32 in the other"):
        LaserMix()(image(1), image(2, columns=40))


def test_range_images_of_two_windows_are_refused():
    with pytest.raises(UserError, match=r"'view' covers \(0.0, 90.0\) in one sweep, \(0.0, 360.0\) in the other"):
        LaserMix()(image(1, azimuth=(0.0, 90.0)), image(2))


@pytest.mark.parametrize("given", [(A,), (A, B, A), ()])
def test_what_is_neither_two_sweeps_nor_a_list_is_refused(given):
    with pytest.raises(UserError, match="takes two sweeps, or a list of sweeps"):
        LASER(*given)
