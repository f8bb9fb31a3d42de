"""A folder of simulated streets: exact pairs of day, night and fog, with masks and boxes, written scene by scene.

OUT/street.json, OUT/day/classes.txt
OUT/day/images/000000.png   OUT/night/images/000000.png     the same stem is the same moment
OUT/day/masks/000000.png    OUT/day/labels/000000.txt       beside the first view; they hold for every view
"""

import hashlib
import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy import ndarray as Array
from PIL import Image

from mmcycle.errors import UserError, need
from mmcycle.files import write_atomic, write_json, write_text
from mmcycle.simulate.camera import VIEWS, Camera, Photograph, photographs
from mmcycle.simulate.mesh import Semantic
from mmcycle.simulate.scene import street

CLASSES = ("car", "person")
SMALLEST = 12  # visible pixels; what is smaller gets no box
SIDES = (16, 4096)  # pixels a photograph may measure
_CLASS_OF = {int(Semantic.CAR): 0, int(Semantic.PERSON): 1}


@dataclass(frozen=True)
class Order:
    """What is to be written: street.json without the number of scenes."""

    out: Path
    seed: int
    views: tuple[str, ...]
    size: tuple[int, int]  # width, height

    def files(self, index: int) -> dict[str, Path]:
        """Name of a part -> its file; the parts of one scene, all small."""
        stem, first = f"{index:06d}", self.out / self.views[0]
        photos = {view: self.out / view / "images" / f"{stem}.png" for view in self.views}
        return photos | {"mask": first / "masks" / f"{stem}.png", "labels": first / "labels" / f"{stem}.txt"}


def write_street(
    out: Path,
    scenes: int,
    seed: int = 0,
    views: Sequence[str] = ("day", "night"),
    size: tuple[int, int] = (256, 144),
    workers: int = 1,
) -> None:
    """Write the missing scenes; finished ones are left as they are, so the same line again resumes.

    Scene i depends on (seed, i) alone: the first ten of a hundred are the ten of ten. A folder that holds another
    street is refused.
    """
    order = Order(Path(out), seed, tuple(views), (int(size[0]), int(size[1])))
    _check(order, scenes, workers)
    need("open3d", "Simulating a street")
    _announce(order, scenes)
    missing = [index for index in range(scenes) if not all(path.exists() for path in order.files(index).values())]
    if workers == 1 or len(missing) < 2 * workers:
        for index in missing:
            write_scene(order, index)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        list(pool.map(write_scene, [order] * len(missing), missing, chunksize=max(1, len(missing) // (4 * workers))))


def write_scene(order: Order, index: int) -> None:
    """One street, all its views, its mask and its boxes."""
    scene = street(seed_of(order.seed, index))
    taken = photographs(scene, Camera.aboard(scene, *order.size), order.views)
    files = order.files(index)
    first = taken[order.views[0]]
    _write_image(files["mask"], first.semantic)
    write_text(files["labels"], "".join(f"{line}\n" for line in yolo_lines(first)))
    for view, photograph in taken.items():
        _write_image(files[view], photograph.rgb)


def seed_of(seed: int, index: int) -> int:
    """63 bits of a hash, so that scenes depend on nothing but the seed and their number."""
    return int.from_bytes(hashlib.sha256(f"street {seed} {index}".encode()).digest()[:8], "big") >> 1


def yolo_lines(photograph: Photograph) -> list[str]:
    """ "class cx cy w h", shares of width and height, of every car and person with at least 12 visible pixels."""
    height, width = photograph.instance.shape
    return [
        f"{label} {(left + right) / 2 / width:.6f} {(top + bottom) / 2 / height:.6f} "
        f"{(right - left) / width:.6f} {(bottom - top) / height:.6f}"
        for label, left, top, right, bottom in boxes(photograph)
    ]


def boxes(photograph: Photograph) -> Iterator[tuple[int, int, int, int, int]]:
    """(class, left, top, right, bottom): the tightest box in pixels, right and bottom exclusive, by instance number."""
    instance, semantic = photograph.instance, photograph.semantic
    for number in np.unique(instance[np.isin(semantic, list(_CLASS_OF))]):
        rows, columns = np.nonzero(instance == number)
        if len(rows) >= SMALLEST:
            label = _CLASS_OF[int(semantic[rows[0], columns[0]])]
            yield label, int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def _check(order: Order, scenes: int, workers: int) -> None:
    unknown = [view for view in order.views if view not in VIEWS]
    if unknown or not order.views or len(set(order.views)) < len(order.views):
        raise UserError(
            f"views {', '.join(order.views) or '(none)'}: name at least one of {', '.join(VIEWS)}, each once"
        )
    if scenes < 1 or workers < 1 or scenes > 1_000_000:
        raise UserError(f"{scenes} scenes by {workers} workers: give 1 to 1000000 scenes and at least one worker")
    if not all(SIDES[0] <= side <= SIDES[1] for side in order.size):
        raise UserError(
            f"size {order.size[0]}x{order.size[1]}: width and height must be {SIDES[0]} to {SIDES[1]} pixels"
        )


def _announce(order: Order, scenes: int) -> None:
    """Write the class names and street.json, or refuse a folder that another order began."""
    path = order.out / "street.json"
    wanted = {"seed": order.seed, "views": list(order.views), "size": list(order.size)}
    if path.exists():
        found = _read(path)
        differs = [key for key in wanted if found.get(key) != wanted[key]]
        if differs:
            raise UserError(
                f"{order.out} already holds a street with "
                + ", ".join(f"{key} {found.get(key)}" for key in differs)
                + "; asked for "
                + ", ".join(f"{key} {wanted[key]}" for key in differs)
                + ". Choose another folder."
            )
        scenes = max(scenes, found["scenes"]) if isinstance(found.get("scenes"), int) else scenes
    elif order.out.exists() and any(order.out.iterdir()):
        raise UserError(f"{order.out} is not empty and holds no street.json; choose an empty or a new folder")
    camera = Camera(*order.size)
    write_json(
        path,
        {
            "kind": "street",
            **wanted,
            "scenes": scenes,
            "classes": list(CLASSES),
            "labels_beside": order.views[0],
            "mask_ids": {member.name.lower(): int(member) for member in Semantic},
            "camera": {
                "fov_degrees": "58 to 70",
                "height_metres": "1.3 to 1.75",
                "supersampling": 4,
                "width": camera.width,
                "height": camera.height,
            },
            "versions": {name: _version(name) for name in ("mmcycle", "numpy", "open3d", "pillow")},
        },
    )
    write_text(order.out / order.views[0] / "classes.txt", "".join(f"{name}\n" for name in CLASSES))


def _read(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); mend it, or choose another folder") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no table; mend it, or choose another folder")
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _write_image(path: Path, pixels: Array) -> None:
    write_atomic(path, lambda temporary: Image.fromarray(pixels).save(temporary, format="PNG"))
