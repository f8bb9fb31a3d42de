"""Labelled recordings in memory, all of one size: what a network can be taught on, read as any layout describes it.

Letters: N recordings, C channels, H W the one size, K classes.
"""
from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mmcycle.data.layouts import scan
from mmcycle.data.layouts.folder import LABEL_FOLDERS, MARK
from mmcycle.data.layouts.table import NAMES
from mmcycle.data.records import Record
from mmcycle.errors import RecordingError, UserError
from mmcycle.files import inside
from mmcycle.modality import Modality

Kind = Literal["classes", "masks"]
Size = tuple[int, int]                          # height, width

CLASS_TAGS = ("class", "label")                 # of a record, in this order: a folder's name, a table's column
MASKS = (".png", ".bmp", ".tif", ".tiff")
CHOSEN = ("labelTrainIds", "labelIds", "SegmentationClass")     # where a record has several masks, in this order
MOST_CLASSES = 256                              # of a mask: more are colours or distances, not classes
MOST_PIXELS = 100_000_000                       # of a mask
NO_CLASS = 255                                  # of a mask, by convention: counts for nothing


class Item(NamedTuple):
    """A recording and what is known of it; paths are absolute or as the user wrote the root."""

    key: str
    path: Path
    name: str | None                            # of its class
    mask: Path | None
    group: str | None                           # recordings of one scene, drive or speaker


@dataclass(frozen=True)
class Listing:
    """The recordings below a root. above: their labels lie beside the root, not in it."""

    root: Path
    layout: str
    items: tuple[Item, ...]
    above: bool = False

    @property
    def kind(self) -> Kind | None:
        """Masks where every recording has one, else classes where every one has its class; None: neither."""
        if all(item.mask is not None for item in self.items):
            return "masks"
        return "classes" if all(item.name is not None for item in self.items) else None

    def names(self) -> tuple[str, ...]:
        """Its classes, sorted; only of a listing with classes."""
        return tuple(sorted({item.name for item in self.items if item.name is not None}))


@dataclass(frozen=True, eq=False)
class Samples:
    """x (N, C, H, W) float32 in [-1, 1]; y (N,) classes, (N, H, W) with -1 where none counts, None: not labelled."""

    x: Tensor
    y: Tensor | None
    groups: tuple[str, ...]                     # (N,): equal where recordings belong together

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def sha256(self) -> str:
        """Of every number in it."""
        parts = [one.contiguous().numpy().tobytes() for one in (self.x, self.y) if one is not None]
        return hashlib.sha256(b"".join([repr(self.x.shape).encode(), *parts])).hexdigest()


def listing(root: Path, stream: str, suffixes: tuple[str, ...], layout: str | None = None) -> Listing:
    """What lies below `root`, with its labels; where it has none, those that its parent folder tells of it.

    "photos/trainA" gets its classes from "photos/labels.csv" and its masks from "photos/trainA_mask" or "photos/masks".
    """
    root = Path(root)
    collection = scan(root, {stream: suffixes}, layout)
    own = Listing(root, collection.layout, _items(root, collection.records, stream))
    if own.kind is not None or layout is not None or not _told_above(root):
        return own
    start = f"{root.resolve().name}/"
    above = scan(root.resolve().parent, {stream: suffixes})
    mine = [record for record in above.records if record.streams[stream].startswith(start)]
    known = {item.key.removeprefix(start): item for item in _items(root.resolve().parent, mine, stream)}
    items = tuple(
        item._replace(name=known[item.key].name, mask=known[item.key].mask, group=known[item.key].group)
        if item.key in known else item for item in own.items
    )
    found = Listing(root, own.layout, items, above=True)
    return found if found.kind is not None else own


def values_of(listed: Listing, voids: Iterable[int] = ()) -> tuple[int, ...]:
    """The values of all its masks that stand for a class."""
    found: set[int] = set()
    for item in listed.items:
        found.update(np.unique(read_mask(item.mask)).tolist())
        if len(found) > MOST_CLASSES:
            raise UserError(f"{item.mask}: with it the masks have more than {MOST_CLASSES} values; a mask holds the "
                            "number of its class in every pixel, not a colour or a distance")
    return tuple(sorted(found - {NO_CLASS, *voids}))


def read(
    listed: Listing, modality: Modality, size: Size, kind: Kind | None, classes: Sequence[str | int] = ()
) -> Samples:
    """Every recording, whole, brought to one size; masks by the nearest pixel. What is no class of `classes` is -1."""
    x = torch.stack([_resized(_whole(modality, item.path), size, item.path) for item in listed.items])
    if len({one.group for one in listed.items}) > 1 and all(one.group for one in listed.items):
        groups = tuple(str(one.group) for one in listed.items)
    else:
        groups = tuple(map(str, range(len(x))))
    place = {value: number for number, value in enumerate(classes)}
    if kind == "classes":
        return Samples(x, torch.tensor([place.get(item.name, -1) for item in listed.items]), groups)
    if kind == "masks":
        return Samples(x, torch.stack([_places(item.mask, place, size) for item in listed.items]), groups)
    return Samples(x, None, groups)


def read_mask(path: Path) -> np.ndarray:
    """(H', W') whole numbers, the class of every pixel; RecordingError where the file is no such mask."""
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise RecordingError(f"{path}: a mask of {picture.width} x {picture.height} pixels is too large; at "
                                     f"most {MOST_PIXELS} are read")
            pixels = np.asarray(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RecordingError(f"{path}: cannot be read as a mask: {error}") from error
    if pixels.ndim != 2 or pixels.dtype.kind not in "bui":
        raise RecordingError(f"{path}: is no mask: {pixels.shape} of {pixels.dtype}; expected one channel that holds "
                             "the number of the class in every pixel")
    return pixels.astype(np.int64)


def _items(root: Path, records: Iterable[Record], stream: str) -> tuple[Item, ...]:
    found = []
    for record in records:
        name = next((record.tags[tag] for tag in CLASS_TAGS if record.tags.get(tag)), None)
        mask = _mask_of(record.labels)
        path = inside(root, record.streams[stream])
        found.append(Item(record.key, path, name, mask and inside(root, mask), record.tags.get("group")))
    return tuple(found)


def _mask_of(labels: Sequence[str]) -> str | None:
    """The label that is a picture of classes."""
    pictures = [label for label in labels if label.lower().endswith(MASKS)]
    for word in CHOSEN:
        marked = [label for label in pictures if word in label]
        if marked:
            return marked[0]
    if len(pictures) > 1:
        raise UserError(f"{', '.join(pictures[:5])}: several pictures belong to one recording, and nothing says which "
                        "is its mask of classes; leave that one beside it")
    return pictures[0] if pictures else None


def _told_above(root: Path) -> bool:
    """Whether the parent folder may tell of this one: it is not searched without a reason, as it may be large."""
    parent, name = root.resolve().parent, root.resolve().name
    try:
        beside = sorted(parent.iterdir())
    except OSError:
        return False
    tables = any(one.name in NAMES or one.name.lower() in LABEL_FOLDERS for one in beside)
    return tables or any(MARK.search(one.name) and MARK.sub("", one.name) == name for one in beside)


def _whole(modality: Modality, path: Path) -> Tensor:
    try:
        return modality.to_tensor(modality.load(path))[0]
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror or error}") from error


def _resized(x: Tensor, size: Size, path: Path) -> Tensor:
    if tuple(x.shape[-2:]) == size:
        return x.float()
    if not min(x.shape[-2:]):
        raise RecordingError(f"{path}: is empty")
    return F.interpolate(x[None].float(), size=size, mode="bilinear", antialias=True)[0].clamp(-1, 1)


def _places(path: Path, place: dict[int, int], size: Size) -> Tensor:
    """A mask -> the number of each pixel's class among `classes`, (H, W)."""
    mask = read_mask(path)
    known = np.full(max(int(mask.max()), *place) + 1, -1) if place else np.full(int(mask.max()) + 1, -1)
    for value, number in place.items():
        known[value] = number
    numbers = torch.from_numpy(known[mask]).double()[None, None]
    return F.interpolate(numbers, size=size, mode="nearest-exact")[0, 0].long()
