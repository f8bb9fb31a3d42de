"""The classic uses of unpaired translation, each trained with its config on a CPU and measured: one row and one sheet.

    python benchmarks/classic_uses.py USE [USE ...] DATA --out OUT [--seeds 0] [KEY=VALUE ...]

DATA holds day_dusk_camvid, weather_mcw, sketch_photo_pacs, sim2real_lights_frames, multisensor_radiate; `all` is every
use. Pictures are cut to 160 x 120, sketches to 120 x 120. Where the truth is known, A is one half of the training
pictures, spoilt, B the other half as it is, and the test are other pictures, spoilt, beside what they were. What is
there already is kept.
"""
import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps
from torch import Tensor
from torch.nn import functional as F

from mmcycle.config import load_config
from mmcycle.files import write_atomic, write_json
from mmcycle.generate.dataset import generate
from mmcycle.metrics.distances import RandomFeatures, blur, gaussian_window, kid, psnr, ssim, standardise
from mmcycle.metrics.faithfulness import luminance, structure
from mmcycle.modality import Modality
from mmcycle.simulate.street import write_street
from mmcycle.train.trainer import train

SIZE, TESTED, SCENES = (160, 120), 48, 40       # width and height, pixels; pictures of the test; streets of each domain
GAP, MARGIN, INK = 4, 18, (40, 40, 40)
Spoil = Callable[[Image.Image, np.random.Generator], Image.Image]
Classic = Callable[[Tensor, Tensor], dict[str, Tensor]]


class Use(NamedTuple):
    """`prepare` writes HOME/a, b, test and target; `classic` makes of (test, b) what is done without learning, by name.

    true: target holds what test truly looks like, name by name; else other recordings of the target domain.
    """

    config: str
    prepare: Callable[[Path, Path], None]
    classic: Classic
    true: bool


class Measured(NamedTuple):
    """A row, and the pictures (N, C, H, W) that it speaks of."""

    row: dict[str, dict[str, float]]
    pictures: dict[str, Tensor]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("words", nargs="+", metavar="WORD", help=f"USE: all, {', '.join(USES)}")
    options.add_argument("--out", type=Path, default=Path("runs/classic_uses"))
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    chosen = options.parse_intermixed_args()
    overrides = [word for word in chosen.words if "=" in word]
    *names, data = [word for word in chosen.words if "=" not in word] or [""]
    names = list(USES) if names == ["all"] else names
    if not names or not set(names) <= USES.keys():
        options.error(f"give uses, of all, {', '.join(USES)}, and then the folder of the data")
    for name in names:
        for seed in chosen.seeds:
            home = chosen.out / name
            found = measured(name, Path(data), home, seed, overrides)
            write_json(home / f"row-{seed}.json", found.row)
            save(sheet(found.pictures), home / f"sheet-{seed}.jpg")
            print(told(name, seed, found.row), flush=True)
    save(album(chosen.out, chosen.seeds[0]), chosen.out / "classic_uses.jpg")


def measured(name: str, data: Path, home: Path, seed: int, overrides: Sequence[str] = ()) -> Measured:
    """Prepare, train, generate, measure."""
    use, run, made = USES[name], home / f"run-{seed}", home / f"translated-{seed}"
    if not (home / "prepared.json").exists():
        use.prepare(data, home)
        write_json(home / "prepared.json", {"use": name, "size": SIZE})
    config = load_config(use.config, [f"a.root={home / 'a'}", f"b.root={home / 'b'}", f"run.seed={seed}", *overrides])
    begun = time.process_time()
    ended = train(config, run)
    if ended.signal:
        sys.exit(128 + ended.signal)                    # the same line goes on
    row = {"run": {"steps": config.train.steps, "cpu_seconds": time.process_time() - begun}}
    generate(home / "test", made, {"image": f"{run}:ab"})
    image = config.b.modality
    test, fake, b, target = (pictures(image, folder) for folder in (home / "test", made, home / "b", home / "target"))
    compared = {"untranslated": test, **use.classic(test, b), "ours": fake}
    row |= {title: scores(test, group, target, use.true) for title, group in compared.items()}
    row["floor: b"] = {"kid": distance(target, b)}
    shown = {"source": test, "ours": fake, "truth" if use.true else "real ones": target}
    return Measured(row, shown)


def scores(source: Tensor, made: Tensor, target: Tensor, true: bool) -> dict[str, float]:
    """(N, C, H, W) each -> psnr_db and ssim where the truth is known, kid, and correlation of edges with the source."""
    found = {"kid": distance(target, made), "structure": structure(source, made).mean().item()}
    if true:
        found = {"psnr_db": psnr(made, target).mean().item(), "ssim": ssim(made, target).mean().item(), **found}
    return found


def distance(reference: Tensor, other: Tensor) -> float:
    features = RandomFeatures(reference.shape[1])
    return kid(*standardise(features(reference), features(other)), kernel="rbf")


def told(name: str, seed: int, row: dict[str, dict[str, float]]) -> str:
    lines = [f"{name}, seed {seed}"]
    for title, numbers in row.items():
        lines.append(f"  {title:<28}" + "".join(f"  {key} {value:8.3f}" for key, value in numbers.items()))
    return "\n".join(lines)


# What is translated


def halves(name: str, spoil: Spoil) -> Callable[[Path, Path], None]:
    """Good pictures, of which one half is spoilt; the truth of the test is known."""

    def prepare(data: Path, home: Path) -> None:
        files = sorted((data / name / "trainA").glob("*.jpg"))
        _write(files[: len(files) // 2], home / "a", spoil)
        _write(files[len(files) // 2 :], home / "b")
        tested = _some(sorted((data / name / "testA").glob("*.jpg")))
        _write(tested, home / "test", spoil)
        _write(tested, home / "target")

    return prepare


def folders(name: str, square: bool = False) -> Callable[[Path, Path], None]:
    """Two real domains without truth, each with a part for the test."""

    def prepare(data: Path, home: Path) -> None:
        _write(sorted((data / name / "trainA").glob("*.jpg")), home / "a", square=square)
        _write(sorted((data / name / "trainB").glob("*.jpg")), home / "b", square=square)
        _write(_some(sorted((data / name / "testA").glob("*.jpg"))), home / "test", square=square)
        _write(_some(sorted((data / name / "testB").glob("*.jpg"))), home / "target", square=square)

    return prepare


def foggy_streets(data: Path, home: Path) -> None:
    """Simulated streets on a clear day, and others in fog; the streets of the test are known in both."""
    for name, place in {"a": "1/day", "b": "2/fog", "test": "3/day", "target": "3/fog"}.items():
        _write(_street(home, place), home / name)


def streets_and_drives(data: Path, home: Path) -> None:
    """Simulated streets on a clear day, and real drives."""
    drives = data / "day_dusk_camvid"
    for name, place in {"a": "1/day", "test": "3/day"}.items():
        _write(_street(home, place), home / name)
    _write(_some(sorted((drives / "trainA").glob("*.jpg")), 120), home / "b")
    _write(_some(sorted((drives / "testA").glob("*.jpg"))), home / "target")


def _street(home: Path, place: str) -> Sequence[Path]:
    """Pictures of "SEED/VIEW"; all uses share the streets."""
    views, streets = {"1": ("day",), "2": ("fog",), "3": ("day", "fog")}, home.parent / "streets"
    write_street(streets / place[0], SCENES, seed=int(place[0]), views=views[place[0]], size=SIZE)
    return sorted((streets / place / "images").glob("*.png"))


def foggy_drive(data: Path, home: Path) -> None:
    """Clear drives, and one through fog with a wet lens: its first two thirds, and for the test its last third."""
    clear, foggy = data / "day_dusk_camvid", sorted((data / "multisensor_radiate" / "camera_left").glob("*.jpg"))
    cut = 2 * len(foggy) // 3
    _write(_some(sorted((clear / "trainA").glob("*.jpg")), 120), home / "a")
    _write(foggy[:cut], home / "b")
    _write(_some(sorted((clear / "testA").glob("*.jpg"))), home / "test")
    _write(foggy[cut:], home / "target")


def blurred(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Out of focus, by 1 to 2 pixels."""
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(1, 2)))


def noisy(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Grain of 15 to 35 grey levels."""
    levels = np.asarray(picture, np.float32)
    grain = rng.normal(0, rng.uniform(15, 35), levels.shape)
    return Image.fromarray(np.rint(levels + grain).clip(0, 255).astype(np.uint8))


def grey(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return picture.convert("L")


def _write(files: Sequence[Path], folder: Path, spoil: Spoil | None = None, square: bool = False) -> None:
    """The same names as PNG; how a picture is spoilt follows from its name."""
    folder.mkdir(parents=True, exist_ok=True)
    size = (SIZE[1], SIZE[1]) if square else SIZE
    for file in files:
        picture = ImageOps.fit(Image.open(file).convert("RGB"), size, Image.Resampling.LANCZOS)
        save(spoil(picture, np.random.default_rng(crc32(file.stem.encode()))) if spoil else picture,
             folder / f"{file.stem}.png")


def _some(files: Sequence[Path], count: int = TESTED) -> Sequence[Path]:
    """At most `count`, from all over."""
    return [files[place * len(files) // count] for place in range(count)] if len(files) > count else files


def pictures(image: Modality, folder: Path) -> Tensor:
    """(N, C, H, W), by name."""
    files = sorted(path for path in folder.iterdir() if path.suffix in image.suffixes)
    return torch.stack([image.to_tensor(image.load(path))[0] for path in files])


# What is done without learning: (N, C, H, W) of the test and of b -> candidates by name


def matched(test: Tensor, b: Tensor) -> dict[str, Tensor]:
    """Mean and deviation of each colour as they are in b on average (Reinhard et al. 2001, section 3)."""
    mean, spread = (moment.mean(0) for moment in _moments(b))
    own_mean, own_spread = _moments(test)
    return {"colours matched": ((test - own_mean) / own_spread.clamp_min(1e-3) * spread + mean).clamp(-1, 1)}


def drawn(test: Tensor, b: Tensor) -> dict[str, Tensor]:
    """Black where brightness changes most, as much black as sketches have."""
    light = blur(F.pad(test, (3, 3, 3, 3), mode="reflect"), gaussian_window(7, 1.0)).mean(1, keepdim=True)
    light = F.pad(light, (0, 1, 0, 1), mode="replicate")
    change = (light[..., 1:, :-1] - light[..., :-1, :-1]).hypot(light[..., :-1, 1:] - light[..., :-1, :-1])
    white = (b.mean(1) > 0).float().mean().item()
    limit = torch.stack([one.quantile(white) for one in change])[:, None, None, None]
    return {"strongest edges": torch.where(change > limit, -1.0, 1.0).expand_as(test).contiguous()}


def coloured(test: Tensor, b: Tensor) -> dict[str, Tensor]:
    """The mean colour of b; and that of b at the same row and brightness."""
    light, tint = luminance(b)[:, None], b - luminance(b)[:, None]
    known, level = torch.zeros(8, *b.shape[1:3]), ((light + 1) * 4).long().clamp(0, 7)
    for n in range(8):
        here = (level == n).float()
        known[n] = (tint * here).sum((0, 3)) / here.sum((0, 3)).clamp_min(1)
    rows = torch.arange(test.shape[2])[None, :, None]
    found = known[((test[:, 0] + 1) * 4).long().clamp(0, 7), :, rows]
    return {"mean colour": (test + tint.mean((0, 2, 3), keepdim=True)).clamp(-1, 1),
            "colour of its row and level": (test + found.permute(0, 3, 1, 2)).clamp(-1, 1)}


def sharpened(test: Tensor, b: Tensor) -> dict[str, Tensor]:
    """Unsharp masks."""
    soft = _softened(test, 1.5)
    return {f"unsharp mask {amount}": (test + amount * (test - soft)).clamp(-1, 1) for amount in (0.5, 1, 2)}


def smoothed(test: Tensor, b: Tensor) -> dict[str, Tensor]:
    """A median of 3 x 3, and Gaussians."""
    near = F.pad(test, (1, 1, 1, 1), mode="reflect").unfold(2, 3, 1).unfold(3, 3, 1)
    found = {f"gaussian {sigma}": _softened(test, sigma) for sigma in (0.6, 0.8, 1.0)}
    return {"median 3 x 3": near.flatten(-2).median(-1).values, **found}


def _softened(x: Tensor, sigma: float) -> Tensor:
    return blur(F.pad(x, (4, 4, 4, 4), mode="reflect"), gaussian_window(9, sigma))


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True)


# The sheet


def sheet(shown: dict[str, Tensor], count: int = 4) -> Image.Image:
    """One column for each set, one row for each of a few pictures."""
    width, height = (max(group.shape[side] for group in shown.values()) + GAP for side in (3, 2))
    page = Image.new("RGB", (len(shown) * width - GAP, MARGIN + count * height - GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    for column, (title, group) in enumerate(shown.items()):
        draw.text((column * width + (width - GAP) / 2, MARGIN / 2), title, INK, font, anchor="mm")
        for row in range(count):
            levels = ((group[row * len(group) // count] + 1) * 127.5).round().byte().permute(1, 2, 0)
            picture = Image.fromarray(levels.expand(-1, -1, 3).contiguous().numpy())
            page.paste(picture, (column * width, MARGIN + row * height))
    return page


def album(out: Path, seed: int, rows: int = 2) -> Image.Image:
    """The first rows of every sheet that is there, two uses side by side."""
    sheets = {name: out / name / f"sheet-{seed}.jpg" for name in USES}
    found = {name: Image.open(path) for name, path in sheets.items() if path.exists()}
    height, width = MARGIN + rows * (SIZE[1] + GAP), max(one.width for one in found.values()) + 4 * GAP
    page = Image.new("RGB", (2 * width, -(-len(found) // 2) * (height + MARGIN)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for place, (name, one) in enumerate(found.items()):
        left, top = place % 2 * width, place // 2 * (height + MARGIN)
        draw.text((left, top + MARGIN / 2), name, INK, font, anchor="lm")
        page.paste(one.crop((0, 0, one.width, height - GAP)), (left, top + MARGIN))
    return page


def save(picture: Image.Image, path: Path) -> None:
    write_atomic(path, lambda temporary: picture.save(temporary, quality=85))


USES = {
    "clear_to_fog": Use("clear_to_fog_cpu", foggy_streets, matched, True),
    "clear_to_fog_real": Use("clear_to_fog_cpu", foggy_drive, matched, False),
    "clear_to_rain": Use("clear_to_rain_cpu", folders("weather_mcw"), matched, False),
    "photo_to_sketch": Use("photo_to_sketch_cpu", folders("sketch_photo_pacs", square=True), drawn, False),
    "grey_to_colour": Use("grey_to_colour_cpu", halves("weather_mcw", grey), coloured, True),
    "blurry_to_sharp": Use("blurry_to_sharp_cpu", halves("day_dusk_camvid", blurred), sharpened, True),
    "noisy_to_clean": Use("noisy_to_clean_cpu", halves("day_dusk_camvid", noisy), smoothed, True),
    "sim_to_real_frames": Use("sim_to_real_frames_cpu", streets_and_drives, matched, False),
    "sim_to_real_lights": Use("sim_to_real_frames_cpu", folders("sim2real_lights_frames"), matched, False),
}


if __name__ == "__main__":
    main()
