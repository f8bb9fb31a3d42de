"""What the generators and discriminators ask of each other: legs, terms, gradients."""
import pytest
import torch
from grids import Grid, Ring, model, networks, noise
from torch import nn
from torch.nn import functional as F

from mmcycle.core import losses
from mmcycle.core.model import CycleModel
from mmcycle.core.settings import Objective

WIDE = Grid(channels=2, height=16, width=64)            # two sensors of different channels and grids
TALL = Grid(channels=3, height=32, width=32)


def batch(sensor: Grid, seed: int, count: int = 2) -> torch.Tensor:
    return noise(count, *sensor.shape, seed=seed)


def gradients(cycle: CycleModel) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in cycle.named_parameters() if p.grad is not None}


def descend(cycle: CycleModel, real_a, real_b, *, jointly: bool, identity: float = 5.0) -> dict[str, torch.Tensor]:
    """The gradients of the generators' turn, leg by leg or in one graph."""
    cycle.zero_grad()
    with cycle.only_judging():
        legs = cycle.legs(real_a, real_b, identity)
        if jointly:
            sum(term for leg in legs for term in leg.terms.values()).backward()
        else:
            for leg in legs:
                sum(leg.terms.values()).backward()
    return {name: grad.clone() for name, grad in gradients(cycle).items()}


def calls(cycle: CycleModel, real_a, real_b, identity: float = 0.0) -> dict[str, int]:
    """How often each network is run in the generators' turn; encoders and decoders are counted, not whole generators."""
    counts = dict.fromkeys(("encoder_ab", "decoder_ab", "encoder_ba", "decoder_ba", "disc_a", "disc_b"), 0)
    parts = {f"{part}_{direction}": getattr(gen, part) for direction, gen in cycle.generators.items() for part in ("encoder", "decoder")}
    parts |= {f"disc_{domain}": disc for domain, disc in cycle.discriminators.items()}

    def counting(name: str):
        def hook(*_: object) -> None:
            counts[name] += 1
        return hook

    hooks = [part.register_forward_hook(counting(name)) for name, part in parts.items()]
    list(cycle.legs(real_a, real_b, identity))
    for hook in hooks:
        hook.remove()
    return counts


@pytest.mark.parametrize("kind", ["resnet", "unet", "light", "bilateral"])
@pytest.mark.parametrize("norm", ["spectral", "instance"])
def test_descending_leg_by_leg_gives_the_gradients_of_the_joint_graph(kind, norm):
    sensor = Grid(height=32, width=32)
    cycle = model(sensor, nets=networks(generator=kind, discriminator_norm=norm)).double()
    real_a, real_b = batch(sensor, 1).double(), batch(sensor, 2).double()
    legs, joint = (descend(cycle, real_a, real_b, jointly=jointly) for jointly in (False, True))
    assert legs.keys() == joint.keys() == {name for name, _ in cycle.named_parameters() if name.startswith("gen_")}
    torch.testing.assert_close(legs, joint, rtol=1e-5, atol=1e-9)    # the losses themselves are float32


def test_descending_leg_by_leg_gives_the_gradients_of_the_joint_graph_in_single_precision():
    cycle = model(WIDE, TALL)
    legs, joint = (descend(cycle, batch(WIDE, 1), batch(TALL, 2), jointly=jointly) for jointly in (False, True))
    torch.testing.assert_close(legs, joint, rtol=1e-4, atol=1e-6)


def test_the_legs_are_named_for_their_domains_and_hold_the_fakes():
    cycle = model(WIDE, TALL)
    legs = list(cycle.legs(batch(WIDE, 1), batch(TALL, 2), identity=0.5))
    assert [(set(leg.terms), leg.domain) for leg in legs] == [
        ({"adv_b", "cycle_a"}, "b"), ({"adv_a", "cycle_b"}, "a"), ({"idt_b"}, "b"), ({"idt_a"}, "a"),
    ]
    assert legs[0].fake.shape == (2, *TALL.shape) and legs[1].fake.shape == (2, *WIDE.shape)
    assert not legs[0].fake.requires_grad
    assert legs[2].fake is None


def test_terms_are_weighted_by_the_objective():
    real_a, real_b = batch(Grid(), 1), batch(Grid(), 2)

    def terms(**objective) -> dict[str, float]:
        cycle = model(**objective)
        return {name: term.item() for leg in cycle.legs(real_a, real_b, 1.0) for name, term in leg.terms.items()}

    one, ten = terms(cycle=1), terms(cycle=10)
    assert ten["cycle_a"] == pytest.approx(10 * one["cycle_a"], rel=1e-6)
    assert ten["adv_b"] == pytest.approx(one["adv_b"], rel=1e-6)


def test_a_weight_of_zero_computes_no_pass():
    real_a, real_b = batch(Grid(), 1), batch(Grid(), 2)
    full = calls(model(), real_a, real_b, identity=5.0)
    assert full == {"encoder_ab": 3, "decoder_ab": 3, "encoder_ba": 3, "decoder_ba": 3, "disc_a": 1, "disc_b": 1}
    without_identity = calls(model(), real_a, real_b, identity=0.0)
    assert without_identity == {"encoder_ab": 2, "decoder_ab": 2, "encoder_ba": 2, "decoder_ba": 2, "disc_a": 1, "disc_b": 1}
    without_cycle = calls(model(cycle=0), real_a, real_b, identity=0.0)
    assert without_cycle == {"encoder_ab": 1, "decoder_ab": 1, "encoder_ba": 1, "decoder_ba": 1, "disc_a": 1, "disc_b": 1}
    without_nce = calls(model(consistency="both", nce=0), real_a, real_b, identity=0.0)
    assert without_nce == without_identity


def test_nce_alone_builds_one_way_only():
    cycle = model(consistency="nce")
    assert list(cycle.generators) == ["ab"] and list(cycle.discriminators) == ["b"] and list(cycle.heads) == ["ab"]
    legs = list(cycle.legs(batch(Grid(), 1), batch(Grid(), 2), identity=1.0))
    assert [set(leg.terms) for leg in legs] == [{"adv_b", "nce_a"}, {"idt_b"}]
    assert calls(cycle, batch(Grid(), 1), batch(Grid(), 2))["encoder_ba"] == 0


def test_both_consistencies_build_both_ways_with_patches_and_cycles():
    cycle = model(consistency="both")
    assert list(cycle.heads) == ["ab", "ba"]
    legs = list(cycle.legs(batch(Grid(), 1), batch(Grid(), 2), identity=0.0))
    assert [set(leg.terms) for leg in legs] == [{"adv_b", "cycle_a", "nce_a"}, {"adv_a", "cycle_b", "nce_b"}]
    sum(term for leg in legs for term in leg.terms.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in cycle.heads.parameters())


def test_the_cycle_alone_has_no_patch_heads():
    assert len(model().heads) == 0
    assert len(model().generator_parameters()) == sum(len(list(g.parameters())) for g in model().generators.values())


def test_patch_heads_belong_to_the_generators_optimiser():
    cycle = model(consistency="nce")
    owned = {id(p) for p in cycle.generator_parameters()}
    assert {id(p) for p in cycle.heads.parameters()} <= owned
    assert not owned & {id(p) for p in cycle.discriminator_parameters()}


def test_judging_discriminators_get_no_gradient_and_no_power_iteration():
    cycle = model()
    before = {name: value.clone() for name, value in cycle.disc_b.state_dict().items()}
    with cycle.only_judging():
        for leg in cycle.legs(batch(Grid(), 1), batch(Grid(), 2), 5.0):
            sum(leg.terms.values()).backward()
    assert all(p.grad is None for p in cycle.discriminator_parameters())
    assert all(torch.equal(value, before[name]) for name, value in cycle.disc_b.state_dict().items())
    assert all(p.requires_grad for p in cycle.discriminator_parameters()) and cycle.disc_b.training
    assert all(p.grad is not None for p in cycle.generator_parameters())


def test_discriminators_learn_again_after_judging_was_interrupted():
    cycle = model()
    with pytest.raises(KeyboardInterrupt), cycle.only_judging():
        raise KeyboardInterrupt
    assert all(p.requires_grad for p in cycle.discriminator_parameters())


def test_the_discriminators_turn_reaches_no_generator_and_turns_the_power_iteration():
    cycle = model()
    fake = next(cycle.legs(batch(Grid(), 1), batch(Grid(), 2), 0.0)).fake
    before = {name: value.clone() for name, value in cycle.disc_b.named_buffers()}
    terms, scores = cycle.discriminator_terms("b", batch(Grid(), 2), fake, step=1)
    sum(terms.values()).backward()
    assert set(terms) == {"disc_b"} and set(scores) == {"real_b", "fake_b"}
    assert all(p.grad is None for p in cycle.generator_parameters())
    assert all(p.grad is not None for p in cycle.disc_b.parameters())
    assert any(not torch.equal(value, before[name]) for name, value in cycle.disc_b.named_buffers())


@pytest.mark.parametrize("norm", ["spectral", "instance", "none"])
def test_real_and_fake_in_one_pass_are_judged_as_if_alone(norm):
    cycle = model(nets=networks(discriminator_norm=norm))
    cycle.disc_b.eval()
    real, fake = batch(Grid(), 1), batch(Grid(), 2)
    terms, scores = cycle.discriminator_terms("b", real, fake, step=1)
    expected = losses.discriminator_adversarial("lsgan", cycle.disc_b(real), cycle.disc_b(fake))
    torch.testing.assert_close(terms["disc_b"], expected)
    assert scores["real_b"].item() == pytest.approx(cycle.disc_b(real).mean().item(), abs=1e-6)
    assert scores["fake_b"].item() == pytest.approx(cycle.disc_b(fake).mean().item(), abs=1e-6)


def test_wgan_gp_pays_its_penalty_and_the_others_do_not():
    real, fake = batch(Grid(), 1), batch(Grid(), 2)
    wgan = model(adversarial="wgan-gp", gradient_penalty=10)
    share = torch.rand(2, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    expected = 10 * losses.gradient_penalty(wgan.disc_a.eval(), real, fake, share)
    terms, _ = wgan.discriminator_terms("a", real, fake, step=0)
    torch.testing.assert_close(terms["penalty_a"], expected)
    assert set(model().discriminator_terms("a", real, fake, step=0)[0]) == {"disc_a"}


def test_r1_is_paid_every_so_many_steps_and_made_up_for():
    real, fake = batch(Grid(), 1), batch(Grid(), 2)
    cycle = model(r1=0.5, r1_every=4)
    cycle.disc_b.eval()
    paid = [step for step in range(9) if "r1_b" in cycle.discriminator_terms("b", real, fake, step)[0]]
    assert paid == [0, 4, 8]
    found = cycle.discriminator_terms("b", real, fake, 0)[0]["r1_b"]
    torch.testing.assert_close(found, 0.5 * 4 * losses.r1_penalty(cycle.disc_b, real))


@pytest.mark.parametrize("changes", [{"r1": 1.0, "r1_every": 1}, {"adversarial": "wgan-gp"}])
def test_a_compiled_discriminator_can_be_penalised(changes):
    cycle = model(**changes)
    cycle.disc_b.compile(backend="aot_eager")
    terms, _ = cycle.discriminator_terms("b", batch(Grid(), 1), batch(Grid(), 2), step=0)
    sum(terms.values()).backward()
    assert len(terms) == 2 and all(p.grad is not None for p in cycle.disc_b.parameters())


def test_only_true_partners_are_paid_for():
    real_a, real_b = batch(Grid(), 1), batch(Grid(), 2)
    cycle = model(paired=3.0)
    unknown = list(cycle.legs(real_a, real_b, 0.0))
    assert all("paired" not in name for leg in unknown for name in leg.terms)
    known = torch.tensor([1.0, 0.0])
    legs = list(cycle.legs(real_a, real_b, 0.0, known))
    expected = 3 * (real_b[0] - legs[0].fake[0]).abs().mean()
    torch.testing.assert_close(legs[0].terms["paired_b"].detach(), expected)
    torch.testing.assert_close(legs[1].terms["paired_a"].detach(), 3 * (real_a[0] - legs[1].fake[0]).abs().mean())


def test_low_resolution_keeps_the_layout_in_both_directions():
    cycle = model(low_resolution=2.0, low_resolution_factor=4)
    real_a, real_b = batch(Grid(), 1), batch(Grid(), 2)
    legs = list(cycle.legs(real_a, real_b, 0.0))
    torch.testing.assert_close(legs[0].terms["low_a"].detach(), 2 * losses.low_resolution(real_a, legs[0].fake, 4))
    assert "low_b" in legs[1].terms


def test_a_task_network_is_frozen_left_as_it_was_drawn_and_asked_about_fake_b_only():
    torch.manual_seed(5)
    task = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    before = {name: value.clone() for name, value in task.state_dict().items()}
    cycle = CycleModel(Grid(), Grid(), networks(), Objective(task=1.0), task=task)
    legs = list(cycle.legs(batch(Grid(), 1), batch(Grid(), 2), 0.0))
    assert "task_a" in legs[0].terms and not any("task" in name for name in legs[1].terms)
    sum(legs[0].terms.values()).backward()
    assert all(not p.requires_grad and p.grad is None for p in task.parameters())
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert not {id(p) for p in task.parameters()} & {id(p) for p in cycle.generator_parameters()}


def test_augmentation_is_shown_to_the_discriminators_only():
    torch.manual_seed(0)
    cycle = CycleModel(Grid(), Grid(), networks(), Objective(), torch.Generator().manual_seed(0), ("translation", "cutout"))
    seen = []
    cycle.disc_b.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    leg = next(cycle.legs(batch(Grid(), 1), batch(Grid(), 2), 0.0))
    assert not torch.equal(seen[0], leg.fake)
    assert (seen[0] == 0).float().mean() > 0.1


def test_identity_inside_one_sensor_is_the_arriving_generator():
    cycle, real_b = model(), batch(Grid(), 2)
    legs = list(cycle.legs(batch(Grid(), 1), real_b, 2.0))
    torch.testing.assert_close(legs[2].terms["idt_b"], 2 * losses.identity(real_b, cycle.gen_ab(real_b)))


@pytest.mark.parametrize("kind", ["resnet", "light"])
@pytest.mark.parametrize("a, b", [(WIDE, TALL), (Grid(channels=1, height=32, width=32), TALL)])
def test_identity_across_sensors_is_decoder_a_of_encoder_a(kind, a, b):
    cycle = model(a, b, networks(generator=kind))
    real_a, real_b = batch(a, 1), batch(b, 2)
    legs = list(cycle.legs(real_a, real_b, 2.0))
    there = cycle.gen_ba.decoder(cycle.gen_ab.encoder(real_a))
    assert there.shape == real_a.shape
    torch.testing.assert_close(legs[3].terms["idt_a"], 2 * losses.identity(real_a, there))
    torch.testing.assert_close(
        legs[2].terms["idt_b"], 2 * losses.identity(real_b, cycle.gen_ab.decoder(cycle.gen_ba.encoder(real_b)))
    )


def test_a_journey_between_different_grids_trains():
    cycle = model(WIDE, TALL)
    real_a, real_b = (F.interpolate(noise(2, s.channels, 2, 2, seed=s.channels), s.shape[-2:], mode="bilinear") for s in (WIDE, TALL))
    optimiser = torch.optim.Adam(cycle.generator_parameters(), lr=3e-3)
    totals = []
    for _ in range(12):
        descend(cycle, real_a, real_b, jointly=False)
        assert all(p.grad is not None for p in cycle.generator_parameters())
        learns = [p.grad.abs().max() > 0 for p in cycle.generator_parameters()]
        assert sum(learns) >= len(learns) - 2           # the biases of attention keys have none by nature
        optimiser.step()
        with torch.no_grad(), cycle.only_judging():
            totals.append(sum(term for leg in cycle.legs(real_a, real_b, 5.0) for term in leg.terms.values()).item())
    assert totals[-1] < 0.9 * totals[0]
    fake_b = cycle.gen_ab(real_a)
    assert fake_b.shape == real_b.shape and cycle.gen_ba(fake_b).shape == real_a.shape


def test_both_sides_trained_in_turn_stay_finite_and_the_discriminator_learns():
    cycle = model()
    real_a, real_b = batch(Grid(), 1), batch(Grid(), 2) * 0.1
    generators = torch.optim.Adam(cycle.generator_parameters(), lr=1e-3)
    discriminators = torch.optim.Adam(cycle.discriminator_parameters(), lr=1e-2)
    paid = []
    for step in range(15):
        cycle.zero_grad()
        with cycle.only_judging():
            fakes = {}
            for leg in cycle.legs(real_a, real_b, 1.0):
                sum(leg.terms.values()).backward()
                fakes |= {leg.domain: leg.fake} if leg.fake is not None else {}
        generators.step()
        terms, _ = cycle.discriminator_terms("b", real_b, fakes["b"], step)
        cycle.zero_grad()
        sum(terms.values()).backward()
        discriminators.step()
        paid.append(terms["disc_b"].item())
    assert all(map(torch.isfinite, map(torch.tensor, paid)))
    assert paid[-1] < paid[0]


@pytest.mark.parametrize("kind", ["resnet", "light", "bilateral"])
def test_turning_a_ring_turns_the_whole_journey(kind):
    sensor = Ring(channels=2, height=32, width=64)
    cycle = model(sensor, nets=networks(generator=kind))
    x = batch(sensor, 1)
    turned = cycle.gen_ba(cycle.gen_ab(x.roll(16, -1)))
    torch.testing.assert_close(turned, cycle.gen_ba(cycle.gen_ab(x)).roll(16, -1), atol=1e-4, rtol=0)


def test_a_trunk_between_a_ring_and_a_plain_grid_does_not_wrap():
    cycle = model(Ring(height=16, width=16), Grid(height=16, width=16))
    pads = [module for module in cycle.gen_ab.trunk.modules() if type(module).__name__ == "Pad"]
    assert pads and not any(pad.wraps for pad in pads)


def test_the_same_seed_gives_the_same_model_and_the_same_terms():
    def totals(seed: int) -> list[float]:
        cycle = model(consistency="both", nce_patches=8, seed=seed)
        return [term.item() for leg in cycle.legs(batch(Grid(), 1), batch(Grid(), 2), 1.0) for term in leg.terms.values()]

    assert totals(3) == totals(3)
    assert totals(3) != totals(4)


def test_a_sensor_may_bring_a_network_of_its_own():
    class Own(Grid):
        def discriminator(self, networks):
            return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 1))

    cycle = model(Own(), r1=1.0)
    terms, _ = cycle.discriminator_terms("b", batch(Grid(), 1), batch(Grid(), 2), step=0)
    assert terms.keys() == {"disc_b", "r1_b"}


@pytest.mark.parametrize("kind, stride", [("resnet", 4), ("light", 8), ("unet", 16), ("bilateral", 8)])
def test_a_sample_that_the_generator_cannot_halve_is_refused_with_its_stride(kind, stride):
    wrong = Grid(height=64, width=64 + stride // 2)
    with pytest.raises(ValueError, match=rf"samples of b are 64 x {64 + stride // 2}; .*{kind}.*multiple of {stride}, {2 * stride} or more"):
        model(Grid(height=64, width=64), wrong, networks(generator=kind))
    with pytest.raises(ValueError, match=rf"samples of a are {stride} x 64; .*multiple of {stride}, {2 * stride} or more"):
        model(Grid(height=stride, width=64), Grid(height=64, width=64), networks(generator=kind))


@pytest.mark.parametrize("layers", [2, 3, 4])
def test_a_sample_too_small_for_the_discriminator_is_refused_with_what_to_do(layers):
    least = 3 * 2**layers
    model(Grid(height=least, width=least), nets=networks(discriminator_layers=layers))
    message = rf"samples of b are {least - 4} x 64, too small for model.discriminator_layers={layers}, which needs {least} x {least}: take"
    with pytest.raises(ValueError, match=message):
        model(Grid(height=64, width=64), Grid(height=least - 4, width=64), networks(discriminator_layers=layers))


def test_what_the_shapes_make_meaningless_is_refused():
    for consistency in ("nce", "both"):
        with pytest.raises(ValueError, match=f"loss.consistency='{consistency}' compares patches of equal shapes"):
            model(WIDE, TALL, consistency=consistency)
    with pytest.raises(ValueError, match="loss.low_resolution compares equal sizes"):
        model(WIDE, TALL, low_resolution=1.0)
    with pytest.raises(ValueError, match="low_resolution_factor=16 leaves less than 2 x 2 of them: take 8 or less"):
        model(low_resolution=1.0, low_resolution_factor=16)
    with pytest.raises(ValueError, match="loss.task is set, but there is no task network"):
        model(task=1.0)


@pytest.mark.parametrize("adversarial", ["lsgan", "hinge", "nonsaturating", "wgan-gp"])
@pytest.mark.parametrize("cycle_distance", ["l1", "charbonnier"])
def test_every_objective_descends(adversarial, cycle_distance):
    cycle = model(adversarial=adversarial, cycle_distance=cycle_distance)
    found = descend(cycle, batch(Grid(), 1), batch(Grid(), 2), jointly=False)
    assert all(grad.isfinite().all() for grad in found.values())
    assert max(grad.abs().max() for grad in found.values()) > 0
