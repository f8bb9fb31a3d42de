"""Clips of a drawn street, and clips taken apart into frames and sounds."""
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from tiny_clips import clicks, clip, film

from mmcycle.data.clip_domains import take_apart
from mmcycle.data.clips import frames, open_clip, sound
from mmcycle.errors import UserError
from mmcycle.simulate.clips import FPS, KINDS, play, write_clips

pytest.importorskip("av")
SIZE = (48, 32)


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_clips(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_clips(tmp_path / name, 1, seed=seed, seconds=0.5, size=SIZE)
    for kind in KINDS:
        a, b, c = (tmp_path / name / kind / "000.mp4" for name in "abc")
        assert a.read_bytes() == b.read_bytes()
        assert not np.array_equal(*(np.stack([frame.pixels for frame in frames(open_clip(one))]) for one in (a, c)))
        assert not np.allclose(sound(open_clip(a)).samples, sound(open_clip(c)).samples, atol=1e-3)


def test_a_clip_has_its_length_its_rates_and_its_size(tmp_path: Path) -> None:
    write_clips(tmp_path / "day", 1, seconds=1.0, size=SIZE)
    opened = open_clip(tmp_path / "day" / "car" / "000.mp4")
    assert (opened.film.count, opened.film.rate, opened.film.width, opened.film.height) == (FPS, FPS, *SIZE)
    assert opened.track.rate == 16_000 and float(opened.film.end - opened.film.start) == 1.0
    assert abs(len(sound(opened).samples) - 16_000) <= 1024


@pytest.mark.parametrize("kind", KINDS)
def test_night_is_darker_and_noise_is_louder_and_the_movement_is_the_same(kind: str) -> None:
    day, clean = play(kind, (1, 0), "day", False, 1.0, SIZE)
    night, noisy = play(kind, (1, 0), "night", True, 1.0, SIZE)
    assert np.mean(night) < 0.4 * np.mean(day)
    assert 10 * np.log10(np.square(clean).mean()) == pytest.approx(-26, abs=0.5)
    assert np.corrcoef(clean, noisy)[0, 1] > 0.5 and np.square(noisy - clean).mean() > 10**-3.6
    moved = np.abs(np.diff(np.stack(day).astype(float), axis=0)).sum(axis=-1).max(axis=0) > 20
    assert 0 < moved.mean() < 0.7                                    # something moves, the street does not


def test_a_folder_of_another_order_is_refused_and_so_is_what_cannot_be_drawn(tmp_path: Path) -> None:
    write_clips(tmp_path, 1, seconds=0.5, size=SIZE)
    with pytest.raises(UserError, match="already holds clips with seed 0; asked for seed 1"):
        write_clips(tmp_path, 1, seed=1, seconds=0.5, size=SIZE)
    with pytest.raises(UserError, match="unknown view 'fog'; clips are made by day or night"):
        write_clips(tmp_path, 1, view="fog")
    with pytest.raises(UserError, match="0 takes of 2 s"):
        write_clips(tmp_path, 0)
    with pytest.raises(UserError, match="size 33x32: width and height are even, 16 to 1024 pixels"):
        write_clips(tmp_path, 1, size=(33, 32))


def test_frames_are_spread_over_a_clip_and_its_sound_is_whole(tmp_path: Path) -> None:
    (tmp_path / "clips/dog").mkdir(parents=True)
    made = clip(tmp_path / "clips/dog/a.mkv", film(), clicks())
    assert take_apart(tmp_path / "clips", tmp_path / "out", each=4) == (1, ())
    names = sorted(path.name for path in (tmp_path / "out/frames/dog").iterdir())
    assert names == ["a_002.png", "a_007.png", "a_012.png", "a_017.png"]       # the middles of four parts of 20
    shown = [frame.pixels for frame in frames(open_clip(made))]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/frames/dog/a_012.png")), shown[12])
    wave, rate = soundfile.read(tmp_path / "out/sounds/dog/a.flac", always_2d=True, dtype="float32")
    assert rate == 16_000 and np.abs(wave - sound(open_clip(made)).samples).max() <= 2**-15


def test_a_broken_clip_is_told_and_the_others_are_taken_apart(tmp_path: Path) -> None:
    clip(tmp_path / "b.mp4", film(), None)
    (tmp_path / "a.mp4").write_bytes(b"no clip")
    taken = take_apart(tmp_path, tmp_path / "out", each=1)
    assert taken.clips == 1 and [name for name, _ in taken.broken] == ["a.mp4"]
    assert "clips are MP4" in taken.broken[0][1]
    assert not (tmp_path / "out" / "sounds").exists()


def test_a_folder_without_clips_and_no_frames_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no clips; they end in .mp4"):
        take_apart(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="each is 0"):
        take_apart(tmp_path, tmp_path / "out", each=0)
