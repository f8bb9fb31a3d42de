"""Sounds and runs of sound small enough for a test: two domains of short FLACs, one of them with noise."""
from pathlib import Path

import numpy as np
import torch

from mmcycle.config import Config, from_dict, load_config
from mmcycle.core.model import generator
from mmcycle.generate.translator import Translator
from mmcycle.modalities.sound_files import Sound, write_sound
from mmcycle.train.trainer import train

SMALL = {"rate": 8000, "n_fft": 256, "hop": 64, "mels": 16, "frames": 32}
NETWORKS = {"generator": "light", "width": 4, "blocks": 1, "discriminator_width": 4, "discriminator_layers": 1}
YAML = """\
name: tiny_sound
a: {{name: clean, root: {root}/clean, modality: audio, change: gain, gain_db: [-40, 0], {small}}}
b: {{name: noisy, root: {root}/noisy, modality: audio, change: noise, {small}}}
model: {{{networks}}}
train: {{steps: 8, batch_size: 2, replay: 0, lr: 1.0e-3}}
data: {{workers: 0}}
run: {{accelerator: cpu, devices: 1, log_every: 1, sample_every: 1000, save_every: 4, save_minutes: 1000, keep: 100}}
"""


def speech(seconds: float = 1.0, rate: int = 8000, channels: int = 1, seed: int = 0, level: float = 0.3) -> np.ndarray:
    """Syllables of a buzzing voice with pauses between them, (N, channels) float32."""
    rng = np.random.default_rng(seed)
    time = np.arange(max(round(seconds * rate), 1)) / rate
    pitch = rng.uniform(90, 220)
    tones = (np.sin(2 * np.pi * pitch * n * time + rng.uniform(0, 6, (channels, 1))) / n for n in range(1, 12))
    loudness = np.clip(np.sin(2 * np.pi * 3 * time + rng.uniform(0, 6)), 0, None) ** 0.5
    voice = loudness * sum(tones)
    return (level * voice / max(abs(voice).max(), 1e-9)).T.astype(np.float32)


def white(samples: int, channels: int = 1, seed: int = 0, rms: float = 0.05) -> np.ndarray:
    """(samples, channels) float32."""
    return (rms * np.random.default_rng(seed).standard_normal((samples, channels))).astype(np.float32)


def sounds(folder: Path, count: int = 4, seed: int = 0, noise: float = 0.0, suffix: str = ".flac") -> Path:
    """Recordings of about half a second; the noise of each has a loudness of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        wave = speech(0.5 + 0.03 * index, seed=100 * seed + index)
        wave = wave + white(len(wave), seed=index, rms=noise * (1 + index))
        write_sound(Sound(wave, 8000), folder / f"{index:02}{suffix}")
    return folder


def tiny_yaml(root: Path) -> Path:
    """Two domains below `root`, and the config that trains on them."""
    sounds(root / "clean", seed=1)
    sounds(root / "noisy", seed=2, noise=0.01)
    path = root / "tiny_sound.yaml"
    small, networks = (", ".join(f"{key}: {value}" for key, value in one.items()) for one in (SMALL, NETWORKS))
    path.write_text(YAML.format(root=root, small=small, networks=networks), encoding="utf-8")
    return path


def trained(root: Path, name: str, *overrides: str) -> Path:
    """Train to the end in this process -> the run."""
    path = root / "tiny_sound.yaml"
    train(load_config(path if path.exists() else tiny_yaml(root), overrides), root / name)
    return root / name


def config(a: dict | None = None, b: dict | None = None) -> Config:
    """Clean to noisy on the small grid, unless a and b say otherwise."""
    side = {"modality": "audio", **SMALL}
    clean = {"name": "clean", "change": "gain", "gain_db": [-40, 0]} | side | (a or {})
    noisy = {"name": "noisy", "change": "noise"} | side | (b or {})
    return from_dict({"name": "tiny_sound", "a": clean, "b": noisy, "model": NETWORKS})


def translator(made: Config | None = None, direction: str = "ab", seed: int = 0, **options: object) -> Translator:
    """Untrained; a model with styles remembers four, of noise at 3 to 24 dB below the whole."""
    made = made or config()
    torch.manual_seed(seed)
    source, target = (getattr(made, domain).modality for domain in direction)
    network = generator(source, target, made.model)
    if network.head is not None and network.head.styles.numel():
        below = torch.tensor([3.0, 8.0, 15.0, 24.0]) / 8.686 / 3
        network.head.remember((-below[:, None]).expand(-1, network.head.styles.shape[1]))
    return Translator(made, direction, network.state_dict(), device="cpu", **options)
