"""Sound of any rate, length and number of channels, seen by the networks as a log-mel spectrogram.

Letters: N samples, c channels of a file, M mel bands, T frames of a whole recording.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Gt

from mmcycle.errors import RecordingError, UserError, need
from mmcycle.modalities.sound_clips import clip, excerpt
from mmcycle.modalities.sound_files import SUFFIXES, Sound, read_sound, write_sound
from mmcycle.modality import Clip, Drawing, Modality

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mmcycle.core.heads import Head
    from mmcycle.modalities.log_mel import LogMel

SOFTEST, LOUDEST = 1e-5, 30.0                       # mel magnitudes that become -1 and 1; a full-scale sine has about 10
LOWEST_RATE = 1000                                  # Hz, of a file
NEPER = 20 / float(np.log(10))                      # decibels in one unit of natural logarithm


@dataclass(frozen=True, kw_only=True)
class Audio(Modality):
    """Speech, machines, streets.

    A file comes back at its own rate, length, level, depth and number of channels. The networks see one log-mel
    spectrogram of all its channels together, with one fixed scale for every file of both domains; what they ask for is
    done to each channel's own complex spectrum. What lies above half of `rate` stays as it was.
    """

    rate: Annotated[int, Ge(1000)] = 16_000         # Hz, of what the networks hear; files are resampled to it and back
    n_fft: Annotated[int, Gt(1)] = 512              # samples
    hop: Annotated[int, Gt(0)] = 128                # samples between frames
    mels: Annotated[int, Gt(0)] = 64                # bands, Slaney's scale
    frames: Annotated[int, Gt(0)] = 128             # of a training crop: frames * hop / rate seconds
    change: Literal["any", "gain", "noise"] = "any"     # what becoming this domain may do to a recording:
    #   any    every band of every frame gets a new level      gain   the same within gain_db: what is said stays
    #   noise  gain, and noise is added: the wave is kept, the signal-to-noise ratio known
    gain_db: tuple[float, float] = (0.0, 0.0)       # of `gain` and `noise`: how much quieter and louder, decibels
    vocoder: str = "griffin-lim"                    # makes a wave where there is none to begin with: across sensors
    max_seconds: Annotated[float, Gt(0)] = 4 * 3600.0   # longer files are refused before they are decoded

    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES

    def __post_init__(self) -> None:
        low, high = self.gain_db
        if not (-100 <= low <= 0 <= high <= 40):
            raise UserError(f"gain_db: got ({low}, {high}); the first lies in [-100, 0], the second in [0, 40]")
        if self.change == "gain" and low == high:
            raise UserError("gain_db: change gain needs room, such as [-40, 0] to take noise away")
        if not self.hop <= self.n_fft // 2:
            raise UserError(f"hop: got {self.hop}; it is at most half of n_fft, {self.n_fft // 2}")

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, self.mels, self.frames

    def load(self, path: Path) -> Sound:
        sound = read_sound(path, self.max_seconds)
        if sound.rate < LOWEST_RATE:                # a second of it would become many, and fill the memory
            raise RecordingError(
                f"{path}: has {sound.rate} samples a second; sounds have {LOWEST_RATE} or more: its header is wrong"
            )
        return sound

    def save(self, raw: Sound, path: Path) -> None:
        """Write a sound in the format that the suffix names; one that is too loud for it is scaled down as a whole."""
        write_sound(raw, path)

    def to_tensor(self, raw: Sound) -> tuple[Tensor, Sound]:
        """The root mean square over channels of the mel magnitude, logarithmic, on one fixed scale; the sound itself."""
        waves = _resampled(_waves(raw), raw.rate, self.rate)
        return self._scaled(self._levels(waves))[None], raw

    def from_tensor(self, x: Tensor, context: Sound | None) -> Sound:
        """The wave behind the context with every band at its new level, phase kept; no context: what the vocoder makes."""
        from mmcycle.modalities.vocoders import vocoder

        levels = self._unscaled(x.detach().float().cpu())[0]
        if context is None:
            samples = (levels.shape[-1] - 1) * self.hop or 1
            wave = vocoder(self.vocoder, self._front_end)(levels, samples)
            return _sound(wave[None], self.rate, "PCM_16")
        waves = _resampled(_waves(context), context.rate, self.rate)
        before = self._unscaled(self._scaled(self._levels(waves)))
        gain = levels[..., : before.shape[-1]] - before
        return self._changed(context, waves, self._front_end.equalise(waves, gain) - waves)[0]

    def head(self, source: Modality) -> Head | None:
        """None, or what keeps the recording's own wave; both domains must then share one time and frequency grid."""
        from mmcycle.modalities.sound_heads import AddNoise, Gain

        if self.change == "any" or type(source) is not type(self):
            return None
        mine, other = ((one.rate, one.n_fft, one.hop, one.mels) for one in (self, source))
        if mine != other:
            raise ValueError(
                f"change={self.change!r} keeps the wave, so rate, n_fft, hop and mels of both domains must be equal; "
                f"got {mine} and {other}"
            )
        bounds = tuple(decibels / NEPER for decibels in self.gain_db)
        return (AddNoise if self.change == "noise" else Gain)(self._front_end, bounds, _SCALE)

    def carry_out(self, plan: Tensor, context: Sound, rng: torch.Generator) -> tuple[Sound, dict[str, float]]:
        """plan (1 or 3, M, T): natural logarithms of the gain, and of the mel magnitude of the noise and its swelling.

        One gain for all channels, other noise in each. Facts: `snr_db` of the speech level, measured where the
        recording is active, over the noise, where there is any; `level_db` where the result had to be turned down to fit.
        """
        from mmcycle.modalities.sound_heads import swelling

        waves = _resampled(_waves(context), context.rate, self.rate)
        equal = self._front_end.equalise(waves, plan[0]) if plan[0].any() else waves
        facts: dict[str, float] = {}
        added = equal - waves
        if len(plan) > 1:
            level = plan[1] + swelling(plan[2], self._front_end, rng)
            noise = self._front_end.coloured(level.expand(len(waves), -1, -1), waves.shape[-1], rng)
            added = added + noise
            if noise.any():
                facts["snr_db"] = round(_active_db(equal, self.rate) - _level_db(noise), 2)
        sound, scale = self._changed(context, waves, added)
        return sound, facts | ({"level_db": round(20 * float(np.log10(scale)), 2)} if scale < 1 else {})

    def from_array(self, array: np.ndarray, rate: int | None = None) -> Sound | None:
        """(c, N) or (N,) float32, c at most N; no rate: that of the domain."""
        two = np.atleast_2d(array)
        if array.dtype != np.float32 or array.ndim not in (1, 2) or not 0 < len(two) <= two.shape[1]:
            return None
        if not np.isfinite(array).all():
            raise UserError("a waveform has samples that are NaN or infinite; replace them before it is translated")
        return Sound(np.ascontiguousarray(two.T), self.rate if rate is None else rate, "FLOAT")

    def to_array(self, raw: Sound, like: np.ndarray) -> np.ndarray:
        return np.array(raw.samples.T).reshape(like.shape)

    def render(self, x: Tensor) -> Tensor:
        """Low tones at the bottom; from black over violet and orange to white."""
        import torch

        places = (x[0].float().cpu().clamp(-1, 1).flip(0) + 1) / 2 * (len(COLOURS) - 1)
        lower = places.floor().long().clamp(max=len(COLOURS) - 2)
        share = (places - lower)[..., None]
        table = torch.tensor(COLOURS, dtype=torch.float32)
        return torch.lerp(table[lower], table[lower + 1], share).round().to(torch.uint8).permute(2, 0, 1)

    def present(self, raw: Sound, labels: Sequence[Path] = ()) -> tuple[Drawing, Clip]:
        """The spectrogram of what the player plays: the first seconds of a long recording."""
        part = excerpt(raw)
        return Drawing(self.render(self.to_tensor(part)[0]), strip=True), clip(raw, part)

    def metrics(self) -> dict[str, Callable[[Tensor, Tensor], float]]:
        return {"log_spectral_distance_db": log_spectral_distance}

    @property
    def _front_end(self) -> LogMel:
        from mmcycle.modalities.log_mel import LogMel

        return LogMel(rate=self.rate, n_fft=self.n_fft, hop=self.hop, mels=self.mels)

    def _levels(self, waves: Tensor) -> Tensor:
        """(c, N) -> (M, T), natural logarithm of the mel magnitude, root mean square over channels."""
        import torch

        total = None
        for wave in waves:                          # one at a time: 64 channels of an hour do not fit at once
            squared = 2 * self._front_end.log_mel(wave)
            total = squared if total is None else torch.logaddexp(total, squared)
        return (total - float(np.log(len(waves)))) / 2

    @staticmethod
    def _scaled(levels: Tensor) -> Tensor:
        return _SCALE.to_sample(levels).clamp(-1, 1)

    @staticmethod
    def _unscaled(x: Tensor) -> Tensor:
        return _SCALE.to_levels(x)

    def _changed(self, sound: Sound, waves: Tensor, added: Tensor) -> tuple[Sound, float]:
        """The sound plus what is added to its resampled waves, at its own rate, and the factor that made it fit."""
        if not added.any():
            return sound, 1.0
        changed = _waves(sound) + _resampled(added, self.rate, sound.rate, sound.samples.shape[0])
        peak = float(changed.abs().max())
        scale = 1 / peak if peak > 1 and sound.subtype not in ("FLOAT", "DOUBLE") else 1.0
        return _sound(changed * scale, sound.rate, sound.subtype), scale


class Scale(NamedTuple):
    """The fixed affine map between natural logarithms of mel magnitudes and [-1, 1]."""

    low: float
    high: float

    def to_sample(self, levels: Tensor) -> Tensor:
        return (levels - self.low) * (2 / (self.high - self.low)) - 1

    def to_levels(self, x: Tensor) -> Tensor:
        return (x + 1) * ((self.high - self.low) / 2) + self.low


_SCALE = Scale(float(np.log(SOFTEST)), float(np.log(LOUDEST)))
COLOURS = ((0, 0, 4), (60, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191))


def log_spectral_distance(x: Tensor, y: Tensor) -> float:
    """Decibels between two samples (1, M, T): root mean square over bands, mean over frames."""
    decibels = (_SCALE.to_levels(x.double()) - _SCALE.to_levels(y.double())) * NEPER
    return float(decibels.square().mean(-2).sqrt().mean())


def _waves(sound: Sound) -> Tensor:
    """(c, N) float32, a copy."""
    import torch

    return torch.from_numpy(np.array(sound.samples.T, dtype=np.float32, order="C"))


def _sound(waves: Tensor, rate: int, subtype: str) -> Sound:
    return Sound(np.ascontiguousarray(waves.numpy().T, dtype=np.float32), rate, subtype)


def _resampled(waves: Tensor, rate: int, to: int, samples: int | None = None) -> Tensor:
    """(c, N) at `rate` Hz -> at `to` Hz, of exactly `samples` where that is given; never shorter than one sample."""
    import torch

    if rate == to:
        return waves
    soxr: Any = need("soxr", "resampling", "soxr")
    made = torch.from_numpy(np.ascontiguousarray(soxr.resample(waves.T.numpy(), rate, to).T, dtype=np.float32))
    wanted = samples or max(made.shape[-1], 1)
    missing = wanted - made.shape[-1]
    return torch.nn.functional.pad(made, (0, missing)) if missing > 0 else made[..., :wanted].contiguous()


def _level_db(waves: Tensor) -> float:
    return 10 * float(np.log10(float(waves.double().square().mean()) + 1e-20))


def _active_db(waves: Tensor, rate: int) -> float:
    """Level over the 32 ms frames within 26 dB of the loudest: pauses say nothing about how loud speech is."""
    size = min(max(rate * 32 // 1000, 1), waves.shape[-1])
    power = waves.double().square().mean(0)[: waves.shape[-1] // size * size].unflatten(0, (-1, size)).mean(1)
    return 10 * float(np.log10(float(power[power >= power.max() / 400].mean()) + 1e-20))
