"""The training loop: unpaired batches in, a run folder out, resumed exactly after any kind of end.

RUN/: config.yaml  log.jsonl  checkpoints/  samples/  report.html
"""
import platform
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmcycle import __version__
from mmcycle.config import Config, by_partners_alone, differing_keys, from_dict, save_config, to_dict
from mmcycle.core import schedule
from mmcycle.data.partners import known_partners, told_partners
from mmcycle.data.samplers import Batch, Domain, unpaired_batches
from mmcycle.errors import MmcycleError, UserError
from mmcycle.files import remove_leftovers
from mmcycle.interruption import signals
from mmcycle.lock import held
from mmcycle.strict_yaml import read_yaml
from mmcycle.train import checkpoint
from mmcycle.train.engine import Engine
from mmcycle.train.log import Log
from mmcycle.train.progress import Progress
from mmcycle.train.samples import write_samples
from mmcycle.train.step import Teacher
from mmcycle.train.watch import Watch, shown

MAY_DIFFER = ("run.accelerator", "run.devices", "run.log_every", "run.sample_every", "run.evaluate_every",
              "run.save_every", "run.save_minutes", "run.keep", "data.workers", "data.cache_mib")   # nothing learned
SHOWN = 4                                                       # recordings of each domain in samples/


class Ended(NamedTuple):
    """How a run ended: after how many steps, and the signal that ended it early, if one did."""

    run: Path
    step: int
    signal: int | None


def train(config: Config, out: Path, *, fresh: bool = False) -> Ended:
    """Train, or go on with the run in `out`; UserError when `out` holds a run of another config, unless `fresh`."""
    engine = Engine(config.run)
    domains = {key: open_domain(config, key) for key in ("a", "b")}
    if not engine.leads:
        return _train(config, out, fresh, engine, domains)
    _refuse_what_is_no_run(out)         # before the lock: a refused call leaves nothing behind, in nobody's folder
    with held(out):
        return _train(config, out, fresh, engine, domains)


def _train(config: Config, out: Path, fresh: bool, engine: Engine, domains: dict[str, Domain]) -> Ended:
    if engine.leads:
        _prepare(config, out, fresh)
    engine.wait()
    teacher = Teacher(config, engine, task_network(config))
    log, progress = Log(out / "log.jsonl"), Progress(config.train.steps, quiet=not engine.leads)
    step = _resume(teacher, out, log, progress, engine)
    if config.run.compile:
        for network in (*teacher.model.generators.values(), *teacher.model.discriminators.values()):
            network.compile()
    begun, watch = _Clock(step), Watch(config, domains, out, engine.device)
    if engine.leads:
        _announce(log, config, engine, step, domains, progress)

    batches = batches_of(config, domains, start=step, steps=config.train.steps, rank=engine.rank, world=engine.world)
    ended = False
    with signals() as received, closing(progress):
        for batch in batches:
            losses, scores = teacher.step(step, batch.a, batch.b, batch.known)
            step += 1
            for path, why in batch.bad:
                log.write({"event": "bad recording", "step": step, "path": path, "why": why})
            if step % config.run.log_every == 0 or step == config.train.steps:
                _write_row(log, step, losses, scores, teacher, begun, progress, watch)
                _stop_if_broken(teacher, step)
            if engine.leads and (step % config.run.sample_every == 0 or step == config.train.steps):
                _show(teacher, domains, out, step)
            if engine.leads and watch.to_evaluate(step):
                watch.evaluate(teacher, step, _about(teacher), progress)
            ended = _ended(received, step, engine)
            due = step % config.run.save_every == 0 or step == config.train.steps or ended
            if due or (engine.world == 1 and begun.minutes_since_save() >= config.run.save_minutes):
                _save(teacher, out, step)
                begun.saved()
            if ended:
                break
    number = (received or [signal.SIGTERM])[0] if ended else None       # SIGTERM: another rank received one
    return Ended(out, step, number)


class _Clock:
    """When the loop began, and when it last saved."""

    def __init__(self, step: int):
        self.first_step, self.begun = step, time.monotonic()
        self.last_save = self.begun

    def seconds_per_step(self, step: int) -> float:
        return (time.monotonic() - self.begun) / max(step - self.first_step, 1)

    def minutes_since_save(self) -> float:
        return (time.monotonic() - self.last_save) / 60

    def saved(self) -> None:
        self.last_save = time.monotonic()


def open_domain(config: Config, key: str) -> Domain:
    """The recordings of one domain; UserError when its root is not set."""
    domain = getattr(config, key)
    if domain.root is None:
        raise UserError(
            f"{key}.root is not set: name the folder of {domain.name} recordings, such as {key}.root=data/{domain.name}"
        )
    return Domain(domain.root, domain.modality, config.data.cache_mib * 2**20)


def batches_of(
    config: Config, domains: dict[str, Domain], *, start: int, steps: int, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """What the networks are taught on from one step to another."""
    data = config.data
    return unpaired_batches(
        domains["a"], domains["b"], batch_size=config.train.batch_size, seed=config.run.seed, start=start, steps=steps,
        rank=rank, world=world, workers=data.workers, shared_crop=data.shared_crop, on_error=data.on_error,
        paired=data.paired, paired_fraction=data.paired_fraction, pairs=data.pairs,
        known_only=by_partners_alone(config),
    )


def _refuse_what_is_no_run(out: Path) -> None:
    if not out.is_dir() or (out / "config.yaml").exists():
        return
    if any(child.name != ".lock" and not child.name.startswith(".tmp-") for child in out.iterdir()):
        raise UserError(f"{out} is not empty and holds no run (no config.yaml): choose another --out")


def _prepare(config: Config, out: Path, fresh: bool) -> None:
    """Make `out` a folder for this config, or refuse when it holds a run of another one."""
    known = out / "config.yaml"
    if fresh:
        for name in ("checkpoints", "samples"):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in ("log.jsonl", "report.html", "config.yaml"):    # the config last: till then it is known as a run
            (out / name).unlink(missing_ok=True)
    if known.exists() and any((out / "checkpoints").glob("step-*")):    # before the first there is nothing to mix up
        begun = from_dict(read_yaml(known)[0], str(known), run=out)
        changes = [c for c in differing_keys(begun, config) if c[0] not in MAY_DIFFER]
        if changes:
            listed = "; ".join(f"{key} was {old!r}, now {new!r}" for key, old, new in changes[:8])
            raise UserError(
                f"{out} holds a run of another config: {listed}. Choose another --out, or --fresh to begin again there"
            )
    save_config(config, known)
    for folder in (out, out / "checkpoints", out / "samples"):
        remove_leftovers(folder)


def _resume(teacher: Teacher, out: Path, log: Log, progress: Progress, engine: Engine) -> int:
    """Restore the newest good checkpoint, if there is one -> steps done."""
    path, damaged = checkpoint.newest_good(out / "checkpoints")
    for sentence in damaged:
        progress.say(f"passed over a checkpoint: {sentence}")
    if path is None:
        if damaged:
            raise UserError(f"{out}/checkpoints holds no checkpoint that is whole; begin again with --fresh")
        if engine.leads:
            log.rewind(0)
        return 0
    saved = checkpoint.load(path, engine.rank, engine.world)
    try:
        teacher.restore(saved)
    except (RuntimeError, KeyError, ValueError) as error:
        why = " ".join(str(error).split())[:300]
        raise UserError(
            f"{path} does not fit the networks of this config ({why}); were they changed? Begin again with --fresh"
        ) from error
    if engine.leads:
        log.rewind(saved.step)
    return saved.step


def _announce(
    log: Log, config: Config, engine: Engine, step: int, domains: dict[str, Domain], progress: Progress
) -> None:
    log.write({
        "event": "resume" if step else "start", "step": step, "device": str(engine.device), "ranks": engine.world,
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"mmcycle": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "recordings": {key: len(domain) for key, domain in domains.items()},
    })
    names = f"{config.a.name} ({len(domains['a'])}) <-> {config.b.name} ({len(domains['b'])})"
    begun = f"resumed at step {step}" if step else "a new run"
    progress.say(f"{config.name}: {names} on {engine.device}, {config.run.precision}, {begun}")
    for domain in domains.values():
        for warning in domain.warnings:
            progress.say(f"note: {warning}")
    if config.data.paired:
        a, b, data = domains["a"], domains["b"], config.data
        known = known_partners(a, b, data.paired_fraction, config.run.seed, data.pairs)
        for note in told_partners(a, b, known, by_partners_alone(config)):
            progress.say(f"note: {note}")


def _write_row(
    log: Log, step: int, losses: dict[str, Tensor], scores: dict[str, Tensor], teacher: Teacher, clock: _Clock,
    progress: Progress, watch: Watch,
) -> None:
    engine, descent = teacher.engine, teacher.config.train
    losses = {name: engine.mean(value).item() for name, value in losses.items()}
    scores = {name: engine.mean(value).item() for name, value in scores.items()}
    if engine.leads:
        pace, found = clock.seconds_per_step(step), watch.examined(teacher, step)
        log.write({
            "step": step, "time": time.monotonic() - clock.begun, "lr": descent.lr * schedule.rate(step - 1, descent),
            "seconds_per_step": pace, "bad_steps": int(teacher.bad.item()), "losses": losses, "scores": scores,
        } | ({"health": found} if found else {}))
        progress.show(step, pace, losses)
        watch.warn(step, found, progress)


def _stop_if_broken(teacher: Teacher, step: int) -> None:
    in_a_row = int(teacher.bad_in_a_row.item())
    if in_a_row >= teacher.config.train.max_bad_steps:
        raise MmcycleError(
            f"the losses of the last {in_a_row} steps (up to step {step}) were not finite; no weight was changed by "
            "them. Lower train.lr, set train.clip=1, or use run.precision=32-true, and start again"
        )


def _show(teacher: Teacher, domains: dict[str, Domain], out: Path, step: int) -> None:
    real = {key: shown(domain, SHOWN) for key, domain in domains.items()}
    if not (real["a"] and real["b"]):               # all of them broken, and data.on_error is "skip"
        return
    real = {key: torch.stack(samples).to(teacher.engine.device) for key, samples in real.items()}
    config = teacher.config
    path = out / "samples" / f"{checkpoint.name_of(step)}.png"
    write_samples(path, teacher.averages, config.a.modality, config.b.modality, real["a"], real["b"])


def _save(teacher: Teacher, out: Path, step: int) -> None:
    state, engine = replace(teacher.state(step), state=_about(teacher)), teacher.engine
    checkpoint.save(
        out / "checkpoints", state, rank=engine.rank, world=engine.world, keep=teacher.config.run.keep, wait=engine.wait
    )


def _about(teacher: Teacher) -> dict[str, Any]:
    """What every checkpoint says of the run."""
    versions = {"mmcycle": __version__, "torch": torch.__version__}
    return {"config": to_dict(teacher.config), "versions": versions}


def _ended(received: list[int], step: int, engine: Engine) -> bool:
    """Ranks must agree to stop; asking costs a message, so several ask each other only now and then."""
    if engine.world == 1:
        return bool(received)
    return step % 10 == 0 and engine.any_rank(bool(received))


def task_network(config: Config) -> nn.Module | None:
    """loss.task_network "package.module:function" -> the network that the function returns."""
    name = config.loss.task_network
    if not name:
        return None
    module, _, attribute = name.partition(":")
    try:
        network = getattr(import_module(module), attribute)()
    except Exception as error:          # a function of the user's may fail in any way
        raise UserError(f"loss.task_network {name!r} could not be built: {error}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"loss.task_network {name!r} returned {type(network).__name__}, expected a torch.nn.Module")
    return network
