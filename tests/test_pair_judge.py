"""A discriminator that sees the source beside the translation."""
import pytest
import torch
from grids import Grid, noise
from torch import nn

from mmcycle.config import load_config
from mmcycle.core import losses
from mmcycle.core.model import CycleModel
from mmcycle.core.pair_judge import SEEN, PairDiscriminator, View
from mmcycle.core.settings import Networks, Objective
from mmcycle.errors import UserError
from mmcycle.modalities.image import Image
from mmcycle.modalities.text import Text
from mmcycle.modality import Modality
from mmcycle.train.health import examine

NETWORKS = Networks(
    generator="light", width=4, blocks=1, discriminator_width=4, discriminator_layers=1, discriminator_sees="pair"
)
PIX2PIX = Objective(consistency="none", identity=0, paired=2.0)
SOURCES = {"the same grid": Grid(channels=2), "another grid": Grid(channels=2, width=32), "text": Text(length=256, rows=16)}


def judged(source: Modality, objective: Objective = PIX2PIX) -> tuple[CycleModel, torch.Tensor, torch.Tensor]:
    """A model whose discriminator stands still, three sources and their partners."""
    torch.manual_seed(0)
    model = CycleModel(source, Grid(), NETWORKS, objective)
    model.disc_b.eval()
    return model, noise(3, *source.shape, seed=1), noise(3, *Grid().shape, seed=2)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_score_depends_on_the_source_as_well_as_on_the_translation(source):
    model, real_a, real_b = judged(source)
    score = model.disc_b(model.disc_b.beside(real_b, real_a))
    others = model.disc_b(model.disc_b.beside(real_b, real_a.roll(1, 0)))
    again = model.disc_b(model.disc_b.beside(real_b.roll(1, 0), real_a))
    assert score.shape[:2] == (3, 1)
    assert not torch.allclose(score, others) and not torch.allclose(score, again)


def test_on_one_grid_the_source_is_what_is_seen():
    model, real_a, real_b = judged(SOURCES["the same grid"])
    assert isinstance(model.disc_b.view, nn.Identity)
    assert torch.equal(model.disc_b.beside(real_b, real_a), torch.cat([real_b, real_a], dim=1))


@pytest.mark.parametrize("source", [SOURCES["another grid"], SOURCES["text"]])
def test_on_another_grid_a_view_of_the_source_is_seen(source):
    model, real_a, real_b = judged(source)
    assert isinstance(model.disc_b.view, View)
    seen = model.disc_b.beside(real_b, real_a)
    assert seen.shape == (3, 3 + SEEN, 16, 16) and torch.equal(seen[:, :3], real_b)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_both_turns_judge_translations_beside_what_they_were_made_of(source):
    model, real_a, real_b = judged(source)
    disc = model.disc_b
    (leg,) = model.legs(real_a, real_b, 0.0, torch.ones(3))
    fake = disc(disc.beside(leg.fake, real_a))
    torch.testing.assert_close(leg.terms["adv_b"], losses.generator_adversarial("lsgan", fake))
    terms, scores = model.discriminator_terms("b", real_b, leg.fake, 1, real_a)
    real, wrong = (disc(disc.beside(real_b, a)) for a in (real_a, real_a.roll(1, 0)))
    expected = [losses.discriminator_adversarial("lsgan", real, false) for false in (fake, wrong)]
    torch.testing.assert_close(terms["disc_b"], sum(expected) / 2)
    assert scores["real_b"].item() == pytest.approx(real.mean().item(), abs=1e-6)


def test_a_neighbour_of_the_same_source_is_no_stranger():
    model, real_a, real_b = judged(SOURCES["the same grid"])
    disc, real_a, fake = model.disc_b, real_a[[0, 0, 1]], -real_b
    terms, _ = model.discriminator_terms("b", real_b, fake, 1, real_a)
    shown = torch.stack([real_b[0], fake[1], real_b[2]])            # the second's neighbour has its own source
    real, false, wrong = (disc(disc.beside(x, a)) for x, a in
                          ((real_b, real_a), (fake, real_a), (shown, real_a.roll(1, 0))))
    expected = [losses.discriminator_adversarial("lsgan", real, one) for one in (false, wrong)]
    torch.testing.assert_close(terms["disc_b"], sum(expected) / 2)


def test_a_single_sample_has_no_wrong_source():
    model, real_a, real_b = judged(SOURCES["the same grid"])
    disc, real_a, real_b = model.disc_b, real_a[:1], real_b[:1]
    terms, _ = model.discriminator_terms("b", real_b, -real_b, 1, real_a)
    real, fake = (disc(disc.beside(x, real_a)) for x in (real_b, -real_b))
    torch.testing.assert_close(terms["disc_b"], losses.discriminator_adversarial("lsgan", real, fake))


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_the_view_is_taught_with_the_discriminator_and_by_nothing_else(source):
    model, real_a, real_b = judged(source)
    own = {id(p) for p in model.disc_b.parameters()}
    assert own == {id(p) for p in model.discriminator_parameters()}
    assert not own & {id(p) for p in model.generator_parameters()}
    with model.only_judging():
        (leg,) = model.legs(real_a, real_b, 0.0, torch.ones(3))
        sum(leg.terms.values()).backward()
    assert all(p.grad is None for p in model.disc_b.parameters())
    sum(model.discriminator_terms("b", real_b, leg.fake, 1, real_a)[0].values()).backward()
    assert all(p.grad is not None for p in model.disc_b.parameters())


@pytest.mark.parametrize("changes", [{"adversarial": "wgan-gp"}, {"r1": 1.0, "r1_every": 1}])
def test_penalties_are_of_the_pair(changes):
    model, real_a, real_b = judged(SOURCES["text"], Objective(consistency="none", identity=0, paired=2.0, **changes))
    terms, _ = model.discriminator_terms("b", real_b, real_b.flip(0), 0, real_a)
    assert len(terms) == 2 and all(term.isfinite() for term in terms.values())


def test_health_does_not_ask_it_about_samples_that_are_nobodys_partners():
    model, real_a, real_b = judged(Grid())
    assert "judged_b" not in examine(model, {"a": real_a, "b": real_b})
    assert "diverse_b" in examine(model, {"a": real_a, "b": real_b})


def test_a_sensor_with_a_judge_of_its_own_keeps_it():
    with pytest.raises(ValueError, match="'pair' needs .* an ordinary discriminator judges; Text has one of its own"):
        CycleModel(Image(size=16), Text(length=256, rows=16), NETWORKS, PIX2PIX)


def test_too_small_a_sample_is_told_as_ever():
    networks = Networks(generator="light", width=4, blocks=1, discriminator_layers=4, discriminator_sees="pair")
    with pytest.raises(ValueError, match="samples of b are 16 x 16, too small for model.discriminator_layers=4"):
        CycleModel(Grid(), Grid(), networks, PIX2PIX)


def test_without_true_partners_or_with_a_memory_it_is_refused():
    with pytest.raises(UserError, match="is 'pair', so every source needs its true partner: set loss.consistency: none"):
        load_config("day_to_night", ["model.discriminator_sees=pair", "train.replay=0"])
    pairs = ["model.discriminator_sees=pair", "loss.consistency=none", "loss.identity=0", "loss.paired=1"]
    with pytest.raises(UserError, match="train.replay: is 50, .* remembered translation has lost its source: set it to 0"):
        load_config("day_to_night", [*pairs, "data.paired=true"])
    assert load_config("day_to_night", [*pairs, "data.paired=true", "train.replay=0"]).model.discriminator_sees == "pair"


def test_a_model_whose_judge_sees_samples_is_as_it_was():
    model = CycleModel(Grid(), Grid(), Networks(width=4, blocks=1, discriminator_width=4, discriminator_layers=1), Objective())
    assert not any(isinstance(disc, PairDiscriminator) for disc in model.discriminators.values())
