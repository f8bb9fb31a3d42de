"""Augmentations of other libraries, each called in its own way, as transforms of one stream."""
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from einops import rearrange
from PIL.Image import Image as Pillow
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from mmcycle.errors import UserError
from mmcycle.transforms.streams import LABELS, StreamTransform, described, like, tensor_of

Style = Literal["audiomentations", "torch-audiomentations", "albumentations", "kornia"]
WAVES = ("audiomentations", "torch-audiomentations")


@runtime_checkable
class Seedable(Protocol):
    """Albumentations draws from generators of its own."""

    def set_random_seed(self, seed: int) -> None: ...


class Apply(StreamTransform):
    """With probability p, another library's augmentation of the waveform or the picture in a sample.

        Apply(audiomentations.Compose([...]), rate=16000)      Apply(albumentations.Compose([...]), stream="camera")

    style    whose way to call it; None: seen from its signature
    rate     Hz, of the waveform; only for the styles of sound
    stream   its name in the sample, see StreamTransform

    Waveforms are (channels, samples) or (samples,) floats, pictures (channels, height, width) uint8 or floats in
    [0, 1], or Pillow's. The form and dtype stay. A wrapped augmentation sees its stream alone: what moves pixels about
    would leave boxes and masks behind, and belongs to v2; a changed size beside them is an error. Also what the
    library draws from `random` and numpy follows torch's generator here, so one seed repeats everything.
    """

    def __init__(
        self, augment: Callable[..., Any], p: float = 1.0, *, stream: str | int | None = None, rate: int | None = None,
        style: Style | None = None,
    ):
        super().__init__(p, stream)
        self.style = style or _style_of(augment)
        if self.style not in CALLS:
            raise UserError(f"Apply: style {style!r} is unknown; it is one of {', '.join(CALLS)}")
        if (rate is None) == (self.style in WAVES):
            mistake = "needs rate=, in Hz" if rate is None else "takes pictures, which have no rate"
            raise UserError(f"Apply: {self.style} {mistake}")
        self.augment, self.rate = augment, rate

    @property
    def wants(self) -> str:
        if self.style in WAVES:
            return "a waveform, a tensor (channels, samples) or (samples,) of floats"
        return "a picture, a tensor (channels, height, width) of uint8 or floats, or Pillow's"

    def fits(self, leaf: Any) -> bool:
        if not isinstance(leaf, Tensor | Pillow) or isinstance(leaf, LABELS):
            return False
        tensor = tensor_of(leaf)
        if self.style in WAVES:
            two = tensor if tensor.ndim == 2 else tensor[None]
            return tensor.is_floating_point() and two.ndim == 2 and 0 < two.shape[0] <= two.shape[1]
        return (tensor.is_floating_point() or tensor.dtype == torch.uint8) and tensor.ndim == 3 and tensor.numel() > 0

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The seed of all that the library draws elsewhere than from torch."""
        return {"seed": int(torch.randint(2**32, ()))}

    @torch.no_grad()
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """One leaf of the sample -> what the library makes of it, in the same form."""
        if not self.fits(inpt):
            raise UserError(f"Apply: {described(inpt)} is not {self.wants}")
        given = tensor_of(inpt)
        with _seeded(self.augment, params["seed"]):
            made = CALLS[self.style](self.augment, given, self.rate or 0)
        if made.dtype != given.dtype or made.ndim != given.ndim:
            raise UserError(
                f"Apply: {type(self.augment).__name__} made {tuple(made.shape)} {made.dtype} of {tuple(given.shape)} "
                f"{given.dtype}; leave changes of dtype and layout to v2 (ToDtype, Normalize), after it"
            )
        return like(made, inpt)

    def check_outputs(self, values: list[Any], made: dict[int, Any]) -> None:
        if self.style in WAVES or not any(isinstance(leaf, LABELS) for leaf in values):
            return
        for place, now in made.items():
            if F.get_size(values[place]) != F.get_size(now):
                raise UserError(
                    f"Apply: {type(self.augment).__name__} made {F.get_size(now)} of {F.get_size(values[place])} "
                    "pixels, and the sample's boxes, masks or points do not know; crop and resize with v2"
                )

    def extra_repr(self) -> str:
        shown = "" if isinstance(self.augment, nn.Module) else type(self.augment).__name__
        return ", ".join(filter(None, [shown, super().extra_repr()]))


def _audiomentations(augment: Callable[..., Any], wave: Tensor, rate: int) -> Tensor:
    """Its mono transforms take (samples,) only, and some work in place."""
    mono = wave.ndim == 2 and len(wave) == 1
    made = augment(samples=(wave[0] if mono else wave).numpy().copy(), sample_rate=rate)
    tensor = _tensor(made)
    return tensor[None] if mono else tensor


def _torch_audiomentations(augment: Callable[..., Any], wave: Tensor, rate: int) -> Tensor:
    batch = wave.clone()[None, None] if wave.ndim == 1 else wave.clone()[None]
    made = augment(batch, sample_rate=rate)
    tensor = made["samples"] if isinstance(made, Mapping) else made
    return tensor[0, 0] if wave.ndim == 1 else tensor[0]


def _albumentations(augment: Callable[..., Any], picture: Tensor, rate: int) -> Tensor:
    made = augment(image=rearrange(picture, "c h w -> h w c").numpy().copy(order="C"))["image"]
    if isinstance(made, Tensor):
        raise UserError("Apply: leave ToTensorV2 out of it; the form of the picture stays as it is")
    return rearrange(_tensor(np.atleast_3d(made)), "h w c -> c h w").contiguous()


def _kornia(augment: Callable[..., Any], picture: Tensor, rate: int) -> Tensor:
    """It computes in floats, [0, 1]."""
    made = augment(F.to_dtype(picture, torch.float32, scale=True).clone()[None])[0]
    return made if picture.is_floating_point() else F.to_dtype(made.clamp(0, 1), picture.dtype, scale=True)


CALLS: dict[str, Callable[[Callable[..., Any], Tensor, int], Tensor]] = dict(
    zip(get_args(Style), (_audiomentations, _torch_audiomentations, _albumentations, _kornia), strict=True)
)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _style_of(augment: Callable[..., Any]) -> Style:
    module = isinstance(augment, nn.Module)
    try:
        called = signature(augment.forward if module else augment).parameters
    except (TypeError, ValueError):
        called = {}
    if "sample_rate" in called:
        return "torch-audiomentations" if module else "audiomentations"
    if module:
        return "kornia"
    if "image" in called or "force_apply" in called:
        return "albumentations"
    raise UserError(
        f"Apply: the signature of {type(augment).__name__} does not show how to call it; "
        f"give style=, one of {', '.join(CALLS)}"
    )


@contextmanager
def _seeded(augment: Callable[..., Any], seed: int) -> Iterator[None]:
    """Other people's generators follow ours while they are asked, and go on as they were afterwards."""
    own, numpys = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    if isinstance(augment, Seedable):
        augment.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(own)
        np.random.set_state(numpys)
