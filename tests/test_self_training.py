"""A network that also learns from unlabelled recordings of the target: what its teacher says, by hand, and what for."""
import math

import pytest
import torch
from torch import Tensor, nn

from mmcycle.metrics.arms import Arm, Batches, moved, picture_light
from mmcycle.metrics.downstream import HalfSegmenter
from mmcycle.metrics.labelled import Samples
from mmcycle.metrics.learner import find_learner, teach
from mmcycle.metrics.self_training import Teacher, Unlabelled, pasted, teacher_of

pytestmark = pytest.mark.usefixtures("one_thread")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples(x: Tensor, y: Tensor) -> Samples:
    return Samples(x, y, tuple(map(str, range(len(x)))))


def same(x: Tensor, rng: torch.Generator | None = None) -> Tensor:
    return x


class Says(nn.Module):
    """Scores of two classes: 0 and so many times what it sees."""

    def __init__(self, times: float, whole: bool = False):
        super().__init__()
        self.times, self.whole = nn.Parameter(torch.tensor(times)), whole

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.cat([torch.zeros_like(x), self.times * x], 1)
        return scores.mean((2, 3)) if self.whole else scores


def teacher(network: nn.Module, x: Tensor, masks: bool, weight: tuple[float, float] = (1.0, 1.0)) -> Teacher:
    like = Batches(Arm("x", (samples(x, torch.zeros(len(x))),)), len(x), 0, zoom=False)
    return teacher_of(network, Unlabelled(x, same), like, same, torch.tensor(weight), masks)


SEEN = torch.tensor([[[[-1.0, 1.0, 0.1, 1.0]]], [[[0.2, 0.1, -0.1, -0.2]]]])      # (2, 1, 1, 4)


def test_the_share_of_which_a_teacher_is_sure_counts_and_what_was_moved_in_does_not():
    inside = torch.tensor([[[0, 0, 0, -1]], [[0, 0, 0, 0]]])
    labels, sure = teacher(Says(5.0), SEEN, True).labels(SEEN, inside)              # 5: sure at 0.9933
    assert labels.tolist() == [[[0, 1, 1, -1]], [[1, 1, 0, 0]]]
    assert torch.allclose(sure[:, 0, 0], torch.tensor([2 / 3, 0])) and sure.shape == (2, 1, 4)


def test_of_a_class_a_teacher_is_sure_or_not():
    labels, sure = teacher(Says(20.0, whole=True), SEEN, False).labels(SEEN, torch.zeros(2, dtype=torch.long))
    assert labels.tolist() == [1, 0] and sure.tolist() == [1.0, 0.0]                # means 0.275 and 0


def test_a_student_is_told_what_its_teacher_is_sure_of():
    x = torch.tensor([[[[0.5]]], [[[0.01]]]])
    found = teacher(Says(20.0, whole=True), x, False, (1.0, 3.0)).loss(Says(2.0, whole=True), 0, x, torch.zeros(2))
    # both are of class 1, weight 3; only the first counts: 3 * -log sigmoid(2 * 0.5) of 6
    assert found.item() == pytest.approx(0.5 * math.log(1 + math.exp(-1)), rel=1e-4)


def test_half_of_the_classes_come_over_and_count_in_full():
    y = torch.tensor([[[0, 0, 1, 1, 2, 2, -1]]])
    seen = (torch.zeros(2, 1, 1, 7), torch.full((2, 1, 7), 3), torch.full((2, 1, 7), 0.25))
    x, labels, sure = pasted(seen, torch.ones(1, 1, 1, 7), y, rng())
    for number in range(2):
        over = labels[number, 0] != 3
        assert over.sum() == 4 and not over[6]                                      # two of three classes
        assert torch.equal(labels[number, 0][over], y[0, 0][over])
        assert torch.equal(x[number, 0, 0], over.float()) and torch.equal(sure[number, 0], torch.where(over, 1, 0.25))


def test_a_teacher_is_the_running_mean_of_its_student():
    found, student = teacher(Says(1.0), SEEN, True), Says(3.0)
    found.follow(student, 0)
    assert found.network.times.item() == 3                                          # the first step: the student itself
    student.times.data.fill_(5.0)
    found.follow(student, 1)
    assert found.network.times.item() == 4
    found.follow(student, 999)
    assert found.network.times.item() == pytest.approx(4.01)


def test_in_the_end_batch_norm_knows_the_target_alone():
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    nn.init.ones_(network[0].weight), nn.init.zeros_(network[0].bias)
    target = torch.randn(8, 1, 4, 4, generator=rng()) + 3
    found = teacher(network, target, True).at_home()
    assert found[1].running_mean.item() == pytest.approx(target.mean().item(), abs=1e-5)
    assert found[1].running_var.item() == pytest.approx(target.var().item(), abs=1e-5)
    assert network[1].running_mean.item() == 0                                      # the student's are left alone


def dots(seed: int, light: float = 1.0, count: int = 48) -> Samples:
    """Class 1 is bright on the right, by more or less light; three of four are of class 0."""
    x = 0.1 * torch.randn(count, 1, 8, 8, generator=rng(seed))
    y = (torch.arange(count) % 4 == 0).long()
    x[..., 4:] += y[:, None, None, None]
    return samples((light * x + light - 1).clamp(-1, 1), y)


def test_a_network_finds_its_way_in_another_light_by_itself_and_the_same_way_again():
    batches, network = Batches(Arm("x", (dots(0),)), 16, 0, True), find_learner(None, "classes")
    target, held_out = Unlabelled(dots(1, 0.3).x, same), dots(2, 0.3)
    alone = teach(network, batches, 2, "classes", 40, 0)
    found = [teach(network, batches, 2, "classes", 40, 0, target) for _ in range(2)]
    right = [(one(held_out.x) == held_out.y).float().mean() for one in (alone, found[0])]
    assert right[0] < 0.8 < 0.95 < right[1]
    assert torch.equal(found[0](held_out.x), found[1](held_out.x))


def test_a_network_of_masks_learns_at_half_the_resolution():
    x = torch.rand(8, 3, 18, 22, generator=rng()).round().repeat_interleave(2, 2).repeat_interleave(2, 3) * 2 - 1
    y = (x[:, 0] > 0).long()
    batches = Batches(Arm("x", (samples(x, y),)), 8, 0, True, far=True, light=picture_light)
    assert HalfSegmenter(3, 5)(x).shape == (8, 5, 36, 44)
    learner = find_learner("mmcycle.metrics.downstream:HalfSegmenter", "masks")
    found = teach(learner, batches, 2, "masks", 30, 0, Unlabelled(x, picture_light))
    assert (found(x) == y).float().mean() > 0.8


def test_far_is_further_and_mirrors_pictures_that_have_masks():
    x = torch.linspace(-1, 1, 32).expand(40, 1, 32, 32)
    y = (x[:, 0] > 0).long()
    found, masks = moved(x, y, rng(), zoom=True, far=True)
    mirrored = found[:, 0, 16, 24] < found[:, 0, 16, 8]
    assert 10 < mirrored.sum() < 30
    inside = masks >= 0
    assert ((found[:, 0] > 0).long()[inside] == masks[inside]).float().mean() > 0.95
    near = moved(x, y, rng(), zoom=True)[1]
    assert (~inside).float().mean() > 2 * (near < 0).float().mean()
    classes = moved(x, y[:, 0, 0], rng(), zoom=True, far=True)[0]
    assert torch.equal(classes, moved(x, y[:, 0, 0], rng(), zoom=True)[0])          # letters are not mirrored
