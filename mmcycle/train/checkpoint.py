"""A run's whole state in one folder, there entirely or not at all: safetensors and JSON, a SHA-256 for each file.

    checkpoints/step-00002000/  networks.safetensors  averages.safetensors  optimisers.safetensors  rank-0.safetensors
                                state.json  sums.json
    checkpoints/best-00001000/  averages.safetensors  state.json  sums.json     by the score that state.json tells
"""
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmcycle.errors import MmcycleError, UserError
from mmcycle.files import sha256, write_atomic, write_folder

FORMAT = 1
PARTS = ("networks", "averages", "optimisers")
BEST = "best-"
Tensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What is needed to go on as if nothing had happened. Names of tensors are "part.parameter"."""

    step: int                       # steps done
    networks: Tensors               # generators, discriminators, patch heads, buffers
    averages: Tensors               # the generators' moving average
    optimisers: Tensors
    rank: Tensors                   # of this rank: replay buffers, random states
    state: dict[str, Any]           # config, versions, counters


def save(folder: Path, checkpoint: Checkpoint, *, rank: int, world: int, keep: int, wait: Any) -> None:
    """Write folder/step-XXXXXXXX; each rank brings its own part, rank 0 commits; older ones beyond `keep` are removed.

    Those of later steps go too: the run did not begin from them, so they were damaged.
    """
    part = folder / f".tmp-rank-{rank}.safetensors"
    write_atomic(part, lambda path: _write_tensors(checkpoint.rank, path))
    wait()
    if rank == 0:
        name = name_of(checkpoint.step)
        write_folder(folder / name, lambda temporary: _fill(temporary, folder, checkpoint, world))
        found = list(_newest_first(folder))
        kept = [path for path in found if path.name <= name][:keep]
        for path in found:
            if path not in kept:
                shutil.rmtree(path, ignore_errors=True)
    wait()


def load(path: Path, rank: int = 0, world: int = 1) -> Checkpoint:
    """Read one checkpoint after checking it; UserError names what is damaged, or says how many ranks it needs."""
    state = check(path)
    if state["world"] != world:
        raise UserError(f"{path} was written by {state['world']} ranks and {world} were started: start as many")
    parts = {name: _tensors(path / f"{name}.safetensors") for name in (*PARTS, f"rank-{rank}")}
    return Checkpoint(
        step=state["step"], networks=parts["networks"], averages=parts["averages"], optimisers=parts["optimisers"],
        rank=parts[f"rank-{rank}"], state=state,
    )


def save_best(folder: Path, step: int, averages: Tensors, state: dict[str, Any]) -> None:
    """Write folder/best-XXXXXXXX, what a translator needs and no more; state holds the "score" (lower is better).

    Only then those before it go, so that a kill leaves at least one.
    """
    new = folder / best_name_of(step)
    write_folder(new, lambda temporary: _fill_best(temporary, averages, state | {"step": step}))
    for path in folder.glob(f"{BEST}*"):
        if path != new:
            shutil.rmtree(path, ignore_errors=True)


def load_averages(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """The moving averages of the generators and the state: what a translator needs. Nothing else is looked at."""
    state = check(path, ("averages",))
    return _tensors(path / "averages.safetensors"), state


def find_averages(folder: Path, best: bool = False) -> tuple[Path | None, Tensors, dict[str, Any], list[str]]:
    """Of the newest checkpoint in which they are whole, or of the best one, with its state and what was passed over."""
    damaged: list[str] = []
    found: list[tuple[Path, Tensors, dict[str, Any]]] = []
    for path in sorted(folder.glob(f"{BEST}*")) if best else _newest_first(folder):
        try:
            found.append((path, *load_averages(path)))
        except UserError as error:
            damaged.append(str(error))
        if found and not best:
            break
    path, averages, state = min(found, key=lambda one: one[2].get("score", 0), default=(None, {}, {}))
    return path, averages, state, damaged


def newest_good(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose files are all what was written, and a sentence for each damaged one passed over."""
    damaged: list[str] = []
    for path in _newest_first(folder):
        try:
            check(path)
            return path, damaged
        except UserError as error:
            damaged.append(str(error))
    return None, damaged


def best_good(folder: Path) -> tuple[Path | None, float, list[str]]:
    """The best checkpoint that is whole, its score (infinity where there is none), a sentence for each damaged one."""
    damaged: list[str] = []
    found: list[tuple[float, Path]] = []
    for path in sorted(folder.glob(f"{BEST}*")):
        try:
            found.append((check(path)["score"], path))
        except UserError as error:
            damaged.append(str(error))
    score, path = min(found, default=(math.inf, None))
    return path, score, damaged


def check(path: Path, parts: Sequence[str] | None = None) -> dict[str, Any]:
    """The state; UserError unless every file that a checkpoint needs is there with the SHA-256 written beside it.

    parts  the only ones to be read and compared, for who needs no more; all of them where not given
    """
    best = path.name.startswith(BEST)
    sums = _sums(path)
    needed = ("state.json", *(f"{part}.safetensors" for part in (("averages",) if best else PARTS)))
    for name in dict.fromkeys((*needed, *sums)):
        if name not in sums:
            raise UserError(f"{path / 'sums.json'} does not list {name}, which every checkpoint has: it is damaged")
        if not (name == "state.json" or re.fullmatch(r"[a-z]+(-\d+)?\.safetensors", name)):
            raise UserError(f"{path / 'sums.json'} lists {name!r}, which is no file of a checkpoint: it is damaged")
        read = parts is None or name in ("state.json", *(f"{part}.safetensors" for part in parts))
        if read and _sum(path / name) != sums[name]:
            raise UserError(f"{path / name} is damaged or missing: it does not have the SHA-256 that was written")
    state = _json(path / "state.json")
    world, step = state.get("world"), state.get("step")
    if type(step) is not int or (best_name_of if best else name_of)(step) != path.name:
        raise UserError(f"{path} holds the state after step {step!r}: it is not the folder that was written")
    if best and not (type(state.get("score")) is float and math.isfinite(state["score"])):
        raise UserError(f"{path / 'state.json'} tells no score: it is damaged")
    if best:
        return state
    counted = type(world) is int and 1 <= world < len(sums)
    if not counted or any(f"rank-{rank}.safetensors" not in sums for rank in range(world)):
        raise UserError(f"{path} does not hold the states of {world!r} ranks, as its state.json says: it is damaged")
    return state


def name_of(step: int) -> str:
    return f"step-{step:08d}"


def best_name_of(step: int) -> str:
    return f"{BEST}{step:08d}"


def _fill_best(temporary: Path, averages: Tensors, state: dict[str, Any]) -> None:
    _write_tensors(averages, temporary / "averages.safetensors")
    _seal(temporary, state)


def _fill(temporary: Path, folder: Path, checkpoint: Checkpoint, world: int) -> None:
    for name in PARTS:
        _write_tensors(getattr(checkpoint, name), temporary / f"{name}.safetensors")
    for rank in range(world):
        os.replace(folder / f".tmp-rank-{rank}.safetensors", temporary / f"rank-{rank}.safetensors")
    _seal(temporary, checkpoint.state | {"step": checkpoint.step, "world": world})


def _seal(temporary: Path, state: dict[str, Any]) -> None:
    """Write the state, then the sums of all that is there."""
    (temporary / "state.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    sums = {"format": FORMAT, "files": {file.name: sha256(file) for file in sorted(temporary.iterdir())}}
    (temporary / "sums.json").write_text(json.dumps(sums, indent=2) + "\n", encoding="utf-8")


def _newest_first(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.glob("step-*"), reverse=True))


def _write_tensors(tensors: Tensors, path: Path) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:        # a full disk, for one: files.py tells of an OSError
        raise OSError(str(error)) from error


def _sums(path: Path) -> dict[str, Any]:
    """File name -> SHA-256, as written in sums.json."""
    sums = _json(path / "sums.json")
    known, files = sums.get("format"), sums.get("files")
    if type(known) is int and known > FORMAT:
        raise UserError(f"{path} was written in format {known}; this version reads up to {FORMAT}: upgrade mmcycle")
    if known != FORMAT or not isinstance(files, dict):
        raise UserError(f"{path / 'sums.json'} is damaged: it needs a format and the files with their SHA-256")
    return files


def _sum(file: Path) -> str | None:
    try:
        return sha256(file)
    except OSError:                         # missing, a folder, or the disk cannot read it
        return None


def _tensors(path: Path) -> Tensors:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise MmcycleError(f"{path} cannot be read: {error}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds {type(value).__name__}, expected an object")
    return value
