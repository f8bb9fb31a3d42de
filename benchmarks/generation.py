"""Images a second of `generate` with one and two workers, and where the time of one image goes.

    python benchmarks/generation.py [--images 60] [--size 320x240] [--generator light]
"""
import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")         # as the command line does, before torch is imported

import numpy as np
import torch
from PIL import Image as Pillow

from mmcycle.config import from_dict, to_dict
from mmcycle.core.model import CycleModel
from mmcycle.generate.dataset import generate
from mmcycle.generate.translator import Translator
from mmcycle.train import checkpoint


def a_run(folder: Path, generator: str) -> Path:
    """A run with random weights: the arithmetic is that of a trained one."""
    image = {"modality": "image", "size": 128}
    config = from_dict({
        "name": "benchmark", "a": {"name": "a", **image}, "b": {"name": "b", **image},
        "model": {"generator": generator},
    })
    torch.manual_seed(0)
    model = CycleModel(config.a.modality, config.b.modality, config.model, config.loss)
    averages = {f"ab.{name}": value for name, value in model.gen_ab.state_dict().items()}
    state = checkpoint.Checkpoint(
        step=1, networks={}, averages=averages, optimisers={}, rank={"none": torch.zeros(1)},
        state={"config": to_dict(config)},
    )
    checkpoint.save(folder / "checkpoints", state, rank=0, world=1, keep=1, wait=lambda: None)
    return folder


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=60)
    options.add_argument("--size", default="320x240")
    options.add_argument("--generator", default="light")
    chosen = options.parse_args()
    width, height = map(int, chosen.size.split("x"))
    folder = Path(tempfile.mkdtemp())
    rng = np.random.default_rng(0)
    (folder / "day").mkdir()
    for index in range(chosen.images):
        smooth = Pillow.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)).resize((width, height))
        smooth.save(folder / "day" / f"{index:04d}.jpg", quality=92)
    run = a_run(folder / "run", chosen.generator)

    translator = Translator.load(run)
    stages = {"decode": 0.0, "model": 0.0, "encode": 0.0}
    for path in sorted((folder / "day").iterdir())[:20]:
        times = [time.perf_counter()]
        raw = translator.source.load(path)
        times.append(time.perf_counter())
        raw = translator(raw)
        times.append(time.perf_counter())
        translator.target.save(raw, folder / "out.jpg")
        times.append(time.perf_counter())
        for stage, begun, ended in zip(stages, times, times[1:]):
            stages[stage] += (ended - begun) / 20
    machine = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    print(f"{chosen.images} images of {chosen.size}, {chosen.generator}, {machine}")
    print("one image: " + ", ".join(f"{stage} {1000 * spent:.1f} ms" for stage, spent in stages.items()))
    for workers in (1, 2):
        begun = time.perf_counter()
        generate(folder / "day", folder / f"out{workers}", {"image": f"{run}:ab"}, devices=workers)
        spent = time.perf_counter() - begun
        pace = f"{chosen.images / spent:.1f} images/s, start-up included ({spent:.1f} s)"
        print(f"generate, {workers} worker{'s' * (workers > 1)}: {pace}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
