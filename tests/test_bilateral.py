"""The generator that can only recolour: what it cannot do, and its slice against a slow one."""
import math

import numpy as np
import pytest
import torch
from grids import Grid, model, networks, noise
from torch import Tensor
from torch.nn import functional as F

from mmcycle.config import from_dict
from mmcycle.core import nets
from mmcycle.core.bilateral import DEPTH, Overview, _slice
from mmcycle.core.model import generator
from mmcycle.core.moments import SharedMoments
from mmcycle.generate import translator
from mmcycle.generate.translator import Translator

SENSOR = Grid(height=32, width=48)


def recolouring(**changes) -> nets.Generator:
    torch.manual_seed(0)
    return generator(SENSOR, SENSOR, networks(generator="bilateral", **changes))


def strong(made: nets.Generator) -> nets.Generator:
    """As if training had taken it far from its beginning."""
    with torch.no_grad():
        made.decoder.maps.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    return made


def slow_slice(grid: Tensor, level: Tensor, wraps: bool) -> Tensor:
    """One pixel after the other, one cell after the other."""
    batch, height, width = level.shape[0], *level.shape[-2:]
    cells = grid.reshape(batch, -1, DEPTH, *grid.shape[-2:])
    h, w = cells.shape[-2:]
    out = torch.zeros(batch, cells.shape[1], height, width)
    for b in range(batch):
        for row in range(height):
            for column in range(width):
                y, x = (row + 0.5) / 8 - 0.5, (column + 0.5) / 8 - 0.5
                z = (level[b, 0, row, column].item() + 1) / 2 * DEPTH - 0.5
                for i, j, k in ((i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)):
                    r, c, d = math.floor(y) + i, math.floor(x) + j, math.floor(z) + k
                    share = (1 - abs(y - r)) * (1 - abs(x - c)) * (1 - abs(z - d))
                    c = c % w if wraps else min(max(c, 0), w - 1)
                    out[b, :, row, column] += share * cells[b, :, min(max(d, 0), DEPTH - 1), min(max(r, 0), h - 1), c]
    return out


@pytest.mark.parametrize("wraps", [False, True])
def test_the_slice_is_what_a_slow_one_finds(wraps):
    grid, level = noise(2, DEPTH * 2, 2, 3), noise(2, 1, 16, 24).tanh()
    torch.testing.assert_close(_slice(grid, level, wraps), slow_slice(grid, level, wraps), atol=1e-5, rtol=0)


def test_it_begins_as_almost_the_sample_itself():
    x = noise(2, 3, 32, 48).clamp(-1, 1)
    assert (recolouring()(x) - x).abs().mean() < 0.05


def test_equal_colours_in_one_place_become_equal_colours():
    """The texture of a translation is the source's own: a checkerboard of two colours has, in each cell, two again."""
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(48), indexing="ij")
    board = ((rows + columns) % 2).float()
    x = torch.stack([board - 0.5, 0.3 - 0.6 * board, board * 0 + 0.1])[None]
    y = strong(recolouring())(x)
    for colour in (0, 1):
        smooth = torch.where(((rows + columns) % 2 == colour), y, torch.nan)[0, :, 8:24, 8:40]
        steps = (smooth[:, 2:] - smooth[:, :-2]).abs()
        assert steps.nan_to_num().max() < 0.35          # a gradient from cell to cell, over 2 of 8 pixels; no texture
    assert (y - x).abs().mean() > 0.03


def test_a_flat_sample_has_no_edges_after_it():
    y = strong(recolouring())(torch.full((1, 3, 32, 48), 0.2))
    assert (y.diff(dim=-1).abs().max(), y.diff(dim=-2).abs().max()) < (0.05, 0.05)


def test_how_bright_the_whole_scene_is_matters():
    """An instance norm would hide it: a dark copy would get the same changes."""
    made, x = strong(recolouring()), noise(1, 3, 32, 48).clamp(-0.5, 0.5)
    levels = [made.decoder.maps(made.trunk(made.encoder(z)[0])) for z in (x, x - 0.4)]
    assert (levels[0] - levels[1]).abs().mean() > 0.1 * levels[0].std()


def test_an_overview_shares_the_first_mean_that_it_saw():
    overview, first, second = Overview(), noise(2, 4, 3, 5), noise(1, 4, 2, 2)
    torch.testing.assert_close(overview(first), first.mean((2, 3), keepdim=True))
    overview.moments = SharedMoments()
    together = first.mean((0, 2, 3))[None, :, None, None]
    torch.testing.assert_close(overview(first), together.expand(2, -1, 1, 1))
    torch.testing.assert_close(overview(second), together)


def test_it_learns_a_change_of_colours():
    made, x = recolouring(width=8), noise(4, 3, 32, 48).clamp(-1, 1)
    goal = torch.stack([-x[:, 1], x[:, 0] * 0.5, x[:, 2]], dim=1)
    descent = torch.optim.Adam(made.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        losses.append((made(x) - goal).abs().mean())
        losses[-1].backward()
        descent.step()
        descent.zero_grad()
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("b", [Grid(height=48, width=32), Grid(channels=1, height=32, width=48)])
def test_it_is_refused_between_shapes(b):
    with pytest.raises(ValueError, match="'bilateral' recolours samples of one kind and shape.* take 'light'"):
        model(SENSOR, b, networks(generator="bilateral"))


def test_what_is_found_on_a_small_copy_is_done_to_the_full_resolution():
    """On a smooth sample the full translation, made small, is the small translation; a fine line stays fine."""
    made = strong(recolouring())
    smooth = F.interpolate(noise(1, 3, 4, 6).clamp(-0.8, 0.8), size=(128, 192), mode="bicubic").clamp(-1, 1)
    small = F.avg_pool2d(smooth, 4)
    full = made.recolour(small, smooth)
    assert full.shape == smooth.shape
    assert (F.avg_pool2d(full, 4) - made(small)).abs().mean() < 0.03 < (made(small) - small).abs().mean()
    torch.testing.assert_close(made.recolour(small, small), made(small))
    smooth[..., 100] = -0.9
    lined = made.recolour(small, smooth)
    assert (lined[..., 100] - full[..., 100]).abs().mean() > 0.1
    torch.testing.assert_close(lined[..., 101:], full[..., 101:])


def stretching(size: tuple[int, int]) -> Translator:
    """Pictures that the network sees at another size, by a network far from its beginning."""
    image = {"modality": "image", "size": 16, "stretch": list(size)}
    numbers = from_dict({"name": "t", "a": {"name": "a", **image}, "b": {"name": "b", **image},
                         "model": {"generator": "bilateral", "width": 4, "blocks": 1}})
    weights = strong(recolouring()).state_dict()
    return Translator(numbers, "ab", weights, device="cpu")


def test_a_picture_is_translated_at_its_own_resolution():
    made, lines = stretching((16, 16)), np.full((60, 100, 3), 90, dtype=np.uint8)
    lines[:, 31] = 220
    done = made(lines).pixels.astype(int)
    assert done.shape == lines.shape
    assert (np.abs(done[:, 31] - done[:, 30]) > 15).any(1).all()                # a line of one pixel
    assert np.abs(done[:, 30] - done[:, 29]).max() < 8
    np.testing.assert_array_equal(made(lines, strength=0.0).pixels, lines)


@pytest.mark.parametrize("size", [(16, 16), (20, 27)])                          # the second is padded to 24 x 32
def test_strips_of_a_picture_join_without_a_seam(size, monkeypatch):
    made, picture = stretching(size), (noise(61, 40, 3).sigmoid() * 255).byte().numpy()
    whole = made(picture).pixels
    monkeypatch.setattr(translator, "STRIP", 7 * 40)
    np.testing.assert_allclose(made(picture).pixels.astype(int), whole.astype(int), atol=1)


def test_padding_shifts_no_map():
    """A picture of 40 x 60 seen at 20 x 30 meets the maps that the network laid over those 20 x 30 pixels."""
    made = stretching((20, 30))
    picture = F.interpolate(noise(1, 3, 2, 3).clamp(-0.8, 0.8), size=(40, 60), mode="bicubic")[0].clamp(-1, 1)
    pixels = ((picture + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    small, _ = made.source.to_tensor(pixels)
    fine = torch.from_numpy(made(pixels).pixels).permute(2, 0, 1) / 127.5 - 1
    assert (F.avg_pool2d(fine, 2) - made.translate(small)).abs().mean() < 0.02
    shifted = made.translate(small).roll(2, -1)
    assert (F.avg_pool2d(fine, 2) - shifted).abs().mean() > 0.02
