"""Sound as a tensor and back: the wave is kept, noise has the level that is said, and bad files get a sentence."""
import json
import math
import re
import resource
from pathlib import Path
from struct import pack

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from command import contents, mmcycle, refused
from mmcycle.config import load_config
from mmcycle.errors import RecordingError, UserError
from mmcycle.generate.manifest import item_seed, read_rows
from mmcycle.generate.translator import Translator
from mmcycle.metrics.noise_level import snr_db
from mmcycle.metrics.sound import si_sdr
from mmcycle.modalities.audio import Audio, log_spectral_distance
from mmcycle.modalities.image import Image
from mmcycle.modalities.log_mel import LogMel
from mmcycle.modalities.sound_files import Sound, read_sound, write_sound
from mmcycle.modalities.sound_heads import swelling
from mmcycle.testing import check_modality
from tiny_sound import SMALL, config, sounds, speech, tiny_yaml, translator, white

pytestmark = pytest.mark.usefixtures("one_thread")

REAL = Path(__file__).parents[2] / "shared" / "data" / "audio"
needs_data = pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")
SILENT = -100.0                         # a log level that no sample hears
CHANGES = {"any": {}, "gain": {"gain_db": (-40.0, 0.0)}, "noise": {}}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(**changes: object) -> Audio:
    return Audio(**(SMALL | changes))


def floats(samples: np.ndarray, rate: int = 8000) -> Sound:
    """Kept to the last bit, so that what was added can be measured."""
    return Sound(samples, rate, "FLOAT")


def plan_of(
    audio: Audio, sound: Sound, gain: float = 0.0, level: float | None = None, spread: float = 0.0
) -> torch.Tensor:
    """The same gain, and noise of the same log level and spread, everywhere."""
    bands, frames = audio.to_tensor(sound)[0].shape[1:]
    return torch.stack([torch.full((bands, frames), value) for value in ([gain] if level is None else [gain, level, spread])])


def rms_db(samples: np.ndarray) -> float:
    return 20 * math.log10(np.sqrt(np.square(samples.astype(np.float64)).mean()))


def channel(sound: Sound, index: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(sound.samples[:, index]))


# The contract


@pytest.mark.parametrize("change", CHANGES)
def test_a_sound_keeps_every_law(change):
    laws = check_modality(small(change=change, **CHANGES[change]), [floats(speech(0.6, channels=2))], tolerance=1e-3)
    assert [str(law) for law in laws if not law.passed] == []


@pytest.mark.parametrize(("suffix", "tolerance"), [(".wav", 0.01), (".flac", 0.01), (".ogg", 0.08), (".mp3", 0.08)])
def test_files_of_several_formats_keep_every_law(suffix, tolerance, tmp_path):
    path = tmp_path / f"voice{suffix}"
    write_sound(Sound(speech(0.6, rate=16000) + white(9600, rms=0.01), 16000), path)
    assert [str(law) for law in check_modality(small(), [path], tolerance) if not law.passed] == []


@needs_data
def test_a_real_recording_keeps_every_law():
    path = min((REAL / "clean_speech/kws").glob("*.flac"), key=lambda one: one.stat().st_size)
    assert [str(law) for law in check_modality(Audio(frames=32), [path], 0.01) if not law.passed] == []


def test_the_command_checks_a_sound(tmp_path):
    said = mmcycle("check", "audio", sounds(tmp_path, count=1) / "00.flac", "rate=8000", "n_fft=256", "hop=64", "mels=16", "frames=32")
    assert said.code == 0 and "audio: keeps all" in said.out, said


# Nothing asked for is nothing done


RATES = [8000, 16000, 22050, 44100, 48000, 192000]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("samples", [1, 2, 127, 513, 7001])
def test_an_unchanged_spectrogram_gives_the_sound_back(rate, samples):
    audio, sound = Audio(), floats(white(samples, 2, rms=0.1), rate)
    back = audio.from_tensor(*audio.to_tensor(sound))
    assert back.samples.shape == (samples, 2) and back.rate == rate
    assert np.abs(back.samples - sound.samples).max() < 1e-5
    assert samples == 1 or si_sdr(channel(back), channel(sound)) > 80


def test_an_unchanged_spectrogram_gives_whole_numbers_back_bit_by_bit(tmp_path):
    path = sounds(tmp_path, count=1) / "00.flac"
    audio, sound = small(rate=16000, n_fft=512), read_sound(path, 10)
    audio.save(audio.from_tensor(*audio.to_tensor(sound)), tmp_path / "back.flac")
    assert np.array_equal(read_sound(tmp_path / "back.flac", 10).samples, sound.samples)


def test_sixty_four_channels_are_heard_together_and_come_back_each_at_its_own(tmp_path):
    sound = floats(white(3000, 64) * np.linspace(0.01, 1, 64, dtype=np.float32), 16000)
    audio = small()
    x, context = audio.to_tensor(sound)
    assert x.shape[0] == 1
    back = audio.from_tensor(x, context)
    assert min(si_sdr(channel(back, index), channel(sound, index)) for index in range(64)) > 80


def test_a_silent_plan_gives_the_very_same_samples():
    for rate in (8000, 44100):
        audio, sound = small(change="noise"), floats(speech(0.5, rate, channels=2), rate)
        made, facts = audio.carry_out(plan_of(audio, sound, level=SILENT), sound, rng())
        assert np.array_equal(made.samples, sound.samples) and facts == {}


def test_one_spectrogram_hears_the_power_of_all_channels():
    one = speech(0.4)
    audio = small()
    alone, twice = (audio.to_tensor(floats(samples))[0] for samples in (one, np.hstack([one, one])))
    torch.testing.assert_close(alone, twice, atol=1e-5, rtol=0)
    half = audio.to_tensor(floats(np.hstack([one, 0 * one])))[0]        # half of the power: 3 dB less
    heard = alone > -0.5
    decibels = (alone - half)[heard] / 2 * (math.log(30) - math.log(1e-5)) * 20 / math.log(10)
    assert decibels.mean() == pytest.approx(10 * math.log10(2), abs=0.01)


def test_stereo_that_cancels_is_not_silence():
    one = speech(0.4)
    audio = small()
    assert torch.equal(audio.to_tensor(floats(np.hstack([one, -one])))[0], audio.to_tensor(floats(np.hstack([one, one])))[0])


# Gains and noise of the level that was asked for


@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_gain_of_six_decibels_is_six_decibels_in_every_channel(rate, channels):
    audio, sound = small(change="gain", gain_db=(-40, 0)), floats(speech(0.6, rate, channels), rate)
    made, facts = audio.carry_out(plan_of(audio, sound, gain=-math.log(2)), sound, rng())
    ends = slice(None) if rate == 8000 else slice(500, -500)        # a wave cut off there has tones above half of `rate`
    np.testing.assert_allclose(made.samples[ends], sound.samples[ends] / 2, atol=1e-5 if rate == 8000 else 2e-3)
    assert facts == {}


def test_six_decibels_more_noise_are_six_decibels_more():
    audio, sound = small(change="noise"), floats(np.zeros((16000, 1), dtype=np.float32))
    levels = [rms_db(audio.carry_out(plan_of(audio, sound, level=level), sound, rng())[0].samples) for level in (-3, -3 + math.log(2))]
    assert levels[1] - levels[0] == pytest.approx(20 * math.log10(2), abs=0.05)


def test_swelling_noise_is_as_uneven_as_planned_and_slow():
    front_end = LogMel(rate=8000, n_fft=256, hop=64, mels=16)
    slow = swelling(torch.full((16, 20_000), 0.5), front_end, rng())
    assert slow.shape == (16, 20_000) and abs(slow.mean()) < 0.05
    assert slow.std(1).tolist() == pytest.approx([0.5] * 16, rel=0.1)
    together = torch.corrcoef(slow)[0, 1:].mean().item()            # half of the power is common to all bands
    assert together == pytest.approx(0.5, abs=0.1)
    centred = slow - slow.mean(1, keepdim=True)
    later = (centred[:, 8:] * centred[:, :-8]).mean() / centred.square().mean()     # 64 ms later: 1 / e
    assert later.item() == pytest.approx(math.exp(-1), abs=0.08)
    assert not swelling(torch.zeros(16, 50), front_end, rng()).any()


def test_noise_that_swells_is_louder_now_and_softer_then():
    audio, sound = Audio(change="noise", **SMALL), floats(np.zeros((40_000, 1), np.float32))
    even, uneven = (
        audio.carry_out(plan_of(audio, sound, level=-3.0, spread=spread), sound, rng())[0] for spread in (0.0, 0.8)
    )
    loudness = [np.log(np.square(one.samples[:, 0]).reshape(-1, 400).mean(1)).std() for one in (even, uneven)]
    assert loudness[1] > 2 * loudness[0]


def test_the_noise_has_the_spectrum_that_was_planned():
    audio, sound = small(change="noise"), floats(np.zeros((24000, 1), dtype=np.float32))
    plan = plan_of(audio, sound, level=-3.0)
    plan[1] -= torch.linspace(0, 4, 16)[:, None]
    made, _ = audio.carry_out(plan, sound, rng())
    levels = audio._front_end.log_mel(channel(made)).exp().mean(-1).log()
    assert (levels - plan[1, :, 0]).abs().max() < 0.15


def test_a_seed_is_a_noise_and_every_channel_has_its_own():
    audio, sound = small(change="noise"), floats(np.zeros((8000, 3), dtype=np.float32))
    plan = plan_of(audio, sound, level=-3.0)
    one, again, other = (audio.carry_out(plan, sound, rng(seed))[0].samples for seed in (1, 1, 2))
    assert one.tobytes() == again.tobytes() != other.tobytes()
    likeness = np.corrcoef(np.hstack([one, other]).T) - np.eye(6)
    assert np.abs(likeness).max() < 0.1


@pytest.mark.parametrize("level", [-5.0, -4.0, -3.0])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_the_ratio_that_is_told_is_the_one_that_is_measured(rate, level):
    audio, sound = small(change="noise"), floats(speech(1.5, rate), rate)
    made, facts = audio.carry_out(plan_of(audio, sound, level=level), sound, rng())
    assert facts["snr_db"] == pytest.approx(snr_db(channel(sound), channel(made) - channel(sound), rate), abs=0.3)


def test_what_does_not_fit_is_turned_down_as_a_whole_and_told():
    audio, samples = small(change="noise"), speech(0.6, level=0.99)
    plan = plan_of(audio, Sound(samples, 8000), level=-0.5)
    made, facts = audio.carry_out(plan, Sound(samples, 8000, "PCM_16"), rng())
    loud, without = audio.carry_out(plan, Sound(samples, 8000, "FLOAT"), rng())
    assert np.abs(made.samples).max() == pytest.approx(1) and np.abs(loud.samples).max() > 1
    factor = 1 / np.abs(loud.samples).max()
    np.testing.assert_allclose(made.samples, loud.samples * factor, atol=1e-6)
    assert facts == without | {"level_db": pytest.approx(20 * math.log10(factor), abs=0.006)}


def test_what_lies_above_half_of_the_rate_stays_as_it_was():
    seconds = np.arange(22050) / 44100
    tones = (0.2 * np.sin(2 * np.pi * 1000 * seconds) + 0.2 * np.sin(2 * np.pi * 9000 * seconds)).astype(np.float32)[:, None]
    audio, sound = small(change="noise"), floats(tones, 44100)
    made, _ = audio.carry_out(plan_of(audio, sound, gain=-2.0, level=-3.0), sound, rng())
    change = (made.samples - sound.samples)[2000:-2000, 0]
    change = np.abs(np.fft.rfft(change * np.hanning(len(change))))
    hertz = np.fft.rfftfreq(22050 - 4000, 1 / 44100)
    assert change[hertz > 4200].max() < 1e-3 * change[hertz < 3900].max()


# No clicks


def roughness(samples: np.ndarray) -> np.ndarray:
    """The size of the third difference: where a smooth wave jumps, it is large."""
    return np.abs(np.diff(samples[:, 0].astype(np.float64), 3))


def test_a_sine_has_no_click_where_crops_blocks_and_tiles_meet(monkeypatch):
    from mmcycle.modalities import log_mel

    monkeypatch.setattr(log_mel, "BLOCK", 40)
    sine = (0.3 * np.sin(2 * np.pi * 220 * np.arange(40000) / 8000)).astype(np.float32)[:, None]
    gentle = translator(config(b={"change": "gain", "gain_db": [-6, 6]}), tile=96, overlap=32)      # 626 frames, many tiles
    made = gentle(floats(sine))
    assert not np.array_equal(made.samples, sine)
    inner = roughness(made.samples)[500:-500]
    assert inner.max() < 2.2 * roughness(sine).max()        # +6 dB at most, and nothing like a step


def test_silence_stays_silent_in_blocks_and_tiles(monkeypatch):
    from mmcycle.modalities import log_mel

    monkeypatch.setattr(log_mel, "BLOCK", 40)
    silence = floats(np.zeros((40000, 1), dtype=np.float32))
    for made in (config(), config(b={"change": "gain", "gain_db": [-6, 6]})):
        out = translator(made, tile=96, overlap=32).perform(silence)
        assert np.abs(out.raw.samples).max() < 5e-4 and np.isfinite(out.raw.samples).all()


def test_a_long_sound_in_tiles_is_close_to_the_whole():
    sound, made = floats(speech(8, seed=3)), config(b={"change": "gain", "gain_db": [-12, 12]})
    whole, tiled = translator(made)(sound), translator(made, tile=96, overlap=32)(sound)
    changed = channel(whole) - channel(sound)
    assert changed.square().mean() > 1e-7
    assert si_sdr(channel(tiled), channel(whole)) > 20


@pytest.mark.slow
def test_ten_minutes_are_translated_in_bounded_memory():
    sound = floats(np.tile(speech(10, seed=1), (60, 1)))
    noisy = translator(tile=1024)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = noisy.perform(sound)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert len(made.raw.samples) == len(sound.samples) and np.isfinite(made.raw.samples).all()
    assert grown < 40 * sound.samples.nbytes / 2**20, f"{grown:.0f} MiB"


# A model that was not trained is a model


def test_a_noisy_translation_adds_what_its_seed_says_and_tells_the_ratio():
    noisy, sound = translator(), floats(speech(1.0))
    one, again, other = (noisy.perform(sound, seed=seed) for seed in (1, 1, 5))
    assert one.raw.samples.tobytes() == again.raw.samples.tobytes() != other.raw.samples.tobytes()
    assert set(one.facts) == {"snr_db"} and one.facts == again.facts != other.facts
    added = channel(one.raw) - channel(sound)
    assert one.facts["snr_db"] == pytest.approx(snr_db(channel(sound), added, 8000), abs=0.1)


def test_no_strength_is_the_recording_itself_and_half_is_six_decibels_less_noise():
    noisy, sound = translator(), floats(speech(1.0))
    assert np.array_equal(noisy(sound, 0.0).samples, sound.samples)
    full, half = (rms_db(noisy(sound, strength, seed=2).samples - sound.samples) for strength in (1.0, 0.5))
    assert full - half == pytest.approx(20 * math.log10(2), abs=0.05)


def test_speech_of_another_loudness_gets_noise_of_that_loudness():
    noisy = translator()
    loud, soft = (floats((speech(1.0) + white(8000, rms=0.02)) * scale) for scale in (np.float32(1), np.float32(0.1)))
    ratios = [noisy.perform(sound, seed=3).facts["snr_db"] for sound in (loud, soft)]
    assert ratios[0] == pytest.approx(ratios[1], abs=0.2)


def test_styles_of_other_levels_give_other_ratios():
    noisy, sound = translator(), floats(speech(1.0))
    ratios = {round(noisy.perform(sound, seed=seed).facts["snr_db"]) for seed in range(12)}
    assert len(ratios) >= 3 and max(ratios) - min(ratios) > 8


@pytest.mark.parametrize("direction", ["ab", "ba"])
@pytest.mark.parametrize("samples", [np.zeros((1, 1)), np.zeros((400, 2)), np.full((1, 1), 0.5), white(100), white(9000, 64)])
def test_the_odd_and_the_empty_come_back_at_their_own_size_and_finite(direction, samples):
    sound = Sound(samples.astype(np.float32), 192_000 if len(samples) == 9000 else 8000)
    made = translator(direction=direction).perform(sound)
    assert made.raw.samples.shape == sound.samples.shape and np.isfinite(made.raw.samples).all()
    assert all(math.isfinite(value) for value in made.facts.values())


def test_a_spectrogram_without_a_wave_becomes_sound_of_its_level():
    audio, sound = small(), floats(speech(0.6) + white(4800, rms=0.01))
    x, _ = audio.to_tensor(sound)
    made = audio.from_tensor(x, None)
    assert made.rate == 8000 and made.samples.shape == (4800, 1)
    assert abs(rms_db(made.samples) - rms_db(sound.samples)) < 3
    assert log_spectral_distance(x, audio.to_tensor(made)[0]) < 6


def test_a_crossing_model_makes_sound_without_a_head():
    assert small(change="noise").head(Image()) is None
    assert small(change="any").head(small()) is None


# Settings


@pytest.mark.parametrize(("wrong", "words"), [
    ({"gain_db": (1.0, 6.0)}, r"gain_db: got \(1.0, 6.0\); the first lies in \[-100, 0\], the second in \[0, 40\]"),
    ({"gain_db": (-6.0, 41.0)}, "gain_db: got"),
    ({"change": "gain"}, r"gain_db: change gain needs room, such as \[-40, 0\]"),
    ({"hop": 300}, "hop: got 300; it is at most half of n_fft, 256"),
])
def test_a_setting_that_cannot_be_is_refused(wrong, words):
    with pytest.raises(UserError, match=words):
        Audio(**wrong)


@pytest.mark.parametrize("wrong", [{"rate": 10}, {"mels": 0}, {"change": "echo"}, {"max_seconds": 0}, {"bands": 3}])
def test_a_setting_of_the_wrong_kind_is_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TypeAdapter(Audio).validate_python(wrong)


@pytest.mark.parametrize("other", [{"rate": 16000}, {"hop": 128}, {"mels": 32, "n_fft": 512}])
def test_two_grids_cannot_keep_one_wave(other):
    with pytest.raises(ValueError, match="change='noise' keeps the wave, so rate, n_fft, hop and mels of both domains must be equal"):
        small(change="noise").head(small(**other))


def test_the_distance_of_six_decibels_is_six_decibels():
    x = small().to_tensor(floats(white(8000, rms=0.05)))[0]
    y = small().to_tensor(floats(white(8000, rms=0.05) / 2))[0]
    assert log_spectral_distance(x, x) == 0
    assert log_spectral_distance(x, y) == pytest.approx(20 * math.log10(2), abs=0.01)


# Files that are not whole sounds


def riff(content: bytes, rate: int = 8000, channels: int = 1, promised: int | None = None) -> bytes:
    size = len(content) if promised is None else promised
    head = pack("<HHIIHH", 3, channels, rate, 4 * channels * rate, 4 * channels, 32)        # floats
    return b"RIFF" + pack("<I", 36 + len(content)) + b"WAVEfmt " + pack("<I", 16) + head + b"data" + pack("<I", size) + content


def broken(folder: Path) -> dict[str, tuple[bytes, str]]:
    """File name -> its bytes, and what must be said of it."""
    whole = (sounds(folder, count=1) / "00.flac").read_bytes()
    good = speech(0.1).tobytes()
    return {
        "empty.wav": (b"", "is empty; remove it or restore it"),
        "no_samples.wav": (riff(b""), "holds no samples"),
        "nan.wav": (riff(np.array([0, np.nan], np.float32).tobytes()), "has samples that are NaN or infinite"),
        "infinite.wav": (riff(np.array([0, np.inf], np.float32).tobytes()), "has samples that are NaN or infinite"),
        "truncated.flac": (whole[: len(whole) // 2], "truncated"),
        "liar.wav": (riff(good, promised=2**31 - 8), "is truncated: .* of 2147483640 bytes of sound are there"),
        "slow.wav": (riff(good, rate=1), "has 1 samples a second; sounds have 1000 or more: its header is wrong"),
        "crowd.wav": (riff(bytes(4 * 300 * 8), channels=300), "has 300 channels; allowed are 1 to 256"),
        "text.wav": (b"This is a letter, not a sound.\n" * 20, "is not a sound in a known format"),
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clean/ (with transcripts), noisy/ and run/, trained on the command line."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("sound")
    said = mmcycle("train", tiny_yaml(root), "--out", root / "run", "train.steps=4", "run.sample_every=4")
    assert said.code == 0, said
    for path in (root / "clean").glob("*.flac"):
        path.with_suffix(".txt").write_text(f"transcript of {path.stem}\n")
    return root


def test_training_shows_spectrograms(root):
    assert len(list((root / "run/samples").glob("*.png"))) == 1
    assert load_config(root / "run/config.yaml").b.modality == small(change="noise")


def test_clean_recordings_become_noisy_ones_with_their_transcripts(root, tmp_path):
    before, out = contents(root / "clean"), tmp_path / "out"
    said = mmcycle("generate", root / "clean", out, "--with", f"audio={root / 'run'}", "--copies", 2, "--devices", 1)
    assert said.code == 0 and "8 done" in said.out, said
    assert mmcycle("verify", out).code == 0
    rows = list(read_rows(out))
    assert len(rows) == 8 and all(math.isfinite(row.params["audio.snr_db"]) for row in rows)
    noisy = Translator.load(root / "run", "ab", device="cpu")
    for row in rows:
        made, source = (read_sound(path, 10) for path in (out / row.streams["audio"].output, root / "clean" / row.streams["audio"].source))
        assert (made.rate, made.subtype, made.samples.shape) == (source.rate, source.subtype, source.samples.shape)
        alone = noisy(source, row.params["strength"], item_seed(0, row.key, row.copy))      # in any order, on any worker
        assert np.abs(made.samples - alone.samples).max() <= 2**-16 + 1e-7
        assert not np.array_equal(made.samples, source.samples)
        assert (out / row.labels[0].output).read_text() == f"transcript of {Path(row.streams['audio'].source).stem}\n"
    assert contents(root / "clean") == before


def test_single_sounds_are_translated_both_ways(root, tmp_path):
    for direction in ("ab", "ba"):
        said = mmcycle("translate", root / "run", root / "clean/00.flac", "--out", tmp_path / direction, "--direction", direction)
        assert said.code == 0, said
        made = read_sound(tmp_path / direction / "00.flac", 10)
        assert made.samples.shape == read_sound(root / "clean/00.flac", 10).samples.shape


def test_every_broken_sound_is_quarantined_with_a_sentence_and_all_others_are_done(root, tmp_path):
    source, out, bad = sounds(tmp_path / "source", count=2), tmp_path / "out", broken(tmp_path / "whole")
    for name, (content, _) in bad.items():
        (source / name).write_bytes(content)
    odd = {"one.wav": Sound(np.full((1, 1), 0.5, np.float32), 8000), "silence.wav": Sound(np.zeros((999, 1), np.float32), 8000),
           "fast.wav": Sound(white(20000), 192_000), "many.wav": Sound(white(2000, 64), 16000)}
    for name, sound in odd.items():
        write_sound(sound, source / name)
    said = mmcycle("generate", source, out, "--with", f"audio={root / 'run'}", "--on-error", "quarantine")
    assert said.code == 0 and f"{len(bad) + 6} recordings: 6 done, 0 skipped (done before), {len(bad)} quarantined" in said.out, said
    listed = {row["path"]: row["reason"] for row in map(json.loads, (out / "quarantine.jsonl").read_text().splitlines())}
    assert set(listed) == set(bad)
    for name, (_, why) in bad.items():
        assert re.match(f"{name}: .*{why}", listed[name]) and "\n" not in listed[name], listed[name]
    for name, sound in odd.items():
        made = read_sound(out / name, 10)
        assert made.samples.shape == sound.samples.shape and made.rate == sound.rate
    assert mmcycle("verify", out).code == 0


def test_a_broken_sound_is_named_by_translate(root, tmp_path):
    (tmp_path / "text.wav").write_bytes(b"This is a letter, not a sound.\n" * 20)
    told = refused("translate", root / "run", tmp_path / "text.wav", "--out", tmp_path / "out")
    assert told.startswith(f"{tmp_path}/text.wav: is not a sound in a known format; allowed are WAV")


def test_a_file_that_lasts_longer_than_allowed_is_refused(tmp_path):
    write_sound(Sound(white(8000), 8000), tmp_path / "x.flac")
    with pytest.raises(RecordingError, match="x.flac: lasts 1.0 s, max_seconds = 0.5 is allowed"):
        Audio(max_seconds=0.5).load(tmp_path / "x.flac")
