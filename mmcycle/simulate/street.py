"""A folder of simulated streets: exact pairs of day, night, fog and LiDAR, with their labels, written scene by scene.

OUT/street.json, OUT/day/classes.txt
OUT/day/images/000000.png   OUT/night/images/000000.png     the same stem is the same moment
OUT/day/masks/000000.png    OUT/day/labels/000000.txt       beside the first photograph; they hold for every one
OUT/day/captions/000000.txt OUT/night/captions/000000.txt   where asked for: what each shows, in words
OUT/lidar/velodyne/000000.bin   OUT/lidar/labels/000000.label   as KITTI's and SemanticKITTI's
OUT/lidar/boxes/000000.txt                                      as OpenPCDet's
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy import ndarray as Array
from PIL import Image

from mmcycle.errors import UserError, need
from mmcycle.files import write_atomic, write_json, write_text
from mmcycle.progress import Tell, unsaid
from mmcycle.simulate.camera import VIEWS as PHOTOGRAPHS
from mmcycle.simulate.camera import Camera, Photograph, photographs
from mmcycle.simulate.captions import Shown, caption
from mmcycle.simulate.crew import share_out
from mmcycle.simulate.mesh import Semantic
from mmcycle.simulate.scanner import Pose, Sensor, boxes_seen, check_mode, scan
from mmcycle.simulate.scene import street
from mmcycle.simulate.sweep import write_boxes, write_sweep

VIEWS = (*PHOTOGRAPHS, "lidar")
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
    sensor: Sensor | None = None  # of the view "lidar"
    mode: str = "ideal"
    captions: bool = False

    @property
    def photographs(self) -> tuple[str, ...]:
        """The views of the camera."""
        return tuple(view for view in self.views if view in PHOTOGRAPHS)

    def files(self, index: int) -> dict[str, Path]:
        """Name of a part -> its file; the parts of one scene, all small."""
        stem, lidar = f"{index:06d}", self.out / "lidar"
        parts = {view: self.out / view / "images" / f"{stem}.png" for view in self.photographs}
        if parts:
            first = self.out / self.photographs[0]
            parts |= {"mask": first / "masks" / f"{stem}.png", "boxes": first / "labels" / f"{stem}.txt"}
        if self.captions:
            parts |= {f"{view} caption": self.out / view / "captions" / f"{stem}.txt" for view in self.photographs}
        if "lidar" in self.views:
            parts |= {"points": lidar / "velodyne" / f"{stem}.bin", "labels": lidar / "labels" / f"{stem}.label"}
            parts["things"] = lidar / "boxes" / f"{stem}.txt"
        return parts


def write_street(
    out: Path,
    scenes: int,
    seed: int = 0,
    views: Sequence[str] = ("day", "night"),
    size: tuple[int, int] = (256, 144),
    workers: int = 1,
    sensor: Sensor | None = None,
    mode: str = "ideal",
    captions: bool = False,
    tell: Tell = unsaid,
) -> None:
    """Write the missing scenes; finished ones are left as they are, so the same line again resumes.

    The view "lidar" needs a sensor, as `mmcycle.modalities.lidar` describes them, and a mode of `scanner.MODES`.
    With it, the streets are those of `street(seed, around=True)`.

    Scene i depends on (seed, i) alone: the first ten of a hundred are the ten of ten. A folder that holds another
    street is refused. tell: see `share_out`.
    """
    order = Order(Path(out), seed, tuple(views), (int(size[0]), int(size[1])), sensor, mode, captions)
    _check(order, scenes, workers)
    need("open3d", "Simulating a street")
    _announce(order, scenes)
    missing = [index for index in range(scenes) if not all(path.exists() for path in order.files(index).values())]
    share_out(partial(write_scene, order), missing, workers, tell, scenes - len(missing))


def write_scene(order: Order, index: int) -> None:
    """One street, all its views, and their labels."""
    scene = street(seed_of(order.seed, index), around="lidar" in order.views)
    files, wanted = order.files(index), order.photographs
    if wanted:
        taken = photographs(scene, Camera.aboard(scene, *order.size), wanted)
        write_image(files["mask"], taken[wanted[0]].semantic)
        write_text(files["boxes"], "".join(f"{line}\n" for line in yolo_lines(taken[wanted[0]])))
        for view, photograph in taken.items():
            if order.captions:
                said = caption(Shown.of(photograph.semantic, photograph.instance, view))
                write_text(files[f"{view} caption"], f"{said}\n")
            write_image(files[view], photograph.rgb)
    if order.sensor is not None and "lidar" in order.views:
        seen = order.sensor.elevations, order.sensor.azimuths, order.sensor.max_range
        pose = Pose.aboard(scene)
        swept = scan(scene, pose, *seen, seed=scene.seed, mode=order.mode, noise=noise_of(order.mode))
        write_boxes(*boxes_seen(scene, pose, swept), files["things"])
        write_sweep(swept, files["points"], files["labels"])


def noise_of(mode: str) -> float:
    """Metres by which a range is wrong, one standard deviation: 0.02 is what Velodyne states for the HDL-64E."""
    return 0.02 if mode == "calibrated" else 0.0


def described(sensor: Sensor, mode: str) -> dict:
    """What street.json says of the scanner."""
    around = list(sensor.azimuths)
    grid = {"elevations": list(sensor.elevations), "azimuths": [around[0], around[-1]], "columns": len(around)}
    return {"mode": mode, **grid, "max_range": sensor.max_range}


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
    check_mode(order.mode)
    if "lidar" in order.views and order.sensor is None:
        raise UserError("the view lidar needs a sensor: pass one that has elevations, azimuths and max_range")
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
    if order.sensor is not None and "lidar" in order.views:
        wanted["lidar"] = described(order.sensor, order.mode)
    begun = agreed(path, wanted, "a street").get("scenes")
    scenes = max(scenes, begun) if isinstance(begun, int) else scenes
    camera = Camera(*order.size)
    write_json(
        path,
        {
            "kind": "street",
            **wanted,
            "scenes": scenes,
            "classes": list(CLASSES),
            "labels_beside": order.photographs[0] if order.photographs else None,
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
    if order.photographs:
        write_text(order.out / order.photographs[0] / "classes.txt", "".join(f"{name}\n" for name in CLASSES))


def agreed(path: Path, wanted: dict, what: str) -> dict:
    """What the JSON of a folder says, {} in a new one; a folder of another order, or of something else, is refused."""
    if path.exists():
        found = _read(path)
        differs = [key for key in wanted if found.get(key) != wanted[key]]
        if differs:
            raise UserError(
                f"{path.parent} already holds {what} with "
                + ", ".join(f"{key} {found.get(key)}" for key in differs)
                + "; asked for "
                + ", ".join(f"{key} {wanted[key]}" for key in differs)
                + ". Choose another folder."
            )
        return found
    if path.parent.exists() and any(path.parent.iterdir()):
        raise UserError(f"{path.parent} is not empty and holds no {path.name}; choose an empty or a new folder")
    return {}


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


def write_image(path: Path, pixels: Array) -> None:
    """A PNG, atomically."""
    write_atomic(path, lambda temporary: Image.fromarray(pixels).save(temporary, format="PNG"))
