"""The same places in two conditions: find the pairs that nobody made, train on them, write the labelled set again.

Needs   nothing (simulated webcams), or --root DIR with DIR/before and DIR/after, pictures of partly the same places
Run     python recipes/same_places.py --root DIR
Smoke   python recipes/same_places.py --smoke
Yields  OUT/pairs.csv, OUT/pairs.png, OUT/run (checkpoints, log.jsonl, samples, report.html), OUT/after (manifest.jsonl, report.html)
Expect  two CPU cores: a quarter of an hour; of simulated webcams it prints how many pairs are right
"""
import argparse
import csv
import os
import random
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")     # before torch: waiting threads sleep instead of spinning

from mmcycle.config import load_config
from mmcycle.files import copy_atomic
from mmcycle.generate.dataset import generate
from mmcycle.generate.manifest import verify
from mmcycle.report import write_report
from mmcycle.simulate.street import write_street
from mmcycle.train.match import match
from mmcycle.train.trainer import train

SMOKE = ["a.size=[24,32]", "b.size=[24,32]", "a.stretch=[24,32]", "b.stretch=[24,32]", "model.width=8", "model.blocks=1",
         "model.discriminator_width=8", "model.discriminator_layers=1", "train.steps=4", "run.log_every=2", "run.sample_every=2",
         "run.save_every=2", "data.workers=0"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--root", type=Path, help="a folder with before/ and after/")
    options.add_argument("--out", type=Path, default=Path("runs/same_places"))
    options.add_argument("--smoke", action="store_true", help="seconds: does everything run?")
    options.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as train.steps=2000")
    chosen = options.parse_args()

    # Prepare: webcams by day and by night, under names that do not tell which is which; a quarter is seen by night alone.
    webcams, scenes = chosen.out / "webcams", 32 if chosen.smoke else 100
    before, after = webcams / "before", webcams / "after"
    if chosen.root:
        before, after = chosen.root / "before", chosen.root / "after"
    else:
        write_street(webcams / "places", scenes, seed=1, views=("day", "night"), size=(96, 64))
        disguised(webcams / "places", before, after, last=3 * scenes // 4)

    # Match: which picture shows which place, without a label.
    numbers = [f"a.root={before}", f"b.root={after}", *(SMOKE if chosen.smoke else []), *chosen.overrides]
    pairs = chosen.out / "pairs.csv"
    print("\n".join(match("same_places", pairs, numbers, force=True)[:2]))
    if not chosen.root:
        told = list(csv.DictReader(pairs.read_text(encoding="utf-8").splitlines()))
        right = sum(Path(row["a"]).stem == code_of(int(Path(row["b"]).stem), -1) for row in told)
        print(f"{right} of {len(told)} pairs are right")

    # Train. An interrupted recipe, run again, goes on where it stopped.
    run = chosen.out / "run"
    ended = train(load_config("same_places", [*numbers, f"data.pairs={pairs}"]), run)
    if ended.signal:
        sys.exit(128 + ended.signal)

    # Generate: everything of before/, labels kept, as it looks after.
    job = generate(before, chosen.out / "after", {"image": f"{run}:ab"}, on_error="quarantine")
    verdict = verify(chosen.out / "after")
    print(f"{job.done + job.skipped} recordings in {chosen.out / 'after'}; verify: {verdict.problems or 'good'}")

    # Look: two pages that open anywhere.
    print(write_report(run), write_report(chosen.out / "after"), sep="\n")


def disguised(places: Path, before: Path, after: Path, last: int) -> None:
    """The first places by day, all by night, each under another number."""
    for view, folder, count in (("day", before, last), ("night", after, None)):
        for path in sorted((places / view / "images").iterdir())[:count]:
            number = path.stem if view == "day" else code_of(int(path.stem), 1)
            copy_atomic(path, folder / f"{number}{path.suffix}")


def code_of(number: int, way: int) -> str:
    """A number in disguise (way 1), or out of it (way -1)."""
    order = random.Random(0).sample(range(1000), 1000)
    return f"{order[number] if way == 1 else order.index(number):06d}"


if __name__ == "__main__":
    main()
