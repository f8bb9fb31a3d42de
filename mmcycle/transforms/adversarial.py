"""Samples made hard for the network in training: by a bounded change of their numbers, or by how far to translate.

B is how many items a batch has. Both look at a network and leave it as it was: modes, gradients, running averages.
"""
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import floor
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends import cudnn
from torchvision.transforms import v2

from mmcycle.errors import UserError
from mmcycle.transforms.named import Named, along, probability
from mmcycle.transforms.streams import described
from mmcycle.transforms.translate import Trained, Translate

Loss = Callable[[nn.Module, Any], Tensor]
SHADES = (0.0, 255.0)                   # of uint8
Box = tuple[Tensor, Tensor]             # the least and the greatest that each number may become


class AdversarialAugment(v2.Transform):
    """Each item, with probability p, moved within eps to where the loss is high: PGD, Madry et al. 2018, equation 2.1.

        def loss(model, batch): return cross_entropy(model(batch["camera"], batch["wave"]), batch["label"])

        harder = AdversarialAugment(model, loss, eps={"camera": 8 / 255, "wave": 0.002}, limits={"camera": (0, 1)})
        for batch in loader: loss(model, harder(batch)).backward()

    model    itself, not wrapped for many devices
    loss     (model, batch) -> () or (B,), as in training; uint8 streams reach it as float32 in [0, 255]
    eps      {stream: how far any one number may go}, in the units of the stream: shades, whole ones, where it is uint8
    steps    1 is FGSM (Goodfellow et al. 2015), from the sample itself; more begin at a random place within eps
    limits   {stream: (low, high)} that its numbers keep, but those that lay beyond before; uint8 keeps 0 to 255

    It meets batches, on any device. The bound holds in exact arithmetic. Labels, and streams that `present` says an
    item lacks, stay. The model is asked in eval mode, and what it draws at random does not shift what is drawn later.
    """

    def __init__(
        self, model: nn.Module, loss: Loss, eps: Mapping[str | int, float], *, steps: int = 3,
        limits: Mapping[str | int, tuple[float, float]] | None = None, p: float = 1.0,
    ):
        super().__init__()
        if not eps or not all(0 < one < float("inf") for one in eps.values()):
            raise UserError(f"AdversarialAugment: eps is {dict(eps)}; it maps streams to numbers above 0")
        if steps < 1:
            raise UserError(f"AdversarialAugment: steps is {steps}; one at least")
        self.eps, self.steps, self.limits, self.p = dict(eps), steps, dict(limits or {}), probability(p, self)
        for name, (low, high) in self.limits.items():
            if name not in self.eps or not low < high:
                raise UserError(
                    f"AdversarialAugment: limits of {name!r} are ({low}, {high}); they belong to one of "
                    f"{', '.join(map(repr, self.eps))}, the lower first"
                )
        self.loss, self.__dict__["model"] = loss, _network(model, self)     # not a part of this: never trained with it

    def forward(self, *inputs: Any) -> Any:
        """A batch -> the same, harder."""
        batch = inputs if len(inputs) > 1 else inputs[0]
        named = Named(batch, tuple(self.eps), self)
        size = named.size
        chosen = torch.rand(size) < self.p
        boxes = [self._box(name, tensor, named) for name, tensor in named.entries]
        found = [self._start(tensor, box) for (_, tensor), box in zip(named.entries, boxes)]
        if chosen.any():
            with _undisturbed(self.model, named):
                for _ in range(self.steps):
                    found = self._climbed(found, boxes, named)
        present = named.present(size)
        kept = [~(chosen & present[name].cpu()) for name, _ in named.entries]
        return named.exchanged([_unless(keep, old, new) for keep, (_, old), new in zip(kept, named.entries, found)])

    def _box(self, name: str | int, tensor: Tensor, named: Named) -> Box:
        whole, eps = tensor.dtype == torch.uint8, self.eps[name]
        if not whole and not tensor.is_floating_point():
            named.refuse(f"{name!r} is {described(tensor)}; what can be moved are floats and uint8")
        if whole and eps < 1:
            named.refuse(f"{name!r} is uint8, so its eps is in shades, 1 at least; it is {eps}")
        low, high = self.limits.get(name, SHADES if whole else (-float("inf"), float("inf")))
        x = tensor.detach().as_subclass(Tensor)
        return _box(x.float() if whole else x, floor(eps) if whole else eps, low, high)

    def _start(self, tensor: Tensor, box: Box) -> Tensor:
        low, high = box
        if self.steps == 1:
            return tensor.detach().as_subclass(Tensor).to(low.dtype)
        share = torch.rand(low.shape).to(low.device, low.dtype)
        return torch.lerp(low, high, share).clamp(low, high)

    def _climbed(self, found: list[Tensor], boxes: list[Box], named: Named) -> list[Tensor]:
        """One step up the loss. Of several, each goes 2.5 eps / steps: far enough to reach the edge from anywhere."""
        asked = [one.detach().clone().requires_grad_() for one in found]
        loss = self.loss(self.model, named.exchanged(asked))
        if not isinstance(loss, Tensor) or not loss.requires_grad:
            named.refuse(f"the loss does not depend on {', '.join(map(repr, self.eps))}; it is {described(loss)}")
        slopes = torch.autograd.grad(loss.sum(), asked, allow_unused=True)
        made = []
        for (name, _), one, slope, box in zip(named.entries, asked, slopes, boxes):
            if slope is None:
                named.refuse(f"the loss does not depend on {name!r}")
            length = self.eps[name] * (1 if self.steps == 1 else 2.5 / self.steps)
            made.append((one.detach() + length * slope.sign().nan_to_num(0.0)).clamp(*box))
        return made


class HardestStrength(v2.Transform):
    """Each item of a batch translated as far as a network finds it hardest: of all strengths, that of the highest loss.

        hardest = HardestStrength(Translator.load(run), model, loss, stream="wave", strengths=(0.0, 0.5, 1.0))

    loss        (model, batch) -> (B,), one number for each item: reduction="none"
    stream      of the recordings, (B, ...)
    strengths   that are tried; 0 is the recording itself
    seeds       how many translations of one strength, for models that translate one recording in many ways
    rate        Hz, of waveforms; None: that of the model

    Costs a translation of every item for each strength above 0 and each seed. What `present` says an item lacks stays.
    """

    def __init__(
        self, translator: Trained, model: nn.Module, loss: Loss, *, stream: str | int,
        strengths: Sequence[float] = (0.0, 0.5, 1.0), seeds: int = 1, rate: int | None = None,
    ):
        super().__init__()
        if len(strengths) < 2 or not all(0 <= strength <= 1 for strength in strengths) or seeds < 1:
            raise UserError(
                f"HardestStrength: strengths are {tuple(strengths)}, seeds {seeds}; two strengths or more, in [0, 1], "
                "and one seed or more"
            )
        self.translate = Translate(translator, 1.0, stream=stream, rate=rate)
        self.strengths, self.seeds, self.stream = tuple(strengths), seeds, stream
        self.loss, self.__dict__["model"] = loss, _network(model, self)

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """A batch -> the same, each of its items as it is hardest; equal losses keep the strength named first."""
        batch = inputs if len(inputs) > 1 else inputs[0]
        named = Named(batch, (self.stream,), self)
        size, seeds = named.size, torch.randint(2**63 - 1, (self.seeds, named.size)).tolist()
        lacking = ~named.present(size)[self.stream].cpu()
        best, highest = [tensor for _, tensor in named.entries], torch.full((size,), -float("inf"), dtype=torch.float64)
        for strength in self.strengths:
            for each in seeds[:1] if strength == 0 else seeds:
                tried = [self._translated(tensor, strength, each, lacking, named) for _, tensor in named.entries]
                losses = self._judged(tried, named)
                best = [_unless(losses <= highest, old, new) for old, new in zip(best, tried)]
                highest = torch.maximum(highest, losses)
        return named.exchanged(best)

    def _translated(self, tensor: Tensor, strength: float, seeds: list[int], lacking: Tensor, named: Named) -> Tensor:
        items = tensor.as_subclass(Tensor)
        if strength == 0:
            return items
        made = [
            item if lacks else self.translate.transform(item, {"strength": strength, "seed": seed})
            for item, seed, lacks in zip(items, seeds, lacking)
        ]
        other = next((one for one in made if one.shape != items.shape[1:]), None)
        if other is not None:
            named.refuse(f"a translation of {tuple(items.shape[1:])} is {tuple(other.shape)}; a batch has one shape")
        return torch.stack(made)

    def _judged(self, tried: list[Tensor], named: Named) -> Tensor:
        """(B,) on the CPU; what is no number is not chosen."""
        with _undisturbed(self.model, named), torch.no_grad():
            losses = self.loss(self.model, named.exchanged(tried))
        if not isinstance(losses, Tensor) or losses.shape != (named.size,):
            needed = f"it is ({named.size},), a number for each item: reduction='none'"
            named.refuse(f"the loss is {described(losses)}; {needed}")
        return losses.detach().double().cpu().nan_to_num(nan=-float("inf"))


@contextmanager
def _undisturbed(model: nn.Module, named: Named) -> Iterator[None]:
    """In eval mode, every module by itself, and the same afterwards; what is drawn inside is not missed outside."""
    modes, fast = [(module, module.training) for module in model.modules()], cudnn.enabled
    model.eval()
    try:
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            cudnn.enabled = False       # its recurrent networks have gradients in training mode only
        cuda = {tensor.device for _, tensor in named.entries if tensor.device.type == "cuda"}
        with torch.random.fork_rng(devices=cuda), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        cudnn.enabled = fast
        for module, mode in modes:
            module.training = mode


def _box(x: Tensor, eps: float, low: float, high: float) -> Box:
    """What lies within eps of x, edges rounded towards it, and between the limits; x itself always does."""
    exact = x.double()
    down, up = ((exact + way).to(x.dtype) for way in (-eps, eps))
    down = torch.where(exact - down.double() > eps, torch.nextafter(down, x), down)
    up = torch.where(up.double() - exact > eps, torch.nextafter(up, x), up)
    return torch.maximum(down, x.clamp(max=low)), torch.minimum(up, x.clamp(min=high))


def _unless(keep: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """(B, ...) in the dtype of what was there; shades are rounded to whole ones."""
    plain = old.detach().as_subclass(Tensor)
    new = new.round() if new.is_floating_point() and not plain.is_floating_point() else new
    return torch.where(along(keep, plain), plain, new.to(plain.dtype))


def _network(model: nn.Module, asker: object) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise UserError(f"{type(asker).__name__}: the model is a torch.nn.Module; it is {described(model)}")
    return model
