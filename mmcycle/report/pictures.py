"""Thumbnails: recordings on disk -> small pictures inside the page, whatever state the files are in."""
import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageOps

from mmcycle.errors import UserError
from mmcycle.files import inside

BUDGET = 5_400_000                              # bytes of pictures on one page; base64 makes a third more of them
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF")
MOST_PIXELS = 64_000_000                        # a larger picture is a mistake or an attack
MOST_BOXES = 200
BOX_COLOURS = ("#ff4d6d", "#22c3e6", "#ffb703", "#70e000", "#c77dff", "#ff8fab")

Box = tuple[int, float, float, float, float]    # class, centre x, centre y, width, height, as shares of the picture


@dataclass(frozen=True)
class Thumbnail:
    """`source` is a data: address; width and height are those of the thumbnail, in pixels."""

    source: str
    width: int
    height: int


@dataclass
class Album:
    """The pictures of one page. What cannot be shown is noted, by its name."""

    left: int = BUDGET
    notes: list[str] = field(default_factory=list)

    def show(self, folder: Path, relative: object, width: int, boxes: Sequence[Box] = ()) -> Thumbnail | None:
        """The picture folder/relative, at most `width` wide; None when it is unsafe, unreadable or one too many."""
        if not isinstance(relative, str):
            return None
        if self.left <= 0:
            self._note("Some pictures were left out: the page would have been larger than 8 MB.")
            return None
        try:
            content, size, kind = _encoded(_small(inside(folder, relative), width), boxes)
        except UserError as error:
            self._note(f"{error}.")
            return None
        except Exception as error:              # Pillow answers damaged bytes with almost any exception
            self._note(f"{relative}: cannot be shown ({' '.join(str(error).split())[:160] or type(error).__name__}).")
            return None
        self.left -= len(content)
        return Thumbnail(f"data:image/{kind};base64,{base64.b64encode(content).decode()}", *size)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def read_boxes(path: Path) -> tuple[Box, ...]:
    """Boxes of a YOLO label file ("class x y width height" lines in shares of the picture); none if it is anything else."""
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


def _small(path: Path, width: int) -> Pillow.Image:
    """An upright RGB picture at most `width` wide."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    with Pillow.open(path, formats=FORMATS) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            raise ValueError(f"{picture.width} x {picture.height} pixels are too many for a page")
        picture.draft("RGB", (width, width))    # JPEG: decode at a fraction of the size
        upright = ImageOps.exif_transpose(_eight_bit(picture))
    upright.thumbnail((width, 4 * width))
    return upright


def _eight_bit(picture: Pillow.Image) -> Pillow.Image:
    """RGB; 16-bit and float pixels are stretched from their darkest to their brightest."""
    if picture.mode[0] not in "IF":
        return picture.convert("RGB")
    pixels = np.nan_to_num(np.asarray(picture, dtype=np.float32))
    pixels = (pixels - pixels.min()) / max(float(np.ptp(pixels)), 1e-9)
    return Pillow.fromarray((pixels * 255).round().astype(np.uint8)).convert("RGB")


def _encoded(picture: Pillow.Image, boxes: Sequence[Box]) -> tuple[bytes, tuple[int, int], str]:
    """Bytes, size and kind: PNG for small pictures, in which JPEG's blocks would show."""
    draw = ImageDraw.Draw(picture)
    for kind, x, y, width, height in boxes:
        left, top = (x - width / 2) * picture.width, (y - height / 2) * picture.height
        right, bottom = (x + width / 2) * picture.width, (y + height / 2) * picture.height
        draw.rectangle((left, top, right, bottom), outline=BOX_COLOURS[kind % len(BOX_COLOURS)], width=2)
    kind = "png" if picture.width <= 160 and picture.height <= 160 else "jpeg"
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=85, optimize=True) if kind == "jpeg" else picture.save(buffer, kind)
    return buffer.getvalue(), picture.size, kind
