"""Training sets, the network that is taught on them, and its answers, scored by hand."""
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from mmcycle.errors import UserError
from mmcycle.metrics import answers
from mmcycle.metrics.answers import Asked
from mmcycle.metrics.arms import (
    Arm, Batches, fourier_of, moved, picture_jitter, picture_light, shuffled, signal_jitter, sometimes,
    statistics_of,
)
from mmcycle.metrics.labelled import Samples
from mmcycle.metrics.learner import find_learner, teach

pytestmark = pytest.mark.usefixtures("one_thread")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples(x: torch.Tensor, y: list[int]) -> Samples:
    return Samples(x, torch.tensor(y), tuple(map(str, range(len(x)))))


def noise(count: int = 6, channels: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, channels, 16, 24, generator=rng(seed)) * 1.6 - 0.8


def test_a_batch_takes_equal_parts_and_every_item_comes_in_every_pass():
    ones, twos = samples(torch.full((4, 1, 8, 8), -0.5), [0] * 4), samples(torch.full((2, 1, 8, 8), 0.5), [1] * 2)
    batches = Batches(Arm("both", (ones, twos)), 8, 0, zoom=True)
    x, y = batches(0)
    assert y.tolist() == [0] * 4 + [1] * 4 and x.shape == (8, 1, 8, 8)
    numbered = samples(torch.zeros(6, 1, 8, 8), list(range(6)))
    batches = Batches(Arm("one", (numbered,)), 3, 0, zoom=True)
    assert sorted(batches(0)[1].tolist() + batches(1)[1].tolist()) == list(range(6))


TARGET = noise(4, seed=1)


@pytest.mark.parametrize("change", [
    picture_jitter, picture_light, signal_jitter, statistics_of(TARGET), fourier_of(TARGET)])
def test_a_change_keeps_shape_and_range_and_follows_its_seed(change):
    x = noise()
    found = change(x, rng())
    assert found.shape == x.shape and found.abs().max() <= 1 and found.isfinite().all()
    assert torch.equal(found, change(x, rng())) and not torch.equal(found, change(x, rng(1)))
    assert (found - x).abs().mean() > 0.02


def test_gray_pictures_and_pictures_of_five_bands_are_jittered_too():
    for channels in (1, 5):
        assert picture_jitter(noise(channels=channels), rng()).shape == (6, channels, 16, 24)


def test_sometimes_is_every_other_time():
    found = sometimes(lambda x, rng: x + 1)(torch.zeros(200, 1, 2, 2), rng())
    assert set(found.unique().tolist()) == {0, 1} and 70 < found[:, 0, 0, 0].sum() < 130
    assert torch.equal(found, found[:, :, :1, :1].expand_as(found))


def test_statistics_are_those_of_the_target():
    target = 0.1 * torch.randn(1, 3, 16, 24, generator=rng(2)) + torch.tensor([-0.3, 0.0, 0.3])[:, None, None]
    found = statistics_of(target)(noise(), rng())
    assert torch.allclose(found.mean((2, 3)), target.mean((2, 3)).expand(6, -1), atol=1e-4)
    assert torch.allclose(found.std((2, 3)), target.std((2, 3)).expand(6, -1), atol=1e-4)


def test_low_frequencies_come_from_the_target_and_details_stay():
    x, target = 0.3 * noise(2), 0.3 * noise(1, seed=1) + 0.4
    found = fourier_of(target)(x, rng())
    # the mean is the lowest frequency: its size is the target's, its sign the source's
    assert torch.allclose(found.mean((2, 3)).abs(), target.mean((2, 3)).abs().expand(2, -1), atol=1e-3)
    before, after = (torch.fft.fft2(one)[..., 8, 12] for one in (x, found))
    assert torch.allclose(before, after, atol=1e-3)


def test_masks_move_with_their_pictures_and_count_for_nothing_outside():
    x = torch.zeros(40, 1, 32, 32)
    x[:, :, 8:24, 8:24] = 1
    y = (x[:, 0] > 0).long()
    found, masks = moved(x, y, rng(), zoom=True)
    inside = masks >= 0
    assert (found[:, 0][inside].round().long() == masks[inside]).float().mean() > 0.98
    assert set(masks.unique().tolist()) == {-1, 0, 1}
    assert 0.001 < (masks != y).float().mean() < 0.2


def test_other_sensors_are_shifted_along_their_rows_alone():
    x = torch.arange(16.0).reshape(1, 1, 16, 1).expand(5, -1, -1, 24) / 16
    assert torch.allclose(moved(x, torch.zeros(5), rng(), zoom=False)[0], x, atol=1e-5)


def test_a_placebo_has_the_same_labels_in_another_order():
    pool = samples(noise(6), [0, 1, 2, 3, 4, 5])
    found = shuffled(pool, 0)
    assert sorted(found.y.tolist()) == [0, 1, 2, 3, 4, 5] and found.y.tolist() != pool.y.tolist()
    assert torch.equal(found.x, pool.x)


def asked(kind: str, y: list, classes: tuple[str, ...], groups: tuple[str, ...] | None = None) -> Asked:
    truth = torch.tensor(y)
    groups = groups or tuple(map(str, range(len(truth))))
    return Asked(Samples(torch.zeros(len(truth), 1, 8, 8), truth, groups), classes, kind)


def test_accuracies_by_hand():
    test = asked("classes", [0, 0, 0, 1], ("a", "b", "nowhere"))
    found = test.score(test.tally(torch.tensor([0, 0, 2, 0])))
    assert found == pytest.approx(
        {"accuracy": 50, "balanced_accuracy": 100 / 3, "recall: a": 200 / 3, "recall: b": 0})      # (2/3 + 0) / 2
    assert list(test.there) == [True, True, False]


def test_overlaps_of_masks_by_hand():
    test = asked("masks", [[[0, 0, 1, -1]], [[1, 1, 1, 1]]], ("a", "b", "nowhere"))
    found = test.score(test.tally(torch.tensor([[[0, 1, 1, 0]], [[1, 1, 1, 2]]])))
    # a: hit 1 of true 2 + found 1 - 1; b: hit 4 of true 5 + found 5 - 4; 5 of 7 places are right
    assert found == pytest.approx(
        {"mean_iou": 100 * (1 / 2 + 4 / 6) / 2, "pixel_accuracy": 500 / 7, "iou: a": 50, "iou: b": 200 / 3})


def test_redrawn_scores_surround_the_score_and_groups_are_drawn_whole():
    y = [0, 1] * 40
    for kind, answer in (("classes", [0] * 80), ("masks", [[[0, 1]]] * 80)):
        test = asked(kind, y if kind == "classes" else [[[one, 1]] for one in y], ("a", "b"))
        tally = test.tally(torch.tensor(answer))
        found = test.redrawn([tally, tally], test.draws(0))
        assert len(found) == answers.DRAWS
        assert np.mean(found) == pytest.approx(test.score(tally)[answers.MAIN[kind]], abs=1)
        assert 2 < np.std(found) < 8                                # of a coin thrown 80 times: 5.6
    whole = asked("classes", y, ("a", "b"), ("left",) * 40 + ("right",) * 40)
    drawn = whole.draws(0)
    assert (drawn[:, :40] == drawn[:, :1]).all() and set(drawn[:, 0].tolist()) == {0, 1, 2}


def test_only_a_tally_of_this_test_set_fits():
    test = asked("classes", [0, 1], ("a", "b"))
    assert test.fits(np.array([1, 1])) and not test.fits(np.array([1, 2])) and not test.fits(np.array([1]))
    test = asked("masks", [[[0, 1]]], ("a", "b"))
    assert test.fits(np.array([[1, 0, 0, 1]])) and not test.fits(np.array([[1, 0, 0, -1]]))


def dots(seed: int, count: int = 40) -> Samples:
    """Class 1 is bright on the right; three of four are of class 0."""
    x = 0.1 * torch.randn(count, 1, 8, 8, generator=rng(seed))
    y = (torch.arange(count) % 4 == 0).long()
    x[..., 4:] += y[:, None, None, None]
    return samples(x.clamp(-1, 1), y.tolist())


def test_a_network_is_taught_and_the_same_seed_teaches_the_same():
    pool, held_out = dots(0), dots(1)
    batches, network = Batches(Arm("x", (pool,)), 16, 0, True), find_learner(None, "classes")
    found = [teach(network, batches, 2, "classes", 40, 0) for _ in range(2)]
    assert (found[0](held_out.x) == held_out.y).float().mean() > 0.95
    assert torch.equal(found[0](held_out.x), found[1](held_out.x))


def test_a_network_of_masks_is_taught_where_something_counts():
    x = torch.rand(8, 1, 16, 16, generator=rng()) * 2 - 1
    y = (x[:, 0] > 0).long()
    y[:4] = -1                                                      # some pictures are all void
    pool = Samples(x, y, tuple("abcdefgh"))
    found = teach(find_learner(None, "masks"), Batches(Arm("x", (pool,)), 2, 0, True), 2, "masks", 60, 0)
    assert (found(x[4:]) == y[4:]).float().mean() > 0.75


class Mean(nn.Module):
    """Answers with so many numbers."""

    def __init__(self, channels: int, answers: int):
        super().__init__()
        self.last = nn.Linear(channels, answers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x.mean((2, 3)))


@pytest.fixture
def my_nets(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("my_nets")
    module.small, module.other, module.number = Mean, lambda channels, classes: Mean(channels, 7), 3
    module.nothing, module.wrong = lambda channels, classes: None, lambda channels, classes: Mean(9, classes)
    monkeypatch.setitem(sys.modules, "my_nets", module)
    return module


def test_a_network_of_ones_own_is_taught(my_nets):
    batches = Batches(Arm("x", (dots(0),)), 8, 0, True)
    taught = teach(find_learner("my_nets:small", "classes"), batches, 2, "classes", 3, 0)
    assert isinstance(taught.network, Mean)


@pytest.mark.parametrize("name, message", [
    ("my_nets:absent", "could not be imported.*function .channels, classes."),
    ("no_such_module:x", "could not be imported"),
    ("my_nets:number", "is int; it must be a function"),
])
def test_what_is_no_learner_is_refused(my_nets, name, message):
    with pytest.raises(UserError, match=message):
        find_learner(name, "classes")


@pytest.mark.parametrize("name, message", [
    ("other", r"with \(2, 7\); expected scores \(2, 2\)"),
    ("nothing", "returned NoneType; it must return a torch.nn.Module"),
    ("wrong", "does not take"),
])
def test_a_network_that_answers_otherwise_is_refused(my_nets, name, message):
    with pytest.raises(UserError, match=message):
        teach(find_learner(f"my_nets:{name}", "classes"), Batches(Arm("x", (dots(0),)), 8, 0, True), 2, "classes", 3, 0)
