"""A vocoder makes a wave of a log-mel spectrogram where there is no wave to begin with: across sensors."""
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from mmcycle import plugins
from mmcycle.errors import UserError
from mmcycle.modalities.log_mel import LogMel

GROUP = "mmcycle.vocoders"              # of entry points
BUILTIN = {"griffin-lim": "mmcycle.modalities.vocoders:GriffinLim"}


class Vocoder(ABC):
    """What an installed package offers under the entry-point group `mmcycle.vocoders`.

    A network that was taught on another front end must refuse: log bases, mel scales and hops cannot be exchanged.
    """

    def __init__(self, front_end: LogMel):
        """UserError where it cannot read what this front end writes."""
        self.front_end = front_end

    @abstractmethod
    def __call__(self, levels: Tensor, samples: int) -> Tensor:
        """Natural logarithms of mel magnitudes (M, T) -> the wave (samples,); the same levels, the same wave."""


class GriffinLim(Vocoder):
    """No network: a wave whose spectrogram comes near (Griffin and Lim 1984). It sounds metallic."""

    def __call__(self, levels: Tensor, samples: int) -> Tensor:
        return self.front_end.griffin_lim(levels, samples, torch.Generator().manual_seed(0))


def vocoder(name: str, front_end: LogMel) -> Vocoder:
    """A built-in or installed vocoder by name. Import paths are refused: a run from a stranger could name any code."""
    if name not in (names := plugins.known(GROUP, BUILTIN)):
        raise UserError(f"unknown vocoder {name!r}. Installed: {', '.join(names)}; a package offers more as {GROUP}")
    return plugins.find("vocoder", name, GROUP, BUILTIN, Vocoder, name)(front_end)
