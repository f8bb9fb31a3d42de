"""A sound file: its samples at the depth they have on disk, and how it is written again."""
from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from mmcycle.errors import RecordingError, UserError, need
from mmcycle.files import write_atomic
from mmcycle.modalities import sound_containers

FLOATS = ("FLOAT", "DOUBLE")
WHOLE = ("PCM_S8", "PCM_16", "PCM_24", "PCM_32", *FLOATS, "ULAW", "ALAW")
RIFF = ("PCM_U8", *WHOLE[1:])
WIDE = ("PCM_16", "PCM_24", "PCM_32", *FLOATS)      # libsndfile adds a sample to an odd number of bytes in AIFF
FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {         # suffix -> libsndfile's name, what is written into it
    ".wav": ("WAV", RIFF), ".flac": ("FLAC", ("PCM_S8", "PCM_16", "PCM_24")), ".ogg": ("OGG", ("VORBIS", "OPUS")),
    ".oga": ("OGG", ("VORBIS", "OPUS")), ".opus": ("OGG", ("OPUS",)), ".mp3": ("MP3", ("MPEG_LAYER_III",)),
    ".aiff": ("AIFF", WIDE), ".aif": ("AIFF", WIDE), ".au": ("AU", WHOLE),
    ".snd": ("AU", WHOLE), ".caf": ("CAF", WHOLE), ".w64": ("W64", RIFF), ".rf64": ("RF64", RIFF),
}
SUFFIXES = tuple(FORMATS)
BITS = {                                # of a sample; 16 for all that is not here
    "PCM_S8": 8, "PCM_U8": 8, "PCM_24": 24, "PCM_32": 32, "FLOAT": 24, "DOUBLE": 24,
    "ALAC_20": 24, "ALAC_24": 24, "ALAC_32": 32,
}
LOSSY = {"VORBIS": 0.2, "OPUS": 0.5, "MPEG_LAYER_III": 0.0}     # written at: 0 best, 1 smallest
HIGHEST_RATE = 1_000_000                # Hz
MOST_CHANNELS = 256
LARGEST = {"WAV": 2**32, "AIFF": 2**32, "AU": 2**32}            # bytes; sizes in these headers have 32 bits
BLOCK = 65536                           # frames
UNSAID = 2**63 - 1                      # frames of a FLAC that was written to a pipe
HUSH = threading.Lock()


@dataclass(frozen=True, eq=False)
class Sound:
    """What was read, or is to be written.

    samples  (N, channels) float32, full scale is 1; only FLOAT and DOUBLE files go beyond it
    rate     samples per second of each channel, Hz
    subtype  libsndfile's name of how the file holds them: "PCM_16", "FLOAT", "VORBIS", ...

    8, 16 and 24 bits fit into float32 without loss; 32 bits and doubles are rounded to its 24, which moves
    a sample by at most 2^-24 of itself. Titles, comments, markers and loudspeaker positions are not kept.
    """

    samples: np.ndarray
    rate: int
    subtype: str = "PCM_16"


def read_sound(path: Path, max_seconds: float) -> Sound:
    """The format is found in the bytes, not in the suffix; RecordingError for all that is not one whole sound.

    A damaged frame inside of an MP3, which has no check sums, or of an ALAC in CAF, is read as the decoder
    conceals it; Vorbis, Opus and MP3 are cut off at full scale, as a player does.
    """
    soundfile = need("soundfile", "reading sound files")
    try:
        mode = path.stat().st_mode
        if not S_ISREG(mode):           # a pipe would never end
            what = "a folder" if S_ISDIR(mode) else "a pipe or a device"
            raise RecordingError(f"{path}: is {what}, not a sound file; name a file")
        with path.open("rb") as file:
            kind = sound_containers.container_of(file, path)
            sound = _decoded(soundfile, file, kind, path, max_seconds)
    except RecordingError:
        raise
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read as a sound: {error.strerror or error}") from error
    except Exception as error:          # libsndfile's own, and whatever a hostile header does to arithmetic
        raise RecordingError(
            f"{path}: cannot be read as a sound: {_sentence(error)}; it is damaged or truncated, "
            "restore it from where it was copied, or remove it"
        ) from error
    if not np.isfinite(sound.samples).all():
        raise RecordingError(
            f"{path}: has samples that are NaN or infinite; replace them before training or translating"
        )
    return sound


def write_sound(sound: Sound, path: Path) -> float:
    """Write as the suffix says; the answer is the factor that the whole sound was scaled by, nearly always 1.

    Kept is the sound's own subtype where the format can hold it, else the shallowest whole numbers that lose
    nothing of it, else the deepest there are: FLOAT and PCM_32 become PCM_24 in FLAC, Vorbis and ADPCM
    become PCM_16 in WAV, ALAC becomes PCM of its depth, all but Opus become Vorbis in .ogg. Whole
    numbers are rounded to the nearest, without dither.

    All but FLOAT and DOUBLE end at full scale: a sound with a peak beyond 1 is scaled down by 1 / peak, as a whole.
    Ogg and MP3 keep the number of samples and their places; the same sound always gives the same bytes.
    """
    form, held = FORMATS.get(path.suffix.lower(), ("", ()))
    if not form:
        raise RecordingError(f"{path}: sounds cannot be written as {path.suffix!r}; allowed are {', '.join(SUFFIXES)}")
    _check(sound)
    subtype = nearest_subtype(sound.subtype, held)
    width = 8 if subtype == "DOUBLE" else 4 if subtype == "FLOAT" else BITS.get(subtype, 16) // 8
    if sound.samples.size * width > LARGEST.get(form, 2**63) - BLOCK:
        raise RecordingError(f"{path}: {form} ends at 4 GiB, the sound has more; choose .w64, .rf64 or .flac")
    if not all(np.isfinite(block).all() for block in _blocks(sound.samples)):
        raise RecordingError(f"{path}: has samples that are NaN or infinite, which no sound file should hold")
    peak = max(float(np.abs(block).max()) for block in _blocks(sound.samples))
    factor = 1 / peak if peak > 1 and subtype not in FLOATS else 1.0
    # In memory: the encoder would keep a full disk to itself, Python says it.
    encoded = _encoded(sound, form, subtype, factor, path)
    write_atomic(path, lambda target: target.write_bytes(encoded.getbuffer()) and None)
    return factor


def nearest_subtype(subtype: str, held: tuple[str, ...]) -> str:
    """What a file of another format gets instead of `subtype`."""
    if subtype in held:
        return subtype
    ladder = [one for one in held if one.startswith("PCM_")] or held[:1]
    return next((one for one in ladder if BITS.get(one, 16) >= BITS.get(subtype, 16)), ladder[-1])


def _decoded(soundfile: ModuleType, file: BinaryIO, kind: str, path: Path, max_seconds: float) -> Sound:
    source = sound_containers.whole(file, kind, path, max_seconds)
    with _hushed() if kind == "MP3" else nullcontext(), soundfile.SoundFile(source, closefd=False) as opened:
        _refuse(opened, path, max_seconds)
        samples = _samples(opened, path, max_seconds)
        if kind in ("OGG", "MP3"):
            np.clip(samples, -1, 1, out=samples)
        return Sound(samples, rate=opened.samplerate, subtype=opened.subtype)


def _refuse(opened: Any, path: Path, max_seconds: float) -> None:
    if opened.channels > MOST_CHANNELS:
        raise RecordingError(f"{path}: has {opened.channels} channels; allowed are 1 to {MOST_CHANNELS}")
    if opened.samplerate > HIGHEST_RATE:
        raise RecordingError(f"{path}: has {opened.samplerate} samples a second; allowed are 1 to {HIGHEST_RATE}")
    if opened.frames != UNSAID and opened.frames > max_seconds * opened.samplerate:
        raise sound_containers.too_long(path, f"{opened.frames / opened.samplerate:.1f} s", max_seconds)


def _samples(opened: Any, path: Path, max_seconds: float) -> np.ndarray:
    """(N, channels), block by block: what a header promises is not allocated before it is there."""
    blocks, total = [], 0
    if opened.frames == UNSAID:
        opened.seekable = lambda: False             # soundfile seeks after each block: no end, an error
    while len(block := opened.read(BLOCK, dtype="float32", always_2d=True)):
        blocks.append(block)
        total += len(block)
        if total > max_seconds * opened.samplerate:
            raise sound_containers.too_long(path, f"more than {max_seconds:g} s", max_seconds)
    if not total:
        raise RecordingError(f"{path}: holds no samples; remove it or restore it from where it was copied")
    if opened.frames != UNSAID and total < opened.frames:
        raise RecordingError(
            f"{path}: is truncated: {total} of {opened.frames} samples are there; "
            "restore it from where it was copied, or remove it"
        )
    return np.concatenate(blocks)


@contextmanager
def _hushed() -> Iterator[None]:
    """The MP3 decoder writes what it thinks of a file to the process's standard error and cannot be told not to."""
    with HUSH:
        try:
            kept = os.dup(2)
        except OSError:                 # there is no standard error
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


def _check(sound: Sound) -> None:
    samples = sound.samples
    if samples.ndim != 2 or samples.dtype != np.float32 or 0 in samples.shape or samples.shape[1] > MOST_CHANNELS:
        raise UserError(
            f"a sound is an array (samples, 1 to {MOST_CHANNELS} channels) of float32; "
            f"got {samples.shape} of {samples.dtype}"
        )
    if not 1 <= sound.rate <= HIGHEST_RATE:
        raise UserError(f"a sound has 1 to {HIGHEST_RATE} samples a second; got {sound.rate}")


def _encoded(sound: Sound, form: str, subtype: str, factor: float, path: Path) -> BytesIO:
    soundfile = need("soundfile", "writing sound files")
    encoded, channels = BytesIO(), sound.samples.shape[1]
    try:
        with soundfile.SoundFile(
            encoded, "w", sound.rate, channels, subtype=subtype, format=form, compression_level=LOSSY.get(subtype)
        ) as opened:
            for block in _blocks(sound.samples):
                opened.write(_coded(block, subtype, factor))
    except soundfile.LibsndfileError as error:
        raise RecordingError(
            f"{path}: {form} cannot hold {channels} channels of {sound.rate} Hz as {subtype} "
            f"({error.error_string.rstrip('.')}); choose .wav or .flac"
        ) from error
    sound_containers.steady(encoded, "WAV" if form == "RF64" else form)
    return encoded


def _blocks(samples: np.ndarray) -> Iterator[np.ndarray]:
    yield from (samples[start : start + BLOCK] for start in range(0, len(samples), BLOCK))


def _coded(block: np.ndarray, subtype: str, factor: float) -> np.ndarray:
    """Floats for what holds floats, else whole numbers in the upper bits of int32: libsndfile would round them down."""
    if subtype in FLOATS:
        return block
    if subtype in LOSSY:
        return block if factor == 1 else (block * np.float32(factor)).clip(-1, 1)
    bits = BITS.get(subtype, 16)
    full = 2.0 ** (bits - 1)
    codes = np.rint(block * (factor * full), dtype=np.float64).clip(-full, full - 1)
    return codes.astype(np.int32) << (32 - bits)


def _sentence(error: Exception) -> str:
    said = getattr(error, "error_string", None) or str(error) or type(error).__name__
    return said.strip().removeprefix("Error :").strip().rstrip(".")
