"""What an evaluation looks at: windows of the sources, their translations, and two sets of real recordings.

Which windows are cut follows from the seed and the paths alone. Letters: N samples, K known pairs, C H W a sample.
"""
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmcycle.data.partners import stem_of
from mmcycle.data.same_window import SameWindow
from mmcycle.data.samplers import Domain
from mmcycle.data.seeds import seed_of
from mmcycle.errors import RecordingError, UserError
from mmcycle.generate.translator import Translator

FEWEST = 4                                  # samples: fewer say nothing
WINDOWS = 64                                # at most, of one recording
WHISPER = 0.02                              # noise on a translation, in [-1, 1]: 2.5 grey levels, which nobody sees


@dataclass(frozen=True, eq=False)
class Sets:
    """As many of each; source[i] became fake[i].

    alike       source and target have one sensor and one grid, so that a source can be laid beside its translation
    back        the translations carried back, and the same after noise that nobody sees; None for a one-way run
    partner     (K, C, H, W) true partners of the sources `known` (K,); None where there are none
    """

    source: Tensor
    fake: Tensor
    reference: Tensor
    real: Tensor
    alike: bool
    back: tuple[Tensor, Tensor] | None = None
    known: Tensor | None = None
    partner: Tensor | None = None
    notes: tuple[str, ...] = ()


def gather(
    there: Translator, back: Translator | None, source: Domain, real: Domain, count: int, seed: int = 0,
    partners: Mapping[int, int] | None = None,
) -> Sets:
    """At most `count` of each; recordings larger than a training crop give several windows, broken ones are told.

    partners: recording of `source` -> the one of `real` that shows the same; by default those of equal paths.
    """
    notes: list[str] = []
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed_of(seed, "halves"))).tolist()
    halves = (order, order) if len(real) == 1 else (order[::2], order[1::2])
    first, second = (_cut(real, half, count, seed_of(seed, place), notes) for place, half in enumerate(halves))
    cut = _cut(source, _shuffled(len(source), seed), count, seed, notes)
    size = min(len(cut), len(first), len(second))
    if size < FEWEST:
        raise UserError(
            f"an evaluation needs {FEWEST} windows of {source.root} and {2 * FEWEST} of {real.root} that do not "
            f"overlap much, found {len(cut)} and {len(first) + len(second)}; give more with --source and --real"
        )
    xs = torch.stack([x for _, _, x in cut[:size]])
    fakes, carried = _translated(there, back, xs, seed)
    alike = type(there.source) is type(there.target) and there.source.shape == there.target.shape
    known, partner = _partners(source, real, cut[:size], _namesakes(source, real) if partners is None else partners)
    notes += _few(size, source, real)
    return Sets(
        source=xs, fake=fakes, reference=torch.stack([x for _, _, x in first[:size]]),
        real=torch.stack([x for _, _, x in second[:size]]), alike=alike and fakes.shape == xs.shape, back=carried,
        known=known, partner=partner, notes=tuple(notes),
    )


def windows(domain: Domain, count: int, seed: int = 0) -> Tensor:
    """At most `count` windows of a domain, (N, C, H, W)."""
    cut = _cut(domain, _shuffled(len(domain), seed), count, seed, [])
    return torch.stack([x for _, _, x in cut]) if cut else torch.empty(0, *domain.modality.shape)


def _translated(
    there: Translator, back: Translator | None, xs: Tensor, seed: int
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    rng = torch.Generator().manual_seed(seed)
    fakes, carried, disturbed = [], [], []
    for place, x in enumerate(xs):
        fakes.append(there.translate(x, seed=seed_of(seed, "style", place)))
        if back is not None:
            again = seed_of(seed, "back", place)
            carried.append(back.translate(fakes[-1], seed=again))
            noise = WHISPER * torch.randn(fakes[-1].shape, generator=rng)
            disturbed.append(back.translate((fakes[-1] + noise).clamp(-1, 1), seed=again))
    return torch.stack(fakes), None if back is None else (torch.stack(carried), torch.stack(disturbed))


def _cut(
    domain: Domain, order: list[int], count: int, seed: int, notes: list[str]
) -> list[tuple[int, int, Tensor]]:
    """(recording, seed of the crop, crop): one of each, then a second of each that is large enough, and so on."""
    found: list[tuple[int, int, Tensor]] = []
    rooms: dict[int, int] = {}
    for turn in range(WINDOWS):
        for index in order:
            if len(found) == count:
                return found
            if turn == 0:
                rooms[index] = _room(domain, index, notes)
            if turn < rooms[index]:
                crop = seed_of(seed, domain.names[index], turn)
                found.append((index, crop, domain.sample(index, crop)))
    return found


def _room(domain: Domain, index: int, notes: list[str]) -> int:
    """How many windows lie side by side in a recording; 0 where it is broken, which is told."""
    try:
        whole = domain.whole(index)
    except RecordingError as error:
        notes.append(f"left out: {error}")
        return 0
    _, height, width = domain.modality.shape
    return max(whole.shape[-2] // height, 1) * max(whole.shape[-1] // width, 1)


def _namesakes(source: Domain, real: Domain) -> dict[int, int]:
    """Recordings of equal paths, suffixes aside."""
    named = {stem_of(name): index for index, name in enumerate(real.names)}
    return {index: named[stem_of(name)] for index, name in enumerate(source.names) if stem_of(name) in named}


def _partners(
    source: Domain, real: Domain, cut: list[tuple[int, int, Tensor]], partners: Mapping[int, int]
) -> tuple[Tensor | None, Tensor | None]:
    """Of the windows whose recording has a partner that can be cut alike: their places, and the partners' windows."""
    alike = type(source.modality) is type(real.modality)
    same_window = SameWindow(source.modality, real.modality)
    kept = []
    for place, (index, seed, _) in enumerate(cut):
        if index not in partners:
            continue
        try:
            if not alike or same_window(source.size(index), real.size(partners[index])):
                kept.append((place, real.sample(partners[index], seed)))
        except RecordingError:              # told already, or not among the windows that were asked for
            continue
    if len(kept) < FEWEST:
        return None, None
    return torch.tensor([place for place, _ in kept]), torch.stack([x for _, x in kept])


def _few(size: int, source: Domain, real: Domain) -> list[str]:
    told = [f"only {size} samples: all intervals are wide, 50 or more are better"] if size < 50 else []
    if len(real) == 1:
        told.append(f"{real.root} holds one recording: its windows are no independent floor")
    return told


def _shuffled(items: int, seed: int) -> list[int]:
    return torch.randperm(items, generator=torch.Generator().manual_seed(seed_of(seed, "order"))).tolist()
