"""Clean -> noisy speech: is the noise as loud and as varied as the real one, and are the words kept?

    python benchmarks/keywords.py DATA --out OUT [KEY=VALUE ...] [--seeds 0 1 2]

DATA holds clean_speech/, noise/ and noisy_speech/, each with labels.csv. A: half of the clean training files. B: the other
half, mixed with training noise at 0 to 15 dB. Measured on the clean test files, against the same files mixed with noise
that was never heard. KEY=VALUE changes the translator's config. STOI is measured where pystoi is installed.
"""
import argparse
import csv
import json
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
from mmcycle.metrics.downstream import Classifier, classifier, interval
from mmcycle.metrics.noise_level import wada_snr
from mmcycle.metrics.sound import available, log_spectral_distance, stoi
from mmcycle.metrics.sound_sets import sound_frechet, wasserstein_1
from mmcycle.modalities.sound_files import write_sound
from mmcycle.train.trainer import train

RATE, DECIBELS = 16_000, (0.0, 15.0)
WORDS = ("computer", "jarvis", "snowboy", "smart mirror", "view glass")
EPOCHS = 16                                             # of the recogniser
LOUD = 10.0                                             # decibels: speech that a recogniser should still understand


class Clip(NamedTuple):
    wave: np.ndarray
    word: int                                           # -1: none of the words


class Data:
    """Files by part; the mixtures of one seed."""

    def __init__(self, root: Path, seed: int):
        self.rng = np.random.default_rng(2000 + seed)
        clean = _rows(root, "clean_speech")
        training = [row for row in clean if row["split"] == "train"]
        self.rng.shuffle(training)
        half = len(training) // 2
        self.a = [_clip(root, row) for row in training[:half]]
        self.other = [_clip(root, row) for row in training[half:]]
        self.test = [_clip(root, row) for row in clean if row["split"] == "test"]
        self.real = [_clip(root, row) for row in _rows(root, "noisy_speech") if row["label"] in WORDS]
        noises = _rows(root, "noise")
        self.noises = {
            part: [read(root / row["file"], RATE) for row in noises if row["split"].startswith(part)]
            for part in ("train", "test")
        }
        self.b, self.b_ratios = self.mixed([clip.wave for clip in self.other], "train")
        self.truth, self.truth_ratios = self.mixed([clip.wave for clip in self.test], "test")

    def mixed(
        self, waves: list[np.ndarray], part: str, ratios: list[float] | None = None
    ) -> tuple[list[np.ndarray], list[float]]:
        """Waves with recorded noise at the given ratios, or at random ones."""
        ratios = ratios or [float(self.rng.uniform(*DECIBELS)) for _ in waves]
        kinds = self.noises[part]
        return [mixed(x, kinds[self.rng.integers(len(kinds))], r, RATE, self.rng) for x, r in zip(waves, ratios)], ratios

    def whitened(self, waves: list[np.ndarray], ratios: list[float]) -> list[np.ndarray]:
        return [mixed(x, self.rng.standard_normal(len(x)), ratio, RATE, self.rng) for x, ratio in zip(waves, ratios)]


def features(wave: np.ndarray) -> Tensor:
    """Log-mel of the first 1.6 s, (1, 40, 160): the uppermost 25 dB of the recording, the rest is silence."""
    levels = librosa.feature.melspectrogram(y=wave, sr=RATE, n_fft=512, hop_length=160, n_mels=40, power=1.0)[:, :160]
    decibels = 20 * np.log10(np.maximum(levels / max(levels.max(), 1e-5), 10 ** (-25 / 20)))
    return torch.from_numpy(np.pad(decibels, ((0, 0), (0, 160 - levels.shape[1])), constant_values=-25)).float()[None]


def taught(data: Data, out: Path, config: str, seed: int, overrides: list[str]) -> Translator:
    """A translator that heard A and B, never which belongs to which; an interrupted training goes on."""
    for name, waves in (("clean", [clip.wave for clip in data.a]), ("noisy", data.b)):
        (out / name).mkdir(parents=True, exist_ok=True)
        for number, wave in enumerate(waves):
            if not (out / name / f"{number:04d}.flac").exists():
                write_sound(sound(wave, RATE, "PCM_16"), out / name / f"{number:04d}.flac")
    roots = [f"a.root={out / 'clean'}", f"b.root={out / 'noisy'}", f"run.seed={seed}"]
    ended = train(load_config(config, [*roots, *overrides]), out / "run")
    if ended.signal:
        sys.exit(128 + ended.signal)
    return Translator.load(out / "run", "ab", device="cpu")


def measured(data: Data, translator: Translator, seed: int) -> dict[str, dict[str, float]]:
    """Ours, white noise and recorded noise at the very same ratios, and the clean input, each by every measure."""
    clean = [clip.wave for clip in data.test]
    made = [translator.perform(sound(wave, RATE), seed=n) for n, wave in enumerate(clean)]
    ratios = [one.facts["snr_db"] for one in made]
    sets = {
        "clean input": clean,
        "white noise": data.whitened(clean, ratios),
        "ours": [one.raw.samples[:, 0] for one in made],
        "recorded noise": data.mixed(clean, "test", ratios)[0],
    }
    recogniser = _recogniser([(clip.wave, clip.word) for clip in data.a + data.other if clip.word >= 0], seed)
    scores = {name: _scores(data, waves, ratios, recogniser) for name, waves in sets.items()}
    truth = torch.tensor(data.truth_ratios)
    scores["ours"] |= {
        "snr mean": float(np.mean(ratios)), "snr spread": float(np.std(ratios)),
        "snr w1": wasserstein_1(torch.tensor(ratios), truth),
        "true snr mean": float(truth.mean()), "true snr spread": float(truth.std()),
    }
    return scores


def real_recordings(data: Data, translator: Translator, seed: int) -> dict[str, dict[str, float]]:
    """Recognisers trained on clean words, half of them made noisy in three ways: accuracy on really noisy words."""
    words = [(clip.wave, clip.word) for clip in data.a + data.other if clip.word >= 0]
    rng = np.random.default_rng(seed)
    changes: dict[str, Callable[[np.ndarray], np.ndarray] | None] = {
        "clean input": None,
        "white noise": lambda wave: data.whitened([wave], [float(rng.uniform(*DECIBELS))])[0],
        "ours": lambda wave: translator(sound(wave, RATE), seed=int(rng.integers(2**31))).samples[:, 0],
        "recorded noise": lambda wave: data.mixed([wave], "train")[0][0],
    }
    answers = torch.tensor([clip.word for clip in data.real])
    heard = torch.stack([features(clip.wave) for clip in data.real])
    scores = {}
    for name, change in changes.items():
        made = _recogniser(words, seed, change)
        scores[name] = {"accuracy on real noisy words": made.accuracy(heard, answers)}
    return scores


def _recogniser(
    words: list[tuple[np.ndarray, int]], seed: int, change: Callable[[np.ndarray], np.ndarray] | None = None
) -> Classifier:
    clean = torch.stack([features(wave) for wave, _ in words])
    answers = torch.tensor([word for _, word in words])

    def samples(epoch: int) -> tuple[Tensor, Tensor]:
        made = clean.clone()
        if change is not None:
            for n in np.flatnonzero(np.random.default_rng((seed, epoch)).random(len(words)) < 0.5):
                made[n] = features(change(words[n][0]))
        return made, answers

    return classifier(samples, len(WORDS), seed, EPOCHS)


def _scores(data: Data, waves: list[np.ndarray], ratios: list[float], recogniser: Classifier) -> dict[str, float]:
    pairs = [(torch.from_numpy(clip.wave), torch.from_numpy(np.ascontiguousarray(wave)))
             for clip, wave in zip(data.test, waves)]
    loud = [n for n, clip in enumerate(data.test) if clip.word >= 0 and ratios[n] > LOUD]
    truth = [torch.from_numpy(wave) for wave in data.truth]
    distance = sound_frechet([wave for _, wave in pairs], truth, RATE, torch.Generator().manual_seed(0))
    scores = {
        "words kept": recogniser.accuracy(
            torch.stack([features(waves[n]) for n in loud]), torch.tensor([data.test[n].word for n in loud])
        ) if loud else float("nan"),
        "loud words": float(len(loud)),
        "frechet": distance.value, "frechet floor": distance.floor,
        "wada w1": wasserstein_1(*(torch.tensor([wada_snr(y) for y in ys]) for ys in ([y for _, y in pairs], truth))),
        "lsd to clean": float(np.mean([log_spectral_distance(x, y, RATE) for x, y in pairs])),
    }
    if available("stoi"):
        scores["stoi"] = float(np.nanmean([stoi(x, y, RATE) for x, y in pairs]))
    return scores


def told(results: list[dict[str, dict[str, float]]]) -> str:
    """The table, as Markdown: every measure over the seeds."""
    names = list(results[0])
    measures = list(dict.fromkeys(key for name in names for key in results[0][name]))
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for measure in measures:
        cells = [
            _short(interval([result[name][measure] for result in results])) if measure in results[0][name] else ""
            for name in names
        ]
        lines.append(f"| {measure} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _short(found) -> str:
    return f"{found.mean:.3g} ± {found.half_width:.2g}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--config", default="clean_to_noisy_cpu")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as train.steps=2000")
    chosen = options.parse_intermixed_args()
    torch.set_num_threads(1)
    results = []
    for seed in chosen.seeds:
        data, out = Data(chosen.data, seed), chosen.out / f"seed{seed}"
        done = out / "scores.json"
        if not done.exists():
            translator = taught(data, out, chosen.config, seed, chosen.overrides)
            scores = measured(data, translator, seed)
            for name, found in real_recordings(data, translator, seed).items():
                scores[name] |= found
            write_json(done, scores)
            print(f"seed {seed}", json.dumps(scores, indent=1), flush=True)
        results.append(json.loads(done.read_text(encoding="utf-8")))
    print(told(results))


def _rows(root: Path, part: str) -> list[dict[str, str]]:
    return list(csv.DictReader((root / part / "labels.csv").open(encoding="utf-8")))


def _clip(root: Path, row: dict[str, str]) -> Clip:
    return Clip(read(root / row["file"], RATE), WORDS.index(row["label"]) if row["label"] in WORDS else -1)


if __name__ == "__main__":
    main()
