"""Batches mixed with themselves, every stream by the same share with the same partner, and the labels too.

Letters: B items of a batch, K classes, D features.
"""
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import default_collate
from torchvision.transforms import v2

from mmcycle.errors import UserError
from mmcycle.transforms.named import Named, along, listed, probability
from mmcycle.transforms.streams import LABELS, described


class Mix(NamedTuple):
    """What becomes of each item: share (B,) in [0, 1] is what it keeps of itself, partner (B,) whose the rest is."""

    share: Tensor
    partner: Tensor


class CrossModalMixup(v2.Transform):
    """With probability p, a batch of which every item is mixed with another: Zhang et al. 2018, for several sensors.

        mixup = CrossModalMixup(0.4, streams=("camera", "wave"), num_classes=10)
        for batch in loader: batch = mixup(batch)               or: DataLoader(..., collate_fn=mixup.collate)

    alpha        one share ~ Beta(alpha, alpha), and one permutation, for all streams and the labels of a batch
    streams      their names, see Named; (B, ...) floats, or uint8, which are rounded
    labels       key of (B,) classes, which become (B, num_classes) shares; or of (B, K) shares or marks of many
                 classes; or of (B,) floats, numbers to be guessed

    Waves are mixed as they are, whatever their loudness. Where the batch tells in `present` which streams an item has,
    an item keeps itself whole when its partner lacks a stream that it has: so the shares of its label are the shares of
    every stream that it has, and no silence is mixed in. Streams that it lacks stay lacking.
    """

    def __init__(
        self, alpha: float, *, streams: Sequence[str | int], num_classes: int | None = None,
        labels: str | int = "label", p: float = 1.0,
    ):
        super().__init__()
        self.alpha, self.p = _checked(alpha, self), probability(p, self)
        self.streams, self.labels, self.num_classes = listed(streams, self), labels, num_classes
        if labels in self.streams:
            raise UserError(f"CrossModalMixup: {labels!r} is among the streams; labels are mixed in their own way")

    def forward(self, *inputs: Any) -> Any:
        """A batch -> the same mixed; its labels are soft, whether or not it was mixed."""
        batch = inputs if len(inputs) > 1 else inputs[0]
        named = Named(batch, (*self.streams, self.labels), self)
        size = named.size
        self._check(named)
        applies = bool(torch.rand(()) < self.p)
        present = {name: mask for name, mask in named.present(size).items() if name != self.labels}
        mix = draw_mix(size, self.alpha, present)
        if not applies:
            mix = mix._replace(share=torch.ones_like(mix.share))
        *streams, (_, labels) = named.entries
        made = [_mixed(one, mix, present[name]) for name, one in streams]
        return named.exchanged([*made, mix_labels(labels, mix, self.num_classes)])

    def collate(self, samples: Sequence[Any]) -> Any:
        """For DataLoader(collate_fn=...): samples -> a mixed batch."""
        return self(default_collate(list(samples)))

    def _check(self, named: Named) -> None:
        names = [name for name, _ in named.entries]
        if names.count(self.labels) > 1:
            named.refuse(f"several tensors stand under {self.labels!r}; name one")
        for name, tensor in named.entries:
            mixes = tensor.is_floating_point() or tensor.dtype == torch.uint8
            if isinstance(tensor, LABELS) or not (mixes or name == self.labels):
                named.refuse(f"{name!r} is {described(tensor)}; what can be mixed are floats and uint8")


class FeatureMixup(nn.Module):
    """The same between a network's branches and its fusion, while it trains: manifold mixup, Verma et al. 2019.

        features, soft = self.mixup({"camera": self.camera(x), "wave": self.wave(y)}, labels)

    In eval mode features pass as they are. The labels are (B, K) shares in both.
    """

    def __init__(self, alpha: float, num_classes: int | None = None):
        super().__init__()
        self.alpha, self.num_classes = _checked(alpha, self), num_classes

    def forward(
        self, features: Mapping[str, Tensor], labels: Tensor, present: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """{stream: (B, D...)}, labels and `present` as of CrossModalMixup -> mixed features, soft labels."""
        mix = draw_mix(len(labels), self.alpha, present)
        if not self.training:
            mix = mix._replace(share=torch.ones_like(mix.share))
        return mix_features(features, mix, present), mix_labels(labels, mix, self.num_classes)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, num_classes={self.num_classes}"


def draw_mix(size: int, alpha: float, present: Mapping[str, Tensor] | None = None) -> Mix:
    """One share ~ Beta(alpha, alpha) and one permutation, from torch's global generator, on the CPU.

    present   {stream: (B,) bool}: an item whose partner lacks a stream that it has keeps itself whole
    """
    share = torch.distributions.Beta(*torch.full((2,), alpha, dtype=torch.float64)).sample().expand(size)
    partner = torch.randperm(size)
    if not present:
        return Mix(share.clone(), partner)
    has = torch.stack([mask.cpu() for mask in present.values()])
    lacking = (has & ~has[:, partner]).any(dim=0)
    return Mix(share.masked_fill(lacking, 1.0), partner)


def mix_features(
    features: Mapping[str, Tensor], mix: Mix, present: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """{stream: (B, ...)} floats -> the same mixed; gradients go to both items of a pair.

    present   {stream: (B,) bool}: what an item lacks stays as it stands there
    """
    wrong = [f"{name!r} {described(tensor)}" for name, tensor in features.items() if len(tensor) != len(mix.share)]
    if wrong:
        raise UserError(f"mix_features: {', '.join(wrong)} beside {len(mix.share)} labels; each item needs one")
    return {name: _mixed(tensor, mix, (present or {}).get(name)) for name, tensor in features.items()}


def mix_labels(labels: Tensor, mix: Mix, num_classes: int | None = None) -> Tensor:
    """(B,) classes or (B, K) shares -> (B, K) float shares; (B,) floats stay (B,), mixed as numbers."""
    whole = not labels.is_floating_point()
    if labels.ndim == 1 and whole:
        if num_classes is None:
            raise UserError("mixup: labels are (B,) classes; say how many there are, num_classes=")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
            raise UserError(
                f"mixup: labels run from {labels.min()} to {labels.max()}; with num_classes={num_classes} they lie in "
                f"0 to {num_classes - 1}"
            )
        return _mixed(F.one_hot(labels.long(), num_classes).float(), mix)
    if labels.ndim > 2 or (labels.ndim == 2 and num_classes not in (None, labels.shape[1])):
        raise UserError(f"mixup: labels are {tuple(labels.shape)}; allowed are (B,) and (B, {num_classes or 'K'})")
    if whole and bool(((labels != 0) & (labels != 1)).any()):
        raise UserError(f"mixup: labels {tuple(labels.shape)} of whole numbers mark classes with 0 and 1; found others")
    return _mixed(labels.float() if whole else labels, mix)


def _mixed(tensor: Tensor, mix: Mix, there: Tensor | None = None) -> Tensor:
    """Items that keep themselves whole, or are not there, come back bit for bit, whatever their partner holds."""
    plain = tensor.as_subclass(Tensor)
    own = plain if plain.is_floating_point() else plain.float()
    share = along(mix.share if there is None else mix.share.masked_fill(~there.cpu(), 1.0), own)
    made = torch.lerp(own[mix.partner.to(own.device)], own, share.to(own.dtype))
    made = made if plain.is_floating_point() else made.round().to(plain.dtype)
    return torch.where(share == 1, plain, made)


def _checked(alpha: float, asker: object) -> float:
    if not 0 < alpha < float("inf"):
        raise UserError(f"{type(asker).__name__}: alpha is {alpha}; it is above 0, and the smaller, the less is mixed")
    return float(alpha)
