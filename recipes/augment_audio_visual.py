"""Labelled clips -> the same by night and in noise: frames by one model, sound by another, a film that still plays.

Needs   nothing (drawn streets with sound), or --data DIR of clips in class folders, --like DIR of clips by night
Run     python recipes/augment_audio_visual.py --data DIR --like DIR
Smoke   python recipes/augment_audio_visual.py --smoke
Yields  OUT/camera (checkpoints, log.jsonl, samples, report.html), OUT/audio (checkpoints, log.jsonl, report.html),
        OUT/night (the clips, manifest.jsonl, report.html)
Expect  two CPU cores, an hour or so, and the run prints how it went; real clips: docs/clips_and_drives.md
"""
import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")     # before torch: waiting threads sleep instead of spinning

from mmcycle.config import load_config
from mmcycle.data.clip_domains import take_apart
from mmcycle.files import write_json
from mmcycle.generate.dataset import generate
from mmcycle.generate.manifest import read_rows, verify
from mmcycle.metrics.flicker import mean_flicker
from mmcycle.metrics.pairs import nearness_of_folders
from mmcycle.report import write_report
from mmcycle.simulate.clips import KINDS, write_clips
from mmcycle.train.trainer import train

SMOKE = ["model.generator=light", "model.width=8", "model.blocks=1", "model.discriminator_width=8",
         "model.discriminator_layers=2", "train.steps=6", "train.batch_size=2", "run.log_every=2", "run.sample_every=3",
         "run.save_every=3", "data.workers=0"]
NUMBERS = {"camera": "augment_audio_visual", "audio": "clean_to_noisy_cpu"}     # stream -> config of its model
FOLDER = {"camera": "frames", "audio": "sounds"}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, help="the labelled clips that are to be written again")
    options.add_argument("--like", type=Path, help="clips, without labels, of what they shall look and sound like")
    options.add_argument("--camera", type=Path, help="a run of pictures that is trained already")
    options.add_argument("--audio", type=Path, help="a run of sound that is trained already")
    options.add_argument("--out", type=Path, default=Path("runs/augment_audio_visual"))
    options.add_argument("--smoke", action="store_true", help="seconds: does everything run?")
    options.add_argument("overrides", nargs="*", metavar="STREAM.KEY=VALUE", help="such as camera.train.steps=2000")
    chosen = options.parse_intermixed_args()
    if strange := [one for one in chosen.overrides if not one.startswith(("camera.", "audio."))]:
        options.error(f"{strange[0]}: begin it with camera. or audio.")

    # Prepare: clips of two conditions, of other streets, taken apart into frames and sounds.
    clips, domains, seconds = chosen.out / "clips", chosen.out / "domains", 1.0 if chosen.smoke else 2.0
    day, night = chosen.data or clips / "day", chosen.like or clips / "night"
    if not chosen.data:
        write_clips(day, 2 if chosen.smoke else 40, seed=1, seconds=seconds)
    if not chosen.like:
        write_clips(night, 2 if chosen.smoke else 40, seed=2, view="night", noisy=True, seconds=seconds)
    for name, folder in (("day", day), ("night", night)):
        taken = take_apart(folder, domains / name)
        print(*(f"passed over: {why}" for _, why in taken.broken), f"{taken.clips} clips in {folder}", sep="\n")

    # Train a model of pictures and one of sound. An interrupted recipe, run again, goes on where it stopped.
    runs = {"camera": chosen.camera or chosen.out / "camera", "audio": chosen.audio or chosen.out / "audio"}
    for stream in (name for name, given in (("camera", chosen.camera), ("audio", chosen.audio)) if not given):
        own = [one.removeprefix(f"{stream}.") for one in chosen.overrides if one.startswith(f"{stream}.")]
        roots = [f"{end}.root={domains / name / FOLDER[stream]}" for end, name in (("a", "day"), ("b", "night"))]
        config = load_config(NUMBERS[stream], [*roots, *(SMOKE if chosen.smoke else []), *own])
        ended = train(config, runs[stream])
        if ended.signal:
            sys.exit(128 + ended.signal)

    # Generate: every clip once more; its class, its length and its labels stay.
    out, with_ = chosen.out / "night", {stream: f"{run}:ab" for stream, run in runs.items()}
    job = generate(day, out, with_, layout="clips", on_error="quarantine")
    print(f"{job.done + job.skipped} clips in {out}; verify: {verify(out).problems or 'good'}")

    # Evaluate: does it flicker; and where the clips were drawn, how near is it to the true night of the same streets?
    films = [(day / row.streams["camera"].source, out / row.streams["camera"].output) for row in read_rows(out)]
    flicker = mean_flicker(films)
    measured = {f"flicker, {name}": getattr(flicker, name) for name in ("source", "translated") if flicker.still}
    if not chosen.data:
        write_clips(clips / "truth", 2 if chosen.smoke else 40, seed=1, view="night", seconds=seconds)
        for name, folder in (("truth", clips / "truth"), ("translated", out)):
            take_apart(folder, domains / name)
        image = load_config(runs["camera"] / "config.yaml").a.modality
        for kind in KINDS:
            of = (domains / name / "frames" / kind for name in ("day", "translated", "truth"))
            near = nearness_of_folders(*of, lambda path: image.to_tensor(image.load(path))[0])
            measured |= {f"{kind}: {name}": value for name, value in near.items() if name.startswith(("l1", "ssim"))}
    write_json(runs["camera"] / "metrics.json", measured)
    print("\n".join(f"{name:<32} {value:.3f}" for name, value in measured.items()))

    # Look and listen: pages that open anywhere.
    print(*(write_report(folder) for folder in (*runs.values(), out)), sep="\n")


if __name__ == "__main__":
    main()
