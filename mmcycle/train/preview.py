"""What a run would cost: a few real steps, measured, and nothing written."""
import resource
import time

import torch

from mmcycle.config import Config
from mmcycle.data.samplers import Domain
from mmcycle.train.engine import Engine
from mmcycle.train.step import Teacher
from mmcycle.train.trainer import batches_of, open_domain, task_network

WARM_UP, MEASURED = 2, 5            # steps


def preview(config: Config) -> list[str]:
    """Lines for a person: recordings, shapes, parameters, seconds a step, peak memory, time for the whole run."""
    engine = Engine(config.run)
    domains = {key: open_domain(config, key) for key in ("a", "b")}
    teacher = Teacher(config, engine, task_network(config))
    times = []
    batches = batches_of(config, domains, start=0, steps=WARM_UP + MEASURED)
    for step, batch in enumerate(batches):
        begun = time.perf_counter()
        teacher.step(step, batch.a, batch.b, batch.known)
        if engine.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    pace = sorted(times[WARM_UP:])[MEASURED // 2]
    return [
        *(_recordings(f"{key} {getattr(config, key).name}", domain) for key, domain in domains.items()),
        *(f"generator {name}: {_millions(gen)}" for name, gen in teacher.model.generators.items()),
        *(f"discriminator {name}: {_millions(disc)}" for name, disc in teacher.model.discriminators.items()),
        f"{engine.device}, {config.run.precision}: {pace:.2f} s a step, {_peak(engine)}",
        f"{config.train.steps} steps: about {pace * config.train.steps / 3600:.1f} hours",
    ]


def _recordings(name: str, domain: Domain) -> str:
    return f"{name}: {len(domain)} recordings, crops {tuple(domain.modality.shape)}"


def _millions(network: torch.nn.Module) -> str:
    return f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters"


def _peak(engine: Engine) -> str:
    if engine.device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB on the device"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB of memory"
