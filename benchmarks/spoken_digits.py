"""Clean -> noisy spoken digits: does training on translated speech help a recogniser in noise that it never heard?

    python benchmarks/spoken_digits.py DATA --out OUT [KEY=VALUE ...] [--seeds 0 1 2 3 4]

DATA holds fsdd/ (Free Spoken Digit Dataset, labels.csv) and noise/ (recordings of seven places, labels.csv). Clean and
labelled: takes 10 and later. Heard by the translator: takes 5 to 9 with the first half of every noise at 0 to 10 dB, no
labels. Tested on: takes 0 to 4 with the second halves. KEY=VALUE changes the translator's config.
"""
import argparse
import csv
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import librosa
import numpy as np
import torch
from recordings import mixed, read, sound
from torch import Tensor

from mmcycle.config import load_config
from mmcycle.files import write_json
from mmcycle.generate.translator import Translator
from mmcycle.metrics.downstream import classifier, gap_closed, interval, sign_flip
from mmcycle.metrics.sound_sets import wasserstein_1
from mmcycle.modalities.sound_files import write_sound
from mmcycle.train.trainer import train

RATE, PLACES = 8000, ("coffee_shop", "city", "train", "rain", "boat", "storm", "kitchen")
DECIBELS = (0.0, 10.0)                                  # signal-to-noise ratios of the noisy recordings
CONFIG = Path(__file__).with_suffix(".yaml")
EPOCHS = 8                                              # of the recogniser

Change = Callable[[int, np.random.Generator], np.ndarray]     # clip, chance -> the clip as an arm trains on it


class Noisy(NamedTuple):
    wave: np.ndarray
    digit: int
    snr: float


class Data:
    """The protocol's three parts for one seed, and the noises themselves, for the oracle."""

    def __init__(self, root: Path, seed: int):
        rng = np.random.default_rng(1000 + seed)
        self.noises = _noises(root)
        self.clean: list[tuple[np.ndarray, int]] = []
        self.heard: list[Noisy] = []
        self.test: list[Noisy] = []
        self.test_clean: list[np.ndarray] = []
        for row in csv.DictReader((root / "fsdd" / "labels.csv").open(encoding="utf-8")):
            wave, digit, take = read(root / "fsdd" / row["file"], RATE), int(row["digit"]), int(row["take"])
            if take >= 10:
                self.clean.append((wave, digit))
            else:
                part, half = (self.heard, 0) if take >= 5 else (self.test, 1)
                snr = rng.uniform(*DECIBELS)
                part.append(Noisy(mixed(wave, self.noise(half, rng), snr, RATE, rng), digit, snr))
                self.test_clean += [wave] if take < 5 else []

    def noise(self, half: int, rng: np.random.Generator) -> np.ndarray:
        return self.noises[PLACES[rng.integers(len(PLACES))]][half]


def features(wave: np.ndarray) -> Tensor:
    """Log-mel, (1, 40, 61): what the recogniser sees, with another front end than the translator's."""
    levels = librosa.feature.melspectrogram(y=wave, sr=RATE, n_fft=256, hop_length=100, n_mels=40, power=1.0)
    levels = np.log(np.maximum(levels[:, :61], 1e-5))
    return torch.from_numpy(np.pad(levels, ((0, 0), (0, 61 - levels.shape[1])), constant_values=math.log(1e-5)))[None]


def arms(data: Data, translator: Translator, seed: int) -> dict[str, Callable[[int], Tensor]]:
    """Name -> the training samples of a pass; but for the first, half of the clips of every pass stay clean."""
    clean = torch.stack([features(wave) for wave, _ in data.clean])
    heard = torch.stack([features(one.wave) for one in data.heard])
    matched = (clean - clean.mean((0, 3), keepdim=True)) / clean.std((0, 3), keepdim=True)
    matched = matched * heard.std((0, 3), keepdim=True) + heard.mean((0, 3), keepdim=True)

    def white(clip: int, rng: np.random.Generator) -> np.ndarray:
        wave = data.clean[clip][0]
        return mixed(wave, rng.standard_normal(len(wave)), rng.uniform(*DECIBELS), RATE, rng)

    def recorded(clip: int, rng: np.random.Generator) -> np.ndarray:
        return mixed(data.clean[clip][0], data.noise(0, rng), rng.uniform(*DECIBELS), RATE, rng)

    def ours(clip: int, rng: np.random.Generator) -> np.ndarray:
        return translator(sound(data.clean[clip][0], RATE), seed=int(rng.integers(2**31))).samples[:, 0]

    def half(change: Change | None) -> Callable[[int], Tensor]:
        def samples(epoch: int) -> Tensor:
            rng = np.random.default_rng((seed, epoch))
            made = clean.clone()
            for clip in np.flatnonzero(rng.random(len(made)) < 0.5):
                made[clip] = matched[clip] if change is None else features(change(int(clip), rng))
            return made
        return samples

    return {
        "clean only": lambda epoch: clean, "mel statistics": half(None), "white noise": half(white),
        "ours": half(ours), "recorded noise (oracle)": half(recorded),
    }


def taught(data: Data, out: Path, seed: int, overrides: list[str]) -> Translator:
    """A translator that heard the clean clips and, without labels, the noisy ones; an interrupted training goes on."""
    for name, waves in (("clean", [wave for wave, _ in data.clean]), ("noisy", [one.wave for one in data.heard])):
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, wave in enumerate(waves):
            if not (folder / f"{number:04d}.wav").exists():
                write_sound(sound(wave, RATE), folder / f"{number:04d}.wav")
    roots = [f"a.root={out / 'clean'}", f"b.root={out / 'noisy'}", f"run.seed={seed}"]
    ended = train(load_config(CONFIG, [*roots, *overrides]), out / "run")
    if ended.signal:
        sys.exit(128 + ended.signal)
    return Translator.load(out / "run", "ab", device="cpu")


def measured(data: Data, translator: Translator, seed: int, epochs: int = EPOCHS) -> dict[str, dict[str, float]]:
    """Every arm's accuracy in noise and on clean speech, per cent, and how near the noise comes to the real one."""
    digits = torch.tensor([digit for _, digit in data.clean])
    answers = torch.tensor([one.digit for one in data.test])
    noisy = torch.stack([features(one.wave) for one in data.test])
    clean = torch.stack([features(wave) for wave in data.test_clean])
    scores: dict[str, dict[str, float]] = {}
    for name, samples in arms(data, translator, seed).items():
        made = classifier(lambda epoch: (samples(epoch), digits), 10, seed, epochs)
        scores[name] = {"noisy": made.accuracy(noisy, answers), "clean": made.accuracy(clean, answers)}
        found = scores[name]
        print(f"seed {seed}  {name:<24} noisy {found['noisy']:5.1f}  clean {found['clean']:5.1f}", flush=True)
    heard = enumerate(wave for wave, _ in data.clean[::8])
    ratios = [translator.perform(sound(wave, RATE), seed=n).facts["snr_db"] for n, wave in heard]
    distance = wasserstein_1(torch.tensor(ratios), torch.tensor([one.snr for one in data.heard]))
    return scores | {"snr": {"mean": float(np.mean(ratios)), "spread": float(np.std(ratios)), "wasserstein": distance}}


def told(results: list[dict[str, dict[str, float]]]) -> str:
    """The table, as Markdown."""
    def over_seeds(arm: str, where: str) -> list[float]:
        return [result[arm][where] for result in results]

    names = [name for name in results[0] if name != "snr"]
    means = {name: interval(over_seeds(name, "noisy")) for name in names}
    ours, white, oracle = over_seeds("ours", "noisy"), over_seeds("white noise", "noisy"), names[-1]
    closed = gap_closed(means["clean only"].mean, means["ours"].mean, means[oracle].mean)
    better = interval([one - other for one, other in zip(ours, white)])
    lines = ["| trained on | accuracy in unheard noise | accuracy on clean speech |", "|---|---|---|"]
    lines += [f"| {name} | {means[name]} | {interval(over_seeds(name, 'clean'))} |" for name in names]
    lines += ["", f"Mean ± 95 % interval over {len(results)} seeds. Ours closes {100 * closed:.0f} % of the gap between clean "
              f"only and recorded noise, and is {better} points better than white noise (sign flips: p = "
              f"{sign_flip(ours, white):.3f}). Signal-to-noise ratio: ours {interval(over_seeds('snr', 'mean'))} dB, spread "
              f"{interval(over_seeds('snr', 'spread'))}, Wasserstein-1 to the heard ones "
              f"{interval(over_seeds('snr', 'wasserstein'))}."]
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as train.steps=2000")
    chosen = options.parse_intermixed_args()
    torch.set_num_threads(1)
    results = []
    for seed in chosen.seeds:
        data, out = Data(chosen.data, seed), chosen.out / f"seed{seed}"
        done = out / "scores.json"
        if not done.exists():
            write_json(done, measured(data, taught(data, out, seed, chosen.overrides), seed))
        results.append(json.loads(done.read_text(encoding="utf-8")))
    print(told(results))


def _noises(root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Place -> the two halves of all that was recorded there."""
    rows = list(csv.DictReader((root / "noise" / "labels.csv").open(encoding="utf-8")))
    whole = {
        place: np.concatenate([read(root / row["file"], RATE) for row in rows if row["kind"] == place]) for place in PLACES
    }
    return {place: (wave[: len(wave) // 2], wave[len(wave) // 2 :]) for place, wave in whole.items()}


if __name__ == "__main__":
    main()
