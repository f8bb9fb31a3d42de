"""Log-mel and the ways back: the numbers of librosa, gains that keep a wave, noise of a stated level and texture."""
import math
import sys
import warnings
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch

from mmcycle.errors import UserError
from mmcycle.modalities import log_mel
from mmcycle.modalities.log_mel import FLOOR, GAINS, LOUDEST, LogMel, filter_bank, power_sum

pytestmark = pytest.mark.usefixtures("one_thread")

SOUNDS = Path(__file__).parents[2] / "shared" / "data" / "audio"
DB = 20 / math.log(10)                  # decibels in one nat of magnitude
real_sounds = pytest.mark.skipif(not SOUNDS.exists(), reason="needs the recordings of ../shared/data/audio")


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0, rms=0.1):
    return rms * torch.randn(*shape, generator=rng(seed))


def recording(folder, index=0):
    wave, rate = soundfile.read(sorted((SOUNDS / folder).rglob("*.flac"))[index], dtype="float32")
    assert rate == 16_000
    return torch.from_numpy(wave)


def si_sdr(estimate, target):
    """Scale-invariant signal-to-distortion ratio in decibels (Le Roux et al. 2019, eq. 5)."""
    estimate, target = estimate.double(), target.double()
    projected = (estimate @ target) / (target @ target) * target
    return float(10 * torch.log10(projected.square().sum() / (estimate - projected).square().sum()))


def of_librosa(wave, mel):
    heard = librosa.feature.melspectrogram(
        y=wave.numpy(), sr=mel.rate, n_fft=mel.n_fft, hop_length=mel.hop, n_mels=mel.mels, fmin=mel.f_min,
        fmax=mel.f_max, power=1, htk=False, norm="slaney", pad_mode="reflect",
    )
    return np.log(np.maximum(heard, 1e-5))


SETTINGS = [
    LogMel(),
    LogMel(rate=8_000, n_fft=256, hop=64, mels=40),
    LogMel(rate=11_025, n_fft=512, hop=100, mels=48),           # half of an odd rate, windows of broken hops
    LogMel(rate=22_050, n_fft=1024, hop=256, mels=80, f_min=20, f_max=8000),
    LogMel(rate=44_100, n_fft=2048, hop=512, mels=128),
    LogMel(rate=48_000, n_fft=2048, hop=480, mels=96, f_max=20_000),
]


@pytest.mark.parametrize("mel", SETTINGS, ids=lambda mel: str(mel.rate))
def test_log_mel_is_that_of_librosa(mel):
    wave = noise(mel.rate // 2 + 7)
    np.testing.assert_allclose(mel.log_mel(wave).numpy(), of_librosa(wave, mel), atol=1e-4)


@real_sounds
@pytest.mark.parametrize("mel", SETTINGS, ids=lambda mel: str(mel.rate))
def test_log_mel_of_speech_is_that_of_librosa(mel):
    """Above 16 kHz speech has no treble: its bands lie at the rounding of float32, so they get a breath of noise."""
    wave = librosa.resample(recording("clean_speech/libri").numpy(), orig_sr=16_000, target_sr=mel.rate)
    wave = torch.from_numpy(wave) + noise(len(wave), rms=1e-4 if mel.rate > 16_000 else 0)
    np.testing.assert_allclose(mel.log_mel(wave).numpy(), of_librosa(wave, mel), atol=1e-4)


@pytest.mark.parametrize("n_samples", [2, 3, 100, 256, 257, 640])
def test_short_waves_are_reflected_as_often_as_needed(n_samples):
    wave = noise(n_samples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                         # librosa says that the window is too long
        want = of_librosa(wave, LogMel())
    np.testing.assert_allclose(LogMel().log_mel(wave).numpy(), want, atol=1e-4)


def test_one_sample_is_a_constant():
    """A constant c has the magnitude c * sum(window) = c * 256 at 0 Hz, half of it in the next bin, and no more."""
    spectrum = LogMel().spectrum(torch.tensor([0.5])).abs()
    assert spectrum.shape == (257, 1)
    np.testing.assert_allclose(spectrum[:4, 0], [128, 64, 0, 0], atol=1e-4)


def test_a_sine_of_full_scale_has_the_level_worked_by_hand():
    """1 kHz is bin 32 of 512 at 16 kHz: magnitude sum(window) / 2 = 128, half of it in bins 31 and 33."""
    wave = torch.sin(2 * math.pi * 1000 * torch.arange(16_000) / 16_000)
    filters = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=64)
    want = np.log(np.maximum(filters[:, 31:34] @ [64.0, 128.0, 64.0], 1e-5))
    loud = want > -5
    np.testing.assert_allclose(LogMel().log_mel(wave)[loud, 60], want[loud], atol=1e-4)


def test_the_frames_are_one_and_one_for_each_whole_hop():
    mel = LogMel()
    for n_samples, frames in [(1, 1), (127, 1), (128, 2), (16_000, 126)]:
        assert mel.frames(n_samples) == frames == mel.log_mel(torch.zeros(n_samples)).shape[-1]


def test_leading_dimensions_are_kept_and_do_not_mix():
    mel, waves = LogMel(), noise(2, 3, 1000)
    assert mel.spectrum(waves).shape == (2, 3, 257, 8)
    together = mel.log_mel(waves)
    assert together.shape == (2, 3, 64, 8)
    torch.testing.assert_close(together[1, 2], mel.log_mel(waves[1, 2]), atol=1e-5, rtol=0)
    torch.testing.assert_close(mel.of_spectrum(mel.spectrum(waves)), together, atol=1e-5, rtol=0)


def test_digital_silence_lies_at_the_floor():
    assert (LogMel().log_mel(torch.zeros(1000)) == math.log(FLOOR)).all()


@pytest.mark.parametrize("fault", ["ImportError", "OSError", "RuntimeError"])
def test_a_torchaudio_that_does_not_import_changes_no_number(fault, tmp_path, monkeypatch):
    wave = noise(4000)
    usual = LogMel(mels=63).log_mel(wave)
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "__init__.py").write_text(f"raise {fault}('built for another torch')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        monkeypatch.delitem(sys.modules, name)
    forget()
    try:
        torch.testing.assert_close(LogMel(mels=63).log_mel(wave), usual, atol=1e-5, rtol=0)
    finally:
        forget()


def forget():
    filter_bank.cache_clear()
    log_mel._tables.cache_clear()


def test_without_torchaudio_and_librosa_a_sentence_says_what_to_install(monkeypatch):
    for name in ("torchaudio.functional", "librosa"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="sound, where torchaudio does not import, needs librosa"):
        filter_bank.__wrapped__(16_000, 512, 64, 0.0, 8000.0)


@pytest.mark.parametrize(("settings", "sentence"), [
    (dict(n_fft=511), "n_fft: got 511; it must be an even number of samples, 4 to 65536"),
    (dict(n_fft=2), "n_fft: got 2; it must be an even"),
    (dict(n_fft=131_072), "n_fft: got 131072; it must be an even"),
    (dict(hop=0), "hop: got 0; windows of 512 samples need 1 to 256"),
    (dict(hop=257), "hop: got 257; windows of 512 samples need 1 to 256"),
    (dict(mels=0), "mels: got 0; windows of 512 samples allow 1 to 256"),
    (dict(mels=257), "mels: got 257; windows of 512 samples allow 1 to 256"),
    (dict(f_max=8001), "f_min, f_max: got 0 and 8001 Hz; they must rise from 0 to at most half of the rate, 8000 Hz"),
    (dict(f_min=-1), "f_min, f_max: got -1 and 8000 Hz"),
    (dict(f_min=4000, f_max=4000), "f_min, f_max: got 4000 and 4000 Hz"),
    (dict(f_max=math.nan), "f_min, f_max: got 0 and nan Hz"),
    (dict(rate=0), "f_min, f_max: got 0 and 0 Hz"),
    (dict(mels=250), "mels: 22 of 250 mel filters between 0 and 8000 Hz hold no bin of n_fft 512 at 16000 Hz; "
                     "n_fft: 1024 or mels: 192 would do"),
    (dict(f_min=100, f_max=101, mels=2), "n_fft: 16384 would do"),
    (dict(f_min=3001, f_max=3001.01, mels=1), "1 of 1 mel filters .* widen f_min to f_max"),
])
def test_settings_that_cannot_be_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        LogMel(**settings)


def test_what_an_error_proposes_is_accepted():
    LogMel(mels=250, n_fft=1024)
    LogMel(mels=192)
    LogMel(f_min=100, f_max=101, mels=2, n_fft=16_384)


# --- gains on the wave itself


@pytest.mark.parametrize("mel", [LogMel(), LogMel(hop=256), LogMel(hop=100), LogMel(n_fft=1024, hop=256, mels=80)])
@pytest.mark.parametrize("n_samples", [1, 2, 3, 127, 128, 257, 1000, 4001])
def test_no_gain_gives_the_wave_back(mel, n_samples):
    wave = noise(n_samples, seed=3)
    same = mel.equalise(wave, torch.zeros(mel.mels, mel.frames(n_samples)))
    assert same.shape == wave.shape and si_sdr(same, wave) > 130


def test_an_equal_gain_is_a_factor():
    """ln 2 in every cell doubles the wave, to its last sample."""
    mel, wave = LogMel(), noise(2, 1000)
    torch.testing.assert_close(mel.equalise(wave, torch.full((64, 8), math.log(2))), 2 * wave, atol=1e-6, rtol=0)


def test_the_gain_of_one_band_reaches_its_sine_alone():
    """Band 20 of 64 rests on 1000 Hz or so: its sine is halved, one at 4 kHz is untouched."""
    mel, time = LogMel(), torch.arange(16_000) / 16_000
    centre = float(librosa.mel_frequencies(66, fmin=0, fmax=8000)[21])
    low, high = (torch.sin(2 * math.pi * hertz * time) for hertz in (centre, 4000))
    gain = torch.zeros(64, 126)
    gain[19:22] = -math.log(2)
    inner = slice(512, -512)
    assert mel.equalise(low, gain)[inner].std() / low[inner].std() == pytest.approx(0.5, abs=0.01)
    assert mel.equalise(high, gain)[inner].std() / high[inner].std() == pytest.approx(1, abs=1e-4)


def test_between_two_bands_the_gain_is_interpolated_in_decibels():
    """Bins half-way between centres get the geometric mean; below the first centre all is as in the first band."""
    mel = LogMel()
    gain = torch.linspace(-2, 0, 64)[:, None]
    shape = mel._gains(gain.T).log()[0]
    hertz = torch.arange(257) * 31.25
    centres = librosa.mel_frequencies(66, fmin=0, fmax=8000)[1:-1]
    want = np.interp(hertz.numpy(), centres, gain[:, 0].numpy())
    np.testing.assert_allclose(shape.numpy(), want, atol=0.012)         # triangles meet bins only near their peaks


def test_gains_beyond_reason_are_held():
    """-100 dB and +40 dB are the ends."""
    mel, wave = LogMel(), noise(1000)
    assert GAINS == pytest.approx((-100 / DB, 40 / DB))
    torch.testing.assert_close(mel.equalise(wave, torch.full((64, 8), 1e9)), 100 * wave, atol=1e-4, rtol=0)
    torch.testing.assert_close(mel.equalise(wave, torch.full((64, 8), -math.inf)), FLOOR * wave, atol=1e-9, rtol=0)


def test_a_table_of_the_wrong_size_is_refused():
    mel = LogMel()
    with pytest.raises(UserError, match=r"1000 samples have 64 mel bands and 8 frames; got \(64, 7\)"):
        mel.equalise(noise(1000), torch.zeros(64, 7))
    with pytest.raises(UserError, match=r"1000 samples have 64 mel bands and 8 frames; got \(80, 8\)"):
        mel.coloured(torch.zeros(80, 8), 1000, rng())


@real_sounds
def test_gains_towards_a_noisy_recording_bring_its_log_mel():
    """The distance of speech to a louder, duller version of itself falls from 6 dB to a fraction of one."""
    mel, wave = LogMel(), recording("clean_speech/libri")
    heard = mel.log_mel(wave)
    wanted = heard + torch.linspace(1, -0.5, 64)[:, None]
    got = mel.log_mel(mel.equalise(wave, wanted - heard))
    audible = heard > math.log(1e-3)
    before, after = (float((x - wanted)[audible].square().mean().sqrt()) * DB for x in (heard, got))
    assert before > 4 and after < 0.3


# --- coloured noise


@pytest.mark.parametrize("mel", [LogMel(), LogMel(n_fft=1024, hop=256, mels=80), LogMel(8000, 256, 64, 40)])
def test_a_flat_level_of_white_noise_gives_white_noise_of_that_level(mel):
    """The wave has rms 0.05 and the same power in each of eight bands, within a quarter of a decibel."""
    level = mel.log_mel(noise(20 * mel.rate, rms=0.05)).exp().mean(-1, keepdim=True).log()
    wave = mel.coloured(level.expand(-1, mel.frames(20 * mel.rate)), 20 * mel.rate, rng(1))
    assert DB * math.log(wave.std() / 0.05) == pytest.approx(0, abs=0.1)
    power = np.abs(np.fft.rfft(wave.numpy()))[1:].reshape(8, -1)
    np.testing.assert_allclose(DB * np.log(np.sqrt((power**2).mean(1) / (power**2).mean())), 0, atol=0.25)


def test_pink_noise_is_met_within_half_a_decibel_in_every_band():
    mel, n_samples = LogMel(), 320_000
    level = mel.log_mel(pink(n_samples)).exp().mean(-1, keepdim=True).log()
    wave = mel.coloured(level.expand(-1, mel.frames(n_samples)), n_samples, rng(1))
    error = DB * (mel.log_mel(wave).exp().mean(-1).log() - level[:, 0])
    assert error.abs().max() < 0.5


def pink(n_samples):
    """Power 1 / frequency above 60 Hz, flat below as through a microphone; drawn in the frequency domain."""
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(0, 0.1, n_samples))
    hertz = np.arange(len(spectrum)) * 16_000 / n_samples
    return torch.from_numpy(np.fft.irfft(spectrum / np.sqrt(np.maximum(hertz, 60) / 1000)).astype(np.float32))


@real_sounds
@pytest.mark.parametrize(("kind", "largest"), [("rain", 0.5), ("train", 1), ("waves", 1.1), ("kitchen", 1)])
def test_real_noise_is_met_in_every_band(kind, largest):
    """Half a decibel for almost every band; a lone spectral line is a little wider than it was."""
    mel = LogMel()
    wave = next(recording("noise", i) for i, path in enumerate(sorted((SOUNDS / "noise").rglob("*.flac")))
                if path.name.startswith(kind))
    level = mel.log_mel(wave).exp().mean(-1, keepdim=True).log().expand(4, -1, mel.frames(len(wave)))
    made = mel.log_mel(mel.coloured(level, len(wave), rng(1))).exp().mean((0, 2)).log()
    error = DB * (made - level[0, :, 0]).abs()
    assert error.max() < largest and (error < 0.5).sum() >= 61 and error.mean() < 0.2


def test_six_decibels_more_are_twice_the_wave():
    mel, level = LogMel(), torch.full((64, 126), -3.0)
    quiet, loud = (mel.coloured(level + more, 16_000, rng()) for more in (0, math.log(2)))
    assert DB * math.log(loud.std() / quiet.std()) == pytest.approx(6.02, abs=0.01)


def test_the_log_mel_of_coloured_noise_is_its_level_plus_texture():
    """For a level that bends slowly: the mean within 0.2 dB and the spread within 5 % in every band.

    It bends from that of white noise, which itself is ragged where bands are hardly wider than bins.
    """
    mel, frames = LogMel(), 8000
    white = mel.log_mel(noise(frames * 128, seed=7)).exp().mean(-1, keepdim=True).log()
    level = white + torch.cos(torch.linspace(0, 3, 64))[:, None] + torch.sin(torch.linspace(0, 20, frames)) / 2
    fluctuation = mel.log_mel(mel.coloured(level, (frames - 1) * mel.hop, rng(1))) - level
    texture = mel.texture(frames, rng(2))
    assert texture.shape == (64, frames)
    assert (DB * (fluctuation.mean(-1) - texture.mean(-1))).abs().max() < 0.2
    torch.testing.assert_close(fluctuation.std(-1), texture.std(-1), rtol=0.05, atol=0)


def test_texture_has_mean_magnitude_one_and_is_rayleigh_in_narrow_bands():
    """The mean of the ratio is 1; the log of one Rayleigh bin has standard deviation pi / sqrt(24) = 0.64 nats."""
    texture = LogMel(n_fft=512, hop=256, mels=64).texture(20_000, rng())
    np.testing.assert_allclose(texture.exp().mean(-1), 1, atol=0.015)
    assert 0.35 < texture[0].std() < math.pi / math.sqrt(24)
    assert texture[60].std() < 0.2                              # a wide band averages a dozen bins


def test_texture_comes_in_batches_of_independent_noise():
    texture = LogMel().texture(100, rng(), batch=(2, 3))
    assert texture.shape == (2, 3, 64, 100)
    assert abs(float(torch.corrcoef(texture[:, 0].flatten(1))[0, 1])) < 0.1


def test_channels_get_independent_noise():
    wave = LogMel().coloured(torch.full((64, 126), -3.0).expand(2, -1, -1), 16_000, rng())
    assert wave.shape == (2, 16_000)
    assert abs(float(torch.corrcoef(wave)[0, 1])) < 0.05


def test_the_same_seed_gives_the_same_bytes():
    mel, level = LogMel(), torch.zeros(64, 8)
    for make in (mel.coloured, mel.griffin_lim):
        assert torch.equal(make(level, 1000, rng(5)), make(level, 1000, rng(5)))
        assert not torch.equal(make(level, 1000, rng(5)), make(level, 1000, rng(6)))
    assert torch.equal(mel.texture(9, rng(5)), mel.texture(9, rng(5)))


@pytest.mark.parametrize("level", [math.log(FLOOR), -20.0, -math.inf])
def test_the_floor_is_silence(level):
    mel, levels = LogMel(), torch.full((64, 8), level)
    assert not mel.coloured(levels, 1000, rng()).any()
    assert not mel.griffin_lim(levels, 1000, rng()).any()


def test_silence_comes_back_as_silence():
    mel, silence = LogMel(), torch.zeros(1000)
    heard = mel.log_mel(silence)
    assert not mel.coloured(heard, 1000, rng()).any()
    assert not mel.equalise(silence, torch.full((64, 8), 99.0)).any()


def test_twenty_decibels_above_the_floor_the_level_is_right():
    """The bend towards silence takes 1 - 1/100 = 0.09 dB there."""
    mel = LogMel()
    low, high = (mel.coloured(torch.full((64, 126), math.log(FLOOR * times)), 16_000, rng()) for times in (10, 1000))
    assert DB * math.log(high.std() / low.std()) == pytest.approx(40.09, abs=0.01)


def test_levels_beyond_reason_are_held():
    wave = LogMel().coloured(torch.full((64, 126), math.inf), 16_000, rng())
    assert float(wave.std()) == pytest.approx(LOUDEST, rel=0.05)


def test_power_sum_adds_powers():
    """Magnitudes 3 and 4 make 5; equal ones gain 3 dB; next to nothing changes nothing; far levels do not overflow."""
    a, b = torch.tensor([3.0, 1.0, 2.0, math.exp(80)]).log(), torch.tensor([4.0, 1.0, 0.0, 1.0]).log()
    want = [math.log(5), math.log(2) / 2, math.log(2), 80]
    np.testing.assert_allclose(power_sum(a, b), want, rtol=1e-6)


@real_sounds
def test_the_log_mel_of_speech_in_noise_is_near_their_power_sum():
    mel, speech = LogMel(), recording("clean_speech/libri")
    hiss = noise(len(speech), rms=0.01)
    error = power_sum(mel.log_mel(speech), mel.log_mel(hiss)) - mel.log_mel(speech + hiss)
    assert abs(float(error.mean())) * DB < 0.5 and float(error.abs().median()) * DB < 1


# --- sound from nothing


@real_sounds
def test_griffin_lim_comes_near_the_log_mel_it_was_given():
    """Root mean square over the bands, averaged over frames: about 1 dB, 7 dB with the first random phase."""
    mel, wave = LogMel(), recording("clean_speech/libri")[:32_001]
    wanted = mel.log_mel(wave)
    first, last = (mel.griffin_lim(wanted, len(wave), rng(), iterations) for iterations in (0, 32))
    far, near = (float((mel.log_mel(x) - wanted).square().mean(0).sqrt().mean()) * DB for x in (first, last))
    assert last.shape == wave.shape and near < 1.5 < 5 < far
    assert float(last.std() / wave.std()) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("n_samples", [1, 127, 1001])
def test_griffin_lim_returns_the_length_asked_for(n_samples):
    mel = LogMel(hop=256)
    wave = mel.griffin_lim(torch.full((2, 64, mel.frames(n_samples)), -2.0), n_samples, rng(), iterations=3)
    assert wave.shape == (2, n_samples) and wave.isfinite().all()


# --- long waves, training


@pytest.mark.parametrize("block", [1, 7, 50])
def test_blocks_change_nothing(block, monkeypatch):
    mel, wave = LogMel(), noise(2, 12_345)
    frames = mel.frames(12_345)
    gain = torch.randn(64, frames, generator=rng(1))
    level = torch.randn(2, 64, frames, generator=rng(2)) - 5
    whole = mel.log_mel(wave), mel.equalise(wave, gain), mel.coloured(level, 12_345, rng(3))
    monkeypatch.setattr(log_mel, "BLOCK", block)
    pieces = mel.log_mel(wave), mel.equalise(wave, gain), mel.coloured(level, 12_345, rng(3))
    torch.testing.assert_close(pieces[0], whole[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(pieces[1:], whole[1:], atol=1e-6, rtol=0)


def test_no_click_where_blocks_meet(monkeypatch):
    """A sine whose gain changes slowly moves by less than its slope from sample to sample; silence stays silent."""
    monkeypatch.setattr(log_mel, "BLOCK", 5)
    mel, frames = LogMel(), 126
    sine = 0.5 * torch.sin(2 * math.pi * 440 * torch.arange(16_000) / 16_000)
    gain = torch.linspace(0, -1, frames).expand(64, -1)
    smooth = mel.equalise(sine, gain)
    assert smooth.diff().abs().max() < 0.5 * 2 * math.pi * 440 / 16_000 * 1.02
    envelope = torch.exp(torch.arange(16_000) / -16_000 * 16_000 / (125 * 128))
    assert (smooth - sine * envelope).abs().max() < 0.01
    assert not mel.equalise(torch.zeros(16_000), gain).any()


def test_half_precision_around_it_changes_nothing():
    mel, wave, gain, level = LogMel(), noise(2000), noise(64, 16, rms=1), noise(64, 16, rms=1) - 4
    usual = mel.log_mel(wave), mel.equalise(wave, gain), mel.coloured(level, 2000, rng()), mel.texture(9, rng())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = mel.log_mel(wave), mel.equalise(wave, gain), mel.coloured(level, 2000, rng()), mel.texture(9, rng())
    for one, other in zip(usual, again):
        assert torch.equal(one, other) and other.dtype == torch.float32


def test_half_precision_going_in_comes_out_as_float32():
    mel = LogMel()
    assert mel.log_mel(noise(1000).double()).dtype == torch.float32
    assert mel.equalise(noise(1000), torch.zeros(64, 8).bfloat16()).dtype == torch.float32
    assert mel.coloured(torch.zeros(64, 8).bfloat16(), 1000, rng()).dtype == torch.float32


def test_gradients_are_finite_on_silence_and_at_the_bounds():
    mel = LogMel()
    wave, gain = torch.zeros(1000, requires_grad=True), torch.zeros(64, 8, requires_grad=True)
    level = torch.full((64, 8), math.log(FLOOR)).index_fill(1, torch.tensor([3]), -2.0).requires_grad_()
    sound = mel.equalise(wave, gain) + mel.coloured(level, 1000, rng())
    mel.log_mel(sound).sum().backward()
    for leaf in (wave, gain, level):
        assert leaf.grad.isfinite().all()
    assert level.grad[:, 3].abs().sum() > 0


def test_what_inference_has_prepared_serves_training_too():
    wave = noise(500)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        mel = LogMel(mels=61)
        mel.log_mel(wave)
    wave = noise(500).requires_grad_()
    mel.equalise(wave, torch.zeros(61, 4)).sum().backward()
    mel.log_mel(wave).sum().backward()
    assert wave.grad.isfinite().all()


def test_another_default_device_misleads_nothing():
    wave = noise(500)
    with torch.device("meta"):
        heard = LogMel(mels=59).log_mel(wave)
    assert heard.device.type == "cpu" and heard.isfinite().all()


def test_equal_settings_are_equal_values():
    assert LogMel() == LogMel(f_max=None) and hash(LogMel()) == hash(LogMel()) and LogMel() != LogMel(mels=63)
    assert LogMel(f_max=7000).top == 7000 and LogMel().top == 8000
