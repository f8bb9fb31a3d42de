"""Thumbnails: recordings on disk -> small pictures inside the page, whatever state the files are in."""
import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageOps, UnidentifiedImageError

from mmcycle.errors import UserError
from mmcycle.files import inside
from mmcycle.modality import Modality

BUDGET = 5_000_000                              # bytes of pictures on one page; base64 makes a third more of them
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
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

    def show(
        self, folder: Path, relative: object, width: int, boxes: Sequence[Box] = (), sensor: Modality | None = None
    ) -> Thumbnail | None:
        """The picture folder/relative, at most `width` wide; None when it is unsafe, unreadable or one too many.

        A recording that is no picture file is drawn as its sensor renders it.
        """
        picture = self._opened(folder, relative, sensor)
        if picture is None:
            return None
        _shrink(picture, width)
        _draw(picture, boxes)
        return self._kept(picture)

    def show_stacked(self, folder: Path, relative: str, width: int, parts: int) -> list[Thumbnail]:
        """A picture cut into `parts` of equal height, from top to bottom."""
        picture = self._opened(folder, relative, None)
        if picture is None:
            return []
        edges = [round(index * picture.height / parts) for index in range(parts + 1)]
        spans = [(top, bottom) for top, bottom in zip(edges, edges[1:]) if bottom > top]
        pieces = [picture.crop((0, top, picture.width, bottom)) for top, bottom in spans]
        for piece in pieces:
            _shrink(piece, width)
        return [self._kept(piece) for piece in pieces]

    def _opened(self, folder: Path, relative: object, sensor: Modality | None) -> Pillow.Image | None:
        if not isinstance(relative, str):
            return None
        if self.left <= 0:
            self._note("Some pictures were left out: the page would have been larger than 8 MB.")
            return None
        try:
            path = inside(folder, relative)
            if not path.is_file():
                raise UserError("there is no such file")
            return _read(path) if path.suffix.lower() in SUFFIXES or sensor is None else _rendered(path, sensor)
        except UnidentifiedImageError:
            self._note(f"{relative}: cannot be shown, it is no picture of a known format.")
        except Exception as error:              # Pillow, and other people's sensors, answer damage with any exception
            self._note(f"{relative}: cannot be shown: {' '.join(str(error).split())[:200] or type(error).__name__}.")
        return None

    def _kept(self, picture: Pillow.Image) -> Thumbnail:
        """PNG for small pictures, in which the blocks of JPEG would show."""
        small = picture.width <= 160 and picture.height <= 160
        buffer = io.BytesIO()
        picture.save(buffer, "PNG" if small else "JPEG", quality=85)
        content = buffer.getvalue()
        self.left -= len(content)
        kind = "png" if small else "jpeg"
        return Thumbnail(f"data:image/{kind};base64,{base64.b64encode(content).decode()}", *picture.size)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


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


def _read(path: Path) -> Pillow.Image:
    """A picture file, upright, RGB."""
    with Pillow.open(path, formats=FORMATS) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            raise UserError(f"{picture.width} x {picture.height} pixels are too many for a page")
        picture.draft("RGB", (1024, 1024))      # JPEG: decode at a fraction of the size
        return ImageOps.exif_transpose(_eight_bit(picture))


def _rendered(path: Path, sensor: Modality) -> Pillow.Image:
    x, _ = sensor.to_tensor(sensor.load(path))
    return Pillow.fromarray(np.ascontiguousarray(sensor.render(x).permute(1, 2, 0).cpu().numpy()))


def _eight_bit(picture: Pillow.Image) -> Pillow.Image:
    """RGB; 16-bit and float pixels are stretched from their darkest to their brightest."""
    if picture.mode[0] not in "IF":
        return picture.convert("RGB")
    pixels = np.nan_to_num(np.asarray(picture, dtype=np.float32), posinf=0, neginf=0)
    pixels = (pixels - pixels.min()) / max(float(np.ptp(pixels)), 1e-9)
    return Pillow.fromarray((pixels * 255).round().astype(np.uint8)).convert("RGB")


def _shrink(picture: Pillow.Image, width: int) -> None:
    picture.thumbnail((width, 4 * width))


def _draw(picture: Pillow.Image, boxes: Sequence[Box]) -> None:
    draw = ImageDraw.Draw(picture)
    for kind, x, y, width, height in boxes:
        left, top = (x - width / 2) * picture.width, (y - height / 2) * picture.height
        right, bottom = (x + width / 2) * picture.width, (y + height / 2) * picture.height
        draw.rectangle((left, top, right, bottom), outline=BOX_COLOURS[kind % len(BOX_COLOURS)], width=2)
