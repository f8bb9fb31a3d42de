"""Whole streams of a sample taken away, never all of them, so that a network learns to do without each."""
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from mmcycle.errors import UserError
from mmcycle.transforms.named import PRESENT, Named, along, listed, probability


class ModalityDropout(v2.Transform):
    """Each stream is dropped with its own probability; one is always left: ModDrop, Neverova et al. 2016, section 3.2.

        drop = ModalityDropout({"camera": 0.2, "wave": 0.5})            or ModalityDropout(0.3, streams=(...))
        drop({"camera": ..., "wave": ..., "label": 3})["present"]       {"camera": tensor(True), "wave": tensor(False)}

    p         of each stream; where all were to go, one stays, the likelier the smaller its own p is
    fill      what stands in the place of a dropped stream: a number, or for each stream a number or tensor
    batched   it meets batches, (B, ...), and draws for every item on its own

    The sample is a dict. `present` is put into it: for every stream whether it is there, () bool, or (B,) of a batch. A
    stream that `present` said was lacking before stays so, and counts as none that could be left.
    """

    def __init__(
        self, p: float | Mapping[str, float], *, streams: Sequence[str] = (),
        fill: float | Mapping[str, float | Tensor] = 0.0, batched: bool = False,
    ):
        super().__init__()
        if isinstance(p, Mapping) == bool(streams):
            raise UserError("ModalityDropout: give one p and streams=, or {'camera': 0.2, 'wave': 0.5}")
        self.p = dict(p) if isinstance(p, Mapping) else dict.fromkeys(listed(streams, self), p)
        for name, one in self.p.items():
            probability(one, self, f"p of {name!r}")
        if len(self.p) < 2:
            raise UserError(f"ModalityDropout: {', '.join(self.p) or 'nothing'} is no choice; name two streams or more")
        if min(self.p.values()) == 1:
            raise UserError("ModalityDropout: every p is 1, and one stream is always left; make one of them smaller")
        strange = sorted(set(fill) - set(self.p)) if isinstance(fill, Mapping) else []
        if strange:
            raise UserError(f"ModalityDropout: fill names {', '.join(strange)}; the streams are {', '.join(self.p)}")
        self.fill, self.batched = fill, batched

    def forward(self, *inputs: Any) -> Any:
        """A sample (or batch) -> the same, with some streams filled, and `present`."""
        sample = inputs[0]
        if len(inputs) > 1 or not isinstance(sample, Mapping):
            raise UserError("ModalityDropout takes a sample that is a dict, into which it can put 'present'")
        named = Named(sample, tuple(self.p), self)
        size = named.size if self.batched else None
        there = torch.stack([mask.reshape(-1).cpu() for mask in named.present(size).values()], dim=1)
        left = self._left(there)
        shape = (-1,) if self.batched else ()
        masks = {name: column.reshape(shape).clone() for name, column in zip(self.p, left.T)}
        dropped = {name: column.reshape(shape) for name, column in zip(self.p, (there & ~left).T)}
        made = named.exchanged([self._filled(name, tensor, dropped[name]) for name, tensor in named.entries])
        masks = {name: masks[name].to(tensor.device) for name, tensor in named.entries}
        return {**made, PRESENT: {**sample.get(PRESENT, {}), **masks}}

    def _left(self, there: Tensor) -> Tensor:
        """(B, S) which streams there were -> which are left; as much is drawn whatever p is."""
        chances = torch.tensor(list(self.p.values()), dtype=torch.float64)
        draws = torch.rand(2, *there.shape, dtype=torch.float64)
        left = there & (draws[0] >= chances)
        # The least of exponential waits, of rate 1 - p, is the one that stays; one of p = 1 waits longest.
        waits = -torch.log1p(-draws[1]) / (1 - chances).clamp(min=1e-12)
        stays = waits.masked_fill(~there, float("inf")).argmin(dim=1, keepdim=True)
        emptied = there.any(dim=1) & ~left.any(dim=1)
        return left.scatter(1, stays, left.gather(1, stays) | emptied[:, None])

    def _filled(self, name: str | int, tensor: Tensor, dropped: Tensor) -> Tensor:
        """What was lacking before is not dropped, and keeps what stood there."""
        if not dropped.any():
            return tensor
        plain = tensor.as_subclass(Tensor)
        fill = self.fill.get(name, 0.0) if isinstance(self.fill, Mapping) else self.fill
        shape = plain.shape[1:] if self.batched else plain.shape
        try:
            filling = torch.as_tensor(fill).to(plain.device, plain.dtype).expand(shape)
        except RuntimeError as error:
            raise UserError(f"ModalityDropout: fill of {name!r} does not fit {tuple(shape)}: {error}") from error
        return torch.where(along(dropped, plain), filling, plain) if self.batched else filling.clone()
