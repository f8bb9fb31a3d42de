"""kill -9 at many moments of training and of generation: what is resumed must equal, bit for bit, what was never killed.

python tests/kill_everywhere.py --moments 20 [--seed 0]
"""
import argparse
import hashlib
import random
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from tiny_run import differences, ended, leftovers, photographs, start, start_training, trained, wait_until

STEPS = 12
SAVING = ("run.save_every=1", "run.keep=3", "run.sample_every=4")     # a checkpoint after every step: many are torn


def training_survives(root: Path, moments: int, rng: random.Random) -> list[str]:
    """Kill a run at each moment, each time from a new start, resume it -> what differed; every second kill tears a checkpoint."""
    straight = root / "straight"
    begun = time.monotonic()
    assert ended(start_training(root, "straight", *SAVING)) == 0
    lasts = time.monotonic() - begun
    wrong = []
    for moment in range(moments):
        run = root / f"killed-{moment}"
        process = start_training(root, run.name, *SAVING)
        _kill(process, run / "checkpoints", lasts, moment % 2 == 1, rng)
        again = ended(start_training(root, run.name, *SAVING))
        wrong += [f"{run.name}: exit {again}"] if again else []
        wrong += [f"{run.name}: {name} differs" for name in ([] if again else differences(straight, run, STEPS))]
        wrong += [f"{run.name}: {path} is left" for path in leftovers(run)]
    return wrong


def generation_survives(root: Path, moments: int, rng: random.Random) -> list[str]:
    """The same for a data set with labels, copies and two workers."""
    run = trained(root, "model", "train.steps=1")
    source = photographs(root / "source/images", count=12, seed=3).parent
    for path in (source / "images").iterdir():
        path.with_suffix(".txt").write_text(f"0 0.5 0.5 0.1 0.{len(path.stem)}\n")
    words = ("--with", f"image={run}:ab", "--copies", "2", "--strength", "0.5:1")
    begun = time.monotonic()
    code = ended(start(root, "generate", str(source), str(root / "whole"), *words))
    if code:
        return [f"uninterrupted: exit {code}: {(root / 'said').read_text()}"]
    lasts = time.monotonic() - begun
    wrong = []
    for moment in range(moments):
        out = root / f"generated-{moment}"
        devices = ("--devices", str(1 + moment % 2))
        process = start(root, "generate", str(source), str(out), *words, *devices)
        _kill(process, out, lasts, moment % 2 == 1, rng)
        again = ended(start(root, "generate", str(source), str(out), *words, *devices))
        wrong += [f"{out.name}: exit {again}"] if again else []
        wrong += [f"{out.name}: {name} differs" for name in _unequal(root / "whole", out)]
    return wrong


def _kill(process: BaseProcess, folder: Path, lasts: float, tears: bool, rng: random.Random) -> None:
    """At a random moment; with `tears`, at the next one in which something is being written into the folder."""
    pause = rng.uniform(0, lasts)
    process.join(pause)
    if tears:
        wait_until(lambda: not process.is_alive() or _is_writing(folder))
        time.sleep(rng.uniform(0, 0.004))
    process.kill()
    process.join()


def _is_writing(folder: Path) -> bool:
    return any(folder.glob(".tmp-*")) or any(folder.glob("*/.tmp-*"))


def _unequal(folder: Path, other: Path) -> list[str]:
    """Names of files that are not in both with equal bytes; the keeping of the books is left out."""
    ours, theirs = (_hashes(path) for path in (folder, other))
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*") if path.is_file() and ".mmcycle" not in path.parts
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    survivals: dict[str, Callable[[Path, int, random.Random], list[str]]] = {
        "training": training_survives, "generation": generation_survives,
    }
    failed = False
    for name, survives in survivals.items():
        with tempfile.TemporaryDirectory() as folder:
            wrong = survives(Path(folder), options.moments, random.Random(options.seed))
        failed |= bool(wrong)
        print(f"{name}: {options.moments} kills, {len(wrong)} differences", *wrong, sep="\n  ")
    sys.exit(failed)


if __name__ == "__main__":
    main()
