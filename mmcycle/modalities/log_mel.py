"""The log-mel picture of a sound, and the ways back: gains on its own wave, coloured noise, or Griffin-Lim.

Letters: N samples of the wave, T = 1 + N // hop frames (frame t is centred on sample t * hop), bins = n_fft // 2 + 1.
Everything is float32, differentiable, and lives on the device of what is given.
"""
from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mmcycle.errors import UserError, need

FLOOR = 1e-5                                # mel magnitudes below it count as it; a level at the floor is silence
GAINS = (math.log(FLOOR), math.log(100.0))  # what `equalise` keeps to, in nats: -100 dB to +40 dB
LOUDEST = 10.0                              # levels of more than this many times white noise of rms 1 count as it
BLOCK = 4096                                # frames worked on at once, so that an hour of sound fits into memory
MOMENTUM = 0.99                             # of fast Griffin-Lim (Perraudin et al. 2013)
LONGEST = 65_536                            # samples of a window


@dataclass(frozen=True)
class LogMel:
    """Natural logarithm of Slaney mel magnitudes (power 1), Hann window, centred frames, reflected at both ends.

    Equal to log(max(librosa.feature.melspectrogram(power=1), 1e-5)). A wave shorter than half a window is
    reflected as often as needed; a single sample is repeated; a wave of no samples is for the caller to refuse.
    """

    rate: int = 16_000                      # Hz
    n_fft: int = 512                        # samples of one window, even
    hop: int = 128                          # samples between two frames
    mels: int = 64
    f_min: float = 0.0                      # Hz
    f_max: float | None = None              # Hz; none: half of the rate

    def __post_init__(self) -> None:
        if not 4 <= self.n_fft <= LONGEST or self.n_fft % 2:
            raise UserError(f"n_fft: got {self.n_fft}; it must be an even number of samples, 4 to {LONGEST}")
        if not 1 <= self.hop <= self.n_fft // 2:
            raise UserError(f"hop: got {self.hop}; windows of {self.n_fft} samples need 1 to {self.n_fft // 2}")
        if not 1 <= self.mels <= self.n_fft // 2:
            raise UserError(f"mels: got {self.mels}; windows of {self.n_fft} samples allow 1 to {self.n_fft // 2}")
        if not 0 <= self.f_min < self.top <= self.rate / 2:
            raise UserError(
                f"f_min, f_max: got {self.f_min:g} and {self.top:g} Hz; "
                f"they must rise from 0 to at most half of the rate, {self.rate / 2:g} Hz"
            )
        empty = _empty_filters(self, self.n_fft, self.mels)
        if empty:
            raise UserError(
                f"mels: {empty} of {self.mels} mel filters between {self.f_min:g} and {self.top:g} Hz hold no bin "
                f"of n_fft {self.n_fft} at {self.rate} Hz; {_without_empty(self)}"
            )

    @property
    def top(self) -> float:
        """Hz."""
        return self.rate / 2 if self.f_max is None else self.f_max

    def frames(self, n_samples: int) -> int:
        return 1 + n_samples // self.hop

    def spectrum(self, wave: Tensor) -> Tensor:
        """(..., N) -> complex (..., bins, T)."""
        return self._analysed(self._reflected(wave)).transpose(-1, -2)

    def of_spectrum(self, spectrum: Tensor) -> Tensor:
        """Complex (..., bins, T) -> (..., mels, T)."""
        return self._heard(spectrum.transpose(-1, -2)).clamp_min(FLOOR).log().transpose(-1, -2).contiguous()

    def log_mel(self, wave: Tensor) -> Tensor:
        """(..., N) -> (..., mels, T)."""
        heard = [self._heard(self._analysed(piece)) for _, piece in self._blocks(self._reflected(wave))]
        return torch.cat(heard, dim=-2).clamp_min(FLOOR).log().transpose(-1, -2).contiguous()

    def equalise(self, wave: Tensor, log_gain: Tensor) -> Tensor:
        """Wave (..., N), gains in nats (mels, T) for all channels or (..., mels, T) -> (..., N), phase kept.

        Between the centres of two bands the gain is interpolated in the log domain; outside the outer centres it is
        that of the nearest band. Gains are kept within GAINS.
        """
        n_samples = wave.shape[-1]
        padded = self._reflected(wave, whole=True)
        return self._shaped(padded, self._held(log_gain, n_samples), self._gains)[..., :n_samples]

    def coloured(self, log_level: Tensor, n_samples: int, rng: torch.Generator) -> Tensor:
        """Noise whose mel magnitude is exp(log_level) on average: (..., mels, T) -> (..., N).

        The level is that of the mean magnitude, log(mean(mel)), not of mean(log(mel)). Cell by cell the noise
        fluctuates around it as real noise does: its log-mel is log_level + `texture`. Each leading index gets noise of
        its own: expand the level to (channels, mels, T) for independent channels. A CPU generator gives the same
        noise on every device.
        """
        level = self._held(log_level, n_samples)
        white = self._white(level.shape[:-2], level.shape[-1], rng).to(level.device)
        return self._shaped(white, level, self._noise)[..., :n_samples]

    def texture(self, frames: int, rng: torch.Generator, batch: tuple[int, ...] = ()) -> Tensor:
        """log(mel / mean mel) of white noise, (*batch, mels, frames): what makes a smooth level look like noise.

        Its mean is a little below zero, more so in narrow bands: a logarithm lies below that of the mean.
        """
        white = self._white(batch, frames, rng)
        ratio = self._heard(self._analysed(white)) / self._tables(white).white
        return ratio.clamp_min(FLOOR).log().transpose(-1, -2).contiguous()

    def griffin_lim(self, log_mel: Tensor, n_samples: int, rng: torch.Generator, iterations: int = 32) -> Tensor:
        """A wave for a log-mel without one: (..., mels, T) -> (..., N). Griffin & Lim 1984, with momentum.

        For sounds made from nothing; where a wave exists `equalise` keeps more of it and costs far less.
        """
        level = self._held(log_mel, n_samples).transpose(-1, -2)
        magnitude = _times(_magnitude(level), self._tables(level).inverse).clamp_min(0)
        turns = torch.rand(magnitude.shape, generator=rng, device=rng.device).to(level.device)
        phase = torch.polar(torch.ones_like(magnitude), 2 * math.pi * turns)
        previous = torch.zeros_like(phase)
        for _ in range(iterations):
            wave = self._synthesised(magnitude * phase)[..., :n_samples]
            rebuilt = self._analysed(self._reflected(wave, whole=True))
            ahead = rebuilt - MOMENTUM / (1 + MOMENTUM) * previous
            phase, previous = ahead / ahead.abs().clamp_min(1e-16), rebuilt
        return self._synthesised(magnitude * phase)[..., :n_samples]

    # From here on frames come first, (..., T, bins) and (..., T, mels): a frame is contiguous for the FFT.

    def _heard(self, spectrum: Tensor) -> Tensor:
        return _times(spectrum.abs(), self._tables(spectrum).filters)

    def _gains(self, log_gain: Tensor) -> Tensor:
        return _times(log_gain.float().clamp(*GAINS), self._tables(log_gain).spread).exp()

    def _noise(self, log_level: Tensor) -> Tensor:
        """Spreading over bins smears peaks into their neighbours: two steps of Gold (1964) sharpen them again."""
        tables = self._tables(log_level)
        wanted = sharp = (_magnitude(log_level) / tables.white).clamp_max(LOUDEST)
        for _ in range(2):
            sharp = sharp * wanted / _times(sharp, tables.smear).clamp_min(1e-12)
        return _times(sharp, tables.spread)

    def _shaped(self, padded: Tensor, levels: Tensor, shape: Callable[[Tensor], Tensor]) -> Tensor:
        """Every bin times `shape` of its frame's levels (..., mels, T), block by block -> (..., whole hops)."""
        total = torch.zeros_like(padded)
        for start, piece in self._blocks(padded):
            spectrum = self._analysed(piece)
            level = levels[..., start : start + spectrum.shape[-2]].transpose(-1, -2)
            end = start * self.hop + piece.shape[-1]
            total[..., start * self.hop : end] += self._overlapped(spectrum * shape(level))
        return self._unpadded(total, levels.shape[-1])

    def _synthesised(self, spectrum: Tensor) -> Tensor:
        return self._unpadded(self._overlapped(spectrum), spectrum.shape[-2])

    def _overlapped(self, spectrum: Tensor) -> Tensor:
        """(..., T, bins) -> the sum of its windowed frames, (..., (T - 1) * hop + n_fft)."""
        return self._sum(torch.fft.irfft(spectrum, self.n_fft) * self._tables(spectrum).window)

    def _unpadded(self, total: Tensor, frames: int) -> Tensor:
        """The sum of all windowed frames -> the wave from the centre of the first to the centre of the last."""
        weights = self._sum(self._tables(total).window.square().expand(frames, -1))
        half = self.n_fft // 2
        return total[..., half : total.shape[-1] - half] / weights[half : len(weights) - half]

    def _sum(self, frames: Tensor) -> Tensor:
        """(..., T, n_fft) -> each added at its place, (..., (T - 1) * hop + n_fft)."""
        count = frames.shape[-2]
        pieces = F.pad(frames, (0, -self.n_fft % self.hop)).unflatten(-1, (-1, self.hop))
        total = frames.new_zeros(*frames.shape[:-2], count - 1 + pieces.shape[-2], self.hop)
        for i in range(pieces.shape[-2]):
            total[..., i : i + count, :] += pieces[..., i, :]
        return total.flatten(-2)[..., : (count - 1) * self.hop + self.n_fft]

    def _analysed(self, padded: Tensor) -> Tensor:
        """(..., (T - 1) * hop + n_fft) -> (..., T, bins)."""
        return torch.fft.rfft(padded.unfold(-1, self.n_fft, self.hop) * self._tables(padded).window)

    def _blocks(self, padded: Tensor) -> Iterator[tuple[int, Tensor]]:
        """(first frame, the samples of up to BLOCK frames), in order."""
        frames = 1 + (padded.shape[-1] - self.n_fft) // self.hop
        for start in range(0, frames, BLOCK):
            stop = min(start + BLOCK, frames)
            yield start, padded[..., start * self.hop : (stop - 1) * self.hop + self.n_fft]

    def _reflected(self, wave: Tensor, whole: bool = False) -> Tensor:
        """Half a window before and after as numpy's mode "reflect"; `whole` adds what completes the last hop."""
        n_samples, half = wave.shape[-1], self.n_fft // 2
        after = half + (-n_samples % self.hop if whole else 0)
        period = max(2 * (n_samples - 1), 1)
        wave = wave.float()

        def mirrored(start: int, stop: int) -> Tensor:
            places = torch.arange(start, stop, device=wave.device) % period
            return wave[..., torch.minimum(places, period - places)]

        return torch.cat([mirrored(-half, 0), wave, mirrored(n_samples, n_samples + after)], dim=-1)

    def _held(self, level: Tensor, n_samples: int) -> Tensor:
        """(..., mels, T), its last frame repeated where the last samples lie beyond its centre."""
        frames = self.frames(n_samples)
        if tuple(level.shape[-2:]) != (self.mels, frames):
            raise UserError(
                f"{n_samples} samples have {self.mels} mel bands and {frames} frames; got {tuple(level.shape[-2:])}"
            )
        return torch.cat([level, level[..., -1:]], dim=-1) if n_samples % self.hop else level

    def _white(self, batch: tuple[int, ...], frames: int, rng: torch.Generator) -> Tensor:
        """White noise of rms 1, drawn longer than needed: no reflection at its ends."""
        return torch.randn(*batch, (frames - 1) * self.hop + self.n_fft, generator=rng, device=rng.device)

    def _tables(self, like: Tensor) -> Tables:
        return _tables(self, like.device)


class Tables(NamedTuple):
    """What a front end multiplies with, on one device."""

    window: Tensor                          # (n_fft)
    filters: Tensor                         # (bins, mels): magnitudes to mel magnitudes
    spread: Tensor                          # (mels, bins): levels of bands to levels of bins, columns add up to 1
    inverse: Tensor                         # (mels, bins): pseudo-inverse of the filters
    white: Tensor                           # (mels): mean mel magnitude of white noise of rms 1
    smear: Tensor                           # (mels, mels): levels given to white noise to those it has, 1 = `white`


def power_sum(a: Tensor, b: Tensor) -> Tensor:
    """Log magnitude of two sounds together whose phases know nothing of each other: log sqrt(exp(2a) + exp(2b))."""
    return torch.logaddexp(2 * a, 2 * b) / 2


@lru_cache(maxsize=16)
def filter_bank(rate: int, n_fft: int, mels: int, f_min: float, f_max: float) -> Tensor:
    """(mels, bins) triangles of equal area (Slaney 1998), on the CPU; read it only, it is shared."""
    with _kept_for_training(), warnings.catch_warnings():
        warnings.simplefilter("ignore")     # both libraries warn of empty filters, which LogMel refuses
        try:
            from torchaudio.functional import melscale_fbanks
        except (ImportError, OSError, RuntimeError):    # built for another torch, it raises any of the three
            librosa = need("librosa", "sound, where torchaudio does not import,")
            bank = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=mels, fmin=f_min, fmax=f_max)
            return torch.from_numpy(bank).float()
        # Asked for bins up to the whole rate, because half of an odd rate would be rounded down.
        bank = melscale_fbanks(n_fft + 1, f_min, f_max, mels, 2 * rate, norm="slaney", mel_scale="slaney")
        return bank[: n_fft // 2 + 1].T.contiguous()


@lru_cache(maxsize=16)
def _tables(mel: LogMel, device: torch.device) -> Tables:
    with _kept_for_training():
        filters = filter_bank(mel.rate, mel.n_fft, mel.mels, mel.f_min, mel.top).T.contiguous()
        window = torch.hann_window(mel.n_fft)
        spread, bins = _spread(filters), _mean_of_white(window)
        white = bins @ filters
        smear = (spread * bins) @ filters / white
        made = Tables(window, filters, spread, torch.linalg.pinv(filters), white, smear)
        return Tables(*(table.to(device) for table in made))


@contextmanager
def _kept_for_training() -> Iterator[None]:
    """What is cached must not carry the inference mode, precision or default device of whoever asks first."""
    with torch.inference_mode(False), torch.autocast("cpu", enabled=False), torch.device("cpu"):
        yield


def _spread(filters: Tensor) -> Tensor:
    """Triangles of height 1, divided by their sum in each bin; bins outside all triangles copy the nearest."""
    triangles = (filters / filters.amax(dim=0)).T
    total = triangles.sum(dim=0)
    covered = (total > 1e-6).nonzero()[:, 0]
    nearest = (torch.arange(len(total))[:, None] - covered).abs().argmin(dim=1)
    return (triangles / total.clamp_min(1e-6))[:, covered[nearest]]


def _mean_of_white(window: Tensor) -> Tensor:
    """Magnitude of each bin: a complex Gaussian of variance sum(window^2), a real one in the first and last bin."""
    variance = window.square().sum()
    means = (math.pi / 4 * variance).sqrt().repeat(len(window) // 2 + 1)
    means[[0, -1]] = (2 / math.pi * variance).sqrt()
    return means


def _magnitude(log_level: Tensor) -> Tensor:
    """exp, bent to exact silence at the floor: -2.5 dB at 6 dB above it, -0.1 dB at 20 dB."""
    magnitude = log_level.float().exp()
    return (magnitude - (1.001 * FLOOR) ** 2 / magnitude.clamp_min(FLOOR)).clamp_min(0)


def _times(rows: Tensor, matrix: Tensor) -> Tensor:
    with torch.autocast(rows.device.type, enabled=False):       # half precision loses quiet bands
        return rows.float() @ matrix


def _empty_filters(mel: LogMel, n_fft: int, mels: int) -> int:
    peaks = filter_bank(mel.rate, n_fft, mels, mel.f_min, mel.top).amax(dim=1)
    return int((peaks <= 1e-6 * peaks.max()).sum())


def _without_empty(mel: LogMel) -> str:
    """Settings near those of `mel` whose filters all hear something, if there are any."""
    n_fft, fewer = mel.n_fft, mel.mels
    while n_fft <= LONGEST and _empty_filters(mel, n_fft, mel.mels):
        n_fft *= 2
    while fewer and _empty_filters(mel, mel.n_fft, fewer):
        fewer = fewer * 15 // 16
    found = [f"n_fft: {n_fft}"] * (n_fft <= LONGEST) + [f"mels: {fewer}"] * (fewer > 0)
    return f"{' or '.join(found)} would do" if found else "widen f_min to f_max"
