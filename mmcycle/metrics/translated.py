"""The labelled source as `mmcycle generate` writes it, kept in the run: what is taught on is what a user gets."""
from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Literal

from mmcycle import __version__, files
from mmcycle.errors import UserError
from mmcycle.generate import ledger
from mmcycle.generate.dataset import generate
from mmcycle.generate.manifest import MANIFEST, read_rows, verify
from mmcycle.generate.progress import job_progress
from mmcycle.generate.shard import Translates
from mmcycle.metrics.labelled import Item, Listing, listing

PLACE = Path("evaluation", "downstream")
LOWEST = 0.5                                    # strength of further copies


def translated(
    run: Path, direction: Literal["ab", "ba"], translator: Translates, source: Listing, stream: str,
    copies: int = 1, keep_best: float = 1.0,
) -> Listing:
    """Written once for each model, source and set of options, then found again; a run of another model takes its place.

    Copies beyond the first go half of the way or further, unless the model itself makes them differ.
    """
    start = f"{direction}-{translator.sha256[:12]}-"
    out = run / PLACE / (start + digest_of(source, copies, keep_best)[:12])
    for old in (run / PLACE).glob(f"{direction}-*"):
        if not old.name.startswith(start) or (old == out and _damaged(out, source.root)):
            shutil.rmtree(old)
    low = LOWEST if copies > 1 and not translator.stochastic else 1.0
    with job_progress() as progress:
        generate(
            source.root, out, {stream: f"{run}:{direction}"}, layout=source.layout, copies=copies, keep_best=keep_best,
            strength=(low, 1.0), progress=progress, load=lambda run, direction, share: translator,
        )
    found = _with_labels_of(source, out, stream) if source.above else listing(
        out, stream, translator.target.suffixes, source.layout)
    if found.kind is None:
        raise UserError(f"{out}: the labels of {source.root} were not found again beside the translations")
    return found


def digest_of(source: Listing, *options: object) -> str:
    """SHA-256 over every recording and label, and what else decides the translations."""
    told = [
        [item.key, item.name, item.group, files.sha256(item.path), item.mask and files.sha256(item.mask)]
        for item in source.items
    ]
    decides = [__version__, str(source.root), source.layout, told, options]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


def _damaged(out: Path, source: Path) -> bool:
    """Whether a finished data set is no longer what was written, or was begun and has no list yet to compare with."""
    return ledger.finished(out) is not None and ((out / MANIFEST).is_file() is False or not verify(out, source).ok)


def _with_labels_of(source: Listing, out: Path, stream: str) -> Listing:
    """Labels beside the source's root were no part of the job: they are found by key."""
    known = {item.key: item for item in source.items}
    items = tuple(
        Item(row.key, files.inside(out, row.streams[stream].output), known[row.key].name, known[row.key].mask,
             known[row.key].group)
        for row in read_rows(out)
    )
    return Listing(out, source.layout, items, above=True)
