"""Views of places by day and by night, made of boxes."""
from pathlib import Path

import numpy as np
from PIL import Image


def place(seed: int) -> np.ndarray:
    """(48, 72) in [0, 1]: boxes of a place, lit as they are by day."""
    rng = np.random.default_rng(seed)
    scene = np.full((48, 72), 0.8)
    for _ in range(8):
        top, left, height, width = rng.integers(0, 40), rng.integers(0, 60), rng.integers(4, 20), rng.integers(4, 24)
        scene[top : top + height, left : left + width] = rng.uniform(0.1, 0.9)
    return scene


def by_night(scene: np.ndarray, seed: int) -> np.ndarray:
    """Another light: bright is dark, most of the range is gone, and there is noise."""
    noise = np.random.default_rng(seed).normal(0, 0.003, scene.shape)
    return np.clip(0.25 * (1 - scene) ** 2 + 0.02 + noise, 0, 1)


def view(scene: np.ndarray, path: Path) -> None:
    """Written as a gray picture of three channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack([255 * scene] * 3, -1).astype(np.uint8)).save(path)
