"""A clip is one file of moving pictures and their sound, read frame by frame with the times that its frames have.

Letters: H W size of a frame, N samples, c channels of the sound. Times are exact fractions of a second.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from mmcycle.errors import MmcycleError, RecordingError, need

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi")
MOST_PIXELS = 2**26                         # of a frame; 8K has half as many
MOST_CHANNELS, HIGHEST_RATE = 64, 1_000_000
FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}
ONE_TO_ONE = ("h264", "hevc", "vp9", "av1", "mjpeg")        # every packet becomes one frame
GAP = Fraction(1, 20)                       # seconds; shorter holes in a sound are jitter of its time stamps
LATE = Fraction(1, 2)                       # seconds by which a whole file may end before what its header says
BETTER = 0x2 | 0x2000 | 0x40000             # swscale: bilinear, chroma between its samples, exact rounding


class Frame(NamedTuple):
    """One picture: pixels (H, W, 3) uint8, upright, shown from `time` for `duration`, both in seconds."""

    pixels: np.ndarray
    time: Fraction
    duration: Fraction


class Soundtrack(NamedTuple):
    """samples (N, c) float32, full scale is 1, at `rate` Hz; the first sounds at `start` seconds."""

    samples: np.ndarray
    rate: int
    start: Fraction


class Film(NamedTuple):
    """The moving pictures of a clip, as its header tells."""

    count: int                              # frames
    width: int                              # as stored, before a turn to upright
    height: int
    rate: Fraction                          # frames a second, on average
    time_base: Fraction                     # seconds; all times are multiples of it
    start: Fraction
    end: Fraction


class Track(NamedTuple):
    """The sound of a clip, as its header tells."""

    rate: int
    channels: int
    start: Fraction
    end: Fraction


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A file whose packets were all seen to be there; None where it has no pictures or no sound.

    Of several streams of a kind the first counts; cover pictures, subtitles, chapters, titles and places are not kept.
    """

    path: Path
    film: Film | None
    track: Track | None


def open_clip(path: Path) -> Clip:
    """Read a clip's header and walk over its packets, decoding nothing; RecordingError for all that is not one clip."""
    with opened(path) as container:
        video, audio = streams_of(container)
        if video is None and audio is None:
            raise RecordingError(f"{path}: holds neither pictures nor sound; remove it")
        if video is not None:
            _refuse_pictures(video, path)
        if audio is not None:
            _refuse_sound(audio, path)
        seen = _walk(container, [stream for stream in (video, audio) if stream is not None], path)
        return Clip(
            path=path,
            film=None if video is None else _film(video, seen[video.index]),
            track=None if audio is None else Track(audio.rate, audio.channels, *seen[audio.index][1:]),
        )


def frames(clip: Clip) -> Iterator[Frame]:
    """Every frame in the order it is shown, one in memory at a time; more than 8 bits are rounded to 8."""
    film, path, count, last = clip.film, clip.path, 0, None
    if film is None:
        raise RecordingError(f"{path}: holds no pictures")
    with opened(path) as container:
        stream, to_rgb = streams_of(container)[0], reformatter()
        for frame in _decoded(container, stream, path):
            if (frame.width, frame.height) != (film.width, film.height):
                raise RecordingError(
                    f"{path}: its pictures change from {film.width} x {film.height} to {frame.width} x {frame.height}; "
                    "cut it where they do"
                )
            time = film.start + count / film.rate if frame.pts is None else frame.pts * film.time_base
            if last is not None and time <= last:
                raise RecordingError(f"{path}: its pictures run backwards at {float(time):.3f} s; encode it anew")
            length = frame.duration * film.time_base if frame.duration else 1 / film.rate
            pixels = to_rgb.reformat(frame, format="rgb24", interpolation=BETTER).to_ndarray()
            yield Frame(_upright(pixels, frame, path), time, length)
            count, last = count + 1, time
    if not count or (count < film.count and stream.codec_context.name in ONE_TO_ONE):
        raise RecordingError(f"{path}: only {count} of its {film.count} pictures can be decoded; it is damaged")


def sound(clip: Clip, max_seconds: float = 4 * 3600.0) -> Soundtrack:
    """The whole sound, 4 bytes a sample and channel; holes in it become silence, what is longer is refused."""
    track, path, blocks, total, start = clip.track, clip.path, [], 0, None
    if track is None:
        raise RecordingError(f"{path}: holds no sound")
    with opened(path) as container:
        stream = streams_of(container)[1]
        for frame in _decoded(container, stream, path):
            block = _samples(frame, path)
            if frame.sample_rate != track.rate or block.shape[1] != track.channels:
                raise RecordingError(f"{path}: its sound changes its rate or channels; cut it where it does")
            time = start + Fraction(total, track.rate) if frame.pts is None and start is not None else _time(frame)
            start = time if start is None else start
            hole = time - start - Fraction(total, track.rate)
            silence = round(hole * track.rate) if hole > GAP else 0
            total += silence + len(block)
            if total > max_seconds * track.rate:
                raise RecordingError(f"{path}: has more than {max_seconds:g} s of sound; cut it into shorter ones")
            blocks += [np.zeros((silence, track.channels), np.float32)] * bool(silence) + [block]
    if not total:
        raise RecordingError(f"{path}: its sound holds no samples; it is damaged")
    samples = np.concatenate(blocks)
    if not np.isfinite(samples).all():
        raise RecordingError(f"{path}: its sound has samples that are NaN or infinite")
    return Soundtrack(samples.clip(-1, 1), track.rate, start)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """PyAV's container of a clip; what goes wrong while it is open is told as the failure of this recording."""
    av = need("av", "reading clips")
    try:
        mode = path.stat().st_mode
        if not S_ISREG(mode):               # a pipe would never end
            raise RecordingError(f"{path}: is {'a folder' if S_ISDIR(mode) else 'a pipe or a device'}, not a clip")
        with path.open("rb") as file:
            form = _container_of(file, path)
            with av.open(file, format=form, io_open=_nothing_else, metadata_errors="replace") as container:
                yield container
    except MmcycleError:
        raise
    except (av.FFmpegError, OSError, ValueError, ArithmeticError, LookupError) as error:    # what a header does to us
        told = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise RecordingError(
            f"{path}: cannot be read as a clip: {told}; it is damaged or truncated, "
            "restore it from where it was copied, or remove it"
        ) from error


def streams_of(container: Any) -> tuple[Any | None, Any | None]:
    """The first stream of pictures that move, and the first of sound."""
    pictures = (one for one in container.streams.video if not int(one.disposition) & 0x400)     # a cover
    return next(pictures, None), next(iter(container.streams.audio), None)


def reformatter() -> Any:
    """PyAV's converter of pictures; one of them for a whole film is twice as fast as one for each frame."""
    return need("av.video.reformatter", "reading clips", "av").VideoReformatter()


def length_of(packet: Any) -> Fraction:
    """Seconds that a packet lasts; WebM does not say it of the last picture."""
    if packet.duration or packet.stream.type != "video":
        return (packet.duration or 0) * Fraction(packet.time_base)
    rate = packet.stream.average_rate or packet.stream.guessed_rate
    return 1 / Fraction(rate) if rate else Fraction(0)


def _container_of(file: BinaryIO, path: Path) -> str:
    """FFmpeg's name for what the bytes are: guessing, it would also take a list of other files to be played."""
    head = file.read(16)
    file.seek(0)
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    what = "is empty" if not head else "is none of them"
    raise RecordingError(f"{path}: clips are MP4, MOV, Matroska, WebM or AVI files, this {what}; remove or convert it")


def _nothing_else(url: str, flags: int, options: dict[str, str]) -> Any:
    raise PermissionError(1, f"it asks for another file, {url!r}")


def _refuse_pictures(stream: Any, path: Path) -> None:
    codec = stream.codec_context
    if codec is None or not codec.width or not codec.height or codec.pix_fmt is None:
        raise RecordingError(f"{path}: its pictures cannot be decoded; convert it, or restore it from its source")
    if codec.width * codec.height > MOST_PIXELS:
        raise RecordingError(
            f"{path}: its header speaks of frames of {codec.width} x {codec.height} pixels; allowed are {MOST_PIXELS}"
        )
    alpha = codec.format.name.startswith(("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya", "pal8"))
    if alpha or stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1":
        raise RecordingError(f"{path}: its pictures are transparent in part; remove the alpha channel, it is not kept")


def _refuse_sound(stream: Any, path: Path) -> None:
    codec = stream.codec_context
    if codec is None or not 0 < codec.sample_rate <= HIGHEST_RATE or not 0 < codec.channels <= MOST_CHANNELS:
        raise RecordingError(f"{path}: its sound cannot be decoded; convert it, or restore it from its source")


def _walk(container: Any, streams: list[Any], path: Path) -> dict[int, tuple[int, Fraction, Fraction]]:
    """Stream -> number of packets that are shown, start and end in seconds."""
    seen = {stream.index: (0, Fraction(0), Fraction(0)) for stream in streams}
    stored = dict.fromkeys(seen, 0)
    for packet in container.demux(streams):
        if not packet.size:
            continue
        if packet.is_corrupt:
            raise RecordingError(f"{path}: is truncated or damaged; restore it from where it was copied, or remove it")
        stored[packet.stream_index] += 1
        if packet.is_discard:               # needed by others, before the cut
            continue
        count, start, end = seen[packet.stream_index]
        at = packet.pts if packet.pts is not None else packet.dts
        time = end if at is None else at * packet.time_base
        until = time + length_of(packet)
        seen[packet.stream_index] = count + 1, min(start, time) if count else time, max(end, until) if count else until
    _refuse_holes(container, streams, seen, stored, path)
    return seen


def _refuse_holes(container: Any, streams: list[Any], seen: dict, stored: dict[int, int], path: Path) -> None:
    """What the header promises must be there."""
    for stream in streams:
        kind = "pictures" if stream.type == "video" else "sound"
        if not seen[stream.index][0]:
            raise RecordingError(f"{path}: its header speaks of {kind}, but there is none in it; it is truncated")
        if kind == "pictures" and stored[stream.index] < stream.frames:
            raise RecordingError(
                f"{path}: is truncated: {stored[stream.index]} of {stream.frames} pictures are there; "
                "restore it from where it was copied, or remove it"
            )
        _refuse_early(seen[stream.index][2], (stream.start_time or 0, stream.duration or 0), stream.time_base, path)
    if len(streams) == len(container.streams):          # others, such as subtitles, may be longer
        times = (container.start_time or 0, container.duration or 0)
        _refuse_early(max(end for _, _, end in seen.values()), times, Fraction(1, 1_000_000), path)


def _refuse_early(ends: Fraction, promised: tuple[int, int], time_base: Fraction, path: Path) -> None:
    """promised: where it is to start, and how long it is to last."""
    until = sum(promised) * time_base
    if ends < until - LATE:
        raise RecordingError(
            f"{path}: is truncated: it ends after {float(ends):.2f} s, its header says {float(until):.2f} s; "
            "restore it from where it was copied, or remove it"
        )


def _film(stream: Any, seen: tuple[int, Fraction, Fraction]) -> Film:
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate or Fraction(25)
    codec, (count, start, end) = stream.codec_context, seen
    return Film(count, codec.width, codec.height, Fraction(rate), Fraction(stream.time_base), start, end)


def _decoded(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    """Every frame of one stream; a damaged packet is an error, not a gray picture."""
    stream.codec_context.options = {"max_pixels": str(MOST_PIXELS), "err_detect": "explode"}
    for packet in container.demux(stream):
        yield from packet.decode()


def _upright(pixels: np.ndarray, frame: Any, path: Path) -> np.ndarray:
    """As the file says it is to be shown: turned by quarters, mirrored."""
    said = [bytes(one) for one in frame.side_data if one.type.name == "DISPLAYMATRIX"]
    if not said:
        return pixels
    a, b, c, d = (np.frombuffer(said[0], np.int32)[[0, 1, 3, 4]] / 65536).round(3).tolist()
    if {abs(a), abs(d)} == {0} and {abs(b), abs(c)} == {1}:
        pixels = pixels.transpose(1, 0, 2)
        across, down = c, b
    elif {abs(a), abs(d)} == {1} and {abs(b), abs(c)} == {0}:
        across, down = a, d
    else:
        raise RecordingError(f"{path}: is to be shown turned by other than a quarter; encode it upright")
    return np.ascontiguousarray(pixels[:: int(down), :: int(across)])


def _samples(frame: Any, path: Path) -> np.ndarray:
    """(N, c) float32."""
    form, channels = frame.format.name, frame.layout.nb_channels
    full = FULL_SCALE.get(form.removesuffix("p"))
    if full is None:
        raise RecordingError(f"{path}: its sound has samples of the kind {form!r}; convert it")
    raw = frame.to_ndarray()
    samples = raw.T if frame.format.is_planar else raw.reshape(-1, channels)
    return np.ascontiguousarray((samples - full if form.startswith("u8") else samples) / full, dtype=np.float32)


def _time(frame: Any) -> Fraction:
    return Fraction(0) if frame.pts is None else frame.pts * Fraction(frame.time_base)
