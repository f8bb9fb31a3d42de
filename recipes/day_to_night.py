"""Day -> night: write a labelled daylight set again as night, labels kept.

Needs   nothing (a simulated street with masks and boxes), or --root DIR with DIR/day and DIR/night, photographs without pairs
Run     python recipes/day_to_night.py --root DIR
Smoke   python recipes/day_to_night.py --smoke
Yields  OUT/run (checkpoints, log.jsonl, samples, report.html), OUT/night (the data set, manifest.jsonl, report.html)
Expect  two CPU cores: the simulated street in 6 minutes, photographs in half an hour; see docs/benchmarks.md for what was measured
"""
import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")     # before torch: waiting threads sleep instead of spinning

import torch

from mmcycle.config import load_config
from mmcycle.files import write_json
from mmcycle.generate.dataset import generate
from mmcycle.generate.manifest import verify
from mmcycle.metrics.pairs import nearness_of_folders
from mmcycle.report import write_report
from mmcycle.simulate.street import write_street
from mmcycle.train.trainer import train

SMOKE = ["a.size=32", "b.size=32", "model.generator=light", "model.width=8", "model.blocks=1", "model.discriminator_width=8",
         "model.discriminator_layers=2", "train.steps=6", "run.log_every=2", "run.sample_every=3", "run.save_every=3", "data.workers=0"]
STREET = ["a.short_side=null", "b.short_side=null", "model.width=48", "model.discriminator_width=48", "train.steps=1600",
          "run.sample_every=200"]                       # what five minutes on two cores allow


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--root", type=Path, help="a folder with day/ and night/")
    options.add_argument("--out", type=Path, default=Path("runs/day_to_night"))
    options.add_argument("--smoke", action="store_true", help="seconds: does everything run?")
    options.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as train.steps=2000")
    chosen = options.parse_args()

    # Prepare: two folders without pairs. The simulated days and nights are different streets.
    street, size = chosen.out / "street", (64, 48) if chosen.smoke else (256, 144)
    day, night, overrides = street / "day" / "day", street / "night" / "night", []
    if chosen.root:
        day, night = chosen.root / "day", chosen.root / "night"
    else:
        scenes = 4 if chosen.smoke else 48
        write_street(street / "day", scenes, seed=1, views=("day",), size=size)
        write_street(street / "night", scenes, seed=2, views=("night",), size=size)
        write_street(street / "held_out", 4 if chosen.smoke else 16, seed=3, views=("day", "night"), size=size)
        overrides = [f"a.root={day / 'images'}", f"b.root={night / 'images'}", *(SMOKE if chosen.smoke else STREET)]
    if chosen.root:
        overrides = [f"a.root={day}", f"b.root={night}", *(SMOKE if chosen.smoke else [])]

    # Train. An interrupted recipe, run again, goes on where it stopped.
    numbers = "day_to_night" if torch.cuda.is_available() else "day_to_night_cpu"
    config = load_config(numbers, [*overrides, *chosen.overrides])
    run = chosen.out / "run"
    ended = train(config, run)
    if ended.signal:
        sys.exit(128 + ended.signal)

    # Generate: the labelled day set once more, as night.
    job = generate(day, chosen.out / "night", {"image": f"{run}:ab"}, on_error="quarantine")
    verdict = verify(chosen.out / "night")
    print(f"{job.done + job.skipped} recordings in {chosen.out / 'night'}; verify: {verdict.problems or 'good'}")

    # Evaluate, where the truth is known: held-out streets by day, translated, against the same streets by night.
    if not chosen.root:
        held_out = street / "held_out"
        generate(held_out / "day", chosen.out / "held_out_night", {"image": f"{run}:ab"})
        image = config.a.modality
        measured = nearness_of_folders(
            held_out / "day" / "images", chosen.out / "held_out_night" / "images", held_out / "night" / "images",
            lambda path: image.to_tensor(image.load(path))[0],
        )
        write_json(run / "metrics.json", measured)
        print("\n".join(f"{name:<26} {value:.3f}" for name, value in measured.items()))

    # Look: two pages that open anywhere.
    print(write_report(run), write_report(chosen.out / "night"), sep="\n")


if __name__ == "__main__":
    main()
