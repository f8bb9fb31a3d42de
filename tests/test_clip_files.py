import hashlib
import os
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

from mmcycle.data import clip_writer, clips
from mmcycle.data.clip_writer import encoder_for, write_clip
from mmcycle.data.clips import Frame, Soundtrack, frames, open_clip, sound
from mmcycle.errors import MmcycleError, RecordingError, UserError
from mmcycle.files import write_atomic
from tests.tiny_clips import COUNT, FLASHES, FORMATS, FPS, RATE, clicks, clip, film, lag

REAL = Path(__file__).parents[2] / "shared" / "data" / "av"
needs_data = pytest.mark.skipif(not REAL.exists(), reason="shared/data is not here")
SUFFIXES = [".mp4", ".mov", ".mkv", ".webm", ".avi"]


def made(folder: Path, suffix: str, **options: object) -> Path:
    rate = 48_000 if suffix == ".webm" else RATE
    return clip(folder / f"a{suffix}", film(), clicks(rate=rate), rate=rate, **options)


def rewritten(path: Path, pictures: bool = True, waves: bool = True) -> Path:
    target, source = path.parent / "out" / path.name, open_clip(path)
    film_ = frames(source) if pictures else None
    heard = sound(source) if waves and source.track else None
    write_atomic(target, lambda place: write_clip(place, source, film_, heard))
    return target


def times(path: Path) -> list[Fraction]:
    return [frame.time for frame in frames(open_clip(path))]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_clip_is_read_frame_by_frame_with_its_times_and_its_sound(tmp_path: Path, suffix: str):
    source = open_clip(made(tmp_path, suffix))
    seen, heard = list(frames(source)), sound(source)
    assert [frame.time for frame in seen] == [Fraction(index, FPS) for index in range(COUNT)]
    assert {frame.duration for frame in seen} == {Fraction(1, FPS)}
    assert [index for index, frame in enumerate(seen) if frame.pixels.mean() > 230] == list(FLASHES)
    assert np.abs(seen[0].pixels[16, 6].astype(int) - (200, 60, 30)).max() <= 8
    assert heard.start == 0 and abs(len(heard.samples) / heard.rate - COUNT / FPS) < 1024 / heard.rate + 1e-6
    assert lag(clicks(rate=heard.rate)[:, 0], heard.samples[:, 0]) == 0
    assert (source.film.count, source.film.width, source.film.height, source.film.rate) == (COUNT, 48, 32, FPS)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("pictures, waves", [(True, True), (True, False), (False, True)])
def test_a_clip_written_again_keeps_frames_times_and_sync(tmp_path: Path, suffix: str, pictures: bool, waves: bool):
    path = made(tmp_path, suffix)
    again = rewritten(path, pictures, waves)
    before, after = list(frames(open_clip(path))), list(frames(open_clip(again)))
    assert [(one.time, one.duration) for one in after] == [(one.time, one.duration) for one in before]
    assert np.mean([np.abs(x.pixels.astype(int) - y.pixels).mean() for x, y in zip(before, after)]) < 4
    heard, now = sound(open_clip(path)), sound(open_clip(again))
    assert (now.rate, now.samples.shape, now.start) == (heard.rate, heard.samples.shape, heard.start)
    assert lag(heard.samples[:, 0], now.samples[:, 0]) == 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_click_stays_with_its_flash_through_two_translations(tmp_path: Path, suffix: str):
    twice = rewritten(rewritten(made(tmp_path, suffix)))
    source = open_clip(twice)
    flashes = [frame.time for frame in frames(source) if frame.pixels.mean() > 230]
    heard = sound(source)
    loud = np.flatnonzero(np.abs(heard.samples[:, 0]) > 0.3) / heard.rate
    onsets = [loud[0], loud[loud > loud[0] + 0.1][0]]
    assert np.abs(np.array(onsets) - [float(one) for one in flashes]).max() < 0.005     # a frame lasts 0.04 s


def litter(rng: np.random.Generator) -> list[bytes]:
    """Leave memory of all sizes behind, written full and given back; what is returned keeps holes between it."""
    sizes = (64, 256, 1024, 4096, 16_384, 65_536) * 25
    blocks = [rng.integers(1, 256, dtype=np.uint8).tobytes() * round(size * rng.uniform(0.7, 1.3)) for size in sizes]
    rng.shuffle(blocks)
    return blocks[:20]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_in_memory_before_is_not_seen_in_the_bytes(tmp_path: Path, suffix: str):
    """x264's macroblock tree made several files of one film, depending on it."""
    rng, size = np.random.default_rng(0), (64, 96)
    noise = rng.integers(0, 256, (16, 24, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    moving = [np.roll(noise, 5 * index, axis=1) for index in range(12)]
    rate = 48_000 if suffix == ".webm" else RATE
    path = clip(tmp_path / f"a{suffix}", moving, clicks(12 / FPS, rate), rate=rate)
    source, digests = open_clip(path), set()
    shown, heard = list(frames(source)), sound(source)
    for _ in range(16 if suffix == ".mp4" else 4):
        kept = litter(rng)
        write_clip(tmp_path / f"again{suffix}", source, iter(shown), heard)
        digests.add(hashlib.sha256((tmp_path / f"again{suffix}").read_bytes()).hexdigest())
        del kept
    assert shown[0].pixels.shape[:2] == size and len(digests) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_clip_gives_the_same_bytes(tmp_path: Path, suffix: str):
    path = made(tmp_path, suffix)
    digests = {hashlib.sha256(rewritten(path).read_bytes()).hexdigest() for _ in range(2)}
    assert len(digests) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_not_translated_is_copied_packet_by_packet(tmp_path: Path, suffix: str):
    path = made(tmp_path, suffix)
    film_copied, sound_copied = rewritten(path, pictures=False), None
    assert all((x.pixels == y.pixels).all() for x, y in zip(frames(open_clip(path)), frames(open_clip(film_copied))))
    sound_copied = rewritten(path, waves=False)
    assert np.array_equal(sound(open_clip(path)).samples, sound(open_clip(sound_copied)).samples)


def uneven(ticks: int) -> list[Fraction]:
    steps = np.random.default_rng(3).integers(ticks // 60, ticks // 15, COUNT).cumsum()
    return [Fraction(int(step - steps[0]), ticks) for step in steps]


@pytest.mark.parametrize("suffix, ticks", [(".mp4", 90_000), (".mkv", 1000), (".webm", 1000)])
def test_a_variable_frame_rate_is_kept_to_the_tick(tmp_path: Path, suffix: str, ticks: int):
    wanted = uneven(ticks)
    path = clip(tmp_path / f"a{suffix}", film(), clicks(rate=48_000), rate=48_000, times=wanted, ticks=ticks)
    assert times(path) == wanted and times(rewritten(path)) == wanted


def test_29_97_frames_a_second_stay_that(tmp_path: Path):
    exact = [Fraction(1001 * index, 30_000) for index in range(COUNT)]
    path = clip(tmp_path / "a.mp4", film(), times=exact, ticks=30_000)
    assert times(rewritten(path)) == exact


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_sound_that_starts_late_stays_with_its_pictures(tmp_path: Path, suffix: str):
    path = made(tmp_path, suffix, late=RATE // 10)
    for waves in (True, False):
        heard, now = sound(open_clip(path)), sound(open_clip(rewritten(path, waves=waves)))
        later = now.start - heard.start + Fraction(lag(heard.samples[:, 0], now.samples[:, 0]), RATE)
        assert abs(later) < Fraction(1, 1000)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_pictures_that_start_late_stay_late(tmp_path: Path, suffix: str):
    late = [Fraction(1, 2) + Fraction(index, FPS) for index in range(COUNT)]
    path = made(tmp_path, suffix, times=late, ticks=1000)
    assert times(rewritten(path)) == times(rewritten(path, pictures=False)) == late
    assert sound(open_clip(rewritten(path))).start == 0


def test_a_hole_in_the_sound_becomes_silence(tmp_path: Path):
    import av

    path, wave = tmp_path / "a.mkv", clicks()
    with av.open(str(path), "w", format="matroska") as out:
        stream = out.add_stream("flac", rate=RATE)
        stream.codec_context.layout, stream.codec_context.format = "mono", "s16"
        for at in (0, 8000):                            # half a second of nothing between them
            block = av.AudioFrame.from_ndarray((wave[:4608].T * 32767).astype(np.int16), "s16", "mono")
            block.sample_rate, block.pts, block.time_base = RATE, at, Fraction(1, RATE)
            out.mux(stream.encode(block))
        out.mux(stream.encode(None))
    heard = sound(open_clip(path))
    assert abs(len(heard.samples) - 12_608) <= 16       # Matroska's times are milliseconds
    assert not heard.samples[4700:7900].any()


def test_quarter_turns_are_made_and_no_longer_asked_for(tmp_path: Path):
    corner = np.zeros((32, 64, 3), np.uint8)
    corner[:16, :32] = 255                              # at the top left
    places = {0: (0, 0), 90: (-1, 0), 180: (-1, -1), 270: (0, -1)}      # where a turn to the left takes it
    for degrees, (row, column) in places.items():
        path = clip(tmp_path / f"{degrees}.mp4", [corner] * 2, turned=degrees)
        for once in (path, rewritten(path), rewritten(path, pictures=False)):
            seen = next(iter(frames(open_clip(once)))).pixels
            assert seen.shape == ((32, 64, 3) if degrees % 180 == 0 else (64, 32, 3))
            bright = np.argwhere(seen[[3, -4]][:, [3, -4], 0] > 200)
            assert bright.tolist() == [[0 - row, 0 - column]]
    with pytest.raises(RecordingError, match="30.mp4: is to be shown turned by other than a quarter"):
        next(frames(open_clip(clip(tmp_path / "30.mp4", [corner] * 2, turned=30))))


@pytest.mark.parametrize("colours", [(1, 1), (5, 1), (1, 2), None])
def test_colours_are_those_of_the_source_whatever_matrix_it_has(tmp_path: Path, colours: tuple[int, int] | None):
    import av

    bars = np.zeros((32, 96, 3), np.uint8)
    bars[:, :32], bars[:, 32:64], bars[:, 64:] = (220, 30, 30), (30, 220, 30), (30, 30, 220)
    path = clip(tmp_path / "a.mp4", [bars] * 3, pixels="yuv444p", options={"crf": "2"}, colours=colours)
    again = rewritten(path)
    for one in (path, again):
        seen = next(iter(frames(open_clip(one)))).pixels
        assert np.abs(seen[16, [16, 48, 80]].astype(int) - bars[16, [16, 48, 80]]).max() <= 4
    with av.open(str(again)) as container:
        assert container.streams.video[0].codec_context.colorspace == (colours[0] if colours else 2)


@pytest.mark.parametrize("suffix, codecs", [
    (".mp4", None), (".webm", None), (".avi", None), (".mkv", ("libvpx-vp9", "libopus")), (".mov", None),
])
def test_odd_sizes_come_back_at_their_own_size(tmp_path: Path, suffix: str, codecs: tuple[str, str] | None):
    pixels = "yuv444p" if suffix in (".mp4", ".mov") else "yuv420p"
    path = clip(tmp_path / f"a{suffix}", film(size=(33, 47)), codecs=codecs, pixels=pixels)
    assert next(frames(open_clip(rewritten(path)))).pixels.shape == (33, 47, 3)


def test_ten_bits_become_eight(tmp_path: Path):
    path = clip(tmp_path / "a.mp4", film(6), pixels="yuv420p10le", codecs=("libx264", "aac"))
    before, after = next(frames(open_clip(path))).pixels, next(frames(open_clip(rewritten(path)))).pixels
    assert before.dtype == np.uint8 and np.abs(before.astype(int) - after).mean() < 2


def test_lossless_sound_stays_so_at_its_own_rate_where_the_container_allows(tmp_path: Path):
    for name, codecs, rate in (("a.mov", ("libx264", "pcm_s16le"), 11_111), ("a.mkv", ("libx264", "flac"), 90_000)):
        path = clip(tmp_path / name, film(), clicks(rate=rate), rate=rate, codecs=codecs)
        heard, now = sound(open_clip(path)), sound(open_clip(rewritten(path)))
        assert now.rate == rate and np.array_equal(heard.samples, now.samples)


def test_a_rate_that_the_encoder_cannot_write_becomes_the_next_higher(tmp_path: Path):
    path = made(tmp_path, ".webm")
    source, odd = open_clip(path), Soundtrack(clicks(rate=22_050), 22_050, Fraction(0))
    write_clip(tmp_path / "b.webm", source, None, odd)
    now = sound(open_clip(tmp_path / "b.webm"))         # Opus decodes to 48 kHz whatever it was given
    loud = np.flatnonzero(np.abs(now.samples[:, 0]) > 0.3) / 48_000
    assert now.rate == 48_000 and abs(loud[0] - FLASHES[0] / FPS) < 0.003
    assert abs(len(now.samples) - 38_400) <= 960


def test_stereo_stays_left_and_right(tmp_path: Path):
    wave = np.concatenate([clicks(), np.zeros_like(clicks())], axis=1)
    now = sound(open_clip(rewritten(clip(tmp_path / "a.mp4", film(), wave))))
    assert np.abs(now.samples).max(0)[0] > 0.3 > 0.02 > np.abs(now.samples).max(0)[1]


def test_a_clip_without_sound_or_without_pictures_is_one_too(tmp_path: Path):
    silent, blind = clip(tmp_path / "silent.mp4", film()), clip(tmp_path / "blind.mp4", None, clicks())
    assert open_clip(silent).track is None and open_clip(blind).film is None
    assert len(times(rewritten(silent, waves=False))) == COUNT
    assert lag(clicks()[:, 0], sound(open_clip(rewritten(blind, pictures=False))).samples[:, 0]) == 0
    with pytest.raises(RecordingError, match="silent.mp4: holds no sound"):
        sound(open_clip(silent))
    with pytest.raises(RecordingError, match="blind.mp4: holds no pictures"):
        next(frames(open_clip(blind)))


def cut(path: Path, share: float) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def faststart(path: Path) -> Path:
    """The index first, so that a cut leaves it whole."""
    source = open_clip(path)
    write_clip(path.with_name("fast.mp4"), source, frames(source), sound(source))
    import av

    first = {"movflags": "faststart"}
    with av.open(str(path.with_name("fast.mp4"))) as old, av.open(str(path), "w", options=first) as new:
        streams = {one.index: new.add_stream_from_template(one, opaque=True) for one in old.streams}
        for packet in old.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                new.mux(packet)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_truncated_clip_is_refused_by_name(tmp_path: Path, suffix: str):
    with pytest.raises(RecordingError, match=rf"a{suffix}: .*(truncated|cannot be decoded).* restore it"):
        open_clip(cut(made(tmp_path, suffix), 0.2))


def test_a_truncated_clip_whose_index_is_whole_is_refused_by_name(tmp_path: Path):
    with pytest.raises(RecordingError, match="a.mp4: is truncated"):
        open_clip(cut(faststart(made(tmp_path, ".mp4")), 0.6))


@pytest.mark.parametrize("content, told", [
    (b"", "this is empty"),
    (b"hello, this is a text\n", "this is none of them"),
    (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n", "this is none of them"),
    (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "this is none of them"),
    (b"\x00\x00\x00\x18ftypmp42" + bytes(100), "cannot be read as a clip"),
    (b"\x1aE\xdf\xa3" + bytes(200), "cannot be read as a clip"),
    (b"RIFF\x10\x00\x00\x00AVI " + bytes(64), "a.mp4: "),
])
def test_what_is_no_clip_is_refused_by_name(tmp_path: Path, content: bytes, told: str):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=f"a.mp4: .*{told}" if told != "a.mp4: " else told):
        open_clip(path)


def test_a_folder_a_pipe_and_a_missing_file_are_no_clips(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    for name, told in (("pipe.mp4", "a pipe or a device"), ("folder.mp4", "a folder"), ("missing.mp4", "No such file")):
        with pytest.raises(RecordingError, match=f"{name}: .*{told}"):
            open_clip(tmp_path / name)


def test_damaged_bytes_end_in_one_sentence_or_in_pictures(tmp_path: Path):
    path = faststart(made(tmp_path, ".mp4"))
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(whole)
        for place in rng.integers(8, len(whole), 12):
            broken[place] = rng.integers(256)
        path.write_bytes(bytes(broken))
        try:
            source = open_clip(path)
            list(frames(source))
            sound(source, max_seconds=60)
        except RecordingError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)


def test_a_header_that_asks_for_more_memory_than_there_is_ends_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = made(tmp_path, ".mp4")

    def refuse(file: object, **options: object) -> None:
        raise av.error.MemoryError(12, "Cannot allocate memory", str(path))

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(RecordingError, match="a.mp4: cannot be read as a clip: Cannot allocate memory; it is damaged"):
        open_clip(path)


def test_frames_that_could_fill_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = made(tmp_path, ".mp4")
    monkeypatch.setattr(clips, "MOST_PIXELS", 1000)
    with pytest.raises(RecordingError, match="frames of 48 x 32 pixels; allowed are 1000"):
        open_clip(path)


def test_a_sound_longer_than_allowed_is_refused(tmp_path: Path):
    with pytest.raises(RecordingError, match="a.mp4: has more than 0.5 s of sound"):
        sound(open_clip(made(tmp_path, ".mp4")), max_seconds=0.5)


def test_transparent_pictures_are_refused(tmp_path: Path):
    path = clip(tmp_path / "a.webm", film(4), pixels="yuva420p")
    with pytest.raises(RecordingError, match="a.webm: its pictures are transparent in part"):
        open_clip(path)


def test_a_suffix_that_is_no_clip_is_refused(tmp_path: Path):
    source = open_clip(made(tmp_path, ".mp4"))
    with pytest.raises(RecordingError, match="clips cannot be written as '.gif'; allowed are .mp4"):
        write_clip(tmp_path / "a.gif", source, frames(source), None)


def test_a_codec_that_another_container_cannot_hold_is_named(tmp_path: Path):
    source = open_clip(made(tmp_path, ".mp4"))
    with pytest.raises(RecordingError, match="a.mp4: its aac cannot be put into webm untranslated"):
        write_clip(tmp_path / "a.webm", source, frames(source), None)


def test_no_frames_are_an_error_and_nothing_is_left(tmp_path: Path):
    source = open_clip(made(tmp_path, ".mp4"))
    with pytest.raises(RecordingError, match="no pictures were made of it"):
        write_atomic(tmp_path / "out" / "b.mp4", lambda place: write_clip(place, source, iter(()), None))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = open_clip(made(tmp_path, ".mp4"))
    opened = Path.open

    class Full:
        def __init__(self, file): self.file = file
        def __enter__(self): return self
        def __exit__(self, *_): self.file.close()
        def __getattr__(self, name): return getattr(self.file, name)
        def write(self, content): raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda path, mode="r", *rest: Full(opened(path, mode, *rest))
                        if mode == "wb" else opened(path, mode, *rest))
    with pytest.raises(MmcycleError, match="b.mp4: could not be written: No space left") as caught:
        write_atomic(tmp_path / "b.mp4", lambda place: write_clip(place, source, frames(source), sound(source)))
    assert not isinstance(caught.value, UserError) and not list(tmp_path.glob(".tmp-*"))


def test_a_missing_encoder_is_replaced_and_said_or_an_error(monkeypatch: pytest.MonkeyPatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encoder_for(".mp4") == "libx264"
    lesser = clip_writer.FORMATS[".mp4"]._replace(pictures=("no_such_encoder", "mpeg4"))
    monkeypatch.setitem(clip_writer.FORMATS, ".mp4", lesser)
    with pytest.warns(UserWarning, match="has no no_such_encoder: .mp4 is written by mpeg4"):
        assert encoder_for(".mp4") == "mpeg4"
    monkeypatch.setitem(clip_writer.FORMATS, ".mp4", lesser._replace(pictures=("no_such_encoder",)))
    with pytest.raises(UserError, match="no encoder for .mp4: none of no_such_encoder"):
        encoder_for(".mp4")


def test_every_suffix_that_is_read_is_written():
    assert set(clips.SUFFIXES) == set(clip_writer.FORMATS) == set(FORMATS)


def test_frames_are_made_one_at_a_time(tmp_path: Path):
    """The writer never asks far ahead of what it has written."""
    path, alive, most = made(tmp_path, ".mp4"), [], 0
    import weakref

    def counted():
        nonlocal most
        for index in range(300):
            pixels = np.full((32, 48, 3), index % 256, np.uint8)
            alive.append(weakref.ref(pixels))
            most = max(most, sum(one() is not None for one in alive))
            yield Frame(pixels, Fraction(index, FPS), Fraction(1, FPS))

    write_clip(tmp_path / "long.mp4", open_clip(path), counted(), None)
    assert len(times(tmp_path / "long.mp4")) == 300 and most <= 3


@needs_data
@pytest.mark.parametrize("name", ["grid/bbaf2n.mp4", "avse/E1.mp4"])
def test_real_clips_keep_frames_times_and_sync(tmp_path: Path, name: str):
    path = tmp_path / "a.mp4"
    path.write_bytes((REAL / name).read_bytes())
    again = rewritten(path)
    assert times(again) == times(path)
    heard, now = sound(open_clip(path)), sound(open_clip(again))
    assert now.samples.shape == heard.samples.shape and lag(heard.samples[:, 0], now.samples[:, 0]) == 0
