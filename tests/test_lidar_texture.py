"""In which patches returns are lost: measured on sweeps whose patches are known, and drawn again."""
import math

import pytest
import torch

from mmcycle.modalities.lidar_texture import FIELDS, Texture, _of_normals, _reaches, woven

pytestmark = pytest.mark.usefixtures("one_thread")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shares(**found: float) -> torch.Tensor:
    """runs=1.0 -> (F, 1, 1)"""
    places = {"alone": (0.0, 0.0), "runs": (0.0, 5.0), "long_runs": (0.0, 16.0), "blobs": (2.5, 12.0)}
    return torch.tensor([sum(v for name, v in found.items() if places[name] == field) for field in FIELDS])[:, None, None]


def lost(seed: int = 0, rate: float = 0.2, **found: float) -> torch.Tensor:
    """(8, 32, 256) bool"""
    noise = woven(shares(**found).expand(8, -1, 32, 256), rng(seed))
    return torch.special.ndtr(noise) < rate


@pytest.mark.parametrize("found", [{"alone": 1.0}, {"runs": 1.0}, {"blobs": 1.0}, {"alone": 0.3, "long_runs": 0.7}])
def test_what_was_woven_is_found_again(found):
    made = lost(**found)
    texture = Texture()
    texture.observe(made, torch.ones_like(made))
    reach = torch.tensor(_reaches())                    # several mixtures reach about as far
    assert torch.allclose(reach @ texture.shares, reach @ shares(**found).flatten(), atol=0.1)
    assert texture.shares.sum() == pytest.approx(1, abs=1e-5) and (texture.shares >= 0).all()


def test_losses_drawn_with_the_found_shares_are_as_often_neighbours():
    def together(one: torch.Tensor) -> float:
        return float((one[..., 1:] & one[..., :-1]).double().mean() / one.double().mean())

    real = lost(runs=0.6, alone=0.4)
    texture = Texture()
    texture.observe(real, torch.ones_like(real))
    again = torch.special.ndtr(woven(texture.shares[:, None, None].expand(8, -1, 32, 256), rng(3))) < 0.2
    assert together(again) == pytest.approx(together(real), abs=0.03)
    assert together(lost(alone=1.0)) == pytest.approx(0.2, abs=0.02)


def test_woven_noise_is_standard_normal_and_the_same_for_the_same_seed():
    noise = woven(shares(alone=0.2, runs=0.5, blobs=0.3).expand(40, -1, 16, 64), rng(1))
    assert noise.shape == (40, 16, 64) and noise.mean() == pytest.approx(0, abs=0.1) and noise.std() == pytest.approx(1, abs=0.07)
    assert torch.equal(noise, woven(shares(alone=0.2, runs=0.5, blobs=0.3).expand(40, -1, 16, 64), rng(1)))


def test_pixels_where_nothing_was_to_be_hit_do_not_count():
    made = lost(runs=1.0)
    known = torch.ones_like(made)
    known[:, :10] = False                               # sky
    texture, upper = Texture(), Texture()
    texture.observe(made & known, known)
    upper.observe(made[:, 10:], known[:, 10:])
    assert torch.allclose(texture.shares, upper.shares, atol=1e-6) and float(texture.rate[1]) == 8 * 22 * 256


def test_a_sweep_without_losses_leaves_the_shares_as_they_were():
    texture = Texture()
    texture.observe(torch.zeros(1, 4, 8, dtype=torch.bool), torch.ones(1, 4, 8, dtype=torch.bool))
    assert texture.shares.tolist() == [float(field == (0.0, 0.0)) for field in FIELDS]


def test_events_at_a_median_threshold_follow_the_law_of_arcsines():
    for rho in (0.0, 0.3, 0.8, 0.99):                   # Sheppard 1899: the correlation of signs is 2 asin(rho) / pi
        assert float(_of_normals(torch.tensor([2 * math.asin(rho) / math.pi]), 0.5)) == pytest.approx(rho, abs=1e-3)
