"""What the distances between sets of sweeps must keep, on sweeps worked by hand, on made ones and on real ones."""
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcycle.errors import UserError
from mmcycle.metrics.sweeps import (
    Sweeps,
    bev_histogram,
    bev_jsd,
    bev_mmd,
    compare,
    describe,
    drop_given_left,
    drop_map_error,
    halves,
    points,
    with_floor,
)
from mmcycle.metrics.wasserstein import sliced_wasserstein, wasserstein

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parents[2] / "shared" / "data" / "lidar"
BEAMS, COLUMNS = 32, 64


def street(seed: int, number: int = 8) -> Sweeps:
    """Ground seen from 1.7 m, boxes of class 1 on it, sky above, and in each sweep a patch of drops."""
    rng = torch.Generator().manual_seed(seed)
    elevation = torch.linspace(3, -25, BEAMS)
    ground = 1.7 / torch.sin(torch.deg2rad(-elevation)).clamp_min(1.7 / 60)
    ranges = torch.where(elevation < -1.6, ground, 0.0)[None, :, None].repeat(number, 1, COLUMNS)
    labels = torch.zeros(number, BEAMS, COLUMNS, dtype=torch.long)
    for one, marked in zip(ranges, labels):
        for _ in range(6):
            column, far = int(torch.randint(COLUMNS - 8, (), generator=rng)), 6 + 30 * torch.rand((), generator=rng)
            one[3:16, column : column + 6], marked[3:16, column : column + 6] = far, 1
        row, column = torch.randint(8, 20, (2,), generator=rng).tolist()
        one[row : row + 6, column : column + 10] = 0
    ranges = ranges * (1 + 0.002 * torch.randn(ranges.shape, generator=rng))
    intensity = (0.2 + 0.3 * labels + 0.05 * torch.randn(ranges.shape, generator=rng)).clamp(0, 1)
    return Sweeps(ranges, intensity, labels, elevation)


def dropped(sweeps: Sweeps, share: float) -> Sweeps:
    """With so many more drops, each on its own; a pixel lost at one share is lost at every larger one."""
    chance = torch.rand(sweeps.range.shape, generator=torch.Generator().manual_seed(5))
    return replace(sweeps, range=torch.where(chance < share, 0.0, sweeps.range))


def shaken(sweeps: Sweeps, metres: float) -> Sweeps:
    noise = torch.randn(sweeps.range.shape, generator=torch.Generator().manual_seed(6)) * metres
    return replace(sweeps, range=torch.where(sweeps.returned, (sweeps.range + noise).clamp_min(0.1), 0.0))


def rises(values: list[float]) -> bool:
    return all(first < second for first, second in zip(values, values[1:]))


# Worked by hand

def test_a_drop_is_met_by_its_left_neighbour_around_the_ring():
    ranges = torch.tensor([[[0.0, 0, 5, 0], [5, 5, 0, 5]]])     # in the first row columns 0 and 1 follow a drop
    assert drop_given_left(ranges) == 2 / 4
    assert drop_given_left(ranges, ring=False) == 1 / 3         # the drop in the last column has nobody to its right
    assert drop_given_left(torch.tensor([[[0.0, 0, 0, 5]]]), ring=False) == 2 / 3
    assert drop_given_left(torch.ones(1, 2, 4)) == 0


def test_drops_on_their_own_follow_the_drop_rate_and_drops_in_runs_do_not():
    rng = torch.Generator().manual_seed(0)
    alone = (torch.rand(20, 32, 256, generator=rng) > 0.2).float()
    runs = (torch.rand(20, 32, 32, generator=rng) > 0.2).float().repeat_interleave(8, dim=2)
    assert drop_given_left(alone) == pytest.approx(0.2, abs=0.01)
    assert drop_given_left(runs) == pytest.approx((7 + 0.2) / 8, abs=0.01)


def test_the_drop_map_compares_the_shares_of_every_pixel():
    fake = torch.tensor([[[0.0, 5, 5, 0]], [[0, 5, 5, 5]]])     # shares 1, 0, 0, 1/2
    real = torch.tensor([[[0.0, 0, 5, 5]], [[5, 0, 5, 0]], [[5, 0, 5, 5]], [[5, 5, 5, 0]]])     # 1/4, 3/4, 0, 1/2
    assert drop_map_error(fake, real) == pytest.approx((0.75 + 0.75 + 0 + 0) / 4)


@pytest.mark.parametrize("fake, real, expected", [
    ([0.0, 1, 3], [5.0, 6, 8], 5.0),                            # moved by 5
    ([0.0, 2], [1.0], 1.0),                                     # half comes from either side
    ([0.0], [0.0, 0, 0, 4], 1.0),                               # a quarter travels 4
    ([1.0, 2, 2, 7], [2.0, 7, 1, 2], 0.0),
])
def test_wasserstein_is_the_way_that_values_must_travel(fake, real, expected):
    assert wasserstein(torch.tensor(fake), torch.tensor(real)) == pytest.approx(expected, abs=1e-12)
    assert wasserstein(torch.tensor(real), torch.tensor(fake)) == pytest.approx(expected, abs=1e-12)


def test_wasserstein_of_unequal_samples_is_the_area_between_their_distributions():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=30).astype(np.float32), rng.normal(size=47).astype(np.float32) * 2
    steps = np.sort(np.concatenate([x, y]))
    heights = [abs((x <= one).mean() - (y <= one).mean()) for one in steps[:-1]]
    assert wasserstein(torch.tensor(x), torch.tensor(y)) == pytest.approx(np.dot(heights, np.diff(steps)), rel=1e-6)


def test_the_jensen_shannon_distance_is_the_root_of_the_divergence_in_nats():
    one, other = torch.tensor([[[4, 0]]]), torch.tensor([[[0, 9]]])
    assert bev_jsd(one, other) == pytest.approx(math.sqrt(math.log(2)))
    both = torch.tensor([[[3, 0]], [[0, 3]]])                   # summed: one half each
    by_hand = (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)) / 2 + math.log(1 / 0.75) / 2
    assert bev_jsd(both, one) == pytest.approx(math.sqrt(by_hand))
    assert bev_jsd(both, both.flip(0)) == 0


def test_the_mean_discrepancy_scales_every_sweep_to_one_and_lets_it_meet_itself():
    a, b = torch.tensor([[[2, 0]], [[0, 5]]]), torch.tensor([[[3, 3]]])
    across, inside = math.exp(-0.5 / 0.5), (1 + 1 + 2 * math.exp(-2 / 0.5)) / 4     # squared distances 1/2 and 2
    assert bev_mmd(a, b) == pytest.approx(inside + 1 - 2 * across)
    assert bev_mmd(a, a) == 0


def test_points_lie_where_column_and_beam_look():
    ranges = torch.tensor([[[10.0, 10, 10, 10], [10, 10, 10, 10]]])
    cloud = points(ranges, torch.tensor([0.0, -30.0]))[0]       # four columns, at 135, 45, -45, -135 degrees
    half = 10 * math.sqrt(0.5)
    expected = torch.tensor([[-half, half, 0], [half, half, 0], [half, -half, 0], [-half, -half, 0]])
    assert torch.allclose(cloud[0], expected, atol=1e-5)
    assert torch.allclose(cloud[1, :, 2], torch.full((4,), -5.0), atol=1e-5)
    ahead = points(ranges[:, :1, :2], torch.tensor([0.0]), torch.tensor([90.0, 0.0]))[0, 0]
    assert torch.allclose(ahead, torch.tensor([[0, 10.0, 0], [10, 0, 0]]), atol=1e-5)


def test_the_view_from_above_counts_what_is_neither_the_car_nor_too_far():
    kept, refused = [[10.0, 0.5, 0, 1], [10, 0.7, 0, 1], [0, -10, 0, 1]], [[2.0, 2, 0, 1], [60, 40, 0, 1], [0, 0, 0, 1]]
    counts = bev_histogram(torch.tensor(kept + refused))
    assert counts.shape == (100, 100) and counts.sum() == 3
    assert counts[56, 50] == 2 and counts[50, 43] == 1          # (10 + 80) / 1.6 = 56.25; (-10 + 80) / 1.6 = 43.75
    assert bev_histogram(torch.zeros(4, 3)).sum() == 0


# Laws

def test_equal_sets_are_zero_apart_in_every_measure():
    one = street(0)
    found = compare(one, street(0), {1: "car"})
    assert set(found) == {
        "range patches", "range patches, finest", "intensity patches", "intensity patches, finest", "drop rate",
        "drop map", "drop given left", "range w1", "intensity w1", "range w1 of car", "intensity w1 of car", "bev jsd",
        "bev mmd",
    }
    assert set(found.values()) == {0.0}


def test_drops_on_their_own_are_seen_and_more_of_them_more():
    one, other = street(0), street(1)
    found = [compare(dropped(one, share), other) for share in (0, 0.03, 0.1, 0.2, 0.4)]
    for name in ("range patches", "range patches, finest", "intensity patches, finest", "drop map", "drop rate"):
        assert rises([each[name] for each in found]), name
    assert rises([-describe(dropped(one, share))["drop given left"] for share in (0, 0.03, 0.1, 0.2)])
    assert rises([each["drop given left"] for each in found[1:4]])


def test_range_noise_is_seen_and_more_of_it_more():
    one, other = street(0), street(1)
    found = [compare(shaken(one, metres), other) for metres in (0, 0.3, 1, 3)]
    for name in ("range patches", "range patches, finest"):
        assert rises([each[name] for each in found]), name
    assert rises([wasserstein(shaken(one, metres).range, one.range) for metres in (0, 0.3, 1, 3)])
    assert {each["drop map"] for each in found} == {found[0]["drop map"]}


def test_half_a_metre_counts_more_nearby_than_far_away():
    rng = torch.Generator().manual_seed(0)
    flat, noise = torch.full((4, 16, 64), 50.0), torch.rand(4, 16, 64, generator=rng) - 0.5
    flat[:, 8:] = 5
    near, far = flat.clone(), flat.clone()
    near[:, 8:] += noise[:, 8:]
    far[:, :8] += noise[:, :8]
    found = [compare(Sweeps(x, x), Sweeps(flat, flat))["range patches"] for x in (far, near)]
    assert found[1] > 3 * found[0] > 0


def test_a_wrong_intensity_is_seen_by_the_intensity_alone():
    one = street(0)
    darker = replace(one, intensity=one.intensity * 0.5)
    found = compare(darker, one, {1: "car", 0: "ground"})
    assert found["intensity w1"] == pytest.approx(one.intensity[one.returned].mean().item() / 2, rel=1e-5)
    assert found["intensity w1 of car"] == pytest.approx(0.25, abs=0.01)
    assert found["intensity w1 of ground"] == pytest.approx(0.1, abs=0.01)
    assert found["intensity patches"] > 0.1
    untouched = {name for name, value in found.items() if value == 0}
    assert {"range patches", "drop map", "range w1", "range w1 of car", "bev jsd"} <= untouched


def test_the_wrong_contrast_of_all_sweeps_is_not_forgiven():
    x = torch.randn(4, 16, 64, generator=torch.Generator().manual_seed(0))
    assert sliced_wasserstein(x * 2, x)[0] == pytest.approx(math.sqrt(2 / math.pi), rel=0.1)    # |2z - z| of a normal z


def test_what_did_not_come_back_has_no_intensity():
    one = street(0)
    marked = replace(one, intensity=torch.where(one.returned, one.intensity, math.nan))
    assert set(compare(marked, one, {1: "car"}).values()) == {0.0}


def test_the_order_of_the_sweeps_does_not_matter():
    one, other = street(0), street(1, 5)
    turned = compare(one.part(torch.tensor([3, 1, 0, 7, 6, 2, 5, 4])), other.part(torch.arange(4, -1, -1)))
    assert turned == pytest.approx(compare(one, other), rel=1e-5, abs=1e-12)


def test_the_same_seed_gives_the_same_bits_twice_and_leaves_global_randomness_alone():
    one, other = street(0), street(1)
    state = torch.get_rng_state()
    first = compare(one, other)
    assert first == compare(one, other) and torch.equal(torch.get_rng_state(), state)
    second = compare(one, other, seed=1)
    assert second["range patches"] != first["range patches"]
    assert second["range patches"] == pytest.approx(first["range patches"], rel=0.25)


def test_patches_go_round_a_full_turn_and_end_at_the_sides_of_a_part():
    x = torch.randn(3, 16, 20, generator=torch.Generator().manual_seed(0)).cumsum(dim=2)
    every = lambda one, ring: sliced_wasserstein(one, x, ring=ring)[0]         # noqa: E731, fewer places than are drawn
    assert every(x.roll(9, dims=2), True) == pytest.approx(0, abs=1e-6)         # a turned scanner sees the same
    assert every(x.roll(9, dims=2), False) > 0.01                               # a seam in the middle does not
    x = torch.randn(3, 32, 40, generator=torch.Generator().manual_seed(0)).cumsum(dim=2)
    assert sliced_wasserstein(x.roll(8, dims=2), x)[1] == pytest.approx(0, abs=1e-6)
    assert sliced_wasserstein(x.roll(8, dims=2), x, ring=False)[1] > 0.01


@pytest.mark.parametrize("shape, scales", [((7, 9), 1), ((31, 64), 1), ((32, 64), 2), ((33, 65), 2), ((64, 128), 3)])
def test_the_pyramid_ends_before_it_is_smaller_than_sixteen(shape, scales):
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    assert len(sliced_wasserstein(x, x)) == len(sliced_wasserstein(x + 1, x, ring=False)) == scales
    assert sliced_wasserstein(x + 1, x)[-1] > 0.1               # only the last scale keeps the mean
    assert scales == 1 or max(sliced_wasserstein(x[:, :, :64] + 1, x[:, :, :64])[:-1]) < 1e-5


def test_sets_of_unequal_size_are_compared_at_the_same_quantiles():
    x = torch.randn(2, 16, 64, generator=torch.Generator().manual_seed(0))
    assert sliced_wasserstein(x.repeat(3, 1, 1), x)[0] < 1e-6
    assert sliced_wasserstein(x, x.repeat(3, 1, 1))[0] < 1e-3   # the deviation of the larger set divides by N - 1
    one_patch = torch.tensor([-1.0, 0, 1])[:, None, None].expand(3, 7, 7)
    assert sliced_wasserstein(one_patch[1:2], one_patch, ring=False) == [0.0]   # the middle one of three


# The floor

def test_halves_are_blocks_of_time_given_out_in_turn():
    one = street(0, 9)
    numbered = replace(one, range=torch.arange(1.0, 10)[:, None, None].expand(9, BEAMS, COLUMNS))
    first, second = halves(numbered)
    assert first.range[:, 0, 0].tolist() == [1, 2, 3, 4, 5] and second.range[:, 0, 0].tolist() == [6, 7, 8, 9]
    first, second = halves(numbered, blocks=4)
    assert first.range[:, 0, 0].tolist() == [1, 2, 3, 6, 7] and second.range[:, 0, 0].tolist() == [4, 5, 8, 9]
    assert first.labels.shape == (5, BEAMS, COLUMNS) and first.elevation is numbered.elevation


def test_the_floor_of_one_kind_is_near_its_value_and_far_below_that_of_another_kind():
    reals = street(1, 16)
    same, other = with_floor(street(0), reals), with_floor(dropped(street(0), 0.2), reals)
    for name in ("range patches, finest", "drop map", "drop rate"):
        assert same[name].value < 2 * same[name].floor + 0.02 and other[name].value > 3 * other[name].floor, name
        assert same[name].floor == other[name].floor == compare(*halves(reals))[name]


def test_a_class_that_one_side_lacks_is_left_out_and_one_that_a_half_lacks_has_no_floor():
    reals = street(1)
    last = torch.arange(8)[:, None, None] >= 4
    once = replace(reals, labels=torch.where(last & (reals.labels == 1), 2, reals.labels))
    assert "range w1 of van" not in compare(reals, once, {2: "van"})
    found = with_floor(once, once, {2: "van"})
    assert found["range w1 of van"].value == 0 and math.isnan(found["range w1 of van"].floor)


def test_a_description_says_in_which_direction_sets_differ():
    ranges = torch.tensor([[[0.0, 0, 4, 8]]])
    found = describe(Sweeps(ranges, torch.tensor([[[9.0, 9, 0.2, 0.4]]])))
    assert found == pytest.approx({"drop rate": 0.5, "drop given left": 0.5, "mean range": 6, "mean intensity": 0.3})


# What is refused

def test_sweeps_that_do_not_fit_together_are_refused():
    ones = torch.ones(2, 4, 8)
    with pytest.raises(UserError, match=re.escape("ranges of (B, H, W), got (4, 8)")):
        Sweeps(ones[0], ones[0])
    with pytest.raises(UserError, match=re.escape("need intensity of (2, 4, 8), got (2, 4, 7)")):
        Sweeps(ones, ones[..., :7])
    with pytest.raises(UserError, match=re.escape("need elevation of (4,), got (8,)")):
        Sweeps(ones, ones, elevation=torch.zeros(8))
    with pytest.raises(UserError, match="nothing came back in any sweep"):
        Sweeps(ones * 0, ones)


@pytest.mark.parametrize("broken", [-1.0, math.nan, math.inf])
def test_a_range_that_is_no_distance_is_refused(broken):
    ranges = torch.ones(1, 2, 2)
    ranges[0, 1, 1] = broken
    with pytest.raises(UserError, match="ranges must be finite and not below 0"):
        Sweeps(ranges, torch.ones(1, 2, 2))


def test_an_intensity_that_is_no_number_is_refused_where_something_came_back():
    with pytest.raises(UserError, match="intensities finite where something came back"):
        Sweeps(torch.ones(1, 1, 2), torch.tensor([[[0.5, math.nan]]]))


def test_sets_that_cannot_be_compared_are_refused():
    one = street(0, 2)
    smaller = Sweeps(one.range[:, :16], one.intensity[:, :16])
    with pytest.raises(UserError, match=re.escape("got (B, H, W) of (2, 16, 64) and (2, 32, 64)")):
        compare(smaller, one)
    with pytest.raises(UserError, match="elevation is known for one of the two sets only"):
        compare(replace(one, elevation=None), one)
    with pytest.raises(UserError, match="azimuth is known for one of the two sets only"):
        compare(one, replace(one, azimuth=torch.linspace(40, -40, COLUMNS)))
    with pytest.raises(UserError, match="classes are compared where both sets have labels"):
        compare(replace(one, labels=None), one, {1: "car"})
    with pytest.raises(UserError, match=re.escape("equal H and W, 7 or more, are compared, got (2, 6, 64)")):
        sliced_wasserstein(one.range[:, :6], one.range[:, :6])
    with pytest.raises(UserError, match="values on both sides, got 0 and 2"):
        wasserstein(torch.zeros(0), torch.zeros(2))


@pytest.mark.parametrize("blocks", [0, 1, 3, 10])
def test_halves_of_too_many_or_odd_blocks_are_refused(blocks):
    with pytest.raises(UserError, match=f"8 sweeps cannot be halved in {blocks} blocks: blocks must be even, 2 to 8"):
        halves(street(0), blocks)


# Real sweeps

def recorded(folder: str, numbers: range) -> Sweeps:
    """The recorded sweeps with these places in the order of time; 64 beams x 1024 columns, remission 0 to 1."""
    if not (DATA / folder).is_dir():
        pytest.skip(f"{folder} is not here")
    files = sorted((DATA / folder).glob("*.npz"), key=lambda path: int(path.stem))
    ranges, remissions = [], []
    for number in numbers:
        with np.load(files[number]) as stored:
            ranges.append(stored["range"] * stored["range_scale"])
            remissions.append(stored["remission"] / 100)
    beams = torch.from_numpy(np.loadtxt(DATA / "hdl64_ring_elevation_deg.txt")).float()
    return Sweeps(*(torch.from_numpy(np.stack(x)).float() for x in (ranges, remissions)), elevation=beams)


def test_real_drops_come_in_runs():
    """0.89 was measured on another drive of the same car."""
    assert drop_given_left(recorded("kitti_raw_driveB", range(0, 153, 8)).range) == pytest.approx(0.89, abs=0.03)


def test_two_halves_of_a_drive_are_nearer_than_another_street_through_another_projection():
    drive = recorded("kitti_raw_driveB", range(22))
    found = with_floor(recorded("semantickitti", range(0, 21, 2)), drive)
    assert found["range patches, finest"].floor == pytest.approx(0.033, abs=0.015)     # 0.033 on another drive
    for name in ("range patches, finest", "intensity patches, finest", "drop map", "drop rate", "drop given left"):
        assert found[name].value > 2 * found[name].floor, name


def test_single_drops_and_flat_intensities_are_far_above_the_floor_of_real_sweeps():
    drive = recorded("kitti_raw_driveB", range(0, 152, 8))
    floor = compare(*halves(drive))
    worse = dropped(replace(drive, intensity=torch.full_like(drive.intensity, 0.3)), 0.1)
    found = compare(worse, drive)
    for name in ("range patches, finest", "intensity patches, finest", "drop map", "drop rate", "intensity w1"):
        assert found[name] > 1.5 * floor[name], name
