"""Pictures of few things near by, and captions of them, as two domains: equal names are a picture and its caption.

OUT/captioned.json
OUT/image/day/000000.png        OUT/image/night/000000.png
OUT/text/day/000000.txt         OUT/text/night/000000.txt       "two cars and one person by night"
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from mmcycle.errors import UserError, need
from mmcycle.files import write_json, write_text
from mmcycle.simulate.camera import Camera, photographs
from mmcycle.simulate.captions import Shown, caption
from mmcycle.simulate.crew import share_out
from mmcycle.simulate.scene import street
from mmcycle.simulate.staged import staged
from mmcycle.simulate.street import SIDES, agreed, seed_of, write_image

VIEWS = ("day", "night")


def write_captioned(out: Path, scenes: int, seed: int = 0, size: tuple[int, int] = (72, 48), workers: int = 1) -> None:
    """Write what is missing; size: width and height in pixels. The folder of the light is the class of both.

    Scene i depends on (seed, i) alone. A folder that holds another order is refused.
    """
    if scenes < 1 or not all(SIDES[0] <= side <= SIDES[1] for side in size):
        raise UserError(f"{scenes} scenes of {size[0]}x{size[1]} pixels: give one scene at least, sides of {SIDES[0]} "
                        f"to {SIDES[1]} pixels")
    need("open3d", "Simulating a street")
    wanted = {"kind": "captioned", "seed": seed, "size": list(size)}
    agreed(out / "captioned.json", wanted, "captioned pictures")
    write_json(out / "captioned.json", wanted)
    missing = [index for index in range(scenes) if not all(path.exists() for path in _files(out, index))]
    share_out(partial(_write, out, seed, size), missing, workers)


def _write(out: Path, seed: int, size: tuple[int, int], index: int) -> None:
    scene = staged(street(seed_of(seed, index)), np.random.default_rng((seed, index)))
    for view, taken in photographs(scene, Camera.aboard(scene, *size), VIEWS).items():
        said = caption(Shown.of(taken.semantic, taken.instance, view))
        write_text(out / "text" / view / f"{index:06d}.txt", f"{said}\n")
        write_image(out / "image" / view / f"{index:06d}.png", taken.rgb)


def _files(out: Path, index: int) -> Iterator[Path]:
    for view in VIEWS:
        yield out / "text" / view / f"{index:06d}.txt"
        yield out / "image" / view / f"{index:06d}.png"
