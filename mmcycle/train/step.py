"""One optimiser step for the generators and one for the discriminators, and all the state that it changes."""
import copy

import torch
from torch import Tensor, nn

from mmcycle.config import Config
from mmcycle.core import schedule
from mmcycle.core.model import CycleModel
from mmcycle.core.replay import ReplayBuffer, restore_rng
from mmcycle.errors import UserError
from mmcycle.train.checkpoint import Checkpoint
from mmcycle.train.engine import Engine

Logged = dict[str, Tensor]


class Teacher:
    """Networks, optimisers, moving averages and replay buffers of one run, on one device."""

    def __init__(self, config: Config, engine: Engine, task: nn.Module | None = None):
        self.config, self.engine = config, engine
        torch.manual_seed(config.run.seed)              # every rank draws the same weights
        seed = config.run.seed * 1_000_003 + engine.rank
        self.model = _model(config, torch.Generator(engine.device).manual_seed(seed), task).to(engine.device)
        self.averages = nn.ModuleDict(copy.deepcopy(self.model.generators)).eval().requires_grad_(False)
        self.replay = {
            domain: ReplayBuffer(config.train.replay, getattr(config, domain).modality.shape, seed, engine.device)
            for domain in self.model.discriminators
        }
        lr, betas = config.train.lr, config.train.betas
        self.opt_gen = torch.optim.Adam(self.model.generator_parameters(), lr=lr, betas=betas, fused=True)
        self.opt_disc = torch.optim.Adam(self.model.discriminator_parameters(), lr=lr, betas=betas, fused=True)
        self.bad_in_a_row = torch.zeros((), device=engine.device)
        self.bad = torch.zeros((), device=engine.device)
        torch.manual_seed(seed)                         # and its own dropout, if a modality's networks have any

    def step(self, step: int, real_a: Tensor, real_b: Tensor, known: Tensor | None = None) -> tuple[Logged, Logged]:
        """(B, *shape_a), (B, *shape_b) -> the weighted losses and the mean scores by name, left on the device."""
        config, model = self.config, self.model
        self._set_rates(step)
        real_a, real_b = (x.to(self.engine.device, non_blocking=True) for x in (real_a, real_b))
        known = None if known is None else known.to(self.engine.device, non_blocking=True)
        fakes: dict[str, Tensor] = {}
        losses: Logged = {}
        scores: Logged = {}

        # Teach the generators, one leg of the journey at a time. The discriminators only judge.
        identity = schedule.identity_weight(step, config.loss, config.train.steps)
        with model.only_judging():
            legs = model.legs(real_a, real_b, identity, known)
            while True:
                with self.engine.autocast():
                    leg = next(legs, None)
                if leg is None:
                    break
                torch.stack(list(leg.terms.values())).sum().backward()
                losses |= {name: term.detach() for name, term in leg.terms.items()}
                if leg.fake is not None:
                    fakes[leg.domain] = leg.fake
        bad_gen = self._descend(self.opt_gen, torch.stack(list(losses.values())).sum())

        # Teach the discriminators, on a mix of new fakes and remembered ones.
        judged: Logged = {}
        for domain, real, source in (("a", real_a, real_b), ("b", real_b, real_a)):
            if domain in fakes:
                fake = self.replay[domain](fakes[domain])
                with self.engine.autocast():
                    terms, marks = model.discriminator_terms(domain, real, fake, step, source)
                torch.stack(list(terms.values())).sum().backward()
                judged |= {name: term.detach() for name, term in terms.items()}
                scores |= marks
        bad_disc = self._descend(self.opt_disc, torch.stack(list(judged.values())).sum())

        bad = (bad_gen | bad_disc).float()
        self.bad_in_a_row, self.bad = (self.bad_in_a_row + 1) * bad, self.bad + bad
        self._remember(step)
        return losses | judged, scores

    def state(self, step: int) -> Checkpoint:
        """Everything, after `step` steps."""
        return Checkpoint(
            step=step,
            networks=_plain(self.model.state_dict()),
            averages=self.weights(),
            optimisers=_plain(_flat(self.opt_gen, "gen") | _flat(self.opt_disc, "disc")),
            rank=_plain(self._rank_state()),
            state={},
        )

    def weights(self) -> dict[str, Tensor]:
        """The moving averages of the generators, on the host."""
        return _plain(self.averages.state_dict())

    def restore(self, checkpoint: Checkpoint) -> None:
        """The opposite of `state`.

        The state of a random generator of another kind of device means nothing here; the generator then stays as the
        seed made it: a run may go on there, but not bit for bit.
        """
        self.model.load_state_dict(checkpoint.networks)
        self.averages.load_state_dict(checkpoint.averages)
        _unflat(self.opt_gen, "gen", checkpoint.optimisers)
        _unflat(self.opt_disc, "disc", checkpoint.optimisers)
        own = checkpoint.rank
        for domain, buffer in self.replay.items():
            buffer.load_state_dict({key: own[f"replay_{domain}.{key}"] for key in ("samples", "count", "rng")})
        restore_rng(self.model.rng, own["rng.model"])
        torch.set_rng_state(own["rng.torch"])
        if self.engine.device.type == "cuda" and "rng.cuda" in own:
            torch.cuda.set_rng_state(own["rng.cuda"], self.engine.device)
        self.bad_in_a_row.copy_(own["bad_in_a_row"])
        self.bad.copy_(own["bad"])

    def _rank_state(self) -> dict[str, Tensor]:
        replay = {
            f"replay_{domain}.{key}": value
            for domain, buffer in self.replay.items() for key, value in buffer.state_dict().items()
        }
        random = {"rng.model": self.model.rng.get_state(), "rng.torch": torch.get_rng_state()}
        if self.engine.device.type == "cuda":
            random["rng.cuda"] = torch.cuda.get_rng_state(self.engine.device)
        return replay | random | {"bad_in_a_row": self.bad_in_a_row, "bad": self.bad}

    def _set_rates(self, step: int) -> None:
        descent = self.config.train
        share = schedule.rate(step, descent)
        for optimiser, lr in ((self.opt_gen, descent.lr), (self.opt_disc, descent.discriminator_lr or descent.lr)):
            for group in optimiser.param_groups:
                group["lr"] = lr * share

    def _descend(self, optimiser: torch.optim.Adam, total: Tensor) -> Tensor:
        """Average over ranks, clip, step -> whether anything was not finite: then nothing is changed.

        The host is not asked: the device decides.
        """
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        self.engine.average_gradients(parameters)
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        bad = ~(norm.isfinite() & self.engine.mean(total).isfinite())
        if self.config.train.clip:
            nn.utils.clip_grads_with_norm_(parameters, self.config.train.clip, norm.nan_to_num(nan=1.0, posinf=1.0))
        optimiser.found_inf = bad.float()               # Adam(fused=True) leaves everything as it is where this is 1
        optimiser.step()
        optimiser.zero_grad()
        return bad

    @torch.no_grad()
    def _remember(self, step: int) -> None:
        """Move the averages a little towards the generators; buffers, which own networks may have, are copied."""
        away = 1 - schedule.ema_decay(step, self.config.train.ema)
        current = nn.ModuleDict(self.model.generators)
        torch._foreach_lerp_(list(self.averages.parameters()), list(current.parameters()), away)
        for average, buffer in zip(self.averages.buffers(), current.buffers(), strict=True):
            average.copy_(buffer)


def _model(config: Config, rng: torch.Generator, task: nn.Module | None) -> CycleModel:
    """The networks; what the core refuses is a mistake in the config."""
    try:
        return CycleModel(
            config.a.modality, config.b.modality, config.model, config.loss, rng, config.train.diff_augment, task
        )
    except ValueError as error:
        raise UserError(f"{config.name}: {error}") from error


def _flat(optimiser: torch.optim.Optimizer, name: str) -> dict[str, Tensor]:
    state = optimiser.state_dict()["state"]
    return {f"{name}.{index}.{key}": value for index, moments in state.items() for key, value in moments.items()}


def _unflat(optimiser: torch.optim.Optimizer, name: str, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for place, value in tensors.items():
        owner, index, key = place.split(".")
        if owner == name:
            state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the host, none sharing memory with another."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
