"""Simulated streets as a sensor sees them, and a translator taught on sweeps, for the benchmarks of LiDAR."""
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmcycle.config import load_config
from mmcycle.generate.translator import Translator
from mmcycle.modalities.lidar_sensor import SensorSpec
from mmcycle.simulate.scanner import Pose, Scanner, directions, sensed
from mmcycle.simulate.scene import street
from mmcycle.simulate.sweep import Sweep
from mmcycle.train.trainer import train

NOISE = 0.02                        # metres, of an ideal sensor


def scanned(seed: int, sensor: SensorSpec, mode: str, noise: float = NOISE) -> Sweep:
    """One sweep of the street of this seed, from the roof of its ego car."""
    scene, rays = street(seed, around=True), directions(np.array(sensor.elevations), np.array(sensor.azimuths))
    ideal = Scanner(scene).sweep(Pose.aboard(scene), rays, sensor.max_range)
    return sensed(ideal, mode, noise, np.random.default_rng((seed, 6)))


def taught(run: Path, config: str | Path, source: Path, heard: Path, seed: int, overrides: list[str]) -> Translator:
    """Translates sweeps of `source` to those in `heard`; what the car hides is hidden in both. Leaves on a signal."""
    planned = load_config(config, [f"a.root={source}", f"b.root={heard}", f"run.seed={seed}", *overrides])
    ego = planned.b.modality.with_ego(sorted(heard.glob("*.npz"))).ego
    a, b = (replace(domain, modality=replace(domain.modality, ego=ego)) for domain in (planned.a, planned.b))
    ended = train(replace(planned, a=a, b=b), run)
    if ended.signal:
        sys.exit(128 + ended.signal)
    return Translator.load(run, "ab", device="cpu")
