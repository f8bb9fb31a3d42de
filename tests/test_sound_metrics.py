"""The laws that a measure of sound must keep, on waves made here and on real speech and noise where they exist."""
import importlib.util
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mmcycle.errors import UserError
from mmcycle.metrics import noise_level, sound, waves
from mmcycle.metrics.noise_level import active_level_db, mix_at_snr, percentile_snr, snr_db, wada_snr, wada_table
from mmcycle.metrics.sound import log_spectral_distance, multi_resolution_stft, si_sdr
from mmcycle.metrics.sound_sets import noise_statistics, sound_frechet, wasserstein_1

pytestmark = pytest.mark.usefixtures("one_thread")

RATE = 16000
AUDIO = Path(__file__).parents[2] / "shared" / "data" / "audio"
real_audio = pytest.mark.skipif(not AUDIO.is_dir(), reason="needs ../shared/data")
needs_stoi = pytest.mark.skipif(not sound.available("stoi"), reason="needs pystoi")
needs_pesq = pytest.mark.skipif(not sound.available("pesq"), reason="needs pesq")


def white(seed: int, seconds: float = 1.0, level: float = 0.1) -> Tensor:
    return level * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


def sine(frequency: float, seconds: float = 1.0, amplitude: float = 1.0) -> Tensor:
    return amplitude * torch.sin(2 * torch.pi * frequency * torch.arange(round(seconds * RATE)) / RATE)


def talking(seed: int, seconds: float = 2.0) -> Tensor:
    """A buzz that comes and goes four times a second over nothing."""
    phase = 2 * torch.pi * torch.arange(round(seconds * RATE)) / RATE
    pitch = 100 + 10 * (seed % 7)
    buzz = sum(torch.sin(phase * pitch * k + seed * k) / k for k in range(1, 20))
    return 0.1 * buzz * torch.sin(2 * phase + seed).clamp_min(0)


def read(path: Path) -> Tensor:
    import soundfile

    wave, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    return torch.from_numpy(wave)


def real_noise(kind: str, length: int) -> Tensor:
    wave = read(AUDIO / "noise" / f"{kind}_00.flac")
    return wave.repeat(-(-length // len(wave)))[:length]


# What a measure looks at

def test_a_sine_of_full_scale_has_magnitude_one_and_silence_the_quietest_level():
    assert waves.spectrogram(sine(1000).double(), 512, 128).max().item() == pytest.approx(1, abs=1e-4)
    silent = waves.log_mel(torch.zeros(1000).double(), RATE, bands=16, hop=0.008)
    assert (silent == waves.QUIETEST).all() and silent.shape == (16, 1000 // 128 + 1)


@pytest.mark.parametrize("rate", [4000, 8000, 11025, 16000, 44100, 48000, 192000])
def test_every_mel_band_averages_some_bins_at_every_rate(rate):
    bands = waves.mel_bands(rate, waves.frame_size(rate), 64)
    assert torch.allclose(bands.sum(dim=1), torch.ones(64).double()) and (bands >= 0).all()
    centres = (bands * torch.linspace(0, rate / 2, bands.shape[1]).double()).sum(dim=1)
    assert (centres.diff() > 0).all()


def test_waves_that_cannot_be_measured_are_refused():
    x = torch.zeros(100)
    for broken in (torch.zeros(2, 100), torch.zeros(0), torch.zeros(100, dtype=torch.int16)):
        with pytest.raises(UserError, match=re.escape("a wave is (N,) of floating point numbers, N >= 1, got")):
            wada_snr(broken)
    with pytest.raises(UserError, match="samples that are not finite"):
        active_level_db(torch.tensor([0.0, math.nan]), RATE)
    with pytest.raises(UserError, match=re.escape("of one length are compared, got (100,) and (99,)")):
        si_sdr(x, x[1:])
    for measure in (log_spectral_distance, snr_db):
        with pytest.raises(UserError, match="4000 Hz or more, got 3999 Hz; resample"):
            measure(x, x, 3999)


MEASURES = [
    lambda x: log_spectral_distance(x, 0.5 * x, RATE),
    lambda x: multi_resolution_stft(0.5 * x, x),
    wada_snr,
    lambda x: percentile_snr(x, RATE),
    lambda x: noise_statistics(x, RATE).sum().item(),
]


@pytest.mark.parametrize("wave", [torch.zeros(16000), torch.full((16000,), 0.3), white(0)[:1], white(0)[:700]],
                         ids=["silence", "constant", "one sample", "700 samples"])
@pytest.mark.parametrize("measure", MEASURES, ids=["lsd", "stft", "wada", "percentile", "statistics"])
def test_silent_constant_and_short_waves_give_finite_numbers(measure, wave):
    assert math.isfinite(measure(wave))


# Between two waves

def test_log_spectral_distance_is_zero_for_equals_and_six_for_a_double():
    x = white(1)
    assert log_spectral_distance(x, x, RATE) == 0
    assert log_spectral_distance(2 * x, x, RATE) == pytest.approx(20 * math.log10(2), abs=1e-4)
    assert log_spectral_distance(x, white(2), RATE) == log_spectral_distance(white(2), x, RATE) > 1


def test_log_spectral_distance_matches_numpy():
    x, y = white(1, 0.2), talking(1, 0.2)
    decibel = [20 * np.log10(np.maximum(_mel_by_numpy(wave.double().numpy()), 1e-5)) for wave in (x, y)]
    expected = np.sqrt(((decibel[0] - decibel[1]) ** 2).mean(axis=0)).mean()
    assert log_spectral_distance(x, y, RATE) == pytest.approx(expected, rel=1e-6)


def _mel_by_numpy(wave: np.ndarray) -> np.ndarray:
    """64 bands of 512-sample frames every 128 samples; Slaney's scale: even to 1 kHz, then 27 steps per factor 6.4."""
    padded = np.pad(wave, 256, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    frames = np.stack([padded[start : start + 512] * window for start in range(0, len(padded) - 511, 128)])
    magnitude = np.abs(np.fft.rfft(frames)) * 2 / window.sum()
    highest = 15 + 27 * np.log(8) / np.log(6.4)
    mel = np.linspace(0, highest, 66)
    corners = np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))
    bands = np.stack([np.interp(np.arange(257) * 31.25, corners[i : i + 3], [0, 1, 0]) for i in range(64)])
    return bands @ magnitude.T / bands.sum(axis=1, keepdims=True)


def test_multi_resolution_stft_of_a_half_is_half_convergence_and_the_logarithm_of_two():
    x = white(3)
    assert multi_resolution_stft(x, x) == 0
    assert multi_resolution_stft(0.5 * x, x) == pytest.approx(0.5 + math.log(2), abs=2e-4)
    assert multi_resolution_stft(torch.zeros(1000), torch.zeros(1000)) == 0


def test_si_sdr_ignores_gain_and_offset_and_matches_a_sum_by_hand():
    reference, disturbance = sine(100), sine(200, amplitude=0.1)        # orthogonal over whole periods
    assert si_sdr(reference + disturbance, reference) == pytest.approx(20, abs=1e-3)
    assert si_sdr(-3 * (reference + disturbance) + 0.2, reference) == pytest.approx(20, abs=1e-3)
    assert si_sdr(0.7 * reference, reference) > 100
    assert math.isnan(si_sdr(torch.zeros(100), white(0)[:100])) and math.isnan(si_sdr(white(0)[:100], torch.ones(100)))


@pytest.mark.parametrize(
    "measure, package, install", [(sound.stoi, "pystoi", "mmcycle[eval]"), (sound.pesq, "pesq", "pesq")]
)
def test_a_measure_without_its_library_says_what_to_install(measure, package, install, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=re.escape(f"pip install '{install}'")):
        measure(white(0), white(0), RATE)


def test_whether_a_library_is_there_can_be_asked_without_importing_it(monkeypatch):
    monkeypatch.setattr(sound, "find_spec", lambda name: None if name == "pesq" else importlib.util.find_spec("torch"))
    assert sound.available("stoi") and not sound.available("pesq")


@needs_stoi
@real_audio
@pytest.mark.parametrize("rate", [16000, 44100])
def test_stoi_is_one_for_equals_and_falls_with_noise(rate):
    clean = read(sorted((AUDIO / "clean_speech" / "libri").glob("*.flac"))[0])
    noise = white(0, len(clean) / RATE)
    scores = [sound.stoi(clean, clean, rate)]
    scores += [sound.stoi(clean, clean + 10 ** (-snr / 20) * noise, rate) for snr in (20, 10, 0, -10)]
    assert scores[0] == pytest.approx(1, abs=1e-6) and scores == sorted(scores, reverse=True) and scores[-1] < 0.8


@needs_stoi
def test_stoi_of_silence_and_of_too_little_speech_is_not_a_number():
    click = torch.zeros(RATE)
    click[5000:6000] = white(0)[:1000]
    for clean in (torch.zeros(RATE), click, white(0, 0.39), white(0)[:1]):
        assert math.isnan(sound.stoi(clean, white(1)[: len(clean)], RATE))


@needs_pesq
@real_audio
@pytest.mark.parametrize("rate, best", [(8000, 4.549), (16000, 4.644), (44100, 4.644)])
def test_pesq_is_at_its_best_for_equals_and_falls_with_noise(rate, best):
    clean = read(sorted((AUDIO / "clean_speech" / "libri").glob("*.flac"))[0])
    noisy = clean + white(0, len(clean) / RATE, level=0.02)
    assert sound.pesq(clean, clean, rate) == pytest.approx(best, abs=1e-3)
    assert 1 < sound.pesq(clean, noisy, rate) < 3


@needs_pesq
def test_pesq_of_silence_and_of_too_little_speech_is_not_a_number():
    silence, noise = torch.zeros(RATE), white(1)
    for clean, other in ((silence, noise), (noise, silence), (silence, silence), (noise[:3999], noise[:3999])):
        assert math.isnan(sound.pesq(clean, other, RATE))


# Levels

def test_the_active_level_does_not_count_the_pauses():
    loud, pause = sine(500, 0.512, 0.5), torch.zeros(round(0.512 * RATE))
    level = 10 * math.log10(0.5**2 / 2)
    assert active_level_db(loud, RATE) == pytest.approx(level, abs=0.01)
    assert active_level_db(torch.cat([loud, pause, pause]), RATE) == pytest.approx(level, abs=0.2)
    assert active_level_db(torch.cat([loud, 0.04 * loud]), RATE) == pytest.approx(level, abs=0.2)
    halved = active_level_db(torch.cat([loud, 0.5 * loud]), RATE)
    assert halved == pytest.approx(level + 10 * math.log10((1 + 0.25) / 2), abs=0.2)
    assert active_level_db(pause, RATE) == -math.inf


def test_snr_is_the_level_of_the_speech_over_that_of_the_noise():
    assert snr_db(sine(500, amplitude=0.5), sine(800, 0.7, 0.05), RATE) == pytest.approx(20, abs=0.01)


@pytest.mark.parametrize("snr", [-10, 0, 7.5, 40])
def test_a_mixture_has_the_ratio_asked_for_and_the_speech_its_own_level(snr):
    clean, noise = 0.3 * talking(1), white(1, 2.0)
    mixed, scale = mix_at_snr(clean, noise, snr, RATE)
    assert scale == 1 and mixed.dtype == torch.float32
    assert snr_db(clean, mixed - clean, RATE) == pytest.approx(snr, abs=0.1)
    assert abs(np.corrcoef(mixed - clean, noise)[0, 1]) > 0.999


def test_a_mixture_that_would_clip_is_scaled_down_as_a_whole():
    clean, noise = sine(300, amplitude=0.9), white(2, level=0.01)
    mixed, scale = mix_at_snr(clean, noise, 5, RATE)
    assert 0 < scale < 1 and mixed.abs().max().item() == pytest.approx(1 - 2**-15, abs=1e-6)
    assert snr_db(clean, mixed / scale - clean, RATE) == pytest.approx(5, abs=0.1)


def test_what_cannot_be_mixed_is_refused():
    x = white(0)
    with pytest.raises(UserError, match=re.escape("of one length are mixed, got (16000,) and (15999,); cut or repeat")):
        mix_at_snr(x, x[1:], 5, RATE)
    for clean, noise, silent in ((0 * x, x, "speech"), (x, 0 * x, "noise")):
        with pytest.raises(UserError, match=f"silent {silent} cannot be mixed"):
            mix_at_snr(clean, noise, 5, RATE)
    with pytest.raises(UserError, match="at a finite ratio in dB, got inf"):
        mix_at_snr(x, x, math.inf, RATE)


# Estimates of the noise from the mixture alone

def test_the_wada_table_rises_from_gaussian_to_gamma():
    ratios, values = wada_table()
    assert ratios[0] == -20 and ratios[-1] == 100 and (values.diff() > 0).all()
    gaussian = 0.5 * math.log(2 / math.pi) + (0.5772156649 + math.log(2)) / 2           # ln E|n| - E ln|n|
    gamma = math.log(0.4) - torch.digamma(torch.tensor(0.4)).item()                    # ln E a - E ln a
    assert values[0].item() == pytest.approx(gaussian, abs=1e-3)
    assert values[-1].item() == pytest.approx(gamma, abs=0.02)


@pytest.mark.parametrize("snr", [-5, 0, 10, 20])
def test_wada_finds_the_ratio_of_gamma_speech_in_gaussian_noise(snr):
    """The model itself, drawn by numpy: a million samples."""
    rng = np.random.default_rng(0)
    speech = rng.gamma(0.4, size=1_000_000) * rng.choice([-1, 1], size=1_000_000)
    noise = rng.normal(size=1_000_000) * math.sqrt(0.4 * 1.4) * 10 ** (-snr / 20)
    wave = torch.from_numpy(speech + noise)
    assert wada_snr(wave) == pytest.approx(snr, abs=0.3)
    assert wada_snr(1e-3 * wave + 0.01) == pytest.approx(wada_snr(wave), abs=1e-6)     # whatever the gain and offset
    assert wada_snr(torch.cat([torch.zeros(50_000), wave - wave.mean()])) == pytest.approx(wada_snr(wave), abs=1e-6)


def test_estimates_stay_within_their_limits():
    for wave in (torch.zeros(100), torch.full((100,), 0.3), white(0)[:1]):
        assert wada_snr(wave) == noise_level.WADA_RANGE[0]
        assert percentile_snr(wave, RATE) == noise_level.PERCENTILE_RANGE[0]
    gap = torch.cat([white(0), torch.zeros(RATE), -white(0)])       # without an offset, so that the gap stays silent
    assert wada_snr(gap) == noise_level.WADA_RANGE[1]
    assert percentile_snr(gap, RATE) == pytest.approx(noise_level.PERCENTILE_RANGE[1], abs=1)


def test_the_percentile_range_matches_numpy_and_rises_with_the_ratio():
    wave = talking(2) + white(2, 2.0, 0.01)
    centred = wave.double().numpy() - wave.double().numpy().mean()
    power = [np.mean(centred[start : start + 512] ** 2) for start in range(0, len(centred) - 511, 256)]
    expected = np.subtract(*np.percentile(10 * np.log10(power), [90, 10]))
    assert percentile_snr(wave, RATE) == pytest.approx(expected, abs=1e-6)
    ranges = [percentile_snr(mix_at_snr(talking(2), white(2, 2.0), snr, RATE).wave, RATE) for snr in range(0, 50, 10)]
    assert ranges == sorted(ranges) and ranges[0] + 20 < ranges[-1]


@real_audio
def test_estimates_hold_on_real_speech_in_real_noise():
    pytest.importorskip("soundfile")
    speech = [read(path) for path in sorted((AUDIO / "clean_speech" / "libri").glob("*.flac"))[:12]]
    kinds = ["birds", "city", "coffee_shop", "fireplace", "kitchen", "rain"] * 2
    noises = [real_noise(kind, len(clean)) for kind, clean in zip(kinds, speech)]
    ranges = []
    for snr in (5, 10, 15, 25):
        mixed = [mix_at_snr(clean, noise, snr, RATE).wave for clean, noise in zip(speech, noises)]
        ranges.append(np.mean([percentile_snr(wave, RATE) for wave in mixed]))
        if snr <= 15:
            assert np.mean([wada_snr(wave) for wave in mixed]) == pytest.approx(snr, abs=2)
    assert ranges == sorted(ranges)


# Between two sets

def test_noise_statistics_are_four_per_band_every_half_second():
    x = white(0, 3.0)
    described = noise_statistics(x, RATE)
    bands = waves.log_mel(x.double(), RATE, bands=16, hop=0.016)
    assert described.shape == (5, 64)
    window = bands[:, 31:93].numpy()
    assert np.allclose(described[1, :16], window.mean(axis=1)) and np.allclose(described[1, 16:32], window.std(axis=1))
    assert np.allclose(described[1, 32:48], np.percentile(window, 10, axis=1))
    assert np.allclose(described[1, 48:], np.diff(window).std(axis=1))


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_wave_shorter_than_a_second_is_one_window(rate):
    assert noise_statistics(white(0)[: rate // 2], rate).shape == (1, 64)
    assert noise_statistics(white(0)[:1], rate).isfinite().all()


def speakers_in_noise(seed: int, snr: float, count: int = 24) -> list[Tensor]:
    mixed = [mix_at_snr(talking(seed + i), white(seed + i, 2.0), snr, RATE).wave for i in range(count)]
    return [(1 + 0.05 * (i % 5)) * wave for i, wave in enumerate(mixed)]


def test_sets_of_one_process_are_as_far_apart_as_halves_of_one_set():
    fakes, reals = speakers_in_noise(100, 10), speakers_in_noise(200, 10, 48)
    found = sound_frechet(fakes, reals, RATE, torch.Generator().manual_seed(0))
    assert found.waves == 24 and found.windows == 24 * 3
    assert 0.5 * found.floor < found.value < 1.5 * found.floor


def test_noisier_sets_are_farther_apart_at_every_one_of_five_ratios():
    reals = speakers_in_noise(0, 20, 48)
    distances = [
        sound_frechet(speakers_in_noise(100, snr), reals, RATE, torch.Generator().manual_seed(0), draws=2).value
        for snr in (20, 15, 10, 5, 0)
    ]
    assert distances == sorted(distances) and distances[1] > 2 * distances[0]


def test_the_floor_falls_with_more_waves_and_equal_numbers_are_compared():
    fakes, reals = speakers_in_noise(0, 10), speakers_in_noise(50, 10, 48)
    few, many = (
        sound_frechet(fakes, reals[:count], RATE, torch.Generator().manual_seed(0)) for count in (9, 48)
    )
    assert few.waves == 4 and few.windows == 12 and few.floor > 2 * many.floor


def test_the_same_seed_gives_the_same_distance_and_leaves_global_randomness_alone():
    fakes, reals, state = speakers_in_noise(0, 10, 6), speakers_in_noise(50, 10, 12), torch.get_rng_state()
    first = sound_frechet(fakes, reals, RATE, torch.Generator().manual_seed(3), draws=2)
    assert first == sound_frechet(fakes, reals, RATE, torch.Generator().manual_seed(3), draws=2)
    assert torch.equal(torch.get_rng_state(), state)


def test_sets_that_are_too_small_are_refused():
    with pytest.raises(UserError, match="2 fake and 4 real waves or more, got 5 and 3"):
        sound_frechet([white(0)] * 5, [white(0)] * 3, RATE, torch.Generator())


def test_wasserstein_1_is_the_area_between_the_distribution_functions():
    x = torch.tensor([3.0, 0.0, 1.0])
    assert wasserstein_1(x, x + 5) == pytest.approx(5) and wasserstein_1(x, x[[2, 0, 1]]) == 0
    assert wasserstein_1(x, torch.tensor([5.0, 6.0, 8.0])) == pytest.approx(5)
    assert wasserstein_1(torch.tensor([0.0, 1.0]), torch.tensor([0.0])) == pytest.approx(0.5)   # half of it moves by 1
    y = torch.randn(50, generator=torch.Generator().manual_seed(0))
    from scipy.stats import wasserstein_distance

    assert wasserstein_1(y[:20], y[20:]) == pytest.approx(wasserstein_distance(y[:20], y[20:]), rel=1e-6)


def test_samples_that_cannot_be_compared_are_refused():
    with pytest.raises(UserError, match=re.escape("got (0,) and (3,)")):
        wasserstein_1(torch.zeros(0), torch.zeros(3))
    with pytest.raises(UserError, match="not finite; leave them out and say how many"):
        wasserstein_1(torch.tensor([math.nan]), torch.zeros(3))
