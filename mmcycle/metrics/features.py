"""Features that the tool teaches itself on the recordings of a run: any sensor, any size, nothing to download.

Four convolutions learn at once from which domain a window comes, how it was damaged (noise, blur, ...), and which
recording it shows whatever its light and contrast. The last is the content, what a translation must keep; the
statistics of all layers are the look, what it must change. Scores of networks of different `sha256` cannot be compared.
Letters: N samples, C channels, H W size, B batch, D numbers that describe one.
"""
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from einops import rearrange
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from mmcycle.errors import UserError
from mmcycle.files import write_atomic

WIDTHS = (16, 32, 48, 48)                   # channels of the layers, each of half the size of the one before
AXES = 16                                   # directions in which the look of real recordings differs most
PLACES = 4                                  # rows of the grid on which content is compared
BATCH, WINDOW, WIDEST = 8, 64, 128          # samples of each domain in a step; pixels of what is seen of each
TEMPERATURE = 0.1
KEY = "mmcycle"                             # of the file's header

Damage = Callable[[Tensor, torch.Generator], Tensor]


class Features(nn.Module):
    """A network that was taught by `learn`; describes samples (N, C, H, W) in [-1, 1], H and W 4 or more."""

    def __init__(self, channels: int, domains: int) -> None:
        super().__init__()
        sizes = (channels, *WIDTHS)
        self.layers = nn.ModuleList(nn.Conv2d(c, d, 3, stride=2) for c, d in zip(sizes, sizes[1:]))
        for layer in self.layers:
            nn.init.orthogonal_(layer.weight, gain=2**0.5)
            nn.init.zeros_(layer.bias)
        described = 2 * sum(WIDTHS)
        self.domain = nn.Linear(described, domains)
        self.damage = nn.Linear(described, len(DAMAGES))
        self.identity = nn.Conv2d(WIDTHS[-1], WIDTHS[-1], 1)
        self.register_buffer("centre", torch.zeros(described))
        self.register_buffer("deviation", torch.ones(described))
        self.register_buffer("axes", torch.zeros(described, AXES))

    @property
    def name(self) -> str:
        return f"own-conv-{self.layers[0].in_channels}x{WIDTHS[0]}"

    @property
    def sha256(self) -> str:
        """Of the weights, in hexadecimal."""
        parts = (value.detach().contiguous().numpy().tobytes() for value in self.state_dict().values())
        return hashlib.sha256(b"".join(parts)).hexdigest()

    @torch.no_grad()
    def look(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, D): mean and deviation of every channel of every layer, in typical deviations."""
        return torch.cat([(self._look(self._maps(part)) - self.centre) / self.deviation for part in x.split(BATCH)])

    @torch.no_grad()
    def axes_of(self, look: Tensor) -> Tensor:
        """What `look` gave -> (N, 16): few enough numbers for the covariances of some tens of samples."""
        return look @ self.axes

    @torch.no_grad()
    def content(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, D): what is where, on a grid of 4 rows."""
        return torch.cat([self._content(self._maps(part)[-1]) for part in x.split(BATCH)])

    def _maps(self, x: Tensor) -> list[Tensor]:
        maps = []
        for layer in self.layers:
            x = F.leaky_relu(layer(F.pad(x, (1, 1, 1, 1), mode="replicate")), 0.1)
            maps.append(x)
        return maps

    def _look(self, maps: list[Tensor]) -> Tensor:
        parts = [(x.mean(dim=(-2, -1)), (x.var(dim=(-2, -1), correction=0) + 1e-6).sqrt()) for x in maps]
        return torch.cat([part for both in parts for part in both], dim=1)

    def _content(self, top: Tensor) -> Tensor:
        wide = min(max(round(top.shape[-1] / top.shape[-2]), 1), 4)
        return F.adaptive_avg_pool2d(self.identity(top), (PLACES, wide * PLACES)).flatten(1)


def learn(domains: Sequence[Tensor], seed: int = 0, steps: int = 200) -> Features:
    """One or two sets of samples (N, C, H, W) of equal C -> their features; the same seed gives the same bits.

    Two sets are what one network can describe: domains of one sensor. AdamW, 2e-3 falling along a cosine.
    """
    if not domains or len({samples.shape[1] for samples in domains}) != 1 or min(map(len, domains)) < 2:
        raise UserError(f"features are learnt from sets of 2 samples or more, got {[tuple(x.shape) for x in domains]}")
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Features(domains[0].shape[1], len(domains))
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        _loss(network, domains, rng).backward()
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
    _find_axes(network.eval().requires_grad_(False), domains, rng)
    return network


def save(features: Features, path: Path, key: str) -> None:
    """Write safetensors; `key` says of what it was learnt."""
    weights = {name: value.contiguous() for name, value in features.state_dict().items()}
    write_atomic(path, lambda temporary: save_file(weights, temporary, {KEY: key}))


def load(path: Path, key: str) -> Features | None:
    """What `save` wrote; None where there is nothing, nothing whole, or what was learnt of something else."""
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get(KEY) != key:
                return None
            weights = {name: file.get_tensor(name) for name in file.keys()}
        network = Features(weights["layers.0.weight"].shape[1], len(weights["domain.weight"]))
        network.load_state_dict(weights)
    except (SafetensorError, OSError, KeyError, RuntimeError, IndexError):
        return None
    return network.eval().requires_grad_(False)


def key_of(*parts: object) -> str:
    """What decides the weights, as one line: equal parts, equal line."""
    shape = (WIDTHS, AXES, PLACES, BATCH, WINDOW, WIDEST, TEMPERATURE, [damage.__name__ for damage in DAMAGES])
    return hashlib.sha256(json.dumps([shape, parts], default=str).encode()).hexdigest()


def _loss(network: Features, domains: Sequence[Tensor], rng: torch.Generator) -> Tensor:
    """The three questions, asked of one batch of windows."""
    windows = torch.cat([_windows(samples, rng) for samples in domains])
    truth = torch.arange(len(domains)).repeat_interleave(BATCH)
    which = torch.randint(len(DAMAGES), (len(windows),), generator=rng)
    seen = torch.stack([DAMAGES[int(number)](x, rng) for number, x in zip(which, windows)])
    look = network._look(network._maps(seen))
    asked = F.cross_entropy(network.damage(look), which)
    if len(domains) > 1:
        untouched = which == 0
        asked = asked + F.cross_entropy(network.domain(look), truth) + (
            F.cross_entropy(network.domain(look[untouched]), truth[untouched]) if untouched.any() else 0
        )
    one, other = (
        F.normalize(network._content(network._maps(_in_other_light(windows, rng))[-1]), dim=1) for _ in range(2)
    )
    same = one @ other.T / TEMPERATURE
    return asked + F.cross_entropy(same, torch.arange(len(same)))


def _windows(samples: Tensor, rng: torch.Generator) -> Tensor:
    """(N, C, H, W) -> (B, C, h, w): windows of drawn samples, all at one place."""
    height, width = min(samples.shape[-2], WINDOW), min(samples.shape[-1], WIDEST)
    chosen = torch.randint(len(samples), (BATCH,), generator=rng)
    top = int(torch.randint(samples.shape[-2] - height + 1, (), generator=rng))
    left = int(torch.randint(samples.shape[-1] - width + 1, (), generator=rng))
    return samples[chosen, :, top : top + height, left : left + width]


def _in_other_light(x: Tensor, rng: torch.Generator) -> Tensor:
    """(B, C, H, W) with a gain, an offset for every channel, and noise, as another domain may show the same."""
    size = (len(x), x.shape[1], 1, 1)
    gain = 0.4 + 1.2 * torch.rand(len(x), 1, 1, 1, generator=rng)
    offset = 0.6 * torch.rand(size, generator=rng) - 0.3
    noise = 0.1 * torch.rand(len(x), 1, 1, 1, generator=rng) * torch.randn(x.shape, generator=rng)
    return (x * gain + offset + noise).clamp(-1, 1)


def _find_axes(network: Features, domains: Sequence[Tensor], rng: torch.Generator) -> None:
    """Typical values of the look, and the directions in which whole and damaged samples differ most."""
    whole = torch.cat([samples[: 8 * BATCH] for samples in domains])
    damaged = torch.stack([DAMAGES[1 + place % (len(DAMAGES) - 1)](x, rng) for place, x in enumerate(whole)])
    look = network.look(whole)
    network.centre.copy_(look.mean(dim=0))
    deviation = look.std(dim=0)
    network.deviation.copy_(deviation.clamp_min(0.01 * deviation.mean().item() + 1e-6))
    both = torch.cat([network.look(whole), network.look(damaged)]).double()
    directions = torch.linalg.svd(both - both.mean(dim=0), full_matrices=False).Vh[:AXES]
    network.axes.zero_()
    network.axes[:, : len(directions)] = directions.T.float()


def _untouched(x: Tensor, rng: torch.Generator) -> Tensor:
    return x


def _noisy(x: Tensor, rng: torch.Generator) -> Tensor:
    strength = 0.05 + 0.25 * torch.rand((), generator=rng)
    return (x + strength * torch.randn(x.shape, generator=rng)).clamp(-1, 1)


def _blurred(x: Tensor, rng: torch.Generator) -> Tensor:
    reach = int(torch.randint(1, 3, (), generator=rng))
    return F.avg_pool2d(F.pad(x[None], (reach,) * 4, mode="replicate"), 2 * reach + 1, stride=1)[0]


def _flattened(x: Tensor, rng: torch.Generator) -> Tensor:
    """Less contrast."""
    return torch.lerp(x.mean(dim=(-2, -1), keepdim=True).expand_as(x), x, 0.2 + 0.4 * torch.rand((), generator=rng))


def _patterned(x: Tensor, rng: torch.Generator) -> Tensor:
    """A faint chequered pattern, as transposed convolutions leave it."""
    rows, columns = (torch.arange(size) % 2 for size in x.shape[-2:])
    pattern = (rows[:, None] ^ columns).float() * 2 - 1
    return (x + (0.05 + 0.15 * torch.rand((), generator=rng)) * pattern).clamp(-1, 1)


def _torn(x: Tensor, rng: torch.Generator) -> Tensor:
    """Cut into bands that lie in another order: everything is there, nothing is where it belongs."""
    bands = 4 if x.shape[-1] >= 4 else 1
    width = x.shape[-1] // bands
    parts = rearrange(x[..., : bands * width], "c h (band w) -> band c h w", band=bands)
    parts = parts[torch.randperm(bands, generator=rng)]
    return torch.cat([rearrange(parts, "band c h w -> c h (band w)"), x[..., bands * width :]], dim=-1)


DAMAGES: tuple[Damage, ...] = (_untouched, _noisy, _blurred, _flattened, _patterned, _torn)
