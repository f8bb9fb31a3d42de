"""A sensor of small PNG pictures and a labelled set of them, for tests of shards; its translator needs no training."""
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mmcycle.errors import RecordingError
from mmcycle.generate.dataset import Job, generate
from mmcycle.generate.shard import Share
from mmcycle.generate.translator import Translation


class Picture:
    """8-bit PNG files as arrays."""

    suffixes = (".png",)

    def load(self, path: Path) -> np.ndarray:
        if path.stat().st_size < 10:
            raise RecordingError(f"{path}: is broken")
        return np.asarray(Image.open(path))

    def save(self, raw: np.ndarray, path: Path) -> None:
        Image.fromarray(raw).save(path, "PNG")

    def relabel(self, label: Path, target: Path, raw: np.ndarray) -> bool:
        return False


@dataclass
class Negative:
    """255 - pixel, and what it measured of it."""

    run: str
    direction: str
    source: Picture = Picture()
    target: Picture = Picture()
    sha256: str = "5" * 64
    stochastic: bool = False

    def perform(self, raw: np.ndarray, strength: float = 1.0, seed: int = 0) -> Translation:
        return Translation(255 - raw, {"mean_level": float(raw.mean())})


def load(run: Path, direction: str, share: Share) -> Negative:
    return Negative(run.name, direction)


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(path)
    return path


def pictures(root: Path, count: int = 2) -> Path:
    """train/cat/cat.0.png with its label cat.0.txt, and so on: two splits, two classes."""
    for place, folder in enumerate(("train/cat", "train/dog", "val/cat", "val/dog")):
        for number in range(count):
            name = f"{root}/{folder}/{folder[-3:]}.{number}"
            picture(Path(f"{name}.png"), seed=10 * place + number)
            Path(f"{name}.txt").write_text(f"{folder} {number}", encoding="utf-8")
    return root


def make(source: Path, out: Path, to: str = "folder", stream: str = "image", **options: object) -> Job:
    """Generate with the negative, from a run that is an empty folder."""
    run = out.parent / "negative"
    run.mkdir(exist_ok=True)
    return generate(source, out, {stream: str(run)}, to=to, load=load, **options)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def negative(path: Path) -> np.ndarray:
    return 255 - np.asarray(Image.open(path))
