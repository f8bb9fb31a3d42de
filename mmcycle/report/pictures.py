"""Thumbnails: picture files, and what sensors draw, as small pictures inside the page."""
import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageOps

from mmcycle.errors import UserError
from mmcycle.modality import Drawing

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
MOST_PIXELS = 64_000_000                        # a larger picture is a mistake or an attack
STRIP_WIDTH = 1024                              # pixels: a strip is mostly long
STRIP_SHAPE = 3.0                               # width / height of a strip on the page, whatever its pixels are
MOST_BOXES = 200
KITTI = ("Car", "Pedestrian", "Cyclist", "Van", "Truck")
BOX_COLOURS = ("#ff4d6d", "#22c3e6", "#ffb703", "#70e000", "#c77dff", "#ff8fab")

Box = tuple[int, float, float, float, float]    # class, centre x, centre y, width, height, as shares of the picture


@dataclass(frozen=True)
class Thumbnail:
    """`source` is a data: address; width and height are those it has on the page, in pixels."""

    kind: ClassVar[str] = "picture"
    source: str
    width: int
    height: int
    strip: bool = False


def read_picture(path: Path) -> Pillow.Image:
    """A picture file, upright, RGB."""
    with Pillow.open(path, formats=FORMATS) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            raise UserError(f"{picture.width} x {picture.height} pixels are too many for a page")
        picture.draft("RGB", (1024, 1024))      # JPEG: decode at a fraction of the size
        return ImageOps.exif_transpose(_eight_bit(picture))


def read_drawing(drawing: Drawing) -> Pillow.Image:
    """What a sensor drew."""
    return Pillow.fromarray(np.ascontiguousarray(drawing.pixels.permute(1, 2, 0).cpu().numpy()))


def shrink(picture: Pillow.Image, width: int) -> None:
    """Make it at most `width` wide, in place."""
    picture.thumbnail((width, 4 * width))


def draw_boxes(picture: Pillow.Image, boxes: Sequence[Box]) -> None:
    """Outline boxes, in place, in a colour for each class."""
    draw, line = ImageDraw.Draw(picture), 1 if picture.width < 200 else 2
    for kind, x, y, width, height in boxes:
        left, top = (x - width / 2) * picture.width, (y - height / 2) * picture.height
        right, bottom = (x + width / 2) * picture.width, (y + height / 2) * picture.height
        draw.rectangle((left, top, right, bottom), outline=BOX_COLOURS[kind % len(BOX_COLOURS)], width=line)


def thumbnail(picture: Pillow.Image) -> Thumbnail:
    """PNG for small pictures, in which the blocks of JPEG would show."""
    small = picture.width <= 160 and picture.height <= 160
    return Thumbnail(_encoded(picture, "PNG" if small else "JPEG", quality=85), *picture.size)


def strip(picture: Pillow.Image) -> Thumbnail:
    """Narrowed without losing rows; the page stretches it to STRIP_SHAPE."""
    width, height = min(picture.width, STRIP_WIDTH), min(picture.height, STRIP_WIDTH)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Pillow.Resampling.BOX)
    source = _encoded(picture, "JPEG", quality=88, subsampling=0)       # its colours are measurements
    return Thumbnail(source, STRIP_WIDTH, round(STRIP_WIDTH / STRIP_SHAPE), strip=True)


def size_of(path: Path) -> tuple[int, int] | None:
    """(width, height) of a picture file as it is stored, nothing decoded; None for what is none."""
    if path.suffix.lower() not in SUFFIXES:
        return None
    try:
        with Pillow.open(path, formats=FORMATS) as picture:
            return picture.size
    except Exception:                           # Pillow answers damage with any exception
        return None


def read_boxes(path: Path, size: tuple[int, int] | None = None) -> tuple[Box, ...]:
    """Boxes of a YOLO label file, "class x y width height" lines in shares of the picture; none of any other file.

    size   (width, height) of the picture in pixels: then those of KITTI are read too, but for what it does not care of
    """
    if path.suffix.lower() != ".txt":
        return ()
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8")[:100_000].split("\n")]
        if size is not None and any(len(words) in (15, 16) for words in lines):
            return tuple(_kitti_box(words, size) for words in lines[:MOST_BOXES] if words and words[0] != "DontCare")
        return tuple(_box(words) for words in lines[:MOST_BOXES] if words)
    except (OSError, ValueError):
        return ()


def _box(words: list[str]) -> Box:
    kind, (x, y, width, height) = int(words[0]), map(float, words[1:])
    if not all(0 <= value <= 1 for value in (x, y, width, height)) or kind < 0:
        raise ValueError("not a box")
    return kind, x, y, width, height


def _kitti_box(words: list[str], size: tuple[int, int]) -> Box:
    """Class, truncated, occluded, alpha, then left, top, right, bottom in pixels, then the box in space."""
    kind, edges = words[0], [float(word) for word in words[4:8]]
    left, right, top, bottom = edges[0] / size[0], edges[2] / size[0], edges[1] / size[1], edges[3] / size[1]
    if not (-1 < left < right < 2 and -1 < top < bottom < 2):
        raise ValueError("not a box")
    place = KITTI.index(kind) if kind in KITTI else len(KITTI)
    return place, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _encoded(picture: Pillow.Image, form: str, quality: int, subsampling: int = -1) -> str:
    """A data: address."""
    buffer = io.BytesIO()
    picture.save(buffer, form, quality=quality, subsampling=subsampling)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _eight_bit(picture: Pillow.Image) -> Pillow.Image:
    """RGB; 16-bit and float pixels are stretched from their darkest to their brightest."""
    if picture.mode[0] not in "IF":
        return picture.convert("RGB")
    pixels = np.nan_to_num(np.asarray(picture, dtype=np.float32), posinf=0, neginf=0)
    pixels = (pixels - pixels.min()) / max(float(np.ptp(pixels)), 1e-9)
    return Pillow.fromarray((pixels * 255).round().astype(np.uint8)).convert("RGB")
