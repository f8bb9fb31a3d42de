"""Clips small enough for a test, written with PyAV alone: clicks in the sound where the picture flashes."""
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi"}
CODECS = {
    ".mp4": ("libx264", "aac"), ".mov": ("libx264", "aac"), ".mkv": ("libx264", "flac"),
    ".webm": ("libvpx-vp9", "libopus"), ".avi": ("mpeg4", "pcm_s16le"),
}
RATE, FPS, COUNT, SIZE = 16_000, 25, 20, (32, 48)                   # SIZE is (height, width)
FLASHES = (5, 12)                                                   # frames


def film(count: int = COUNT, size: tuple[int, int] = SIZE, flashes: Sequence[int] = FLASHES) -> list[np.ndarray]:
    """A red half beside a dark one; white where it flashes."""
    frame = np.full((*size, 3), 40, np.uint8)
    frame[:, : size[1] // 2] = (200, 60, 30)
    return [np.full_like(frame, 250) if index in flashes else frame for index in range(count)]


def clicks(seconds: float = COUNT / FPS, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """(N, channels) float32: 20 ms of noise at each flash."""
    rng, wave = np.random.default_rng(0), np.zeros((round(seconds * rate), channels), np.float32)
    for index in FLASHES:
        begin = index * rate // FPS
        burst = wave[begin : begin + rate // 50]
        burst[:] = 0.8 * rng.uniform(-1, 1, burst.shape)
    return wave


def clip(
    path: Path, frames: Sequence[np.ndarray] | None = None, wave: np.ndarray | None = None, *, rate: int = RATE,
    times: Sequence[Fraction] | None = None, ticks: int = 12_800, late: int = 0, codecs: tuple[str, str] | None = None,
    pixels: str = "yuv420p", options: dict[str, str] | None = None, turned: int | None = None,
    colours: tuple[int, int] | None = None,
) -> Path:
    """Write a clip; no frames, or no wave: none of that stream.

    times   of the frames in seconds, multiples of 1 / ticks; else one every 1/25 s      late   samples before the sound
    colours matrix and range, as H.273 numbers them                                     turned degrees, counterclockwise
    """
    import av

    pictures, sound = codecs or CODECS[path.suffix]
    times = times or [Fraction(index, FPS) for index in range(len(frames or ()))]
    container = None if path.suffix != ".mp4" else {"video_track_timescale": str(ticks)}
    with av.open(str(path), "w", format=FORMATS[path.suffix], container_options=container) as out:
        made: list[tuple[Any, Any]] = []
        if frames is not None:
            steady = {"mbtree": "0"} if pictures == "libx264" else {}               # see mmcycle.data.clip_writer
            video = out.add_stream(pictures, rate=FPS, options=steady | (options or {}))
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = pixels
            video.codec_context.time_base = Fraction(1, FPS if path.suffix == ".avi" else ticks)
            if turned is not None:
                video.set_display_rotation(turned)
            told = {}
            if colours:
                video.codec_context.colorspace, video.codec_context.color_range = colours
                told = {"dst_colorspace": colours[0], "dst_color_range": colours[1]}
            for index, picture in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels, **told)
                frame.time_base = video.codec_context.time_base
                frame.pts = round(times[index] / frame.time_base)
                made.append((video, frame))
        if wave is not None:
            audio = out.add_stream(sound, rate=rate)
            audio.codec_context.layout = "mono" if wave.shape[1] == 1 else "stereo"
            block = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave.T), "fltp", audio.codec_context.layout)
            block.sample_rate, block.pts, block.time_base = rate, late, Fraction(1, rate)
            sampler = av.AudioResampler(format=audio.codec_context.format, layout=block.layout, rate=rate)
            made += [(audio, one) for one in (*sampler.resample(block), *sampler.resample(None))]
        for stream, frame in (*made, *((stream, None) for stream in out.streams)):
            out.mux(stream.encode(frame))
    return path


def lag(before: np.ndarray, after: np.ndarray) -> int:
    """Samples by which the second of two waves (N,) comes later, where they are most alike."""
    size = 2 * (len(before) + len(after))
    alike = np.fft.irfft(np.fft.rfft(after, size) * np.conj(np.fft.rfft(before, size)), size)
    best = int(alike.argmax())
    return best if best < size // 2 else best - size
