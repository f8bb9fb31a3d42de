"""A direction as one file for other programs, checked against torch before it is kept."""
import importlib.util
import json

import pytest
import torch
from grids import config, noise, translator
from safetensors import safe_open

from mmcycle.config import from_dict
from mmcycle.core import nets
from mmcycle.errors import MmcycleError, UserError
from mmcycle.generate import export as exporting
from mmcycle.generate.export import export
from mmcycle.generate.translator import Translator


def smallest():
    side = {"height": 16, "width": 16}
    return config(side, side)


def test_safetensors_hold_the_weights_and_the_config_that_they_need(tmp_path):
    night = translator(smallest())
    assert export(night, "safetensors", tmp_path / "x.safetensors") == 0
    with safe_open(tmp_path / "x.safetensors", "pt") as opened:
        header = json.loads(opened.metadata()["mmcycle"])
        assert set(opened.keys()) == set(night.generator.state_dict())
    assert header["direction"] == "ab" and from_dict(header["config"]) == night.config
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_each_direction_is_exported_with_its_own_name(tmp_path):
    made = config({"channels": 2, "height": 16, "width": 64})
    for direction in ("ab", "ba"):
        export(translator(made, direction), "safetensors", tmp_path / direction)
        again = Translator.load(tmp_path / direction, direction, device="cpu")
        assert again.source == translator(made, direction).source


def test_pt2_runs_at_two_sizes_as_torch_does_and_carries_its_config(tmp_path):
    night = translator(smallest())
    assert export(night, "pt2", tmp_path / "x.pt2") < 1e-5
    extra = {"mmcycle": ""}
    program = torch.export.load(tmp_path / "x.pt2", extra_files=extra).module()
    for batch, height, width in ((1, 16, 16), (3, 24, 20)):
        x = noise(batch, 3, height, width)
        torch.testing.assert_close(program(x), night.generator(x), atol=1e-5, rtol=0)
    assert from_dict(json.loads(extra["mmcycle"])["config"]) == night.config


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed")
def test_onnx_runs_at_two_sizes_as_torch_does_and_carries_its_config(tmp_path):
    import onnxruntime

    night = translator(smallest())
    assert export(night, "onnx", tmp_path / "x.onnx") < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "x.onnx"), providers=["CPUExecutionProvider"])
    for batch, height, width in ((1, 16, 16), (3, 24, 20)):
        x = noise(batch, 3, height, width)
        (y,) = session.run(None, {"source": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), night.generator(x), atol=1e-4, rtol=0)
    header = json.loads(session.get_modelmeta().custom_metadata_map["mmcycle"])
    assert from_dict(header["config"]) == night.config


@pytest.mark.parametrize("difference", [0.5, float("nan")])
def test_a_model_that_differs_from_torch_is_not_kept(tmp_path, monkeypatch, difference):
    target = tmp_path / "x.safetensors"
    target.write_bytes(b"old")
    monkeypatch.setattr(exporting, "_difference", lambda *_: difference)
    with pytest.raises(MmcycleError, match="the safetensors model differs from torch by .*, more than 0.001; it was not kept"):
        export(translator(smallest()), "safetensors", target)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_the_difference_is_that_of_every_example():
    night = translator(smallest())
    first, second = noise(1, 3, 16, 16), noise(1, 3, 24, 16)

    def off(x: torch.Tensor) -> torch.Tensor:
        return night.generator(x) + (0.25 if x.shape[-2] == 24 else 0)

    assert exporting._difference(night, off, (first, second)) == pytest.approx(0.25, abs=1e-6)


def test_an_unknown_format_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="cannot export to 'tflite': choose one of onnx, pt2, safetensors"):
        export(translator(smallest()), "tflite", tmp_path / "x")


def test_onnx_without_its_libraries_says_what_to_install(tmp_path, monkeypatch):
    def absent(module: str, purpose: str, install: str):
        raise UserError(f"{purpose} needs {install}")

    monkeypatch.setattr(exporting, "need", absent)
    with pytest.raises(UserError, match=r"export --to onnx needs mmcycle\[export\]"):
        export(translator(smallest()), "onnx", tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_exporting_leaves_the_translator_as_it_was(tmp_path):
    night, x = translator(smallest()), noise(3, 17, 20)
    before = night.translate(x)
    export(night, "safetensors", tmp_path / "x.safetensors")
    assert torch.equal(night.translate(x), before)
    assert next(night.generator.parameters()).device == night.device


@pytest.mark.parametrize("kind", ["resnet", "unet", "light", "bilateral"])
def test_examples_differ_in_every_side_that_is_free(kind):
    side = {"height": 32, "width": 32}
    example, other, free = exporting._examples(translator(config(side, side, generator=kind)))
    stride = nets.STRIDE[kind]
    assert all(one != two for one, two in zip(example.shape[2:], other.shape[2:]))
    assert example.shape[0] != other.shape[0] and set(free[0]) == {0, 2, 3}
    assert all(size % stride == 0 for size in (*example.shape[2:], *other.shape[2:]))


def test_between_two_grids_only_the_batch_is_free():
    across = translator(config({"channels": 2, "height": 16, "width": 64}))
    example, other, free = exporting._examples(across)
    assert example.shape[1:] == other.shape[1:] == (2, 16, 64)
    assert set(free[0]) == {0}
