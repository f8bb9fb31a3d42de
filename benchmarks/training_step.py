"""Seconds a step and saved activations: the textbook step against ours, in turn, in one process, on random data.

    python benchmarks/training_step.py [--size 128] [--batch 1] [--rounds 5] [--threads 2] [--compile]
"""
import argparse
import statistics
import time
from collections.abc import Callable

import torch
from textbook import TextbookStep
from torch import Tensor, nn

from mmcycle.config import Config, from_dict
from mmcycle.train.engine import Engine
from mmcycle.train.step import Teacher


def config(size: int, batch: int, generator: str, precision: str) -> Config:
    image = {"modality": "image", "size": size}
    return from_dict({
        "name": "benchmark", "a": {"name": "a", **image}, "b": {"name": "b", **image},
        "model": {"generator": generator},
        "train": {"batch_size": batch, "steps": 10_000}, "run": {"precision": precision},
    })


def seconds(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def saved_mib(work: Callable[[], Tensor | None]) -> float:
    """The most bytes of activations that the graph holds for the way back at one time; each storage counts once."""
    held: dict[int, int] = {}
    peak = 0

    class Token:
        def __init__(self, tensor: Tensor):
            nonlocal peak
            self.tensor, self.key = tensor, tensor.untyped_storage().data_ptr()
            counts[self.key] = counts.get(self.key, 0) + 1
            held[self.key] = 0 if isinstance(tensor, nn.Parameter) else tensor.untyped_storage().nbytes()
            peak = max(peak, sum(held.values()))

        def __del__(self) -> None:
            counts[self.key] -= 1
            if not counts[self.key]:
                held.pop(self.key, None)

    counts: dict[int, int] = {}
    with torch.autograd.graph.saved_tensors_hooks(Token, lambda token: token.tensor):
        work()
    return peak / 2**20


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--size", type=int, default=128)
    options.add_argument("--batch", type=int, default=1)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--compile", action="store_true")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)

    teachers, steps = {}, {}
    for name, generator, precision in (
        ("ours, ResNet-9, float32", "resnet", "32-true"), ("ours, ResNet-9, bf16", "resnet", "bf16-mixed"),
        ("ours, light, float32", "light", "32-true"), ("ours, light, bf16", "light", "bf16-mixed"),
    ):
        settings = config(chosen.size, chosen.batch, generator, precision)
        teachers[name] = Teacher(settings, Engine(settings.run))
        if chosen.compile:
            for network in (*teachers[name].model.generators.values(), *teachers[name].model.discriminators.values()):
                network.compile()
    settings = config(chosen.size, chosen.batch, "resnet", "32-true")
    textbook = TextbookStep(Teacher(settings, Engine(settings.run)).model)
    device = next(textbook.model.parameters()).device
    real_a, real_b = (torch.rand(chosen.batch, 3, chosen.size, chosen.size, device=device) * 2 - 1 for _ in range(2))
    steps["textbook, ResNet-9, float32"] = lambda: textbook(real_a, real_b)
    for name, teacher in teachers.items():
        steps[name] = lambda teacher=teacher: teacher.step(0, real_a, real_b)

    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(chosen.rounds + 1):             # in turn: a busy machine slows all alike; the first warms up
        for name, step in steps.items():
            spent = seconds(step)
            if round_:
                times[name].append(spent)

    machine = f"{device}, {chosen.threads} threads, torch {torch.__version__}"
    print(f"{chosen.size}x{chosen.size}, batch {chosen.batch}, {machine}, {chosen.rounds} rounds")
    print(f"{'step':<28} {'seconds (min - max)':>26} {'times faster':>13}")
    reference = statistics.median(times["textbook, ResNet-9, float32"])
    for name, spent in times.items():
        middle = statistics.median(spent)
        print(f"{name:<28} {middle:>8.3f} ({min(spent):.3f} - {max(spent):.3f}) {reference / middle:>13.2f}")

    joint = saved_mib(lambda: textbook.generator_loss(real_a, real_b)[0].backward())
    ours = saved_mib(lambda: teachers["ours, ResNet-9, float32"].step(0, real_a, real_b))
    print(f"saved activations: joint graph {joint:.0f} MiB, ours leg by leg {ours:.0f} MiB ({ours / joint:.0%})")


if __name__ == "__main__":
    main()
