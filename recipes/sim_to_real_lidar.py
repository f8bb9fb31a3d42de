"""Simulated sweeps -> real: write labelled sweeps of a simulated street again as a real LiDAR sees, labels kept.

Needs   nothing (sweeps of other simulated streets by a sensor model made by hand stand in for real ones), or --data DIR
        with 20 or more real sweeps, without labels, in the order in which they were recorded
Run     python recipes/sim_to_real_lidar.py --data DIR
Smoke   python recipes/sim_to_real_lidar.py --smoke
Yields  OUT/run (checkpoints, log.jsonl, samples, metrics.json, report.html),
        OUT/realistic (velodyne, labels, boxes, manifest.jsonl, report.html)
Expect  two CPU cores, a quarter of an hour; see docs/benchmarks.md for what was measured
"""
import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean, median

os.environ.setdefault("OMP_WAIT_POLICY", "passive")     # before torch: waiting threads sleep instead of spinning

import torch

from mmcycle.config import load_config
from mmcycle.files import copy_atomic, write_json
from mmcycle.generate.dataset import generate
from mmcycle.generate.manifest import read_rows, verify
from mmcycle.metrics.sweep_sets import beside_the_floor, recordings, sweeps_of
from mmcycle.report import write_report
from mmcycle.simulate.street import write_street
from mmcycle.train.trainer import train

SMOKE = ["a.columns=128", "b.columns=128", "a.window=64", "b.window=64", "model.width=8", "model.blocks=1",
         "model.discriminator_width=8", "model.discriminator_layers=2", "train.steps=6", "train.batch_size=2",
         "run.log_every=2", "run.sample_every=3", "run.save_every=3", "data.workers=0"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, help="a folder of real sweeps; a.sensor= and b.sensor= tell their sensor")
    options.add_argument("--out", type=Path, default=Path("runs/sim_to_real_lidar"))
    options.add_argument("--smoke", action="store_true", help="seconds: does everything run?")
    options.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as train.steps=2000")
    chosen = options.parse_intermixed_args()

    domains, run = chosen.out / "domains", chosen.out / "run"
    simulated, calibrated, real, held_out = (domains / name for name in ("simulated", "calibrated", "real", "held_out"))
    numbers = "sim_to_real_lidar" if torch.cuda.is_available() else "sim_to_real_lidar_cpu"
    roots = [f"a.root={simulated / 'lidar' / 'velodyne'}", f"b.root={real}"]
    config = load_config(numbers, [*roots, *(SMOKE if chosen.smoke else []), *chosen.overrides])
    lidar = config.b.modality

    # Prepare: streets as an ideal sensor and one made by hand see them; real sweeps, the last third kept for measuring.
    count, grid = 4 if chosen.smoke else 60, config.a.modality.spec
    write_street(simulated, count, seed=1, views=("lidar",), sensor=grid)
    write_street(calibrated, count, seed=1, views=("lidar",), sensor=grid, mode="calibrated")
    recorded = chosen.data or domains / "stand_in" / "lidar" / "velodyne"
    if not chosen.data:
        print("no --data: the sensor made by hand, in other streets, stands in for the real one")
        write_street(domains / "stand_in", count, seed=2, views=("lidar",), sensor=grid, mode="calibrated")
    sweeps = recordings(recorded, lidar)
    if len(sweeps) < (4 if chosen.smoke else 20):
        options.error(f"{recorded}: {len(sweeps)} sweeps, give 20 or more ({', '.join(lidar.suffixes)})")
    for folder, part in ((real, sweeps[: len(sweeps) * 6 // 10]), (held_out, sweeps[len(sweeps) * 2 // 3 :])):
        for path in part:                                       # between the two parts a gap: neighbours look alike
            if not (folder / path.relative_to(recorded)).exists():
                copy_atomic(path, folder / path.relative_to(recorded))

    # Train. What the real car hides is hidden in both domains. An interrupted recipe, run again, goes on.
    lidar = lidar.with_ego(recordings(real, lidar))
    own = replace(config.a.modality, ego=lidar.ego)
    config = replace(config, a=replace(config.a, modality=own), b=replace(config.b, modality=lidar))
    ended = train(config, run)
    if ended.signal:
        sys.exit(128 + ended.signal)

    # Generate: the labelled sweeps once more; points that are lost take their labels with them.
    made = chosen.out / "realistic"
    job = generate(simulated / "lidar", made, {"lidar": f"{run}:ab"}, on_error="quarantine")
    print(f"{job.done + job.skipped} sweeps in {made}; verify: {verify(made).problems or 'good'}")

    # Evaluate: how far each kind of sweep is from real ones never heard of, and two halves of these from each other.
    arms = {"untranslated": simulated / "lidar", "translated": made, "made by hand": calibrated / "lidar"}
    sets = {name: sweeps_of(folder / "velodyne", own) for name, folder in arms.items()}
    measured = beside_the_floor(sets, sweeps_of(held_out, lidar))
    facts = [row.params for row in read_rows(made)]
    measured["returns kept, share"] = mean(one["lidar.kept_share"] for one in facts)
    measured["shift of a return, m, median"] = median(one["lidar.shift_m"] for one in facts)
    write_json(run / "metrics.json", measured)
    print("\n".join(f"{name:<46} {value:.4f}" for name, value in measured.items()))

    # Look: two pages that open anywhere.
    print(write_report(run), write_report(made), sep="\n")


if __name__ == "__main__":
    main()
