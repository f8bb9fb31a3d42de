"""A run's whole state in one folder that is there entirely or not at all: safetensors and JSON, with a SHA-256 for each file.

    checkpoints/step-00002000/  networks.safetensors  averages.safetensors  optimisers.safetensors  rank-0.safetensors
                                state.json  sums.json
"""
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmcycle.errors import MmcycleError, UserError
from mmcycle.files import sha256, write_atomic, write_folder

FORMAT = 1
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
    """Write folder/step-XXXXXXXX; each rank brings its own part, rank 0 commits; older ones beyond `keep` are removed."""
    part = folder / f".tmp-rank-{rank}.safetensors"
    write_atomic(part, lambda path: save_file(checkpoint.rank, path))
    wait()
    if rank == 0:
        write_folder(folder / name_of(checkpoint.step), lambda temporary: _fill(temporary, folder, checkpoint, world))
        for old in list(_newest_first(folder))[keep:]:
            shutil.rmtree(old, ignore_errors=True)
    wait()


def load(path: Path, rank: int = 0) -> Checkpoint:
    """Read one checkpoint after checking every file's SHA-256; UserError names the file that is damaged."""
    check(path)
    state = _json(path / "state.json")
    parts = {name: _tensors(path / f"{name}.safetensors") for name in ("networks", "averages", "optimisers", f"rank-{rank}")}
    return Checkpoint(
        step=state["step"], networks=parts["networks"], averages=parts["averages"], optimisers=parts["optimisers"],
        rank=parts[f"rank-{rank}"], state=state,
    )


def load_averages(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """The moving averages of the generators and the state: what a translator needs."""
    check(path)
    return _tensors(path / "averages.safetensors"), _json(path / "state.json")


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


def check(path: Path) -> None:
    """UserError unless every file of the checkpoint has the SHA-256 that was written beside it."""
    sums = _json(path / "sums.json")
    if sums.get("format", FORMAT + 1) > FORMAT:
        raise UserError(f"{path} was written in format {sums.get('format')}; this version reads up to {FORMAT}: upgrade mmcycle")
    for name, expected in sums["files"].items():
        file = path / Path(name).name
        if not file.is_file() or sha256(file) != expected:
            raise UserError(f"{file} is {'damaged' if file.is_file() else 'missing'}: it does not have the SHA-256 that was written")


def name_of(step: int) -> str:
    return f"step-{step:08d}"


def _fill(temporary: Path, folder: Path, checkpoint: Checkpoint, world: int) -> None:
    for name in ("networks", "averages", "optimisers"):
        save_file(getattr(checkpoint, name), temporary / f"{name}.safetensors")
    for rank in range(world):
        os.replace(folder / f".tmp-rank-{rank}.safetensors", temporary / f"rank-{rank}.safetensors")
    state = checkpoint.state | {"step": checkpoint.step, "world": world}
    (temporary / "state.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    sums = {"format": FORMAT, "files": {file.name: sha256(file) for file in sorted(temporary.iterdir())}}
    (temporary / "sums.json").write_text(json.dumps(sums, indent=2) + "\n", encoding="utf-8")


def _newest_first(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.glob("step-*"), reverse=True))


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
