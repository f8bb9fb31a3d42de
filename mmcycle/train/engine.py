"""Device, precision and ranks: the few things asked of Lightning Fabric, in one place so that it can be replaced."""
import logging
import os
from contextlib import AbstractContextManager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from mmcycle.config import Run
from mmcycle.errors import UserError


class Engine:
    """One process of a run: alone, or one of several started by `torchrun` or by Fabric itself."""

    def __init__(self, run: Run):
        torch.set_float32_matmul_precision("high")
        logging.getLogger("lightning.fabric").setLevel(logging.WARNING)     # it announces what the config says already
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        _check_accelerator(run)
        devices, machines = _processes(run)
        strategy = "auto" if (devices, machines) == (1, 1) else "ddp"
        self.fabric = Fabric(
            accelerator=run.accelerator, devices=devices, num_nodes=machines, precision=run.precision, strategy=strategy
        )
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


def _check_accelerator(run: Run) -> None:
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if run.accelerator == "cuda" and not found:
        raise UserError(
            "run.accelerator is 'cuda', but torch finds no CUDA device here; use run.accelerator=auto, "
            "and see `mmcycle doctor`"
        )
    told = "auto" if _started_by_torchrun() else run.devices
    if found and run.accelerator != "cpu" and told != "auto" and told > found:
        raise UserError(
            f"run.devices is {run.devices}, but this machine has {found} CUDA devices; "
            "use run.devices=auto for all of them"
        )


def _processes(run: Run) -> tuple[int, int]:
    """How many on each machine, and how many machines; torchrun has decided both where it started us."""
    if _started_by_torchrun():
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        return here, int(os.environ["WORLD_SIZE"]) // here
    if run.accelerator == "cpu" or not torch.cuda.is_available():
        wanted, cores = (1 if run.devices == "auto" else run.devices), os.cpu_count() or 1
        if wanted > max(cores, 2):
            raise UserError(f"run.devices={wanted}: on the CPU each is a process, and this machine has {cores} cores")
        return wanted, 1
    return (torch.cuda.device_count() if run.devices == "auto" else run.devices), 1      # one GPU needs no ranks


def _started_by_torchrun() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()
