"""A picture file: its pixels at the depth they have on disk, and what else must survive when it is written again."""
from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from struct import pack
from typing import Any, BinaryIO

import numpy as np
from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, PpmImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL import Image as Pillow

from mmcycle.errors import RecordingError
from mmcycle.files import write_atomic
from mmcycle.modalities import tiff

FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP",
    ".pgm": "PPM", ".ppm": "PPM", ".npy": "NPY",
}
SUFFIXES = tuple(FORMATS)
KEPT_EXIF = (0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298, 0x8769, 0x8825)
LARGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}       # pixels


@dataclass(frozen=True, eq=False)
class Picture:
    """What was read, or is to be written.

    pixels   (H', W', C) uint8, uint16 or float32; of 2 or 4 bands the last is transparency, if the domain has fewer
    icc      the colour profile
    exif     the EXIF block, without its orientation: that is already in the pixels
    bilevel  the file holds 1 bit per pixel; pixels are 0 or 255
    """

    pixels: np.ndarray
    icc: bytes | None = None
    exif: bytes | None = None
    bilevel: bool = False

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.pixels, dtype=dtype) if copy or dtype is not None else self.pixels


def read_picture(path: Path, max_pixels: int) -> Picture:
    """The format is found in the bytes, not in the suffix; RecordingError for all that is not one picture."""
    if path.suffix.lower() == ".npy":
        return _read_array(path, max_pixels)
    try:
        with path.open("rb") as file:
            if file.read(4) in tiff.MAGICS and tiff.is_deep(file):
                pixels, icc, orientation = tiff.read_deep(file, path, max_pixels)
                return Picture(_upright(pixels, orientation), icc=icc)
            return _decoded(file, path, max_pixels)
    except RecordingError:
        raise
    except Exception as error:      # Pillow answers damaged bytes with almost any exception
        why = _sentence(error).partition(" (")[0]       # no counts of bytes, which need not be the same next time
        raise RecordingError(f"{path}: cannot be read as a picture: {why}; mend or remove the file") from error


def write_picture(picture: Picture, path: Path, span: tuple[float, float]) -> None:
    """Write as the suffix says; `span` is black and white in 16-bit and float pixels that must become 8 bits."""
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise RecordingError(
            f"{path}: pictures cannot be written as {path.suffix!r}; allowed are {', '.join(SUFFIXES)}"
        )
    write_atomic(path, _writer(picture, form, path, span))


def _writer(picture: Picture, form: str, path: Path, span: tuple[float, float]) -> Callable[[Path], None]:
    pixels = picture.pixels
    height, width, bands = pixels.shape
    if form == "NPY":
        return lambda target: np.save(target, pixels[..., 0] if bands == 1 else pixels, allow_pickle=False)
    if form == "TIFF" and (bands > 4 or bands > 1 and pixels.dtype != np.uint8):
        return lambda target: target.write_bytes(tiff.tiff_bytes(pixels, picture.icc)) and None
    if bands > 4 or form in ("JPEG", "PPM", "BMP") and bands in (2, 4):
        raise RecordingError(
            f"{path}: {form} cannot hold {bands} bands; choose .png for transparency, .tif or .npy for many bands"
        )
    if max(height, width) > LARGEST_SIDE.get(form, 2**31 - 1):
        raise RecordingError(f"{path}: {form} cannot hold {width} x {height} pixels; choose .png or .tif")
    if form == "PNG" and pixels.dtype == np.uint16 and bands > 1:
        return lambda target: target.write_bytes(_png_16(picture)) and None
    image = _to_pillow(picture, form, span)
    options = _options(picture, form)
    return lambda target: image.save(target, format=form, **options)


def _to_pillow(picture: Picture, form: str, span: tuple[float, float]) -> Pillow.Image:
    pixels = picture.pixels
    if not (pixels.shape[2] == 1 and _holds(form, pixels.dtype)):
        pixels = _eight_bits(pixels, span)
    image = Pillow.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    one_bit = picture.bilevel and form in ("PNG", "TIFF", "BMP")
    return image.convert("1", dither=Pillow.Dither.NONE) if one_bit else image


def _options(picture: Picture, form: str) -> dict[str, Any]:
    """Settings of Pillow's writer: nothing is thrown away that the format can hold."""
    options: dict[str, Any] = {
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"lossless": True, "exact": True},
        "TIFF": {"compression": "tiff_lzw"},
    }.get(form, {})
    if form in ("PNG", "JPEG", "WEBP", "TIFF") and picture.icc:
        options["icc_profile"] = picture.icc
    if form in ("PNG", "JPEG", "WEBP", "TIFF") and picture.exif and (form != "JPEG" or len(picture.exif) < 65533):
        options["exif"] = picture.exif
    return options


def _holds(form: str, dtype: np.dtype) -> bool:
    """May one band of this depth be written in this format?"""
    holders = {"uint16": ("PNG", "TIFF", "PPM"), "float32": ("TIFF",)}
    return dtype == np.uint8 or form in holders[dtype.name]


def _eight_bits(pixels: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    low, high = span
    return np.rint((pixels.astype(np.float64) - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)


def _png_16(picture: Picture) -> bytes:
    """A 16-bit PNG of 2 to 4 bands, which Pillow cannot write (RFC 2083; filter 2, "up")."""
    height, width, bands = picture.pixels.shape
    rows = picture.pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.full((height, rows.shape[1] + 1), 2, dtype=np.uint8)
    filtered[:, 1:] = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    chunks = [(b"IHDR", pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[bands], 0, 0, 0))]
    if picture.icc:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc)))
    if picture.exif:
        chunks.append((b"eXIf", picture.exif.removeprefix(b"Exif\0\0")))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes(), 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        pack(">I", len(body)) + kind + body + pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _opened(file: BinaryIO, path: Path) -> Any:
    """The file's format by its first bytes. Pillow's classes, unlike its `open`, refuse no size of their own."""
    file.seek(0)
    head = file.read(16)
    file.seek(0)
    if not head:
        raise RecordingError(f"{path}: is empty; remove it or restore it from where it was copied")
    if head.startswith(b"GIF8"):
        raise RecordingError(
            f"{path}: is a GIF, made for films of 256 colours, not for images; write its frames as .png files"
        )
    openers = {
        b"\x89PNG": PngImagePlugin.PngImageFile, b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
        b"II*\0": TiffImagePlugin.TiffImageFile, b"MM\0*": TiffImagePlugin.TiffImageFile,
        b"II+\0": TiffImagePlugin.TiffImageFile, b"MM\0+": TiffImagePlugin.TiffImageFile,
        b"RIFF": WebPImagePlugin.WebPImageFile, b"BM": BmpImagePlugin.BmpImageFile,
        b"P5": PpmImagePlugin.PpmImageFile, b"P6": PpmImagePlugin.PpmImageFile,
    }
    for magic, opener in openers.items():
        if head.startswith(magic):
            return opener(file, str(path))
    raise RecordingError(
        f"{path}: is not a picture in a known format; allowed are PNG, JPEG, WebP, TIFF, BMP, PGM, PPM and .npy arrays"
    )


def _refuse(image: Any, path: Path, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise RecordingError(
            f"{path}: has {width} x {height} pixels, more than max_pixels = {max_pixels}; "
            "raise max_pixels if it is genuine"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise RecordingError(f"{path}: holds {frames} pictures, a film is not an image; write one file for each frame")


def _decoded(file: BinaryIO, path: Path, max_pixels: int) -> Picture:
    image = _opened(file, path)
    _refuse(image, path, max_pixels)
    if ";16" in _raw_mode(image) and len(image.getbands()) > 1:
        pixels = _deep_colours(image, _opened(file, path), path)
    else:
        pixels = _pixels(image, path)
    exif, orientation = _exif(image)
    icc = image.info.get("icc_profile") if image.mode != "CMYK" else None      # the profile of inks is not that of RGB
    return Picture(_upright(pixels, orientation), icc=icc, exif=exif, bilevel=image.mode == "1")


def _pixels(image: Any, path: Path) -> np.ndarray:
    """(H', W', C) uint8, uint16 or float32."""
    if image.mode.startswith("I"):
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise RecordingError(
                f"{path}: holds 32-bit or signed whole numbers; allowed are 8 bits, 16 bits and 32-bit floats"
            )
        # Pillow turns negatives round in 8 bits only.
        white_is_zero = image.format == "TIFF" and image.tag_v2.get(tiff.PHOTOMETRIC) == 0
        return (65535 - levels if white_is_zero else levels).astype(np.uint16)[..., None]
    if image.mode == "F":
        return np.array(image)[..., None]
    if image.mode == "RGB" and image.tile and image.tile[0].codec_name == "ppm" and image.tile[0].args[-1] > 255:
        raise RecordingError(f"{path}: is a PPM of 16-bit colour, which is not read; save it as PNG or TIFF")
    if "transparency" in image.info or image.mode in ("PA", "La", "RGBa"):
        image = image.convert("LA" if image.mode in ("L", "La") else "RGBA")
    elif image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return np.atleast_3d(np.array(image))


def _deep_colours(image: Any, again: Any, path: Path) -> np.ndarray:
    """(H', W', C) uint16. Pillow gives the upper 8 bits, and the lower 8 when it is told the wrong byte order."""
    kind, order = _raw_mode(image).split(";16")
    if kind == "LA":                                            # four bytes a pixel, as they lie in the file
        _tell_raw_mode(image, "RGBA")
        return np.array(image).view(">u2").astype(np.uint16)
    if kind not in ("RGB", "RGBA", "RGBX"):
        raise RecordingError(
            f"{path}: holds 16-bit {image.mode} colours ({kind}); allowed in 16 bits are gray and RGB, "
            "with or without alpha"
        )
    little = order == "L" or (order == "N" and sys.byteorder == "little")
    _tell_raw_mode(again, f"{kind};16{'B' if little else 'L'}")
    return np.array(image).astype(np.uint16) << 8 | np.array(again)


def _raw_mode(image: Any) -> str:
    """How the decoder is told that the samples lie in the file."""
    args = image.tile[0].args if image.tile else ""
    return str(args[0]) if isinstance(args, tuple) else str(args)


def _tell_raw_mode(image: Any, raw_mode: str) -> None:
    image.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in image.tile
    ]


def _exif(image: Any) -> tuple[bytes | None, int]:
    """What EXIF says of the camera and the moment, and the orientation, 1 to 8 (1 where Pillow has applied it already).

    The thumbnail (it shows the picture before translation) and the tags that describe the file itself stay behind.
    """
    try:
        found, kept = image.getexif(), Pillow.Exif()
        for tag in KEPT_EXIF:
            if tag in found:
                kept[tag] = found.get_ifd(tag) if tag in (0x8769, 0x8825) else found[tag]
        orientation = found.get(tiff.ORIENTATION, 1) if image.format != "TIFF" else 1
        return kept.tobytes() if len(kept) else None, orientation if orientation in range(1, 9) else 1
    except Exception:               # a damaged EXIF block does not damage the picture
        return None, 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the camera's orientation (EXIF 2.32, tag 0x0112)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _read_array(path: Path, max_pixels: int) -> Picture:
    try:
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)       # mapped: its header is judged first
    except (OSError, ValueError, EOFError) as error:
        raise RecordingError(
            f"{path}: cannot be read as an array: {_sentence(error)}; save it with numpy.save"
        ) from error
    if pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise RecordingError(
            f"{path}: has the shape {pixels.shape}; a picture is (height, width) or (height, width, bands)"
        )
    if pixels.shape[0] * pixels.shape[1] > max_pixels:
        raise RecordingError(
            f"{path}: has {pixels.shape[1]} x {pixels.shape[0]} pixels, more than max_pixels = {max_pixels}"
        )
    if pixels.dtype not in (np.uint8, np.uint16, np.float16, np.float32, np.float64):
        raise RecordingError(f"{path}: holds {pixels.dtype}; allowed are uint8, uint16 and floats")
    kind = np.float32 if pixels.dtype.kind == "f" else pixels.dtype.newbyteorder("=")
    return Picture(np.atleast_3d(np.array(pixels, dtype=kind)))


def _sentence(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
