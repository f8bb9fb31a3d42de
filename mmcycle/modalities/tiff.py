"""A TIFF of many bands or of deep colours, which Pillow cannot hold: strips, not compressed or deflated (TIFF 6.0)."""
from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import pack
from typing import Any, BinaryIO

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from mmcycle.errors import RecordingError

MAGICS = (b"II*\0", b"MM\0*")
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, OFFSETS, ORIENTATION = 256, 257, 258, 259, 262, 273, 274
SAMPLES, ROWS, COUNTS, PLANAR, PREDICTOR, TILE, EXTRA, FORMAT, PROFILE = 277, 278, 279, 284, 317, 322, 338, 339, 34675
SHORT, LONG, UNDEFINED = 3, 4, 7                    # field types


@dataclass(frozen=True)
class Layout:
    """Where the samples of a TIFF lie."""

    height: int
    width: int
    bands: int
    dtype: np.dtype
    planes: int                                     # 1: the bands of a pixel lie together; else one plane for each band
    rows: int                                       # in a strip
    deflated: bool
    differences: bool                               # of neighbours in a row, instead of levels
    offsets: tuple[int, ...]
    counts: tuple[int, ...]


def is_deep(file: BinaryIO) -> bool:
    """Has this TIFF samples that Pillow would drop or refuse: more than 4 bands, or several bands not of 8 bits?

    16-bit colour, pixel after pixel, is left to Pillow, which knows every compression.
    """
    tags = _tags(file)
    bands, bits = tags.get(SAMPLES, 1), _first(tags, BITS)
    return bands > 4 or bands > 1 and bits != 8 and not (bits == 16 and bands > 2 and tags.get(PLANAR, 1) == 1)


def read_deep(file: BinaryIO, path: Path, max_pixels: int) -> tuple[np.ndarray, bytes | None, int]:
    """The pixels (H', W', C), the colour profile and the orientation (1 to 8)."""
    tags = _tags(file)
    layout = _layout(tags, file, path)
    if layout.height * layout.width > max_pixels:
        raise RecordingError(
            f"{path}: has {layout.width} x {layout.height} pixels, more than max_pixels = {max_pixels}"
        )
    depth = layout.bands // layout.planes
    expected = layout.height * layout.width * layout.bands * layout.dtype.itemsize
    if not layout.deflated and expected > sum(layout.counts):
        raise RecordingError(f"{path}: is truncated: {sum(layout.counts)} of {expected} bytes of pixels")
    planes = np.empty((layout.planes, layout.height, layout.width, depth), dtype=layout.dtype.newbyteorder("="))
    for strip, (plane, top, rows) in enumerate(_strips(layout)):
        samples = _strip(file, path, layout, strip, rows * layout.width * depth).reshape(rows, layout.width, depth)
        if layout.differences:
            samples = samples.cumsum(axis=1, dtype=planes.dtype)
        planes[plane, top : top + rows] = samples
    pixels = planes[0] if layout.planes == 1 else np.ascontiguousarray(planes[..., 0].transpose(1, 2, 0))
    profile = tags.get(PROFILE)
    return pixels, profile if isinstance(profile, bytes) else None, tags.get(ORIENTATION, 1)


def tiff_bytes(pixels: np.ndarray, icc: bytes | None) -> bytes:
    """(H', W', C) of uint8, uint16 or float32 -> a deflated TIFF of one strip; the last of 2 or 4 is transparency."""
    height, width, bands = pixels.shape
    body = zlib.compress(pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(), 6)
    colours = 3 if bands in (3, 4) else 1
    fields: dict[int, tuple[int, tuple[int, ...] | bytes]] = {
        WIDTH: (LONG, (width,)), HEIGHT: (LONG, (height,)), BITS: (SHORT, (8 * pixels.dtype.itemsize,) * bands),
        COMPRESSION: (SHORT, (8,)), PHOTOMETRIC: (SHORT, (2 if colours == 3 else 1,)), OFFSETS: (LONG, (8,)),
        SAMPLES: (SHORT, (bands,)), ROWS: (LONG, (height,)), COUNTS: (LONG, (len(body),)), PLANAR: (SHORT, (1,)),
        EXTRA: (SHORT, (2 if bands in (2, 4) else 0,) * (bands - colours)),
        FORMAT: (SHORT, (3 if pixels.dtype.kind == "f" else 1,) * bands), PROFILE: (UNDEFINED, icc or b""),
    }
    fields = {tag: field for tag, field in fields.items() if field[1]}
    fields[OFFSETS] = LONG, (8 + len(_directory(fields)),)      # as long, whatever the offset is
    return b"II*\0" + pack("<I", 8) + _directory(fields) + body


def _directory(fields: dict[int, tuple[int, tuple[int, ...] | bytes]], start: int = 8) -> bytes:
    """Tags in rising order; what does not fit into an entry stands behind the directory (TIFF 6.0, section 2)."""
    entries, behind = pack("<H", len(fields)), b""
    for tag, (kind, values) in sorted(fields.items()):
        letter = "H" if kind == SHORT else "I"
        packed = values if isinstance(values, bytes) else pack(f"<{len(values)}{letter}", *values)
        entries += pack("<HHI", tag, kind, len(values))
        place = start + 6 + 12 * len(fields) + len(behind)
        entries += packed.ljust(4, b"\0") if len(packed) <= 4 else pack("<I", place)
        behind += packed + b"\0" * (len(packed) % 2) if len(packed) > 4 else b""
    return entries + bytes(4) + behind


def _tags(file: BinaryIO) -> ImageFileDirectory_v2:
    file.seek(0)
    tags = ImageFileDirectory_v2(ifh=file.read(8))
    file.seek(tags.next)
    tags.load(file)
    file.seek(0)
    return tags


def _first(tags: ImageFileDirectory_v2, tag: int) -> int:
    value = tags.get(tag, 1)
    return value[0] if isinstance(value, tuple) else value


def _layout(tags: ImageFileDirectory_v2, file: BinaryIO, path: Path) -> Layout:
    compression, predictor = tags.get(COMPRESSION, 1), tags.get(PREDICTOR, 1)
    if TILE in tags or compression not in (1, 8, 32946) or predictor not in (1, 2) or tags.next:
        raise RecordingError(
            f"{path}: a TIFF of this many bands, or of bands this deep, is read when it is one picture in strips, "
            "not compressed or deflated, without a floating-point predictor; save it so, or as a .npy array"
        )
    kinds = {(8, 1): "u1", (16, 1): "u2", (32, 3): "f4"}
    kind = kinds.get((_first(tags, BITS), _first(tags, FORMAT)))
    if kind is None or len(set(_all(tags, BITS))) > 1:
        raise RecordingError(
            f"{path}: has {_all(tags, BITS)} bits in its bands; allowed are 8 or 16 bits, or 32-bit floats, "
            "in all of them"
        )
    height, width, bands = tags[HEIGHT], tags[WIDTH], tags[SAMPLES]
    file.seek(0)
    return Layout(
        height=height, width=width, bands=bands, dtype=np.dtype((">" if file.read(2) == b"MM" else "<") + kind),
        planes=bands if tags.get(PLANAR, 1) == 2 else 1, rows=min(tags.get(ROWS, height), height),
        deflated=compression != 1, differences=predictor == 2, offsets=_all(tags, OFFSETS), counts=_all(tags, COUNTS),
    )


def _all(tags: ImageFileDirectory_v2, tag: int) -> tuple[int, ...]:
    value: Any = tags.get(tag, ())
    return value if isinstance(value, tuple) else (value,)


def _strips(layout: Layout) -> Iterator[tuple[int, int, int]]:
    """(plane, first row, number of rows) in the order of the file."""
    for plane in range(layout.planes):
        for top in range(0, layout.height, layout.rows):
            yield plane, top, min(layout.rows, layout.height - top)


def _strip(file: BinaryIO, path: Path, layout: Layout, strip: int, samples: int) -> np.ndarray:
    expected = samples * layout.dtype.itemsize
    if strip >= min(len(layout.offsets), len(layout.counts)):
        raise RecordingError(f"{path}: is truncated: strip {strip} is missing")
    file.seek(layout.offsets[strip])
    content = file.read(layout.counts[strip])
    if layout.deflated:
        content = zlib.decompressobj().decompress(content, expected)       # never more than belongs there
    if len(content) < expected:
        raise RecordingError(f"{path}: is truncated: strip {strip} has {len(content)} of {expected} bytes")
    return np.frombuffer(content[:expected], dtype=layout.dtype)
