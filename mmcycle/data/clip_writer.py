"""A clip written again, with new pictures or sound at the times of the old; what is not new is copied by packets."""
from __future__ import annotations

import heapq
import warnings
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmcycle.data.clips import BETTER, Clip, Frame, Soundtrack, length_of, opened, reformatter, streams_of
from mmcycle.errors import RecordingError, UserError, need

BLOCK = 1024                                # samples handed to an encoder at once
BROADCAST = 1                               # colour range: black is 16, white 235
MATRICES = {1: 1, 5: 5, 6: 5, 7: 7, 9: 9}   # how a file tells its colours (ITU-T H.273) -> swscale's name for it


class Format(NamedTuple):
    """How a container is written: FFmpeg's name, encoders of pictures, best first, of sound, and of lossless sound."""

    name: str
    pictures: tuple[str, ...]
    sound: str
    lossless: str


H264 = ("libx264", "libopenh264", "mpeg4")
FORMATS = {
    ".mp4": Format("mp4", H264, "aac", "aac"), ".mov": Format("mov", H264, "aac", "pcm_s16le"),
    ".mkv": Format("matroska", H264, "aac", "flac"),
    ".webm": Format("webm", ("libvpx-vp9", "libvpx"), "libopus", "libopus"),
    ".avi": Format("avi", ("mpeg4",), "pcm_s16le", "pcm_s16le"),    # the times of H.264 are guessed there, a frame late
}
# One thread: the bytes must not depend on the machine. No macroblock tree: x264's reads memory that nobody has written,
# so that the same frames became other bytes once in a while; without it files are a fifth larger, and a little better.
OPTIONS = {
    "libx264": {"preset": "veryfast", "crf": "18", "bf": "0", "mbtree": "0", "threads": "1"},
    "libopenh264": {"rc_mode": "quality", "threads": "1"},
    "mpeg4": {"qmin": "2", "qmax": "3", "bf": "0", "threads": "1"},
    "libvpx-vp9": {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "5", "lag-in-frames": "0", "threads": "1"},
    "libvpx": {"crf": "8", "b": "4M", "deadline": "good", "cpu-used": "5", "lag-in-frames": "0", "threads": "1"},
}
BIT_RATE = {"aac": 96_000, "libopus": 96_000}       # bits a second for each channel
LOSSLESS = ("flac", "alac", "wavpack", "tta")
WHOLE_CHROMA = ("yuv444p", "yuvj444p", "rgb24", "bgr24", "gbrp", "rgb0", "bgr0")


class Timed(NamedTuple):
    """A packet that is ready, and when it is needed, in seconds."""

    time: Fraction
    packet: Any


def write_clip(path: Path, source: Clip, frames: Iterator[Frame] | None, sound: Soundtrack | None) -> None:
    """Write `frames` and `sound` in the place of the source's, in the container that the suffix of `path` names.

    None: copied as it is, packet by packet. Frames keep their times, variable rates too; sound its place to the
    sample. Written are H.264 and AAC, in WebM VP9 and Opus, in AVI MPEG-4 and 16 bits; sound that was lossless stays
    so where the container allows, in 16 bits; pictures have 8 bits, are upright and coded without reordering, those
    of odd size in full colour (4:4:4). The same frames and sound give the same bytes.
    """
    av = need("av", "writing clips")
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise RecordingError(f"{path}: clips cannot be written as {path.suffix!r}; allowed are {', '.join(FORMATS)}")
    with path.open("wb") as file, av.open(file, "w", format=form.name) as out:
        out.flags |= 0x400                  # bit-exact: no dates, no random numbers
        try:
            packets = _streams(out, path.suffix, source, frames, sound)
            out.start_encoding()
            for timed in heapq.merge(*packets, key=lambda timed: timed.time):
                out.mux(timed.packet)
        except (av.FFmpegError, ValueError) as error:
            told = getattr(error, "strerror", None) or error
            raise RecordingError(f"{path}: cannot be written as {form.name}: {told}") from error


def encoder_for(suffix: str) -> str:
    """The encoder of pictures that this machine has for a container; a lesser one is a warning, none an error."""
    av, form = need("av", "writing clips"), FORMATS[suffix.lower()]
    for name in form.pictures:
        if name in av.codecs_available and _encodes(av, name):
            if name != form.pictures[0]:
                told = f"this PyAV has no {form.pictures[0]}: {suffix} is written by {name}, of less quality"
                warnings.warn(told, stacklevel=2)
            return name
    lacking = f"none of {', '.join(form.pictures)}"
    raise UserError(f"this PyAV has no encoder for {suffix}: {lacking}; install its wheel: pip install av")


def _encodes(av: Any, name: str) -> bool:
    try:
        return bool(av.codec.Codec(name, "w"))
    except ValueError:
        return False


def _streams(
    out: Any, suffix: str, source: Clip, frames: Iterator[Frame] | None, sound: Soundtrack | None
) -> list[Iterator[Timed]]:
    """The streams of the source, all added to `out`, and the packets of each in order; none is made yet."""
    packets, form = [], FORMATS[suffix.lower()]
    with opened(source.path) as original:
        video, audio = streams_of(original)
        if video is not None and form.name in ("mp4", "mov"):
            out.container_options["video_track_timescale"] = str(video.time_base.denominator)
        if video is not None and frames is None:
            packets.append(_copied(out, video, source.path))
        elif video is not None:
            packets.append(_encoded(out, suffix, video, source, frames))
        if audio is not None:
            copied = sound is None
            packets.append(_copied(out, audio, source.path) if copied else _sounding(out, form, audio, sound))
    return packets


def _copied(out: Any, stream: Any, path: Path) -> Iterator[Timed]:
    """The packets of one stream as they are, from a file of its own: the other stream is read at its own pace."""
    try:
        target = out.add_stream_from_template(stream, opaque=True)
    except ValueError as error:
        codec, into = stream.codec_context.name, out.format.name
        raise RecordingError(f"{path}: its {codec} cannot be put into {into} untranslated; convert it first") from error
    target.metadata.clear()
    return _packets(target, path, stream.index)


def _packets(target: Any, path: Path, index: int) -> Iterator[Timed]:
    with opened(path) as container:
        last = Fraction(0)
        for packet in container.demux(container.streams[index]):
            if packet.size:
                last = packet.dts * packet.time_base if packet.dts is not None else last
                packet.duration = round(length_of(packet) / packet.time_base)
                packet.stream = target
                yield Timed(last, packet)


def _encoded(out: Any, suffix: str, like: Any, source: Clip, frames: Iterator[Frame]) -> Iterator[Timed]:
    first = next(frames, None)
    if first is None:
        raise RecordingError(f"{source.path}: no pictures were made of it")
    name, film = encoder_for(suffix), source.film
    stream = out.add_stream(name, rate=film.rate, options=OPTIONS[name])
    height, width = first.pixels.shape[:2]
    codec = stream.codec_context
    codec.width, codec.height = width, height
    codec.pix_fmt = _pixel_format(name, like.codec_context.pix_fmt, width % 2 or height % 2)
    time_base = film.time_base if name != "mpeg4" else film.time_base.limit_denominator(65535)      # its header's bits
    codec.time_base = stream.time_base = time_base
    _tell_colours(codec, like.codec_context, turned=(width, height) != (film.width, film.height))
    return _pictures(stream, time_base, MATRICES.get(like.codec_context.colorspace, 5), chain([first], frames))


def _pixel_format(encoder: str, old: str, odd: int) -> str:
    """As many colours as the source has, if the encoder can; H.264 of odd size only with all of them."""
    if encoder not in ("libx264", "libvpx-vp9"):
        return "yuv420p"
    if old in WHOLE_CHROMA or (odd and encoder == "libx264"):
        return "yuv444p"
    return "yuv422p" if old in ("yuv422p", "yuvj422p") else "yuv420p"


def _tell_colours(codec: Any, old: Any, turned: bool) -> None:
    """As the source tells them; a file that says nothing gets none said of it."""
    shape = old.sample_aspect_ratio
    if shape:
        codec.sample_aspect_ratio = 1 / shape if turned else shape
    codec.color_range = BROADCAST
    if old.colorspace in MATRICES:
        codec.colorspace, codec.color_primaries, codec.color_trc = old.colorspace, old.color_primaries, old.color_trc


def _pictures(stream: Any, time_base: Fraction, matrix: int, frames: Iterator[Frame]) -> Iterator[Timed]:
    """Encoded frames; each packet gets back its frame's own duration, which the encoder does not know."""
    av, codec = need("av", "writing clips"), stream.codec_context
    to_yuv, durations = reformatter(), deque()
    for frame in chain(frames, [None]):
        picture = None
        if frame is not None:
            pixels = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.pixels), format="rgb24")
            picture = to_yuv.reformat(
                pixels, format=codec.pix_fmt, interpolation=BETTER, dst_colorspace=matrix, dst_color_range=BROADCAST
            )
            picture.pts, picture.time_base = round(frame.time / time_base), time_base
            durations.append(round(frame.duration / time_base))
        for packet in codec.encode(picture):
            packet.stream, packet.duration = stream, durations.popleft()
            yield Timed(packet.dts * time_base, packet)


def _sounding(out: Any, form: Format, like: Any, sound: Soundtrack) -> Iterator[Timed]:
    """The sound, encoded block by block."""
    av, old = need("av", "writing clips"), like.codec_context.name
    name = form.lossless if old.startswith("pcm_") or old in LOSSLESS else form.sound
    rates = av.codec.Codec(name, "w").audio_rates
    above = [one for one in rates or () if one >= sound.rate]
    rate = sound.rate if not rates or sound.rate in rates else min(above, default=max(rates))
    stream = out.add_stream(name, rate=rate)
    codec = stream.codec_context
    codec.layout, codec.time_base = like.layout, Fraction(1, rate)
    codec.format = {"aac": "fltp", "libopus": "flt"}.get(name, "s16")
    if name in BIT_RATE:
        codec.bit_rate = BIT_RATE[name] * like.channels
    return _blocks(stream, _resampled(sound, rate), rate)


def _blocks(stream: Any, sound: Soundtrack, rate: int) -> Iterator[Timed]:
    av, codec = need("av", "writing clips"), stream.codec_context
    for begin in (*range(0, len(sound.samples), BLOCK), None):
        block = None
        if begin is not None:
            block = av.AudioFrame.from_ndarray(_laid_out(sound.samples[begin : begin + BLOCK], codec.format.name),
                                               format=codec.format.name, layout=codec.layout)
            block.sample_rate, block.time_base = rate, Fraction(1, rate)
            block.pts = round(sound.start * rate) + begin
        for packet in codec.encode(block):
            packet.stream = stream
            yield Timed(packet.dts * Fraction(packet.time_base), packet)


def _laid_out(samples: np.ndarray, form: str) -> np.ndarray:
    """(N, c) float32 -> as FFmpeg wants it: channel after channel, or sample after sample, whole numbers or not."""
    if form == "fltp":
        return np.ascontiguousarray(samples.T)
    if form == "s16":
        samples = np.rint(samples * 2.0**15).clip(-(2**15), 2**15 - 1).astype(np.int16)
    return np.ascontiguousarray(samples.reshape(1, -1))


def _resampled(sound: Soundtrack, rate: int) -> Soundtrack:
    if rate == sound.rate:
        return sound
    soxr = need("soxr", "resampling")
    return Soundtrack(soxr.resample(sound.samples, sound.rate, rate).clip(-1, 1), rate, sound.start)
