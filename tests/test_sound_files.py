"""Sound files: every kind comes back as it was, and everything that is not one whole sound is refused by name."""
import io
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from struct import pack, pack_into

import numpy as np
import pytest

from mmcycle.errors import MmcycleError, RecordingError, UserError
from mmcycle.modalities import sound_containers
from mmcycle.modalities.sound_files import FORMATS, LOSSY, SUFFIXES, Sound, nearest_subtype, read_sound, write_sound

soundfile = pytest.importorskip("soundfile")
REAL = Path(__file__).parents[2] / "shared" / "data" / "audio"
LOSSLESS = [(suffix, subtype) for suffix, (_, held) in FORMATS.items() for subtype in held if subtype not in LOSSY]
ENCODED = [(suffix, subtype) for suffix, (_, held) in FORMATS.items() for subtype in held if subtype in LOSSY]


def tones(n=24000, channels=2, rate=16000, peak=0.5):
    """(n, channels) of tones, another one in each channel, float32."""
    seconds = np.arange(n)[:, None] / rate
    return (peak * np.sin(2 * np.pi * seconds * (200 + 55 * np.arange(channels)))).astype(np.float32)


def noise(n=4000, channels=1, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, channels)).astype(np.float32)


def write_codes(path, codes, subtype, form=None):
    """Whole numbers of the subtype's own depth, written by libsndfile from the upper bits of int32."""
    bits = {"U8": 8, "S8": 8}.get(subtype[4:]) or int(subtype[4:])
    raised = (np.asarray(codes, dtype=np.int64) << (32 - bits)).astype(np.int32)
    soundfile.write(path, raised, 8000, subtype=subtype, format=form)
    return bits


def wav(content=bytes(200), rate=8000, channels=1, bits=16, tag=1, size=None, order="<", behind=b""):
    """A WAV made by hand (Microsoft's RIFF)."""
    frame = channels * bits // 8
    head = pack(order + "HHIIHH", tag, channels, rate, rate * frame & 0xFFFFFFFF, frame & 0xFFFF, bits)
    size = len(content) if size is None else size
    body = b"WAVEfmt " + pack(order + "I", 16) + head + b"data" + pack(order + "I", size) + content + behind
    return (b"RIFF" if order == "<" else b"RIFX") + pack(order + "I", len(body)) + body


def encoded(suffix, sound=None, subtype=None):
    """The bytes that write_sound makes of a sound."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        write_sound(sound or Sound(tones(4000), 16000, subtype or FORMATS[suffix][1][0]), path)
        return path.read_bytes()


# What is kept


@pytest.mark.parametrize(("suffix", "subtype"), LOSSLESS)
def test_every_kind_of_file_is_written_and_read_back_in_its_own_depth(suffix, subtype, tmp_path):
    samples = tones(4001, 3)
    assert write_sound(Sound(samples, 44100, subtype), tmp_path / f"x{suffix}") == 1
    sound = read_sound(tmp_path / f"x{suffix}", 10)
    bits = {"FLOAT": 24, "DOUBLE": 24, "ULAW": 6, "ALAW": 5, "PCM_S8": 8, "PCM_U8": 8}.get(subtype) or int(subtype[4:])
    assert (sound.rate, sound.subtype, sound.samples.shape) == (44100, subtype, samples.shape)
    assert sound.samples.dtype == np.float32 and sound.samples.flags.c_contiguous
    assert abs(sound.samples - samples).max() <= 2.0**-bits
    with soundfile.SoundFile(tmp_path / f"x{suffix}") as opened:
        assert opened.format.removesuffix("EX") == FORMATS[suffix][0]


@pytest.mark.parametrize(("suffix", "subtype"), [one for one in LOSSLESS if one[1].startswith("PCM")])
def test_whole_numbers_come_back_bit_by_bit(suffix, subtype, tmp_path):
    bits = {"PCM_S8": 8, "PCM_U8": 8}.get(subtype) or int(subtype[4:])
    full, rng = 2 ** (bits - 1), np.random.default_rng(0)
    codes = np.concatenate([[-full, full - 1, -full + 1, full - 2, -1, 0, 1], rng.integers(-full, full, 4000)])
    if bits == 32:
        codes = codes >> 8 << 8                     # the 24 upper bits, all that float32 can hold
    write_codes(tmp_path / f"in{suffix}", codes, subtype, FORMATS[suffix][0])
    sound = read_sound(tmp_path / f"in{suffix}", 10)
    np.testing.assert_array_equal(sound.samples[:, 0], codes / full)
    assert sound.subtype == subtype and sound.samples.min() == -1
    write_sound(sound, tmp_path / f"out{suffix}")
    for name in ("in", "out"):
        again, _ = soundfile.read(tmp_path / f"{name}{suffix}", dtype="int32")
        np.testing.assert_array_equal(again.astype(np.int64) >> (32 - bits), codes)


def test_32_bits_keep_the_24_that_float32_holds(tmp_path):
    rng = np.random.default_rng(0)
    codes = np.concatenate([[-(2**31), 2**31 - 1, 2**31 - 65, 12345], rng.integers(-(2**31), 2**31, 4000)])
    write_codes(tmp_path / "in.wav", codes, "PCM_32")
    write_sound(read_sound(tmp_path / "in.wav", 10), tmp_path / "out.wav")
    again, _ = soundfile.read(tmp_path / "out.wav", dtype="int32")
    moved = abs(again.astype(np.int64) - codes)
    assert (moved <= abs(codes) * 2.0**-24).all() and moved.max() <= 64 and moved[3] == 0


def test_doubles_are_rounded_to_floats_and_floats_keep_every_bit(tmp_path):
    values = np.concatenate([noise(1000).astype(np.float64)[:, 0], [1e-30, 3.5, -1000.25, 1 / 3]])
    for subtype in ("DOUBLE", "FLOAT"):
        soundfile.write(tmp_path / "in.wav", values, 8000, subtype=subtype)
        sound = read_sound(tmp_path / "in.wav", 10)
        np.testing.assert_array_equal(sound.samples[:, 0], values.astype(np.float32))
        assert write_sound(sound, tmp_path / "out.wav") == 1
        again, _ = soundfile.read(tmp_path / "out.wav", dtype="float64")
        np.testing.assert_array_equal(again, values.astype(np.float32).astype(np.float64))
        assert soundfile.info(tmp_path / "out.wav").subtype == subtype


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW"])
def test_telephone_companding_comes_back_sample_by_sample(subtype, tmp_path):
    codes = bytes(range(256))
    (tmp_path / "in.wav").write_bytes(wav(codes, bits=8, tag={"ULAW": 7, "ALAW": 6}[subtype]))
    sound = read_sound(tmp_path / "in.wav", 10)
    assert sound.subtype == subtype and sound.samples.shape == (256, 1)
    write_sound(sound, tmp_path / "out.wav")
    np.testing.assert_array_equal(read_sound(tmp_path / "out.wav", 10).samples, sound.samples)


@pytest.mark.parametrize(("before", "suffix", "after"), [
    ("PCM_U8", ".flac", "PCM_S8"), ("PCM_S8", ".wav", "PCM_U8"), ("PCM_S8", ".aiff", "PCM_16"),
    ("FLOAT", ".flac", "PCM_24"), ("DOUBLE", ".flac", "PCM_24"), ("PCM_32", ".flac", "PCM_24"),
    ("FLOAT", ".wav", "FLOAT"), ("ULAW", ".flac", "PCM_16"), ("VORBIS", ".wav", "PCM_16"),
    ("IMA_ADPCM", ".wav", "PCM_16"), ("ALAC_20", ".caf", "PCM_24"), ("ALAC_32", ".caf", "PCM_32"),
    ("PCM_24", ".ogg", "VORBIS"), ("OPUS", ".ogg", "OPUS"), ("VORBIS", ".opus", "OPUS"),
    ("PCM_16", ".mp3", "MPEG_LAYER_III"), ("MPEG_LAYER_III", ".ogg", "VORBIS"),
])
def test_a_format_that_cannot_hold_the_depth_gets_the_nearest(before, suffix, after, tmp_path):
    assert nearest_subtype(before, FORMATS[suffix][1]) == after
    write_sound(Sound(tones(800), 16000, before), tmp_path / f"x{suffix}")
    assert read_sound(tmp_path / f"x{suffix}", 10).subtype == after


def test_numbers_are_rounded_to_the_nearest_without_bias(tmp_path):
    steps = np.array([-2.5, -1.6, -1.5, -0.6, -0.5, -0.4, 0.4, 0.5, 0.6, 1.5, 1.6, 2.5])
    write_sound(Sound((steps / 32768).astype(np.float32)[:, None], 8000), tmp_path / "x.wav")
    codes, _ = soundfile.read(tmp_path / "x.wav", dtype="int16")
    assert codes.tolist() == [-2, -2, -2, -1, 0, 0, 0, 0, 1, 2, 2, 2]


def test_full_scale_is_not_scaled_and_ends_one_step_lower(tmp_path):
    assert write_sound(Sound(np.array([[1.0], [-1.0]], np.float32), 8000), tmp_path / "x.wav") == 1
    assert soundfile.read(tmp_path / "x.wav", dtype="int16")[0].tolist() == [32767, -32768]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_a_sound_beyond_full_scale_is_scaled_as_a_whole_and_says_by_how_much(suffix, tmp_path):
    loud = tones(8000, 1, peak=2.0)
    factor = write_sound(Sound(loud, 16000), tmp_path / f"x{suffix}")
    assert factor == pytest.approx(0.5, abs=1e-4)
    error = read_sound(tmp_path / f"x{suffix}", 10).samples - loud * factor
    assert np.sqrt((error[2000:6000] ** 2).mean()) < 0.02
    assert write_sound(Sound(loud, 16000, "FLOAT"), tmp_path / "x.wav") == 1
    assert abs(read_sound(tmp_path / "x.wav", 10).samples).max() == abs(loud).max()


# Any length, rate and number of channels


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("n", [1, 2, 1153, 70001])
def test_a_sound_of_any_length_comes_back_at_its_own_length(suffix, n, tmp_path):
    """Ogg and MP3 too: their headers say how much of the encoder's padding is to be dropped."""
    write_sound(Sound(tones(n), 16000), tmp_path / f"x{suffix}")
    assert read_sound(tmp_path / f"x{suffix}", 10).samples.shape == (n, 2)


@pytest.mark.parametrize(("suffix", "subtype"), ENCODED)
def test_lossy_files_keep_every_sample_in_its_place(suffix, subtype, tmp_path):
    chirp = (0.5 * np.sin(np.linspace(0, 300, 24000) ** 1.5)).astype(np.float32)[:, None]
    write_sound(Sound(chirp, 16000, subtype), tmp_path / f"x{suffix}")
    after = read_sound(tmp_path / f"x{suffix}", 10).samples
    likeness = [float((chirp[2000:20000] * after[2000 + lag : 20000 + lag]).sum()) for lag in range(-40, 41)]
    assert np.argmax(likeness) == 40


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_digital_silence_is_a_sound(suffix, tmp_path):
    write_sound(Sound(np.zeros((3000, 1), np.float32), 16000), tmp_path / f"x{suffix}")
    assert abs(read_sound(tmp_path / f"x{suffix}", 10).samples).max() < 1e-4


@pytest.mark.parametrize(("suffix", "channels", "rate"), [
    (".wav", 64, 192_000), (".w64", 256, 8000), (".flac", 8, 192_000), (".wav", 1, 1), (".flac", 1, 384_000),
    (".caf", 64, 96_000), (".aiff", 64, 500_000), (".ogg", 6, 192_000), (".mp3", 2, 8000), (".wav", 1, 1_000_000),
])
def test_many_channels_and_high_rates_come_back(suffix, channels, rate, tmp_path):
    write_sound(Sound(tones(500, channels, rate), rate), tmp_path / f"x{suffix}")
    sound = read_sound(tmp_path / f"x{suffix}", 1000)
    assert sound.samples.shape == (500, channels) and sound.rate == rate


@pytest.mark.parametrize(("suffix", "channels", "rate", "words"), [
    (".mp3", 3, 44100, "MP3 cannot hold 3 channels of 44100 Hz as MPEG_LAYER_III"),
    (".mp3", 1, 96000, "MP3 cannot hold 1 channels of 96000 Hz"),
    (".opus", 1, 44100, "OGG cannot hold 1 channels of 44100 Hz as OPUS"),
    (".flac", 9, 44100, r"FLAC cannot hold 9 channels .*; choose .wav or .flac"),
])
def test_what_a_format_cannot_hold_is_refused_and_nothing_is_left(suffix, channels, rate, words, tmp_path):
    with pytest.raises(RecordingError, match=f"x{suffix}: {words}"):
        write_sound(Sound(tones(500, channels), rate), tmp_path / f"x{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_read_by_its_bytes_not_by_its_suffix(tmp_path):
    for suffix in (".flac", ".mp3", ".ogg", ".aiff"):
        (tmp_path / "x.wav").write_bytes(encoded(suffix, subtype="PCM_16"))
        assert read_sound(tmp_path / "x.wav", 10).subtype == nearest_subtype("PCM_16", FORMATS[suffix][1])
    (tmp_path / "x.wav").write_bytes(wav(pack(">4h", 0, 16384, -32768, 32767), order=">"))
    assert read_sound(tmp_path / "x.wav", 10).samples[:, 0].tolist() == [0, 0.5, -1, 32767 / 32768]


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_the_telephone_codecs_of_wav_are_read_to_their_end(subtype, tmp_path):
    soundfile.write(tmp_path / "x.wav", tones(8000, 1), 8000, subtype=subtype)
    sound = read_sound(tmp_path / "x.wav", 10)
    assert len(sound.samples) >= 8000 and sound.subtype == subtype
    assert np.sqrt(((sound.samples[:8000] - tones(8000, 1)) ** 2).mean()) < 0.1


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_wav_that_was_written_to_a_pipe_is_read_to_its_end(size, tmp_path):
    (tmp_path / "x.wav").write_bytes(wav(size=size))
    assert len(read_sound(tmp_path / "x.wav", 10).samples) == 100


def test_a_flac_that_does_not_say_its_length_is_read_to_its_end(tmp_path):
    content = bytearray(encoded(".flac"))
    content[21] &= 0xF0                             # the number of samples: 36 bits, 0 is unknown (RFC 9639, 8.2)
    content[22:26] = bytes(4)
    (tmp_path / "x.flac").write_bytes(content)
    assert len(read_sound(tmp_path / "x.flac", 10).samples) == 4000
    with pytest.raises(RecordingError, match="x.flac: lasts more than 0.1 s, max_seconds = 0.1 is allowed"):
        read_sound(tmp_path / "x.flac", 0.1)


# The length of an MP3


def mp3_frames(content):
    frames = []
    while size := sound_containers._mp3_frame(content[:4]):
        frames.append(content[:size])
        content = content[size:]
    return frames


@pytest.mark.parametrize(("rate", "channels"), [(48000, 1), (44100, 2), (16000, 1), (11025, 2)])
@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
def test_an_mp3_without_a_frame_count_is_read_to_its_end(rate, channels, mode, tmp_path):
    """libsndfile alone guesses from the size of the first frames, and drops up to two thirds of the sound."""
    swell = noise(60_000, channels) * np.sin(np.arange(60_000) / 9000)[:, None].astype(np.float32) / 4
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", rate, channels, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.3, bitrate_mode=mode
    ) as opened:
        opened.write(swell)
    first, *frames = mp3_frames(file.getvalue())
    assert b"Xing" in first or b"Info" in first
    tag = b"ID3\4\0\0\0\0\1\0" + bytes(128)
    per_frame = 1152 if rate >= 32000 else 576
    sounds = {}
    for name, content in {"bare": b"".join(frames), "tagged": tag + b"".join(frames) + b"TAG" + bytes(125)}.items():
        (tmp_path / f"{name}.mp3").write_bytes(content)
        sounds[name] = read_sound(tmp_path / f"{name}.mp3", 100).samples
        assert len(sounds[name]) == per_frame * len(frames)
    np.testing.assert_array_equal(sounds["bare"], sounds["tagged"])
    (tmp_path / "whole.mp3").write_bytes(file.getvalue())
    whole = read_sound(tmp_path / "whole.mp3", 100).samples
    delay = 576 + 529                               # LAME's encoder delay and every decoder's
    assert len(whole) == 60_000
    np.testing.assert_allclose(sounds["bare"][delay:][:50_000], whole[:50_000], atol=1e-3)


def test_an_mp3_whose_count_is_one_too_high_is_read_whole_and_two_in_one_file_are_refused(tmp_path):
    content = bytearray(encoded(".mp3"))
    at = content.find(b"Xing", 0, 64)
    pack_into(">I", content, at + 8, len(mp3_frames(content)))
    (tmp_path / "x.mp3").write_bytes(content)
    assert len(read_sound(tmp_path / "x.mp3", 10).samples) == 4000
    (tmp_path / "x.mp3").write_bytes(encoded(".mp3") * 2)
    with pytest.raises(RecordingError, match=r"x.mp3: is damaged: its header speaks of \d+ frames, \d+ are there"):
        read_sound(tmp_path / "x.mp3", 10)


# What is refused


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95, 0.9999])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_truncated_file_is_refused_by_name(suffix, share, tmp_path):
    content = encoded(suffix)
    (tmp_path / f"cut{suffix}").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(RecordingError, match=f"cut{suffix}: .*truncated.* or remove it"):
        read_sound(tmp_path / f"cut{suffix}", 10)


def test_an_mp3_that_ends_between_two_frames_is_refused_when_it_says_how_many_there_were(tmp_path):
    frames = mp3_frames(encoded(".mp3"))
    (tmp_path / "cut.mp3").write_bytes(b"".join(frames[:-2]))
    said = len(frames) - 1
    with pytest.raises(RecordingError, match=f"cut.mp3: is truncated: {said - 2} of {said} frames are there"):
        read_sound(tmp_path / "cut.mp3", 10)


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".opus"])
def test_one_wrong_byte_in_a_file_with_check_sums_is_noticed(suffix, tmp_path):
    content, rng = encoded(suffix), np.random.default_rng(0)
    for place in rng.integers(len(content) // 2, len(content), 10):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        (tmp_path / f"x{suffix}").write_bytes(damaged)
        with pytest.raises(RecordingError, match=f"x{suffix}: "):
            read_sound(tmp_path / f"x{suffix}", 10)


def test_damaged_bytes_never_escape_as_another_error_nor_print(tmp_path, capfd):
    rng = np.random.default_rng(0)
    for suffix in (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".w64", ".rf64", ".au", ".caf"):
        path = tmp_path / f"x{suffix}"
        content = np.frombuffer(encoded(suffix, Sound(noise(2000), 16000)), np.uint8)
        for _ in range(40):
            damaged = content.copy()
            places = rng.integers(4, min(len(content), rng.choice([100, 10**9])), 3)
            damaged[places] = rng.integers(0, 256, 3)
            path.write_bytes(damaged.tobytes())
            try:
                assert np.isfinite(read_sound(path, 100).samples).all()
            except RecordingError as error:
                assert str(error).startswith(f"{path}: ")
    assert capfd.readouterr() == ("", "")


def test_standard_error_works_again_after_an_mp3_was_read(tmp_path, capfd):
    (tmp_path / "x.mp3").write_bytes(encoded(".mp3"))
    read_sound(tmp_path / "x.mp3", 10)
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"


def test_an_mp3_is_read_where_there_is_no_standard_error(tmp_path, monkeypatch):
    def closed(descriptor):
        raise OSError(9, "Bad file descriptor")

    (tmp_path / "x.mp3").write_bytes(encoded(".mp3"))
    monkeypatch.setattr(os, "dup", closed)
    assert len(read_sound(tmp_path / "x.mp3", 10).samples) == 4000


@pytest.mark.parametrize(("content", "words"), [
    (b"", "is empty"),
    (b"hello, I am text\n", "is not a sound in a known format; allowed are WAV, RF64, W64, FLAC"),
    (b"\0\0\0\x20ftypM4A " + bytes(99), "is not a sound in a known format"),
    (b"ID3\4\0\0\0\0\0\0", "is empty"),
    (b"RIFF" + pack("<I", 99) + b"AVI LIST" + bytes(99), "is not a sound in a known format"),
    (b"FORM" + pack(">I", 99) + b"8SVXVHDR" + bytes(99), "is not a sound in a known format"),
    (wav()[:40], "cannot be read as a sound: .*; it is damaged or truncated"),
    (wav(b""), "holds no samples"),
    (wav(rate=0), "cannot be read as a sound: "),
    (wav(rate=2**31 - 1), "has 2147483647 samples a second; allowed are 1 to 1000000"),
    (wav(channels=0), "cannot be read as a sound: Channel count is zero"),
    (wav(bytes(2 * 300), channels=300), "has 300 channels; allowed are 1 to 256"),
    (wav(size=2**31 - 1), "is truncated: 200 of 2147483647 bytes of sound are there"),
    (wav(size=201), "is truncated: 200 of 201 bytes"),
    (wav(tag=0x55), "is an MP3 inside of a WAV file, which is not read"),
    (wav(pack("<2f", 0.5, np.nan), bits=32, tag=3), "has samples that are NaN or infinite; replace them"),
    (wav(pack("<2f", -np.inf, 0), bits=32, tag=3), "has samples that are NaN or infinite"),
    (wav(pack("<d", 1e300), bits=64, tag=3), "has samples that are NaN or infinite"),
    (wav(bytes(2 * 8000 * 11)), "lasts 11.0 s, max_seconds = 10 is allowed; raise max_seconds if it is genuine"),
    (b".snd" + pack(">5I", 24, 10**9, 3, 8000, 1) + bytes(200), "is truncated: 200 of 1000000000 bytes"),
    (b"FORM" + pack(">I", 4) + b"AIFF", "cannot be read as a sound"),
])
def test_what_is_no_sound_is_refused_by_name(content, words, tmp_path):
    (tmp_path / "x.wav").write_bytes(content)
    with pytest.raises(RecordingError, match=f"x.wav: {words}"):
        read_sound(tmp_path / "x.wav", 10)


def test_a_header_that_promises_a_year_allocates_nothing(tmp_path):
    content = bytearray(encoded(".flac"))
    content[21] |= 0x0F                             # 2^36 - 1 samples
    content[22:26] = b"\xff" * 4
    (tmp_path / "x.flac").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(RecordingError, match=r"x.flac: lasts 4294967\.3 s, max_seconds = 600 is allowed"):
        read_sound(tmp_path / "x.flac", 600)
    with pytest.raises(RecordingError, match="x.flac: .*truncated"):
        read_sound(tmp_path / "x.flac", 1e9)
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


def test_an_mp3_that_is_too_long_is_refused_before_all_of_it_is_in_memory(tmp_path):
    frames = mp3_frames(encoded(".mp3"))
    with (tmp_path / "x.mp3").open("wb") as file:
        for _ in range(40):
            file.write(frames[3] * 10000)
    tracemalloc.start()
    with pytest.raises(RecordingError, match="x.mp3: lasts more than 10 s, max_seconds = 10 is allowed"):
        read_sound(tmp_path / "x.mp3", 10)
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


def test_two_streams_in_one_ogg_are_refused(tmp_path):
    pages = bytearray(encoded(".ogg"))
    other = io.BytesIO(encoded(".ogg", Sound(tones(500), 16000)))
    for page in list(sound_containers._pages(other)):
        changed = bytearray(page.content)
        pack_into("<I", changed, 14, 7)
        pack_into("<I", changed, 22, sound_containers._ogg_crc(changed))
        pages += changed
    (tmp_path / "x.ogg").write_bytes(pages)
    with pytest.raises(RecordingError, match="x.ogg: holds 2 streams, allowed is one"):
        read_sound(tmp_path / "x.ogg", 10)


def test_a_folder_a_missing_file_and_a_pipe_are_refused_by_name(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    for name, words in {
        "folder.wav": "is a folder, not a sound file", "pipe.wav": "is a pipe or a device, not a sound file",
        "missing.wav": "cannot be read as a sound: No such file or directory",
    }.items():
        with pytest.raises(RecordingError, match=f"{name}: {words}"):
            read_sound(tmp_path / name, 10)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused_by_name(tmp_path):
    (tmp_path / "x.wav").write_bytes(wav())
    (tmp_path / "x.wav").chmod(0)
    with pytest.raises(RecordingError, match="x.wav: cannot be read as a sound: Permission denied"):
        read_sound(tmp_path / "x.wav", 10)


@pytest.mark.parametrize(("sound", "kind", "words"), [
    (Sound(np.zeros(5, np.float32), 8000), UserError, r"a sound is an array .*; got \(5,\) of float32"),
    (Sound(np.zeros((5, 1)), 8000), UserError, r"got \(5, 1\) of float64"),
    (Sound(np.zeros((0, 1), np.float32), 8000), UserError, r"got \(0, 1\)"),
    (Sound(np.zeros((5, 257), np.float32), 8000), UserError, "1 to 256 channels"),
    (Sound(np.zeros((5, 1), np.float32), 0), UserError, "a sound has 1 to 1000000 samples a second; got 0"),
    (Sound(np.full((5, 1), np.nan, np.float32), 8000), RecordingError, "x.wav: has samples that are NaN or infinite"),
    (Sound(np.broadcast_to(np.float32(0), (2**31, 2)), 8000), RecordingError, "x.wav: WAV ends at 4 GiB"),
])
def test_what_cannot_be_written_is_refused_and_nothing_is_left(sound, kind, words, tmp_path):
    with pytest.raises(kind, match=words):
        write_sound(sound, tmp_path / "x.wav")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(RecordingError, match=r"x.m4a: sounds cannot be written as '.m4a'; allowed are .wav, .flac"):
        write_sound(Sound(tones(10), 8000), tmp_path / "x.m4a")


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MmcycleError, match="x.ogg: could not be written: No space left on device"):
        write_sound(Sound(tones(10), 8000), tmp_path / "x.ogg")
    assert list(tmp_path.iterdir()) == []


# The same sound, the same bytes; memory; real recordings


WRITER = """
import sys, numpy as np
from pathlib import Path
from mmcycle.modalities.sound_files import FORMATS, Sound, write_sound
samples = np.random.default_rng(0).uniform(-1, 1, (40000, 2)).astype(np.float32) / 2
for suffix, (_, held) in FORMATS.items():
    for subtype in held:
        write_sound(Sound(samples, 16000, subtype), Path(sys.argv[1]) / f"{subtype}{suffix}")
"""


def test_another_process_at_another_second_writes_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        subprocess.run([sys.executable, "-c", WRITER, str(tmp_path / name)], check=True)
        time.sleep(1.1 if name == "one" else 0)     # some headers hold the second in which they were written
    files = sorted((tmp_path / "one").iterdir())
    assert len(files) == len(LOSSLESS) + len(ENCODED)
    assert [file.name for file in files if file.read_bytes() != (tmp_path / "two" / file.name).read_bytes()] == []


def test_reading_holds_no_more_than_twice_the_sound(tmp_path):
    samples = tones(48000 * 20, 2, 48000)
    write_sound(Sound(samples, 48000), tmp_path / "x.flac")
    tracemalloc.start()
    sound = read_sound(tmp_path / "x.flac", 600)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sound.samples.shape == samples.shape and peak < 2.1 * samples.nbytes


@pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not here")
def test_real_recordings_come_back_bit_by_bit(tmp_path):
    paths = [path for folder in sorted(REAL.iterdir()) for path in sorted(folder.rglob("*.flac"))[:40:8]]
    for path in paths:
        sound = read_sound(path, 60)
        codes, rate = soundfile.read(path, dtype="int32", always_2d=True)
        assert sound.rate == rate and write_sound(sound, tmp_path / "out.flac") == 1
        np.testing.assert_array_equal(soundfile.read(tmp_path / "out.flac", dtype="int32", always_2d=True)[0], codes)
    assert len(paths) >= 15
