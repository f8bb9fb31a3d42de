"""LiDAR -> camera, and back: see what a scanner measured as a photograph would show it, learned from few true pairs.

Needs   nothing (simulated streets), or --root DIR with DIR/lidar and DIR/camera, equal names one moment
Run     python recipes/lidar_to_camera.py data.paired_fraction=0.1
Smoke   python recipes/lidar_to_camera.py --smoke
Yields  OUT/run (checkpoints, log.jsonl, samples, report.html), OUT/seen (the pictures, manifest.jsonl, report.html)
Expect  two CPU cores, fifteen minutes or so; the layout of the street, smeared: see docs/across_sensors.md
"""
import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")     # before torch: waiting threads sleep instead of spinning

from mmcycle.config import load_config
from mmcycle.files import write_json
from mmcycle.generate.dataset import generate
from mmcycle.generate.manifest import verify
from mmcycle.metrics.crossing import agreement, attributes_of, baselines, masks, nearness, presence, whole
from mmcycle.metrics.judges import reader
from mmcycle.report import write_report
from mmcycle.simulate.mesh import Semantic
from mmcycle.simulate.paired import write_paired
from mmcycle.train.trainer import train

SMOKE = ["model.width=8", "model.blocks=1", "model.discriminator_width=8", "train.steps=6", "train.batch_size=2",
         "run.log_every=2", "run.sample_every=3", "run.save_every=3", "data.workers=0"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--root", type=Path, help="a folder with lidar/ and camera/")
    options.add_argument("--out", type=Path, default=Path("runs/lidar_to_camera"))
    options.add_argument("--smoke", action="store_true", help="seconds: does everything run?")
    options.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as data.paired_fraction=1")
    chosen = options.parse_args()

    # Prepare: what scanner and camera of one car see, one calibration for all; the turn is cut to the camera's view.
    known, held_out, run = chosen.root or chosen.out / "known", chosen.out / "held_out", chosen.out / "run"
    sweeps, photos = known / "lidar", known / "camera"
    roots = [f"a.root={sweeps}", f"b.root={photos}"]
    config = load_config("lidar_to_camera", [*roots, *(SMOKE if chosen.smoke else []), *chosen.overrides])
    lidar, camera = config.a.modality, config.b.modality
    if not chosen.root:
        size = camera.shape[:0:-1]
        write_paired(known, lidar.spec, 2 if chosen.smoke else 50, seed=1, size=size)
        write_paired(held_out, lidar.spec, 2 if chosen.smoke else 12, seed=2, size=size)

    # Train. An interrupted recipe, run again, goes on where it stopped.
    ended = train(config, run)
    if ended.signal:
        sys.exit(128 + ended.signal)

    # Generate. Boxes and labels of points say nothing true of a picture and stay behind; classes and tags go along.
    source = sweeps if chosen.root else held_out / "lidar"
    job = generate(source, chosen.out / "seen", {"lidar": f"{run}:ab"}, labels="class", on_error="quarantine")
    verdict = verify(chosen.out / "seen")
    print(f"{job.done + job.skipped} recordings in {chosen.out / 'seen'}; verify: {verdict.problems or 'good'}")

    # Evaluate on streets never seen: near the true photograph, and does a judge see in each third what is there?
    if not chosen.root:
        pictures, truth = whole(photos, camera), whole(held_out / "camera", camera)
        made = baselines(whole(sweeps, lidar), pictures, whole(source, lidar))
        made |= {"ours": whole(chosen.out / "seen", camera), "truth": truth}
        kinds = {kind.name.lower(): int(kind) for kind in Semantic}
        there = attributes_of(presence(masks(held_out / "masks"), kinds))
        read = reader(pictures, masks(known / "masks"), steps=20 if chosen.smoke else 800)
        found = {who: presence(read(shown), kinds) for who, shown in made.items()}
        measured = nearness(made, truth) | agreement(found, there)
        write_json(run / "metrics.json", measured)
        print("\n".join(f"{name:<26} {value:.3f}" for name, value in measured.items()))

    # Look: two pages that open anywhere.
    print(write_report(run), write_report(chosen.out / "seen"), sep="\n")


if __name__ == "__main__":
    main()
