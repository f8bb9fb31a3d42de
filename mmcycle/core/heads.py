"""A head turns what a decoder says into a translation of the source: noise added to a wave, returns lost by a sweep.

Without a head, the decoder's output is the translation. With one, the decoder gives `parts`, the head makes a plan of
them (what happens to the recording, in physical units), and the plan acts twice: here on samples, so that the
discriminator and the way back see its effect, and in `Modality.carry_out` on the recording itself, losslessly.

Letters: B batch, C channels of a sample, P parts, K channels of a plan, S numbers of a style, H W sample size.
"""
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Head(nn.Module, ABC):
    """What a modality may put behind its decoder.

    A style says in which of many manners to translate (how loud the noise is, how wet the road): `look` reads it off
    a sample of the target domain, by a fixed formula, and the styles of the last samples seen are remembered with the
    weights. A translation is given a style, or draws one from memory: so its manners vary as those of the target do.
    """

    random = True                       # False: a plan is carried out in one way only
    keeps = False                       # True: whatever a plan says, all that the source shows stays where it was, so
    #                                     no loss has to ask for it

    def __init__(self, parts: int, style: int = 0, memory: int = 1024):
        super().__init__()
        self.parts = parts
        self.register_buffer("styles", torch.zeros(memory if style else 0, style))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @abstractmethod
    def plan(self, x: Tensor, parts: Tensor, style: Tensor, strength: float = 1.0) -> Tensor:
        """(B, C, H, W), (B, P, H, W), (B, S) -> what is to happen, (B, K, H, W); nothing at strength 0."""

    @abstractmethod
    def forward(self, x: Tensor, plan: Tensor, rng: torch.Generator) -> Tensor:
        """(B, C, H, W) as the plan leaves it, in [-1, 1]; what is random about it comes from rng."""

    def look(self, like: Tensor) -> Tensor:
        """Samples of the target domain (B, C, H, W) -> their styles (B, S)."""
        return like.new_zeros(len(like), 0)

    def observe(self, like: Tensor, style: Tensor) -> None:
        """Samples of the target domain and their styles, once a step of training: what is counted, not descended."""
        self.remember(style)

    @torch.no_grad()
    def remember(self, style: Tensor) -> None:
        """Let the oldest styles go for these; one that is not finite comes of a broken step and is left out."""
        if self.styles.numel():
            style = style[style.isfinite().all(dim=1)]
            places = (self.seen + torch.arange(len(style), device=style.device)) % len(self.styles)
            self.styles[places] = style.to(self.styles.dtype)
            self.seen += len(style)

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Remembered styles (count, S), each equally likely; zeros before any was seen."""
        known = max(min(int(self.seen), len(self.styles)), 1)
        rows = torch.randint(known, (count,), generator=rng, device=rng.device).to(self.styles.device)
        return self.styles[rows] if self.styles.numel() else self.styles.new_zeros(count, self.styles.shape[1])
