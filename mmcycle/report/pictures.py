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
    draw = ImageDraw.Draw(picture)
    for kind, x, y, width, height in boxes:
        left, top = (x - width / 2) * picture.width, (y - height / 2) * picture.height
        right, bottom = (x + width / 2) * picture.width, (y + height / 2) * picture.height
        draw.rectangle((left, top, right, bottom), outline=BOX_COLOURS[kind % len(BOX_COLOURS)], width=2)


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


def read_boxes(path: Path) -> tuple[Box, ...]:
    """Boxes of a YOLO label file, "class x y width height" lines in shares of the picture; none of any other file."""
    try:
        lines = path.read_text(encoding="utf-8")[:100_000].split("\n")
        boxes = [_box(line.split()) for line in lines[:MOST_BOXES] if line.strip()]
    except (OSError, ValueError):
        return ()
    return tuple(boxes)


def _box(words: list[str]) -> Box:
    kind, (x, y, width, height) = int(words[0]), map(float, words[1:])
    if not all(0 <= value <= 1 for value in (x, y, width, height)) or kind < 0:
        raise ValueError("not a box")
    return kind, x, y, width, height


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
