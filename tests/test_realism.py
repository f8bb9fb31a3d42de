"""Distances between sets of learnt features, each beside its floor, and whether content is found again."""
import math

import numpy as np
import pytest
import torch
from test_metrics import blurred, darker, noisy, pictures, spearman

from mmcycle.errors import UserError
from mmcycle.metrics import collapse, features, recall
from mmcycle.metrics.distances import kid, standardise
from mmcycle.metrics.features import Features
from mmcycle.metrics.realism import frechet_distance, kernel_distance, way_gone
from mmcycle.metrics.score import Score

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def learnt() -> Features:
    """Of light pictures and their dark domain."""
    return features.learn([pictures(1), darker(pictures(2), 4)], steps=60)


# The features

def test_the_same_seed_learns_the_same_bits_and_leaves_global_chance_alone():
    pools, state = [pictures(1, 4), pictures(2, 4)], torch.get_rng_state()
    one, two, other = (features.learn(pools, seed, steps=2) for seed in (0, 0, 1))
    assert one.sha256 == two.sha256 != other.sha256
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("worse", [blurred, noisy, darker])
def test_the_distance_of_looks_rises_with_every_level_of_damage(learnt, worse):
    real = learnt.look(pictures(3))
    looks = [learnt.look(worse(pictures(4), level) if level else pictures(4)) for level in range(5)]
    assert spearman([kid(*standardise(real, look), "rbf") for look in looks]) == 1


def test_any_channels_and_any_size_from_four_pixels_are_described():
    network = features.learn([pictures(1, 4, channels=5, size=16)], steps=1)
    assert network.look(torch.zeros(3, 5, 4, 4)).shape == (3, 2 * sum(features.WIDTHS))
    assert network.content(torch.zeros(2, 5, 16, 200)).shape == (2, features.WIDTHS[-1] * 4 * 16)
    assert network.look(torch.zeros(3, 5, 4, 4)).isfinite().all()


def test_what_was_learnt_is_kept_and_only_found_again_for_the_same_data(tmp_path, learnt):
    file = tmp_path / "features.safetensors"
    features.save(learnt, file, "a key")
    again = features.load(file, "a key")
    assert again is not None and again.sha256 == learnt.sha256
    assert features.load(file, "another key") is None
    assert features.load(tmp_path / "nothing.safetensors", "a key") is None
    file.write_bytes(file.read_bytes()[:200])
    assert features.load(file, "a key") is None


def test_features_of_one_sample_or_of_two_kinds_of_sensor_are_refused():
    with pytest.raises(UserError, match="learnt from sets of 2 samples or more"):
        features.learn([torch.zeros(1, 3, 8, 8)])
    with pytest.raises(UserError, match="learnt from sets of 2 samples or more"):
        features.learn([torch.zeros(4, 3, 8, 8), torch.zeros(4, 1, 8, 8)])


# Realism

def gaussians(mean: float, seed: int) -> torch.Tensor:
    return torch.randn(64, 2, generator=torch.Generator().manual_seed(seed)) + mean


def test_a_set_of_reals_lies_at_the_floor_and_a_moved_one_above_it():
    same = kernel_distance(gaussians(0, 0), gaussians(0, 1), gaussians(0, 2), gaussians(3, 3))
    moved = kernel_distance(gaussians(0, 0), gaussians(0, 1), gaussians(3, 2), gaussians(3, 3))
    assert same.low < 0.05 and same.value < 0.05 and abs(same.beside["floor"]) < 0.05
    assert moved.low > 0.3 and moved.beside["untranslated"] > 0.3


def test_the_frechet_distance_of_two_moved_gaussians_is_how_far_they_were_moved():
    score = frechet_distance(gaussians(0, 0), gaussians(0, 1), gaussians(2, 2), None)
    assert score.value == pytest.approx(math.sqrt(2 * 2**2), rel=0.15)          # 2 along both axes
    assert score.low < math.sqrt(8) < score.high
    assert score.beside.keys() == {"floor"}


def test_half_of_the_way_is_a_half_and_domains_that_cannot_be_told_apart_have_no_way():
    assert way_gone(Score(6.0, beside={"floor": 2.0, "untranslated": 10.0})) == 0.5
    assert way_gone(Score(14.0, beside={"floor": 2.0, "untranslated": 10.0})) == -0.5
    assert way_gone(Score(2.0, beside={"floor": 2.0, "untranslated": 2.5})) is None
    assert way_gone(Score(2.0, beside={"floor": 2.0})) is None


def test_sets_of_unequal_numbers_are_refused():
    with pytest.raises(UserError, match=r"sets of equal numbers, 2 or more, got \[64, 64, 32\]"):
        kernel_distance(gaussians(0, 0), gaussians(0, 1), gaussians(0, 2)[:32], None)


# Content found again

def test_every_source_is_found_in_its_darker_self_and_none_in_a_stranger(learnt):
    source = pictures(5)
    own = recall.likeness(learnt.content(source), learnt.content(darker(source, 4)))
    strange = recall.likeness(learnt.content(source), learnt.content(darker(pictures(6), 4)))
    assert recall.source_found(own).value > 0.9 > 0.2 > recall.source_found(strange).value
    assert recall.content_distance(own).value < 0.6 < recall.content_distance(strange).value


def test_recall_is_counted_by_hand():
    alike = torch.tensor([[0.9, 0.0, 0.1], [0.0, 0.2, 0.8], [0.1, 0.7, 0.3]])
    found = recall.source_found(alike)
    assert found.value == found.beside["mutual"] == pytest.approx(1 / 3)
    distance = recall.content_distance(alike)
    assert distance.value == pytest.approx(1 - 1.4 / 3)
    assert distance.beside["shuffled"] == pytest.approx(1 - 1.7 / 6)


def test_the_chance_of_guessing_is_that_of_the_binomial_distribution():
    assert recall.chance_of(0, 4) == 1
    assert recall.chance_of(1, 2) == pytest.approx(0.75)
    assert recall.chance_of(4, 4) == pytest.approx(0.25**4)


def test_the_layout_of_a_set_is_kept_by_a_rotation_and_lost_by_an_exchange():
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    kept, lost = recall.layout_kept(x, x.flip(1)), recall.layout_kept(x, x.roll(7, 0))
    assert kept.value == pytest.approx(1)
    assert kept.beside["shuffled"] < 0.3 and lost.value < 0.3
    assert recall.layout_kept(x, torch.zeros(40, 3)).value == 0


def test_sets_that_do_not_belong_together_are_refused():
    with pytest.raises(UserError, match="as many sources as translations, 2 or more"):
        recall.likeness(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(UserError, match="as many sources as translations, 4 or more"):
        recall.layout_kept(torch.zeros(3, 2), torch.zeros(3, 2))


# Collapse

def test_contrast_diversity_and_change_are_worked_by_hand():
    real = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).expand(4, 1, 2, 2)
    assert collapse.contrast(real * 0.5, real).value == pytest.approx(0.5)
    assert collapse.contrast(torch.ones(4, 1, 2, 2), real).value == 0
    line = torch.tensor([[0.0], [1.0], [2.0]])
    assert collapse.diversity(line / 4, line).value == pytest.approx(0.25)
    source = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
    assert collapse.change(source, source + 0.25).value == pytest.approx(0.25)      # two sources differ by 1


def test_the_correlation_of_light_matches_numpy_and_is_minus_one_for_a_negative():
    x, y = pictures(1, 6, 1), pictures(2, 6, 1)
    expected = np.mean([np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(x.numpy(), y.numpy())])
    assert collapse.intensity_correlation(x, y).value == pytest.approx(expected, abs=1e-5)
    negative = collapse.intensity_correlation(x, -x)
    assert negative.value == pytest.approx(-1, abs=1e-5) and negative.beside["negative"] == 1
    assert collapse.intensity_correlation(x, torch.zeros_like(x)).value == 0


def test_a_score_leaves_out_of_its_json_what_is_no_number():
    assert Score(0.5, beside={"floor": 0.25, "x": math.inf}).to_dict() == {"value": 0.5, "floor": 0.25}
