"""A trained translator as a random transform: some of the samples become recordings of the other domain."""
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL.Image import Image as Pillow
from torch import Tensor

from mmcycle.errors import UserError
from mmcycle.modality import Modality
from mmcycle.transforms.streams import StreamTransform, described, like, tensor_of


class Translated(Protocol):
    """See generate/translator.py, which stands above transforms."""

    @property
    def raw(self) -> Any: ...


class Trained(Protocol):
    """What `Translator.load(run)` gives."""

    source: Modality
    target: Modality

    def perform(self, raw: Any, strength: float, seed: int) -> Translated: ...


class Translate(StreamTransform):
    """With probability p, one stream of the sample as if recorded in the other domain; labels, boxes, masks stay.

        v2.Compose([v2.RandomHorizontalFlip(), Translate(Translator.load(run, device="cpu"), p=0.5)])

    strength   in [0, 1], how far to go, or (low, high): uniform between them for every sample
    stream     its name in the sample, see StreamTransform
    rate       Hz, of waveforms; None: that of the model

    A tensor of the model's sensor, a tv_tensor or a Pillow picture comes back with its type, shape, dtype and device,
    as do all in a named stream, by one draw. Recordings in native form (what `load` of the modality gives) are taken
    where `stream` names them.
    """

    def __init__(
        self, translator: Trained, p: float = 0.5, *, strength: float | tuple[float, float] = 1.0,
        stream: str | int | None = None, rate: int | None = None,
    ):
        super().__init__(p, stream)
        if isinstance(translator, str | Path):
            raise UserError(
                f"Translate takes a model, not its path: Translate(Translator.load(Path({str(translator)!r})))"
            )
        source, target = type(translator.source), type(translator.target)
        if source is not target:
            raise UserError(
                f"Translate puts a recording in the place of another of its kind; this model makes {target.__name__} "
                f"of {source.__name__}"
            )
        low, high = strength if isinstance(strength, tuple) else (strength, strength)
        if not 0 <= low <= high <= 1:
            raise UserError(f"Translate: strength is {strength}; it lies in [0, 1], the lower end first")
        self.translator, self.strength, self.rate = translator, (low, high), rate

    @property
    def wants(self) -> str:
        return f"a recording for {type(self.translator.source).__name__}, as a tensor with channels first"

    def fits(self, leaf: Any) -> bool:
        return self._raw(leaf) is not None

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """How far to go, and the seed for models that translate one recording in many ways."""
        low, high = self.strength
        share = torch.rand((), dtype=torch.float64).item()
        return {"strength": low + (high - low) * share, "seed": int(torch.randint(2**63 - 1, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """One leaf of the sample -> its translation, in the same form."""
        if not isinstance(inpt, Tensor | Pillow):
            return self._native(inpt, params)
        raw = self._raw(inpt)
        if raw is None:
            raise UserError(f"Translate: {described(inpt)} is not {self.wants}")
        made = self.translator.perform(raw, params["strength"], params["seed"]).raw
        array = self.translator.target.to_array(made, tensor_of(inpt).numpy())
        return like(torch.from_numpy(np.require(array, requirements=["C", "W"])), inpt)

    def check_outputs(self, values: list[Any], made: dict[int, Any]) -> None:
        """Where points are lost, refuse what still tells something of each of them."""
        for place, new in made.items():
            count, left = (len(one) if isinstance(one, Tensor) else 0 for one in (values[place], new))
            beside = (value for other, value in enumerate(values) if other not in made and isinstance(value, Tensor))
            of_all = next((value for value in beside if count != left and value.ndim and len(value) == count), None)
            if of_all is not None:
                raise UserError(
                    f"Translate: of {count} points {left} are left, and {described(of_all)} beside them speaks of all; "
                    "make it further columns of the points, which go with them, or take range images, which keep "
                    "their pixels"
                )

    def extra_repr(self) -> str:
        sensor = type(self.translator.source).__name__
        return ", ".join(filter(None, [sensor, super().extra_repr()]))

    def _raw(self, leaf: Any) -> Any | None:
        if not isinstance(leaf, Tensor | Pillow):
            return None
        return self.translator.source.from_array(tensor_of(leaf).numpy(), self.rate)

    def _native(self, raw: Any, params: dict[str, Any]) -> Any:
        try:
            return self.translator.perform(raw, params["strength"], params["seed"]).raw
        except (AttributeError, TypeError) as error:
            raise UserError(
                f"Translate: {type(raw).__name__} is neither {self.wants}, nor a recording in its native form: {error}"
            ) from error
