"""Captions -> pictures, at small scale: "two cars and one person by night" becomes a small street that shows them.

Needs   nothing (simulated cars and people, captioned), or --root DIR with DIR/text, DIR/image, equal names a pair
Run     python recipes/text_to_image.py
Smoke   python recipes/text_to_image.py --smoke
Yields  OUT/run (checkpoints, log.jsonl, samples, report.html), OUT/drawn (the pictures, manifest.jsonl, report.html)
Expect  one CPU core, a quarter of an hour; the light and the number of cars, blurred, not that of people:
        docs/across_sensors.md
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
from mmcycle.metrics.crossing import agreement, attributes_of, baselines, nearness, whole
from mmcycle.metrics.judges import counter
from mmcycle.report import write_report
from mmcycle.simulate.captioned import write_captioned
from mmcycle.simulate.captions import read_captions
from mmcycle.train.trainer import train

SMOKE = ["model.width=8", "model.blocks=1", "model.discriminator_width=8", "train.steps=6", "train.batch_size=2",
         "run.log_every=2", "run.sample_every=3", "run.save_every=3", "data.workers=0"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--root", type=Path, help="a folder with text/ and image/")
    options.add_argument("--out", type=Path, default=Path("runs/text_to_image"))
    options.add_argument("--smoke", action="store_true", help="seconds: does everything run?")
    options.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as data.paired_fraction=0.1")
    chosen = options.parse_args()

    # Prepare: few cars and people on every street, by day and by night, and what each photograph shows, in words.
    known, held_out, run = chosen.root or chosen.out / "known", chosen.out / "held_out", chosen.out / "run"
    roots = [f"a.root={known / 'text'}", f"b.root={known / 'image'}"]
    config = load_config("text_to_image", [*roots, *(SMOKE if chosen.smoke else []), *chosen.overrides])
    text, image = config.a.modality, config.b.modality
    if not chosen.root:
        size = image.shape[:0:-1]
        write_captioned(known, 6 if chosen.smoke else 500, seed=1, size=size)
        write_captioned(held_out, 6 if chosen.smoke else 60, seed=2, size=size)

    # Train. An interrupted recipe, run again, goes on where it stopped.
    ended = train(config, run)
    if ended.signal:
        sys.exit(128 + ended.signal)

    # Generate: a picture of every caption; its class, day or night, goes along.
    source = known / "text" if chosen.root else held_out / "text"
    job = generate(source, chosen.out / "drawn", {"text": f"{run}:ab"}, labels="class", on_error="quarantine")
    verdict = verify(chosen.out / "drawn")
    print(f"{job.done + job.skipped} recordings in {chosen.out / 'drawn'}; verify: {verdict.problems or 'good'}")

    # Evaluate on captions of streets never seen: does a judge of photographs count in them what the captions say?
    if not chosen.root:
        pictures, truth = whole(known / "image", image), whole(held_out / "image", image)
        made = baselines(whole(known / "text", text), pictures, whole(held_out / "text", text))
        made |= {"ours": whole(chosen.out / "drawn", image), "truth": truth}
        told, true = (attributes_of(read_captions(folder / "text")) for folder in (known, held_out))
        count = counter(pictures, told, passes=1 if chosen.smoke else 20)
        measured = nearness(made, truth) | agreement({who: count(shown) for who, shown in made.items()}, true)
        write_json(run / "metrics.json", measured)
        print("\n".join(f"{name:<26} {value:.3f}" for name, value in measured.items()))

    # Look: two pages that open anywhere.
    print(write_report(run), write_report(chosen.out / "drawn"), sep="\n")


if __name__ == "__main__":
    main()
