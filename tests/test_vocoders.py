"""Waves out of nothing but a log-mel spectrogram: by name, never by import path."""
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcycle import plugins
from mmcycle.errors import UserError
from mmcycle.modalities.audio import Audio
from mmcycle.modalities.log_mel import LogMel
from mmcycle.modalities.vocoders import Vocoder, vocoder

FRONT_END = LogMel(rate=8000, n_fft=256, hop=64, mels=16)


class Hum(Vocoder):
    """A tone as loud as the loudest band."""

    def __call__(self, levels: torch.Tensor, samples: int) -> torch.Tensor:
        return levels.max().exp() * torch.sin(torch.arange(samples) / 10)


def test_griffin_lim_is_there_and_repeats():
    levels = FRONT_END.log_mel(torch.sin(torch.arange(2048) * 0.3))
    first, second = (vocoder("griffin-lim", FRONT_END)(levels, 2048) for _ in range(2))
    assert first.shape == (2048,) and torch.equal(first, second)


def test_an_installed_vocoder_is_used_where_there_is_no_wave(monkeypatch: pytest.MonkeyPatch):
    point = EntryPoint("hum", f"{__name__}:Hum", "mmcycle.vocoders")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == "mmcycle.vocoders" else [])
    audio = Audio(rate=8000, n_fft=256, hop=64, mels=16, frames=16, vocoder="hum")
    x = torch.zeros(1, 16, 33)
    made = audio.from_tensor(x, None)
    assert made.samples.shape == (32 * 64, 1)
    wave = made.samples[:, 0] / made.samples.max()
    np.testing.assert_allclose(wave, np.sin(np.arange(32 * 64) / 10), atol=1e-3)


@pytest.mark.parametrize("name", ["hifi", "os:system", f"{Path(__file__).stem}:Hum"])
def test_what_is_not_installed_is_refused_by_name(name: str):
    with pytest.raises(UserError, match="unknown vocoder .* Installed: griffin-lim"):
        vocoder(name, FRONT_END)
