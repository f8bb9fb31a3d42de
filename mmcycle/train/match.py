"""Recordings of two domains that show one place, found without labels and written as a table to train with."""
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mmcycle.config import Config, load_config
from mmcycle.data.partners import write_partners
from mmcycle.data.samplers import Domain
from mmcycle.data.structure import Match, grid_of, matches, outlines
from mmcycle.errors import RecordingError, UserError
from mmcycle.train.samples import write_rows
from mmcycle.train.trainer import open_domain

SUFFIX = ".csv"
SHOWN, COLUMNS, HEIGHT = 24, 4, 96          # pairs on the sheet, pairs in one of its rows, pixels


def match(source: str, out: Path, overrides: Sequence[str] = (), force: bool = False) -> list[str]:
    """Write `out`, the table of pairs, and beside it a picture of some of them. Lines for a person."""
    sheet = out.with_suffix(".png")
    if out.suffix != SUFFIX:
        raise UserError(f"{out}: the table of pairs is a CSV file; give it a name that ends with {SUFFIX}")
    for path in (out, sheet):
        if path.exists() and not force:
            raise UserError(f"{path} exists already; choose another name, or say --force to replace it")
    config = load_config(source, overrides)
    a, b = open_domain(config, "a"), open_domain(config, "b")
    grid, skip = grid_of(config.b.modality.shape), config.data.on_error == "skip"
    drawn_a, drawn_b = _drawn(a, grid, skip), _drawn(b, grid, skip, mirrored=True)
    found = [Match(drawn_a.indices[one.a], drawn_b.indices[one.b], one.score)
             for one in matches(drawn_a.straight, drawn_b.straight, drawn_b.mirrored)]
    if not found:
        raise UserError(
            f"{a.root} and {b.root}: of {len(a)} and {len(b)} recordings none were found to show the same place (20 or "
            "more that do are needed to tell them from chance); name pairs yourself in a table with the columns a and b"
        )
    write_partners(out, [(a.names[one.a], b.names[one.b], one.score) for one in found])
    _show(a, b, found, sheet)
    partners_of = f"{len({one.a for one in found})} of {len(a)} in a, {len({one.b for one in found})} of {len(b)} in b"
    return [
        *(f"passed over: {why}" for drawn in (drawn_a, drawn_b) for why in drawn.broken),
        f"{out}: {len(found)} pairs ({partners_of}; about one recording in 20 of them is given a wrong partner)",
        f"{sheet}: look at it, best pairs first; remove what is wrong from the table",
        f"next: {_next(config, source, overrides, out)}",
    ]


class _Drawn(NamedTuple):
    """The outlines of the recordings that can be read, (N, D) each, which they are, and why others cannot."""

    indices: list[int]
    straight: Tensor
    mirrored: Tensor | None
    broken: list[str]


def _drawn(domain: Domain, grid: tuple[int, int], skip: bool, mirrored: bool = False) -> _Drawn:
    """Every recording is read once; skip: pass over what is broken."""
    indices, broken = [], []
    drawn: tuple[list[Tensor], list[Tensor]] = ([], [])
    for index in range(len(domain)):
        try:
            x = domain.whole(index)
        except RecordingError as error:
            if not skip:
                raise
            broken.append(str(error))
            continue
        indices.append(index)
        for rows, way in zip(drawn, (x, x.flip(-1)) if mirrored else (x,)):
            rows.append(outlines(way, grid))
    if not indices:
        raise RecordingError(f"{domain.root}: none of its {len(domain)} recordings can be used: {broken[-1]}")
    return _Drawn(indices, torch.stack(drawn[0]), torch.stack(drawn[1]) if mirrored else None, broken)


def _next(config: Config, source: str, overrides: Sequence[str], table: Path) -> str:
    """The line that trains with the pairs."""
    missing = [] if config.data.paired else ["data.paired=true"]
    missing += [] if config.loss.paired else ["loss.paired=10"]
    return shlex.join(["mmcycle", "train", source, *overrides, *missing, f"data.pairs={table}", "--out", "RUN"])


def _show(a: Domain, b: Domain, found: list[Match], path: Path) -> None:
    """Pairs from the best to the last, side by side."""
    places = torch.linspace(0, len(found) - 1, min(SHOWN, len(found))).round().long().tolist()
    pairs = [(_small(a, found[place].a), _small(b, found[place].b)) for place in places]
    write_rows(path, [sum(pairs[first : first + COLUMNS], ()) for first in range(0, len(pairs), COLUMNS)])


def _small(domain: Domain, index: int) -> Tensor:
    """(3, HEIGHT, W), the proportions of the recording kept."""
    picture = domain.modality.render(domain.whole(index))
    size = (HEIGHT, max(round(picture.shape[-1] * HEIGHT / picture.shape[-2]), 1))
    return torch.nn.functional.interpolate(picture[None].float(), size=size, mode="area")[0].to(torch.uint8)
