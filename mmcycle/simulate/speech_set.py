"""A folder of speech-like recordings and, apart from them, of street-like noises: what a recipe can always run on.

OUT/speech_set.json
OUT/clean_speech/labels.csv   OUT/clean_speech/voice_00/000.flac    file, speaker, label, transcript, split
OUT/noise/labels.csv          OUT/noise/traffic_00.flac             file, kind, split

Files are named relative to OUT. Voices are those of training or of the test, never of both; so are pieces of noise.
"""
import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from mmcycle.data.seeds import seed_of
from mmcycle.errors import UserError, need
from mmcycle.files import write_atomic, write_json, write_text
from mmcycle.simulate.noises import NOISES, make_noise
from mmcycle.simulate.speech import RATE, WORDS, Voice, say
from mmcycle.simulate.street import agreed

TEST_SHARE = 4                          # every fourth voice is of the test
SENTENCE = 5                            # every fifth recording has several words and no label


@dataclass(frozen=True, kw_only=True)
class SpeechSet:
    """How much there is of what. The same order and seed give the same bytes."""

    seed: int = 0
    voices: int = 32
    takes: int = 10                     # recordings of each voice
    pieces: int = 4                     # of each kind of noise; the last one is of the test
    seconds: float = 8.0                # of a piece of noise


def write_speech_set(out: Path, order: SpeechSet) -> None:
    """Write what is missing; a folder that holds another order is refused."""
    if order.voices < TEST_SHARE or order.takes < 1 or order.pieces < 2 or not order.seconds > 0:
        raise UserError(
            f"{order}: give {TEST_SHARE} voices or more, a take or more, 2 pieces of noise or more, and some seconds"
        )
    said = {"kind": "speech set", **asdict(order), "rate": RATE}
    agreed(out / "speech_set.json", said, "a speech set")
    write_json(out / "speech_set.json", said)
    spoken = [_spoken(order, voice, take) for voice in range(order.voices) for take in range(order.takes)]
    noises = [_noise(order, kind, piece) for kind in NOISES for piece in range(order.pieces)]
    for row, make in (*spoken, *noises):
        if not (out / row["file"]).exists():
            write_flac(out / row["file"], make())
    write_table(out / "clean_speech" / "labels.csv", [row for row, _ in spoken])
    write_table(out / "noise" / "labels.csv", [row for row, _ in noises])


def write_flac(path: Path, wave: Array, rate: int = RATE) -> None:
    """One channel (N,), 16 bits, atomically."""
    soundfile = need("soundfile", "writing sound files")
    write_atomic(path, lambda temporary: soundfile.write(temporary, wave, rate, subtype="PCM_16", format="FLAC"))


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV with the columns of its first row, atomically."""
    page = io.StringIO(newline="")
    writer = csv.DictWriter(page, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, page.getvalue())


def _spoken(order: SpeechSet, voice: int, take: int) -> tuple[dict[str, str], Callable[[], Array]]:
    """A row of the table, and what makes its recording."""
    rng = np.random.default_rng(seed_of(order.seed, "spoken", voice, take))
    speaker = Voice.draw(np.random.default_rng(seed_of(order.seed, "voice", voice)))
    several = take % SENTENCE == SENTENCE - 1
    words = rng.choice(list(WORDS), 4).tolist() if several else [list(WORDS)[(take + voice) % len(WORDS)]]
    row = {
        "file": f"clean_speech/voice_{voice:02d}/{take:03d}.flac", "speaker": f"voice_{voice:02d}",
        "label": "" if several else words[0], "transcript": " ".join(words),
        "split": "test" if voice % TEST_SHARE == TEST_SHARE - 1 else "train",
    }
    return row, lambda: say(words, speaker, rng, rng.uniform(-32, -20))


def _noise(order: SpeechSet, kind: str, piece: int) -> tuple[dict[str, str], Callable[[], Array]]:
    rng = np.random.default_rng(seed_of(order.seed, "noise", kind, piece))
    split = "test" if piece == order.pieces - 1 else "train"
    row = {"file": f"noise/{kind}_{piece:02d}.flac", "kind": kind, "split": split}
    return row, lambda: make_noise(kind, order.seconds, rng, rng.uniform(-40, -25))
