"""Sound -> picture: a spoken digit becomes a painted one; sounds and pictures share a class and no more.

Needs   nothing (made-up voices, painted digits), or --root DIR with DIR/audio and DIR/image, equal names a pair
Run     python recipes/audio_to_image.py
Smoke   python recipes/audio_to_image.py --smoke
Yields  OUT/run (checkpoints, log.jsonl, samples, report.html), OUT/painted (the pictures, manifest.jsonl, report.html)
Expect  one CPU core, eight minutes: of 80 sounds of voices never heard 85 % become the right one of four digits
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
from mmcycle.metrics.crossing import baselines, nearness, seen_attributes, whole
from mmcycle.report import write_report
from mmcycle.simulate.digits import write_digits
from mmcycle.train.trainer import train

SMOKE = ["model.width=8", "model.blocks=1", "model.discriminator_width=8", "train.steps=6", "train.batch_size=2",
         "run.log_every=2", "run.sample_every=3", "run.save_every=3", "data.workers=0"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--root", type=Path, help="a folder with audio/ and image/")
    options.add_argument("--out", type=Path, default=Path("runs/audio_to_image"))
    options.add_argument("--smoke", action="store_true", help="seconds: does everything run?")
    options.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as data.paired_fraction=0.1")
    chosen = options.parse_args()

    # Prepare: spoken digits and painted ones, in folders named after what they mean.
    known, held_out, run = chosen.root or chosen.out / "known", chosen.out / "held_out", chosen.out / "run"
    roots = [f"a.root={known / 'audio'}", f"b.root={known / 'image'}"]
    config = load_config("audio_to_image", [*roots, *(SMOKE if chosen.smoke else []), *chosen.overrides])
    audio, image = config.a.modality, config.b.modality
    if not chosen.root:
        write_digits(known, 3 if chosen.smoke else 80, seed=1, size=image.shape[1])
        write_digits(held_out, 2 if chosen.smoke else 20, seed=2, size=image.shape[1])

    # Train. An interrupted recipe, run again, goes on where it stopped.
    ended = train(config, run)
    if ended.signal:
        sys.exit(128 + ended.signal)

    # Generate: a picture of every sound; its class goes along.
    source = known / "audio" if chosen.root else held_out / "audio"
    job = generate(source, chosen.out / "painted", {"audio": f"{run}:ab"}, labels="class", on_error="quarantine")
    verdict = verify(chosen.out / "painted")
    print(f"{job.done + job.skipped} recordings in {chosen.out / 'painted'}; verify: {verdict.problems or 'good'}")

    # Evaluate on voices never heard: which digit does a classifier of true pictures read?
    if not chosen.root:
        words = sorted(folder.name for folder in (known / "audio").iterdir())
        told, true = (
            torch.tensor([words.index(file.parent.name) for file in sorted((place / "image").rglob("*.png"))])
            for place in (known, held_out)
        )
        pictures, truth = whole(known / "image", image), whole(held_out / "image", image)
        made = baselines(whole(known / "audio", audio), pictures, whole(held_out / "audio", audio))
        made |= {"ours": whole(chosen.out / "painted", image), "truth": truth}
        measured = nearness(made, truth) | seen_attributes(pictures, {"class": told}, made, {"class": true})
        write_json(run / "metrics.json", measured)
        print("\n".join(f"{name:<26} {value:.3f}" for name, value in measured.items()))

    # Look: two pages that open anywhere.
    print(write_report(run), write_report(chosen.out / "painted"), sep="\n")


if __name__ == "__main__":
    main()
