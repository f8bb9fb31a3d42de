"""A trained model for others: a direction as one file (ONNX, torch.export, safetensors), or all as a folder to share.

Each is compared with torch before it is kept.
"""
import contextlib
import io
import json
import logging
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.export import Dim

from mmcycle import __version__
from mmcycle.config import to_dict
from mmcycle.core import nets
from mmcycle.errors import MmcycleError, UserError, need
from mmcycle.files import write_atomic, write_folder, write_json, write_text
from mmcycle.generate.model_card import Shared, model_card
from mmcycle.generate.translator import Translator
from mmcycle.generate.weights import ABOUT, METADATA, MODEL, Which, read_run

Format = Literal["onnx", "pt2", "safetensors"]
TOLERANCE = 1e-3                    # largest difference from torch on [-1, 1]


def export(translator: Translator, to: Format, file: Path) -> float:
    """Write `file`, return its largest difference from torch; MmcycleError when that is over 1e-3, and nothing is kept.

    ONNX and pt2 take (B, C, H, W) in [-1, 1]; B is free, and so are H and W, multiples of the stride, where both
    domains share one grid. The config travels inside every format.
    """
    writers = {"onnx": _write_onnx, "pt2": _write_pt2, "safetensors": _write_safetensors}
    if to not in writers:
        raise UserError(f"cannot export to {to!r}: choose one of {', '.join(writers)}")
    if translator.generator.head is not None and to != "safetensors":
        raise UserError(
            f"{translator.run or 'this model'} plans what happens to a recording itself, which {to} cannot "
            "hold; export it --to safetensors, which Translator.load reads"
        )
    differences: list[float] = []
    try:
        write_atomic(file, lambda temporary: differences.append(_checked(writers[to](translator, temporary), to)))
    finally:
        translator.generator.to(translator.device)      # the writers work on the CPU
    return differences[0]


def share(run: Path, folder: Path, *, which: Which = "last", license: str | None = None) -> float:
    """Write `folder` as the Hugging Face Hub wants a model -> the largest difference from torch, which is 0.

    It holds all directions of a training run, its config without the places of recordings, and a model card that tells
    what the run says of itself; `license` is a name of the Hub's, such as "apache-2.0". UserError where `folder` holds
    anything already.
    """
    if not (run / "checkpoints").is_dir():
        raise UserError(f"{run} is no run folder; --to hub needs one, because the card tells how the model was trained")
    if license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,63}", license):
        raise UserError(f"license {license[:80]!r} is no name of the Hub's, such as apache-2.0, cc-by-nc-4.0 or other")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty; name a new folder, nothing is overwritten")
    trained = read_run(run, which)
    config = replace(trained.config, a=replace(trained.config.a, root=None), b=replace(trained.config.b, root=None))
    made = {
        direction: Translator(config, direction, weights, run=run.name, device="cpu")
        for direction, weights in trained.weights.items()
    }
    sha256 = {direction: one.sha256 for direction, one in made.items()}
    shared = Shared(config, trained.state["step"], sha256, trained.state.get("versions"), MODEL, license)
    told = {"library_name": "mmcycle", "version": __version__, "sha256": sha256, "config": to_dict(config)}
    differences: list[float] = []

    def fill(temporary: Path) -> None:
        weights = {
            f"{direction}.{name}": value for direction, one in trained.weights.items() for name, value in one.items()
        }
        _save(weights, temporary / MODEL, {"version": __version__, "directions": list(made), "config": to_dict(config)})
        write_json(temporary / ABOUT, told)
        write_text(temporary / "README.md", model_card(shared, run))
        for direction, one in made.items():
            again = Translator.load(temporary, direction, device="cpu")
            differences.append(_checked(_difference(one, again.generator, _examples(one)[:2]), "shared"))

    write_folder(folder, fill)
    return max(differences)


def _checked(difference: float, to: str) -> float:
    if not difference <= TOLERANCE:
        raise MmcycleError(
            f"the {to} model differs from torch by {difference:.2g}, more than {TOLERANCE:g}; it was not kept"
        )
    return difference


def _write_onnx(translator: Translator, path: Path) -> float:
    onnxruntime = need("onnxruntime", "export --to onnx", "mmcycle[export]")
    need("onnxscript", "export --to onnx", "mmcycle[export]")
    example, other, free = _examples(translator)
    with _quiet():
        program = torch.onnx.export(
            translator.generator, (example,), dynamo=True, dynamic_shapes=free, input_names=["source"],
            output_names=["translation"], verbose=False,
        )
    program.model.metadata_props[METADATA] = json.dumps(_about(translator))
    program.save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def model(x: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"source": x.numpy()})[0])

    return _difference(translator, model, (example, other))


def _write_pt2(translator: Translator, path: Path) -> float:
    example, other, free = _examples(translator)
    program = torch.export.export(translator.generator, (example,), dynamic_shapes=free)
    torch.export.save(program, path, extra_files={METADATA: json.dumps(_about(translator))})
    return _difference(translator, program.module(), (example, other))


def _write_safetensors(translator: Translator, path: Path) -> float:
    _save(translator.generator.cpu().state_dict(), path, _about(translator))
    example, other, _ = _examples(translator)
    again = Translator.load(path, translator.direction, device="cpu")
    return _difference(translator, again.generator, (example, other))


def _save(weights: dict[str, Tensor], path: Path, about: dict[str, Any]) -> None:
    try:
        save_file({name: value.contiguous() for name, value in weights.items()}, path, {METADATA: json.dumps(about)})
    except SafetensorError as error:            # a full disk, for one: files.py tells of an OSError
        raise OSError(str(error)) from error


def _about(translator: Translator) -> dict[str, Any]:
    return {"version": __version__, "direction": translator.direction, "config": to_dict(translator.config)}


def _examples(translator: Translator) -> tuple[Tensor, Tensor, Any]:
    """Two batches of different sizes and what may change between them."""
    translator.generator.cpu()
    rng = torch.Generator().manual_seed(0)
    channels, height, width = translator.source.shape
    example = torch.rand(2, channels, height, width, generator=rng) * 2 - 1
    batch = Dim("batch", min=1, max=1024)
    if not translator.extensive or translator.generator.head is not None:       # a head may know one grid only
        return example, torch.rand(3, channels, height, width, generator=rng) * 2 - 1, ({0: batch},)
    stride = nets.STRIDE[translator.config.model.generator]
    free = {0: batch, 2: stride * Dim("rows", min=2, max=4096), 3: stride * Dim("columns", min=2, max=4096)}
    other = torch.rand(3, channels, height + 2 * stride, width + stride, generator=rng) * 2 - 1
    return example, other, (free,)


@torch.inference_mode()
def _difference(translator: Translator, model: Any, batches: tuple[Tensor, ...]) -> float:
    return max((model(x.clone()) - translator.generator(x)).abs().max().item() for x in batches)


@contextlib.contextmanager
def _quiet():
    """The exporter talks a lot about what it does not need."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
