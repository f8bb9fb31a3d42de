"""Simulated -> real sweeps of an HDL-64E: how near to real ones do translated sweeps come, measured on a drive's end?

    python benchmarks/simulated_sweeps.py DATA --out OUT [KEY=VALUE ...] [--seeds 0 1 2]

DATA holds 000000.npz, 000001.npz ...: 153 consecutive sweeps of one drive, unfolded to 64 x 1024. The translator hears
of the first two thirds, without labels; ten frames later the last third begins, and is compared. Simulated: 48 streets
to learn from, 24 others to translate, by an ideal sensor; the baseline is the sensor model made by hand on the same 24.
"""
import argparse
from pathlib import Path

import numpy as np
import torch
from scans import NOISE, scanned, taught

from mmcycle.files import write_json
from mmcycle.metrics.downstream import interval
from mmcycle.metrics.sweeps import Measured, Sweeps, with_floor
from mmcycle.modalities.lidar_sensor import preset
from mmcycle.modalities.range_files import RangeImage, read_range_image, write_range_image

SENSOR = preset("hdl-64e")
LEARN, TRANSLATE, HEARD, TEST = range(48), range(48, 72), range(102), range(112, 153)
SHOWN = ("range patches", "intensity patches", "drop rate", "drop map", "drop given left", "range w1", "intensity w1",
         "bev jsd")


def simulated(folder: Path, seeds: range, mode: str, noise: float = NOISE) -> list[Path]:
    """One sweep a street, intensity in hundredths, written once."""
    paths = [folder / f"{seed:03d}.npz" for seed in seeds]
    for seed, path in zip(seeds, paths):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            swept = scanned(seed, SENSOR, mode, noise)
            write_range_image(RangeImage(swept.range, (swept.intensity * 100).round()), path)
    return paths


def recorded(data: Path, folder: Path, numbers: range) -> list[Path]:
    """The drive on the sensor's rows: its files begin with the second laser, and the first is not to be had."""
    paths = [folder / f"{number:06d}.npz" for number in numbers]
    for path in paths:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            image = read_range_image(data / path.name)
            metres, light = (np.roll(one, 1, axis=0) for one in (image.range, image.remission))
            metres[0], light[0] = 0, 0
            write_range_image(RangeImage(metres, light), path)
    return paths


def sweeps(images: list[RangeImage]) -> Sweeps:
    """Without the row that the drive lacks; intensity as a share."""
    metres, light = (torch.stack([torch.from_numpy(np.asarray(getattr(image, what), np.float32)) for image in images])
                     for what in ("range", "remission"))
    return Sweeps(metres[:, 1:], light[:, 1:] / 100, elevation=torch.tensor(SENSOR.elevations[1:]))


def range_error(made: list[RangeImage], geometry: list[RangeImage]) -> float:
    """Median metres between kept returns and what was really hit."""
    gaps = [np.abs(one.range - true.range)[(one.range > 0) & (true.range > 0)] for one, true in zip(made, geometry)]
    return float(np.median(np.concatenate(gaps)))


def told(found: dict[str, list[dict[str, Measured]]], errors: dict[str, list[float]]) -> str:
    """{arm: measures by seed} -> Markdown, the floor last."""
    lines = [f"| | {' | '.join((*SHOWN, 'range error, m'))} |", f"|---|{'---|' * (len(SHOWN) + 1)}"]
    for arm, runs in found.items():
        cells = [_cell([run[name].value for run in runs]) for name in SHOWN] + [_cell(errors[arm])]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    floor = next(iter(found.values()))[0]
    floors = " | ".join(f"{floor[name].floor:.3f}" for name in SHOWN)
    lines.append(f"| real, first half against second (floor) | {floors} | |")
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--config", default="sim_to_real_lidar_cpu")
    options.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as train.steps=2000")
    chosen = options.parse_intermixed_args()
    torch.set_num_threads(1)
    out = chosen.out
    simulated(out / "learn", LEARN, "ideal")
    clean, by_hand, true = (
        [read_range_image(path) for path in simulated(out / name, TRANSLATE, mode, noise)]
        for name, mode, noise in (("clean", "ideal", NOISE), ("by_hand", "calibrated", NOISE), ("true", "ideal", 0.0))
    )
    recorded(chosen.data, out / "heard", HEARD)
    real = sweeps([read_range_image(path) for path in recorded(chosen.data, out / "test", TEST)])
    arms = {"simulator": clean, "calibrated by hand": by_hand}
    found = {name: [with_floor(sweeps(images), real)] for name, images in arms.items()}
    errors = {name: [range_error(images, true)] for name, images in arms.items()}
    for seed in chosen.seeds:
        translator = taught(out / f"run{seed}", chosen.config, out / "learn", out / "heard", seed, chosen.overrides)
        made = [translator(image, seed=n) for n, image in enumerate(clean)]
        found.setdefault("ours", []).append(with_floor(sweeps(made), real))
        errors.setdefault("ours", []).append(range_error(made, true))
        print(told(found, errors), flush=True)
    plain = {arm: [{name: list(one) for name, one in run.items()} for run in runs] for arm, runs in found.items()}
    write_json(out / "measured.json", plain)


def _cell(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{interval(values).mean:.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
