"""Whole recordings of any size through one trained direction: padded, tiled, blended; and models that others made."""
import json
import math
import sys

import numpy as np
import pytest
import torch
from grids import Grid, config, noise, translator
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from mmcycle.config import from_dict, to_dict
from mmcycle.core import nets
from mmcycle.errors import UserError
from mmcycle.generate import tiles
from mmcycle.generate.export import export
from mmcycle.generate.translator import Translator
from mmcycle.train import checkpoint
from mmcycle.train.checkpoint import Checkpoint

KINDS = ["resnet", "unet", "light", "bilateral"]


def scene(channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth shapes whose brightness drifts over the recording, with some grain: (C, H, W) in [-1, 1]."""
    coarse = noise(1, channels, max(height // 24, 2), max(width // 24, 2), seed=seed)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic")[0] * 0.5
    drift = torch.linspace(-0.4, 0.4, height)[:, None] + torch.linspace(-0.3, 0.3, width)[None, :]
    return (smooth + drift + 0.05 * noise(channels, height, width, seed=seed + 1)).clamp(-1, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 5), (17, 33), (130, 257)])
def test_a_recording_of_any_size_comes_back_at_its_own(kind, size):
    y = translator(config(generator=kind)).translate(noise(3, *size))
    assert y.shape == (3, *size)
    assert y.isfinite().all() and y.abs().max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_multiple_of_the_stride_is_translated_without_any_padding(kind):
    night, x = translator(config(generator=kind)), noise(3, 32, 48)
    assert torch.equal(night.translate(x), night.generator(x[None])[0])


def test_one_recording_is_translated_like_a_member_of_a_batch():
    night = translator()
    batch = noise(3, 3, 32, 48)
    torch.testing.assert_close(night._forward(batch), torch.stack([night.translate(x) for x in batch]), atol=1e-5, rtol=1e-4)


def test_translating_twice_gives_the_same_bytes_and_leaves_the_recording_alone():
    night, x = translator(tile=64, overlap=16), scene(3, 100, 150)
    before = x.clone()
    first = night.translate(x)
    night.translate(scene(3, 70, 90, seed=5))               # no state between calls
    assert torch.equal(night.translate(x), first)
    assert torch.equal(x, before)


def test_strength_goes_from_the_recording_to_its_translation():
    night, x = translator(), scene(3, 33, 40)
    full = night.translate(x)
    assert torch.equal(night.translate(x, 0.0), x)
    torch.testing.assert_close(night.translate(x, 0.5), (x + full) / 2)
    assert torch.equal(night(x, 1.0), full)


@pytest.mark.parametrize("strength", [-0.1, 1.5, math.nan])
def test_a_strength_outside_of_zero_to_one_is_refused(strength):
    with pytest.raises(UserError, match=r"strength .* is not possible here: it lies in \[0, 1\]"):
        translator().translate(noise(3, 8, 8), strength)


@pytest.mark.parametrize("b", [{"channels": 1}, {"width": 64}])
def test_a_strength_between_domains_of_two_shapes_is_refused(b):
    across = translator(config(b=b))
    with pytest.raises(UserError, match="needs domains of one shape"):
        across.translate(noise(3, 32, 32), 0.5)


def test_domains_of_other_channels_and_the_same_grid_keep_the_size():
    across = translator(config(b={"channels": 1}))
    assert across.extensive
    assert across.translate(noise(3, 41, 23)).shape == (1, 41, 23)


def test_a_model_between_two_grids_gives_the_target_grid_whatever_comes_in():
    made = config(a={"channels": 2, "height": 16, "width": 64})
    for direction, shape in (("ab", (3, 32, 32)), ("ba", (2, 16, 64))):
        across = translator(made, direction)
        assert not across.extensive
        for size in (across.source.shape[-2:], (9, 200)):
            assert across.translate(noise(across.source.shape[0], *size)).shape == shape


def test_a_sensor_that_knows_one_size_only_comes_back_at_its_own():
    rigid = {"modality": "grids:Rigid"}
    night = translator(config(a=rigid, b=rigid), tile=64, overlap=16)
    seen = []
    night.generator.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    x = scene(3, 90, 70)
    assert night.translate(x).shape == (3, 90, 70)
    assert torch.equal(night.translate(x, 0.0), x)
    assert set(seen) == {(1, 3, 32, 32)}


def test_bfloat16_is_close_to_float32_and_comes_back_as_float32():
    made, x = config(), scene(3, 32, 48)
    half = translator(made, precision="bf16").translate(x)
    assert half.dtype == torch.float32
    assert (half - translator(made).translate(x)).abs().mean() < 0.05


# Tiles


@pytest.mark.parametrize("size", [1, 15, 64, 65, 79, 80, 100, 128, 129, 257, 1000])
@pytest.mark.parametrize("overlap", [0, 7, 16, 32])
def test_windows_cover_a_side_exactly_on_the_alignment_and_overlap_enough(size, overlap):
    spans = tiles._spans(size, 64, overlap)
    covered = np.zeros(size, int)
    for span in spans:
        covered[span] += 1
        assert span.start % tiles.ALIGNMENT == 0 and span.stop - span.start < 64 + tiles.ALIGNMENT
    assert covered.min() >= 1
    assert spans[0].start == 0 and spans[-1].stop == size
    for one, following in zip(spans, spans[1:]):
        assert one.stop - following.start >= overlap


def test_the_weights_of_all_tiles_add_up_and_ramps_face_neighbours_only():
    ramp = tiles._ramp(slice(16, 80), 200, 7)
    assert torch.allclose(ramp[:7], torch.arange(1, 8) / 8) and torch.allclose(ramp[-7:].flip(0), torch.arange(1, 8) / 8)
    assert (ramp[7:-7] == 1).all()
    assert (tiles._ramp(slice(0, 64), 200, 7)[:8] == 1).all() and (tiles._ramp(slice(136, 200), 200, 7)[-8:] == 1).all()


def tiled_by_own_moments(night: Translator, x: Tensor) -> Tensor:
    """What happens without shared moments: every tile normalises itself."""
    total, weight = torch.zeros_like(x), torch.zeros(x.shape[-2:])
    for rows, columns in tiles._windows(x.shape[-2], x.shape[-1], night.tile, night.overlap):
        ramp = tiles._ramp(rows, x.shape[-2], night.overlap)[:, None] * tiles._ramp(columns, x.shape[-1], night.overlap)[None]
        total[:, rows, columns] += ramp * night._whole(x[:, rows, columns])
        weight[rows, columns] += ramp
    return total / weight


@pytest.mark.parametrize("kind", ["resnet", "light", "bilateral"])
def test_tiles_that_share_their_moments_are_close_to_the_whole(kind):
    made, x = config(generator=kind), scene(3, 200, 312)
    whole, night = translator(made).translate(x), translator(made, tile=128, overlap=32)
    shared = (night.translate(x) - whole).abs().mean().item()
    with torch.inference_mode():
        own = (tiled_by_own_moments(night, x) - whole).abs().mean().item()
    assert shared < 0.5 * own
    assert shared < 0.25 * whole.std().item()


def test_there_is_no_seam_where_tiles_meet():
    made, x = config(), scene(3, 96, 400)
    y = translator(made, tile=128, overlap=32).translate(x)
    steps = (y[..., 1:] - y[..., :-1]).abs().mean((0, 1))
    borders = [edge - 1 for span in tiles._spans(400, 128, 32) for edge in (span.start, span.stop) if 0 < edge < 400]
    assert borders
    assert steps[borders].max() < steps.mean() + 4 * steps.std()
    assert steps[borders].mean() < 1.25 * steps.mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 5000), (8, 600), (17, 300), (300, 20)])
def test_a_strip_that_is_long_and_thin_is_tiled_too(kind, size):
    night = translator(config(generator=kind), tile=64, overlap=16)
    y = night.translate(noise(3, *size))
    assert y.shape == (3, *size) and y.isfinite().all()


def test_a_recording_is_tiled_by_its_area_not_by_its_length():
    night, seen = translator(tile=64, overlap=16), []
    night.generator.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    night.translate(noise(3, 16, 256))                      # 64 x 64 values, as many as one tile holds
    assert seen == [(16, 256)]
    night.translate(noise(3, 16, 272))
    assert len(seen) > 2


def test_tiles_of_a_ring_meet_behind_the_scanner():
    ring = {"modality": "grids:Ring"}
    made, x = config(a=ring, b=ring), noise(3, 64, 320)
    whole = translator(made).translate(x)
    tiled = translator(made, tile=128, overlap=64).translate(x)
    error = (tiled - whole).abs().mean((0, 1))
    seam = torch.cat([error[:8], error[-8:]]).mean()
    assert tiled.shape == whole.shape
    assert seam < 2 * error.mean()


def test_moments_are_forgotten_after_a_tiled_translation_also_after_an_error(monkeypatch):
    night = translator(tile=64, overlap=16)
    night.translate(scene(3, 100, 100))
    norms = [module for module in night.generator.modules() if isinstance(module, nets.InstanceNorm)]
    assert norms and all(norm.moments is None for norm in norms)
    monkeypatch.setattr(tiles, "_ramp", None)
    with pytest.raises(TypeError):
        night.translate(scene(3, 100, 100))
    assert all(norm.moments is None for norm in norms)


@pytest.mark.parametrize("tile, overlap", [(16, 0), (128, 120), (128, -1), (0, 0)])
def test_tiles_that_cannot_cover_anything_are_refused(tile, overlap):
    with pytest.raises(UserError, match=f"tile {tile} with overlap {overlap} is not possible: tile is 64 or more, overlap at most half"):
        translator(tile=tile, overlap=overlap)


# Models that come from elsewhere


def test_a_recording_goes_through_its_own_codec(tmp_path):
    image = {"modality": "image", "size": 32}
    made = from_dict({"name": "x", "a": {"name": "a"} | image, "b": {"name": "b"} | image, "model": {"width": 4, "blocks": 1}})
    night = translator(made)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)).save(tmp_path / "day.png")
    translated = night(night.source.load(tmp_path / "day.png"))
    night.target.save(translated, tmp_path / "night.png")
    with Image.open(tmp_path / "night.png") as opened:
        assert opened.size == (34, 21) and opened.mode == "RGB"


def test_an_exported_model_translates_to_the_same_bytes_and_has_the_same_hash(tmp_path):
    night, x = translator(config(generator="light")), scene(3, 40, 52)
    assert export(night, "safetensors", tmp_path / "night.safetensors") == 0
    again = Translator.load(tmp_path / "night.safetensors", "ab", device="cpu")
    assert again.sha256 == night.sha256
    assert again.config == night.config
    assert torch.equal(again.translate(x), night.translate(x))


def test_other_weights_have_another_hash_and_the_order_of_names_does_not_matter():
    made = config()
    one, other = translator(made, seed=0), translator(made, seed=1)
    weights = one.generator.state_dict()
    again = Translator(made, "ab", dict(reversed(weights.items())), device="cpu")
    assert one.sha256 == again.sha256 != other.sha256


def test_a_file_of_random_bytes_is_not_a_model(tmp_path):
    path = tmp_path / "x.safetensors"
    for content in (b"", b"\x00", b"\xff" * 64, np.random.default_rng(0).bytes(4096), b"\x02\x00\x00\x00\x00\x00\x00\x00{}"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"x\.safetensors.*`mmcycle export --to safetensors`"):
            Translator.load(path, "ab", device="cpu")


def hostile(path, header: str | None, weights: dict[str, Tensor] | None = None) -> None:
    save_file(weights or {"x": torch.zeros(1)}, path, metadata=None if header is None else {"mmcycle": header})


@pytest.mark.parametrize("header", [None, "", "{", "[]", "null", "3", '{"direction": "ab"}', "[" * 100_000, '{"config": 1e999'])
def test_a_header_without_a_config_is_refused(tmp_path, header):
    hostile(tmp_path / "x.safetensors", header)
    with pytest.raises(UserError, match=r"x\.safetensors"):
        Translator.load(tmp_path / "x.safetensors", "ab", device="cpu")


@pytest.mark.parametrize("values", [None, [], {}, {"name": "x"}, {"name": "x", "a": 1, "b": 2}, {"a": {"a": {"a": {"a": {"a": {}}}}}}])
def test_a_header_with_a_broken_config_is_refused_with_its_file(tmp_path, values):
    hostile(tmp_path / "x.safetensors", json.dumps({"direction": "ab", "config": values}))
    with pytest.raises(UserError, match=r"x\.safetensors"):
        Translator.load(tmp_path / "x.safetensors", "ab", device="cpu")


def test_the_other_direction_and_an_unknown_one_are_refused(tmp_path):
    export(translator(), "safetensors", tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="holds direction 'ab', asked for 'ba'"):
        Translator.load(tmp_path / "x.safetensors", "ba", device="cpu")
    with pytest.raises(UserError, match="direction 'aa' is unknown: ab or ba"):
        Translator.load(tmp_path / "x.safetensors", "aa", device="cpu")


def test_weights_that_do_not_fit_their_config_are_refused(tmp_path):
    export(translator(), "safetensors", tmp_path / "x.safetensors")
    header = json.dumps({"direction": "ab", "config": to_dict(config(width=8))})
    hostile(tmp_path / "y.safetensors", header, translator().generator.state_dict())
    with pytest.raises(UserError, match=r"y\.safetensors: its weights do not fit its config"):
        Translator.load(tmp_path / "y.safetensors", "ab", device="cpu")
    hostile(tmp_path / "y.safetensors", header, {"encoder": torch.zeros(2, dtype=torch.bfloat16)})
    with pytest.raises(UserError, match="its weights do not fit its config"):
        Translator.load(tmp_path / "y.safetensors", "ab", device="cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value):
    made = config(generator="resnet")
    weights = translator(made).generator.state_dict()
    weights["decoder.head.1.bias"] = torch.full_like(weights["decoder.head.1.bias"], value)
    with pytest.raises(UserError, match=r"its weights hold NaN or infinity \(decoder.head.1.bias\)"):
        Translator(made, "ab", weights, device="cpu")


def run_of(folder, state):
    weights = {f"ab.{name}": value for name, value in translator().generator.state_dict().items()}
    saved = Checkpoint(step=1, networks={}, averages=weights, optimisers={}, rank={"x": torch.zeros(1)}, state=state)
    checkpoint.save(folder / "checkpoints", saved, rank=0, world=1, keep=1, wait=lambda: None)


def test_a_run_whose_state_holds_no_config_is_refused_by_name(tmp_path):
    run_of(tmp_path / "run", {})
    with pytest.raises(UserError, match=r"step-00000001/state\.json: expected the sections of a config"):
        Translator.load(tmp_path / "run", "ab", device="cpu")


@pytest.mark.parametrize("name", ["runs.stranger.evil:Evil", "runs.stranger.package.evil:Evil", "runs.link.evil:Evil"])
def test_a_run_of_a_stranger_has_none_of_its_code_imported(tmp_path, monkeypatch, name):
    run = tmp_path / "runs/stranger"
    values = to_dict(config())
    run_of(run, {"config": values | {"b": values["b"] | {"modality": name}}})
    for place in (run / "evil.py", run / "package/__init__.py", run / "package/evil.py"):
        place.parent.mkdir(exist_ok=True)
        place.write_text("raise SystemExit('I was run')")
    (tmp_path / "runs/link").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, ""])       # as the command line does
    with pytest.raises(UserError, match=f"b.modality: '{name}' lies in the run itself, and a run must not bring code"):
        Translator.load(run, "ab", device="cpu")


def test_a_sensor_beside_the_runs_is_still_found(tmp_path):
    run_of(tmp_path / "run", {"config": to_dict(config())})     # grids:Grid, from this folder of tests
    assert isinstance(Translator.load(tmp_path / "run", "ab", device="cpu").source, Grid)


def test_a_run_without_a_checkpoint_is_told_what_to_do(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="holds no whole checkpoint.*Train first: mmcycle train CONFIG --out"):
            Translator.load(folder, "ab", device="cpu")


def test_grids_are_read_as_they_were_saved(tmp_path):
    x = noise(3, 16, 16)
    Grid().save(x, tmp_path / "x.grid")
    assert torch.equal(Grid().load(tmp_path / "x.grid"), x)
