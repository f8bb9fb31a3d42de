"""What each weight of the objective does, measured: one small run for every change, on streets whose truth is known.

    python benchmarks/loss_weights.py [NAME ...] [--steps 300] [--seeds 0]

A: 48 simulated streets by day, 128 x 72 pixels. B: 48 other streets by night. Measured on 16 held-out streets: their
translation against the same street by night. Runs that are there already are read, not repeated; NAME chooses some.
"""
import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from mmcycle.config import Config, load_config
from mmcycle.core.model import generator
from mmcycle.files import write_json
from mmcycle.metrics.pairs import nearness
from mmcycle.modality import Modality
from mmcycle.simulate.street import write_street
from mmcycle.train.checkpoint import load_averages, newest_good
from mmcycle.train.log import Log
from mmcycle.train.trainer import train
from mmcycle.train.validation import stored

SIZE, CLASSES = (128, 72), 16
BASE = ["a.size=[64,112]", "b.size=[64,112]", "model.generator=light", "model.width=24", "model.blocks=4",
        "model.discriminator_width=32", "train.lr=4e-4", "train.discriminator_lr=8e-4", "data.workers=0",
        "run.log_every=20", "run.sample_every=1000000", "run.evaluate_every=0", "run.save_every=1000000", "run.keep=1"]
PAIRS = ["data.paired=true", "data.shared_crop=true", "loss.paired=10"]
ONE_WAY = ["loss.identity=0", "loss.identity_end=null"]
CHANGES: dict[str, list[str]] = {
    "as it is": [],
    "cycle: 0.1": ["loss.cycle=0.1"],
    "cycle: 20": ["loss.cycle=20"],
    "identity: 0": ["loss.identity=0", "loss.identity_end=null"],
    "identity: 5, kept": ["loss.identity=5", "loss.identity_end=null"],
    "consistency: nce, nce: 0.5": [*ONE_WAY, "loss.consistency=nce", "loss.nce=0.5"],
    "consistency: nce, nce: 0.01": [*ONE_WAY, "loss.consistency=nce", "loss.nce=0.01"],
    "consistency: nce, nce: 5": [*ONE_WAY, "loss.consistency=nce", "loss.nce=5"],
    "adversarial: hinge": ["loss.adversarial=hinge"],
    "adversarial: nonsaturating": ["loss.adversarial=nonsaturating"],
    "adversarial: wgan-gp": ["loss.adversarial=wgan-gp", "model.discriminator_norm=none"],
    "r1: 1": ["loss.r1=1"],
    "low_resolution: 10": ["loss.low_resolution=10"],
    "task: 1": ["loss.task=1", "loss.task_network=loss_weights:segmenter"],
    "paired: 10, all known": [*ONE_WAY, *PAIRS, "loss.consistency=none"],
    "paired: 10, a tenth known": [*PAIRS, "data.paired_fraction=0.1"],
    "diff_augment": ["train.diff_augment=[color,translation,cutout]"],
    "replay: 0": ["train.replay=0"],
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", choices=[[], *CHANGES], metavar="NAME")
    options.add_argument("--steps", type=int, default=300)
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    chosen = options.parse_args()
    home = Path("runs/loss_weights")
    both = "day", "night"
    for name, scenes, seed, views in (("day", 48, 1, both), ("night", 48, 2, ("night",)), ("held_out", 16, 3, both)):
        write_street(home / name, scenes, seed=seed, views=views, size=SIZE)
    for seed in chosen.seeds:
        for name in chosen.names or CHANGES:
            path = home / "measured" / f"{name} {chosen.steps} {seed}.json"
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                write_json(path, measured(home, name, chosen.steps, seed))
            found = json.loads(path.read_text())
            print(f"{name:<28} {seed}", *(f"{key} {value:.3f}" for key, value in found.items()), flush=True)


def measured(home: Path, name: str, steps: int, seed: int) -> dict[str, float]:
    """Train with one change, and measure on the held-out streets; all lengths on the [-1, 1] scale."""
    nights = home / ("day" if "paired" in name else "night") / "night" / "images"      # true partners, or other streets
    roots = [f"a.root={home / 'day' / 'day' / 'images'}", f"b.root={nights}"]
    config = load_config("day_to_night", [*roots, *BASE, f"train.steps={steps}", f"run.seed={seed}", *CHANGES[name]])
    run = home / f"{name.replace(': ', '-').replace(', ', '-').replace(' ', '_')}-{steps}-{seed}"
    ended = train(config, run)
    if ended.signal:
        sys.exit(128 + ended.signal)                    # the same line goes on
    averages, _ = load_averages(newest_good(run / "checkpoints")[0])
    image = config.a.modality
    day, night = (pictures(image, home / "held_out" / view / "images") for view in ("day", "night"))
    found = network(config, averages, "ab")
    fake = found(day)
    measures = nearness(day, fake, night)
    result = {
        "l1": measures["l1 translated - truth"], "kid": measures["kid translated - truth"],
        "structure": measures["structure kept"], "idt": (found(night) - night).abs().mean().item(),
        "level": fake.mean().item(), "read": read(home, fake),
    }
    if any(key.startswith("ba.") for key in averages):
        result["back"] = (network(config, averages, "ba")(stored(fake)) - day).abs().mean().item()
    rows = [row for row in Log(run / "log.jsonl").rows() if "losses" in row]
    return result | {"seconds": rows[-1]["seconds_per_step"]}


def network(config: Config, averages: dict[str, Tensor], direction: str) -> Callable[[Tensor], Tensor]:
    """One direction, as `generate` would use it."""
    found = generator(config.a.modality, config.b.modality, config.model)
    found.load_state_dict({key[3:]: value for key, value in averages.items() if key.startswith(f"{direction}.")})
    return found.eval().requires_grad_(False)


def read(home: Path, fake: Tensor) -> float:
    """The share of pixels that the segmenter of daylight reads as the masks say."""
    return (segmenter(home)(fake).argmax(1) == masks(home / "held_out" / "day" / "masks")).float().mean().item()


def segmenter(home: Path = Path("runs/loss_weights")) -> nn.Module:
    """(B, 3, H, W) -> (B, CLASSES, H, W): taught on the labelled streets by day, half a minute; then remembered."""
    torch.manual_seed(0)
    d = 24
    net = nn.Sequential(
        nn.Conv2d(3, d, 5, padding=2), nn.ReLU(), nn.Conv2d(d, 2 * d, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(2 * d, 2 * d, 5, padding=2), nn.ReLU(), nn.Conv2d(2 * d, 2 * d, 5, padding=2), nn.ReLU(),
        nn.Conv2d(2 * d, CLASSES, 1), nn.Upsample(scale_factor=2),
    )
    kept = home / "segmenter.safetensors"
    if not kept.exists():
        _teach(net, home / "day" / "day")
        save_file(net.state_dict(), kept)
    net.load_state_dict(load_file(kept))
    return net.requires_grad_(False)


def _teach(net: nn.Module, street: Path) -> None:
    x, y = pictures(load_config("day_to_night").a.modality, street / "images"), masks(street / "masks")
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(300):
        few = torch.randint(len(x), (4,))
        F.cross_entropy(net(x[few]), y[few]).backward()
        optimiser.step()
        optimiser.zero_grad()


def pictures(image: Modality, folder: Path) -> Tensor:
    """(N, 3, H, W), by name."""
    return torch.stack([image.to_tensor(image.load(path))[0] for path in sorted(folder.iterdir())])


def masks(folder: Path) -> Tensor:
    """(N, H, W), by name."""
    return torch.stack([torch.from_numpy(np.array(Image.open(path))).long() for path in sorted(folder.iterdir())])


if __name__ == "__main__":
    main()
