"""How true is a translation across sensors? Measured on known partners, beside what needs no learning.

    python benchmarks/across_sensors.py STUDY [ARM ...] [--data DIR] [--steps N] [--seeds 0 1] [--sheet FILE]

thermal  photographs -> thermal pictures, aligned; DIR holds trainA trainB testA testB, equal names one moment
lidar    sweeps -> photographs of one car, streets simulated with a fixed calibration
poses    the same, the two sensors moved and turned against each other a little, street by street
text     captions <-> photographs of simulated cars and people near by, both ways by one run
told     the same photographs -> captions, one way

Runs that are there already are read, not repeated; ARM chooses some. Where no pairs are known, b's names are shuffled.
"""
import argparse
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image as Picture
from torch import Tensor

from mmcycle.config import Config, load_config
from mmcycle.files import copy_atomic, write_atomic, write_json
from mmcycle.generate.translator import Translator
from mmcycle.metrics.crossing import agreement, attributes_of, baselines, masks, nearness, presence, whole
from mmcycle.metrics.distances import l1
from mmcycle.metrics.downstream import overlaps
from mmcycle.metrics.judges import counter, reader
from mmcycle.modality import Modality
from mmcycle.simulate.captioned import write_captioned
from mmcycle.simulate.captions import is_caption, parse, read_captions
from mmcycle.simulate.drive import write_drive
from mmcycle.simulate.mesh import Semantic
from mmcycle.simulate.street import write_street
from mmcycle.train.trainer import train
from mmcycle.train.validation import stored

Measures = dict[str, float]
Made = dict[str, Tensor]                # who -> pictures (N, C, H, W) of the held-out recordings
CHEAP = ["data.workers=0", "run.log_every=50", "run.sample_every=1000000", "run.evaluate_every=0",
         "run.save_every=1000000", "run.keep=1"]
LUMA = torch.tensor([0.299, 0.587, 0.114])
KINDS = {kind.name.lower(): int(kind) for kind in Semantic}
SHOWN = 6                               # held-out recordings on a sheet
STREETS = {"known": 50, "held_out": 36, "judge": 132}                   # four moments of each
SCENES = {"judge": 300, "held_out": 100, "known": 500}                  # by day and by night
JUDGED = ("road", "sidewalk", "building", "vegetation", "sky", "car")   # fill a twentieth of a third here, not there

PAIRS = ["data.paired=true", "data.shared_crop=true"]
PIX2PIX = [*PAIRS, "loss.consistency=none", "loss.identity=0", "loss.identity_end=null", "loss.paired=100"]
THERMAL = [f"{domain}.{field}" for domain in "ab" for field in ("size=[48,64]", "stretch=[54,72]")] + [
    "a.name=rgb", "b.name=thermal", "model.width=16", "model.blocks=3", "model.discriminator_width=32",
    "model.discriminator_layers=2", "loss.cycle=5", "loss.identity=0", "loss.identity_end=null", "train.batch_size=4",
    "train.lr=4e-4", "train.discriminator_lr=null", "train.ema=0.99", "train.decay_from=0.6", "run.precision=32-true"]
LIGHT, RECOLOUR = ["model.generator=light"], ["model.generator=bilateral", "model.blocks=2"]
TOLD = ["a.stretch=[32,48]", "train.batch_size=8", "train.lr=8e-4", "loss.identity=0"]
TEXT = ["b.stretch=[32,48]", *TOLD[1:], "loss.consistency=cycle", "loss.cycle=5", "loss.paired=20",
        "model.discriminator_sees=sample", "train.replay=50"]
UNKNOWN = ["data.paired=false", "data.paired_fraction=1", "loss.paired=0"]
ALL_KNOWN = ["data.paired_fraction=1"]
ACROSS = {"no pair known": UNKNOWN, "a tenth known": ["data.paired_fraction=0.1"], "all known": ALL_KNOWN}
CONDITIONAL = [*PIX2PIX, "model.discriminator_sees=pair", "train.replay=0"]
ONE_WAY = {
    "all known, pix2pix": [*ALL_KNOWN, *PIX2PIX],
    "all known, L1 alone": [*ALL_KNOWN, *PIX2PIX, "loss.paired=10000"],
    "a tenth known, pix2pix on them": [*PIX2PIX, "data.paired_fraction=0.1"],
}
PAIRS_JUDGED = {"all known, pix2pix, pairs judged": [*ALL_KNOWN, *CONDITIONAL]}
LOUD = "the adversary ten times as loud"
SHARPER = {
    f"all known, pix2pix, {LOUD}": [*ALL_KNOWN, *PIX2PIX, "loss.paired=10"],
    f"all known, pix2pix, pairs judged, {LOUD}": [*ALL_KNOWN, *CONDITIONAL, "loss.paired=10"],
}


class Study(NamedTuple):
    """prepare writes known/ and held_out/, each with a/ and b/ and what `measure` reads; arms are changes to a config.

    beside gives what needs no learning, for each direction that is measured.
    """

    config: str
    settings: list[str]
    arms: Mapping[str, list[str]]
    steps: int
    prepare: Callable[[Path, Path | None, Config], None]
    beside: Callable[[Path, Config], dict[str, Made]]
    measure: Callable[[Path, Config, dict[str, Made]], Measures]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("study", choices=STUDIES)
    options.add_argument("arms", nargs="*", metavar="ARM")
    options.add_argument("--data", type=Path)
    options.add_argument("--out", type=Path, default=Path("runs/across_sensors"))
    options.add_argument("--steps", type=int)
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options.add_argument("--sheet", type=Path, help="a picture of some held-out recordings, arm below arm")
    chosen = options.parse_args()
    study, home = STUDIES[chosen.study], chosen.out / chosen.study
    arms, steps = chosen.arms or list(study.arms), chosen.steps or study.steps
    config = load_config(study.config, study.settings)
    study.prepare(home, chosen.data, config)
    made = study.beside(home, config)
    for seed in chosen.seeds:
        for arm in arms:
            for direction, pictures in _taught(study, home, arm, steps, seed).items():
                if direction in made:
                    made[direction][f"{arm}, seed {seed}"] = pictures
    measured = study.measure(home, config, made)
    write_json(home / "measured.json", measured)
    print("\n".join(f"{name:<60} {value:8.3f}" for name, value in measured.items()))
    if chosen.sheet:
        _sheet(home, config, made["ab"], chosen.sheet)


def _taught(study: Study, home: Path, arm: str, steps: int, seed: int) -> Made:
    """Direction -> the translations of the held-out recordings by a run that is made, or gone on with, or there."""
    changes = study.arms[arm]
    paired = load_config(study.config, [*study.settings, *changes]).data.paired
    b = "b" if paired else "shuffled"
    roots = [f"a.root={home / 'known' / 'a'}", f"b.root={home / 'known' / b}"]
    settings = [*roots, *study.settings, *CHEAP, *changes, f"train.steps={steps}", f"run.seed={seed}"]
    config, run = load_config(study.config, settings), home / "runs" / f"{arm}-{steps}-{seed}".replace(" ", "_")
    ended = train(config, run)
    if ended.signal:
        sys.exit(128 + ended.signal)                    # the same line goes on
    directions = ("ab", "ba") if config.loss.consistency == "cycle" else ("ab",)
    return {direction: translated(home, config, run, direction) for direction in directions}


def translated(home: Path, config: Config, run: Path, direction: str) -> Tensor:
    """The held-out recordings of one domain as the other's, pictures as 8 bits keep them."""
    domain = {"a": config.a, "b": config.b}[direction[0]]
    translator = Translator.load(run, direction, device="cpu")
    with torch.inference_mode():
        return torch.stack([
            stored(translator.translate(x)) for x in whole(home / "held_out" / direction[0], domain.modality)
        ])


# thermal


def _photographs_and_heat(home: Path, data: Path | None, config: Config) -> None:
    if data is None:
        sys.exit("thermal: give --data, a folder with trainA, trainB, testA and testB")
    for part, source in (("known", "train"), ("held_out", "test")):
        for domain in "ab":
            _copied(data / f"{source}{domain.upper()}", home / part / domain)
    _shuffled(home / "known" / "b", home / "known" / "shuffled")


def _heat_without_learning(home: Path, config: Config) -> dict[str, Made]:
    """`matched` has the mean and deviation of known thermal pictures; `nearest by its looks` knows no pair."""
    photos, heat, asked = (
        whole(home / part / domain, config.a.modality)
        for part, domain in (("known", "a"), ("known", "b"), ("held_out", "a"))
    )
    grey = luma(asked)
    like = torch.cdist(grey.flatten(1), luma(heat).flatten(1), p=1).argmin(1)
    made = {"grey": grey, "grey inverted": -grey, "grey matched": _matched(grey, heat)}
    made |= {"grey inverted, matched": _matched(-grey, heat), "nearest by its looks": heat[like]}
    known = baselines(photos, heat, asked)
    made |= {"mean": known["mean"], "nearest by known pairs": known["nearest"]}
    return {"ab": made | {"truth": whole(home / "held_out" / "b", config.b.modality)}}


def _of_heat(home: Path, config: Config, made: dict[str, Made]) -> Measures:
    """On one band, the only one that a thermal picture has."""
    truth = luma(whole(home / "held_out" / "b", config.b.modality))
    return near({who: luma(pictures) for who, pictures in made["ab"].items()}, truth)


def near(made: Made, truth: Tensor) -> Measures:
    """`nearness`, and how much nearer than the mean of all known partners, recording by recording, with its error."""
    measured = nearness(made, truth)
    for who, pictures in made.items():
        won = l1(made["mean"], truth) - l1(pictures, truth)
        measured[f"l1 won on the mean: {who}"] = won.mean().item()
        measured[f"standard error: {who}"] = won.std().item() / len(won) ** 0.5
    return measured


def luma(x: Tensor) -> Tensor:
    """(N, C, H, W), C 1 or 3 -> (N, 1, H, W)."""
    return x if x.shape[1] == 1 else torch.einsum("nchw,c->nhw", x, LUMA)[:, None]


def _matched(x: Tensor, like: Tensor) -> Tensor:
    """Each picture with the mean and the deviation that those of `like` have on average."""
    normal = (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)
    like = luma(like)
    return (normal * like.std((1, 2, 3)).mean() + like.mean()).clamp(-1, 1)


# lidar and poses


def _drives(home: Path, data: Path | None, config: Config) -> None:
    """Four moments of each of many streets, of one car."""
    height, width = config.b.modality.shape[1:]
    for part, streets in STREETS.items():
        seed = 1000 * (list(STREETS).index(part) + 1)
        for street in range(streets):
            out, last = home / "drives" / f"{part}{street:03d}", home / part / "labels" / f"{street:03d}-000003.label"
            if last.exists():               # a second look would build the street anew
                continue
            write_drive(out, config.a.modality.spec, 4, 12.0, seed + street, size=(width, height))
            for kind, domain in (("velodyne", "a"), ("image_2", "b"), ("semantic", "masks"), ("labels", "labels")):
                _copied(out / kind, home / part / domain, f"{street:03d}-")
    _shuffled(home / "known" / "b", home / "known" / "shuffled")


def _streets(home: Path, data: Path | None, config: Config) -> None:
    """One moment of each of many streets; camera and scanner stand and look a little elsewhere in each."""
    for part, scenes, seed in (("known", 160, 1), ("held_out", 48, 2)):
        out = home.parent / "streets" / part
        views, spec = ("day", "night", "lidar"), config.a.modality.spec
        write_street(out, scenes, seed, views, (64, 32), sensor=spec, captions=True)
        for folder, domain in (("lidar/velodyne", "a"), ("day/images", "b"), ("day/masks", "masks"),
                               ("lidar/labels", "labels")):
            _copied(out / folder, home / part / domain)
    _shuffled(home / "known" / "b", home / "known" / "shuffled")


def _pairs_without_learning(home: Path, config: Config) -> dict[str, Made]:
    sources, asked = (whole(home / part / "a", config.a.modality) for part in ("known", "held_out"))
    made = baselines(sources, whole(home / "known" / "b", config.b.modality), asked)
    photos = whole(home / "known" / "b", config.b.modality)
    for who, classes in (("seen by the camera", lambda part: masks(home / part / "masks")),
                         ("hit by the scanner", lambda part: hit(home / part, config))):
        made[f"painted by the true classes {who}"] = painted(photos, classes("known"), classes("held_out"))
    return {"ab": made | {"truth": whole(home / "held_out" / "b", config.b.modality)}}


def painted(photos: Tensor, told: Tensor, shown: Tensor) -> Tensor:
    """The median colour of each row of each class, (N, H, W), where it is shown: what knowing all classes is worth."""
    pixels, made = photos.movedim(1, -1), torch.zeros(len(shown), 3, *shown.shape[1:])
    for kind in set(shown.unique().tolist()) & set(told.unique().tolist()):
        usual = pixels[told == kind].median(0).values
        for row in range(shown.shape[1]):
            there = pixels[:, row][told[:, row] == kind]
            colour = there.median(0).values if len(there) > 30 else usual
            made[:, :, row] += (shown[:, row] == kind)[:, None] * colour[:, None]
    return made


def hit(folder: Path, config: Config) -> Tensor:
    """The class that the scanner hit, 0 for none, where each pixel of a level camera beside it looks: (N, H, W)."""
    spec, (_, height, width) = config.a.modality.spec, config.b.modality.shape
    focal = width / 2 / np.tan(np.radians(spec.azimuth[1] / 2))
    right, down = ((np.arange(side) - (side - 1) / 2) / focal for side in (width, height))
    columns = _nearest(spec.azimuths, -np.degrees(np.arctan(right)))[None]
    rows = _nearest(spec.elevations, np.degrees(np.arctan2(-down[:, None], np.hypot(1, right))))
    found = []
    for path in sorted((folder / "a").iterdir()):
        x, y, z = np.fromfile(path, np.float32).reshape(-1, 4)[:, :3].T
        image = np.zeros((spec.rows, spec.columns), np.int64)
        places = np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))
        classes = np.fromfile(folder / "labels" / f"{path.stem}.label", np.uint32) & 0xFFFF
        image[_nearest(spec.elevations, places[0]), _nearest(spec.azimuths, places[1])] = classes
        found.append(torch.from_numpy(image[rows, columns]))
    return torch.stack(found)


def _nearest(grid: tuple[float, ...], degrees: np.ndarray) -> np.ndarray:
    return np.abs(np.asarray(grid) - degrees[..., None]).argmin(-1)


def _of_photographs(home: Path, config: Config, directions: dict[str, Made]) -> Measures:
    """Near the truth; the classes that a judge reads in each third of a picture; and what it reads pixel by pixel.

    The judge is taught on photographs of streets that nobody else sees, where there are such.
    """
    made, school = directions["ab"], home / ("judge" if (home / "judge").exists() else "known")
    read = reader(whole(school / "b", config.b.modality), masks(school / "masks"))
    truth, shown = whole(home / "held_out" / "b", config.b.modality), masks(home / "held_out" / "masks")
    found = {who: read(pictures) for who, pictures in made.items()}
    asked = attributes_of(presence(shown, {name: KINDS[name] for name in JUDGED}))
    seen = agreement({who: _of(asked, presence(one, KINDS)) for who, one in found.items()}, asked)
    measured = near(made, truth) | seen
    for who, one in found.items():
        measured[f"pixels read: {who}"] = 100 * (one == shown).float().mean().item()
        measured[f"mean IoU: {who}"] = _mean_overlap(one, shown)
    return measured


def _of(asked: Made, answers: Made) -> Made:
    return {name: answers[name] for name in asked}


def _mean_overlap(found: Tensor, truth: Tensor) -> float:
    """Over the classes of the truth."""
    kinds = truth.unique()
    scores = overlaps(found, truth, int(max(found.max(), truth.max())) + 1)
    return float(np.nanmean([scores[kind] for kind in kinds]))


# text


def _captions(home: Path, data: Path | None, config: Config) -> None:
    """By day and by night, all in one folder; the judge's photographs are seen by nobody else."""
    kinds = [type(domain.modality).__name__.lower() for domain in (config.a, config.b)]
    for seed, (part, scenes) in enumerate(SCENES.items(), start=1):
        out = home.parent / "captioned" / part
        write_captioned(out, scenes, seed)
        for kind, domain in zip(kinds, "ab"):
            for view in ("day", "night"):
                _copied(out / kind / view, home / part / domain, f"{view}-")
    _shuffled(home / "known" / "b", home / "known" / "shuffled")


def _partners_without_learning(home: Path, config: Config) -> dict[str, Made]:
    known, asked = ([whole(home / part / key, domain.modality) for key, domain in (("a", config.a), ("b", config.b))]
                    for part in ("known", "held_out"))
    return {way: baselines(known[a], known[1 - a], asked[a]) | {"truth": asked[1 - a]}
            for way, a in (("ab", 0), ("ba", 1))}


def _of_both(home: Path, config: Config, made: dict[str, Made]) -> Measures:
    return _drawn(home, config, made) | _told(home, config.a.modality, home / "held_out" / "a", made["ba"])


def _drawn(home: Path, config: Config, made: dict[str, Made]) -> Measures:
    """Pictures of captions, by what a judge of other photographs counts in them."""
    taught, truth = (whole(home / part / "b", config.b.modality) for part in ("judge", "held_out"))
    told, true = (attributes_of(read_captions(home / part / "a")) for part in ("judge", "held_out"))
    count = counter(taught, told)
    seen = agreement({who: count(pictures) for who, pictures in made["ab"].items()}, true)
    return {f"drawn, {name}": value for name, value in (near(made["ab"], truth) | seen).items()}


def _told(home: Path, modality: Modality, truth: Path, made: Made) -> Measures:
    """Captions of pictures, by what they say."""
    true, said, measured = attributes_of(read_captions(truth)), {}, {}
    for who, letters in made.items():
        texts = [modality.from_tensor(x, None) for x in letters]
        found = [parse(text).attributes for text in texts]
        said[who] = {name: torch.tensor([one[name] for one in found]) for name in true}
        measured[f"told, captions letter for letter: {who}"] = 100 * sum(map(is_caption, texts)) / len(texts)
        print(who, *(repr(text) for text in texts[:: max(len(texts) // SHOWN, 1)][:SHOWN]), sep="\n    ")
    return measured | {f"told, {name}": value for name, value in agreement(said, true).items()}


# files


def _copied(source: Path, target: Path, prefix: str = "") -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if not path.name.startswith(".") and not (target / f"{prefix}{path.name}").exists():
            copy_atomic(path, target / f"{prefix}{path.name}")


def _shuffled(source: Path, target: Path) -> None:
    """The same recordings under names that tell nothing."""
    if target.exists():
        return
    target.mkdir()
    paths = sorted(source.iterdir())
    for number, place in enumerate(np.random.default_rng(0).permutation(len(paths))):
        shutil.copyfile(paths[place], target / f"shuffled{number:06d}{paths[place].suffix}")


def _sheet(home: Path, config: Config, made: Made, path: Path) -> None:
    """Some held-out recordings of a, below them what each made of them, the truth last."""
    rows = [(config.a.modality, whole(home / "held_out" / "a", config.a.modality))]
    rows += [(config.b.modality, pictures) for who, pictures in made.items() if "seed" in who or who == "mean"]
    rows += [(config.b.modality, made["truth"])]
    strips = []
    for modality, tensors in rows:
        few = torch.cat([modality.render(x) for x in tensors[:: max(len(tensors) // SHOWN, 1)][:SHOWN]], dim=2)
        strips.append(Picture.fromarray(few.permute(1, 2, 0).numpy()))
    width = 2 * max(strip.width for strip in strips)
    strips = [strip.resize((width, round(strip.height * width / strip.width))) for strip in strips]
    page, top = Picture.new("RGB", (width, sum(strip.height for strip in strips))), 0
    for strip in strips:
        page.paste(strip, (0, top))
        top += strip.height
    write_atomic(path, lambda temporary: page.save(temporary, "JPEG", quality=80))


STUDIES = {
    "thermal": Study("day_to_night", THERMAL, {
        "recolour, cycle": RECOLOUR,
        "light, cycle": LIGHT,
        "light, nce": [*LIGHT, "loss.consistency=nce", "loss.nce=1"],
        "light, a tenth known": [*LIGHT, *PAIRS, "data.paired_fraction=0.1", "loss.paired=20"],
        "light, pix2pix": [*LIGHT, *PIX2PIX],
    }, 400, _photographs_and_heat, _heat_without_learning, _of_heat),
    "lidar": Study("lidar_to_camera", [], ACROSS | ONE_WAY | PAIRS_JUDGED, 400,
                   _drives, _pairs_without_learning, _of_photographs),
    "poses": Study("lidar_to_camera", ["a.sensor={rows: 32, fov: [18, -16], azimuth: [0, 64], max_range: 60}"],
                   ACROSS | ONE_WAY | PAIRS_JUDGED, 400, _streets, _pairs_without_learning, _of_photographs),
    "text": Study("text_to_image", TEXT, ACROSS | ONE_WAY | PAIRS_JUDGED | SHARPER, 500,
                  _captions, _partners_without_learning, _of_both),
    "told": Study("image_to_text", TOLD, ONE_WAY, 2000, _captions, _partners_without_learning,
                  lambda home, config, made: _told(home, config.b.modality, home / "held_out" / "b", made["ab"])),
}

if __name__ == "__main__":
    main()
