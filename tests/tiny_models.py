"""Models with random weights, as the files that `mmcycle export` writes: for tests of what happens around a model."""
from pathlib import Path
from typing import Any

import torch
from small_sensor import Small

from mmcycle.config import from_dict
from mmcycle.core.model import generator
from mmcycle.generate.export import export
from mmcycle.generate.translator import Translator

NETWORKS = {"generator": "light", "width": 4, "blocks": 1, "discriminator_width": 4, "discriminator_layers": 1}
IMAGE = {"modality": "image", "size": 32}
SOUND = {"modality": "audio", "rate": 8000, "n_fft": 256, "hop": 64, "mels": 16, "frames": 32}
SENSOR = {"rows": 16, "columns": 128, "fov": [2.0, -24.0], "max_range": Small().max_range}
LIDAR = {"modality": "lidar", "sensor": SENSOR, "projection": "elevation", "full_intensity": 1.0}


def untrained(file: Path, a: dict[str, Any], b: dict[str, Any] | None = None, seed: int = 0) -> Path:
    """A model a -> b; without b, of one domain to another that is configured alike."""
    config = from_dict({"name": file.stem, "a": {"name": "a"} | a, "b": {"name": "b"} | (b or a), "model": NETWORKS})
    torch.manual_seed(seed)
    weights = generator(config.a.modality, config.b.modality, config.model).state_dict()
    export(Translator(config, "ab", weights, device="cpu"), "safetensors", file)
    return file
