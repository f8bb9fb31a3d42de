"""Clips taken apart into what models are trained on: a folder of their frames and a folder of their sounds.

OUT/frames/dog/a_003.png    OUT/sounds/dog/a.flac    of dog/a.mp4
"""
from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mmcycle.data.clips import SUFFIXES, Clip, Frame, frames, open_clip, sound
from mmcycle.errors import RecordingError, UserError, need
from mmcycle.files import walk, write_atomic


class Taken(NamedTuple):
    """How many clips were taken apart, and those that could not be: (path, why)."""

    clips: int
    broken: tuple[tuple[str, str], ...]


def take_apart(clips: Path, out: Path, each: int = 8, longest: float = 600.0) -> Taken:
    """Write what is missing of the frames, `each` of a clip and evenly spread, and of the sounds, 16 bits.

    longest   seconds of sound; a clip with more counts as broken
    A clip without pictures has no frames, one without sound no sound; what is there already is not looked at again.
    """
    if each < 1:
        raise UserError(f"each is {each}; take a frame or more of every clip")
    found = [path for path in walk(clips) if path.suffix.lower() in SUFFIXES]
    if not found:
        raise UserError(f"{clips}: holds no clips; they end in {', '.join(SUFFIXES)}")
    broken = []
    for path in found:
        name = path.relative_to(clips).as_posix()
        try:
            _take(open_clip(path), out, PurePosixPath(name).with_suffix(""), each, longest)
        except RecordingError as error:
            broken.append((name, str(error)))
    return Taken(len(found) - len(broken), tuple(broken))


def _take(clip: Clip, out: Path, name: PurePosixPath, each: int, longest: float) -> None:
    if clip.film is not None:
        chosen = {(2 * number + 1) * clip.film.count // (2 * each) for number in range(each)}
        places = {place: out / "frames" / f"{name}_{place:03d}.png" for place in chosen}
        if not all(path.exists() for path in places.values()):
            for place, frame in enumerate(frames(clip)):
                if place in places:
                    _write_frame(places[place], frame)
    target = out / "sounds" / f"{name}.flac"
    if clip.track is not None and not target.exists():
        soundfile, heard = need("soundfile", "writing sound files"), sound(clip, longest)
        write_atomic(target, lambda new: soundfile.write(new, heard.samples, heard.rate, "PCM_16", format="FLAC"))


def _write_frame(path: Path, frame: Frame) -> None:
    from PIL import Image

    write_atomic(path, lambda new: Image.fromarray(frame.pixels).save(new, format="PNG"))
