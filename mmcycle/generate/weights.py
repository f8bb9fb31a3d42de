"""The weights of one direction and their config, read from a run, an exported file, a shared folder or the Hub.

Whatever holds them may come from a stranger: it is tensors and JSON, and what does not fit together is refused by name.
"""
import hashlib
import json
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmcycle.config import Config, from_dict
from mmcycle.errors import UserError, need
from mmcycle.train import checkpoint

Which = Literal["last", "best"]
Weights = dict[str, Tensor]
METADATA = "mmcycle"                # the key of an exported file's header
MODEL, ABOUT = "model.safetensors", "config.json"       # of a shared folder: all that is read of it
MOST_ABOUT = 1 << 20                # bytes


class Trained(NamedTuple):
    """What a checkpoint holds for translating: the weights of each direction, by the names of a generator's parameters.

    state  what else it says of the run: "step", "versions"
    """

    config: Config
    weights: dict[str, Weights]
    state: dict[str, Any]


def read_weights(run: Path, direction: str, which: str) -> tuple[Config, Weights]:
    """Of a run folder the checkpoint `which`; what was exported holds one state."""
    if direction not in ("ab", "ba"):
        raise UserError(f"direction {direction!r} is unknown: ab or ba")
    if which not in ("last", "best"):
        raise UserError(f"checkpoint {which!r} is unknown: last or best")
    if run.is_file():
        return _read_exported(run, direction)
    if (run / MODEL).is_file():
        return _read_shared(run, direction)
    found = read_run(run, which)
    if direction not in found.weights:
        raise UserError(f"{run} was trained one way (loss.consistency nce or none): it has no direction {direction!r}")
    return found.config, found.weights[direction]


def read_run(run: Path, which: str) -> Trained:
    """A checkpoint of a run folder, as much of it as translates."""
    path, averages, state, damaged = checkpoint.find_averages(run / "checkpoints", best=which == "best")
    if path is None:
        advice = "It is written every run.evaluate_every steps; take the last one, or train with more steps than that"
        if which == "last":
            advice = f"Train first: mmcycle train CONFIG --out {run}"
        found = f"; {damaged[0]}" if damaged else ""
        raise UserError(f"{run} holds no whole {'best ' if which == 'best' else ''}checkpoint{found}. {advice}")
    config = from_dict(state.get("config"), f"{path}/state.json", run=run)
    weights = {direction: _of(averages, direction) for direction in ("ab", "ba")}
    return Trained(config, {direction: found for direction, found in weights.items() if found}, state)


def digest(weights: Weights) -> str:
    """SHA-256 over names and bytes: the same for a run and for what was exported from it."""
    told = hashlib.sha256()
    for name in sorted(weights):
        told.update(name.encode())
        told.update(weights[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return told.hexdigest()


def fetched(name: str, revision: str | None) -> Path:
    """A model of the Hub, "user/name" -> the folder of its two files in the Hub's own cache."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise UserError(f"{name} does not exist, and it is no name of a model on the Hub, such as 'user/day_to_night'")
    hub = need("huggingface_hub", f"{name} does not exist here, and a model of the Hub", "mmcycle[hf]")
    try:
        folder = Path(hub.snapshot_download(name, revision=revision, allow_patterns=[MODEL, ABOUT]))
    except Exception as error:              # whatever a network, a cache and a library of many versions may raise
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            f"{name} does not exist here, and no model of that name could be had from the Hub ({why}). Correct the "
            "name, log in where it is private, or fetch it once while there is a network"
        ) from error
    if not (folder / MODEL).is_file():
        raise UserError(f"{name} has no {MODEL} on the Hub: it was not made by `mmcycle export --to hub`")
    return folder


def _read_exported(file: Path, direction: str) -> tuple[Config, Weights]:
    header, weights = _opened(file, "safetensors")
    if header.get("direction") != direction:
        raise UserError(f"{file} holds direction {header.get('direction')!r}, asked for {direction!r}")
    return from_dict(header["config"], str(file)), weights


def _read_shared(folder: Path, direction: str) -> tuple[Config, Weights]:
    """A folder that was shared: its config tells the SHA-256 of each direction, so a half copied one is noticed."""
    about, (header, both) = _read_about(folder / ABOUT), _opened(folder / MODEL, "hub", f"{direction}.")
    weights, told = _of(both, direction), about.get("sha256")
    told = told if isinstance(told, dict) else {}
    if not weights and direction not in told:
        raise UserError(f"{folder} was trained one way: it has no direction {direction!r}")
    if told.get(direction) != digest(weights) or header["config"] != about.get("config"):
        raise UserError(f"{folder}: {MODEL} is not the one that {ABOUT} tells of; copy or download both again")
    return from_dict(header["config"], str(folder / MODEL), run=folder), weights


def _read_about(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            about = json.loads(file.read(MOST_ABOUT))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}. It belongs beside {MODEL}: copy or download both") from error
    if not isinstance(about, dict):
        raise UserError(f"{path} holds {type(about).__name__}, expected what `mmcycle export --to hub` writes")
    return about


def _opened(file: Path, to: str, start: str = "") -> tuple[dict[str, Any], Weights]:
    """Header of an exported file, and those of its tensors whose names begin so."""
    try:
        with safe_open(file, "pt") as opened:
            header = json.loads((opened.metadata() or {}).get(METADATA, "{}"))
            weights = {name: opened.get_tensor(name) for name in opened.keys() if name.startswith(start)}
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is not a model made by `mmcycle export --to {to}`: {error}") from error
    if not isinstance(header, dict) or "config" not in header:
        raise UserError(f"{file} was not made by `mmcycle export --to {to}`: its header holds no config")
    return header, weights


def _of(averages: Weights, direction: str) -> Weights:
    """"ab.encoder.0.weight" -> "encoder.0.weight", of one direction."""
    start = f"{direction}."
    return {name.removeprefix(start): value for name, value in averages.items() if name.startswith(start)}
