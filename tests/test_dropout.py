"""Streams taken away, never all of them, and the word about which are left."""
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from mmcycle.errors import UserError
from mmcycle.transforms import ModalityDropout
from mmcycle.transforms.sensors import Points

NAMES = ("camera", "wave", "sweep")


def sample():
    return {
        "camera": tv_tensors.Image(torch.full((3, 2, 2), 7, dtype=torch.uint8)), "wave": torch.ones(1, 8),
        "sweep": Points(torch.ones(5, 4)), "label": 3,
    }


def batch(size):
    return {"camera": torch.ones(size, 3, 2, 2), "wave": torch.ones(size, 1, 8), "label": torch.arange(size)}


def rates(p, n=4000, present=None):
    """How often each stream is dropped, and in how many items each was left alone."""
    torch.manual_seed(0)
    given = {name: torch.ones(n, 1) for name in p} | ({"present": present} if present else {})
    left = torch.stack(list(ModalityDropout(p, batched=True)(given)["present"].values()), dim=1)
    assert left.any(dim=1).all()
    return (~left).float().mean(dim=0).numpy()


def test_a_dropped_stream_is_filled_and_said_to_be_lacking():
    torch.manual_seed(0)
    seen = set()
    for _ in range(60):
        made = ModalityDropout(0.5, streams=NAMES)(sample())
        there = {name: bool(made["present"][name]) for name in NAMES}
        for name in NAMES:
            assert bool(made[name].any()) == there[name]
            assert type(made[name]) is type(sample()[name]) and made[name].shape == sample()[name].shape
            assert made[name].dtype == sample()[name].dtype and made["present"][name].shape == ()
        assert made["label"] == 3
        seen.add(tuple(there.values()))
    assert len(seen) == 7                                   # every choice but none at all


def test_one_stream_is_always_left():
    torch.manual_seed(0)
    for _ in range(300):
        assert any(ModalityDropout(0.99, streams=NAMES)(sample())["present"].values())


def test_streams_are_dropped_as_often_as_their_probabilities_say():
    # Both fall with 0.02; then the one of p = 0.2 stays with 0.8 / (0.8 + 0.9).
    expected = np.array([0.2 - 0.02 * 0.8 / 1.7, 0.1 - 0.02 * 0.9 / 1.7])
    assert np.all(abs(rates({"camera": 0.2, "wave": 0.1}) - expected) < 4 * (0.2 * 0.8 / 4000) ** 0.5)


def test_a_stream_of_probability_one_is_never_left_while_another_may_be():
    assert rates({"camera": 1.0, "wave": 0.5}).tolist() == [1.0, 0.0]
    assert rates({"camera": 1.0, "wave": 1.0, "sweep": 0.9})[2] == 0


def test_a_probability_of_zero_drops_nothing():
    given = sample()
    made = ModalityDropout({"camera": 0.0, "wave": 0.0})(given)
    assert made["camera"] is given["camera"] and made["wave"] is given["wave"]
    assert {name: bool(there) for name, there in made["present"].items()} == {"camera": True, "wave": True}


def test_the_items_of_a_batch_are_drawn_on_their_own():
    torch.manual_seed(0)
    given = batch(200)
    made = ModalityDropout(0.5, streams=("camera", "wave"), batched=True)(given)
    for name in ("camera", "wave"):
        there = made["present"][name]
        assert there.shape == (200,) and 0.2 < there.float().mean() < 0.95
        assert torch.equal(made[name].flatten(1).amin(dim=1) == 1, there) and torch.equal(made[name].flatten(1).amax(dim=1) == 1, there)
    assert torch.equal(given["wave"], torch.ones(200, 1, 8)) and made["label"] is given["label"]


def test_what_fills_is_a_number_or_the_stream_at_its_mean():
    torch.manual_seed(0)
    fill = {"wave": -1.0, "camera": torch.tensor([0.25, 0.5, 0.75])[:, None, None]}
    made = ModalityDropout(0.6, streams=("camera", "wave"), fill=fill, batched=True)(batch(40))
    lost = ~made["present"]["camera"]
    assert lost.any() and torch.equal(made["camera"][lost][:, :, 0, 0].unique(dim=0), torch.tensor([[0.25, 0.5, 0.75]]))
    assert made["wave"][~made["present"]["wave"]].unique().tolist() == [-1.0]
    made = ModalityDropout({"camera": 0.0, "wave": 1.0}, fill=2)(sample())
    assert made["wave"].unique().tolist() == [2.0]


def test_a_stream_that_was_lacking_is_none_that_could_be_left():
    has = {"camera": torch.tensor([True, False, False, True]).repeat(50), "wave": torch.tensor([True, True, False, False]).repeat(50)}
    given = batch(200) | {"present": has | {"gps": torch.ones(200).bool()}}
    given["camera"][~has["camera"]] = 9.0
    made = ModalityDropout(0.9, streams=("camera", "wave"), fill=5.0, batched=True)(given)
    camera, wave = made["present"]["camera"], made["present"]["wave"]
    assert not (camera & ~has["camera"]).any() and not (wave & ~has["wave"]).any()
    assert torch.equal(camera | wave, has["camera"] | has["wave"])                    # the only one is always left
    assert made["camera"][~has["camera"]].unique().tolist() == [9.0]                  # and keeps what stood there
    assert made["present"]["gps"] is given["present"]["gps"]


def test_the_only_stream_of_a_sample_is_left_even_where_its_own_probability_is_one():
    made = ModalityDropout({"camera": 1.0, "wave": 0.0})(sample() | {"present": {"wave": torch.tensor(False)}})
    assert made["present"]["camera"] and not made["present"]["wave"]


def test_all_tensors_below_a_name_go_together():
    given = {"clip": [torch.ones(2), torch.ones(3)], "wave": torch.ones(4)}
    made = ModalityDropout({"clip": 1.0, "wave": 0.0})(given)
    assert not made["clip"][0].any() and not made["clip"][1].any() and made["wave"].all()


def test_the_same_seed_gives_the_same_and_as_much_is_drawn_whatever_p_is():
    def run(p, seed):
        torch.manual_seed(seed)
        made = ModalityDropout(p, streams=NAMES)(sample())["present"]
        return [bool(there) for there in made.values()], torch.rand(()).item()

    assert run(0.5, 3) == run(0.5, 3)
    assert run(0.0, 3)[1] == run(0.9, 3)[1]


def test_samples_with_their_masks_are_collated_by_a_loader_and_other_transforms_pass_them():
    transform = v2.Compose([ModalityDropout(0.5, streams=("camera", "wave")), v2.RandomHorizontalFlip(1.0)])
    transform = ForkingPickler.loads(ForkingPickler.dumps(transform))
    samples = [{name: transform(sample())[name] for name in ("camera", "wave", "label", "present")} for _ in range(4)]
    made = next(iter(DataLoader(samples, batch_size=4)))
    assert made["present"]["camera"].shape == (4,) and made["present"]["camera"].dtype == torch.bool
    made = ModalityDropout(0.5, streams=("camera", "wave"), batched=True)(made)       # and may be dropped from again
    assert torch.stack(list(made["present"].values())).any(dim=0).all()


@pytest.mark.parametrize("p, changes, message", [
    (0.3, {}, "give one p and streams="),
    ({"camera": 0.1, "wave": 0.1}, {"streams": ("camera", "wave")}, "give one p and streams="),
    (0.3, {"streams": "camera"}, "streams is 'camera'; it lists names"),
    (0.3, {"streams": ("camera",)}, "camera is no choice; name two streams or more"),
    ({}, {}, "nothing is no choice"),
    ({"camera": 1.5, "wave": 0}, {}, r"p of 'camera' is 1.5; a probability lies in \[0, 1\]"),
    (1.0, {"streams": NAMES}, "every p is 1, and one stream is always left"),
    (0.5, {"streams": NAMES, "fill": {"lidar": 0.0}}, "fill names lidar; the streams are camera, wave, sweep"),
])
def test_what_cannot_be_dropped_so_is_refused_at_once(p, changes, message):
    with pytest.raises(UserError, match="ModalityDropout: " + message):
        ModalityDropout(p, **changes)


def test_a_sample_that_is_no_dict_is_refused():
    drop = ModalityDropout(0.5, streams=(0, 1))
    for given in ((torch.ones(2), torch.ones(3)), [torch.ones(2)]):
        with pytest.raises(UserError, match="takes a sample that is a dict"):
            drop(*given)
    with pytest.raises(UserError, match="takes a sample that is a dict"):
        drop([torch.ones(2), torch.ones(3)])


def test_a_fill_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"fill of 'wave' does not fit \(1, 8\)"):
        ModalityDropout({"camera": 0.0, "wave": 1.0}, fill={"wave": torch.zeros(3)})(sample())


def test_a_stream_that_is_not_there_is_told():
    with pytest.raises(UserError, match="ModalityDropout: there is no 'lidar'; the sample holds"):
        ModalityDropout({"camera": 0.5, "lidar": 0.5})(sample())
