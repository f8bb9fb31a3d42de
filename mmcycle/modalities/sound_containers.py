"""The outside of a sound file: its container by its first bytes, whether all of it is there, and what must not vary.

The decoder reads what is left of a truncated file without a word; what the header promises is therefore counted here.
"""
from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from struct import Struct, calcsize, pack, pack_into, unpack, unpack_from
from typing import BinaryIO, NamedTuple

from mmcycle.errors import RecordingError

KNOWN = "WAV, RF64, W64, FLAC, Ogg (Vorbis, Opus), MP3, AIFF, AU and CAF"
W64_MAGIC = bytes.fromhex("72696666 2e91cf11 a5d628db 04c10000")
MAGICS = {
    b"RIFF": "WAV", b"RIFX": "RIFX", b"RF64": "WAV", W64_MAGIC: "W64", b"FORM": "AIFF", b"caff": "CAF",
    b".snd": "AU", b"fLaC": "FLAC", b"OggS": "OGG",
}
FORMS = {"WAV": b"WAVE", "RIFX": b"WAVE", "AIFF": b"AIF"}       # RIFF and FORM hold films and letters too
CHUNKS = {                              # where the first chunk lies, its header, to how many bytes chunks are padded
    "WAV": (12, "<4sI", 2), "RIFX": (12, ">4sI", 2), "AIFF": (12, ">4sI", 2), "CAF": (8, ">4sq", 1),
    "W64": (40, "<16sQ", 8),
}
MOST_CHUNKS = 10_000
UNKNOWN_SIZES = (-1, 0xFFFFFFFF, 0x80000000, 0x7FFFF000)        # what ffmpeg, arecord and sox write into a pipe
MP3_IN_WAV = b"\x55\0"
PAGE = Struct("<4sBBqIIIB")             # an Ogg page: "OggS", version, flags, position, serial, number, CRC, segments
PAGE_SERIAL, PAGE_CRC = 14, 22          # offsets in it, bytes
LAST_PAGE = 4                           # the flag
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
MP3_FASTEST = 56_000                    # bytes a second: 448 kbit/s, layer I
DECODER_DELAY = 529                     # samples
MP3_VERSIONS = {3: 1, 2: 2, 0: 2.5}
MP3_KBPS = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
MP3_HZ = {1: (44100, 48000, 32000), 2: (22050, 24000, 16000), 2.5: (11025, 12000, 8000)}


class Page(NamedTuple):
    start: int                          # byte of the file
    flags: int
    serial: int
    crc: int
    content: bytes                      # header included


def container_of(file: BinaryIO, path: Path) -> str:
    """WAV, RIFX (big-endian WAV), W64, AIFF, CAF, AU, FLAC, OGG or MP3; a tag before it is skipped."""
    head = _at(file, _after_tag(file), 16)
    if not head:
        raise RecordingError(f"{path}: is empty; remove it or restore it from where it was copied")
    for magic, kind in MAGICS.items():
        if head.startswith(magic) and head[8:].startswith(FORMS.get(kind, b"")):
            _refuse_mp3_inside(file, kind, path)
            return kind
    if _mp3_frame(head):
        return "MP3"
    raise RecordingError(
        f"{path}: is not a sound in a known format; allowed are {KNOWN}; convert it, for instance to FLAC"
    )


def whole(file: BinaryIO, kind: str, path: Path, max_seconds: float) -> int | BytesIO:
    """What libsndfile is to read: the file's descriptor, or the frames of an MP3.

    RecordingError when the end of the file is missing, or its own check sums do not hold. FLAC checks itself.
    """
    length = file.seek(0, os.SEEK_END)
    if kind == "MP3":
        return _mp3_frames(file, length, path, max_seconds)
    if kind == "OGG":
        _check_pages(file, length, path)
    else:
        start, size = _promised(file, kind)
        if size not in UNKNOWN_SIZES and start + size > length:
            raise _truncated(path, f"{max(length - start, 0)} of {size} bytes of sound are there")
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    return file.fileno()


def steady(file: BinaryIO, kind: str) -> None:
    """Overwrite what an encoder draws at random or reads from the clock: the same sound gives the same bytes."""
    if kind == "OGG":
        for page in list(_pages(file)):
            content = bytearray(page.content)
            pack_into("<I", content, PAGE_SERIAL, 0)
            pack_into("<I", content, PAGE_CRC, _ogg_crc(content))
            file.seek(page.start)
            file.write(content)
    elif kind in CHUNKS:
        for name, start, _ in list(_chunks(file, kind)):
            if name == b"PEAK":                             # version, then the second in which it was written
                file.seek(start + 4)
                file.write(bytes(4))


def too_long(path: Path, found: str, max_seconds: float) -> RecordingError:
    return RecordingError(
        f"{path}: lasts {found}, max_seconds = {max_seconds:g} is allowed; raise max_seconds if it is genuine"
    )


def _refuse_mp3_inside(file: BinaryIO, kind: str, path: Path) -> None:
    for name, start, _ in _chunks(file, kind) if kind in CHUNKS else ():
        if name == b"fmt " and _at(file, start, 2) == MP3_IN_WAV:
            raise RecordingError(f"{path}: is an MP3 inside of a WAV file, which is not read; save it as .mp3 or .flac")


def _truncated(path: Path, found: str) -> RecordingError:
    return RecordingError(f"{path}: is truncated: {found}; restore it from where it was copied, or remove it")


def _damaged(path: Path, found: str) -> RecordingError:
    return RecordingError(f"{path}: is damaged: {found}; restore it from where it was copied, or remove it")


def _after_tag(file: BinaryIO) -> int:
    """The first byte behind ID3v2 tags (id3.org, ID3v2.4.0, 3.1)."""
    start = 0
    for _ in range(MOST_CHUNKS):
        head = _at(file, start, 10)
        if len(head) < 10 or head[:3] != b"ID3":
            break
        size = sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0)))
        start += 10 + size + (10 if head[5] & 16 else 0)
    return start


def _chunks(file: BinaryIO, kind: str) -> Iterator[tuple[bytes, int, int]]:
    """(first four letters of its name, where its content starts, bytes of it) of every chunk."""
    start, form, padding = CHUNKS[kind]
    for _ in range(MOST_CHUNKS):
        head = _at(file, start, calcsize(form))
        if len(head) < calcsize(form):
            return
        name, size = unpack(form, head)
        start += len(head)
        size -= len(head) if kind == "W64" else 0
        yield name[:4], start, size
        if size < 0:
            return
        start += size + -size % padding


def _promised(file: BinaryIO, kind: str) -> tuple[int, int]:
    """Where the sound starts and how many bytes it has, as the header says; (0, 0) where it says nothing."""
    if kind == "AU":
        head = _at(file, 4, 8)
        return unpack(">II", head) if len(head) == 8 else (0, 0)
    large = 0
    for name, start, size in _chunks(file, kind) if kind in CHUNKS else ():
        if name == b"ds64":                                 # the true sizes of an RF64 (EBU Tech 3306)
            large = int.from_bytes(_at(file, start + 8, 8), "little")
        if name in (b"data", b"SSND"):
            return start, large if large and size == 0xFFFFFFFF else size
    return 0, 0


def _pages(file: BinaryIO) -> Iterator[Page]:
    """Every page of an Ogg file (RFC 3533, 6) until the first that is not one or not whole."""
    start = 0
    while True:
        head = _at(file, start, PAGE.size)
        if len(head) < PAGE.size or head[:4] != b"OggS":
            return
        _, _, flags, _, serial, _, crc, segments = PAGE.unpack(head)
        lacing = file.read(segments)
        body = file.read(sum(lacing))
        if len(lacing) < segments or len(body) < sum(lacing):
            return
        yield Page(start, flags, serial, crc, head + lacing + body)
        start += len(head) + len(lacing) + len(body)


def _check_pages(file: BinaryIO, length: int, path: Path) -> None:
    end, flags, serials = 0, 0, set()
    for page in _pages(file):
        content = bytearray(page.content)
        pack_into("<I", content, PAGE_CRC, 0)
        if _ogg_crc(content) != page.crc:
            raise _damaged(path, f"the page at byte {page.start} does not match its check sum")
        end, flags = page.start + len(content), page.flags
        serials.add(page.serial)
    if len(serials) > 1:
        raise RecordingError(f"{path}: holds {len(serials)} streams, allowed is one; write one file for each")
    if not flags & LAST_PAGE:
        raise _truncated(path, f"its last page is missing, behind byte {end} of {length}")


def _ogg_crc(page: bytearray) -> int:
    """CRC-32 of RFC 3533 over a page whose CRC field is 0.

    The polynomial is zlib's; the bits run the other way, and nothing is inverted before and after.
    """
    page[PAGE_CRC : PAGE_CRC + 4] = bytes(4)
    mirrored = zlib.crc32(page.translate(MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(MIRRORED), "big")


def _mp3_frame(head: bytes) -> int:
    """Bytes of the MPEG audio frame that begins with these four, 0 where none does (ISO 11172-3, 2.4.2.3)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return 0
    version, layer = MP3_VERSIONS.get(head[1] >> 3 & 3), 4 - (head[1] >> 1 & 3)
    kbps, hz, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version is None or layer == 4 or kbps in (0, 15) or hz == 3:
        return 0
    bits = MP3_KBPS[int(version), layer][kbps] * 1000
    rate = MP3_HZ[version][hz]
    if layer == 1:
        return (12 * bits // rate + padding) * 4
    return (72 if layer == 3 and version != 1 else 144) * bits // rate + padding


def _mp3_frames(file: BinaryIO, length: int, path: Path, max_seconds: float) -> BytesIO:
    """All frames, with a first one that says how many they are: without it libsndfile guesses, and drops the rest."""
    first = end = _after_tag(file)
    count = 0
    while size := _mp3_frame(_at(file, end, 4)):
        if end + size > length:
            raise _truncated(path, f"its last frame has {length - end} of {size} bytes")
        end, count = end + size, count + 1
        if end - first > max_seconds * MP3_FASTEST + size:
            raise too_long(path, f"more than {max_seconds:g} s", max_seconds)
    frames = bytearray(_at(file, first, end - first))
    count_at, promised = _frame_count(frames)
    if not count_at:
        return BytesIO(_count_frames(frames[:4], count) + frames)
    if promised > count:                                    # some encoders count the first frame, most do not
        raise _truncated(path, f"{count - 1} of {promised} frames are there")
    if promised < count - 1:
        raise _damaged(path, f"its header speaks of {promised} frames, {count - 1} are there")
    pack_into(">I", frames, count_at, count - 1)
    return BytesIO(frames)


def _frame_count(frames: bytearray) -> tuple[int, int]:
    """Where the first frame says how many follow, and what; (0, 0) where it does not (Xing's header, LAME's Info)."""
    at = max(frames.find(b"Xing", 4, 64), frames.find(b"Info", 4, 64))
    if at < 0 or not unpack_from(">I", frames, at + 4)[0] & 1:
        return 0, 0
    return at + 8, unpack_from(">I", frames, at + 8)[0]


def _count_frames(head: bytes, count: int) -> bytes:
    """A first frame that says how many follow, and a silent one, both like those that follow but of the largest size.

    mpg123, told their number, drops the delay of LAME's field and DECODER_DELAY samples: here, all of the silent frame.
    """
    if head[1] >> 1 & 3 != 1:                               # layers I and II have no such frame, and need none
        return b""
    head = bytes((head[0], head[1] | 1, head[2] & 0x0D | 0xE0, head[3]))        # without check sum and padding
    mono, old = head[3] >> 6 == 3, head[1] & 8 == 0         # what decides how long the side information is
    side = (9 if old else 17) if mono else (17 if old else 32)
    delay = (576 if old else 1152) - DECODER_DELAY
    said = b"Info" + pack(">II", 1, count + 1) + b"LAME".ljust(21, b"\0") + (delay << 12).to_bytes(3, "big")
    size = _mp3_frame(head)
    return (head + bytes(side) + said).ljust(size, b"\0") + head.ljust(size, b"\0")


def _at(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)
