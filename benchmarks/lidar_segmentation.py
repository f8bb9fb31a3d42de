"""Simulated -> real sweeps: does a segmenter learn more from translated sweeps than from the simulator's own?

    python benchmarks/lidar_segmentation.py DATA --out OUT [KEY=VALUE ...] [--translators 0 1 2] [--seeds 0 1 2 3 4]

DATA holds 0.npz, 1.npz ...: consecutive sweeps of SemanticKITTI as range images of 64 x 1024 with `label` 0 to 19. The
translator hears of frames 0 to 9, without labels; tested on frames 14 to 20 of the same street, later. Labelled: 24
simulated streets, scanned on the same grid by an ideal sensor. KEY=VALUE changes the translator's config.

Two placebos must not help: a translator that heard of other simulated streets in the place of real ones, and ours with
each sweep's labels given to another sweep.
"""
import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scans import scanned, taught
from torch import Tensor

from mmcycle.files import write_json
from mmcycle.generate.translator import Translator
from mmcycle.metrics.downstream import gap_closed, interval, overlaps, segmenter, sign_flip
from mmcycle.modalities.lidar_sensor import preset
from mmcycle.modalities.range_files import RangeImage, read_range_image, write_range_image
from mmcycle.simulate.mesh import Semantic

CONFIG = Path(__file__).with_suffix(".yaml")
GRID = preset("hdl-64e-spherical")
CLASSES = ("ground", "vehicle", "structure", "vegetation")
REAL = {9: 0, 10: 0, 11: 0, 12: 0, 17: 0, 1: 1, 4: 1, 5: 1, 13: 2, 14: 2, 18: 2, 19: 2, 15: 3, 16: 3}     # learning map
SIMULATED = {
    Semantic.ROAD: 0, Semantic.SIDEWALK: 0, Semantic.TERRAIN: 0, Semantic.CAR: 1, Semantic.BUILDING: 2, Semantic.FENCE: 2,
    Semantic.POLE: 2, Semantic.TRAFFIC_LIGHT: 2, Semantic.TRAFFIC_SIGN: 2, Semantic.VEGETATION: 3,
}
STREETS, OTHERS, ADAPT, TEST = range(24), range(24, 34), range(10), range(14, 21)
STEPS, BATCH, WINDOW = 300, 4, 256


class Frames(NamedTuple):
    """Range (N, H, W) metres, 0 where nothing returned; classes (N, H, W), -1 where none counts."""

    metres: Tensor
    classes: Tensor


def simulated(out: Path, mode: str, streets: range = STREETS) -> Frames:
    """The streets' range images, written once: range, remission in hundredths, label = class + 1."""
    out.mkdir(parents=True, exist_ok=True)
    for seed in streets:
        path = out / f"{seed:02d}.npz"
        if not path.exists():
            swept = scanned(seed, GRID, mode)
            table = np.zeros(256, np.uint8)
            table[list(SIMULATED)] = [one + 1 for one in SIMULATED.values()]
            label = np.where(swept.returned, table[swept.semantic], 0).astype(np.uint8)
            image = RangeImage(swept.range, (swept.intensity * 100).round(), {"label": label})
            write_range_image(image, path)
    return frames([out / f"{seed:02d}.npz" for seed in streets], {n + 1: n for n in range(len(CLASSES))})


def frames(paths: list[Path], table: dict[int, int]) -> Frames:
    images = [read_range_image(path) for path in paths]
    to = np.full(256, -1)
    to[list(table)] = list(table.values())
    metres = torch.stack([torch.from_numpy(np.asarray(image.range, np.float32)) for image in images])
    classes = torch.stack([torch.from_numpy(to[image.extra["label"]]) for image in images])
    return Frames(metres, torch.where(metres > 0, classes, -1))


def features(metres: Tensor) -> Tensor:
    """(N, H, W) -> (N, 4, H, W / 2): log range, distance on the ground, height, return. No x, no y: any heading will do."""
    metres = metres[..., ::2]
    up = torch.deg2rad(torch.tensor(GRID.elevations))[:, None]
    there = (metres > 0).float()
    return torch.stack([(metres + 1).log() / 2, metres * up.cos() / 20, (metres * up.sin() + 1.7) / 2, there], 1) * there[:, None]


Batches = Callable[[int], tuple[Tensor, Tensor]]


def batches(source: Callable[[np.random.Generator], Frames], seed: int) -> Batches:
    """Step -> windows that begin anywhere around, of frames that `source` draws."""
    def batch(step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((seed, step))
        drawn = source(rng)
        x, y = features(drawn.metres), drawn.classes[..., ::2]
        columns = [(torch.arange(WINDOW) + int(rng.integers(x.shape[-1]))) % x.shape[-1] for _ in x]
        return torch.stack([one[..., c] for one, c in zip(x, columns)]), torch.stack([one[..., c] for one, c in zip(y, columns)])
    return batch


def drawing(pool: Frames) -> Callable[[np.random.Generator], Frames]:
    def draw(rng: np.random.Generator) -> Frames:
        rows = torch.from_numpy(rng.integers(len(pool.metres), size=BATCH))
        return Frames(pool.metres[rows], pool.classes[rows])
    return draw


def classic(source: Callable[[np.random.Generator], Frames]) -> Callable[[np.random.Generator], Frames]:
    """Random returns and rows lost, scaled, noisy."""
    def draw(rng: np.random.Generator) -> Frames:
        metres, classes = source(rng)
        chance = torch.from_numpy(rng.random(metres.shape, np.float32))
        lost = chance < torch.from_numpy(rng.uniform(0, 0.3, (len(metres), 1, 1)).astype(np.float32))
        lost |= torch.from_numpy(rng.random((len(metres), metres.shape[1], 1)) < 0.1)
        scale = torch.from_numpy(rng.uniform(0.95, 1.05, (len(metres), 1, 1)).astype(np.float32))
        noise = torch.from_numpy(rng.normal(0, 0.03, metres.shape).astype(np.float32))
        metres = torch.where((metres > 0) & ~lost, metres * scale + noise, 0)
        return Frames(metres, torch.where(metres > 0, classes, -1))
    return draw


def translated(pool: Frames, made: list[Tensor], share: float) -> Callable[[np.random.Generator], Frames]:
    """Of the translations of the pool, each (N, H, W); a share of the frames drawn stays as the simulator made it."""
    def draw(rng: np.random.Generator) -> Frames:
        rows, versions = rng.integers(len(pool.metres), size=BATCH), rng.integers(len(made), size=BATCH)
        own = rng.random(BATCH) < share
        metres = torch.stack([pool.metres[r] if o else made[v][r] for r, v, o in zip(rows, versions, own)])
        return Frames(metres, torch.where(metres > 0, pool.classes[torch.from_numpy(rows)], -1))
    return draw


def heard(data: Path, out: Path) -> Path:
    """The real sweeps that a translator may learn from, without their labels."""
    out.mkdir(parents=True, exist_ok=True)
    for number in ADAPT:
        if not (out / f"{number}.npz").exists():
            image = read_range_image(data / f"{number}.npz")
            write_range_image(RangeImage(image.range, image.remission), out / f"{number}.npz")
    return out


def versions(translator: Translator, source: Path, count: int) -> list[Tensor]:
    """Several translations of every simulated frame, (N, H, W) metres each."""
    raws = [translator.source.load(source / f"{seed:02d}.npz") for seed in STREETS]
    return [
        torch.stack([torch.from_numpy(np.asarray(translator(raw, seed=1000 * v + n).range)) for n, raw in enumerate(raws)])
        for v in range(count)
    ]


def score(training: Batches, test: Frames, seed: int) -> dict[str, float]:
    network = segmenter(training, len(CLASSES), seed, STEPS)
    with torch.inference_mode():
        found = torch.cat([network(features(one[None])) for one in test.metres]).argmax(1)
    each = overlaps(found, test.classes[..., ::2], len(CLASSES))
    return {"mIoU": float(np.nanmean(each)), **dict(zip(CLASSES, each))}


def told(scores: dict[str, dict[str, dict[str, float]]]) -> str:
    """{arm: {task seed[/translator seed]: scores}} -> Markdown."""
    lines = [f"| trained on | mIoU | {' | '.join(CLASSES)} | n |", f"|---|---|{'---|' * len(CLASSES)}---|"]
    for arm, found in scores.items():
        cells = [str(interval([one[what] for one in found.values()])) for what in ("mIoU", *CLASSES)]
        lines.append(f"| {arm} | {' | '.join(cells)} | {len(found)} |")
    by_task = lambda arm: [  # noqa: E731
        float(np.mean([one["mIoU"] for key, one in scores[arm].items() if key.split("/")[0] == task]))
        for task in sorted({key.split("/")[0] for key in scores[arm]})
    ]
    means = {arm: float(np.mean(by_task(arm))) for arm in scores}
    for arm in means:
        if arm.startswith("ours") and {"calibrated by hand", "real labels (oracle)"} <= set(scores):
            closed = gap_closed(means["simulator"], means[arm], means["real labels (oracle)"])
            against = {other: sign_flip(by_task(arm), by_task(other)) for other in ("simulator", "calibrated by hand")}
            chances = ", ".join(f"{p:.3f} against {other}" for other, p in against.items())
            lines.append(f"\n{arm}: {100 * closed:.0f} % of the gap closed; p = {chances} (sign flips over task seeds)")
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--translators", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as train.steps=2000")
    chosen = options.parse_intermixed_args()
    torch.set_num_threads(1)
    out, source = chosen.out, chosen.out / "simulated"
    pool, others = simulated(source, "ideal"), out / "others"
    simulated(others, "ideal", OTHERS)
    test = frames([chosen.data / f"{n}.npz" for n in TEST], REAL)
    arms = {
        "simulator": {"": drawing(pool)},
        "classic augmentation": {"": classic(drawing(pool))},
        "calibrated by hand": {"": drawing(simulated(out / "calibrated", "calibrated"))},
        "real labels (oracle)": {"": drawing(frames([chosen.data / f"{n}.npz" for n in ADAPT], REAL))},
        "ours": {}, "ours and simulator": {},
    }
    for number in chosen.translators:
        real = heard(chosen.data, out / "real")
        translator = taught(out / f"translator{number}", CONFIG, source, real, number, chosen.overrides)
        made = versions(translator, source, 4)
        arms["ours"][f"/{number}"] = translated(pool, made, 0.0)
        arms["ours and simulator"][f"/{number}"] = translated(pool, made, 0.5)
        if number == chosen.translators[0]:
            wrong = pool._replace(classes=pool.classes.roll(1, 0))
            arms["placebo: labels of another sweep"] = {f"/{number}": translated(wrong, made, 0.0)}
    misled = taught(out / "misled", CONFIG, source, others, 0, chosen.overrides)
    arms["placebo: heard of simulated streets"] = {"/misled": translated(pool, versions(misled, source, 4), 0.0)}
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for arm, sources in arms.items():
        for suffix, draw in sources.items():
            for seed in chosen.seeds:
                file = chosen.out / "scores" / f"{arm}{suffix} {seed}.json".replace("/", " translator ")
                if not file.exists():
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_json(file, score(batches(draw, seed), test, seed))
                scores.setdefault(arm, {})[f"{seed}{suffix}"] = json.loads(file.read_text(encoding="utf-8"))
                print(f"{arm}{suffix}  seed {seed}  mIoU {scores[arm][f'{seed}{suffix}']['mIoU']:.1f}", flush=True)
    print(told(scores))


if __name__ == "__main__":
    main()
