"""Clips translated as wholes: their pictures by one model, their sound by another, written once.

    night = joined({"camera": Translator.load(Path("runs/night")), "audio": Translator.load(Path("runs/noisy"))})
    made = night.perform(night.source.load(Path("dog.mp4")))
    night.target.save(made.raw, Path("out/dog.mp4"))
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmcycle.data.clip_writer import write_clip
from mmcycle.data.clips import SUFFIXES, Clip, Frame, Soundtrack, frames, open_clip, sound
from mmcycle.errors import RecordingError, UserError
from mmcycle.generate.parts import SMOOTH
from mmcycle.generate.safety import NAME, agreement
from mmcycle.generate.shard import Samples, Translates
from mmcycle.generate.steadiness import Steadied, steady_moments
from mmcycle.generate.translator import Translation, Translator

PICTURES, SOUND = "camera", "audio"         # the streams of a clip
LONGEST = 4 * 3600.0                        # seconds of sound; it is translated in one piece
SCORED = 8                                  # frames of a film, evenly spread, whose mean is its label safety


class Made(NamedTuple):
    """A clip of which the sound is translated; its frames will be when it is written. None: copied.

    safety   "audio.safety" -> how far sound and translation agree; "camera.safety" is there once the clip is written
    """

    clip: Clip
    frames: Callable[[], Generator[Frame]] | None
    sound: Soundtrack | None
    safety: dict[str, float]


class Clips:
    """How clips are read and written; what `generate` asks of a modality. Only the header is read at once."""

    suffixes = SUFFIXES

    def __init__(self, streams: tuple[str, ...]):
        self.streams = streams              # that a clip must have

    def load(self, path: Path) -> Clip:
        clip = open_clip(path)
        for stream, there, what in ((PICTURES, clip.film, "pictures"), (SOUND, clip.track, "sound")):
            if stream in self.streams and there is None:
                raise RecordingError(f"{path}: holds no {what}, which the stream {stream!r} translates; remove it")
        return clip

    def save(self, raw: Made, path: Path) -> None:
        """Decode, translate and encode frame by frame; `path` names the container by its suffix.

        One film at a time: while it runs, the network of its frames remembers what it has seen of it.
        """
        if raw.frames is None:
            write_clip(path, raw.clip, None, raw.sound)
            return
        with closing(raw.frames()) as film:             # an error must not leave the network remembering
            write_clip(path, raw.clip, film, raw.sound)

    def relabel(self, label: Path, target: Path, raw: Made) -> bool:
        """Never: places and times are those of the source."""
        return False


class ClipTranslator:
    """Both translators of a clip, in the form of one: see generate/shard.py. Facts are named "audio.snr_db"."""

    def __init__(self, parts: dict[str, Translates], smooth: float, judges: Mapping[str, str]):
        self.parts, self.smooth, self.judges = parts, smooth, judges
        self.source = self.target = Clips(tuple(parts))
        told = "".join(f"{stream}={one.sha256}\n" for stream, one in sorted(parts.items())) + f"smooth={smooth}"
        self.sha256 = hashlib.sha256(told.encode()).hexdigest()
        self.run = "+".join(str(one.run) for one in parts.values())
        self.direction = "+".join(one.direction for one in parts.values())

    @property
    def stochastic(self) -> bool:
        return any(one.stochastic for one in self.parts.values())

    def perform(self, raw: Clip, strength: float = 1.0, seed: int = 0) -> Translation:
        """The sound is translated now, the frames when the result is saved: in one style, that of `seed`."""
        made, facts, safety = None, {}, {}
        if SOUND in self.parts:
            made, found, samples = _heard(self.parts[SOUND], sound(raw, LONGEST), raw.path, strength, seed)
            facts = {f"{SOUND}.{name}": value for name, value in found.items()}
            safety = self._safety(SOUND, [self._score(SOUND, samples)])
        if PICTURES not in self.parts:
            return Translation(Made(raw, None, made, safety), facts)
        facts |= {f"{PICTURES}.smooth": self.smooth}
        return Translation(Made(raw, lambda: self._film(raw, strength, seed, safety), made, safety), facts)

    def _film(self, clip: Clip, strength: float, seed: int, safety: dict[str, float]) -> Generator[Frame]:
        """The translated frames, one at a time; how far they agree, as the model made them, comes into `safety`."""
        one, steadied, scores = self.parts[PICTURES], Steadied(self.smooth), []
        scored = {(2 * number + 1) * clip.film.count // (2 * SCORED) for number in range(SCORED)}
        with steady_moments(one.generator) if isinstance(one, Translator) else nullcontext(_nothing) as show:
            for place, frame in enumerate(frames(clip)):
                show(frame.pixels)
                pixels, samples = _seen(one, frame.pixels, strength, seed)
                if place in scored:
                    scores.append(self._score(PICTURES, samples))
                yield frame._replace(pixels=steadied(frame.pixels, pixels) if self.smooth else pixels)
        safety |= self._safety(PICTURES, scores)

    def _score(self, stream: str, samples: Samples | None) -> float | None:
        return None if samples is None else agreement(*samples(), self.judges.get(stream))

    @staticmethod
    def _safety(stream: str, scores: list[float | None]) -> dict[str, float]:
        known = [score for score in scores if score is not None]
        return {f"{stream}.{NAME}": round(sum(known) / len(known), 4)} if known else {}


def joined(
    translators: Mapping[str, Translates | None], smooth: float = SMOOTH, judges: Mapping[str, str] | None = None
) -> ClipTranslator:
    """{"camera": ..., "audio": ...} -> one translator of clips; a stream that is None or missing is copied as it is.

    smooth  in [0, 1): see `Steadied`; 0 shows every frame as the model made it
    judges  stream -> what scores it instead of its edges: see `agreement`
    """
    parts = {stream: one for stream, one in translators.items() if one is not None}
    if not 0 <= smooth < 1:
        raise UserError(f"smooth is {smooth}; it lies from 0, every frame by itself, to below 1")
    if not parts or not set(parts) <= {PICTURES, SOUND}:
        got = ", ".join(map(repr, parts)) or "none"
        raise UserError(f"a clip has the streams {PICTURES!r} and {SOUND!r}; got {got}")
    probes = {PICTURES: (np.zeros((3, 8, 8), np.uint8), None), SOUND: (np.zeros((1, 8), np.float32), 16_000)}
    for stream, one in parts.items():
        source, target = type(one.source).__name__, type(one.target).__name__
        if source != target or not _takes(one, *probes[stream]):
            raise UserError(f"the run of stream {stream!r} makes {target} of {source}; it must make "
                            f"{'pictures of pictures' if stream == PICTURES else 'sound of sound'} to fit into a clip")
    return ClipTranslator(parts, smooth, judges or {})


def _takes(translator: Translates, probe: np.ndarray, rate: int | None) -> bool:
    try:
        return translator.source.from_array(probe, rate) is not None
    except UserError:
        return False


def _seen(
    translator: Translates, pixels: np.ndarray, strength: float, seed: int
) -> tuple[np.ndarray, Samples | None]:
    """One frame (H, W, 3) -> its translation, and both for measuring."""
    bands = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    made = translator.perform(translator.source.from_array(bands), strength, seed)
    return np.ascontiguousarray(translator.target.to_array(made.raw, bands).transpose(1, 2, 0)), made.samples


def _heard(
    translator: Translates, track: Soundtrack, path: Path, strength: float, seed: int
) -> tuple[Soundtrack, dict[str, float], Samples | None]:
    """The sound, translated; one that would be cut off is turned down as a whole, and that is a fact."""
    waves = np.ascontiguousarray(track.samples.T)
    raw = translator.source.from_array(waves, track.rate)
    if raw is None:
        raise RecordingError(f"{path}: its sound, {waves.shape[1]} samples of {len(waves)} channels, is too short")
    translation = translator.perform(raw, strength, seed)
    samples, facts = np.ascontiguousarray(translator.target.to_array(translation.raw, waves).T), translation.facts
    peak = float(np.abs(samples).max())
    if peak > 1:
        samples, facts = samples / np.float32(peak), facts | {"level_db": round(-20 * float(np.log10(peak)), 2)}
    return Soundtrack(samples, track.rate, track.start), facts, translation.samples


def _nothing(pixels: np.ndarray) -> None:
    """A translator that remembers no film needs not be shown it."""
