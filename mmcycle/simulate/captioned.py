"""Pictures of streets and captions of them, as two domains: equal names are one photograph and what it shows.

OUT/street/                     as `write_street` leaves it
OUT/image/day/000000.png        OUT/image/night/000000.png
OUT/text/day/000000.txt         OUT/text/night/000000.txt
"""

from pathlib import Path

from mmcycle.files import copy_atomic
from mmcycle.simulate.street import write_street

VIEWS = ("day", "night")


def write_captioned(out: Path, scenes: int, seed: int = 0, size: tuple[int, int] = (48, 32), workers: int = 1) -> None:
    """Write what is missing; size: width and height in pixels. The folder of the light is the class of both."""
    write_street(out / "street", scenes, seed, VIEWS, size, workers, captions=True)
    for view in VIEWS:
        for kind, part in (("image", "images"), ("text", "captions")):
            for source in sorted((out / "street" / view / part).iterdir()):
                target = out / kind / view / source.name
                if not source.name.startswith(".") and not target.exists():
                    copy_atomic(source, target)
