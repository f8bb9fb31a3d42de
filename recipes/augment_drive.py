"""A labelled drive -> the same by night, as a real scanner sees it: camera and LiDAR each by its own model.

Needs   nothing (simulated drives), or --data DIR and --like DIR: drives like KITTI's: image_2, velodyne, label_2 ...
Run     python recipes/augment_drive.py --data DIR --like DIR
Smoke   python recipes/augment_drive.py --smoke
Yields  OUT/camera (checkpoints, log.jsonl, samples, report.html), OUT/lidar (checkpoints, log.jsonl, report.html),
        OUT/night (image_2, velodyne, labels, label_2, calib, manifest.jsonl, report.html)
Expect  two CPU cores, half an hour or so; boxes and calibration byte for byte; figures: docs/clips_and_drives.md
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
from mmcycle.metrics.pairs import nearness_of_folders
from mmcycle.metrics.sweep_sets import beside_the_floor, sweeps_of
from mmcycle.report import write_report
from mmcycle.simulate.drive import write_drive
from mmcycle.train.trainer import train

SMOKE = ["model.width=8", "model.blocks=1", "model.discriminator_width=8", "model.discriminator_layers=2",
         "train.steps=6", "run.log_every=2", "run.sample_every=3", "run.save_every=3", "data.workers=0"]
SMALL = {"camera": ["a.size=32", "b.size=32", "a.short_side=null", "b.short_side=null"],
         "lidar": ["a.columns=128", "b.columns=128", "a.window=64", "b.window=64"]}
NUMBERS = {"camera": "augment_drive", "lidar": "sim_to_real_lidar_cpu"}     # stream -> config of its model
FOLDER = {"camera": "image_2", "lidar": "velodyne"}
SHOWN = ("drop rate", "drop map", "intensity w1")       # of the distances between sweeps


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, help="the labelled drive that is to be written again")
    options.add_argument("--like", type=Path, help="a drive, without labels, of what it shall look like")
    options.add_argument("--camera", type=Path, help="a run of pictures that is trained already")
    options.add_argument("--lidar", type=Path, help="a run of sweeps that is trained already")
    options.add_argument("--out", type=Path, default=Path("runs/augment_drive"))
    options.add_argument("--smoke", action="store_true", help="seconds: does everything run?")
    options.add_argument("overrides", nargs="*", metavar="STREAM.KEY=VALUE", help="such as lidar.a.sensor=vlp-16")
    chosen = options.parse_intermixed_args()
    if strange := [one for one in chosen.overrides if not one.startswith(("camera.", "lidar."))]:
        options.error(f"{strange[0]}: begin it with camera. or lidar.")

    drives, configs = chosen.out / "drives", {}
    day, like = chosen.data or drives / "day", chosen.like or drives / "like"
    for stream, numbers in NUMBERS.items():
        own = [one.removeprefix(f"{stream}.") for one in chosen.overrides if one.startswith(f"{stream}.")]
        roots = [f"a.root={day / FOLDER[stream]}", f"b.root={like / FOLDER[stream]}"]
        configs[stream] = load_config(numbers, [*roots, *(SMOKE + SMALL[stream] if chosen.smoke else []), *own])
    image, lidar = (configs[stream].a.modality for stream in ("camera", "lidar"))

    # Prepare: a street by day, by an ideal scanner; another by night, by one that loses returns.
    moments, size = (3, (96, 64)) if chosen.smoke else (100, (320, 160))
    if not chosen.data:
        write_drive(day, lidar.spec, moments, seed=1, size=size)
    if not chosen.like:
        write_drive(like, lidar.spec, moments, seed=2, view="night", size=size, mode="calibrated")

    # Train a model for each sensor. An interrupted recipe, run again, goes on where it stopped.
    runs = {"camera": chosen.camera or chosen.out / "camera", "lidar": chosen.lidar or chosen.out / "lidar"}
    for stream in (name for name, given in (("camera", chosen.camera), ("lidar", chosen.lidar)) if not given):
        ended = train(configs[stream], runs[stream])
        if ended.signal:
            sys.exit(128 + ended.signal)

    # Generate: every moment once more, its streams with one seed; boxes, calibration and poses stay.
    out, with_ = chosen.out / "night", {stream: f"{run}:ab" for stream, run in runs.items()}
    job = generate(day, out, with_, layout="kitti", on_error="quarantine")
    print(f"{job.done + job.skipped} moments in {out}; verify: {verify(out).problems or 'good'}")

    # Evaluate, where the truth is known: the same moments truly by night, and truly seen by that scanner.
    if not chosen.data:
        truth, kinds = drives / "truth", ("day", "night", "truth")
        write_drive(truth, lidar.spec, moments, seed=1, view="night", size=size, mode="calibrated")
        measured = nearness_of_folders(
            *(place / "image_2" for place in (day, out, truth)), lambda path: image.to_tensor(image.load(path))[0]
        )
        sweeps = {name: sweeps_of(place / "velodyne", lidar) for name, place in zip(kinds, (day, out, truth))}
        real = sweeps.pop("truth")
        far = beside_the_floor({"source": sweeps["day"], "translated": sweeps["night"]}, real)
        measured |= {name: value for name, value in far.items() if name.startswith(SHOWN)}
        write_json(runs["camera"] / "metrics.json", measured)
        print("\n".join(f"{name:<46} {value:.3f}" for name, value in measured.items()))

    # Look: pages that open anywhere.
    print(*(write_report(folder) for folder in (*runs.values(), out)), sep="\n")


if __name__ == "__main__":
    main()
