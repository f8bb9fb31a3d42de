"""What scanner and camera of one car saw on many streets, as two domains: equal names are one moment.

OUT/lidar/000-000000.bin    OUT/camera/000-000000.png    OUT/masks/000-000000.png     street, moment
OUT/drives/000/             each street as `write_drive` leaves it
OUT/paired.json             what was ordered
"""
from pathlib import Path

from mmcycle.errors import UserError
from mmcycle.files import copy_atomic, write_json
from mmcycle.simulate.drive import write_drive
from mmcycle.simulate.scanner import Sensor
from mmcycle.simulate.street import agreed, described

MOMENTS, SPACING = 4, 12.0  # of a street, and metres between two of them
MOST = 1000  # streets of a seed
_PLACES = (("velodyne", "lidar"), ("image_2", "camera"), ("semantic", "masks"))  # the last is written last


def write_paired(out: Path, sensor: Sensor, streets: int, seed: int = 0, size: tuple[int, int] = (64, 32)) -> None:
    """Write what is missing, by day; size: width and height in pixels. Two seeds share no street.

    A folder that holds another order is refused.
    """
    if not 1 <= streets <= MOST:
        raise UserError(f"{streets} streets: give 1 to {MOST}")
    wanted = {"kind": "paired", "seed": seed, "size": list(size), "lidar": described(sensor, "ideal")}
    agreed(out / "paired.json", wanted, "pairs of sweeps and photographs")
    write_json(out / "paired.json", wanted)
    for street in range(streets):
        drive = out / "drives" / f"{street:03d}"
        if (out / _PLACES[-1][1] / f"{drive.name}-{MOMENTS - 1:06d}.png").exists():
            continue  # a second look would build the street anew
        write_drive(drive, sensor, MOMENTS, SPACING, MOST * seed + street, size=size)
        for part, domain in _PLACES:
            for source in sorted((drive / part).iterdir()):
                copy_atomic(source, out / domain / f"{drive.name}-{source.name}")
