"""The classic uses: every config trains and generates, and what they are measured with is right."""
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mmcycle.config import load_config
from mmcycle.recipe import recipe_names

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import classic_uses  # noqa: E402  (a script beside the package)
from classic_uses import USES, coloured, drawn, matched, noisy, scores, sharpened, sheet, smoothed

CONFIGS = sorted({use.config for use in USES.values()})
TINY = ["a.size=32", "b.size=32", "a.short_side=null", "b.short_side=null", "model.width=4", "model.blocks=1",
        "model.discriminator_width=4", "model.discriminator_layers=1", "train.steps=2", "run.precision=32-true",
        "data.workers=0", "run.log_every=1"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every folder that the uses read, with six pictures of noise in each, and sets as small."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(classic_uses, "SIZE", (44, 36))
    monkeypatch.setattr(classic_uses, "SCENES", 2)
    sets = "day_dusk_camvid", "weather_mcw", "sketch_photo_pacs", "sim2real_lights_frames"
    folders = [f"{name}/{part}" for name in sets for part in ("trainA", "trainB", "testA", "testB")]
    for folder in (*folders, "multisensor_radiate/camera_left"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for n in range(6):
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / "data" / folder / f"{n}.jpg")
    return tmp_path / "data"


def flat(*colour: float) -> Tensor:
    """One picture (1, 3, 24, 24)."""
    return torch.tensor(colour)[None, :, None, None].expand(1, 3, 24, 24).contiguous()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_numbers_of_a_cpu_stand_beside_those_of_a_gpu_and_differ_in_size_alone(name: str) -> None:
    assert {name, name.removesuffix("_cpu")} <= {*recipe_names()}
    small, large = load_config(name), load_config(name.removesuffix("_cpu"))
    assert small.name == large.name == name.removesuffix("_cpu")
    assert (small.model.generator, small.model.residual) == (large.model.generator, large.model.residual)
    assert small.loss == large.loss and small.train.steps < large.train.steps


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", USES)
def test_a_use_is_prepared_trained_generated_and_measured_and_the_same_line_again_trains_no_more(
    name: str, data: Path, tmp_path: Path
) -> None:
    if name in ("clear_to_fog", "sim_to_real_frames"):
        pytest.importorskip("open3d")
    first = classic_uses.measured(name, data, tmp_path / "out", 0, TINY)
    again = classic_uses.measured(name, data, tmp_path / "out", 0, TINY)
    assert first.row.pop("run")["steps"] == again.row.pop("run")["steps"] == 2
    assert first.row == again.row and {"untranslated", "ours", "floor: b"} < first.row.keys()
    assert all(np.isfinite(value) for numbers in first.row.values() for value in numbers.values())
    assert ("psnr_db" in first.row["ours"]) == USES[name].true
    width = 36 if name == "photo_to_sketch" else 44
    assert sheet(first.pictures, 2).size == (3 * (width + 4) - 4, 18 + 2 * 40 - 4)


def test_a_and_b_of_a_spoilt_drive_share_no_picture_and_the_test_is_spoilt_as_a_is(data: Path, tmp_path: Path) -> None:
    USES["noisy_to_clean"].prepare(data, tmp_path)
    a, b, test, target = ({path.name for path in (tmp_path / part).iterdir()} for part in ("a", "b", "test", "target"))
    assert not a & b and len(a | b) == 6 and test == target
    spoilt, clean = (np.array(Image.open(tmp_path / part / "0.png"), float) for part in ("test", "target"))
    assert 12 < (spoilt - clean).std() < 36
    grain = np.random.default_rng(1)
    assert noisy(Image.new("RGB", (8, 8), "grey"), grain).size == (8, 8)


def test_the_truth_scores_best_and_a_picture_has_the_structure_of_itself() -> None:
    rng = torch.Generator().manual_seed(0)
    truth = torch.rand(4, 3, 24, 24, generator=rng) * 2 - 1
    close, far = ((truth + s * torch.randn(truth.shape, generator=rng)).clamp(-1, 1) for s in (0.1, 0.6))
    near, off = scores(truth, close, truth, True), scores(truth, far, truth, True)
    assert near["psnr_db"] > off["psnr_db"] and near["ssim"] > off["ssim"] and near["kid"] < off["kid"]
    without = scores(truth, truth, truth, False)
    assert without["structure"] == pytest.approx(1) and without.keys() == {"kid", "structure"}


def test_matched_colours_have_the_mean_of_the_target() -> None:
    rng = torch.Generator().manual_seed(0)
    test, b = torch.randn(2, 3, 24, 24, generator=rng) * 0.1, torch.randn(5, 3, 24, 24, generator=rng) * 0.05 + 0.3
    (found,) = matched(test, b).values()
    torch.testing.assert_close(found.mean((2, 3)), b.mean((0, 2, 3)).expand(2, 3))


def test_edges_are_drawn_black_on_white_where_the_brightness_jumps() -> None:
    test = flat(-1.0, -1.0, -1.0)
    test[..., 12:] = 1
    b = flat(1.0, 1.0, 1.0)
    b[..., :2] = -1                                     # a twelfth of a sketch is black: two columns of 24
    (found,) = drawn(test, b).values()
    columns = found[0, 0].mean(0)
    assert (columns[11], columns[3], columns[20]) == (-1, 1, 1) and set(found.unique().tolist()) == {-1, 1}


def test_grey_gets_the_colour_that_its_row_and_brightness_have_elsewhere() -> None:
    b = flat(-0.5, -0.5, 0.2)
    b[:, :, 12:] = torch.tensor([0.1, -0.6, -0.6])[:, None, None]
    light = classic_uses.luminance(b)[:, None].expand(1, 3, 24, 24)
    found = coloured(light, b)
    torch.testing.assert_close(found["colour of its row and level"], b)
    assert not torch.allclose(found["mean colour"], b, atol=0.05)


def test_an_unsharp_mask_steepens_an_edge_and_a_median_takes_a_speck_away() -> None:
    edge = flat(-0.5, -0.5, -0.5)
    edge[..., 12:] = 0.5
    assert all(made[0, 0, 12, 12] > edge[0, 0, 12, 12] for made in sharpened(edge, edge).values())
    speck = flat(0.0, 0.0, 0.0)
    speck[..., 8, 8] = 1
    assert smoothed(speck, speck)["median 3 x 3"].abs().max() == 0
