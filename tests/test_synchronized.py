"""What happens to all streams at once: after it, what belonged together still does."""
import copy
import re
from collections import namedtuple
from fractions import Fraction
from math import atan2, cos, degrees, radians, sin
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from mmcycle.errors import UserError
from mmcycle.transforms import Apply, Boxes3D, Frames, Points, RangeImage, SyncCrop, SyncMirror, SyncTimeCrop, Wave
from mmcycle.transforms.sensors import rate_of, wrap

FORKED = "ignore:This process .* is multi-threaded:DeprecationWarning"        # Python 3.12 says so of every fork
HEIGHT, WIDTH = 40, 96
KEEPS = "wrap" in vars(tv_tensors.TVTensor)         # since 0.29 torchvision keeps what only we know of a tensor
K = torch.tensor([[60.0, 0.5, 50.0], [0, 58.0, 18.0], [0, 0, 1]])
AXES = torch.tensor([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])     # x ahead, y left, z up -> x right, y down, z ahead


def randoms(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def points(n=400, seed=0, ahead=False):
    """All around, or before a camera."""
    spread = torch.tensor([30.0, 30, 4, 1])
    cloud = (randoms(n, 4, seed=seed) - 0.5) * spread
    return Points(cloud + torch.tensor([20.0, 0, 0, 0]) if ahead else cloud)


def pose(turn=0.1, where=(0.3, -0.2, 0.4)):
    """From a scanner to a camera that stands beside it and looks a little to the left."""
    around = torch.tensor([[cos(turn), sin(turn), 0], [-sin(turn), cos(turn), 0], [0, 0, 1]])
    matrix = torch.eye(4)
    matrix[:3, :3] = AXES @ around
    matrix[:3, 3] = torch.tensor(where)
    return matrix


def pixels(places, matrix, to_camera):
    """(N, 3) -> (N, 2) pixels and (N,) depth."""
    at_camera = places[:, :3].double() @ to_camera[:3, :3].double().T + to_camera[:3, 3].double()
    u, v, depth = (at_camera @ matrix[:3, :3].double().T + matrix[:3, 3:].double().sum(1)).T
    return torch.stack([u / depth, v / depth], 1), depth


def picture(fill=0):
    return tv_tensors.Image(torch.full((3, HEIGHT, WIDTH), fill, dtype=torch.uint8))


def painted(spots):
    """Black, with a spot of 3 x 3 pixels of its own colour around each pixel."""
    image = picture().as_subclass(torch.Tensor)
    for number, (u, v) in enumerate(spots.round().int().tolist(), start=1):
        image[0, max(0, v - 1):v + 2, max(0, u - 1):u + 2] = number
    return tv_tensors.Image(image)


def boxes(*corners):
    return tv_tensors.BoundingBoxes(torch.tensor(corners), format="XYXY", canvas_size=(HEIGHT, WIDTH))


def everything():
    image = picture()
    image[:, 5:15, 10:30] = 200
    return {
        "image": image, "mask": tv_tensors.Mask((image[0] > 0).byte()), "box": boxes([10, 5, 30, 15]),
        "frames": Frames(image.expand(4, -1, -1, -1).clone(), rate=25), "wave": Wave(randoms(2, 800), rate=8000),
        "points": points(), "boxes3d": Boxes3D([[5.0, 2, 0, 4, 2, 1.5, 0.3]]), "label": 3, "name": "x",
        "range": RangeImage(randoms(2, 4, 16), azimuth=(20.0, 90.0)),
    }


def equal(one, other):
    one, other = (v2.ToPureTensor()(sample) for sample in (one, other))
    return all(torch.equal(one[key], other[key]) if isinstance(one[key], torch.Tensor) else one[key] == other[key] for key in one)


# Types


def remade(tensor):
    yield from (copy.copy(tensor), copy.deepcopy(tensor), unpickled(tensor))
    yield from (tensor.clone(), tensor.to(torch.float64), tensor.detach(), wrap(tensor + 1, like=tensor))


def unpickled(value):
    return ForkingPickler.loads(ForkingPickler.dumps(value))


@pytest.mark.parametrize("name, known", [
    ("wave", {"rate": 8000}), ("frames", {"rate": 25}), ("points", {}), ("boxes3d", {}), ("range", {"azimuth": (20.0, 90.0)}),
])
def test_a_sensors_type_and_what_it_knows_survive_copies_and_pickles(name, known):
    tensor = everything()[name]
    for made in (*remade(tensor), *([tv_tensors.wrap(tensor + 1, like=tensor)] if KEEPS else [])):
        assert type(made) is type(tensor) and made.__dict__ == known and made.shape == tensor.shape
    assert type(tensor + 1) is torch.Tensor
    with tv_tensors.set_return_type("TVTensor"):
        assert all(type(part) is type(tensor) and part.__dict__ == known for part in (tensor + 1).chunk(2))
    assert all(f"{fact}={value}" in repr(tensor) for fact, value in known.items())


def test_torchvisions_transforms_leave_other_sensors_alone():
    torch.manual_seed(0)
    shades = [v2.ColorJitter(0.5, 0.5, 0.5, 0.2), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
    moves = [v2.RandomHorizontalFlip(1), v2.RandomRotation(10), v2.RandomCrop((32, 80)), v2.Resize((16, 40))]
    sample = everything()
    alone = {key: sample[key] for key in ("points", "wave", "range", "boxes3d")}
    made = v2.Compose(moves + shades)(sample)
    assert all(made[key] is sample[key] for key in alone)
    assert type(made["frames"]) is Frames and made["frames"].shape == (4, 3, 16, 40)
    assert made["frames"].__dict__ == ({"rate": 25} if KEEPS else {})
    made = v2.Compose([moves[0], *shades])(alone)
    assert all(made[key] is sample[key] for key in alone)


@pytest.mark.parametrize("make, message", [
    (lambda: Wave(torch.zeros(3, dtype=torch.int16), rate=8000), r"Wave: \(3,\) int16 is not \(..., samples\) of floats"),
    (lambda: Wave(torch.zeros(3), rate=0), "Wave: rate is 0; it is a number above 0"),
    (lambda: Wave(torch.zeros(3), rate=float("nan")), "Wave: rate is nan"),
    (lambda: Frames(torch.zeros(3, 4, 5), rate=25), r"Frames: \(3, 4, 5\) float32 is not"),
    (lambda: Points(torch.zeros(5, 2)), r"Points: \(5, 2\) float32 is not \(N, 3 or more\)"),
    (lambda: Boxes3D(torch.zeros(5, 8)), r"Boxes3D: \(5, 8\) float32 is not \(K, 7\)"),
    (lambda: RangeImage(torch.zeros(5, 8)), r"RangeImage: \(5, 8\) float32 is not \(channels, rows, columns\)"),
    (lambda: RangeImage(torch.zeros(1, 5, 8), azimuth=(0, 400)), "the width is above 0 and up to 360 degrees"),
])
def test_what_a_sensor_cannot_have_made_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_rate_that_was_lost_is_told():
    with pytest.raises(UserError, match="the rate is lost: before 0.29, torchvision drops it"):
        rate_of(torch.zeros(1, 3, 4, 4).as_subclass(Frames))


def test_what_fits_in_two_types_is_an_error_for_transforms_of_one_stream():
    class Darker:
        def __call__(self, image):
            return {"image": image // 2}

    sample = {"image": tv_tensors.Image(randoms(3, 4, 8)), "range": RangeImage(randoms(3, 4, 8))}
    with pytest.raises(UserError, match=r"\['image'\] and \['range'\] may each be a picture"):
        Apply(Darker())(sample)
    made = Apply(Darker(), stream="image")(sample)
    assert made["range"] is sample["range"] and made["image"].max() == 0


# SyncMirror


def test_a_mirrored_box_mask_and_point_lie_on_the_mirrored_object():
    sample = everything() | {"corner": tv_tensors.KeyPoints([[10, 5], [29, 14]], canvas_size=(HEIGHT, WIDTH))}
    made = SyncMirror(p=1)(sample)
    left, top, right, bottom = made["box"][0].tolist()
    inside = made["image"][:, top:bottom, left:right]
    assert (left, right) == (66, 86) and inside.min() == 200 and made["image"].int().sum() == inside.int().sum()
    assert torch.equal(made["mask"], (made["image"][0] > 0).byte())
    assert all(torch.equal(frame, made["image"]) for frame in made["frames"]) and made["frames"].rate == 25
    assert made["corner"].tolist() == [[85, 5], [66, 14]] and made["image"][0, 5, 85] == made["image"][0, 14, 66] == 200


def test_one_coin_is_thrown_for_all_streams():
    torch.manual_seed(0)
    sample, change = everything(), SyncMirror()
    seen = set()
    for _ in range(40):
        made = change(sample)
        seen.add(tuple(torch.equal(made[key], sample[key]) for key in ("image", "mask", "frames", "wave", "points", "range")))
    assert seen == {(True,) * 6, (False,) * 6}


def test_a_mirrored_box_in_space_holds_the_mirrored_points():
    def held(cloud, box):
        x, y, z, length, width, height, yaw = box.double().tolist()
        ahead, left = cloud[:, 0].double() - x, cloud[:, 1].double() - y
        along, across = ahead * cos(yaw) + left * sin(yaw), left * cos(yaw) - ahead * sin(yaw)
        return (along.abs() < length / 2) & (across.abs() < width / 2) & ((cloud[:, 2] - z).abs() < height / 2)

    sample = {"points": points(5000), "boxes": Boxes3D([[6.0, 4, 0, 9, 3, 2, 0.7], [-3, -5, 0.5, 4, 2, 2, -2.5]])}
    made = SyncMirror(p=1)(sample)
    for before, after in zip(sample["boxes"], made["boxes"], strict=True):
        assert held(sample["points"], before).sum() > 20
        assert torch.equal(held(sample["points"], before), held(made["points"], after))
    assert torch.equal(made["points"][:, [0, 2, 3]], sample["points"][:, [0, 2, 3]]) and type(made["points"]) is Points


@pytest.mark.parametrize("window", [(0.0, 360.0), (40.0, 100.0)])
def test_a_mirrored_range_image_is_that_of_the_mirrored_points(window):
    lidar = pytest.importorskip("mmcycle.modalities.lidar_projection")
    from mmcycle.modalities.lidar_sensor import SensorSpec

    def seen(cloud, window):
        spec = SensorSpec(rows=8, columns=64, fov=(20.0, -20.0), min_range=0.5, max_range=50.0, margin=0.0, azimuth=window)
        made = lidar.project(cloud.as_subclass(torch.Tensor), spec, "elevation")
        return torch.stack([made.range, made.intensity])

    sample = {"points": points(2000), "range": RangeImage(seen(points(2000), window), azimuth=window)}
    made = SyncMirror(p=1)(sample)
    assert made["range"].azimuth == (-window[0], window[1])
    again = seen(made["points"], made["range"].azimuth)
    assert (again[0] > 0).sum() > 50 and torch.equal(made["range"].as_subclass(torch.Tensor), again)


@pytest.mark.parametrize("matrix", [K, torch.cat([K, torch.tensor([[-30.0], [2.0], [0.1]])], dim=1)], ids=["3x3", "3x4"])
def test_mirrored_points_are_seen_at_mirrored_pixels(matrix):
    sample = {"image": picture(), "points": points(ahead=True), "K": matrix, "pose": pose()}
    made = SyncMirror(p=1, intrinsics="K", poses="pose")(sample)
    (before, depth), (after, depths) = (pixels(one["points"], one["K"], one["pose"]) for one in (sample, made))
    torch.testing.assert_close(after[:, 0], WIDTH - 1 - before[:, 0], atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(after[:, 1], before[:, 1], atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(depths, depth)


def test_a_stereo_pair_changes_places_and_sees_the_same_depth():
    def seen(matrix):
        return painted(pixels(place, matrix, torch.cat([AXES, torch.zeros(3, 1)], 1))[0])

    place = torch.tensor([[6.0, 1.5, 0.5], [4.0, -1.0, 0.2]])
    offset = torch.tensor([[-60 * 0.5], [0], [0]])      # the right camera stands half a metre to the right
    left, right = torch.cat([K, torch.zeros(3, 1)], 1), torch.cat([K, offset], 1)
    sample = {"left": {"image": seen(left), "K": left}, "right": {"image": seen(right), "K": right}, "points": Points(place)}
    made = SyncMirror(p=1, pairs=[("left", "right")], intrinsics="K")(sample)
    there = made["points"].as_subclass(torch.Tensor)
    for side in ("left", "right"):
        spots = pixels(there, made[side]["K"], torch.cat([AXES, torch.zeros(3, 1)], 1))[0].round().int().tolist()
        assert [made[side]["image"][0, v, u].item() for u, v in spots] == [1, 2]
    columns = [[(made[side]["image"][0] == number).nonzero()[:, 1].float().mean() for number in (1, 2)] for side in made if side != "points"]
    assert all(at_left > at_right for at_left, at_right in zip(*columns, strict=True))
    assert torch.equal(made["left"]["image"], sample["right"]["image"].flip(-1))
    # the camera on the left of the mirrored rig is still to the left, by as much: K of both, up to a common shift
    assert (made["right"]["K"] - made["left"]["K"])[0, 3] == -30


def test_two_ears_change_places_where_they_are_ears():
    sound = randoms(2, 100)
    for wave, ears, same in [(sound, True, False), (sound, False, True), (sound[:1], True, True), (sound[0], True, True)]:
        made = SyncMirror(p=1, ears=ears)({"wave": Wave(wave, rate=100)})["wave"]
        assert torch.equal(made, wave) if same else torch.equal(made, wave[[1, 0]])
        assert made.rate == 100


def test_mirrored_twice_is_as_it_was():
    sample = everything() | {"K": K, "pose": pose(), "sweeps": [points(9, seed=1), points(7, seed=2)]}
    change = SyncMirror(p=1, intrinsics=["K"], poses=["pose"])
    made = change(change(sample))
    assert all(torch.equal(one, other) for one, other in zip(made.pop("sweeps"), sample.pop("sweeps"), strict=True))
    torch.testing.assert_close(made.pop("K"), sample.pop("K"))
    assert equal(made, sample)


def test_pillow_and_tuples_are_mirrored_too():
    Pair = namedtuple("Pair", "left right")
    shades = np.arange(6, dtype=np.uint8).reshape(2, 3)
    sample = (Pair(Pillow.fromarray(shades), Pillow.fromarray(shades + 10)), 7)
    made, label = SyncMirror(p=1, pairs=[("left", "right")])(sample)
    assert label == 7 and np.asarray(made.left).tolist() == [[12, 11, 10], [15, 14, 13]] and type(made) is Pair
    assert np.asarray(made.right).tolist() == [[2, 1, 0], [5, 4, 3]]


@pytest.mark.parametrize("make, message", [
    (lambda: SyncMirror(p=2), "SyncMirror: p is 2; a probability"),
    (lambda: SyncMirror(pairs=("left", "right")), "it lists pairs of names"),
    (lambda: SyncMirror(p=1)({"image": torch.zeros(3, 4, 5)}), "nothing in the sample has a type"),
    (lambda: SyncMirror(p=1, poses="T")(everything()), "the sample has no 'T'; it holds"),
    (lambda: SyncMirror(p=1, poses="T")({"p": points(), "T": K}), r"'T' is Tensor \(3, 3\) float32; it is floats of \(3, 4\) or \(4, 4\)"),
    (lambda: SyncMirror(p=1, intrinsics="K")({"p": points(), "K": K.long()}), r"'K' is Tensor \(3, 3\) int64; it is floats of"),
    (lambda: SyncMirror(p=1, intrinsics="K")({"p": points(), "K": K}), "the pictures of a sample have one size, and this holds no pictures"),
    (lambda: SyncMirror(p=1, pairs=[("a", "b")])({"a": points(), "b": {"x": points()}}), "hold different things and stay apart"),
])
def test_a_mirror_says_what_it_lacks(make, message):
    with pytest.raises(UserError, match=message):
        make()


# SyncTimeCrop


def clip(fps, rate=16000, seconds=4.0, at=2.0):
    """A flash in the frames and a click in the sound, in the frame that shows second `at`; sweeps and an event there."""
    fps = Fraction(fps)
    frames = torch.zeros(round(seconds * fps), 1, 2, 2)
    flash = int(at * fps)
    frames[flash] = 1
    wave = torch.zeros(1, round(seconds * rate))
    click = float(flash / fps)
    wave[0, round(click * rate)] = 1
    times = torch.arange(0, seconds, 0.1, dtype=torch.float64)
    nearest = int((times - click).abs().argmin())
    times[nearest] = click
    sweeps = [Points(torch.full((5 + (number == nearest), 4), float(number == nearest))) for number in range(len(times))]
    return {
        "video": Frames(frames, rate=fps), "wave": Wave(wave, rate=rate), "sweeps": sweeps, "times": times,
        "spoken": torch.tensor([[0.0, 0.5], [click, click + 0.3], [3.0, 3.2]]), "words": torch.tensor([1, 2, 3]), "label": 5,
    }


@pytest.mark.parametrize("fps", [25, 30, Fraction(30000, 1001), 7.5])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_click_stays_at_the_flash(fps, rate):
    crop = SyncTimeCrop(1.2, times={"sweeps": "times"}, events={"spoken": "words"})
    sample, seen = clip(fps, rate), 0
    for seed in range(12):
        torch.manual_seed(seed)
        made = crop(sample)
        assert made["video"].shape[0] == round(1.2 * float(fps)) and made["wave"].shape == (1, round(1.2 * rate))
        assert made["video"].rate == Fraction(fps) and made["wave"].rate == rate and made["label"] == 5
        assert made["times"].min() >= -1e-4 and made["times"].max() < 1.2 and len(made["times"]) == len(made["sweeps"]) >= 11
        flash = made["video"].amax((1, 2, 3)).nonzero().flatten().tolist()
        click = made["wave"][0].nonzero().flatten().tolist()
        if flash and click:
            seen += 1
            second = flash[0] / float(fps)
            assert abs(click[0] - second * rate) <= 1.001
            at = [float(when) for when, sweep in zip(made["times"], made["sweeps"], strict=True) if len(sweep) == 6]
            assert at == pytest.approx([second], abs=1e-6)
            event = made["spoken"][made["words"] == 2]
            assert event[0].tolist() == pytest.approx([second, min(1.2, second + 0.3)], abs=1e-5)
    assert seen >= 2


def test_the_window_begins_with_every_frame_of_the_clip_once_in_a_while_and_ends_with_it():
    sample = {"video": Frames(torch.arange(6.0).reshape(6, 1, 1, 1), rate=10), "wave": Wave(torch.arange(60.0), rate=100)}
    torch.manual_seed(0)
    begun = []
    for _ in range(80):
        made = SyncTimeCrop(0.3)(sample)
        first = int(made["video"].flatten()[0])
        assert made["video"].flatten().tolist() == [first, first + 1, first + 2]
        assert made["wave"].tolist() == list(range(10 * first, 10 * first + 30))
        begun.append(first)
    assert set(begun) == {0, 1, 2, 3} and min(begun.count(first) for first in range(4)) > 8


def test_streams_of_different_length_are_cut_where_all_of_them_are():
    sample = {"video": Frames(torch.zeros(50, 1, 1, 1), rate=25), "wave": Wave(torch.arange(15000.0), rate=10000)}
    for seed in range(20):
        torch.manual_seed(seed)
        made = SyncTimeCrop(1.0)(sample)
        assert made["video"].shape[0] == 25 and len(made["wave"]) == 10000 and made["wave"][0] % 400 == 0


def test_a_cut_takes_no_more_along_than_it_shows():
    made = SyncTimeCrop(0.01)({"wave": Wave(torch.zeros(100000), rate=8000)})["wave"]
    assert made.shape == (80,) and made.untyped_storage().nbytes() == 320


def test_frames_of_uneven_times_lists_of_pictures_and_labels_of_frames_are_cut_by_their_times():
    times = torch.tensor([0.0, 0.1, 0.25, 0.3, 0.55, 0.6, 0.9])
    sample = {
        "video": tv_tensors.Video(torch.arange(7.0).reshape(7, 1, 1, 1)), "stills": [Pillow.new("L", (n + 1, 1)) for n in range(7)],
        "actions": torch.arange(7), "video_times": times,
    }
    crop = SyncTimeCrop(0.4, times={"video": "video_times", "stills": "video_times", "actions": "video_times"})
    for seed in range(10):
        torch.manual_seed(seed)
        made = crop(sample)
        kept = made["actions"].tolist()
        begin = times[kept[0]] - made["video_times"][0]
        assert kept == [n for n in range(7) if begin - 1e-4 <= times[n] < begin + 0.4 - 1e-4] and -1e-6 <= begin <= 0.5001
        assert made["video"].flatten().tolist() == kept and type(made["video"]) is tv_tensors.Video
        assert [still.size[0] - 1 for still in made["stills"]] == kept
        torch.testing.assert_close(made["video_times"], times[kept] - begin)


def test_times_of_frames_in_float32_are_cut_as_the_frames_are():
    sample = {"video": Frames(torch.arange(3000.0).reshape(-1, 1, 1, 1), rate=30), "actions": torch.arange(3000)}
    sample["when"] = torch.arange(3000) / torch.tensor(30.0)
    for seed in range(30):
        torch.manual_seed(seed)
        made = SyncTimeCrop(2.0, times={"actions": "when"})(sample)
        assert made["actions"].tolist() == made["video"].flatten().tolist() and len(made["when"]) == 60


def test_events_are_cut_at_the_window_and_those_outside_go_with_their_labels():
    spans = torch.tensor([[0.0, 0.1], [0.1, 0.55], [0.6, 0.6], [0.7, 2.0], [0.2, 3.0], [1.0, 1.2]])
    sample = {"wave": Wave(torch.zeros(100), rate=100), "spans": spans, "words": torch.arange(6), "names": {"sure": torch.arange(6) / 6}}
    sample |= {"clock": torch.tensor([0.5]), "tick": [1]}
    for seed in range(20):
        torch.manual_seed(seed)
        made = SyncTimeCrop(0.5, events={"spans": ["words", "names"]})(sample)
        assert len(made["spans"]) == len(made["words"]) == len(made["names"]["sure"])
        assert made["spans"].min() >= 0 and made["spans"].max() <= 0.5
    only = {"wave": Wave(torch.zeros(50), rate=100), "spans": spans, "words": torch.arange(6)}
    made = SyncTimeCrop(0.5, events={"spans": "words"})(only)
    assert made["words"].tolist() == [0, 1, 4]
    torch.testing.assert_close(made["spans"], torch.tensor([[0, 0.1], [0.1, 0.5], [0.2, 0.5]]))


def test_a_short_clip_is_refused_or_filled_up():
    sample = {"video": Frames(torch.arange(1.0, 4).reshape(3, 1, 1, 1), rate=10), "wave": Wave(torch.ones(2, 40), rate=100)}
    with pytest.raises(UserError, match=r"Frames \(3, 1, 1, 1\) float32 lasts 0.3 s, not 0.5; shorter='pad'"):
        SyncTimeCrop(0.5)(sample)
    made = SyncTimeCrop(0.5, shorter="pad")(sample)
    assert made["video"].flatten().tolist() == [1, 2, 3, 3, 3]
    assert made["wave"].tolist() == [[1.0] * 40 + [0.0] * 10] * 2
    assert all(torch.equal(made[key], sample[key]) is False for key in made)


@pytest.mark.parametrize("make, message", [
    (lambda: SyncTimeCrop(0), "seconds is 0; it is a number above 0"),
    (lambda: SyncTimeCrop(1, shorter="loop"), "shorter is 'loop'; it is one of refuse, pad"),
    (lambda: SyncTimeCrop(1)({"image": picture()}), "nothing in the sample has a rate or times"),
    (lambda: SyncTimeCrop(1)({"v": tv_tensors.Video(torch.zeros(9, 1, 2, 2))}), "a Video has no rate; make it Frames"),
    (lambda: SyncTimeCrop(1, times={"s": "t"})({"s": [1], "t": torch.zeros(1)}), "the clip lasts 0 s, less than 1"),
    (lambda: SyncTimeCrop(1, times={"s": "t"})({"s": [1, 2], "t": torch.zeros(3)}), "3 times are told for list"),
    (lambda: SyncTimeCrop(1, times={"s": "t"})({"s": [1, 2], "t": [0, 1]}), "'t' is int; it is floats of"),
    (lambda: SyncTimeCrop(1, times={"s": "t"})({"s": [1], "a": {"t": torch.zeros(1)}, "b": {"t": torch.zeros(1)}}), "'t' stands in the sample 2 times"),
    (lambda: SyncTimeCrop(1, times={"s": "t"})({"w": Wave(torch.zeros(9), rate=9)}), "the sample has no 's'"),
    (lambda: SyncTimeCrop(1, events={"e": "l"})({"w": Wave(torch.zeros(9), rate=9), "e": torch.zeros(2, 2), "l": torch.zeros(3)}), "'e' has 2 events, and beside them"),
    (lambda: SyncTimeCrop(1, shorter="pad")({"w": Wave(torch.zeros(0), rate=9)}), "lasts 0 s"),
])
def test_a_window_of_time_says_what_it_lacks(make, message):
    with pytest.raises(UserError, match=message):
        make()


# SyncCrop


@pytest.mark.parametrize("scale", [None, (0.4, 1.0)])
def test_a_place_in_space_stays_on_its_object_in_the_picture(scale):
    cloud = points(12, seed=3, ahead=True)
    spots, _ = pixels(cloud, K, pose())
    ids = torch.arange(1, 13)
    sample = {"image": painted(spots), "points": cloud, "ids": ids, "K": K, "pose": pose(), "box": boxes([30, 10, 60, 30])}
    crop = SyncCrop((24, 40), scale=scale, intrinsics="K", pose="pose", with_points={"points": "ids"})
    seen = 0
    for seed in range(15):
        torch.manual_seed(seed)
        made = crop(sample)
        assert F.get_size(made["image"]) == [24, 40] and made["box"].canvas_size == (24, 40)
        places, depth = pixels(made["points"], made["K"], made["pose"])
        for (u, v), number in zip(places.round().int().tolist(), made["ids"].tolist(), strict=True):
            assert 0 <= u <= 39
            if 2 <= v <= 21 and 2 <= u <= 37 and number == alone(sample["image"], spots, number):
                seen += 1
                assert abs(int(made["image"][0, v, u]) - number) <= (0 if scale is None else number)
                assert made["image"][0, v, u] > 0
    assert seen > 10


def alone(image, spots, number):
    u, v = spots[number - 1].round().int().tolist()
    return int(image[0, v, u]) if 0 <= u < WIDTH and 0 <= v < HEIGHT else 0


def test_the_points_kept_are_those_that_the_columns_show():
    sample = {"image": picture(), "points": points(3000), "labels": torch.arange(3000), "K": K, "pose": pose()}
    crop = SyncCrop((HEIGHT, 30), intrinsics="K", pose="pose", with_points={"points": ["labels"]})
    for seed in range(5):
        torch.manual_seed(seed)
        made = crop(sample)
        left = round(float(K[0, 2] - made["K"][0, 2]))
        places, depth = pixels(sample["points"], K, sample["pose"])
        expected = ((depth > 0) & (places[:, 0] >= left - 0.5) & (places[:, 0] < left + 29.5)).nonzero().flatten()
        assert made["labels"].tolist() == expected.tolist() and len(expected) > 20
        assert torch.equal(made["points"], sample["points"][expected]) and type(made["points"]) is Points


@pytest.mark.parametrize("heading", [0.0, 170.0, -90.0])
def test_without_a_pose_the_directions_decide(heading):
    fov, focal = 80.0, WIDTH / 2 / np.tan(radians(40))
    cloud = points(2000)
    boxes3d = Boxes3D(torch.cat([cloud[:50, :3], torch.ones(50, 4)], 1))
    sample = {"image": picture(), "points": cloud, "boxes": boxes3d, "classes": torch.arange(50)}
    crop = SyncCrop((HEIGHT, 30), fov=fov, heading=heading, with_points={"boxes": "classes"})
    column = tv_tensors.Mask(torch.arange(WIDTH).expand(HEIGHT, -1))
    for seed in range(5):
        torch.manual_seed(seed)
        made = crop(sample | {"column": column})
        left = int(made["column"][0, 0])
        x, y = cloud[:, 0].double(), cloud[:, 1].double()
        turn = radians(heading)
        ahead, aside = x * cos(turn) + y * sin(turn), y * cos(turn) - x * sin(turn)
        u = (WIDTH - 1) / 2 - focal * aside / ahead
        inside = (ahead > 0) & (u > left - 0.5) & (u < left + 29.5)
        assert torch.equal(made["points"], cloud[inside]) and inside.sum() > 20
        assert made["classes"].tolist() == inside[:50].nonzero().flatten().tolist() and len(made["boxes"]) == len(made["classes"])


@pytest.mark.parametrize("window, heading", [((0.0, 360.0), 0.0), ((180.0, 360.0), 0.0), ((0.0, 360.0), 175.0), ((10.0, 100.0), 0.0)])
def test_the_columns_kept_look_where_the_picture_does(window, heading):
    columns = 720
    azimuths = window[0] + window[1] / 2 - (torch.arange(columns) + 0.5) * window[1] / columns
    sample = {"image": picture(), "range": RangeImage(azimuths.expand(1, 3, -1).clone(), azimuth=window), "K": K}
    for seed in range(6):
        torch.manual_seed(seed)
        made = SyncCrop((20, 30), intrinsics="K", heading=heading)(sample)
        middle, width = made["range"].azimuth
        count = made["range"].shape[-1]
        expected = middle + width / 2 - (torch.arange(count) + 0.5) * width / count
        assert ((made["range"][0, 0] - expected + 180) % 360 - 180).abs().max() < 1e-3
        cx = float(made["K"][0, 2])
        edges = [heading + degrees(atan2(cx - edge, 60)) for edge in (-0.5, 29.5)]
        pixel = window[1] / columns
        assert abs((middle + width / 2 - edges[0] + 180) % 360 - 180) <= pixel / 2 + 1e-6
        assert abs((middle - width / 2 - edges[1] + 180) % 360 - 180) <= pixel / 2 + 1e-6


@pytest.mark.parametrize("window", [(0.0, 360.0), (0.0, 70.0)])
def test_columns_may_be_asked_for_to_be_as_many_each_time(window):
    sample = {"image": picture(), "range": RangeImage(randoms(2, 3, 128), azimuth=window)}
    for seed in range(10):
        torch.manual_seed(seed)
        assert SyncCrop((20, 24), fov=80, columns=16)(sample)["range"].shape == (2, 3, 16)


def test_a_whole_picture_and_twice_half_of_it():
    sample = {"image": picture(), "K": K, "points": points(ahead=True), "pose": pose()}
    same = SyncCrop((HEIGHT, WIDTH), intrinsics="K", scale=(1, 1))(sample)
    torch.testing.assert_close(same["K"], K)
    half = SyncCrop((HEIGHT // 2, WIDTH // 2), intrinsics="K", scale=(1, 1))(sample)
    (before, _), (after, _) = (pixels(one["points"], one["K"], pose()) for one in (sample | {"points": half["points"]}, half))
    torch.testing.assert_close((after + 0.5) * 2, before + 0.5, atol=1e-3, rtol=1e-5)


def test_labels_that_would_be_left_behind_are_refused():
    sample = {"image": picture(), "points": points(20), "labels": torch.arange(20)}
    with pytest.raises(UserError, match=re.escape("['labels'] has as many rows as ['points']; say with_points=")):
        SyncCrop((20, 24), fov=80)(sample)
    with pytest.raises(UserError, match="'labels' goes with 'points', as many rows"):
        SyncCrop((20, 24), fov=80, with_points={"points": "labels"})(sample | {"labels": torch.arange(19)})


@pytest.mark.parametrize("make, message", [
    (lambda: SyncCrop((0, 5)), "size is"),
    (lambda: SyncCrop((5, 5), scale=(0.5, 1.5)), "scale is"),
    (lambda: SyncCrop((5, 5), fov=180), "fov is 180"),
    (lambda: SyncCrop((5, 5), columns=0), "columns is 0"),
    (lambda: SyncCrop((5, 5), fov=80, intrinsics="K"), "leave out fov"),
    (lambda: SyncCrop((5, 5), pose="T"), "a pose needs intrinsics"),
    (lambda: SyncCrop((5, 5))({"points": points()}), "holds no pictures"),
    (lambda: SyncCrop((5, 5))({"a": picture(), "b": tv_tensors.Mask(torch.zeros(3, 4))}), "this holds 3 x 4 and 40 x 96"),
    (lambda: SyncCrop((5, 5))({"a": picture(), "p": points()}), "it needs intrinsics=, or fov="),
    (lambda: SyncCrop((50, 50))({"a": picture()}), "50 x 50 pixels do not fit into pictures of 40 x 96"),
    (lambda: SyncCrop((5, 5), fov=80)({"a": picture(), "r": RangeImage(torch.zeros(1, 2, 8), azimuth=(180, 90))}), "are not in a range image of 8 columns"),
    (lambda: SyncCrop((5, 5), fov=80, columns=9)({"a": picture(), "r": RangeImage(torch.zeros(1, 2, 8))}), "9 columns from"),
])
def test_a_crop_says_what_it_lacks(make, message):
    with pytest.raises(UserError, match=message):
        make()


# Together, and in loaders


def chain(p=1.0):
    return v2.Compose([
        SyncTimeCrop(0.05, p), SyncMirror(p), v2.RandomHorizontalFlip(0.5), v2.ColorJitter(0.3), SyncCrop((32, 64), p, fov=80, columns=3),
        v2.ToDtype(torch.float32, scale=True),
    ])


class Moments(Dataset):
    def __init__(self, change):
        self.change = change

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.change({key: value for key, value in everything().items() if key in ("image", "frames", "wave", "range", "label")})


@pytest.mark.filterwarnings(FORKED)
def test_a_loaders_workers_repeat_themselves_by_its_seed_and_differ():
    def epoch(seed):
        generator = torch.Generator().manual_seed(seed)
        return list(DataLoader(Moments(unpickled(chain())), batch_size=2, num_workers=2, generator=generator))

    first, again, other = epoch(0), epoch(0), epoch(1)
    assert first[0]["image"].shape == (2, 3, 32, 64) and first[0]["wave"].shape == (2, 2, 400) and first[0]["frames"].shape[1] == 1
    assert all(torch.equal(one[key], two[key]) for one, two in zip(first, again, strict=True) for key in one)
    assert not all(torch.equal(one["image"], two["image"]) for one, two in zip(first, other, strict=True))
    assert not torch.equal(first[0]["image"], first[1]["image"])


@pytest.mark.parametrize("change", [SyncMirror, lambda p: SyncTimeCrop(0.05, p), lambda p: SyncCrop((20, 30), p, fov=80)])
def test_as_much_is_drawn_whatever_happens_and_one_seed_repeats_it(change):
    sample, left = everything(), []
    for p in (0.0, 0.5, 1.0):
        torch.manual_seed(3)
        made = change(p)(sample)
        left.append(torch.rand(()))
        torch.manual_seed(3)
        again = unpickled(change(p))(sample)
        assert equal(made, again) and (p > 0 or made is sample)
    assert left[0] == left[1] == left[2]


def test_nothing_of_the_sample_given_is_changed():
    sample, kept = everything(), everything()
    torch.manual_seed(0)
    chain()(sample)
    assert equal(sample, kept)
