"""Seconds of sound a second of `generate` and `translate` on FLACs, and where the time goes.

    python benchmarks/sound.py [--audio FOLDER] [--minutes 10] [--rounds 5]

Without a folder of recordings, speech-like ones of 5 s at 16 kHz are made. The model is that of the recipe
clean_to_noisy with random weights: the arithmetic is that of a trained one. One thread.
"""
import argparse
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")         # as the command line does, before torch is imported

import numpy as np
import soundfile
import torch

from mmcycle.config import load_config, to_dict
from mmcycle.core.model import CycleModel
from mmcycle.generate.dataset import generate
from mmcycle.generate.single import translate_files
from mmcycle.generate.translator import Translator
from mmcycle.train import checkpoint

RATE = 16_000


def a_run(folder: Path) -> Path:
    """The recipe's networks with random weights, and styles 3 to 24 dB below the whole."""
    config = load_config("clean_to_noisy")
    torch.manual_seed(0)
    model = CycleModel(config.a.modality, config.b.modality, config.model, config.loss)
    head = model.gen_ab.head
    head.remember((-torch.linspace(0.1, 0.9, 16)[:, None]).expand(-1, head.styles.shape[1]))
    averages = {f"{way}.{name}": value
                for way, gen in model.generators.items() for name, value in gen.state_dict().items()}
    state = checkpoint.Checkpoint(
        step=1, networks={}, averages=averages, optimisers={}, rank={"none": torch.zeros(1)},
        state={"config": to_dict(config)},
    )
    checkpoint.save(folder / "checkpoints", state, rank=0, world=1, keep=1, wait=lambda: None)
    return folder


def recordings(folder: Path, found: Path | None, minutes: float) -> float:
    """Copy FLACs of `found` into `folder`, or make them -> their seconds together."""
    folder.mkdir()
    sources = sorted(found.rglob("*.flac"))[::7] if found else []
    total, index = 0.0, 0
    while total < 60 * minutes:
        target = folder / f"{index:05}.flac"
        if sources:
            shutil.copy(sources[index % len(sources)], target)
        else:
            soundfile.write(target, _voice(index), RATE)
        info = soundfile.info(target)
        total, index = total + info.frames / info.samplerate, index + 1
    return total


def _voice(seed: int, seconds: float = 5.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    moment = np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * n * rng.uniform(90, 220) * moment) / n for n in range(1, 12))
    return 0.1 * buzz * np.clip(np.sin(2 * np.pi * 3 * moment), 0, None) + 0.001 * rng.standard_normal(len(moment))


def stages(run: Path, paths: list[Path], out: Path, direction: str) -> dict[str, float]:
    """Seconds of processor time that all files together need in each stage."""
    translator = Translator.load(run, direction)
    spent = dict.fromkeys(("decode", "to log-mel", "network", "to wave", "encode"), 0.0)
    for index, path in enumerate(paths):
        times = [time.process_time()]
        raw = translator.source.load(path)
        times.append(time.process_time())
        x, context = translator.source.to_tensor(raw)
        times.append(time.process_time())
        with torch.inference_mode():
            rng = torch.Generator().manual_seed(index)
            plan = translator._plan(x, 1.0, rng)
            times.append(time.process_time())
            made, _ = translator.target.carry_out(plan, context, rng)
        times.append(time.process_time())
        translator.target.save(made, out)
        times.append(time.process_time())
        for stage, begun, ended in zip(spent, times, times[1:]):
            spent[stage] += ended - begun
    return spent


def paces(work: Callable[[int], object], seconds: float, rounds: int) -> str:
    """Seconds of sound by wall clock, which a busy machine stretches, and by processor time of all processes."""
    wall, processor = [], []
    for index in range(rounds):
        begun, busy = time.perf_counter(), _processor_time()
        work(index)
        wall.append(seconds / (time.perf_counter() - begun))
        processor.append(seconds / (_processor_time() - busy))
    return f"{told(wall)} by the clock, {told(processor)} by processor time"


def _processor_time() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def told(times: list[float]) -> str:
    return f"{statistics.median(times):.0f} times real time ({min(times):.0f} - {max(times):.0f})"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--audio", type=Path)
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    seconds = recordings(folder / "clean", chosen.audio, chosen.minutes)
    paths, run, rounds = sorted((folder / "clean").iterdir()), a_run(folder / "run"), chosen.rounds
    print(f"{len(paths)} FLACs, {seconds / 60:.1f} minutes, {rounds} rounds, one thread, torch {torch.__version__}")

    for direction, name in (("ab", "clean to noisy"), ("ba", "noisy to clean")):
        measured = [stages(run, paths, folder / "out.flac", direction) for _ in range(rounds + 1)][1:]    # one to warm up
        parts = ((stage, statistics.median(one[stage] for one in measured) * 60 / seconds) for stage in measured[0])
        print(f"{name}, processor time: {told([seconds / sum(one.values()) for one in measured])}; "
              f"ms a minute of sound: {', '.join(f'{stage} {1000 * spent:.0f}' for stage, spent in parts)}")

    def translate(index: int) -> None:
        list(translate_files(Translator.load(run), [folder / "clean"], folder / f"single{index}"))

    print(f"translate, loading of the model included: {paces(translate, seconds, rounds)}")
    for workers in (1, 2):
        def job(index: int) -> None:
            generate(folder / "clean", folder / f"out{workers}-{index}", {"audio": f"{run}:ab"}, devices=workers)

        name = f"generate, {workers} worker{'s' * (workers > 1)}, start-up and hashes included"
        print(f"{name}: {paces(job, seconds, rounds)}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
