"""The beam: what leaves, grass, panes and paint make of it, on streets and by hand."""

import numpy as np
import pytest

from mmcycle.simulate import beam
from mmcycle.simulate.mesh import Material, Semantic
from mmcycle.simulate.scene import street


@pytest.fixture(scope="module")
def scene():
    return street(6, around=True)


def places(count: int = 2000) -> np.ndarray:
    return np.random.default_rng(0).uniform(-40, 40, (count, 3))


def first(scene, material: Material, semantic: Semantic) -> int:
    return int(np.flatnonzero((scene.material == material) & (scene.semantic == semantic))[0])


def test_half_of_all_paints_send_back_less_than_a_sixteenth_and_the_lightest_over_a_half():
    assert beam.painted(np.array([0.05, 0.275, 0.5])) == pytest.approx([0.02, 0.02 + 0.53 / 16, 0.55])
    assert beam.painted(np.array([0.0, 0.9])) == pytest.approx([0.02, 0.55])


def test_single_leaves_grow_about_their_middle_and_everything_else_stays(scene):
    grown = beam.fuller(scene)
    leaf = scene.triangles[scene.material == Material.LEAF]
    uses = np.bincount(leaf.ravel(), minlength=len(grown))
    alone = leaf[(uses[leaf] == 1).all(1)]
    before, after = scene.vertices[alone], grown[alone]
    assert after.mean(1) == pytest.approx(before.mean(1), abs=1e-4)
    assert np.ptp(after, axis=1) == pytest.approx(beam.WIDER * np.ptp(before, axis=1), abs=1e-3)
    rest = np.setdiff1d(np.arange(len(grown)), alone)
    assert np.array_equal(grown[rest], scene.vertices[rest]) and len(alone) > 1000


def test_a_beam_goes_into_leaves_meets_grass_early_and_stops_at_walls(scene):
    at, flat = places(), np.full(2000, 0.5)
    leaf = np.full(2000, first(scene, Material.LEAF, Semantic.VEGETATION))
    wall = np.full(2000, first(scene, Material.FACADE, Semantic.BUILDING))
    into = beam.depth(scene, leaf, at, flat)
    assert into.min() >= 0 and into.max() <= 0.5
    assert into.mean() == pytest.approx(sum(beam.FLEECE) - beam.FLEECE[1] / 2, abs=0.01)     # an exponential's mean
    assert (beam.depth(scene, wall, at, flat) == 0).all()
    grass = np.flatnonzero(scene.material == Material.GRASS)
    if len(grass):
        over = beam.depth(scene, np.full(2000, grass[0]), at, flat)
        assert over.max() <= 0 and over.min() >= -beam.BLADE / 0.5


def test_texture_is_one_on_average_and_the_same_from_every_side(scene):
    at = places()
    for semantic, material in ((Semantic.ROAD, Material.ASPHALT), (Semantic.BUILDING, Material.FACADE)):
        which = np.full(2000, first(scene, material, semantic))
        seen = beam.texture(scene, which, at)
        assert seen.mean() == pytest.approx(1, abs=0.05) and 0.05 < seen.std() < 0.3
        assert np.array_equal(seen, beam.texture(scene, which, at))


def test_behind_panes_hang_curtains_and_lie_rooms_none_of_them_dark(scene):
    facade = np.flatnonzero(scene.facade >= 0)
    which = facade[np.random.default_rng(1).integers(len(facade), size=5000)]
    uv = np.random.default_rng(2).uniform((0, 0), (15, 9), (5000, 2))
    pane, behind, rho = beam.windows(scene, which, uv)
    assert 0.1 < pane.mean() < 0.6
    assert behind.min() >= 0.15 and behind.max() <= 1.4
    assert rho.min() >= beam.THROUGH * 0.35 - 1e-6 and rho.max() <= beam.THROUGH * 0.9
    assert (behind[pane] < 0.31).mean() > 0.4
