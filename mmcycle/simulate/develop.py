"""From radiance to a photograph: bloom, exposure, tone curve, grain."""

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

GRAIN = {"day": 0.006, "night": 0.016, "fog": 0.007}  # standard deviation at mid grey, display range 0..1
EXPOSURE = {"day": 0.27, "night": 0.08, "fog": 0.36}  # mean luminance the camera aims at, after exposure
FREEDOM = {"day": (0.5, 1.4), "night": (0.75, 2.4), "fog": (0.7, 1.3)}  # bounds of the exposure factor

VIVID = {"day": 1.25, "night": 1.1, "fog": 1.2}  # saturation, 1 = as it is


def develop(radiance: Array, view: str, rng: Generator) -> Array:
    """(H, W, 3) linear -> uint8 sRGB."""
    height, width = radiance.shape[:2]
    rgb = radiance + _bloom(radiance, width / 256, 0.35 if view == "night" else 0.08)
    rgb = rgb * _exposure(rgb, view) * _vignette(height, width)
    grey = rgb.mean(2, keepdims=True)
    rgb = _tone(np.maximum(grey + VIVID[view] * (rgb - grey), 0))
    rgb = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * np.maximum(rgb, 1e-6) ** (1 / 2.4) - 0.055)
    noise = rng.standard_normal((height, width, 4), dtype=np.float32)
    rgb = rgb + GRAIN[view] * (noise[..., :3] * 0.6 + noise[..., 3:]) * (0.5 + rgb)
    return np.round(255 * np.clip(rgb, 0, 1)).astype(np.uint8)


def _exposure(rgb: Array, view: str) -> float:
    low, high = FREEDOM[view]
    mean = float(np.minimum(rgb, 1.5).mean())
    return float(np.clip(EXPOSURE[view] / max(mean, 1e-4), low, high))


def _tone(x: Array) -> Array:
    """The filmic curve of Narkowicz 2015."""
    return np.clip(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 0, 1)


def _vignette(height: int, width: int) -> Array:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return (1 - 0.09 * (x * x + y * y))[..., None].astype(np.float32)


def _bloom(rgb: Array, scale: float, strength: float) -> Array:
    """Light that lens and sensor spill around what is brighter than white."""
    bright = np.minimum(np.maximum(rgb - 0.8, 0), 4.0)
    return strength * sum(
        weight * _blur(bright, sigma * scale) for sigma, weight in ((1.2, 0.5), (3.5, 0.4), (9.0, 0.35))
    )


def _blur(image: Array, sigma: float) -> Array:
    radius = max(1, int(2.5 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for _ in range(2):  # down the columns, then, turned over, along the rows
        padded = np.pad(image, [(radius, radius), (0, 0), (0, 0)], mode="edge")
        total = kernel[0] * padded[: len(image)]
        for k in range(1, len(kernel)):
            total += kernel[k] * padded[k : k + len(image)]
        image = total.transpose(1, 0, 2)
    return image
