"""The contract that a sensor meets, and the finder that turns its name into its class.

Shape letters: C channels, H W size of a training crop, H' W' size of a whole recording.
"""
from __future__ import annotations

import dataclasses
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Mapping, NamedTuple, Sequence

from mmcycle import plugins
from mmcycle.errors import UserError

if TYPE_CHECKING:                       # the command line reads configs without paying for torch
    import numpy as np
    import torch
    from torch import Tensor, nn

    from mmcycle.core.heads import Head
    from mmcycle.core.settings import Networks

RESERVED = ("name", "root", "modality")     # keys of a domain in a config, so no modality may have a field of that name


class Drawing(NamedTuple):
    """A picture, pixels (3, H, W) uint8; a strip may be stretched: its two axes measure different things."""

    pixels: Tensor
    strip: bool = False


class Clip(NamedTuple):
    """A whole sound file of 8 to 48 kHz, one or two channels, that every browser plays."""

    content: bytes
    mime: str                           # "audio/flac", "audio/wav"
    about: str = ""                     # a few words: "first 20 s of 63 s"


class Cloud(NamedTuple):
    """Points in space to walk around, (N, 3) metres: x forward, y left, z up.

    colours  name -> (N,) floats in [0, 1], drawn on one scale, or whole numbers, each with a colour of its own;
             the first is shown first
    """

    points: np.ndarray
    colours: Mapping[str, np.ndarray]


Exhibit = Drawing | Clip | Cloud


class Fit(NamedTuple):
    """What recordings of one domain tell about its sensor.

    told   sentences for a person: what was found, what could not be told and why, which recordings are broken
    own    fields of this domain's modality, by name, as they should be set
    other  fields of the other domain's modality that must follow, where both are of one kind
    """

    told: Sequence[str]
    own: Mapping[str, Any] = {}
    other: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Modality(ABC):
    """How one kind of recording becomes a tensor, and back.

    A modality is a value: its fields are its configuration, two equal modalities are interchangeable. Write six
    members (`suffixes`, `shape`, `load`, `save`, `to_tensor`, `from_tensor`: a class variable, and what touches files
    and tensors) to add a sensor; override any of the others where the default does not suit it.

    Laws, checked by `mmcycle.testing.check_modality`:
        from_tensor(*to_tensor(raw)) is raw, up to the stated tolerance
        from_tensor(x, None) works: no context means "use your own geometry"
        to_tensor(raw)[0] is float32 (C, H', W') in [-1, 1] with shape[0] channels
        crop(x, rng) has exactly `shape`; the same rng gives the same bytes
        a recording of any size comes back at its own size
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    suffixes: ClassVar[tuple[str, ...]]             # the files it opens: (".png", ".jpg"), lower case
    extensive: ClassVar[bool] = True                # networks may run on recordings larger than `shape`
    wraps: ClassVar[bool] = False                   # the last column touches the first: a full turn; or a property

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        taken = [name for name in RESERVED if name in cls.__dict__.get("__annotations__", {})]
        if taken:
            raise TypeError(
                f"{cls.__name__}: the field name {taken[0]!r} is taken by the config of a domain; choose another"
            )

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one training crop."""

    @abstractmethod
    def load(self, path: Path) -> Any:
        """Read one recording in its native form; RecordingError when the file is not one."""

    @abstractmethod
    def save(self, raw: Any, path: Path) -> None:
        """Write one recording so that `load` reads it back; the format follows the suffix of `path`."""

    @abstractmethod
    def to_tensor(self, raw: Any) -> tuple[Tensor, Any]:
        """raw -> x (C, H', W') float32 in [-1, 1] of the whole recording, and the context that undoes it."""

    @abstractmethod
    def from_tensor(self, x: Tensor, context: Any) -> Any:
        """x (C, H', W') in [-1, 1] and a context, or None for the modality's own geometry -> raw."""

    def finest(self, raw: Any) -> Tensor | None:
        """The same recording (C, H, W) at its own resolution, where the x of `to_tensor` is smaller; None: it is not."""
        return None

    def crop(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """(C, H', W') -> a random window of exactly `shape`, reflected where the recording is shorter.

        Exactly two numbers are drawn for the window, as shares of what can be moved, so that two modalities
        given equal generators look at the same part of their recordings (`data.shared_crop`).
        """
        import torch

        _, height, width = self.shape
        down, right = torch.rand(2, generator=rng).tolist()
        x = grow(x, height, width)
        top = round(down * (x.shape[-2] - height))
        left = round(right * (x.shape[-1] - width))
        return x[..., top : top + height, left : left + width].contiguous()

    def render(self, x: Tensor) -> Tensor:
        """(C, H, W) in [-1, 1] -> (3, H, W) uint8, what a person looks at in the report."""
        import torch

        picture = x if x.shape[0] == 3 else x[:1].expand(3, -1, -1)
        return ((picture.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)

    def present(self, raw: Any, labels: Sequence[Path] = ()) -> Sequence[Exhibit]:
        """A recording as a person meets it in the report; of its label files, those that can be shown with it."""
        return (Drawing(self.render(self.to_tensor(raw)[0])),)

    def encoder(self, networks: Networks) -> nn.Module:
        """(B, *shape) -> [latent, finer features ...]."""
        from mmcycle.core import nets

        return nets.encoder(self.shape[0], networks, self.wraps)

    def decoder(self, networks: Networks, skips: bool) -> nn.Module:
        """[latent, finer features ...] -> (B, *shape) in [-1, 1]; without `skips` only the latent is used."""
        from mmcycle.core import nets

        return nets.decoder(self.shape[0], networks, skips, self.wraps)

    def discriminator(self, networks: Networks) -> nn.Module:
        """(B, *shape) -> scores (B, 1, h, w), one for each overlapping patch."""
        from mmcycle.core import nets

        return nets.discriminator(self.shape[0], networks, self.wraps)

    def head(self, source: Modality) -> Head | None:
        """How a translation from `source` to this domain is put together; None: it is the decoder's output itself.

        ValueError where the two domains cannot be translated so.
        """
        return None

    def carry_out(self, plan: Tensor, context: Any, rng: torch.Generator) -> tuple[Any, dict[str, float]]:
        """What a head planned (K, H', W') happens to the recording behind `context` -> raw, and facts worth keeping.

        Facts are named with their unit ("snr_db"); the manifest of a generated data set keeps them.
        """
        raise NotImplementedError(f"{type(self).__name__} has a head, so it must say how a plan is carried out")

    def from_array(self, array: np.ndarray, rate: int | None = None) -> Any | None:
        """A tensor of somebody's own sample, channels first -> a recording; None where it is not of this sensor.

        rate in Hz, where the sensor has one. UserError where it is of this sensor and cannot be translated.
        """
        raise UserError(
            f"{type(self).__name__} does not say how a tensor of a sample becomes a recording; give it from_array and "
            "to_array, or put recordings in native form into the sample and name them with stream="
        )

    def to_array(self, raw: Any, like: np.ndarray) -> np.ndarray:
        """The way back: a recording laid out as `like`, which from_array was given."""
        raise NotImplementedError(f"{type(self).__name__} has from_array, so it must have to_array")

    def relabel(self, label: Path, target: Path, raw: Any) -> bool:
        """Write to `target` what is left of the labels in `label` beside a translation; False: they hold as they are.

        RecordingError when the labels do not belong to the recording.
        """
        return False

    def act(self, event: str, params: Mapping[str, float], raw: Any) -> Any:
        """Let one physical event ("mirror", ...) happen to a recording; an event it cannot undergo is an error."""
        raise UserError(f"{type(self).__name__} cannot undergo {event!r}")

    def fit(self, paths: Sequence[Path], partner: Modality, measure: bool = False) -> Fit:
        """What recordings of this domain tell of its fields; `partner` is what the other domain has.

        measure: also the fields in which the config trusts a data sheet. A broken recording is named and passed over;
        UserError when all of them are.
        """
        return Fit(("nothing to fit: this kind of recording says all it has to when it is read",))

    def metrics(self) -> dict[str, Callable[[Tensor, Tensor], float]]:
        """Measures of this sensor alone: name with unit -> distance between two (C, H', W')."""
        return {}


def grow(x: Tensor, height: int, width: int) -> Tensor:
    """(..., H', W') -> at least (..., height, width): reflected at the bottom and right, as often as needed."""
    import torch
    from torch.nn import functional as F

    while x.shape[-2] < height or x.shape[-1] < width:
        down = min(max(height - x.shape[-2], 0), x.shape[-2] - 1)
        right = min(max(width - x.shape[-1], 0), x.shape[-1] - 1)
        if down or right:
            x = F.pad(x[None], (0, right, 0, down), mode="reflect")[0]
        else:                           # one row or column has nothing to reflect
            repeat = (2 if x.shape[-2] < height else 1, 2 if x.shape[-1] < width else 1)
            x = torch.cat([x] * repeat[0], dim=-2)
            x = torch.cat([x] * repeat[1], dim=-1)
    return x


GROUP = "mmcycle.modalities"           # of entry points
BUILTIN = {
    "image": "mmcycle.modalities.image:Image",
    "audio": "mmcycle.modalities.audio:Audio",
    "lidar": "mmcycle.modalities.lidar:Lidar",
    "text": "mmcycle.modalities.text:Text",
}


def find_modality(name: str) -> type[Modality]:
    """A built-in name, one of the entry-point group `mmcycle.modalities`, or "package.module:Class" -> the class."""
    found = plugins.find("modality", name, GROUP, BUILTIN, Modality, "my_lab.radar:Radar")
    if not dataclasses.is_dataclass(found):
        raise UserError(
            f"modality {name!r}: {found.__name__} is not a frozen dataclass derived from mmcycle.modality.Modality"
        )
    return found


def known_modalities() -> dict[str, str]:
    """Every modality that can be named: name -> where it lives."""
    return plugins.known(GROUP, BUILTIN)


def lies_below(folder: Path, name: str) -> bool:
    """Whether "package.module:Class" would be imported from below `folder`: a run may come from a stranger.

    Every folder of the search path counts as far as it can be followed by name, packages on the way included.
    """
    home = folder.resolve()
    for entry in sys.path:
        place = Path(entry)
        for part in name.partition(":")[0].split("."):
            place = place / part
            found = (place, *place.parent.glob(f"{escape(part)}.*"))
            real = (path for one in found if one.exists() for path in (one.resolve(), one.absolute()))
            if any(path.is_relative_to(home) for path in real):
                return True
    return False
