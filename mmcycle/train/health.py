"""The pulse of a run: what goes wrong in unpaired training without a loss that shows it. Every fault has a name.

A few samples, always the same, are translated by the networks as they are now; a fault is one that lasts. What is
measured stands in the rows of log.jsonl ("health"), so a resumed run remembers what it has seen and said.

    judged_b       share of pairs (patch of real_b, patch of fake_b) that disc_b ranks rightly: 1/2 is guessing; not where
                   it judges translations beside their sources
    diverse_b      how far translations are from each other, in units of how far recordings of b are
    changed_b      how far translations are from their sources, in units of how far recordings of a and b are
    correlated_b   mean correlation of the channels of translation and source, where they have one shape
    hidden_a       what of a recording comes back only by means of what an 8-bit file and a little noise take from its
                   translation, in units of how far recordings of a are from their mean colour (Chu et al. 2017)
"""
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import ceil, inf, isfinite
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmcycle.core.model import CycleModel
from mmcycle.train.validation import LEVEL, Reals, spread, stored

SAMPLES = 4                             # of each domain, at most
STEPS = 50                              # between two looks, at least: a look costs about as much as a step
PATIENCE = 5                            # looks in a row that show a fault before it is told
GRACE = 0.1                             # share of the steps in which everything may still look odd

Measured = dict[str, float]


class Fault(NamedTuple):
    """A name, what shows it, the range in which that is healthy, and what to do."""

    name: str
    measure: str
    low: float
    high: float
    advice: str


FAULTS = (
    Fault("discriminator too strong", "judged", -inf, 0.995,
          "It tells every patch, so it no longer teaches. Lower train.discriminator_lr, set loss.r1=1 or "
          "train.diff_augment=[color, translation, cutout], or give more recordings"),
    Fault("discriminator too weak", "judged", 0.52, inf,
          "It cannot tell real from translated. If the pictures in samples/ do not look right, raise "
          "train.discriminator_lr or model.discriminator_width, or lower loss.identity"),
    Fault("no variety", "diverse", 0.15, inf,
          "The translations of different recordings look alike. Raise loss.cycle, set loss.r1=1, and take an earlier "
          "checkpoint"),
    Fault("identity copy", "changed", 0.03, inf,
          "The translations are their sources, hardly changed. Lower loss.identity (or set loss.identity_end=0) and "
          "loss.cycle"),
    Fault("hidden signal", "hidden", -inf, 0.15,
          "The way back reads what no eye sees in the translation, so loss.cycle no longer keeps what the labels speak "
          "of. Lower loss.cycle, or use loss.consistency=nce or loss.low_resolution=1"),
    Fault("inverted", "correlated", -0.5, inf,
          "What is bright in the source is dark in the translation. If the sensors do not differ so, raise "
          "loss.identity or set loss.low_resolution=1, and begin again with another run.seed"),
)


class Monitor:
    """Which faults have lasted, and which were told; it is made of the rows of the log and says each fault once."""

    def __init__(self, rows: Iterable[dict[str, Any]], steps: int):
        rows = [row for row in rows if isinstance(row.get("step"), int)]
        self.steps = steps
        self.looks = [(row["step"], row["health"]) for row in rows if isinstance(row.get("health"), dict)]
        self.told = {(row.get("name"), row.get("domain")) for row in rows if row.get("event") == "warning"}

    def hear(self, step: int, measured: Measured) -> list[dict[str, Any]]:
        """The events to be told after this look: {"event": "warning", "step", "name", "domain", "value", "advice"}."""
        self.looks.append((step, measured))
        recent = [look for when, look in self.looks[-PATIENCE:] if when > GRACE * self.steps]
        told = []
        for fault in FAULTS if len(recent) == PATIENCE else ():
            for domain in ("a", "b"):
                name = f"{fault.measure}_{domain}"
                lasts = all(not fault.low <= look.get(name, fault.low) <= fault.high for look in recent)
                if name in measured and lasts and (fault.name, domain) not in self.told:
                    self.told.add((fault.name, domain))
                    told.append({"event": "warning", "step": step, "name": fault.name, "domain": domain,
                                 "measure": fault.measure, "value": measured[name], "advice": fault.advice})
        return told


def due(step: int, log_every: int) -> bool:
    """Whether a look belongs to the row of this step: a function of the config alone, the same after a resume."""
    return step % (log_every * ceil(STEPS / log_every)) == 0


@torch.no_grad()
def examine(model: CycleModel, reals: Reals) -> Measured:
    """Domain -> samples (N, *shape) on the model's device; every measure that exists for these sensors."""
    found: Measured = {}
    with _only_looking(model):
        for direction, there in model.generators.items():
            start, end = direction
            real, target = reals[start], reals[end]
            fake = there.forward(real).float()          # forward: a compiled network would be compiled anew for this
            if not model.sees_pairs:                    # these samples are nobody's partners
                found[f"judged_{end}"] = _ranked(*(model.discriminators[end].forward(x) for x in (target, fake)))
            found |= _of_translations(end, real, fake, target)
            back = model.generators.get(direction[::-1])
            if back is not None:
                rough = stored(fake) + LEVEL * _noise(fake)
                exact, worn = ((back.forward(x).float() - real).abs().mean().item() for x in (fake, rough))
                found[f"hidden_{start}"] = (worn - exact) / spread(real)
    return {name: round(value, 4) for name, value in found.items() if isfinite(value)}


def _of_translations(end: str, real: Tensor, fake: Tensor, target: Tensor) -> Measured:
    """What can be seen in the translations themselves."""
    found = {}
    if min(len(fake), len(target)) > 1 and _between(target, target) > 0.01:
        found[f"diverse_{end}"] = _between(fake, fake) / _between(target, target)
    if real.shape[1:] == fake.shape[1:]:
        found[f"changed_{end}"] = (fake - real).abs().mean().item() / max(_between(real, target), 1e-3)
        found[f"correlated_{end}"] = _correlation(real, fake)
    return found


def _ranked(real_scores: Tensor, fake_scores: Tensor) -> float:
    """The share of pairs whose real score is the higher one, on whatever scale; equal ones count half."""
    real_scores, fake_scores = real_scores.float().flatten(), fake_scores.float().flatten().sort().values
    below, up_to = (torch.searchsorted(fake_scores, real_scores, right=right) for right in (False, True))
    return ((below + up_to).double().mean() / (2 * len(fake_scores))).item()


def _between(x: Tensor, y: Tensor) -> float:
    """Mean L1 distance of (N, ...) and (M, ...) over all pairs but those of a set with itself."""
    distances = torch.stack([(one - y).abs().flatten(1).mean(1) for one in x])
    pairs = distances.numel() - (len(x) if x is y else 0)
    return distances.sum().item() / max(pairs, 1)


def _correlation(x: Tensor, y: Tensor) -> float:
    """Mean over samples and channels of the correlation of places; 0 where either is flat."""
    x, y = (one.flatten(2) - one.flatten(2).mean(2, keepdim=True) for one in (x, y))
    return ((x * y).sum(2) / (x.norm(dim=2) * y.norm(dim=2)).clamp_min(1e-3)).mean().item()


def _noise(x: Tensor) -> Tensor:
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x.device)


@contextmanager
def _only_looking(model: nn.Module) -> Iterator[None]:
    """No network counts, normalises or drops out as in training, and nobody's random numbers are used up."""
    modes = [(module, module.training) for module in model.modules()]
    device = next(model.parameters()).device
    model.eval()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
