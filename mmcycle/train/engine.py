"""Device, precision and ranks: the few things asked of Lightning Fabric, in one place so that it can be replaced."""
from contextlib import AbstractContextManager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from mmcycle.config import Run


class Engine:
    """One process of a run: alone, or one of several started by `torchrun` or by Fabric itself."""

    def __init__(self, run: Run):
        torch.set_float32_matmul_precision("high")
        devices = run.devices if run.devices != "auto" or torch.cuda.is_available() else 1
        self.fabric = Fabric(accelerator=run.accelerator, devices=devices, precision=run.precision, strategy=_strategy(devices))
        self.fabric.launch()
        self.device: torch.device = self.fabric.device
        self.rank: int = self.fabric.global_rank
        self.world: int = self.fabric.world_size

    @property
    def leads(self) -> bool:
        """Rank 0 writes what is written once."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[Any]:
        """Forward passes inside run in the run's precision; backward passes belong outside."""
        return self.fabric.autocast()

    def average_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Make every rank's gradients the mean over ranks, in one message."""
        if self.world == 1:
            return
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = self.fabric.all_reduce(torch.cat([g.flatten() for g in gradients]), reduce_op="mean")
        for parameter, gradient in zip(parameters, flat.split([p.numel() for p in parameters])):
            parameter.grad = gradient.view_as(parameter)

    def any_rank(self, claim: bool) -> bool:
        """True when the claim holds on at least one rank."""
        if self.world == 1:
            return claim
        return bool(self.fabric.all_reduce(torch.tensor(float(claim), device=self.device), reduce_op="sum") > 0)

    def mean(self, value: Tensor) -> Tensor:
        """The mean over ranks, for the log."""
        return value if self.world == 1 else self.fabric.all_reduce(value, reduce_op="mean")

    def wait(self) -> None:
        """Let every rank arrive here."""
        self.fabric.barrier()


def _strategy(devices: int | str) -> str:
    return "auto" if devices == 1 else "ddp"
