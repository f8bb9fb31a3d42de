"""The laws that a measure must keep before anybody believes its numbers."""
import math
import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmcycle.errors import UserError
from mmcycle.metrics import distances
from mmcycle.metrics.distances import RandomFeatures, frechet, kid, kid_interval, l1, ms_ssim, psnr, ssim, standardise
from mmcycle.metrics.faithfulness import edges_added, edges_kept, luminance, structure

pytestmark = pytest.mark.usefixtures("one_thread")

SET = 64                                                        # recordings per set


def pictures(seed: int, number: int = SET, channels: int = 3, size: int = 32) -> torch.Tensor:
    """Random shapes with hard edges on smooth, finely grained grounds: (N, C, H, W) in [-1, 1]."""
    rng = torch.Generator().manual_seed(seed)
    x = F.interpolate(torch.rand(number, channels, 4, 4, generator=rng), size=size, mode="bilinear") * 1.2 - 0.6
    for one in x:
        top, left = torch.randint(size // 2, (2,), generator=rng).tolist()
        one += 0.08 * torch.randn(one.shape, generator=rng)
        one[:, top : top + size // 3, left : left + size // 4] += torch.rand(channels, 1, 1, generator=rng) * 0.8 - 0.4
    return x.clamp(-1, 1)


def blurred(x: torch.Tensor, level: int) -> torch.Tensor:
    size = 2 * level + 1
    return F.avg_pool2d(F.pad(x, (level,) * 4, mode="replicate"), size, stride=1)


def noisy(x: torch.Tensor, level: int) -> torch.Tensor:
    return x + 0.05 * level * torch.randn(x.shape, generator=torch.Generator().manual_seed(9))


def darker(x: torch.Tensor, level: int) -> torch.Tensor:
    return (x + 1) * (1 - 0.12 * level) - 1


def spearman(values: list[float]) -> float:
    """Rank correlation with the order in which they were given."""
    ranks = np.argsort(np.argsort(values))
    return 1 - 6 * int(((ranks - np.arange(len(values))) ** 2).sum()) / (len(values) * (len(values) ** 2 - 1))


# Between two recordings

def test_l1_and_psnr_match_a_sum_by_hand():
    x, y = torch.zeros(2, 1, 2, 2), torch.full((2, 1, 2, 2), 0.5)
    y[1] = -0.1
    assert torch.allclose(l1(x, y), torch.tensor([0.5, 0.1]))
    assert torch.allclose(psnr(x, y), torch.tensor([10 * math.log10(4 / 0.25), 10 * math.log10(4 / 0.01)]))
    assert psnr(x, x).isinf().all()


def test_one_recording_without_a_batch_gives_one_number():
    x = pictures(0, 1)[0]
    assert l1(x, x).shape == psnr(x, x).shape == ssim(x, x).shape == structure(x, x).shape == ()


def test_ssim_matches_numpy_at_one_window():
    x, y = pictures(1, 1, 2, 11)[0].double(), pictures(2, 1, 2, 11)[0].double()
    offset = np.arange(11) - 5
    window = np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    expected = []
    for a, b in zip(x.numpy(), y.numpy()):
        mean_a, mean_b = (window * a).sum(), (window * b).sum()
        var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
        cov = (window * (a - mean_a) * (b - mean_b)).sum()
        c1, c2 = 0.02**2, 0.06**2
        luminance_factor = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        expected.append(luminance_factor * (2 * cov + c2) / (var_a + var_b + c2))
    assert ssim(x, y).item() == pytest.approx(np.mean(expected), abs=1e-6)


def test_ssim_of_two_flat_recordings_is_its_luminance_factor():
    x, y = torch.full((1, 1, 16, 20), 0.5), torch.full((1, 1, 16, 20), 0.25)
    assert ssim(x, y).item() == pytest.approx((2 * 0.125 + 0.0004) / (0.25 + 0.0625 + 0.0004), abs=1e-5)


def test_ssim_is_one_for_equals_symmetric_and_falls_with_noise():
    x = pictures(3, 4, 5)
    y = noisy(x, 2)
    assert torch.allclose(ssim(x, x), torch.ones(4), atol=1e-6)
    assert torch.allclose(ssim(x, y), ssim(y, x), atol=1e-6)
    assert spearman([-ssim(x, noisy(x, level)).mean().item() for level in range(5)]) == 1


def test_ms_ssim_is_one_for_equals_and_zero_for_the_opposite_structure():
    x = pictures(4, 1, 1, 176)
    assert ms_ssim(x, x).item() == pytest.approx(1, abs=1e-5)
    assert 0.5 < ms_ssim(x, noisy(x, 2)).item() < 1
    stripes = torch.sin(torch.arange(176.0)).expand(1, 1, 176, 176)
    assert ms_ssim(stripes, -stripes).item() == 0


def test_recordings_that_are_too_small_are_refused():
    with pytest.raises(UserError, match=re.escape("needs at least that, got 10 x 40")):
        ssim(torch.zeros(1, 1, 10, 40), torch.zeros(1, 1, 10, 40))
    with pytest.raises(UserError, match=re.escape("176 x 176 or more, got 175 x 176; use ssim")):
        ms_ssim(torch.zeros(1, 1, 175, 176), torch.zeros(1, 1, 175, 176))


def test_shapes_that_would_broadcast_are_refused():
    for measure in (l1, psnr, ssim, ms_ssim):
        with pytest.raises(UserError, match="of one shape are compared"):
            measure(torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16))


# Between two sets

def test_kid_matches_the_double_loop():
    a, b = torch.randn(5, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64) + 1
    k = lambda x, y: (float(x @ y) / 3 + 1) ** 3                # noqa: E731
    within_a = np.mean([k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j])
    within_b = np.mean([k(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j])
    across = np.mean([k(x, y) for x in a for y in b])
    assert kid(a, b) == pytest.approx(within_a + within_b - 2 * across, rel=1e-9)


def test_the_rbf_kernel_matches_the_double_loop():
    a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [4.0]])
    k = lambda x, y: np.mean([math.exp(-((x - y) ** 2) / (2 * w**2 * 2)) for w in distances.RBF_WIDTHS])  # noqa: E731
    across = (k(0, 2) + k(0, 4) + k(1, 2) + k(1, 4)) / 4
    assert kid(a, b, "rbf") == pytest.approx(k(0, 1) + k(2, 4) - 2 * across, rel=1e-9)


@pytest.mark.parametrize("kernel", ["polynomial", "rbf"])
def test_kid_of_one_distribution_is_zero_within_two_errors(kernel):
    """Worked with 20 pairs of sets: nearly all within 2 errors, on both sides of zero."""
    rng = torch.Generator().manual_seed(0)
    found = []
    for _ in range(20):
        a, b = torch.randn(2, SET, 16, generator=rng)
        found.append(kid_interval(*standardise(a, b), rng, kernel, draws=100))
    assert sum(abs(one.value) < 2 * one.error for one in found) >= 19
    assert 3 < sum(one.value < 0 for one in found) < 17


@pytest.mark.parametrize("kernel", ["polynomial", "rbf"])
def test_kid_of_pictures_of_one_kind_is_zero_within_two_errors(kernel):
    extract = RandomFeatures(3)
    found = kid_interval(
        *standardise(extract(pictures(1)), extract(pictures(2))), torch.Generator().manual_seed(0), kernel, draws=200
    )
    assert abs(found.value) < 2 * found.error


@pytest.mark.parametrize("worse", [blurred, noisy, darker])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_distance_between_sets_rises_with_every_level_of_damage(worse, seed):
    extract = RandomFeatures(3, seed=seed)
    x, y = pictures(1), pictures(2)
    pairs = [standardise(extract(x), extract(worse(y, level) if level else y)) for level in range(5)]
    assert spearman([kid(*pair) for pair in pairs]) == 1
    assert spearman([kid(*pair, "rbf") for pair in pairs]) == 1
    extract = RandomFeatures(3, seed=seed, width=2)             # 28 numbers from 64 recordings: enough for a covariance
    pairs = [standardise(extract(x), extract(worse(y, level) if level else y)) for level in range(5)]
    assert spearman([frechet(*pair) for pair in pairs]) == 1


def test_distances_between_sets_do_not_depend_on_the_order_of_recordings():
    a, b = RandomFeatures(1)(pictures(1, channels=1)), RandomFeatures(1)(darker(pictures(2, channels=1), 1))
    turned = torch.randperm(SET, generator=torch.Generator().manual_seed(0))
    for measure in (kid, frechet):
        assert measure(*standardise(a, b)) == pytest.approx(measure(*standardise(a[turned], b.flip(0))), rel=1e-5)


def test_the_same_seed_gives_the_same_bits_twice_and_leaves_global_randomness_alone():
    x = pictures(1)
    state = torch.get_rng_state()
    one, two, other = RandomFeatures(3), RandomFeatures(3), RandomFeatures(3, seed=1)
    a, b = standardise(one(x), one(pictures(2)))
    first = kid_interval(a, b, torch.Generator().manual_seed(5), draws=50)
    assert first == kid_interval(a, b, torch.Generator().manual_seed(5), draws=50)
    assert torch.equal(one(x), two(x)) and one.sha256 == two.sha256 != other.sha256
    assert torch.equal(torch.get_rng_state(), state)


def test_the_interval_holds_a_true_distance():
    """N(0, 1) against N(1, 1) in one dimension; the truth is the mean over many sets."""
    rng = torch.Generator().manual_seed(0)
    draw = lambda mean: torch.randn(SET, 1, generator=rng) + mean               # noqa: E731
    many = [kid(draw(0), draw(1), "rbf") for _ in range(200)]
    found = kid_interval(draw(0), draw(1), rng, "rbf", draws=300)
    assert found.low < np.mean(many) < found.high
    assert found.error == pytest.approx(np.std(many), rel=0.3)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("size", [(1, 1), (7, 30), (64, 64)])
def test_random_features_describe_any_channels_and_size(channels, size):
    described = RandomFeatures(channels, width=4)(torch.randn(3, channels, *size))
    assert described.shape == (3, 56) and described.isfinite().all()


def test_a_feature_that_never_varies_does_not_drown_the_others():
    a, b = torch.randn(2, SET, 8, generator=torch.Generator().manual_seed(0))
    a[:, 0], b[:, 0] = 0, 1e-4
    a, b = standardise(a, b)
    assert b.abs().max() < 10
    assert torch.allclose(a.mean(dim=0), torch.zeros(8).double(), atol=1e-9)
    assert torch.allclose(a[:, 1:].std(dim=0), torch.ones(7).double())


def test_frechet_matches_the_formula_for_diagonal_gaussians():
    """Two sets with exactly diagonal covariances: |m|^2 + sum (s_a - s_b)^2."""
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double()
    a, b = corners * torch.tensor([1.0, 2.0]), corners * torch.tensor([3.0, 1.0]) + torch.tensor([2.0, -1.0])
    scale = 4 / 3                                               # unbiased variance of the four corners
    assert frechet(a, b) == pytest.approx(5 + scale * ((1 - 3) ** 2 + (2 - 1) ** 2), rel=1e-9)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_sets_that_cannot_be_compared_are_refused():
    with pytest.raises(UserError, match=re.escape("N and M >= 2, got (1, 4) and (5, 4)")):
        kid(torch.zeros(1, 4), torch.zeros(5, 4))
    with pytest.raises(UserError, match=re.escape("got (5, 4) and (5, 3)")):
        frechet(torch.zeros(5, 4), torch.zeros(5, 3))
    with pytest.raises(UserError, match="unknown kernel 'cubic', allowed: 'polynomial', 'rbf'"):
        kid(torch.zeros(5, 4), torch.zeros(5, 4), "cubic")
    with pytest.raises(UserError, match=re.escape("describes (N, 3, H, W), got (2, 1, 8, 8)")):
        RandomFeatures(3)(torch.zeros(2, 1, 8, 8))


# Between a source and its translation

def test_structure_ignores_light_contrast_and_inversion():
    x = pictures(5, 4)
    for changed in (x, darker(x, 4), -x, 0.5 * x + 0.1):
        assert torch.allclose(structure(x, changed), torch.ones(4), atol=1e-4)
        assert torch.allclose(edges_kept(x, changed), torch.ones(4))
        assert torch.allclose(edges_added(x, changed), torch.zeros(4))


def test_structure_falls_with_blur_and_noise_and_vanishes_for_strangers():
    x = pictures(5, 8)
    for worse in (blurred, noisy):
        assert spearman([-structure(x, worse(x, level) if level else x).mean().item() for level in range(5)]) == 1
    assert structure(x, x.roll(1, 0)).mean() < 0.4


def test_an_edge_that_vanished_and_an_edge_that_was_invented_are_told_apart():
    empty, bar = torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
    bar[..., :, 16:] = 1
    both = bar.clone()
    both[..., :8, 4:8] = 1
    assert edges_kept(bar, empty).item() == 0 and edges_added(bar, empty).item() == 0
    assert edges_kept(empty, bar).item() == 1 and edges_added(empty, bar).item() == 1
    assert edges_kept(bar, both).item() > 0.9 and 0.1 < edges_added(bar, both).item() < 0.7
    assert structure(empty, empty).item() == 1 and structure(empty, bar).item() == 0


def test_faithfulness_compares_sensors_with_different_channels_but_one_grid():
    x = pictures(6, 2)
    assert torch.allclose(structure(x, luminance(x)[:, None]), torch.ones(2), atol=1e-5)
    with pytest.raises(UserError, match=re.escape("equal H and W, got (2, 3, 32, 32) and (2, 3, 32, 31)")):
        structure(x, x[..., :-1])


def test_luminance_weighs_the_colours_as_the_eye_does():
    red, green = torch.tensor([1.0, 0, 0]).view(3, 1, 1), torch.tensor([0, 1.0, 0]).view(3, 1, 1)
    assert luminance(red).item() == pytest.approx(0.299) and luminance(green).item() == pytest.approx(0.587)
    assert luminance(torch.tensor([1.0, 0.0]).view(2, 1, 1)).item() == 0.5
