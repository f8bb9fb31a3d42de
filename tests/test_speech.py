"""Speech-like sound and street-like noise: what was asked for can be measured in the wave."""
import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from command import contents
from mmcycle.errors import UserError
from mmcycle.metrics.noise_level import active_level_db, wada_snr
from mmcycle.metrics.waves import log_mel
from mmcycle.simulate.noises import NOISES, make_noise
from mmcycle.simulate.speech import RATE, WORDS, Voice, coloured, say
from mmcycle.simulate.speech_set import SpeechSet, write_flac, write_speech_set

pytestmark = pytest.mark.usefixtures("one_thread")

MAN = Voice(pitch=110, tract=1.0, breath=0.02, pace=1.0)


def spoken(*words: str, seed: int = 0, voice: Voice = MAN, level_db: float = -26.0) -> np.ndarray:
    return say(words, voice, np.random.default_rng(seed), level_db)


def noise(kind: str, seed: int = 0, seconds: float = 2.0) -> np.ndarray:
    return make_noise(kind, seconds, np.random.default_rng(seed))


def share(wave: np.ndarray, low: float, high: float) -> float:
    """Of the power, what lies from `low` to `high` Hz."""
    power = np.abs(np.fft.rfft(wave)) ** 2
    frequency = np.fft.rfftfreq(len(wave), 1 / RATE)
    return power[(frequency >= low) & (frequency < high)].sum() / power.sum()


def decibel(wave: np.ndarray) -> float:
    return 10 * np.log10(np.square(wave.astype(np.float64)).mean())


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_same_seed_says_the_same_and_another_one_says_it_otherwise():
    assert spoken("seven", "two").tobytes() == spoken("seven", "two").tobytes()
    one, other = spoken("seven"), spoken("seven", seed=1)
    assert len(one) != len(other) or not np.array_equal(one, other)


def test_speech_is_float32_within_full_scale_however_loud_it_is_asked_for():
    wave = spoken("zero", level_db=20)
    assert wave.dtype == np.float32 and 0.9 < np.abs(wave).max() < 1


def test_a_voice_has_its_pitch():
    for pitch in (95, 210):
        wave = spoken("nine", voice=Voice(pitch=pitch, tract=1.0, breath=0.0, pace=2.0)).astype(np.float64)
        loudest = np.convolve(wave**2, np.ones(1600), mode="same").argmax()
        piece = wave[loudest - 800 : loudest + 800]
        alike = np.correlate(piece, piece, mode="full")[len(piece) - 1 :]
        period = 40 + alike[40:250].argmax()                    # 64 to 400 Hz
        assert RATE / period == pytest.approx(pitch, rel=0.15)


def test_the_harmonics_of_a_high_voice_do_not_alias():
    high = spoken("one", voice=Voice(pitch=230, tract=1.2, breath=0.0, pace=1.0), level_db=-10)
    assert share(high, 7700, 8000) < 1e-6


def test_front_and_back_vowels_differ_in_their_second_resonance():
    def front(wave: np.ndarray) -> float:
        return share(wave, 1900, 3200) / share(wave, 750, 1300)

    assert front(spoken("three")) > 5 * front(spoken("four"))


def test_a_shorter_throat_has_higher_resonances():
    def middle(tract: float) -> float:
        wave = spoken("four", voice=Voice(pitch=60, tract=tract, breath=0.0, pace=1.0))
        power, frequency = np.abs(np.fft.rfft(wave)) ** 2, np.fft.rfftfreq(len(wave), 1 / RATE)
        return (power * frequency).sum() / power.sum()

    assert middle(1.2) > 1.1 * middle(1.0)


def test_the_first_sound_of_six_hisses_high_up():
    wave = spoken("six")
    start = np.flatnonzero(np.abs(wave) > 0.01)[0]
    assert share(wave[start : start + 800], 3500, 8000) > 0.9


def test_speech_begins_and_ends_in_silence_80_db_below_full_scale():
    wave = spoken("eight", "one")
    for edge in (wave[:800], wave[-800:]):
        assert decibel(edge) == pytest.approx(-80, abs=1)
    assert wada_snr(torch.from_numpy(wave)) > 30


def test_more_words_take_longer():
    assert len(spoken("one", "one", "one")) > 1.6 * len(spoken("one"))


def test_ten_decibels_more_are_ten_decibels_more():
    quiet, loud = (torch.from_numpy(spoken("nine", level_db=level)) for level in (-36, -26))
    assert active_level_db(quiet, RATE) == pytest.approx(-36, abs=3)
    assert active_level_db(loud, RATE) - active_level_db(quiet, RATE) == pytest.approx(10, abs=0.1)


def test_the_words_of_strange_voices_can_be_told_apart():
    """By the nearest mean of other voices, on nothing but the mel bands of eight parts of the word."""
    def seen(word: str, voice: int) -> torch.Tensor:
        rng = np.random.default_rng(voice)
        bands = log_mel(torch.from_numpy(say([word], Voice.draw(rng), rng)), RATE, bands=24, hop=0.008).clamp_min(-70)
        loud = (bands.mean(0) > -65).nonzero()[:, 0]
        bands = bands[:, loud[0] : loud[-1] + 1]
        return torch.nn.functional.adaptive_avg_pool1d(bands - bands.mean(), 8).flatten()

    words = list(WORDS)
    means = torch.stack([torch.stack([seen(word, voice) for voice in range(4)]).mean(0) for word in words])
    told = [torch.cdist(seen(word, voice)[None], means).argmin().item() for voice in (6, 7) for word in words]
    right = sum(words[place] == word for place, word in zip(told, words * 2))
    assert right >= 16                                          # of 20; guessing gives 2


@pytest.mark.parametrize("words, found", [(["eleven"], "eleven"), (["one", "ten"], "ten"), ([], "nothing")])
def test_what_cannot_be_said_is_refused(words, found):
    with pytest.raises(UserError, match=f"cannot say {found}; the words are zero, one"):
        say(words, MAN, np.random.default_rng(0))


@pytest.mark.parametrize("kind", NOISES)
def test_a_noise_has_the_level_and_the_length_asked_for_and_depends_on_the_seed_alone(kind):
    wave = make_noise(kind, 0.5, np.random.default_rng(3), level_db=-33)
    assert wave.dtype == np.float32 and wave.shape == (8000,) and np.abs(wave).max() < 1
    assert decibel(wave) == pytest.approx(-33, abs=0.01)
    assert wave.tobytes() == make_noise(kind, 0.5, np.random.default_rng(3), level_db=-33).tobytes()
    assert not np.array_equal(wave, make_noise(kind, 0.5, np.random.default_rng(4), level_db=-33))


def test_noises_lie_where_they_do_in_a_street():
    low = {kind: share(noise(kind), 0, 300) for kind in ("wind", "traffic", "machine", "rain")}
    assert low["wind"] > 0.75 and low["traffic"] > 0.3 and low["rain"] < 0.02
    assert share(noise("rain"), 2000, 8000) > 0.7
    assert share(noise("babble"), 100, 4000) > 0.8


def test_no_noise_is_silent_in_any_band_or_at_any_time():
    for kind in NOISES:
        bands = log_mel(torch.from_numpy(noise(kind)), RATE, bands=16, hop=0.016)
        assert bands[:, 2:-2].min() > -99


def test_a_fan_turns_a_few_times_a_second():
    level = np.square(noise("machine", seconds=4.0)[:64000].reshape(-1, 160)).mean(axis=1)      # every 10 ms
    turning = np.abs(np.fft.rfft(level - level.mean()))[1:100]                                   # 0.25 to 25 Hz
    assert 4 <= (1 + turning.argmax()) / 4 <= 14


def test_coloured_noise_has_an_rms_of_1_around_its_middle():
    wave = coloured(32000, 1000, 0.3, np.random.default_rng(0))
    assert np.square(wave).mean() == pytest.approx(1)
    assert share(wave, 600, 1600) > 0.95


def test_noise_that_nobody_knows_and_no_noise_at_all_are_refused():
    with pytest.raises(UserError, match="no noise 'jackhammer'; the kinds are traffic, rain, wind, machine, babble"):
        make_noise("jackhammer", 1.0, np.random.default_rng(0))
    with pytest.raises(UserError, match="0 seconds of noise are no sound"):
        make_noise("rain", 0, np.random.default_rng(0))


TINY = SpeechSet(seed=5, voices=4, takes=1, pieces=2, seconds=0.5)


@pytest.fixture(scope="module")
def speech_set(tmp_path_factory) -> Path:
    pytest.importorskip("soundfile")
    out = tmp_path_factory.mktemp("set")
    write_speech_set(out, TINY)
    return out


def test_a_speech_set_has_a_row_for_every_file_and_a_file_for_every_row(speech_set):
    rows = table(speech_set / "clean_speech/labels.csv") + table(speech_set / "noise/labels.csv")
    files = {path.relative_to(speech_set).as_posix() for path in speech_set.rglob("*.flac")}
    assert {row["file"] for row in rows} == files and len(rows) == 4 + 5 * 2


def test_voices_and_pieces_of_noise_are_of_training_or_of_the_test(speech_set):
    spoken = table(speech_set / "clean_speech/labels.csv")
    assert [row["split"] for row in spoken] == ["train", "train", "train", "test"]
    assert [row["transcript"] for row in spoken] == [row["label"] for row in spoken] == ["zero", "one", "two", "three"]
    noises = table(speech_set / "noise/labels.csv")
    assert [(row["kind"], row["split"]) for row in noises[:2]] == [("traffic", "train"), ("traffic", "test")]


def test_every_fifth_take_is_a_sentence_without_a_label(tmp_path):
    pytest.importorskip("soundfile")
    write_speech_set(tmp_path, SpeechSet(voices=4, takes=5, pieces=2, seconds=0.1))
    rows = table(tmp_path / "clean_speech/labels.csv")
    assert [bool(row["label"]) for row in rows[:5]] == [True, True, True, True, False]
    assert len(rows[4]["transcript"].split()) == 4


def test_a_speech_set_that_lost_a_file_gets_it_back_and_nothing_else_is_touched(speech_set):
    before = contents(speech_set)
    lost = next(speech_set.rglob("voice_02/000.flac"))
    places = {path: path.stat().st_ino for path in speech_set.rglob("*.flac") if path != lost}
    lost.unlink()
    write_speech_set(speech_set, TINY)
    assert contents(speech_set) == before
    assert {path: path.stat().st_ino for path in places} == places


def test_a_folder_of_another_order_is_refused(speech_set, tmp_path):
    with pytest.raises(UserError, match="already holds a speech set with seed 5; asked for seed 6"):
        write_speech_set(speech_set, SpeechSet(seed=6, voices=4, takes=1, pieces=2, seconds=0.5))
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no speech_set.json"):
        write_speech_set(tmp_path, TINY)


@pytest.mark.parametrize("order", [SpeechSet(voices=3), SpeechSet(takes=0), SpeechSet(pieces=1), SpeechSet(seconds=0)])
def test_an_order_that_leaves_a_split_empty_is_refused(tmp_path, order):
    with pytest.raises(UserError, match="give 4 voices or more, a take or more, 2 pieces of noise or more"):
        write_speech_set(tmp_path / "out", order)
    assert not (tmp_path / "out").exists()


def test_a_flac_holds_16_bits_of_what_was_written(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    wave = np.array([0.0, 0.5, -0.5, 2**-15], dtype=np.float32)
    write_flac(tmp_path / "x.flac", wave)
    read, rate = soundfile.read(tmp_path / "x.flac", dtype="float32")
    assert rate == RATE and np.array_equal(read, wave)
