"""The album of a page: recordings on disk -> what is embedded of them, whatever state the files are in."""
import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from PIL import UnidentifiedImageError

from mmcycle.errors import RecordingError, UserError
from mmcycle.files import inside
from mmcycle.modality import Clip, Cloud, Drawing, Exhibit, Modality
from mmcycle.report import films, pictures
from mmcycle.report.clouds import Viewer, viewer
from mmcycle.report.films import Film
from mmcycle.report.pictures import Box, Thumbnail
from mmcycle.report.shelf import Shelf

BUDGET = 13_000_000                             # letters of embedded media on one page


@dataclass(frozen=True)
class Player:
    """`source` is a data: address of a sound file."""

    kind: ClassVar[str] = "sound"
    source: str
    about: str


Shown = Thumbnail | Player | Viewer | Film


@dataclass
class Album:
    """What one page embeds. What cannot be shown is noted, by its name; `full` once something had to be left out."""

    left: int = BUDGET
    full: bool = False
    notes: list[str] = field(default_factory=list)

    def show(
        self, folder: Path, relative: object, width: int, boxes: Sequence[Box] = (), sensor: Modality | None = None,
        labels: Sequence[Path] = (),
    ) -> tuple[Shown, ...]:
        """The recording folder/relative, a picture file at most `width` wide, all else as its sensor presents it.

        Of a clip that is the sensor of its sound. () when it is unsafe, unreadable or one too many.
        """
        def made(path: Path) -> list[Shown]:
            if path.suffix.lower() in films.SUFFIXES:
                return self._clip(path, width, sensor)
            if sensor is None or path.suffix.lower() in pictures.SUFFIXES:
                return [_framed(pictures.read_picture(path), width, boxes)]
            return [_shown(exhibit, width, boxes) for exhibit in self._presented(sensor, path, labels)]

        return self._kept(folder, relative, made)

    def show_on(
        self, shelf: Shelf | None, name: object, width: int, boxes: Sequence[Box], sensor: Modality | None,
        labels: Sequence[Path],
    ) -> tuple[Shown, ...]:
        """The same for a recording on a shelf, loose or in a shard."""
        place = None if shelf is None else shelf.place(name)
        return () if place is None else self.show(*place, width, boxes, sensor, labels)

    def show_stacked(self, folder: Path, relative: str, width: int, parts: int) -> tuple[Shown, ...]:
        """A picture cut into `parts` of equal height, from top to bottom; very wide ones may be twice `width`."""
        def made(path: Path) -> list[Shown]:
            picture = pictures.read_picture(path)
            edges = [round(index * picture.height / parts) for index in range(parts + 1)]
            spans = [(top, bottom) for top, bottom in zip(edges, edges[1:]) if bottom > top]
            wide = picture.width > 2 * picture.height / parts
            pieces = [picture.crop((0, top, picture.width, bottom)) for top, bottom in spans]
            return [_framed(piece, 2 * width if wide else width) for piece in pieces]

        return self._kept(folder, relative, made)

    def _kept(self, folder: Path, relative: object, made: Callable[[Path], list[Shown]]) -> tuple[Shown, ...]:
        if not isinstance(relative, str):
            return ()
        if self.left <= 0:
            self.full = True
            return ()
        try:
            path = inside(folder, relative)
            if not path.is_file():
                raise UserError("there is no such file")
            shown = made(path)
        except UnidentifiedImageError:
            self.note(f"{relative}: cannot be shown, it is no picture of a known format.")
        except Exception as error:              # Pillow, and other people's sensors, answer damage with any exception
            self.note(f"{relative}: cannot be shown: {' '.join(str(error).split())[:200] or type(error).__name__}.")
        else:
            self.left -= sum(_letters(one) for one in shown)
            return tuple(shown)
        return ()

    def _clip(self, path: Path, width: int, sensor: Modality | None) -> list[Shown]:
        """A clip to be played, or some of its frames and its sound; and what its sound looks like."""
        playing = films.film(path)
        page = None if playing else films.sheet(path, 2 * width)
        shown: list[Shown] = [playing] if playing else [_framed(page, 2 * width)] if page else []
        try:
            heard = films.heard(path, sensor) if sensor is not None else ()
        except Exception as error:              # as below
            self.note(f"{path.name}: its sound is not shown: {' '.join(str(error).split())[:200]}.")
            return shown
        return shown + [_shown(one, width, ()) for one in heard if not (playing and isinstance(one, Clip))]

    def _presented(self, sensor: Modality, path: Path, labels: Sequence[Path]) -> Sequence[Exhibit]:
        """Labels that do not belong to the recording hide themselves, not it."""
        raw = sensor.load(path)
        try:
            return sensor.present(raw, labels)
        except RecordingError as error:
            if not labels:
                raise
            self.note(f"{path.name}: its labels are not shown: {' '.join(str(error).split())[:300]}.")
            return sensor.present(raw)

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self.notes:
            self.notes.append(text)


def _shown(exhibit: Exhibit, width: int, boxes: Sequence[Box]) -> Shown:
    match exhibit:
        case Drawing(strip=True):
            return pictures.strip(pictures.read_drawing(exhibit))
        case Drawing():
            return _framed(pictures.read_drawing(exhibit), width, boxes)
        case Clip():
            if not re.fullmatch(r"audio/[a-z0-9-]{1,20}", exhibit.mime):
                raise UserError(f"a sound's type is audio/flac or audio/wav; got {exhibit.mime!r}")
            content = base64.b64encode(exhibit.content).decode()
            return Player(f"data:{exhibit.mime};base64,{content}", exhibit.about[:200])
        case Cloud():
            return viewer(exhibit)
    raise UserError(f"a sensor presents a Drawing, a Clip or a Cloud; got {type(exhibit).__name__}")


def _framed(picture: pictures.Pillow.Image, width: int, boxes: Sequence[Box] = ()) -> Thumbnail:
    pictures.shrink(picture, width)
    pictures.draw_boxes(picture, boxes)
    return pictures.thumbnail(picture)


def _letters(shown: Shown) -> int:
    return len(shown.points) if isinstance(shown, Viewer) else len(shown.source)
