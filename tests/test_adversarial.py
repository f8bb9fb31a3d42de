"""Samples made hard for a network: how far they go, where to, and that the network is as it was."""
from multiprocessing.reduction import ForkingPickler
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import tv_tensors

from mmcycle.errors import UserError
from mmcycle.modality import find_modality
from mmcycle.transforms import AdversarialAugment, HardestStrength

LINEAR = torch.tensor([2.0, -1.0, 0.0, 0.5])


class Sum(nn.Module):
    """A linear score of the wave, plus the brightness of the camera."""

    def forward(self, batch):
        return batch["wave"] @ LINEAR.to(batch["wave"].dtype) + batch["camera"].float().flatten(1).mean(dim=1)


def score(model, batch):
    return model(batch)


class Classifier(nn.Module):
    """With all that a careless look would change: running averages, dropout, gradients."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        return self.net(x)


def of_camera(model, batch):
    return F.cross_entropy(model(batch["camera"].float() / 255), batch["label"])


def of_camera_each(model, batch):
    return F.cross_entropy(model(batch["camera"].float() / 255), batch["label"], reduction="none")


def batch(size=5, dtype=torch.uint8):
    shades = torch.randint(0, 256, (size, 3, 2, 2), generator=torch.Generator().manual_seed(0))
    waves = torch.randn(size, 4, generator=torch.Generator().manual_seed(1))
    return {"camera": shades.to(dtype), "wave": waves, "label": torch.arange(size) % 3}


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = Classifier()
    made(torch.rand(16, 3, 2, 2))                           # running averages of something
    return made


# A bounded change


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_a_linear_score_rises_by_eps_along_the_sign_of_each_weight(steps):
    given = batch()
    made = AdversarialAugment(Sum(), score, {"wave": 0.25}, steps=steps)(given)
    moved = (made["wave"] - given["wave"])
    if steps == 1:
        torch.testing.assert_close(moved, 0.25 * LINEAR.sign().expand(5, 4))
    torch.testing.assert_close(moved[:, [0, 1, 3]], 0.25 * LINEAR.sign().expand(5, 4)[:, [0, 1, 3]])
    torch.testing.assert_close(Sum()(made) - Sum()(given), torch.full((5,), 0.25 * 3.5))
    assert made["camera"] is given["camera"] and made["label"] is given["label"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("eps", [0.1, 1 / 3, 1e-3])
def test_the_bound_holds_exactly_in_every_dtype(dtype, eps):
    torch.manual_seed(0)
    wave = (torch.randn(200, 4, dtype=torch.float64) * 10).to(dtype)
    given = {"wave": wave, "camera": torch.zeros(200, 1)}
    for steps in (1, 4):
        made = AdversarialAugment(Sum(), score, {"wave": eps}, steps=steps)(given)["wave"]
        assert made.dtype == dtype
        assert np.abs(made.double().numpy() - wave.double().numpy()).max() <= eps
    if dtype == torch.float32 and eps == 0.1:
        assert np.abs(made.double().numpy() - wave.double().numpy()).max() > 0.0999


@pytest.mark.parametrize("steps", [1, 5])
def test_shades_stay_whole_within_eps_and_within_0_to_255(network, steps):
    given = batch(60)
    given["camera"][:20], given["camera"][20:40] = 0, 255
    made = AdversarialAugment(network, of_camera, {"camera": 8}, steps=steps)(given)
    moved = made["camera"].int() - given["camera"].int()
    assert made["camera"].dtype == torch.uint8
    assert moved.abs().max() == 8 and moved[:20].min() >= 0 and moved[20:40].max() <= 0


def test_shades_go_no_further_than_whole_ones_within_eps(network):
    made = AdversarialAugment(network, of_camera, {"camera": 2.9}, steps=4)(batch())
    assert (made["camera"].int() - batch()["camera"].int()).abs().max() == 2


def test_the_loss_of_a_network_rises_and_more_steps_raise_it_more(network):
    network.net[1].weight.data *= 10                        # of an untrained one the loss is flat
    given, losses = batch(30), []
    for steps in (1, 20):
        torch.manual_seed(0)
        made = AdversarialAugment(network, of_camera, {"camera": 30}, steps=steps)(given)
        network.eval()
        losses.append(float(of_camera(network, made).detach()))
    clean = float(of_camera(network, given).detach())
    assert clean + 0.1 < losses[0] and losses[0] + 0.01 < losses[1]


def test_limits_are_kept_but_by_what_lay_beyond_them_before():
    wave = torch.tensor([[0.95, -0.95, 0.0, 0.0], [1.5, -1.5, 0.0, 1.5]])
    given = {"wave": wave, "camera": torch.zeros(2, 1)}
    made = AdversarialAugment(Sum(), score, {"wave": 0.1}, steps=1, limits={"wave": (-1, 1)})(given)["wave"]
    torch.testing.assert_close(made, torch.tensor([[1.0, -1.0, 0.0, 0.1], [1.5, -1.5, 0.0, 1.5]]))


def test_several_streams_are_moved_together_each_within_its_own_bound():
    given = batch(dtype=torch.float32)
    made = AdversarialAugment(Sum(), score, {"wave": 0.25, "camera": 2.0}, steps=1)(given)
    torch.testing.assert_close(made["camera"] - given["camera"], torch.full((5, 3, 2, 2), 2.0))
    torch.testing.assert_close(Sum()(made) - Sum()(given), torch.full((5,), 0.25 * 3.5 + 2))


def test_a_stream_that_an_item_lacks_stays_as_it_is():
    given = batch() | {"present": {"wave": torch.tensor([True, False, True, False, True])}}
    moved = AdversarialAugment(Sum(), score, {"wave": 0.25})(given)["wave"] != given["wave"]
    assert moved.any(dim=1).tolist() == [True, False, True, False, True]


def test_a_share_of_the_items_is_moved_and_the_others_are_bit_equal():
    given = {"wave": torch.randn(400, 4), "camera": torch.zeros(400, 1)}
    torch.manual_seed(0)
    moved = (AdversarialAugment(Sum(), score, {"wave": 0.1}, p=0.3)(given)["wave"] != given["wave"]).any(dim=1)
    assert abs(int(moved.sum()) - 120) < 4 * (400 * 0.3 * 0.7) ** 0.5
    assert torch.equal(AdversarialAugment(Sum(), score, {"wave": 0.1}, p=0)(given)["wave"], given["wave"])


def test_a_slope_that_is_no_number_moves_nothing():
    given = {"wave": torch.zeros(2, 4), "camera": torch.zeros(2, 1)}
    made = AdversarialAugment(Sum(), lambda model, found: found["wave"].sqrt().sum() * 0, {"wave": 0.1}, steps=1)(given)
    assert made["wave"].isfinite().all()


def test_the_type_of_a_stream_stays(network):
    given = batch() | {"camera": tv_tensors.Image(batch()["camera"])}
    assert type(AdversarialAugment(network, of_camera, {"camera": 8})(given)["camera"]) is tv_tensors.Image


# The network is left as it was


def state(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("augment", [
    lambda network: AdversarialAugment(network, of_camera, {"camera": 8}),
    lambda network: HardestStrength(Dimmer(), network, of_camera_each, stream="camera"),
], ids=["bounded", "hardest"])
def test_no_gradient_no_buffer_and_no_mode_of_the_network_changes(network, augment):
    network.train()
    network.net[3].eval()                                   # as somebody may have frozen a part
    of_camera(network, batch()).backward()
    before, gradients = state(network), [value.grad.clone() for value in network.parameters()]
    made = augment(network)(batch())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(torch.equal(old, new.grad) for old, new in zip(gradients, network.parameters()))
    assert [module.training for module in network.net] == [True, True, True, False, True, True] and network.training
    assert not made["camera"].requires_grad


def test_the_network_is_as_it_was_after_an_error_too(network):
    def fails(model, found):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        AdversarialAugment(network, fails, {"camera": 8})(batch())
    assert network.training and network.net[3].training


def test_the_network_is_no_part_of_the_transform(network):
    augment = AdversarialAugment(network, of_camera, {"camera": 8})
    assert not list(augment.parameters()) and not augment.state_dict()
    augment.eval()
    assert network.training


def test_what_the_network_draws_is_not_missed_afterwards():
    class Noisy(Sum):
        def forward(self, found):
            return super().forward(found) + torch.randn(3).sum()

    def next_after(model):
        torch.manual_seed(0)
        AdversarialAugment(model, score, {"wave": 0.1})(batch())
        return torch.rand(()).item()

    assert next_after(Noisy()) == next_after(Sum())


def test_it_works_where_gradients_are_off():
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            given = batch()
            made = AdversarialAugment(Sum(), score, {"wave": 0.25}, steps=1)(given)
        torch.testing.assert_close(made["wave"] - given["wave"], 0.25 * LINEAR.sign().expand(5, 4))


def test_recurrent_networks_are_asked_without_cudnn_and_it_is_switched_on_again():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.GRU(4, 2, batch_first=True)

        def forward(self, found):
            self.fast = torch.backends.cudnn.enabled
            return self.net(found["wave"][:, None])[0]

    model, before = Recurrent(), torch.backends.cudnn.enabled
    AdversarialAugment(model, lambda network, found: network(found).sum(), {"wave": 0.1})(batch())
    assert not model.fast and torch.backends.cudnn.enabled == before


def test_the_same_seed_gives_the_same_batch(network):
    def run(seed, augment):
        torch.manual_seed(seed)
        return augment(batch())["camera"]

    augment = AdversarialAugment(network, of_camera, {"camera": 8})
    there = ForkingPickler.loads(ForkingPickler.dumps(augment))
    assert torch.equal(run(0, augment), run(0, augment)) and torch.equal(run(0, augment), run(0, there))


# What is refused


@pytest.mark.parametrize("changes, message", [
    ({"eps": {}}, r"eps is \{\}; it maps streams to numbers above 0"),
    ({"eps": {"wave": 0}}, "it maps streams to numbers above 0"),
    ({"eps": {"wave": float("nan")}}, "it maps streams to numbers above 0"),
    ({"steps": 0}, "steps is 0; one at least"),
    ({"limits": {"camera": (0, 1)}}, r"limits of 'camera' are \(0, 1\); they belong to one of 'wave'"),
    ({"limits": {"wave": (1, 1)}}, "the lower first"),
    ({"p": -1}, r"p is -1; a probability lies in \[0, 1\]"),
    ({"model": score}, "the model is a torch.nn.Module; it is function"),
])
def test_what_makes_no_sense_is_refused_at_once(changes, message):
    with pytest.raises(UserError, match="AdversarialAugment: .*" + message):
        AdversarialAugment(**{"model": Sum(), "loss": score, "eps": {"wave": 0.1}} | changes)


@pytest.mark.parametrize("loss, eps, message", [
    (score, {"camera": 0.03}, "'camera' is uint8, so its eps is in shades, 1 at least; it is 0.03"),
    (score, {"label": 1.0}, r"'label' is Tensor \(5,\) int64; what can be moved are floats and uint8"),
    (lambda model, found: found["camera"].sum(), {"wave": 0.1, "camera": 1}, "the loss does not depend on 'wave'"),
    (lambda model, found: torch.zeros(()), {"wave": 0.1}, r"the loss does not depend on 'wave'; it is Tensor \(\) float32"),
    (lambda model, found: 3.0, {"wave": 0.1}, "the loss does not depend on 'wave'; it is float"),
])
def test_a_loss_or_a_batch_that_tells_nothing_is_refused(loss, eps, message):
    with pytest.raises(UserError, match=message):
        AdversarialAugment(Sum(), loss, eps)(batch())


# How far to translate


class Dimmer:
    """Stands for a trained translator: light goes by strength, and a few shades by the seed."""

    def __init__(self, channels=3):
        self.source = self.target = find_modality("image")(channels=channels)
        self.asked = []

    def perform(self, raw, strength, seed):
        self.asked.append((strength, seed))
        x, context = self.source.to_tensor(raw)
        return SimpleNamespace(raw=self.target.from_tensor((x + 1) * (1 - strength) - 1 + seed % 7 / 100, context))


def brightness(sign):
    return lambda model, found: sign * found["camera"].float().flatten(1).mean(dim=1)


def test_every_item_is_translated_as_far_as_its_loss_is_highest():
    given = batch()
    made = HardestStrength(Dimmer(), Sum(), brightness(-1), stream="camera", strengths=(0.0, 0.5, 1.0))(given)
    assert made["camera"].float().mean() < 10 and made["camera"].dtype == torch.uint8     # dark is hard: all the way
    made = HardestStrength(Dimmer(), Sum(), brightness(1), stream="camera")(given)
    assert torch.equal(made["camera"], given["camera"])                                   # light is hard: not at all
    assert made["label"] is given["label"] and made["wave"] is given["wave"]


def test_the_choice_is_made_for_each_item_alone():
    signs = torch.tensor([1.0, -1, 1, -1, 1])
    given = batch()
    given["camera"] = given["camera"].clamp(100)
    made = HardestStrength(Dimmer(), Sum(), lambda model, found: brightness(signs)(model, found), stream="camera")(given)
    kept = (made["camera"] == given["camera"]).flatten(1).all(dim=1)
    assert kept.tolist() == [True, False, True, False, True]


def test_no_tried_strength_is_harder_than_the_chosen_one(network):
    network.eval()
    given, strengths = batch(12), (0.0, 0.3, 0.6, 1.0)
    with torch.no_grad():
        chosen = of_camera_each(network, HardestStrength(Dimmer(), network, of_camera_each, stream="camera", strengths=strengths)(given))
        for strength in (0.0, 1.0):
            one = HardestStrength(Dimmer(), network, of_camera_each, stream="camera", strengths=(strength, strength))(given)
            assert (chosen >= of_camera_each(network, one) - 0.05).all()                  # another seed: a few shades
        assert (chosen >= of_camera_each(network, given)).all()


def test_every_item_strength_and_seed_is_tried_once():
    dimmer = Dimmer()
    HardestStrength(dimmer, Sum(), brightness(1), stream="camera", strengths=(0.0, 0.5, 1.0), seeds=3)(batch(4))
    assert len(dimmer.asked) == 4 * 2 * 3 and len({seed for _, seed in dimmer.asked}) == 4 * 3
    assert {strength for strength, _ in dimmer.asked} == {0.5, 1.0}


def test_of_several_seeds_the_hardest_is_taken():
    torch.manual_seed(0)
    few = HardestStrength(Dimmer(), Sum(), brightness(1), stream="camera", strengths=(1.0, 1.0))
    many = HardestStrength(Dimmer(), Sum(), brightness(1), stream="camera", strengths=(1.0, 1.0), seeds=12)
    assert many(batch())["camera"].float().mean() > few(batch())["camera"].float().mean()


def test_what_an_item_lacks_is_not_translated():
    given = batch() | {"present": {"camera": torch.tensor([True, False, True, True, False])}}
    made = HardestStrength(Dimmer(), Sum(), brightness(-1), stream="camera")(given)
    assert (made["camera"] == given["camera"]).flatten(1).all(dim=1).tolist() == [False, True, False, False, True]


def test_a_loss_that_is_no_number_is_never_chosen():
    def loss(model, found):
        light = found["camera"].float().flatten(1).mean(dim=1)
        return torch.where(light < 50, torch.nan, -light)

    given = batch()
    made = HardestStrength(Dimmer(), Sum(), loss, stream="camera")(given)
    assert made["camera"].float().flatten(1).mean(dim=1).min() >= 50
    assert torch.equal(HardestStrength(Dimmer(), Sum(), lambda model, found: torch.full((5,), torch.nan), stream="camera")(given)["camera"], given["camera"])


def test_the_hardest_is_the_same_for_the_same_seed(network):
    def run(augment):
        torch.manual_seed(0)
        return augment(batch())["camera"]

    augment = HardestStrength(Dimmer(), network, of_camera_each, stream="camera", seeds=2)
    assert torch.equal(run(augment), run(augment))
    assert torch.equal(run(ForkingPickler.loads(ForkingPickler.dumps(augment))), run(augment))


@pytest.mark.parametrize("changes, message", [
    ({"strengths": (1.0,)}, r"strengths are \(1.0,\), seeds 1; two strengths or more"),
    ({"strengths": (0.0, 1.5)}, r"in \[0, 1\]"),
    ({"seeds": 0}, "one seed or more"),
    ({"model": score}, "the model is a torch.nn.Module"),
])
def test_a_choice_that_is_none_is_refused_at_once(changes, message):
    with pytest.raises(UserError, match="HardestStrength: .*" + message):
        HardestStrength(**{"translator": Dimmer(), "model": Sum(), "loss": score, "stream": "camera"} | changes)


@pytest.mark.parametrize("loss", [lambda model, found: torch.zeros(()), lambda model, found: 1.0])
def test_a_loss_of_the_whole_batch_cannot_choose(loss):
    with pytest.raises(UserError, match=r"it is \(5,\), a number for each item: reduction='none'"):
        HardestStrength(Dimmer(), Sum(), loss, stream="camera")(batch())


def test_a_translation_of_another_size_is_refused():
    cut = SimpleNamespace(from_array=lambda array, rate: array, to_array=lambda raw, like: like[:, :1])
    translator = SimpleNamespace(source=cut, target=cut, perform=lambda raw, strength, seed: SimpleNamespace(raw=raw))
    with pytest.raises(UserError, match=r"a translation of \(3, 2, 2\) is \(3, 1, 2\); a batch has one shape"):
        HardestStrength(translator, Sum(), brightness(1), stream="camera")(batch())
