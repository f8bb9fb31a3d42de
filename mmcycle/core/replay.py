"""A memory of past fakes, so that discriminators do not chase the newest ones (Shrivastava et al. 2017, sec. 2.3)."""
import torch
from torch import Tensor


class ReplayBuffer:
    """A ring of `capacity` samples on the training device with a random generator of its own.

    While it fills, fakes pass through and are remembered. Once full, each fake is, with probability 1/2, exchanged
    for a remembered one. Capacity 0 remembers nothing. A sample that is not finite is never given back later: where one
    came while the buffer filled, its place is free for the next.
    """

    def __init__(self, capacity: int, shape: tuple[int, ...], seed: int, device: torch.device | str = "cpu"):
        self.samples = torch.zeros(capacity, *shape, device=device)
        self.count = 0
        self.rng = torch.Generator(device=device).manual_seed(seed)

    def __call__(self, fakes: Tensor) -> Tensor:
        """(B, *shape) -> (B, *shape), detached, float32."""
        fakes = fakes.detach().float()
        capacity = len(self.samples)
        filling = min(len(fakes), capacity - self.count)
        self.samples[self.count : self.count + filling] = fakes[:filling]
        self.count += filling
        exchanged = self._exchange(fakes[filling : filling + capacity])
        return torch.cat([fakes[:filling], exchanged, fakes[filling + capacity :]])

    def _exchange(self, fakes: Tensor) -> Tensor:
        if len(fakes) == 0:
            return fakes
        device = self.samples.device
        slots = torch.randperm(len(self.samples), generator=self.rng, device=device)[: len(fakes)]
        heads = torch.rand(len(fakes), generator=self.rng, device=device) < 0.5
        old = self.samples[slots]
        good, free = _finite(fakes), ~_finite(old)
        self.samples[slots] = torch.where(_beside(good & (heads | free), fakes), fakes, old)
        return torch.where(_beside(good & heads & ~free, fakes), old, fakes)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that decides what comes next."""
        return {"samples": self.samples, "count": torch.tensor(self.count), "rng": self.rng.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.samples.copy_(state["samples"])
        self.count = int(state["count"])
        restore_rng(self.rng, state["rng"])


def restore_rng(rng: torch.Generator, state: Tensor) -> None:
    """Go on where `state` was taken; the state of another kind of device has another length, and is left alone."""
    if state.numel() == rng.get_state().numel():
        rng.set_state(state.cpu())


def _finite(x: Tensor) -> Tensor:
    """(B, *shape) -> (B,)"""
    return x.isfinite().flatten(1).all(1)


def _beside(flags: Tensor, x: Tensor) -> Tensor:
    """(B,) -> (B, 1, ...) that broadcasts against x."""
    return flags.view(-1, *[1] * (x.ndim - 1))
