"""Cycle, one way or pairs? Every way to keep the content, with the same networks, pictures and steps, on known truth.

    python benchmarks/which_consistency.py [ARM ...] [--generators light bilateral] [--seeds 0] [--steps 400]

Simulated streets by day and by night, 48 x 72: 120 to learn from, 120 others whose masks teach segmenters, and 40
others to measure on, which are true pairs. Where an arm knows no partner, the same nights have shuffled names. What is
there already is read, not repeated.
"""
import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Picture
from torch import Tensor

from mmcycle.config import Config, from_dict, load_config, to_dict
from mmcycle.files import copy_atomic, write_atomic, write_json
from mmcycle.generate.translator import Translator
from mmcycle.metrics.answers import Asked
from mmcycle.metrics.arms import Arm, Batches, Change, fourier_of, statistics_of
from mmcycle.metrics.crossing import whole
from mmcycle.metrics.distances import RandomFeatures, kid, l1, ssim, standardise
from mmcycle.metrics.faithfulness import structure
from mmcycle.metrics.labelled import Samples
from mmcycle.metrics.learner import Taught, find_learner, teach
from mmcycle.simulate.mesh import Semantic
from mmcycle.simulate.street import write_street
from mmcycle.train.engine import Engine
from mmcycle.train.step import Teacher
from mmcycle.train.trainer import train
from mmcycle.train.validation import stored

Row = dict[str, float]
SIZE = (72, 48)                                         # width, height
STREETS = {"known": (120, 1), "labelled": (120, 2), "held_out": (40, 3)}        # how many, seed
FEW = 10                                                # one known street in so many is a known pair of "a tenth"
TAUGHT, BATCH, NETWORKS = 200, 8, 1                      # steps and samples of every segmenter; how many
RARE = 0.005                                            # of all pixels: classes that are rarer are not asked for
SHOWN = (0, 9, 18, 27, 36)                              # held-out streets on a sheet
CHEAP = ["data.workers=0", "run.log_every=50", "run.sample_every=1000000", "run.evaluate_every=0",
         "run.save_every=1000000", "run.keep=1", "run.accelerator=cpu"]

CYCLE = ["loss.consistency=cycle", "loss.cycle=5"]
NCE = ["loss.consistency=nce", "loss.nce=0.5"]
PAIRS = ["data.paired=true"]
TENTH = [*PAIRS, f"data.paired_fraction={1 / FEW}", "loss.paired=20"]
PIX2PIX = [*PAIRS, "loss.consistency=none", "loss.paired=100"]
JUDGED = ["model.discriminator_sees=pair", "train.replay=0"]
ARMS: Mapping[str, tuple[str, list[str]]] = {           # name -> folder to learn from, what differs
    "cycle": ("known", CYCLE),
    "cycle, identity": ("known", [*CYCLE, "loss.identity=2"]),
    "one way, nce": ("known", NCE),
    "cycle, a tenth known": ("known", [*CYCLE, *TENTH]),
    "one way, a tenth known": ("known", [*NCE, *TENTH]),
    "pix2pix, a tenth alone": ("few", PIX2PIX),
    "pix2pix, all known": ("known", PIX2PIX),
    "pix2pix, all known, pairs judged": ("known", [*PIX2PIX, *JUDGED]),
    "pix2pix, all known, a louder adversary": ("known", [*PIX2PIX, "loss.paired=10"]),
    "pix2pix, all known, a louder adversary, pairs judged": ("known", [*PIX2PIX, "loss.paired=10", *JUDGED]),
}
GENERATORS = {"light": {"blocks": 3}, "bilateral": {"blocks": 2}}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("arms", nargs="*", metavar="ARM", help=f"of: {'; '.join(ARMS)}")
    options.add_argument("--generators", nargs="+", choices=GENERATORS, default=list(GENERATORS))
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options.add_argument("--steps", type=int, default=400)
    options.add_argument("--out", type=Path, default=Path("runs/which_consistency"))
    chosen = options.parse_args()
    if not set(chosen.arms) <= ARMS.keys():
        options.error(f"no such arm; choose of {'; '.join(ARMS)}")
    prepare(chosen.out)
    streets = Streets(chosen.out)
    rows = {name: streets.beside(name) for name in Streets.BESIDE}
    print(told(rows), flush=True)
    for generator in chosen.generators:
        for seed in chosen.seeds:
            for arm in chosen.arms or ARMS:
                rows[f"{generator}: {arm}, seed {seed}"] = row = measured(streets, generator, arm, seed, chosen.steps)
                print(told({f"{generator}: {arm}, seed {seed}": row}), flush=True)
            save(sheet(streets, generator, seed, chosen.steps), chosen.out / f"{generator}-{seed}.jpg")
    write_json(chosen.out / "measured.json", rows)


def measured(streets: "Streets", generator: str, arm: str, seed: int, steps: int) -> Row:
    """Train, or read what is there; translate; measure."""
    asked = streets.home, generator, arm, seed, steps
    config, run = config_of(*asked), run_of(*asked)
    file = run / "measured.json"
    if file.exists():
        return json.loads(file.read_text())
    ended = train(config, run)
    if ended.signal:
        sys.exit(128 + ended.signal)                    # the same line goes on
    translator = Translator.load(run, "ab", device="cpu")
    held_out, labelled = (translated(translator, streets.days[part]) for part in ("held_out", "labelled"))
    row = streets.near(held_out) | streets.worth(labelled) | cost(config)
    write_json(file, row)
    return row


def run_of(home: Path, generator: str, arm: str, seed: int, steps: int) -> Path:
    return home / "runs" / generator / f"{arm}-{steps}-{seed}".replace(" ", "_")


def config_of(home: Path, generator: str, arm: str, seed: int, steps: int) -> Config:
    folder, changes = ARMS[arm]
    plain = home / "plain.yaml"
    b = "b" if PAIRS[0] in changes else "shuffled"
    networks = {"generator": generator, "width": 16, "discriminator_width": 32, "discriminator_layers": 3}
    domains = {
        side: {"name": name, "modality": "image", "size": list(SIZE[::-1]), "root": str(home / folder / place)}
        for side, name, place in (("a", "day", "a"), ("b", "night", b))
    }
    config = from_dict({
        "name": "which", **domains, "model": networks | GENERATORS[generator], "loss": {"identity": 0},
        "train": {"steps": steps, "batch_size": 2, "lr": 4e-4, "ema": 0.99, "decay_from": 0.6}, "run": {"seed": seed},
    })
    write_json(plain, to_dict(config))                  # JSON is YAML
    return load_config(plain, [*CHEAP, *changes])


def translated(translator: Translator, days: Tensor) -> Tensor:
    """(N, 3, H, W) -> the same, as 8 bits keep it."""
    with torch.inference_mode():
        return torch.stack([stored(translator.translate(x)) for x in days])


def cost(config: Config, rounds: int = 12) -> Row:
    """Processor milliseconds of one step, and the most that a graph holds for its way back, on samples of noise."""
    from training_step import saved_mib

    teacher = Teacher(config, Engine(config.run))
    batch = [torch.rand(config.train.batch_size, *config.a.modality.shape) * 2 - 1 for _ in range(2)]
    known = torch.ones(config.train.batch_size) if config.data.paired else None
    times = []
    for _ in range(rounds):
        begun = time.process_time()
        teacher.step(0, *batch, known)
        times.append(time.process_time() - begun)
    held = saved_mib(lambda: teacher.step(0, *batch, known) and None)
    learned = sum(p.numel() for p in teacher.model.parameters())
    return {"ms a step": 1000 * float(np.median(times[2:])), "MiB held": held, "weights": learned}


class Streets:
    """The pictures and masks, the networks that judge, and what is measured with them."""

    BESIDE = ("day, untranslated", "statistics of nights", "Fourier transfer", "the truth")

    def __init__(self, home: Path):
        self.home = home
        modality = load_config("day_to_night").a.modality
        self.days, self.nights = ({part: whole(home / part / side, modality) for part in STREETS} for side in "ab")
        masks = {part: _masks(home / part / "masks") for part in ("labelled", "held_out")}
        shares = torch.bincount(masks["labelled"].flatten()) / masks["labelled"].numel()
        self.classes = [value for value, share in enumerate(shares.tolist()) if share > RARE]
        self.masks = {part: _numbered(one, self.classes) for part, one in masks.items()}
        self.features = RandomFeatures(3)
        self.unseen = self.features(self.nights["labelled"])    # nights that no translator saw

    def beside(self, name: str) -> Row:
        """The same measures of what needs no learning, and of the truth itself."""
        file = self.home / f"{name}.json"
        if not file.exists():
            held_out, labelled, change = self.days["held_out"], self.days["labelled"], None
            if name == "the truth":
                held_out, labelled = self.nights["held_out"], self.nights["labelled"]
            elif name != self.BESIDE[0]:
                change = {"statistics of nights": statistics_of, "Fourier transfer": fourier_of}[name]
                change = change(self.nights["known"])
                held_out = change(held_out, torch.Generator().manual_seed(0))
            write_json(file, self.near(held_out) | self.worth(labelled, change, name != self.BESIDE[0]))
        return json.loads(file.read_text())

    def near(self, made: Tensor) -> Row:
        """Translations of the held-out days, against their true nights and masks."""
        truth, asked = self.nights["held_out"], self.asked(made)
        read = asked.score(asked.tally(self.reader(made)))
        return {
            "L1": l1(made, truth).mean().item(), "SSIM": ssim(made, truth).mean().item(),
            "KID": kid(*standardise(self.unseen, self.features(made)), kernel="rbf"),
            "structure": structure(self.days["held_out"], made).mean().item(),
            "pixels read": read["pixel_accuracy"], "mIoU read": read["mean_iou"],
        }

    def worth(self, labelled: Tensor, change: Change | None = None, both: bool = True) -> Row:
        """Mean IoU, by night, of segmenters taught on translations of the labelled days, and on the days as well."""
        own = Samples(labelled, self.masks["labelled"], self._groups(labelled))
        day = Samples(self.days["labelled"], self.masks["labelled"], own.groups)
        pools = (own, day) if both and change is None else (own,)
        scores = []
        for seed in range(NETWORKS):
            asked = self.asked(self.nights["held_out"])
            taught = self._taught(Arm("worth", pools, change), seed)
            scores.append(asked.score(asked.tally(taught(asked.samples.x)))["mean_iou"])
        return {"worth": float(np.mean(scores))}

    @cached_property
    def reader(self) -> Taught:
        """A segmenter of real nights; what it is taught on no translator ever saw."""
        nights = self.nights["labelled"]
        return self._taught(Arm("nights", (Samples(nights, self.masks["labelled"], self._groups(nights)),)), 0)

    def asked(self, x: Tensor) -> Asked:
        names = tuple(Semantic(value).name.lower() for value in self.classes)
        return Asked(Samples(x, self.masks["held_out"], self._groups(x)), names, "masks")

    def _taught(self, arm: Arm, seed: int) -> Taught:
        batches = Batches(arm, BATCH, seed, True)
        return teach(find_learner(None, "masks"), batches, len(self.classes), "masks", TAUGHT, seed)

    @staticmethod
    def _groups(x: Tensor) -> tuple[str, ...]:
        return tuple(map(str, range(len(x))))


# files


def prepare(home: Path) -> None:
    """Streets, sorted into home/PART/a, b, masks; nights under names that tell nothing; and the few known pairs."""
    for part, (count, seed) in STREETS.items():
        out = home / "streets" / part
        write_street(out, count, seed, ("day", "night"), SIZE)
        for source, side in (("day/images", "a"), ("night/images", "b"), ("day/masks", "masks")):
            _copied(sorted((out / source).iterdir()), home / part / side)
    for side in "ab":
        _copied(sorted((home / "known" / side).iterdir())[::FEW], home / "few" / side)
    nights, shuffled = sorted((home / "known" / "b").iterdir()), home / "known" / "shuffled"
    shuffled.mkdir(exist_ok=True)
    for number, place in enumerate(np.random.default_rng(0).permutation(len(nights))):
        shutil.copyfile(nights[place], shuffled / f"shuffled{number:06d}.png")


def _copied(files: Sequence[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        if not (folder / file.name).exists():
            copy_atomic(file, folder / file.name)


def _masks(folder: Path) -> Tensor:
    """(N, H, W), by name."""
    return torch.stack([torch.from_numpy(np.array(Picture.open(path))).long() for path in sorted(folder.iterdir())])


def _numbered(masks: Tensor, classes: Sequence[int]) -> Tensor:
    """The place of each value among the classes, -1 for any other."""
    known = torch.full((256,), -1)
    known[list(classes)] = torch.arange(len(classes))
    return known[masks]


# telling and showing


def told(rows: Mapping[str, Row]) -> str:
    """One line each."""
    return "\n".join(
        f"{name:<44}" + "".join(f"  {key} {value:.4g}" for key, value in row.items()) for name, row in rows.items()
    )


def sheet(streets: Streets, generator: str, seed: int, steps: int) -> Picture.Image:
    """Some held-out days, below them each arm's nights, the truth last."""
    rows = [streets.days["held_out"][list(SHOWN)]]
    for arm in ARMS:
        run = run_of(streets.home, generator, arm, seed, steps)
        if (run / "measured.json").exists():
            rows.append(translated(Translator.load(run, "ab", device="cpu"), rows[0]))
    rows.append(streets.nights["held_out"][list(SHOWN)])
    levels = torch.cat([torch.cat([*row], dim=2) for row in rows], dim=1)
    page = Picture.fromarray(((levels + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
    return page.resize((page.width * 3 // 2, page.height * 3 // 2), Picture.Resampling.LANCZOS)


def save(picture: Picture.Image, path: Path) -> None:
    write_atomic(path, lambda temporary: picture.save(temporary, "JPEG", quality=85))


if __name__ == "__main__":
    main()
