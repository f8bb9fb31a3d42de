"""`mmcycle simulate street` and `mmcycle simulate drive`, as the command line shows them; cli.py hangs them up."""

from pathlib import Path
from typing import Annotated

import typer

from mmcycle.errors import UserError

Seed = Annotated[int, typer.Option(help="Another number, another street.")]
Size = Annotated[str, typer.Option(help="WIDTHxHEIGHT in pixels.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes.")]
Mode = Annotated[str, typer.Option(help="Of the LiDAR: ideal, or calibrated (a sensor model made by hand).")]
Views = Annotated[str, typer.Option(help="Any of day,night,fog,lidar; masks and boxes go with the first.")]
Captions = Annotated[bool, typer.Option("--captions", help="Say beside each photograph, in words, what it shows.")]
Sensor = Annotated[str, typer.Option(help="The LiDAR: hdl-64e, vlp-16, os1-128 ...")]


def street(
    out: Annotated[Path, typer.Argument(metavar="OUT")],
    scenes: Annotated[int, typer.Option(min=1)] = 20,
    seed: Seed = 0,
    views: Views = "day,night",
    size: Size = "256x144",
    workers: Workers = 1,
    mode: Mode = "ideal",
    sensor: Sensor = "hdl-64e",
    captions: Captions = False,
) -> None:
    """Streets, ray-cast, each from one place: exact pairs, semantic masks and boxes, labelled sweeps."""
    from mmcycle.modality import find_modality
    from mmcycle.progress import counted
    from mmcycle.simulate.street import write_street

    wanted = tuple(views.split(","))
    spec = find_modality("lidar")(sensor=sensor).spec if "lidar" in wanted else None
    with counted("scenes") as tell:
        write_street(out, scenes, seed, wanted, _pixels(size), workers, spec, mode, captions, tell)
    print(f"{out}: {scenes} scenes ({views})")


def drive(
    out: Annotated[Path, typer.Argument(metavar="OUT")],
    moments: Annotated[int, typer.Option(min=1, help="How many; all together no more than 110 metres.")] = 100,
    spacing: Annotated[float, typer.Option(help="Metres from one moment to the next.")] = 1.0,
    seed: Seed = 0,
    view: Annotated[str, typer.Option(help="Of the camera: day, night, fog, or none for the LiDAR alone.")] = "day",
    size: Size = "480x160",
    workers: Workers = 1,
    mode: Mode = "ideal",
    sensor: Sensor = "hdl-64e",
) -> None:
    """A drive along one street: camera, LiDAR, labels, calibration and poses, moment by moment, as KITTI has them."""
    from mmcycle.modality import find_modality
    from mmcycle.progress import counted
    from mmcycle.simulate.drive import write_drive

    spec = find_modality("lidar")(sensor=sensor).spec
    with counted("moments") as tell:
        write_drive(out, spec, moments, spacing, seed, view, _pixels(size), mode, workers, tell)
    print(f"{out}: {moments} moments ({'lidar' if view == 'none' else f'{view}, lidar'})")


def _pixels(size: str) -> tuple[int, int]:
    width, _, height = size.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise UserError(f"--size {size!r}: expected WIDTHxHEIGHT, such as 256x144")
    return int(width), int(height)
