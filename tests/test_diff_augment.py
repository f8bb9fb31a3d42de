"""Augmentation of what a discriminator sees."""
import pytest
import torch
from grids import noise

from mmcycle.core.diff_augment import diff_augment

POLICIES = [("color",), ("translation",), ("cutout",), ("color", "translation", "cutout")]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("shape", [(4, 3, 16, 16), (1, 1, 5, 33)])
def test_the_shape_stays_and_the_same_generator_gives_the_same_bytes(policy, shape):
    x = noise(*shape)
    y = diff_augment(x, policy, seeded())
    assert y.shape == x.shape and y.dtype == x.dtype
    assert torch.equal(y, diff_augment(x, policy, seeded()))
    assert not torch.equal(y, x)
    assert not torch.equal(y, diff_augment(x, policy, seeded(1)))


def test_an_empty_policy_changes_nothing_and_draws_nothing():
    rng, x = seeded(), noise(2, 3, 8, 8)
    before = rng.get_state()
    assert diff_augment(x, (), rng) is x
    assert torch.equal(rng.get_state(), before)


@pytest.mark.parametrize("policy", POLICIES)
def test_gradients_reach_what_was_augmented(policy):
    x = noise(4, 2, 16, 16).requires_grad_()
    diff_augment(x, policy, seeded()).sum().backward()
    assert x.grad.isfinite().all()
    assert (x.grad != 0).any(dim=(1, 2, 3)).all()


def test_color_keeps_each_sample_an_affine_copy_of_itself():
    x = noise(8, 3, 16, 16)
    y = diff_augment(x, ("color",), seeded())
    for before, after in zip(x, y, strict=True):
        contrast = after.std() / before.std()
        assert 0.5 <= contrast <= 1.5
        shift = after.mean() - before.mean()
        assert -0.5 <= shift <= 0.5
        torch.testing.assert_close(after, (before - before.mean()) * contrast + before.mean() + shift, atol=1e-5, rtol=0)


def test_translation_moves_by_at_most_an_eighth_and_fills_with_zero():
    height, width = 16, 24
    places = torch.arange(1.0, height * width + 1).view(1, 1, height, width).expand(64, 1, -1, -1)
    moved = diff_augment(places, ("translation",), seeded())
    shifts = set()
    for one in moved[:, 0]:
        row, column = (one > 0).nonzero()[0].tolist()
        origin = int(one[row, column]) - 1
        down, right = row - origin // width, column - origin % width
        expected = torch.zeros(height, width)
        top, left = max(down, 0), max(right, 0)
        expected[top : height + min(down, 0), left : width + min(right, 0)] = (
            places[0, 0, max(-down, 0) : height - top, max(-right, 0) : width - left]
        )
        assert torch.equal(one, expected)
        shifts.add((down, right))
    assert {down for down, _ in shifts} == set(range(-2, 3))
    assert {right for _, right in shifts} == set(range(-3, 4))


def test_cutout_sets_one_rectangle_of_at_most_about_half_of_each_side_to_zero():
    y = diff_augment(torch.ones(64, 2, 16, 16), ("cutout",), seeded())
    for one in y:
        hole = one[0] == 0
        rows, columns = hole.any(1).sum().item(), hole.any(0).sum().item()
        assert hole.sum() == rows * columns                     # a rectangle
        assert 4 <= rows <= 9 and 4 <= columns <= 9             # half of the side and its centre; less at the border
        assert torch.equal(one[0], one[1])


def test_each_sample_of_a_batch_is_augmented_in_its_own_way():
    x = noise(1, 1, 16, 16).expand(6, -1, -1, -1)
    for policy in POLICIES:
        y = diff_augment(x, policy, seeded())
        assert len({one.sum().item() for one in y}) > 1
