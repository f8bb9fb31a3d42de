"""The two pictures of docs/how-it-works.md, made of a run: what it translated at several steps, and its curves.

    python benchmarks/how_it_works.py runs/street streets/held_out --out docs [--scene 0] [--steps 50 200 600 2000]

The run must have kept the checkpoints of those steps:

    mmcycle train street.yaml run.save_every=50 run.keep=40 --out runs/street
"""
import argparse
import re
from pathlib import Path

import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

from mmcycle.config import Config, from_dict
from mmcycle.core.model import generator
from mmcycle.files import write_atomic
from mmcycle.report.curves import HEIGHT, LEFT, RIGHT, WIDTH, Chart
from mmcycle.report.run import describe_run
from mmcycle.train.checkpoint import load_averages, name_of

GAP, MARGIN, SCALE = 6, 22, 2                       # pixels; curves are drawn larger, then made smooth
INK, PALE, COLOURS = (40, 40, 40), (225, 225, 225), ("#1f77b4", "#d66e1e", "#2a9d5c", "#8a5fb0", "#777777")
SHOWN = ("adv", "cycle", "idt", "disc", "disc_b", "score of the averages")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("run", type=Path)
    options.add_argument("streets", type=Path, help="held-out streets by day and night")
    options.add_argument("--out", type=Path, default=Path("docs"))
    options.add_argument("--scene", type=int, default=0)
    options.add_argument("--steps", type=int, nargs="+", default=[50, 200, 600, 2000])
    chosen = options.parse_args()
    _write(sheet(chosen.run, chosen.streets, chosen.scene, chosen.steps), chosen.out / "how-it-works.jpg")
    _write(curves(chosen.run), chosen.out / "how-it-works-curves.png")


def sheet(run: Path, streets: Path, scene: int, steps: list[int]) -> Image.Image:
    """Rows: fake_b, rec_a, idt_b; columns: what each is made of, then every step."""
    columns = {}
    for step in steps:
        averages, state = load_averages(run / "checkpoints" / name_of(step))
        config = from_dict(state["config"])
        real_a, real_b = (_read(config, streets / view / "images" / f"{scene:06d}.png") for view in ("day", "night"))
        gen_ab, gen_ba = (_network(config, averages, direction) for direction in ("ab", "ba"))
        with torch.inference_mode():
            fake_b = gen_ab(real_a)
            columns[f"step {step}"] = (fake_b, gen_ba(fake_b), gen_ab(real_b))
    columns = {"": (real_a, real_a, real_b)} | columns
    _, _, height, width = real_a.shape
    page = Image.new("RGB", (len(columns) * (width + GAP) - GAP, MARGIN + 3 * (height + MARGIN)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for column, (title, pictures) in enumerate(columns.items()):
        left = column * (width + GAP)
        draw.text((left + width / 2, 10), title, INK, font, anchor="mm")
        names = ("fake_b", "rec_a", "idt_b") if title else ("real_a", "real_a", "real_b")
        for row, (name, picture) in enumerate(zip(names, pictures)):
            top = MARGIN + row * (height + MARGIN)
            pixels = config.a.modality.render(picture[0]).permute(1, 2, 0).numpy()
            page.paste(Image.fromarray(pixels), (left, top))
            draw.text((left + width / 2, top + height + MARGIN / 2 - 1), name, INK, font, anchor="mm")
    return page


def curves(run: Path) -> Image.Image:
    """The charts of the run's report, three in a row."""
    told = describe_run(run)
    charts = {chart.title: chart for part in ("losses", "scores", "course") for chart in told[part]}
    chosen = [charts[title] for title in SHOWN if title in charts]
    page = Image.new("RGB", (3 * WIDTH * SCALE, -(-len(chosen) // 3) * (HEIGHT + 2 * MARGIN) * SCALE), "white")
    for index, one in enumerate(chosen):
        page.paste(_panel(one), (index % 3 * WIDTH * SCALE, index // 3 * (HEIGHT + 2 * MARGIN) * SCALE))
    small = page.resize((page.width // SCALE, page.height // SCALE), Image.Resampling.LANCZOS)
    return small.quantize(255, method=Image.Quantize.FASTOCTREE)


def _panel(chart: Chart) -> Image.Image:
    page = Image.new("RGB", (WIDTH * SCALE, (HEIGHT + MARGIN) * SCALE), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13 * SCALE)
    title = chart.title if len(chart.lines) == 1 else f"{chart.title}:"
    draw.text((LEFT * SCALE, MARGIN * SCALE / 2), title, INK, font, anchor="lm")
    for y, label in chart.y_ticks:
        draw.line(_at([(LEFT, y), (WIDTH - RIGHT, y)]), PALE, SCALE)
        draw.text(*_at([(LEFT - 6, y)]), label, INK, font, anchor="rm")
    for x, label in chart.x_ticks:
        draw.text(*_at([(x, HEIGHT - 10)]), label, INK, font, anchor="rm" if x > WIDTH - 3 * RIGHT else "mm")
    right = LEFT * SCALE + draw.textlength(f"{title}  ", font)
    for line, colour in zip(chart.lines, COLOURS):
        colour = ImageColor.getrgb(colour)
        faint = tuple(255 - (255 - level) // 3 for level in colour)
        for path, ink, width in ((line.raw, faint, 1), (line.smooth, colour, 2)):
            for stroke in path.split("M")[1:]:
                points = [tuple(map(float, point.split())) for point in re.split("L", stroke)]
                draw.line(_at(points), ink, width * SCALE, joint="curve")
        if len(chart.lines) > 1:
            draw.text((right, MARGIN * SCALE / 2), line.name, colour, font, anchor="lm")
            right += draw.textlength(f"{line.name}  ", font)
    return page


def _at(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Places of a chart -> pixels of its panel."""
    return [(x * SCALE, (y + MARGIN) * SCALE) for x, y in points]


def _network(config: Config, averages: dict[str, Tensor], direction: str) -> torch.nn.Module:
    found = generator(config.a.modality, config.b.modality, config.model)
    found.load_state_dict({key[3:]: value for key, value in averages.items() if key.startswith(direction)})
    return found.eval()


def _read(config: Config, path: Path) -> Tensor:
    """(1, 3, H, W), cut to what the networks can halve."""
    x = config.a.modality.to_tensor(config.a.modality.load(path))[0]
    return x[None, :, : x.shape[1] // 8 * 8, : x.shape[2] // 8 * 8]


def _write(page: Image.Image, path: Path) -> None:
    write_atomic(path, lambda temporary: page.save(temporary, quality=88, optimize=True))


if __name__ == "__main__":
    main()
