"""Simulated -> real sweeps: does a segmenter learn more from translated sweeps than from the simulator's own?

    python benchmarks/lidar_segmentation.py DATA --out OUT [KEY=VALUE ...] [--arms NAME ...] [--rounds N]

DATA holds 0.npz, 1.npz ...: consecutive sweeps of SemanticKITTI as range images of 64 x 1024 with `label` 0 to 19. The
translator hears of frames 0 to 9, without labels; tested on frames 14 to 20 of the same street, later. Labelled: 24
simulated streets, scanned on the same grid by an ideal sensor. KEY=VALUE changes the translator's config.

The headline is "ours and simulator + classic": half of the frames translated, half as the simulator made them, and on
all of them the usual augmentation, so that holes at random are in every arm that it is compared with: the same of the
simulator alone, of the sensor calibrated by hand, and of a translator that heard of other simulated streets in the
place of real ones, the placebo. Another placebo: ours with each sweep's labels given to another sweep. `--rounds 1`
goes on: the network labels the sweeps that were heard, the surest half of each class is added, and a new one is taught
(class-balanced self-training, Zou et al. 2018), in every arm alike. `--remission` shows every network how bright
returns are, as a fifth input. Of structure the streets have half as much as real ones: in every arm, the oracle's too,
scores are corrected to the shares of classes that SemanticKITTI publishes. Chosen on task seeds 100 and 101 and frames
10 to 13.
"""
import argparse
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scans import scanned, taught
from torch import Tensor

from mmcycle.files import write_json
from mmcycle.generate.translator import Translator
from mmcycle.metrics.downstream import Segmenter, gap_closed, interval, overlaps, segmenter, sign_flip
from mmcycle.modalities.lidar_sensor import preset
from mmcycle.modalities.range_files import RangeImage, read_range_image, write_range_image
from mmcycle.simulate.mesh import Semantic

CONFIG = Path(__file__).with_suffix(".yaml")
GRID = preset("hdl-64e-spherical")
CLASSES = ("ground", "vehicle", "structure", "vegetation")
REAL = {9: 0, 10: 0, 11: 0, 12: 0, 17: 0, 1: 1, 4: 1, 5: 1, 13: 2, 14: 2, 18: 2, 19: 2, 15: 3, 16: 3}     # learning map
SIMULATED = {
    Semantic.ROAD: 0, Semantic.SIDEWALK: 0, Semantic.TERRAIN: 0, Semantic.CAR: 1, Semantic.BUILDING: 2,
    Semantic.FENCE: 2, Semantic.POLE: 2, Semantic.TRAFFIC_LIGHT: 2, Semantic.TRAFFIC_SIGN: 2, Semantic.VEGETATION: 3,
}
STREETS, OTHERS, ADAPT, TEST = range(24), range(24, 34), range(10), range(14, 21)
NOISE = 0.01                        # metres, from shot to shot: a quarter of what lasers differ by
STEPS, BATCH, WINDOW = 300, 4, 256
SHARES = (0.4394, 0.0466, 0.2086, 0.2728)       # of the classes in all of SemanticKITTI, as published with its labels
SUREST = 0.5                        # share of each class that a network is believed, about sweeps without labels
HEADLINE, CLASSIC = "ours and simulator + classic", "classic augmentation"
PLACEBO, ORACLE = "placebo and simulator + classic", "real labels (oracle)"


class Frames(NamedTuple):
    """Range (N, H, W) metres, 0 where nothing returned; remission, 0 if not shown; classes, -1 where none counts."""

    metres: Tensor
    light: Tensor
    classes: Tensor

    def at(self, rows: np.ndarray) -> "Frames":
        return Frames(*(one[torch.from_numpy(rows)] for one in self))

    def without(self, lost: Tensor) -> "Frames":
        """What is lost, or was, has no light and no class."""
        there = (self.metres > 0) & ~lost
        light, classes = torch.where(there, self.light, 0), torch.where(there, self.classes, -1)
        return Frames(torch.where(there, self.metres, 0), light, classes)


def simulated(out: Path, mode: str, bright: bool, streets: range = STREETS) -> Frames:
    """The streets' range images, written once: range, remission in hundredths, label = class + 1."""
    out.mkdir(parents=True, exist_ok=True)
    for seed in streets:
        path = out / f"{seed:02d}.npz"
        if not path.exists():
            swept = scanned(seed, GRID, mode, NOISE)
            table = np.zeros(256, np.uint8)
            table[list(SIMULATED)] = [one + 1 for one in SIMULATED.values()]
            label = np.where(swept.returned, table[swept.semantic], 0).astype(np.uint8)
            image = RangeImage(swept.range, (swept.intensity * 100).round(), {"label": label})
            write_range_image(image, path)
    return frames([out / f"{seed:02d}.npz" for seed in streets], {n + 1: n for n in range(len(CLASSES))}, bright)


def frames(paths: list[Path], table: dict[int, int], bright: bool) -> Frames:
    images = [read_range_image(path) for path in paths]
    to = np.full(256, -1)
    to[list(table)] = list(table.values())
    metres, light = measured(images, bright)
    classes = torch.stack([torch.from_numpy(to[image.extra["label"]]) for image in images])
    return Frames(metres, light, classes).without(metres <= 0)


def measured(images: list[RangeImage], bright: bool) -> tuple[Tensor, Tensor]:
    """Metres and shares of full remission, (N, H, W) each."""
    metres, light = (torch.from_numpy(np.stack([getattr(image, what) for image in images]).astype(np.float32))
                     for what in ("range", "remission"))
    return metres, light / 100 * bright


def features(seen: Frames) -> Tensor:
    """(N, 5, H, W / 2): log range, distance on the ground, height, return, remission; no x or y: any heading fits."""
    metres, light = seen.metres[..., ::2], seen.light[..., ::2]
    up = torch.deg2rad(torch.tensor(GRID.elevations))[:, None]
    there = (metres > 0).float()
    far, height = metres * up.cos() / 20, (metres * up.sin() + 1.7) / 2
    return torch.stack([(metres + 1).log() / 2, far, height, there, light.clamp(0, 1).sqrt()], 1) * there[:, None]


Batches = Callable[[int], tuple[Tensor, Tensor]]
Draw = Callable[[np.random.Generator], Frames]


def batches(source: Draw, seed: int) -> Batches:
    """Step -> windows that begin anywhere around, of frames that `source` draws."""
    def batch(step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((seed, step))
        drawn = source(rng)
        x, y = features(drawn), drawn.classes[..., ::2]
        columns = [(torch.arange(WINDOW) + int(rng.integers(x.shape[-1]))) % x.shape[-1] for _ in x]
        return tuple(torch.stack([one[..., c] for one, c in zip(whole, columns)]) for whole in (x, y))
    return batch


def drawing(pool: Frames) -> Draw:
    return lambda rng: pool.at(rng.integers(len(pool.metres), size=BATCH))


def classic(source: Draw) -> Draw:
    """Random returns and rows lost, scaled, noisy; brighter or darker."""
    def draw(rng: np.random.Generator) -> Frames:
        metres, light, classes = source(rng)

        def uniform(low: float, high: float) -> Tensor:
            return torch.from_numpy(rng.uniform(low, high, (len(metres), 1, 1)).astype(np.float32))

        def normal() -> Tensor:
            return torch.from_numpy(rng.standard_normal(metres.shape, np.float32))

        lost = torch.from_numpy(rng.random(metres.shape, np.float32)) < uniform(0, 0.3)
        lost |= torch.from_numpy(rng.random((len(metres), metres.shape[1], 1)) < 0.1)
        if light.any():
            light = light.clamp_min(0).pow(uniform(0.7, 1.4)) * uniform(0.7, 1.4) + 0.03 * normal()
        return Frames(metres * uniform(0.95, 1.05) + 0.03 * normal(), light, classes).without(lost | (metres <= 0))
    return draw


def translated(pool: Frames, made: list[Frames], share: float) -> Draw:
    """Of the translations of the pool; a share of the frames drawn stays as the simulator made it."""
    def draw(rng: np.random.Generator) -> Frames:
        rows, versions = rng.integers(len(pool.metres), size=BATCH), rng.integers(len(made), size=BATCH)
        own = rng.random(BATCH) < share
        drawn = [(pool if o else made[v]._replace(classes=pool.classes)).at(np.array([r]))
                 for r, v, o in zip(rows, versions, own)]
        drawn = [one.without(one.metres <= 0) for one in drawn]
        return Frames(*(torch.cat(one) for one in zip(*drawn)))
    return draw


def halves(first: Draw, second: Draw) -> Draw:
    """Half of the frames of each batch from the one, half from the other."""
    def draw(rng: np.random.Generator) -> Frames:
        return Frames(*(torch.cat([x[::2], y[::2]]) for x, y in zip(first(rng), second(rng))))
    return draw


def believed(network: Segmenter, real: Frames) -> Frames:
    """Real sweeps with the classes that the network is surest of, of each the same share; seen twice, once mirrored."""
    x, chances = features(real), torch.zeros(())
    with torch.inference_mode():
        for way in ((), (-1,)):
            chances = chances + torch.cat([network(one[None]) for one in x.flip(way)]).softmax(1).flip(way)
    sure, found = chances.max(1)
    there = real.metres[..., ::2] > 0
    classes = torch.full_like(real.classes, -1)
    for number in range(len(CLASSES)):
        meant = there & (found == number)
        if meant.any():
            least = float(np.quantile(sure[meant].numpy(), 1 - SUREST))
            classes[..., ::2][meant & (sure >= least)] = number
    return real._replace(classes=classes)


def heard(data: Path, out: Path) -> Path:
    """The real sweeps that a translator may learn from, without their labels."""
    out.mkdir(parents=True, exist_ok=True)
    for number in ADAPT:
        if not (out / f"{number}.npz").exists():
            image = read_range_image(data / f"{number}.npz")
            write_range_image(RangeImage(image.range, image.remission), out / f"{number}.npz")
    return out


def versions(translator: Translator, source: Path, pool: Frames, count: int) -> list[Frames]:
    """Several translations of every simulated frame."""
    raws, bright = [translator.source.load(source / f"{seed:02d}.npz") for seed in STREETS], bool(pool.light.any())
    made = []
    for v in range(count):
        metres, light = measured([translator(raw, seed=1000 * v + n) for n, raw in enumerate(raws)], bright)
        made.append(Frames(metres, light, pool.classes).without(metres <= 0))
    return made


def learned(file: Path, draw: Draw, seed: int) -> Segmenter:
    """Taught once; in bfloat16, twice as fast here. Weights change with every step: none may be cached.

    Its scores are then those of streets with the published shares of classes (Saerens et al. 2002).
    """
    network = Segmenter(5, len(CLASSES))
    if not file.exists():
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            network = segmenter(batches(draw, seed), len(CLASSES), seed, STEPS)
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(network.state_dict(), file)
    network.load_state_dict(load_file(file))
    with torch.no_grad():
        network.last.bias += (torch.tensor(SHARES) / shares(draw)).log()
    return network.eval()


def shares(draw: Draw) -> Tensor:
    """(K,) of the classes, in what is drawn."""
    drawn = torch.cat([draw(np.random.default_rng((number, 7))).classes for number in range(16)])
    return torch.bincount(drawn.flatten() + 1, minlength=len(CLASSES) + 1)[1:] / (drawn >= 0).sum()


def score(network: Segmenter, test: Frames) -> dict[str, float]:
    with torch.inference_mode():
        found = torch.cat([network(one[None]) for one in features(test)]).argmax(1)
    each = overlaps(found, test.classes[..., ::2], len(CLASSES))
    return {"mIoU": float(np.nanmean(each)), **dict(zip(CLASSES, each))}


def trials(out: Path, name: str, draw: Draw, seed: int, rounds: int, real: Frames) -> Iterator[tuple[str, Segmenter]]:
    """The network taught on what is drawn, then those that are taught on their predecessor's beliefs as well."""
    file = f"{name} {seed}".replace("/", " translator ")
    network = learned(out / "networks" / f"{file}.safetensors", draw, seed)
    yield "", network
    for number in range(1, rounds + 1):
        both = halves(draw, classic(drawing(believed(network, real))))
        network = learned(out / "networks" / f"{file} round {number}.safetensors", both, seed + 1000 * number)
        yield f", round {number}", network


def told(scores: dict[str, dict[str, dict[str, float]]]) -> str:
    """{arm: {task seed[/translator seed]: scores}} -> Markdown."""
    lines = [f"| trained on | mIoU | {' | '.join(CLASSES)} | n |", f"|---|---|{'---|' * len(CLASSES)}---|"]
    for arm, found in scores.items():
        cells = [str(interval([one[what] for one in found.values()])) for what in ("mIoU", *CLASSES)]
        lines.append(f"| {arm} | {' | '.join(cells)} | {len(found)} |")
    tasks = {arm: _by_task(found) for arm, found in scores.items()}
    for arm in scores:
        if arm.startswith("ours"):
            against = {other: sign_flip(tasks[arm], tasks[other]) for other in scores
                       if not other.startswith("ours") and len(tasks[other]) == len(tasks[arm])}
            lines.append(f"\n{arm}: p = " + ", ".join(f"{p:.3f} against {other}" for other, p in against.items()))
            if {"simulator", ORACLE} <= set(scores):
                closed = gap_closed(*(float(np.mean(tasks[one])) for one in ("simulator", arm, ORACLE)))
                lines.append(f"{100 * closed:.0f} % of the gap closed")
    return "\n".join(lines)


def _by_task(found: dict[str, dict[str, float]]) -> list[float]:
    """{task seed[/translator seed]: scores} -> the mIoU of each task seed."""
    tasks = sorted({key.split("/")[0] for key in found})
    return [float(np.mean([one["mIoU"] for key, one in found.items() if key.split("/")[0] == task])) for task in tasks]


def arms_of(data: Path, out: Path, chosen: argparse.Namespace) -> dict[str, dict[str, Draw]]:
    """{arm: {"" or which translator: what is drawn}}."""
    source, others = out / "simulated", out / "others"
    pool = simulated(source, "ideal", chosen.remission)
    simulated(others, "ideal", chosen.remission, OTHERS)
    by_hand = drawing(simulated(out / "calibrated", "calibrated", chosen.remission))
    oracle = drawing(frames([data / f"{n}.npz" for n in ADAPT], REAL, chosen.remission))
    arms: dict[str, dict[str, Draw]] = {
        "simulator": {"": drawing(pool)},
        CLASSIC: {"": classic(drawing(pool))},
        "calibrated by hand": {"": by_hand},
        "calibrated and simulator + classic": {"": classic(halves(by_hand, drawing(pool)))},
        ORACLE: {"": oracle},
        "oracle + classic": {"": classic(oracle)},
    }
    real = heard(data, out / "real")
    runs = {f"/{n}": (out / f"translator{n}", real, n) for n in chosen.translators}
    runs["/misled"] = out / "misled", others, 0
    for suffix, (run, sweeps, seed) in runs.items():
        made = versions(taught(run, CONFIG, source, sweeps, seed, chosen.overrides), source, pool, 4)
        both = translated(pool, made, 0.5)
        if suffix == "/misled":
            arms["placebo: heard of simulated streets"] = {suffix: translated(pool, made, 0.0)}
            arms[PLACEBO] = {suffix: classic(both)}
            continue
        arms.setdefault("ours", {})[suffix] = translated(pool, made, 0.0)
        arms.setdefault("ours + classic", {})[suffix] = classic(translated(pool, made, 0.0))
        arms.setdefault("ours and simulator", {})[suffix] = both
        arms.setdefault(HEADLINE, {})[suffix] = classic(both)
        wrong = translated(pool._replace(classes=pool.classes.roll(1, 0)), made, 0.0)
        arms.setdefault("placebo: labels of another sweep", {suffix: wrong})
    return arms


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--translators", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options.add_argument("--arms", nargs="+", help="only these")
    options.add_argument("--rounds", type=int, default=0, help="of self-training, after the first network")
    options.add_argument("--remission", action="store_true", help="networks see how bright returns are")
    options.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as train.steps=2000")
    chosen = options.parse_intermixed_args()
    torch.set_num_threads(1)
    test = frames([chosen.data / f"{n}.npz" for n in TEST], REAL, chosen.remission)
    real = frames([chosen.data / f"{n}.npz" for n in ADAPT], {0: -1}, chosen.remission)
    arms = arms_of(chosen.data, chosen.out, chosen)
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for seed, arm in product(chosen.seeds, chosen.arms or arms):
        for suffix, draw in arms[arm].items():
            name = f"{arm}{suffix}{', remission' * chosen.remission}"
            for later, network in trials(chosen.out, name, draw, seed, chosen.rounds, real):
                found = score(network, test)
                scores.setdefault(f"{arm}{later}", {})[f"{seed}{suffix}"] = found
                print(f"{arm}{later}{suffix}  seed {seed}  mIoU {found['mIoU']:.1f}", flush=True)
    write_json(chosen.out / "scores.json", scores)
    print(told(scores))


if __name__ == "__main__":
    main()
