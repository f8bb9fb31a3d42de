"""One share and one permutation for every stream of a batch, and for its labels."""
from collections import namedtuple
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from mmcycle.errors import UserError
from mmcycle.transforms import CrossModalMixup, FeatureMixup
from mmcycle.transforms.mixup import Mix, draw_mix, mix_features, mix_labels

PAIR = Mix(torch.tensor([0.75, 0.25, 1.0]), torch.tensor([1, 2, 0]))


def batch(size=6):
    """Item i is 1 at place i of every stream, so what it holds afterwards are the shares of all items."""
    marks = torch.eye(size)
    return {
        "camera": marks[:, :, None, None].repeat(1, 1, 2, 3), "wave": marks[:, None, :].clone(), "label": torch.arange(size),
    }


def mixup(**changes):
    return CrossModalMixup(**{"alpha": 1.0, "streams": ("camera", "wave"), "num_classes": 6} | changes)


def seeded(call, seed=0):
    torch.manual_seed(seed)
    return call()


# Shares


def test_the_shares_of_a_label_are_the_shares_in_every_stream():
    for seed in range(20):
        made = seeded(lambda: mixup()(batch()), seed)
        torch.testing.assert_close(made["camera"][:, :, 0, 0], made["label"])
        torch.testing.assert_close(made["wave"][:, 0], made["label"])
        torch.testing.assert_close(made["label"].sum(dim=1), torch.ones(6))


def test_there_is_one_share_and_one_permutation_for_a_batch():
    made = seeded(lambda: mixup()(batch()))["label"].numpy()
    own = np.diag(made)
    moved = own < 1
    assert moved.sum() > 2 and np.ptp(own[moved]) == 0
    partners = np.where(moved, (made - np.diag(own)).argmax(axis=1), np.arange(6))
    assert sorted(partners) == list(range(6))


def test_a_mix_worked_by_hand():
    x = torch.tensor([[0.0], [4.0], [8.0]])
    assert mix_features({"x": x}, PAIR)["x"].tolist() == [[1.0], [7.0], [8.0]]     # .75*0+.25*4, .25*4+.75*8, itself
    assert mix_labels(torch.tensor([0, 1, 1]), PAIR, 2).tolist() == [[0.75, 0.25], [0.0, 1.0], [0.0, 1.0]]


def test_shares_are_of_a_beta_distribution():
    torch.manual_seed(0)
    drawn = np.array([float(draw_mix(1, 0.4).share) for _ in range(2000)])
    variance = 1 / (4 * (2 * 0.4 + 1))                                      # of Beta(a, a)
    assert abs(drawn.mean() - 0.5) < 4 * (variance / 2000) ** 0.5
    assert abs(drawn.var() - variance) < 0.01


def test_waves_are_mixed_as_they_are_whatever_their_loudness():
    loud, quiet = torch.full((1, 1, 4), 0.8), torch.full((1, 1, 4), 0.001)
    made = mix_features({"wave": torch.cat([loud, quiet])}, Mix(torch.tensor([0.5, 0.5]), torch.tensor([1, 0])))["wave"]
    torch.testing.assert_close(made, torch.full((2, 1, 4), 0.4005))


def test_shades_are_rounded_and_stay_uint8():
    given = {"camera": torch.tensor([0, 255], dtype=torch.uint8)[:, None], "label": torch.tensor([0, 1])}
    shades = []
    for seed in range(8):
        made = seeded(lambda: mixup(streams=["camera"], num_classes=2)(given), seed)
        assert made["camera"].dtype == torch.uint8
        np.testing.assert_array_equal(made["camera"][:, 0].numpy(), (made["label"][:, 1] * 255).round().numpy())
        shades.append(int(made["camera"][0, 0]))
    assert any(0 < shade < 255 for shade in shades)


def test_every_other_part_of_the_batch_is_not_touched():
    given = batch() | {"name": list("abcdef"), "times": torch.arange(6.0)}
    made = mixup()(given)
    assert made["times"] is given["times"] and made["name"] == given["name"] and list(made) == list(given)
    assert torch.equal(given["wave"], batch()["wave"])                      # nor is what was given


def test_a_tv_tensor_comes_back_as_one():
    made = mixup(streams=["camera"])({"camera": tv_tensors.Image(batch()["camera"]), "label": torch.arange(6)})
    assert type(made["camera"]) is tv_tensors.Image


def test_a_batch_may_be_a_tuple_whose_places_are_the_names():
    given = batch()
    Batch = namedtuple("Batch", "camera wave label")
    mix = mixup(streams=(0, 1), labels=2)
    made = seeded(lambda: mix([given["camera"], given["wave"], given["label"]]))
    torch.testing.assert_close(made[0][:, :, 0, 0], made[2])
    assert torch.equal(seeded(lambda: mixup()(Batch(**given))).label, made[2])


def test_all_tensors_below_a_name_are_mixed():
    given = {"clip": {"left": torch.eye(3), "right": [torch.eye(3) * 2]}, "label": torch.arange(3)}
    made = mixup(streams=["clip"], num_classes=3)(given)
    torch.testing.assert_close(made["clip"]["left"], made["label"])
    torch.testing.assert_close(made["clip"]["right"][0], made["label"] * 2)


# Labels


def test_labels_of_many_classes_become_their_shares():
    marks = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    expected = [[0.75, 1.0, 0.0], [0.0, 0.25, 0.75], [0.0, 0.0, 1.0]]
    assert mix_labels(marks, PAIR).tolist() == expected
    assert mix_labels(marks.bool(), PAIR, 3).tolist() == mix_labels(marks.float(), PAIR).tolist() == expected


def test_soft_labels_can_be_mixed_again():
    once = mixup()(batch())
    twice = mixup()(once)
    torch.testing.assert_close(twice["wave"][:, 0], twice["label"])


def test_numbers_to_be_guessed_are_mixed_as_numbers():
    assert mix_labels(torch.tensor([0.0, 4.0, 8.0]), PAIR).tolist() == [1.0, 7.0, 8.0]


@pytest.mark.parametrize("labels, classes, message", [
    (torch.tensor([0, 1, 2]), None, "labels are \\(B,\\) classes; say how many there are, num_classes="),
    (torch.tensor([0, 1, 3]), 3, "labels run from 0 to 3; with num_classes=3 they lie in 0 to 2"),
    (torch.tensor([-1, 0, 1]), 3, "labels run from -1 to 1"),
    (torch.zeros(3, 4), 3, r"labels are \(3, 4\); allowed are \(B,\) and \(B, 3\)"),
    (torch.zeros(3, 4, 5), None, r"labels are \(3, 4, 5\); allowed are \(B,\) and \(B, K\)"),
    (torch.tensor([[5, 1]] * 3), None, "mark classes with 0 and 1; found others"),
])
def test_labels_that_have_no_shares_are_refused(labels, classes, message):
    with pytest.raises(UserError, match=message):
        mix_labels(labels, PAIR, classes)


# Streams that are lacking


def test_an_item_whose_partner_lacks_what_it_has_keeps_itself_whole():
    has = {"camera": torch.tensor([1, 1, 0, 1, 1, 0]).bool(), "wave": torch.tensor([1, 0, 1, 1, 1, 1]).bool()}
    mixed = 0
    for seed in range(20):
        given = batch() | {"present": has}
        for name, mask in has.items():
            given[name][~mask] = 0
        made = seeded(lambda: mixup()(given), seed)
        assert made["present"] == has
        for name, found in (("camera", made["camera"][:, :, 0, 0]), ("wave", made["wave"][:, 0])):
            torch.testing.assert_close(found[has[name]], made["label"][has[name]])
            assert not found[~has[name]].any()                              # what it lacks is not brought by the partner
        mixed += int((made["label"].max(dim=1).values < 1).sum())
    assert mixed > 20


def test_nothing_of_a_partner_that_is_left_out_gets_in_not_even_what_is_no_number():
    x = torch.tensor([[1.0], [float("nan")]])
    assert mix_features({"x": x}, Mix(torch.tensor([1.0, 1.0]), torch.tensor([1, 0])))["x"][0] == 1


def test_a_mask_of_another_form_is_refused():
    for mask in (torch.ones(6), torch.ones(5).bool(), torch.tensor(True)):
        with pytest.raises(UserError, match=r"'present' of 'wave' is Tensor .*; it is bool of shape \(6,\)"):
            mixup()(batch() | {"present": {"wave": mask}})
    with pytest.raises(UserError, match="'present' maps streams to bool tensors; it is list"):
        mixup()(batch() | {"present": [True]})


# Features


def test_features_are_mixed_between_branches_and_fusion_with_their_labels():
    features = {"camera": torch.eye(4), "wave": torch.eye(4) * 3}
    made, soft = seeded(lambda: FeatureMixup(1.0, 4)(features, torch.arange(4)))
    torch.testing.assert_close(made["camera"], soft)
    torch.testing.assert_close(made["wave"], soft * 3)
    assert soft.max() < 1 or soft.min() == 0


def test_features_of_what_an_item_lacks_are_not_mixed():
    has = {"camera": torch.tensor([True, False, True])}
    made = mix_features({"camera": torch.tensor([[1.0], [2.0], [3.0]])}, Mix(torch.full((3,), 0.5), PAIR.partner), has)
    assert made["camera"].tolist() == [[1.5], [2.0], [2.0]]
    given = {"camera": torch.eye(6), "wave": torch.eye(6)}
    present = {"camera": torch.tensor([True, False] * 3), "wave": torch.ones(6).bool()}
    made, soft = seeded(lambda: FeatureMixup(1.0, 6)(given, torch.arange(6), present))
    torch.testing.assert_close(made["wave"], soft)
    torch.testing.assert_close(made["camera"][::2], soft[::2])
    assert torch.equal(made["camera"][1::2], torch.eye(6)[1::2])


def test_features_pass_as_they_are_when_the_network_is_judged():
    net = nn.Sequential(FeatureMixup(1.0, 4)).eval()
    made, soft = net[0]({"x": torch.randn(4, 2)}, torch.arange(4))
    assert torch.equal(soft, torch.eye(4))
    features = {"x": torch.randn(4, 2)}
    assert torch.equal(net[0](features, torch.arange(4))[0]["x"], features["x"])
    assert repr(net[0]) == "FeatureMixup(alpha=1.0, num_classes=4)"


def test_gradients_go_to_both_items_of_a_pair_by_their_shares():
    x = torch.zeros(2, 1, requires_grad=True)
    mix_features({"x": x}, Mix(torch.tensor([0.75, 0.75]), torch.tensor([1, 0])))["x"][0].sum().backward()
    assert x.grad.tolist() == [[0.75], [0.25]]


def test_features_beside_another_number_of_labels_are_refused():
    with pytest.raises(UserError, match=r"'x' Tensor \(2, 1\) float32 beside 3 labels; each item needs one"):
        mix_features({"x": torch.zeros(2, 1)}, PAIR)


# Chance


def test_the_same_seed_gives_the_same_batch_and_another_one_another():
    first, again, other = (seeded(lambda: mixup()(batch()), seed)["label"] for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_with_a_probability_of_zero_only_labels_become_soft():
    given = batch()
    made = mixup(p=0)(given)
    assert torch.equal(made["wave"], given["wave"]) and torch.equal(made["label"], torch.eye(6))


def test_it_goes_to_another_process_and_stands_in_a_compose():
    mix = v2.Compose([mixup()])
    there = ForkingPickler.loads(ForkingPickler.dumps(mix))
    assert torch.equal(seeded(lambda: there(batch()))["wave"], seeded(lambda: mix(batch()))["wave"])
    assert "streams=('camera', 'wave')" in repr(mix)


def test_it_collates_the_samples_of_a_loader():
    samples = [{"camera": torch.eye(6)[i], "wave": torch.eye(6)[i], "label": i} for i in range(6)]
    for made in DataLoader(samples, batch_size=3, collate_fn=mixup().collate):
        assert made["wave"].shape == (3, 6)
        torch.testing.assert_close(made["wave"], made["label"])


# What is refused


@pytest.mark.parametrize("changes, message", [
    ({"alpha": 0}, "alpha is 0; it is above 0"),
    ({"alpha": float("nan")}, "alpha is nan"),
    ({"p": 2}, r"p is 2; a probability lies in \[0, 1\]"),
    ({"streams": "camera"}, "streams is 'camera'; it lists names"),
    ({"streams": ()}, r"streams is \(\); it lists names"),
    ({"streams": ("wave", "wave")}, "each once"),
    ({"labels": "wave"}, "'wave' is among the streams"),
])
def test_what_cannot_be_mixed_so_is_refused_at_once(changes, message):
    with pytest.raises(UserError, match="CrossModalMixup: .*" + message):
        mixup(**changes)


@pytest.mark.parametrize("changes, message", [
    ({"wave": torch.zeros(5, 2)}, r"every stream has as many items; it holds 'camera' Tensor \(6, 6, 2, 3\) float32, 'wave'"),
    ({"wave": torch.tensor(1.0)}, "takes a batch"),
    ({"wave": torch.zeros(6, 2).long()}, r"'wave' is Tensor \(6, 2\) int64; what can be mixed are floats and uint8"),
    ({"wave": tv_tensors.Mask(torch.zeros(6, 2, 2))}, "'wave' is Mask"),
    ({"wave": ["a"] * 6}, "str stands under 'wave', no tensor; the sample holds"),
    ({"wave": None}, "NoneType stands under 'wave', no tensor"),
    ({"label": [torch.zeros(6), torch.zeros(6)]}, "several tensors stand under 'label'; name one"),
])
def test_a_batch_that_cannot_be_mixed_is_told(changes, message):
    with pytest.raises(UserError, match=message):
        mixup()(batch() | changes)


def test_a_stream_that_is_not_there_is_told_with_what_is():
    with pytest.raises(UserError, match=r"there is no 'wave'; the sample holds \['camera'\] Tensor .*, \['label'\]"):
        mixup()({name: value for name, value in batch().items() if name != "wave"})


def test_a_stream_below_another_one_is_refused():
    with pytest.raises(UserError, match=r"\['camera'\]\['wave'\] stands below two of 'camera', 'wave', 'label'"):
        mixup()({"camera": {"wave": torch.zeros(6, 2)}, "label": torch.arange(6)})
