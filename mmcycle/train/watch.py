"""The watch over a run: the same samples every time, what is measured on them, and what is said and kept because of it.

Nothing here changes what is learned: no network, no random state, no batch.
"""
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmcycle.config import Config
from mmcycle.data.samplers import Domain
from mmcycle.errors import RecordingError
from mmcycle.train import checkpoint, health, validation
from mmcycle.train.log import Log
from mmcycle.train.progress import Progress
from mmcycle.train.step import Teacher


class Watch:
    """What rank 0 looks at while a run trains."""

    def __init__(self, config: Config, domains: dict[str, Domain], out: Path, device: torch.device):
        self.config, self.domains, self.device = config, domains, device
        self.checkpoints, self.log = out / "checkpoints", Log(out / "log.jsonl")
        self.monitor = health.Monitor(self.log.rows(), config.train.steps)
        self.best = checkpoint.best_good(self.checkpoints)[1]

    @cached_property
    def reals(self) -> dict[str, Tensor] | None:
        """Domain -> (N, *shape) on the device; None where every recording is broken, and data.on_error is "skip"."""
        found = {key: shown(domain, validation.RECORDINGS) for key, domain in self.domains.items()}
        if not all(found.values()):
            return None
        return {key: torch.stack(samples).to(self.device) for key, samples in found.items()}

    def examined(self, teacher: Teacher, step: int) -> dict[str, float]:
        """How the networks are, where a look is due at this step; else nothing."""
        if not health.due(step, self.config.run.log_every) or self.reals is None:
            return {}
        few = {key: real[:: -(-len(real) // health.SAMPLES)] for key, real in self.reals.items()}
        return health.examine(teacher.model, few)

    def warn(self, step: int, found: dict[str, float], progress: Progress) -> None:
        """Say and log every fault that has lasted until now, once in a run."""
        for warning in self.monitor.hear(step, found) if found else ():
            self.log.write(warning)
            progress.say(f"warning: {warning['name']} ({getattr(self.config, warning['domain']).name}, step {step}: "
                         f"{warning['measure']} {warning['value']:.3g}). {warning['advice']}.")

    def to_evaluate(self, step: int) -> bool:
        """Every so many steps, and at the end of a run of more than that."""
        every, steps = self.config.run.evaluate_every, self.config.train.steps
        return every > 0 and (step % every == 0 or step == steps > every) and self.reals is not None

    def evaluate(self, teacher: Teacher, step: int, about: dict[str, Any], progress: Progress) -> None:
        """Score the moving averages; keep them if none were better. about: what every checkpoint says of the run."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            measured = validation.validate(teacher.averages, self.reals)
        score = measured["score"]
        better = score < self.best              # never where it is NaN
        self.log.write({"event": "evaluation", "step": step, "better": better} | measured)
        progress.say(f"step {step}: score {score:.4f} (lower is better){', the best so far' if better else ''}")
        if better:
            checkpoint.save_best(self.checkpoints, step, teacher.weights(), about | {"score": score})
            self.best = score


def shown(domain: Domain, count: int) -> list[Tensor]:
    """The recordings that are always looked at, spread over the domain; no broken ones, training tells of them."""
    count = min(count, len(domain))
    samples = []
    for place in range(count):
        with suppress(RecordingError):
            samples.append(domain.sample(place * len(domain) // count, seed=place))
    return samples
