"""How near made-up noisy speech comes to truly noisy speech, and noise reduction to clean speech, with the truth known.

Waves are (N,) in [-1, 1], all of a call at one rate; sequences run over the same recordings in the same order.
"""
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmcycle.errors import UserError
from mmcycle.metrics.noise_level import mix_at_snr, snr_db, wada_snr
from mmcycle.metrics.sound import available, log_spectral_distance, si_sdr, stoi
from mmcycle.metrics.sound_sets import sound_frechet, wasserstein_1
from mmcycle.metrics.waves import checked, frame_power

Load = Callable[[Path], tuple[Tensor, int]]             # a file -> its wave (N,) and its rate, Hz
Measures = dict[str, float]
ENOUGH = 32                                             # recordings; the Frechet distance of fewer says nothing


@dataclass(frozen=True)
class KnownSpeech:
    """Recordings of which clean speech and noise are known apart: noisy is their sum, but for rounding."""

    clean: Sequence[Tensor]
    noise: Sequence[Tensor]
    noisy: Sequence[Tensor]
    rate: int                           # Hz

    def __post_init__(self) -> None:
        counts = len(self.clean), len(self.noise), len(self.noisy)
        if len(set(counts)) > 1 or counts[0] < 4:
            raise UserError(f"clean, noise and noisy hold {counts} waves: as many of each are needed, 4 or more")

    @classmethod
    def of_folder(cls, folder: Path, names: Sequence[str], load: Load) -> "KnownSpeech":
        """The files of these names in FOLDER/clean, /noise and /noisy."""
        loaded = [waves_of(folder / part, names, load) for part in ("clean", "noise", "noisy")]
        return cls(*(waves for waves, _ in loaded), rate=loaded[0][1])


def waves_of(folder: Path, names: Sequence[str], load: Load) -> tuple[list[Tensor], int]:
    """The recordings of these names and their rate; UserError where one is missing or the rates differ."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        what = f"{missing[0]} is not there, but is" if missing else "no recording is named that is"
        raise UserError(f"{folder}: {what} to be measured")
    loaded = [load(folder / name) for name in names]
    rates = {rate for _, rate in loaded}
    if len(rates) > 1:
        found = ", ".join(map(str, sorted(rates)))
        raise UserError(f"{folder}: has recordings of {found} Hz; compare those of one rate")
    return [wave for wave, _ in loaded], rates.pop()


def compare_noisy(
    truth: KnownSpeech, translated: Sequence[Tensor], snrs: Sequence[float], rng: torch.Generator
) -> Measures:
    """Clean speech translated to noisy, beside white noise at the very same SNRs, and beside the clean speech itself.

    `snrs` (dB) are those that the translator states, recording by recording. Of each measure there is one number per
    set, "MEASURE translated", "... white", "... untranslated" and, where it says something, "... real": the noisy
    speech itself, of which "floor" tells what two halves of it would get. Distances: less is better. STOI is to be
    near that of the real noises at the same SNR, "... real noise", not large.
    """
    if not len(translated) == len(snrs) == len(truth.clean):
        counts = f"{len(truth.clean)} recordings, {len(translated)} translations, {len(snrs)} SNRs"
        raise UserError(f"{counts}: need as many of each")
    white = [
        mix_at_snr(clean, torch.randn(clean.shape, generator=rng), snr, truth.rate).wave
        for clean, snr in zip(truth.clean, snrs)
    ]
    sets = {"translated": translated, "white": white, "untranslated": truth.clean}
    wanted = [snr_db(clean, noise, truth.rate) for clean, noise in zip(truth.clean, truth.noise)]
    found = dict(_stated(snrs, wanted, rng))
    found |= _spread("WADA SNR, dB", {name: list(map(wada_snr, waves)) for name, waves in _with_real(sets, truth)}, rng)
    floors = {name: [noise_floor_db(wave, truth.rate) for wave in waves] for name, waves in _with_real(sets, truth)}
    found |= _spread("noise floor, dB", floors, rng)
    for name, waves in _with_real(sets, truth):
        if name != "untranslated":
            found[f"LSD to clean, dB: {name}"] = _mean(log_spectral_distance, truth.clean, waves, truth.rate)
    for name, waves in sets.items():
        found[f"LSD to the real, dB: {name}"] = _mean(log_spectral_distance, truth.noisy, waves, truth.rate)
    if len(truth.noisy) >= ENOUGH:
        found |= _frechet(sets, truth, rng)
    if available("stoi"):
        same = [mix_at_snr(*pair, snr, truth.rate).wave for *pair, snr in zip(truth.clean, truth.noise, snrs)]
        for name, waves in {"translated": translated, "real noise, same SNR": same, "white": white}.items():
            found[f"STOI: {name}"] = _mean(stoi, truth.clean, waves, truth.rate)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def compare_cleaned(truth: KnownSpeech, cleaned: Sequence[Tensor]) -> Measures:
    """Noisy speech translated to clean, as noise reduction: each measure before and after, against the clean speech."""
    if len(cleaned) != len(truth.clean):
        raise UserError(f"{len(truth.clean)} recordings and {len(cleaned)} cleaned ones: need as many of each")
    found: Measures = {}
    for name, waves in {"noisy": truth.noisy, "cleaned": cleaned}.items():
        found[f"SI-SDR, dB: {name}"] = _mean(lambda clean, wave, _: si_sdr(wave, clean), truth.clean, waves, truth.rate)
        found[f"LSD to clean, dB: cleaning, {name}"] = _mean(log_spectral_distance, truth.clean, waves, truth.rate)
        if available("stoi"):
            found[f"STOI: cleaning, {name}"] = _mean(stoi, truth.clean, waves, truth.rate)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def noise_floor_db(wave: Tensor, rate: int) -> float:
    """Power of a recording's quiet moments, the 10th percentile of its 32 ms frames; dB of full scale, -100 or more."""
    return 10 * frame_power(checked(wave), rate).quantile(0.1).clamp_min(1e-10).log10().item()


def _with_real(sets: dict[str, Sequence[Tensor]], truth: KnownSpeech) -> Iterator[tuple[str, Sequence[Tensor]]]:
    yield from sets.items()
    yield "real", truth.noisy


def _stated(snrs: Sequence[float], wanted: Sequence[float], rng: torch.Generator) -> Iterator[tuple[str, float]]:
    """The SNRs that are known, not estimated; white noise has those of the translation."""
    values = {"translated": torch.tensor(snrs).double(), "real": torch.tensor(wanted).double()}
    yield "SNR, dB, W1 to the real: translated", wasserstein_1(values["translated"], values["real"])
    yield "SNR, dB, W1 to the real: floor", _between_halves(values["real"], rng)
    for name, value in values.items():
        yield f"SNR, dB, mean: {name}", value.mean().item()
        yield f"SNR, dB, spread: {name}", value.std().item()


def _spread(measure: str, values: dict[str, list[float]], rng: torch.Generator) -> Measures:
    """How a number is spread over the recordings of each set, and how far that is from how it is over the real ones."""
    real = torch.tensor(values["real"]).double()
    found = {
        f"{measure}, W1 to the real: {name}": wasserstein_1(torch.tensor(those), real)
        for name, those in values.items() if name != "real"
    }
    found[f"{measure}, W1 to the real: floor"] = _between_halves(real, rng)
    return found | {f"{measure}, spread: {name}": torch.tensor(those).std().item() for name, those in values.items()}


def _between_halves(real: Tensor, rng: torch.Generator, draws: int = 16) -> float:
    """The distance of two random halves of the real ones, mean over draws."""
    half = len(real) // 2
    orders = [torch.randperm(len(real), generator=rng) for _ in range(draws)]
    return sum(wasserstein_1(real[order[:half]], real[order[half:]]) for order in orders) / draws


def _frechet(sets: dict[str, Sequence[Tensor]], truth: KnownSpeech, rng: torch.Generator) -> Measures:
    found: Measures = {}
    for name, waves in sets.items():
        distance = sound_frechet(waves, truth.noisy, truth.rate, rng)
        found |= {f"Frechet: {name}": distance.value, "Frechet: floor": distance.floor}
        found["Frechet: waves on either side"] = distance.waves
    return found


def _mean(
    measure: Callable[[Tensor, Tensor, int], float], clean: Sequence[Tensor], other: Sequence[Tensor], rate: int
) -> float:
    """Over the recordings on which the measure is defined; nan where it is on none."""
    values = [measure(x, y, rate) for x, y in zip(clean, other)]
    defined = [value for value in values if math.isfinite(value)]
    return sum(defined) / len(defined) if defined else math.nan
