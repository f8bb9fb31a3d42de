"""What training on a data set is worth: small networks that learn, and statistics worked by hand."""
import math

import pytest
import torch

from mmcycle.errors import UserError
from mmcycle.metrics.downstream import (
    Segmenter, classifier, gap_closed, interval, overlaps, segmenter, sign_flip,
)


def bars(seed: int, count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Lying bars are class 0, standing bars class 1."""
    rng = torch.Generator().manual_seed(seed)
    x, y = 0.3 * torch.randn(count, 1, 16, 16, generator=rng), torch.arange(count) % 2
    for n, place in enumerate(torch.randint(2, 13, (count,), generator=rng).tolist()):
        if y[n]:
            x[n, :, :, place] += 3
        else:
            x[n, :, place] += 3
    return x, y


def halves(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Bright places are class 1, dark ones 0; the last column does not count."""
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(step)) - 0.5
    y = (x[:, 0] > 0).long()
    y[..., -1] = -1
    return x, y


def test_a_classifier_learns_what_can_be_seen_and_nothing_from_shuffled_labels():
    x, y = bars(0)
    held_out, answers = bars(1)
    assert classifier(lambda epoch: (x, y), 2, seed=0).accuracy(held_out, answers) > 95
    shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(2))]
    assert classifier(lambda epoch: (x, shuffled), 2, seed=0).accuracy(held_out, answers) < 80


def test_the_same_seed_gives_the_same_classifier_and_leaves_the_global_chance_alone():
    x, y = bars(0, 20)
    before = torch.get_rng_state()
    first, second = (classifier(lambda epoch: (x, y), 2, seed=3, epochs=1) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(first.network.state_dict().values(), second.network.state_dict().values())
    assert all(torch.equal(one, other) for one, other in pairs)


def test_every_pass_may_bring_other_samples():
    seen = []

    def training(epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(epoch)
        return bars(epoch, 8)

    classifier(training, 2, seed=0, epochs=3)
    assert seen == [0, 0, 1, 2]                         # once before, for the mean and deviation


def test_a_segmenter_learns_to_tell_bright_from_dark():
    network = segmenter(halves, 2, seed=0, steps=60)
    x, y = halves(1000)
    assert min(overlaps(network(x).argmax(1), y, 2)) > 80


def test_a_segmenter_gives_scores_of_the_size_of_its_input():
    assert Segmenter(3, 5)(torch.zeros(2, 3, 16, 24)).shape == (2, 5, 16, 24)


def test_overlaps_by_hand():
    truth = torch.tensor([0, 0, 0, 1, 1, -1])
    found = torch.tensor([0, 0, 1, 1, 0, 1])
    #  class 0: hit 2 of found 3 + true 3 - 2; class 1: hit 1 of found 2 + true 2 - 1; class 2 is nowhere
    assert overlaps(found, truth, 3)[:2] == pytest.approx([50.0, 100 / 3])
    assert math.isnan(overlaps(found, truth, 3)[2])


def test_an_interval_by_hand():
    found = interval([1.0, 2.0, 3.0])                   # deviation 1, t of 2 degrees of freedom 4.3027
    assert (found.mean, found.count) == (2.0, 3)
    assert found.half_width == pytest.approx(4.30265 / 3**0.5, abs=1e-4)
    assert str(interval([80.0, 82.0])) == "81.0 ± 12.7"


def test_one_score_has_no_interval():
    assert math.isnan(interval([5.0]).half_width)


def test_sign_flips_by_hand():
    assert sign_flip([2.0, 3.0, 4.0], [1.0, 1.0, 1.0]) == pytest.approx(2 / 8)
    assert sign_flip([1.0, 0.0], [0.0, 1.0]) == 1.0


def test_unequal_scores_cannot_be_paired():
    with pytest.raises(UserError, match="2 and 1 scores"):
        sign_flip([1.0, 2.0], [1.0])


def test_the_gap_is_a_share():
    assert gap_closed(40.0, 70.0, 100.0) == 0.5
