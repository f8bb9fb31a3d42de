"""Clean speech and noise become two unpaired domains, of which the truth is known where it is measured."""
import csv
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from command import contents
from mmcycle.data.layouts import scan
from mmcycle.errors import UserError
from mmcycle.metrics import noisy_speech
from mmcycle.metrics.noise_level import mix_at_snr, snr_db
from mmcycle.metrics.noisy_speech import KnownSpeech, compare_cleaned, compare_noisy, noise_floor_db, waves_of
from mmcycle.modality import find_modality
from mmcycle.simulate.noisy_speech import write_noisy_speech
from mmcycle.simulate.speech_set import SpeechSet, write_flac, write_speech_set, write_table

pytestmark = pytest.mark.usefixtures("one_thread")

soundfile = pytest.importorskip("soundfile")
RATE = 16000


@pytest.fixture(scope="module")
def sound():
    return find_modality("audio")()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("recorded")
    write_speech_set(out, SpeechSet(seed=1, voices=8, takes=2, pieces=2, seconds=0.6))
    return out


@pytest.fixture(scope="module")
def domains(recorded, sound, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("domains")
    write_noisy_speech(recorded, out, sound, snr_db=(0, 15), seed=0)
    return out


@pytest.fixture
def small(tmp_path) -> Path:
    """Two training speakers and one of the test, a second each; a piece of noise of each split."""
    source, rng = tmp_path / "source", np.random.default_rng(0)
    rows = [
        {"file": f"clean_speech/{name}.flac", "speaker": name, "split": "test" if name == "eve" else "train"}
        for name in ("ann", "bob", "eve")
    ]
    for row in rows:
        write_flac(source / row["file"], 0.1 * rng.standard_normal(RATE))
    pieces = [{"file": f"noise/{split}.flac", "split": split} for split in ("train", "test")]
    for piece in pieces:
        write_flac(source / piece["file"], 0.01 * rng.standard_normal(RATE // 2))
    write_table(source / "clean_speech/labels.csv", rows)
    write_table(source / "noise/labels.csv", pieces)
    return source


def wave(path: Path) -> Tensor:
    return torch.from_numpy(soundfile.read(path, dtype="float32")[0])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def speakers(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.rglob("*.flac")}


# Two domains


def test_no_speaker_stands_on_two_sides_and_all_stand_somewhere(domains):
    sides = [speakers(domains / name) for name in ("clean", "noisy", "held_out/clean")]
    assert [len(side) for side in sides] == [3, 3, 2]
    assert len(set.union(*sides)) == 8 and sides[2] == {"voice_03", "voice_07"}


def test_clean_recordings_are_the_very_same_files_with_their_rows(domains, recorded):
    rows = table(domains / "clean/labels.csv")
    assert len(rows) == 6 and list(rows[0]) == ["file", "speaker", "label", "transcript", "split"]
    for row in rows:
        assert (domains / "clean" / row["file"]).read_bytes() == (recorded / "clean_speech" / row["file"]).read_bytes()


def test_the_clean_domain_is_a_table_of_labelled_recordings(domains):
    found = scan(domains / "clean", {"audio": (".flac",)})
    assert found.layout == "table" and found.tables == ("labels.csv",) and not found.strays
    assert found.records[0].tags.keys() == {"speaker", "label", "transcript", "split"}


def test_nobody_says_what_is_in_the_noisy_domain(domains):
    assert {path.suffix for path in (domains / "noisy").rglob("*") if path.is_file()} == {".flac"}


def test_held_out_noisy_speech_is_clean_speech_plus_noise_at_the_ratio_that_is_told(domains):
    told = table(domains / "held_out/noisy/labels.csv")
    assert len(told) == 4 and all(0 <= float(row["snr_db"]) <= 15 for row in told)
    assert {row["noise"] for row in told} <= {f"noise/{kind}_01.flac" for kind in ("traffic", "rain", "wind", "machine", "babble")}
    for row in told:
        clean, noise, noisy = (wave(domains / "held_out" / part / row["file"]) for part in ("clean", "noise", "noisy"))
        assert (noisy - clean - noise).abs().max() <= 2**-15
        assert snr_db(clean, noise, RATE) == pytest.approx(float(row["snr_db"]), abs=0.1)


def test_the_same_line_again_writes_no_recording_again_and_brings_back_what_is_lost(domains, recorded, sound):
    before = contents(domains)
    lost = next((domains / "held_out/noise").rglob("*.flac"))
    places = {path: path.stat().st_ino for path in domains.rglob("*.flac") if lost.name != path.name}
    lost.unlink()
    write_noisy_speech(recorded, domains, sound, snr_db=(0, 15), seed=0)
    assert contents(domains) == before
    assert {path: path.stat().st_ino for path in places} == places


def test_a_domain_made_otherwise_is_refused(domains, recorded, sound):
    with pytest.raises(UserError, match=r"already holds noisy speech with snr_db \[0, 15\]; asked for snr_db \[5, 15\]"):
        write_noisy_speech(recorded, domains, sound, snr_db=(5, 15), seed=0)


def test_another_seed_gives_other_halves_or_other_noise(domains, recorded, sound, tmp_path):
    write_noisy_speech(recorded, tmp_path / "other", sound, seed=1)
    told, other = (table(folder / "held_out/noisy/labels.csv") for folder in (domains, tmp_path / "other"))
    assert [row["snr_db"] for row in told] != [row["snr_db"] for row in other]


def test_files_of_no_named_speaker_are_parted_one_by_one(small, sound, tmp_path):
    rows = [row | {"speaker": ""} for row in table(small / "clean_speech/labels.csv")]
    write_table(small / "clean_speech/labels.csv", rows)
    write_noisy_speech(small, tmp_path / "out", sound)
    assert [len(list((tmp_path / "out" / side).glob("*.flac"))) for side in ("clean", "noisy")] == [1, 1]


def test_noise_of_another_rate_and_shorter_than_the_speech_is_resampled_and_goes_round(small, sound, tmp_path):
    tone = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(800) / 8000)                # 0.1 s at 8 kHz
    write_flac(small / "noise/test.flac", tone, rate=8000)
    write_noisy_speech(small, tmp_path / "out", sound, snr_db=(0, 0))
    noise = wave(tmp_path / "out/held_out/noise/eve.flac").double()
    power = torch.fft.rfft(noise).abs().square()
    assert len(noise) == RATE and power.argmax() == pytest.approx(1000, abs=2)


def test_a_mixture_that_would_clip_is_turned_down_as_a_whole(small, sound, tmp_path):
    write_flac(small / "clean_speech/eve.flac", np.sign(np.sin(np.arange(RATE) / 10)) * 0.9)
    write_noisy_speech(small, tmp_path / "out", sound, snr_db=(5, 5))
    held_out = tmp_path / "out/held_out"
    clean, noise, noisy = (wave(held_out / part / "eve.flac") for part in ("clean", "noise", "noisy"))
    scale = ((noisy - noise) @ clean / (clean @ clean)).item()
    assert noisy.abs().max() < 1 and 0.3 < scale < 0.9
    assert snr_db(scale * clean, noise, RATE) == pytest.approx(5, abs=0.1)


def spoil(source: Path, how: str) -> None:
    speech, noise = source / "clean_speech/labels.csv", source / "noise/labels.csv"
    rows = table(speech)
    if how == "no table":
        noise.unlink()
    elif how == "no split":
        write_table(speech, [{"file": row["file"]} for row in rows])
    elif how == "no file":
        (source / rows[1]["file"]).unlink()
    elif how == "outside":
        write_table(speech, [rows[0] | {"file": "../../secret.flac"}])
    elif how == "nobody to test":
        write_table(speech, [row | {"split": "train"} for row in rows])
    elif how == "silent speech":
        for row in rows:
            write_flac(source / row["file"], np.zeros(RATE))
    elif how == "silent noise":
        write_flac(source / "noise/train.flac", np.zeros(RATE))
    else:
        shutil.copy(speech, source / rows[0]["file"])
        shutil.copy(speech, source / rows[1]["file"])


@pytest.mark.parametrize("how, sentence", [
    ("no table", r"noise/labels\.csv: cannot be read: No such file"),
    ("no split", r"clean_speech/labels\.csv:2: has no 'split'; each row needs a file and a split"),
    ("no file", r"clean_speech/labels\.csv:3: clean_speech/bob\.flac is not there; files are named relative to "),
    ("outside", r"'\.\./\.\./secret\.flac' is not a path inside"),
    ("nobody to test", "two training speakers, a test speaker and noise of both splits are needed"),
    ("silent speech", r"clean_speech/\w+\.flac: is silent, so no noise"),
    ("silent noise", r"noise/train\.flac: is silent for the most part"),
    ("text named flac", r"clean_speech/\w+\.flac"),
])
def test_what_cannot_be_mixed_is_answered_by_name(small, sound, tmp_path, how, sentence):
    spoil(small, how)
    with pytest.raises(UserError, match=sentence):
        write_noisy_speech(small, tmp_path / "out", sound)


# How near they come


def pulses(seed: int, seconds: float = 1.2) -> Tensor:
    """A buzz that comes and goes, over nothing."""
    time = torch.arange(round(seconds * RATE)) / RATE
    buzz = sum(torch.sin(2 * torch.pi * (100 + 8 * (seed % 9)) * k * time + k) / k for k in range(1, 20))
    return 0.1 * buzz * torch.sin(2 * torch.pi * 2 * time + seed).clamp_min(0)


def low_noise(seed: int, samples: int) -> Tensor:
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    return noise.cumsum(0) - noise.cumsum(0).mean() + 5 * noise


@pytest.fixture(scope="module")
def truth() -> KnownSpeech:
    clean = [pulses(seed) for seed in range(32)]
    noisy = [mix_at_snr(one, low_noise(seed, len(one)), seed % 16, RATE).wave for seed, one in enumerate(clean)]
    return KnownSpeech(clean, [b - a for a, b in zip(clean, noisy)], noisy, RATE)


@pytest.fixture(scope="module")
def few(truth) -> KnownSpeech:
    return KnownSpeech(truth.clean[:4], truth.noise[:4], truth.noisy[:4], RATE)


@pytest.fixture(scope="module")
def measured(truth) -> dict[str, float]:
    """A translation whose noise is of the right kind, and as loud as that of the real one of its left neighbour."""
    snrs = [float((seed + 1) % 16) for seed in range(32)]
    made = [mix_at_snr(one, low_noise(900 + n, len(one)), snr, RATE).wave for n, (one, snr) in enumerate(zip(truth.clean, snrs))]
    return compare_noisy(truth, made, snrs, torch.Generator().manual_seed(0))


def test_a_perfect_translation_is_at_the_floor_and_nearer_than_white_noise_and_than_no_noise(measured):
    assert measured["SNR, dB, W1 to the real: translated"] < 0.5
    for measure in ("Frechet", "LSD to the real, dB"):
        assert measured[f"{measure}: translated"] < measured[f"{measure}: white"] < measured[f"{measure}: untranslated"]
    for measure in ("WADA SNR, dB, W1 to the real", "noise floor, dB, W1 to the real"):
        assert 4 * measured[f"{measure}: translated"] < measured[f"{measure}: untranslated"]
    assert measured["Frechet: translated"] < 2 * measured["Frechet: floor"]
    assert measured["Frechet: waves on either side"] == 16


def test_the_spread_of_the_noise_from_file_to_file_is_that_of_the_ratios(measured):
    true = torch.tensor([float(seed % 16) for seed in range(32)])
    assert measured["SNR, dB, spread: real"] == pytest.approx(true.std().item(), abs=0.05)
    assert measured["SNR, dB, mean: real"] == pytest.approx(true.mean().item(), abs=0.05)
    assert measured["noise floor, dB, spread: translated"] == pytest.approx(measured["noise floor, dB, spread: real"], rel=0.2)
    assert measured["noise floor, dB, spread: untranslated"] < 1


def test_stoi_is_measured_where_it_is_installed_and_left_out_where_not(measured):
    pytest.importorskip("pystoi")
    assert measured["STOI: translated"] == pytest.approx(measured["STOI: real noise, same SNR"], abs=0.03)


def test_the_same_seed_measures_the_same(few):
    one, other = (compare_noisy(few, few.noisy, [0.0, 1, 2, 3], torch.Generator().manual_seed(1)) for _ in range(2))
    assert one == other and all(map(math.isfinite, one.values()))
    assert one["LSD to the real, dB: translated"] == 0 and one["SNR, dB, W1 to the real: translated"] < 0.01
    assert not any(name.startswith("Frechet") for name in one)          # of four recordings it says nothing


def test_cleaning_that_does_nothing_changes_nothing_and_perfect_cleaning_is_perfect(few):
    same, perfect = compare_cleaned(few, few.noisy), compare_cleaned(few, few.clean)
    assert same["SI-SDR, dB: cleaned"] == same["SI-SDR, dB: noisy"]
    assert same["LSD to clean, dB: cleaning, cleaned"] == same["LSD to clean, dB: cleaning, noisy"] > 5
    assert perfect["LSD to clean, dB: cleaning, cleaned"] == 0


def test_half_the_noise_is_a_gain_of_six_decibels(few):
    halved = compare_cleaned(few, [clean + noise / 2 for clean, noise in zip(few.clean, few.noise)])
    assert halved["SI-SDR, dB: cleaned"] - halved["SI-SDR, dB: noisy"] == pytest.approx(6.02, abs=0.3)


def test_the_noise_floor_is_the_level_of_the_quiet_moments():
    still = torch.zeros(RATE)
    assert noise_floor_db(still, RATE) == -100
    steady = 0.1 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    assert noise_floor_db(steady, RATE) == pytest.approx(-20, abs=0.7)
    loud = torch.cat([steady, 100 * steady])
    assert noise_floor_db(loud, RATE) == pytest.approx(-20, abs=0.7)


def test_numbers_that_do_not_fit_together_are_refused(truth):
    with pytest.raises(UserError, match=r"clean, noise and noisy hold \(3, 3, 3\) waves: .* 4 or more"):
        KnownSpeech(truth.clean[:3], truth.noise[:3], truth.noisy[:3], RATE)
    with pytest.raises(UserError, match="32 recordings, 31 translations, 32 SNRs: need as many of each"):
        compare_noisy(truth, truth.noisy[1:], [0.0] * 32, torch.Generator())
    with pytest.raises(UserError, match="32 recordings and 31 cleaned ones: need as many of each"):
        compare_cleaned(truth, truth.noisy[1:])


def test_folders_are_read_by_name(domains):
    names = [row["file"] for row in table(domains / "held_out/noisy/labels.csv")]
    found = KnownSpeech.of_folder(domains / "held_out", names, lambda path: (wave(path), RATE))
    assert found.rate == RATE and torch.equal(found.noise[2], wave(domains / "held_out/noise" / names[2]))


def test_a_missing_recording_and_mixed_rates_are_refused(domains):
    clean = domains / "held_out/clean"
    names = [row["file"] for row in table(clean / "labels.csv")]
    with pytest.raises(UserError, match="gone.flac is not there, but is to be measured"):
        waves_of(clean, ["gone.flac"], lambda path: (wave(path), RATE))
    with pytest.raises(UserError, match="no recording is named that is to be measured"):
        waves_of(clean, [], lambda path: (wave(path), RATE))
    rates = iter([8000, 16000, 16000, 16000])
    with pytest.raises(UserError, match="has recordings of 8000, 16000 Hz; compare those of one rate"):
        waves_of(clean, names, lambda path: (wave(path), next(rates)))


def test_without_the_library_stoi_is_left_out(few, monkeypatch):
    monkeypatch.setattr(noisy_speech, "available", lambda measure: False)
    assert not any("STOI" in name for name in compare_cleaned(few, few.noisy))
