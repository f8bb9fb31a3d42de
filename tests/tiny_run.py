"""Training runs small enough for a test: photographs of noise, networks a few channels wide, a dozen steps.

`trained` trains here; `start` runs the command line in a process of its own, forked from one that has imported torch.
"""
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from mmcycle.config import Config, load_config
from mmcycle.train import checkpoint
from mmcycle.train.trainer import train

YAML = """\
name: tiny
a: {{name: day, root: {root}/day, modality: image, size: 32}}
b: {{name: night, root: {root}/night, modality: image, size: 32}}
model: {{generator: light, width: 4, blocks: 1, discriminator_width: 4, discriminator_layers: 1}}
train: {{steps: 12, replay: 4, lr: 1.0e-2}}
data: {{workers: 0}}
run: {{accelerator: cpu, devices: 1, log_every: 1, sample_every: 1000, save_every: 4, save_minutes: 1000, keep: 100}}
"""
TIMES = ("time", "seconds_per_step")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["mmcycle.cli", "mmcycle.train.trainer", "mmcycle.modalities.image", "mmcycle.generate.dataset"])


def photographs(folder: Path, count: int = 8, seed: int = 0, size: int = 40) -> Path:
    """Pictures of noise, equal for equal seeds."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return folder


def tiny_yaml(root: Path) -> Path:
    """Two domains of eight photographs below `root`, and the config that trains on them."""
    photographs(root / "day", seed=1)
    photographs(root / "night", seed=2)
    path = root / "tiny.yaml"
    path.write_text(YAML.format(root=root), encoding="utf-8")
    return path


def tiny(root: Path, *overrides: str) -> Config:
    """The config, read as the command line reads it; the photographs are made once."""
    path = root / "tiny.yaml"
    return load_config(path if path.exists() else tiny_yaml(root), overrides)


def trained(root: Path, name: str, *overrides: str, fresh: bool = False) -> Path:
    """Train to the end in this process, on one thread as `start` does -> the run."""
    torch.set_num_threads(1)
    train(tiny(root, *overrides), root / name, fresh=fresh)
    return root / name


def start(root: Path, *words: str, environment: Mapping[str, str] | None = None) -> BaseProcess:
    """`mmcycle WORDS...` in a process of its own; what it says is added to root/said."""
    process = PROCESSES.Process(target=_command_line, args=(words, root / "said", dict(environment or {})))
    process.start()
    return process


def start_training(root: Path, name: str, *overrides: str, environment: Mapping[str, str] | None = None) -> BaseProcess:
    """`mmcycle train` on the tiny config, into root/name."""
    tiny(root)
    return start(root, "train", str(root / "tiny.yaml"), "--out", str(root / name), *overrides, environment=environment)


def ended(process: BaseProcess, seconds: float = 120) -> int:
    """The exit code of a process, waited for."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"still running after {seconds} s")
    return process.exitcode


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Look again and again, without a pause worth speaking of."""
    begun = time.monotonic()
    while not true():
        if time.monotonic() - begun > seconds:
            raise TimeoutError(f"nothing happened in {seconds} s")
        time.sleep(0.0005)


def tensors(run: Path, step: int, part: str) -> dict[str, Tensor]:
    """A part of a checkpoint, read without the code under test."""
    return load_file(run / "checkpoints" / checkpoint.name_of(step) / f"{part}.safetensors")


def rows(run: Path, event: str | None = None) -> list[dict[str, Any]]:
    """The rows of the log without what a clock says; those of one kind of event, or those of the steps."""
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    found = [row for row in map(json.loads, lines) if row.get("event") == event]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in found]


def steps_saved(run: Path) -> list[int]:
    """The steps of which there is a checkpoint."""
    return sorted(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*"))


def differences(run: Path, other: Path, step: int) -> list[str]:
    """The files of two runs' checkpoints that are not equal byte for byte, and "log" when the logs tell different losses."""
    found = [] if rows(run) == rows(other) else ["log"]
    ours, theirs = (path / "checkpoints" / checkpoint.name_of(step) for path in (run, other))
    names = {path.name for path in (*ours.iterdir(), *theirs.iterdir())}
    return found + sorted(name for name in names if _bytes(ours / name) != _bytes(theirs / name))


def leftovers(run: Path) -> list[Path]:
    """What a kill left behind of files that were being written."""
    return list(run.rglob(".tmp-*"))


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _command_line(words: tuple[str, ...], said: Path, environment: dict[str, str]) -> None:
    with said.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    multiprocessing.set_start_method(None, force=True)      # forget ours: the code under test has its own
    torch.set_num_threads(1)
    from mmcycle.cli import main

    sys.argv = ["mmcycle", *words]
    main()
