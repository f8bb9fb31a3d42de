"""One trained direction, applied to whole recordings of any size: padded to the network's stride, tiled where large.

    night = Translator.load(Path("runs/day_to_night"), "ab")
    picture = night(night.source.load(Path("day.jpg")))
"""
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mmcycle.config import Config
from mmcycle.core import nets
from mmcycle.core.bilateral import Window
from mmcycle.core.model import generator
from mmcycle.errors import UserError
from mmcycle.generate.tiles import ALIGNMENT, translate_tiled
from mmcycle.generate.weights import Which, digest, fetched, read_weights
from mmcycle.modality import Modality, grow

Direction = Literal["ab", "ba"]
STRIP = 2**20                                       # pixels that are recoloured at a time


class Translation(NamedTuple):
    """A recording of the target, and what is known of how it was made: name with unit -> number ("snr_db").

    samples  for measuring: source and translation in [-1, 1], (C, H, W) and (C', H', W'), made when asked for
    """

    raw: Any
    facts: dict[str, float]
    samples: Callable[[], tuple[Tensor, Tensor]] | None = None


class Translator:
    """Recordings of `source` -> recordings of `target`; no state between calls.

    `stochastic` models translate one recording in many ways: the seed chooses, the same one always the same way.
    """

    def __init__(
        self, config: Config, direction: Direction, weights: dict[str, Tensor], *, run: str = "", device: str = "auto",
        precision: Literal["32", "bf16"] = "32", tile: int = 1024, overlap: int = 128,
    ):
        """`tile` and `overlap` are pixels: a recording of more than tile x tile is translated in tiles of that side."""
        if not 0 <= overlap <= tile // 2 or tile < 4 * ALIGNMENT:
            raise UserError(
                f"tile {tile} with overlap {overlap} is not possible: tile is {4 * ALIGNMENT} or more, "
                "overlap at most half of it"
            )
        self.config, self.direction, self.run = config, direction, run
        domains = {"a": config.a, "b": config.b}
        self.source: Modality = domains[direction[0]].modality
        self.target: Modality = domains[direction[1]].modality
        self.device = torch.device(device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
        self.precision, self.tile, self.overlap = precision, tile, overlap
        self.sha256 = digest(weights)
        try:
            self.generator = generator(self.source, self.target, config.model)
            self.generator.load_state_dict(weights)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{run or 'the model'}: its weights do not fit its config: {error}") from error
        broken = next((name for name, value in weights.items() if not value.isfinite().all()), None)
        if broken:                      # it would write noise, or black, without a word
            raise UserError(
                f"{run or 'the model'}: its weights hold NaN or infinity ({broken}); "
                "take another checkpoint or train anew"
            )
        self.generator.eval().requires_grad_(False).to(self.device)

    @classmethod
    def load(
        cls, run: Path, direction: Direction = "ab", *, which: Which = "last", device: str = "auto",
        precision: Literal["32", "bf16"] = "32", tile: int = 1024, overlap: int = 128,
    ) -> "Translator":
        """The moving averages of a run folder, or what `mmcycle export --to safetensors` or `--to hub` made of one.

        which  the newest good checkpoint, or the best one by the score of `mmcycle.train.validation`; an exported
               model holds one
        """
        config, weights = read_weights(run, direction, which)
        return cls(
            config, direction, weights, run=run.name, device=device, precision=precision, tile=tile, overlap=overlap
        )

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, direction: Direction = "ab", revision: str | None = None, device: str = "auto",
    ) -> "Translator":
        """What `load` reads, or a model of the Hugging Face Hub, "user/name", at a branch, tag or commit.

        Of the Hub, two files are fetched and kept in its own cache: tensors and plain JSON. Offline, the cache is used.
        """
        here = Path(source)
        if here.exists() and revision is not None:
            raise UserError(f"{source} is here, so it has no revision {revision!r}; leave it out")
        if here.exists():
            return cls.load(here, direction, device=device)
        made = cls.load(fetched(str(source), revision), direction, device=device)
        made.run = str(source)          # its folder is named after a commit
        return made

    def __call__(self, raw: Any, strength: float = 1.0, seed: int = 0) -> Any:
        """One recording in native form -> its translation in the target's native form, at its own size.

        strength in [0, 1] goes only part of the way; it needs domains of one shape. seed matters to `stochastic` models.
        """
        return self.perform(raw, strength, seed).raw

    @torch.inference_mode()
    def perform(self, raw: Any, strength: float = 1.0, seed: int = 0) -> Translation:
        """The same, with what is known of how it was made."""
        x, context = self.source.to_tensor(raw)
        if self.generator.head is None:
            same = type(self.source) is type(self.target)
            full = self.source.finest(raw) if self.generator.recolours else None
            if full is not None:
                y = self._recoloured(x, full, strength)
                return Translation(self.target.from_tensor(y, context), {}, lambda: (full, y))
            y = self.translate(x, strength)
            return Translation(self.target.from_tensor(y, context if same else None), {}, lambda: (x, y))
        rng = torch.Generator().manual_seed(seed)
        made, facts = self.target.carry_out(self._plan(x, strength, rng), context, rng)
        return Translation(made, facts, lambda: (x, self.target.to_tensor(made)[0]))

    @torch.inference_mode()
    def translate(self, x: Tensor, strength: float = 1.0, seed: int = 0) -> Tensor:
        """(C, H, W) -> (C', H', W') in [-1, 1], on the CPU; H' W' are H W where the domains share one grid."""
        if self.generator.head is not None:
            rng = torch.Generator().manual_seed(seed)
            plan = self._plan(x, strength, rng).to(self.device)
            return self.generator.head(x[None].to(self.device), plan[None], rng)[0].float().cpu()
        self._check_strength(strength)
        y = self._decoded(x)
        return torch.lerp(x, y, strength) if strength != 1 else y

    @property
    def stochastic(self) -> bool:
        return self.generator.head is not None and self.generator.head.random

    def _plan(self, x: Tensor, strength: float, rng: torch.Generator) -> Tensor:
        """What is to happen to a recording, (K, H, W) on the CPU."""
        self._check_strength(strength)
        head, parts = self.generator.head, self._decoded(x)
        style = head.draw(1, rng)
        return head.plan(x[None].to(self.device), parts[None].to(self.device), style, strength)[0].float().cpu()

    def _check_strength(self, strength: float) -> None:
        if not 0 <= strength <= 1 or (strength != 1 and self.source.shape != self.target.shape):
            raise UserError(
                f"strength {strength} is not possible here: it lies in [0, 1] and needs domains of one shape"
            )

    def _decoded(self, x: Tensor) -> Tensor:
        """(C, H, W) -> what the decoder says, on the CPU: the translation itself, or the parts of a head."""
        if self.generator.encoder is None:
            return self.generator.decode(x[None])[0]
        if not self.extensive:
            y = self._forward(_resized(x, self.source.shape[-2:])[None])[0].cpu()
            return _resized(y, x.shape[-2:]) if self.source.shape[-2:] == self.target.shape[-2:] else y
        if x.shape[-2] * x.shape[-1] > self.tile**2:
            wraps = self.source.wraps and self.target.wraps
            return translate_tiled(self.generator, x, self._whole, self._forward, self.tile, self.overlap, wraps)
        return self._whole(x)

    def _recoloured(self, x: Tensor, full: Tensor, strength: float) -> Tensor:
        """What the network finds on x, done to the recording at its own resolution (C, H, W), strip by strip."""
        self._check_strength(strength)
        height, width = x.shape[-2:]
        stride = nets.STRIDE[self.config.model.generator]
        padded = grow(x, _up_to(height, stride), _up_to(width, stride))[None].to(self.device)
        down, right = height / padded.shape[-2], width / padded.shape[-1]   # what of the grid lies under the recording
        rows, strips = full.shape[-2], []
        for strip in full.split(max(1, STRIP // full.shape[-1]), dim=-2):
            top = sum(done.shape[-2] for done in strips)
            window = Window(top / rows * down, 0.0, (top + strip.shape[-2]) / rows * down, right)
            strips.append(self.generator.recolour(padded, strip[None].to(self.device), window)[0].float().cpu())
        y = torch.cat(strips, dim=-2)
        return torch.lerp(full, y, strength) if strength != 1 else y

    @property
    def extensive(self) -> bool:
        """False where the model knows one size only: a modality says so, or latents are carried to another grid."""
        regrids = any(isinstance(module, nets.Regrid) for module in self.generator.modules())
        return self.source.extensive and self.target.extensive and not regrids

    def _whole(self, x: Tensor) -> Tensor:
        """(C, H, W) -> (C', H, W), padded to what the network can halve, and cut back."""
        height, width = x.shape[-2:]
        stride = nets.STRIDE[self.config.model.generator]
        padded = grow(x, _up_to(height, stride), _up_to(width, stride))
        return self._forward(padded[None])[0, :, :height, :width].cpu()

    def _forward(self, x: Tensor) -> Tensor:
        mixed = torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        with mixed:
            return self.generator.decode(x.to(self.device)).float()


def _up_to(size: int, stride: int) -> int:
    """The next multiple of stride; at least two cells of the latent, because one alone has no variance."""
    return max(-(-size // stride), 2) * stride


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(C, H, W) -> (C, *size), for a model that knows one size only."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x[None], size=size, mode="bilinear", antialias=True)[0]
