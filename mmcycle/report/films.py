"""Clips on a page: small ones that browsers play as they are, others as some of their frames; and how they sound."""
from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image as Pillow

from mmcycle.data.clips import SUFFIXES as SUFFIXES
from mmcycle.data.clips import Clip, open_clip, opened, streams_of
from mmcycle.errors import need
from mmcycle.modality import Exhibit, Modality
from mmcycle.report.numbers import short

LARGEST = 2_000_000                             # bytes of a clip that is embedded whole
TYPES = {".mp4": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
PICTURES = ("h264", "vp8", "vp9", "av1")        # what every browser decodes
COLOURS = ("yuv420p", "yuvj420p")
SOUNDS = ("aac", "mp3", "opus", "vorbis", "flac")
SHEET = (3, 2)                                  # frames across and down where a clip is not played
HEARD = 20                                      # seconds of its sound that are drawn


@dataclass(frozen=True)
class Film:
    """`source` is a data: address of a clip; width and height are those of its pictures, in pixels."""

    kind: ClassVar[str] = "film"
    source: str
    width: int
    height: int
    about: str


def film(path: Path) -> Film | None:
    """A clip that is small enough and of a kind that browsers play, or None."""
    mime, clip = TYPES.get(path.suffix.lower()), open_clip(path)
    if mime is None or clip.film is None or path.stat().st_size > LARGEST or not _plays(path):
        return None
    source = f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"
    return Film(source, clip.film.width, clip.film.height, about(clip))


def about(clip: Clip) -> str:
    """What its header tells, in a line."""
    told = []
    if clip.film is not None:
        seconds = float(clip.film.end - clip.film.start)
        told = [f"{seconds:.1f} s", f"{clip.film.count} frames of {clip.film.width} × {clip.film.height}"]
    if clip.track is not None:
        told.append(f"sound of {short(clip.track.rate / 1000)} kHz")
    return ", ".join(told)


def sheet(path: Path, width: int) -> Pillow.Image | None:
    """Frames from the beginning to the end of a clip as one picture; None where it has no pictures."""
    clip, (across, down) = open_clip(path), SHEET
    if clip.film is None:
        return None
    length = clip.film.end - clip.film.start
    times = [clip.film.start + length * (2 * index + 1) / (2 * across * down) for index in range(across * down)]
    shots = [Pillow.fromarray(pixels) for pixels in _frames_at(path, times)]
    for shot in shots:
        shot.thumbnail((width // across, width))
    wide, high = shots[0].size
    page = Pillow.new("RGB", (across * wide, down * high))
    for index, shot in enumerate(shots):
        page.paste(shot, (index % across * wide, index // across * high))
    return page


def heard(path: Path, sensor: Modality) -> Sequence[Exhibit]:
    """The beginning of its sound, as a sensor of sound presents it; () where there is none."""
    with opened(path) as container:
        stream = streams_of(container)[1]
        if stream is None:
            return ()
        av, rate, blocks, samples = need("av", "clips in a report"), stream.rate, [], 0
        to_floats = av.AudioResampler(format="fltp")
        for frame in container.decode(stream):
            blocks += [block.to_ndarray() for block in to_floats.resample(frame)]
            samples += frame.samples
            if samples > HEARD * rate:
                break
    wave = np.concatenate(blocks, axis=1)[:, : HEARD * rate].clip(-1, 1)
    raw = sensor.from_array(np.ascontiguousarray(wave, dtype=np.float32), rate)
    return () if raw is None else sensor.present(raw)


def _plays(path: Path) -> bool:
    with opened(path) as container:
        pictures, sound = streams_of(container)
        coded = pictures.codec_context
        return coded.name in PICTURES and coded.pix_fmt in COLOURS and (
            sound is None or sound.codec_context.name in SOUNDS
        )


def _frames_at(path: Path, times: Sequence[Fraction]) -> Iterator[np.ndarray]:
    """For each time the first frame from it on, else the last one of the clip."""
    with opened(path) as container:
        stream = streams_of(container)[0]
        for time in times:
            container.seek(int(time / stream.time_base), stream=stream)
            shot = None
            for frame in container.decode(stream):
                shot = frame
                if frame.pts is None or frame.pts * stream.time_base >= time:
                    break
            if shot is not None:
                yield shot.to_ndarray(format="rgb24")
