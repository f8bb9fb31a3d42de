"""Clean speech -> noisy: write a labelled set of clean speech again as if spoken in noise, words and labels kept.

Needs   nothing (made-up voices and noises), or --data DIR with DIR/clean_speech/labels.csv and DIR/noise/labels.csv
Run     python recipes/clean_to_noisy.py --data DIR
Smoke   python recipes/clean_to_noisy.py --smoke
Yields  OUT/run (checkpoints, log.jsonl, samples, metrics.json, report.html),
        OUT/noisy (labels.csv, manifest.jsonl, report.html),
        OUT/held_out_noisy (manifest.jsonl), OUT/held_out_cleaned (manifest.jsonl)
Expect  two CPU cores, ten minutes; see docs/benchmarks.md for what was measured
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
from mmcycle.generate.manifest import read_rows, verify
from mmcycle.metrics.noisy_speech import KnownSpeech, compare_cleaned, compare_noisy, waves_of
from mmcycle.report import write_report
from mmcycle.simulate.noisy_speech import write_noisy_speech
from mmcycle.simulate.speech_set import SpeechSet, write_speech_set
from mmcycle.train.trainer import train

SMOKE = ["model.width=8", "model.blocks=1", "model.discriminator_width=8", "model.discriminator_layers=2",
         "train.steps=6", "train.batch_size=2", "run.log_every=2", "run.sample_every=3", "run.save_every=3",
         "data.workers=0"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, help="a folder with clean_speech/ and noise/, each with a labels.csv")
    options.add_argument("--out", type=Path, default=Path("runs/clean_to_noisy"))
    options.add_argument("--smoke", action="store_true", help="seconds: does everything run?")
    options.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as train.steps=4000")
    chosen = options.parse_args()

    domains, held_out = chosen.out / "domains", chosen.out / "domains" / "held_out"
    numbers = "clean_to_noisy" if torch.cuda.is_available() else "clean_to_noisy_cpu"
    roots = [f"a.root={domains / 'clean'}", f"b.root={domains / 'noisy'}"]
    config = load_config(numbers, [*roots, *(SMOKE if chosen.smoke else []), *chosen.overrides])
    sound, run = config.a.modality, chosen.out / "run"

    # Prepare: clean speech of half of the speakers, noisy of the others; the test speakers both ways, for measuring.
    recorded = chosen.data or chosen.out / "recorded"
    if not chosen.data:
        write_speech_set(recorded, SpeechSet(voices=8, takes=2, pieces=2, seconds=1.5) if chosen.smoke else SpeechSet())
    write_noisy_speech(recorded, domains, sound)

    # Train. An interrupted recipe, run again, goes on where it stopped.
    ended = train(config, run)
    if ended.signal:
        sys.exit(128 + ended.signal)

    # Generate: the labelled clean set once more, in noise; its table goes with it, and the manifest knows every SNR.
    job = generate(domains / "clean", chosen.out / "noisy", {"audio": f"{run}:ab"}, on_error="quarantine")
    verdict = verify(chosen.out / "noisy")
    print(f"{job.done + job.skipped} recordings in {chosen.out / 'noisy'}; verify: {verdict.problems or 'good'}")

    # Evaluate on speakers never heard: made noisy, against the truth; and truly noisy ones cleaned.
    made, cleaned = chosen.out / "held_out_noisy", chosen.out / "held_out_cleaned"
    generate(held_out / "clean", made, {"audio": f"{run}:ab"})
    generate(held_out / "noisy", cleaned, {"audio": f"{run}:ba"})
    rows = list(read_rows(made))
    names, snrs = [row.streams["audio"].output for row in rows], [row.params["audio.snr_db"] for row in rows]

    def wave(path: Path) -> tuple[torch.Tensor, int]:
        raw = sound.load(path)
        return torch.from_numpy(raw.samples.mean(axis=1)), raw.rate

    truth = KnownSpeech.of_folder(held_out, names, wave)
    measured = compare_noisy(truth, waves_of(made, names, wave)[0], snrs, torch.Generator().manual_seed(0))
    measured |= compare_cleaned(truth, waves_of(cleaned, names, wave)[0])
    write_json(run / "metrics.json", measured)
    print("\n".join(f"{name:<46} {value:.3f}" for name, value in measured.items()))

    # Look and listen: two pages that open anywhere.
    print(write_report(run), write_report(chosen.out / "noisy"), sep="\n")


if __name__ == "__main__":
    main()
