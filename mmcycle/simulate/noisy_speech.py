"""Two unpaired domains, clean and noisy speech, made of clean speech and noise that were recorded apart.

IN/clean_speech/labels.csv   file (relative to IN), split (train or test), and what else is known: speaker, label, ...
IN/noise/labels.csv          file, split

OUT/clean     half of the training speakers as they are, with their rows of labels.csv
OUT/noisy     the other half, each mixed with a piece of training noise; nobody says which, nor how loud
OUT/held_out  the test speakers: clean; noisy, in test noise; noise, which is the truth about noisy. Never for training.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmcycle.data.layouts.table import read_rows
from mmcycle.data.seeds import seed_of
from mmcycle.errors import UserError
from mmcycle.files import copy_atomic, inside, sha256, write_atomic, write_json
from mmcycle.metrics.noise_level import mix_at_snr
from mmcycle.modality import Modality
from mmcycle.simulate.speech_set import write_table
from mmcycle.simulate.street import agreed

TABLES = ("clean_speech/labels.csv", "noise/labels.csv")
TRIES = 16                              # places of a piece of noise that are looked at for one that is not silent

Row = dict[str, str]


class Mixed(NamedTuple):
    """noisy = scale * clean + noise, (N,) each; scale is 1 unless the sum would have clipped."""

    noisy: Tensor
    noise: Tensor


def write_noisy_speech(
    source: Path, out: Path, sound: Modality, snr_db: tuple[float, float] = (0.0, 15.0), seed: int = 0
) -> None:
    """Write what is missing of OUT from IN; every SNR in the range is equally likely, at the level of active speech.

    `sound` reads and writes recordings with samples (N, channels) and a rate in Hz; channels are averaged in what is
    mixed. Speakers of one name, or files of an unnamed one, stay on one side. A recording's noise depends on its
    name and the seed alone. UserError: a table that is missing or wrong, an OUT that was made of something else.
    """
    spoken, noises = (_rows(source, table) for table in TABLES)
    order = {"seed": seed, "snr_db": list(snr_db), "tables": [sha256(source / table) for table in TABLES]}
    agreed(out / "noisy_speech.json", order, "noisy speech")
    write_json(out / "noisy_speech.json", order)
    clean, other = _halves([row for row in spoken if row["split"] == "train"], seed)
    tested = [row for row in spoken if row["split"] == "test"]
    train_noise, test_noise = ([row["file"] for row in noises if row["split"] == split] for split in ("train", "test"))
    if not (clean and other and tested and train_noise and test_noise):
        raise UserError(f"{source}: two training speakers, a test speaker and noise of both splits are needed at least")
    mixer = _Mixer(source, sound, snr_db, seed)
    _copy(source, clean, out / "clean")
    for row in other:
        mixer.write(row, train_noise, out / "noisy", None)
    held_out = out / "held_out"
    _copy(source, tested, held_out / "clean")
    told = [row | mixer.write(row, test_noise, held_out / "noisy", held_out / "noise") for row in tested]
    write_table(held_out / "noisy" / "labels.csv", [row | {"file": _name(row)} for row in told])


class _Mixer:
    """Draws a place in the noise and a level for each recording, and writes the mixture."""

    def __init__(self, source: Path, sound: Modality, snr_db: tuple[float, float], seed: int) -> None:
        self.source, self.sound, self.snr_db, self.seed = source, sound, snr_db, seed

    def write(self, row: Row, noises: Sequence[str], noisy: Path, noise: Path | None) -> Row:
        """The mixture, and the noise in it where that is wanted; returns which noise it is and how loud."""
        rng = np.random.default_rng(seed_of(self.seed, "noise", row["file"]))
        snr, piece = round(rng.uniform(*self.snr_db), 2), noises[rng.integers(len(noises))]
        targets = [folder / _name(row) for folder in (noisy, noise) if folder is not None]
        if not all(target.exists() for target in targets):
            speech = self.sound.load(inside(self.source, row["file"]))
            mixed = _mixed(speech, self.sound.load(inside(self.source, piece)), snr, rng, row["file"], piece)
            for target, wave in zip(targets, mixed):
                raw = replace(speech, samples=np.ascontiguousarray(wave[:, None].numpy(), dtype=np.float32))
                write_atomic(target, lambda temporary, raw=raw: self.sound.save(raw, temporary))
        return {"noise": piece, "snr_db": f"{snr:.2f}"}


def _mixed(speech: Any, noise: Any, snr: float, rng: np.random.Generator, spoken: str, piece: str) -> Mixed:
    from torchaudio.functional import resample

    clean, other = (torch.from_numpy(raw.samples.mean(axis=1)) for raw in (speech, noise))
    if noise.rate != speech.rate:
        other = resample(other, noise.rate, speech.rate)
    if not clean.any():
        raise UserError(f"{spoken}: is silent, so no noise can be so and so much softer; take it out of {TABLES[0]}")
    for _ in range(TRIES):
        cut = _cut(other, len(clean), int(rng.integers(len(other))))
        if cut.any():
            wave, scale = mix_at_snr(clean, cut, snr, speech.rate)
            return Mixed(wave, wave - scale * clean)
    raise UserError(f"{piece}: is silent for the most part; take it out of {TABLES[1]}")


def _cut(wave: Tensor, samples: int, start: int) -> Tensor:
    """`samples` of a wave from `start` on; at its end it begins anew."""
    return wave.roll(-start).repeat(-(-samples // len(wave)))[:samples]


def _rows(source: Path, table: str) -> list[Row]:
    """The rows of a table, whose files are there and whose splits are known."""
    rows = read_rows(source / table).rows
    for number, row in enumerate(rows, start=2):
        place = f"{source / table}:{number}"
        for column in ("file", "split"):
            if not row.get(column):
                raise UserError(f"{place}: has no {column!r}; each row needs a file and a split")
        if not inside(source, row["file"]).is_file():
            raise UserError(f"{place}: {row['file']} is not there; files are named relative to {source}")
    return rows


def _halves(rows: Sequence[Row], seed: int) -> tuple[list[Row], list[Row]]:
    """All recordings of a speaker on one side; as many speakers on either side of each corpus."""
    speakers = sorted({_speaker(row) for row in rows}, key=lambda one: (one[0], seed_of(seed, "half", *one)))
    first = set(speakers[::2])
    return [row for row in rows if _speaker(row) in first], [row for row in rows if _speaker(row) not in first]


def _speaker(row: Row) -> tuple[str, str]:
    return row.get("corpus", ""), row.get("speaker") or row["file"]


def _copy(source: Path, rows: Sequence[Row], out: Path) -> None:
    for row in rows:
        if not (out / _name(row)).exists():
            copy_atomic(inside(source, row["file"]), out / _name(row))
    write_table(out / "labels.csv", [row | {"file": _name(row)} for row in rows])


def _name(row: Row) -> str:
    """Its name below its domain: that of the source without the first folder, "kws/computer_17.flac"."""
    path = PurePosixPath(row["file"])
    return PurePosixPath(*path.parts[1:]).as_posix() if len(path.parts) > 1 else path.name
