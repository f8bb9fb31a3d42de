"""LiDAR -> camera, and back: see what a scanner measured as a photograph would show it, learned from few true pairs.

Needs   nothing (simulated streets), or --root DIR with DIR/lidar and DIR/camera, equal names one moment
Run     python recipes/lidar_to_camera.py data.paired_fraction=0.1
Smoke   python recipes/lidar_to_camera.py --smoke
Yields  OUT/run (checkpoints, log.jsonl, samples, report.html), OUT/seen (the pictures, manifest.jsonl, report.html)
Expect  two CPU cores, ten minutes or so; the layout of the street, smeared: see docs/benchmarks.md
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
from mmcycle.metrics.crossing import attributes_of, baselines, nearness, presence, seen_attributes, whole
from mmcycle.report import write_report
from mmcycle.simulate.mesh import Semantic
from mmcycle.simulate.street import write_street
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

    # Prepare: what the scanner and the camera of one car see; the scanner's turn is cut to the camera's view.
    street, held_out = chosen.out / "street", chosen.out / "held_out"
    sweeps, photos = street / "lidar" / "velodyne", street / "day" / "images"
    if chosen.root:
        sweeps, photos = chosen.root / "lidar", chosen.root / "camera"
    roots = [f"a.root={sweeps}", f"b.root={photos}"]
    config = load_config("lidar_to_camera", [*roots, *(SMOKE if chosen.smoke else []), *chosen.overrides])
    lidar, camera, run = config.a.modality, config.b.modality, chosen.out / "run"
    if not chosen.root:
        height, width = camera.shape[1:]
        for folder, scenes, seed in ((street, 6 if chosen.smoke else 240, 1), (held_out, 4 if chosen.smoke else 48, 2)):
            write_street(folder, scenes, seed, ("day", "lidar"), (width, height), sensor=lidar.spec)

    # Train. An interrupted recipe, run again, goes on where it stopped.
    ended = train(config, run)
    if ended.signal:
        sys.exit(128 + ended.signal)

    # Generate. Boxes and labels of points say nothing true of a picture and stay behind; classes and tags go along.
    source = chosen.root / "lidar" if chosen.root else held_out / "lidar"
    job = generate(source, chosen.out / "seen", {"lidar": f"{run}:ab"}, labels="class", on_error="quarantine")
    verdict = verify(chosen.out / "seen")
    print(f"{job.done + job.skipped} recordings in {chosen.out / 'seen'}; verify: {verdict.problems or 'good'}")

    # Evaluate on streets never seen: near the true photograph, and does it show what is there?
    if not chosen.root:
        truth, there = whole(held_out / "day" / "images", camera), {kind.name.lower(): int(kind) for kind in Semantic}
        made = baselines(whole(sweeps, lidar), whole(photos, camera), whole(held_out / "lidar" / "velodyne", lidar))
        made |= {"ours": whole(chosen.out / "seen" / "velodyne", camera), "truth": truth}
        told, true = (presence(folder / "day" / "masks", there) for folder in (street, held_out))
        measured = nearness(made, truth) | seen_attributes(whole(photos, camera), attributes_of(told), made, true)
        write_json(run / "metrics.json", measured)
        print("\n".join(f"{name:<26} {value:.3f}" for name, value in measured.items()))

    # Look: two pages that open anywhere.
    print(write_report(run), write_report(chosen.out / "seen"), sep="\n")


if __name__ == "__main__":
    main()
