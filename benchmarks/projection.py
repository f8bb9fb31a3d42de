"""Milliseconds to project one sweep of an HDL-64E, 120 000 points, to 64 x 1024, on one thread.

    python benchmarks/projection.py [--points 120000] [--rounds 100]

The points lie ring after ring, each a turn to the left from straight ahead, as in KITTI; ranges are drawn at random.
Processor time, so that others on the machine disturb less; they still do, by what they leave of caches and of a core.
"""
import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mmcycle.modalities.lidar_projection import project, unproject
from mmcycle.modalities.lidar_sensor import preset


def sweep(points: int, seed: int = 0) -> Tensor:
    """(N, 4): every ray of a grid that has as many."""
    spec = replace(preset("hdl-64e"), columns=points // 64)
    rng = np.random.default_rng(seed)
    metres, light = (torch.from_numpy(rng.uniform(*ends, (64, spec.columns)).astype(np.float32))
                     for ends in ((2, 70), (0, 1)))
    cloud = unproject(metres, light, spec).view(64, spec.columns, 4)
    return cloud.flip(1).roll(-(spec.columns // 2), 1).reshape(-1, 4)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--points", type=int, default=120_000)
    options.add_argument("--rounds", type=int, default=100)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    cloud, spec = sweep(chosen.points), replace(preset("hdl-64e"), columns=1024)
    for method in ("unfold", "elevation"):
        found = project(cloud, spec, method)
        took = []
        for _ in range(chosen.rounds):
            begun = time.thread_time()
            project(cloud, spec, method)
            took.append(1e3 * (time.thread_time() - begun))
        print(f"{found.method}, {len(cloud)} points: median {np.median(took):.2f} ms, fastest {min(took):.2f} ms")


if __name__ == "__main__":
    main()
