"""Every objective against values worked by hand, or by numpy."""
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mmcycle.core import losses

REAL = torch.tensor([[2.0, -1.0]])
FAKE = torch.tensor([[0.0, -2.0]])


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


GENERATOR = {
    "lsgan": ((0 - 1) ** 2 + (-2 - 1) ** 2) / 2,                        # 5
    "hinge": 1.0,
    "wgan-gp": 1.0,
    "nonsaturating": (softplus(0) + softplus(2)) / 2,
}
DISCRIMINATOR = {
    "lsgan": 0.5 * ((1 + 4) / 2 + (0 + 4) / 2),                         # 2.25
    "hinge": (0 + 2) / 2 + (1 + 0) / 2,                                 # 1.5
    "wgan-gp": -1.0 - 0.5,
    "nonsaturating": (softplus(-2) + softplus(1)) / 2 + (softplus(0) + softplus(-2)) / 2,
}


@pytest.mark.parametrize("kind", GENERATOR)
def test_what_the_generator_pays_is_the_value_worked_by_hand(kind):
    assert losses.generator_adversarial(kind, FAKE).item() == pytest.approx(GENERATOR[kind], rel=1e-6)


@pytest.mark.parametrize("kind", DISCRIMINATOR)
def test_what_the_discriminator_pays_is_the_value_worked_by_hand(kind):
    assert losses.discriminator_adversarial(kind, REAL, FAKE).item() == pytest.approx(DISCRIMINATOR[kind], rel=1e-6)


@pytest.mark.parametrize("kind", GENERATOR)
def test_fooling_the_discriminator_better_costs_the_generator_less(kind):
    scores = torch.tensor([-1.0, 0.0, 0.5])
    costs = [losses.generator_adversarial(kind, score[None]).item() for score in scores]
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize("kind", DISCRIMINATOR)
def test_a_discriminator_that_is_right_pays_less_than_one_that_is_wrong(kind):
    good, bad = torch.ones(2, 3), -torch.ones(2, 3)
    assert losses.discriminator_adversarial(kind, good, bad) < losses.discriminator_adversarial(kind, bad, good)


def test_an_unknown_adversarial_loss_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown adversarial loss 'l2gan'"):
        losses.generator_adversarial("l2gan", FAKE)
    with pytest.raises(ValueError, match="unknown adversarial loss 'l2gan'"):
        losses.discriminator_adversarial("l2gan", REAL, FAKE)


def linear(weight: Tensor):
    """A discriminator whose gradient is `weight` everywhere."""
    return lambda x: (x * weight).flatten(1).sum(1)


def test_the_gradient_penalty_of_a_linear_discriminator_is_its_steepness_minus_one_squared():
    weight = torch.zeros(1, 2, 2)
    weight[0, 0, 0], weight[0, 1, 1] = 3.0, 4.0                         # norm 5
    real, fake, share = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2), torch.rand(3, 1, 1, 1)
    assert losses.gradient_penalty(linear(weight), real, fake, share).item() == pytest.approx(16.0)
    assert losses.gradient_penalty(linear(weight / 5), real, fake, share).item() == pytest.approx(0.0, abs=1e-6)


def test_the_gradient_penalty_looks_between_real_and_fake_at_the_given_share():
    seen = []

    def watching(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return x.flatten(1).sum(1)

    share = torch.tensor([1.0, 0.0, 0.25]).view(3, 1, 1, 1)
    losses.gradient_penalty(watching, torch.full((3, 1, 1, 1), 2.0), torch.full((3, 1, 1, 1), -2.0), share)
    assert seen[0].flatten().tolist() == [2.0, -2.0, -1.0]              # all real, all fake, a quarter of the way to real


def test_r1_of_a_linear_discriminator_is_half_its_squared_steepness():
    weight = torch.tensor([[[3.0, 4.0]]])
    assert losses.r1_penalty(linear(weight), torch.randn(2, 1, 1, 2)).item() == pytest.approx(12.5)


def test_r1_of_patches_is_that_of_their_mean_score():
    def patches(x: Tensor) -> Tensor:
        return torch.stack([3 * x[:, 0, 0, 0], 5 * x[:, 0, 0, 1]], dim=1)   # mean: gradient (1.5, 2.5)

    assert losses.r1_penalty(patches, torch.zeros(4, 1, 1, 2)).item() == pytest.approx(0.5 * (1.5**2 + 2.5**2))


def test_penalties_reach_the_weights_of_the_discriminator():
    weight = torch.tensor([[[3.0, 4.0]]], requires_grad=True)
    losses.r1_penalty(linear(weight), torch.randn(2, 1, 1, 2)).backward()
    torch.testing.assert_close(weight.grad, weight.detach())            # d(|w|^2 / 2) = w


def test_l1_cycle_is_the_mean_difference():
    assert losses.cycle("l1", torch.tensor([1.0, -1.0]), torch.tensor([0.0, -0.5])).item() == pytest.approx(0.75)


def test_charbonnier_is_l1_far_from_zero_and_has_a_finite_gradient_at_zero():
    real, rec = torch.tensor([0.3, -0.4]), torch.tensor([0.0, 0.0])
    expected = (math.sqrt(0.09 + 1e-6) + math.sqrt(0.16 + 1e-6)) / 2
    assert losses.cycle("charbonnier", real, rec).item() == pytest.approx(expected, rel=1e-6)
    same = torch.zeros(3, requires_grad=True)
    loss = losses.cycle("charbonnier", torch.zeros(3), same)
    loss.backward()
    assert loss.item() == pytest.approx(1e-3, rel=1e-4)
    assert same.grad.abs().max() == 0


def test_the_style_loss_is_the_mean_difference_and_teaches_only_what_is_shown():
    given, shown = (torch.tensor([[1.0, 0.0]], requires_grad=True), torch.tensor([[0.5, 0.25]], requires_grad=True))
    loss = losses.style(given, shown)
    assert loss.item() == pytest.approx(0.375)
    loss.backward()
    assert given.grad is None and shown.grad is not None


def test_identity_is_the_mean_difference():
    assert losses.identity(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.25]])).item() == pytest.approx(0.375)


def test_only_known_partners_are_compared():
    partner, fake = torch.zeros(3, 1, 1, 2), torch.tensor([[1.0, 3.0], [10.0, 10.0], [4.0, 0.0]]).view(3, 1, 1, 2)
    assert losses.paired(partner, fake, torch.tensor([1.0, 0.0, 1.0])).item() == pytest.approx((2 + 2) / 2)
    assert losses.paired(partner, fake, torch.tensor([False, True, False])).item() == pytest.approx(10)


def test_without_a_known_partner_nothing_is_paid_and_nothing_is_learned():
    fake = torch.ones(2, 1, 2, 2, requires_grad=True)
    loss = losses.paired(torch.zeros(2, 1, 2, 2), fake, torch.zeros(2))
    loss.backward()
    assert loss.item() == 0
    assert fake.grad.abs().max() == 0


def test_low_resolution_ignores_brightness_and_what_is_finer_than_the_factor():
    rng = torch.Generator().manual_seed(0)
    real = torch.rand(2, 3, 16, 16, generator=rng)
    texture = torch.tensor([1.0, -1.0]).repeat(8).expand(16, 16) * 0.3  # averages to 0 in each cell of 4 x 4
    assert losses.low_resolution(real, real + 0.4, 4).item() == pytest.approx(0, abs=1e-5)
    assert losses.low_resolution(real, real + texture, 4).item() == pytest.approx(0, abs=1e-5)


def test_low_resolution_hardly_sees_contrast_and_clearly_sees_another_layout():
    layout = torch.zeros(1, 1, 16, 16)
    layout[..., :8] = 1                                                 # thumbnail deviation about 0.5
    contrast = losses.low_resolution(layout, 0.6 * layout, 4).item()
    moved = losses.low_resolution(layout, layout.transpose(-1, -2), 4).item()
    assert contrast < 0.1 < 0.5 < moved


def test_low_resolution_is_that_of_numpy():
    rng = np.random.default_rng(1)
    real, fake = rng.random((2, 3, 8, 8)), rng.random((2, 3, 8, 8))

    def thumbnail(x: np.ndarray) -> np.ndarray:
        small = x.mean(1).reshape(2, 4, 2, 4, 2).mean((2, 4))
        return (small - small.mean((1, 2), keepdims=True)) / (small.std((1, 2), ddof=1, keepdims=True) + 0.1)

    expected = np.abs(thumbnail(real) - thumbnail(fake)).mean()
    assert losses.low_resolution(torch.from_numpy(real), torch.from_numpy(fake), 2).item() == pytest.approx(expected, rel=1e-5)


def test_patch_nce_is_that_of_numpy():
    rng = np.random.default_rng(0)
    query, key = rng.standard_normal((2, 5, 7)), rng.standard_normal((2, 5, 7))
    unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (query, key)]
    logits = np.einsum("bnd,bmd->bnm", *unit) / 0.07
    top = logits.max(-1)
    cross = np.log(np.exp(logits - top[..., None]).sum(-1)) + top - np.einsum("bnn->bn", logits)
    found = losses.patch_nce(torch.from_numpy(query), torch.from_numpy(key), 0.07).item()
    assert found == pytest.approx(cross.mean(), rel=1e-5)


def test_patches_that_know_their_place_pay_almost_nothing_and_the_key_learns_nothing():
    key = torch.eye(4)[None].requires_grad_()
    query = (3 * torch.eye(4))[None].requires_grad_()
    loss = losses.patch_nce(query, key, 0.07)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(1 + 3 * math.exp(-1 / 0.07)), abs=1e-6)
    assert losses.patch_nce(query.roll(1, dims=1), key, 0.07).item() > 10
    assert key.grad is None


def test_task_consistency_is_the_kl_divergence_of_numpy():
    rng = np.random.default_rng(0)
    before, after = rng.standard_normal((2, 3, 4, 4)), rng.standard_normal((2, 3, 4, 4))
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (before, after))
    expected = (p * np.log(p / q)).sum(1).mean()
    found = losses.task_consistency(torch.from_numpy(before), torch.from_numpy(after)).item()
    assert found == pytest.approx(expected, rel=1e-5)
    assert losses.task_consistency(torch.from_numpy(before), torch.from_numpy(before) + 2).item() == pytest.approx(0, abs=1e-6)


def test_task_consistency_teaches_only_what_was_said_of_the_translation():
    before, after = torch.randn(1, 2, requires_grad=True), torch.randn(1, 2, requires_grad=True)
    losses.task_consistency(before, after).backward()
    assert before.grad is None
    assert after.grad.abs().max() > 0


HALF = torch.linspace(-0.9, 0.9, 2 * 3 * 8 * 8).view(2, 3, 8, 8).bfloat16()
IN_FLOAT32 = {
    "generator": lambda: losses.generator_adversarial("lsgan", HALF),
    "discriminator": lambda: losses.discriminator_adversarial("hinge", HALF, -HALF),
    "gradient penalty": lambda: losses.gradient_penalty(lambda x: x.square(), HALF, -HALF, torch.full((2, 1, 1, 1), 0.5).bfloat16()),
    "r1": lambda: losses.r1_penalty(lambda x: x.square(), HALF),
    "cycle": lambda: losses.cycle("charbonnier", HALF, -HALF),
    "identity": lambda: losses.identity(HALF, -HALF),
    "style": lambda: losses.style(HALF, -HALF),
    "paired": lambda: losses.paired(HALF, -HALF, torch.ones(2)),
    "low resolution": lambda: losses.low_resolution(HALF, -HALF, 2),
    "patch nce": lambda: losses.patch_nce(HALF.flatten(2), -HALF.flatten(2), 0.07),
    "task": lambda: losses.task_consistency(HALF, -HALF),
}


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_losses_of_bfloat16_are_computed_in_float32(name):
    loss = IN_FLOAT32[name]()
    assert loss.dtype == torch.float32
    assert loss.isfinite()


def test_a_mean_over_many_bfloat16_values_is_not_rounded_to_bfloat16():
    x = torch.full((1, 1, 64, 64), 0.5).bfloat16()
    x[..., 0, 0] = 0.25                                                 # moves the mean by 6e-5, lost in bfloat16
    assert losses.identity(x, torch.zeros_like(x)).item() == pytest.approx(0.5 - 0.25 / 4096, abs=1e-7)


def test_a_masked_cycle_loss_looks_only_where_the_sensor_measured():
    real, rec = torch.zeros(1, 2, 1, 3), torch.tensor([[[[1.0, 2.0, 9.0]], [[3.0, 4.0, 9.0]]]])
    where = torch.tensor([[[[1.0, 1.0, 0.0]]]])
    assert losses.cycle("l1", real, rec, where).item() == pytest.approx((1 + 2 + 3 + 4) / 4)
    assert losses.cycle("l1", real, rec, torch.zeros(1, 1, 1, 3)).item() == 0
