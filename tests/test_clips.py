import hashlib
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("av")

from mmcycle.data.clips import frames, open_clip, sound
from mmcycle.core import nets
from mmcycle.core.model import generator
from mmcycle.errors import RecordingError, UserError
from mmcycle.generate.clips import ClipTranslator, joined
from mmcycle.generate.steadiness import FOLLOW, Steadied, steady_moments
from mmcycle.generate.tiles import shared_moments
from mmcycle.generate.translator import Translation, Translator
from mmcycle.metrics.flicker import clip_flicker, flicker, mean_flicker
from mmcycle.modality import find_modality
from tests import tiny_sound
from tests.tiny_clips import COUNT, FLASHES, FPS, RATE, clicks, clip, film, lag
from tests.tiny_run import tiny

Image, Audio = find_modality("image"), find_modality("audio")


class Fake:
    """A translator by hand: what `act` makes of the bare array."""

    run, direction, sha256, stochastic = "runs/fake", "ab", "0" * 64, False

    def __init__(self, modality: Any, act: Any, name: str = "fake"):
        self.source = self.target = modality
        self.act, self.calls = act, []

    def perform(self, raw: Any, strength: float = 1.0, seed: int = 0) -> Translation:
        self.calls.append((strength, seed))
        return self.act(raw)


def pictures(act: Any) -> Fake:
    return Fake(Image(), lambda raw: Translation(type(raw)(act(raw.pixels)), {}))


def waves(act: Any, facts: dict[str, float] | None = None) -> Fake:
    return Fake(Audio(), lambda raw: Translation(type(raw)(act(raw.samples), raw.rate, raw.subtype), facts or {}))


def dark(pixels: np.ndarray) -> np.ndarray:
    return pixels // 2


def translated(
    translator: ClipTranslator, path: Path, strength: float = 1.0, seed: int = 0
) -> tuple[Path, dict[str, float]]:
    target = path.parent / f"made_{path.name}"
    translation = translator.perform(translator.source.load(path), strength, seed)
    translator.target.save(translation.raw, target)
    return target, translation.facts


def seen(path: Path) -> np.ndarray:
    return np.stack([frame.pixels for frame in frames(open_clip(path))]).astype(int)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".mov", ".avi"])
def test_frames_and_sound_are_translated_and_stay_together(tmp_path: Path, suffix: str):
    rate = 48_000 if suffix == ".webm" else RATE
    path = clip(tmp_path / f"a{suffix}", film(), clicks(rate=rate), rate=rate)
    made, _ = translated(joined({"camera": pictures(dark), "audio": waves(lambda wave: wave / 2)}), path)
    assert np.abs(seen(made) - seen(path) // 2).mean() < 3
    heard, now = sound(open_clip(path)), sound(open_clip(made))
    assert abs(np.abs(now.samples).max() / np.abs(heard.samples).max() - 0.5) < 0.1
    assert lag(heard.samples[:, 0], now.samples[:, 0]) == 0
    assert [one.time for one in frames(open_clip(made))] == [Fraction(index, FPS) for index in range(COUNT)]


def test_a_stream_without_a_run_is_copied(tmp_path: Path):
    path = clip(tmp_path / "a.mp4", film(), clicks())
    made, _ = translated(joined({"camera": pictures(dark), "audio": None}), path)
    assert np.array_equal(sound(open_clip(made)).samples, sound(open_clip(path)).samples)
    made, _ = translated(joined({"camera": None, "audio": waves(lambda wave: wave / 2)}), path)
    assert np.array_equal(seen(made), seen(path))


def test_all_frames_and_the_sound_get_one_strength_and_one_seed(tmp_path: Path):
    camera, audio = pictures(dark), waves(lambda wave: wave)
    translated(joined({"camera": camera, "audio": audio}), clip(tmp_path / "a.mp4", film(), clicks()), 0.5, 7)
    assert camera.calls == [(0.5, 7)] * COUNT and audio.calls == [(0.5, 7)]


def test_facts_carry_the_name_of_their_stream_and_a_sound_that_is_too_loud_is_turned_down(tmp_path: Path):
    path = clip(tmp_path / "a.mkv", film(), clicks())
    made, facts = translated(joined({"audio": waves(lambda wave: wave * 4, {"snr_db": 3.0})}), path)
    loudest = np.abs(sound(open_clip(path)).samples).max()
    assert facts == {"audio.snr_db": 3.0, "audio.level_db": round(-20 * float(np.log10(4 * loudest)), 2)}
    assert abs(np.abs(sound(open_clip(made)).samples).max() - 1) < 1e-3


def test_a_clip_is_as_safe_as_its_sound_and_eight_of_its_frames(tmp_path: Path):
    """Frames 1, 3, 6, 8, 11, 13, 16 and 18 of 20 are looked at; the odd ones have lost everything."""
    camera, audio = pictures(dark), waves(lambda wave: wave)
    grid = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    act = camera.act
    camera.act = lambda raw: act(raw)._replace(samples=lambda count=len(camera.calls): (grid, grid * (count % 2)))
    path = clip(tmp_path / "a.mp4", film(), clicks())
    both = joined({"camera": camera, "audio": audio})
    made = both.perform(both.source.load(path))
    both.target.save(made.raw, tmp_path / "b.mp4")
    assert made.raw.safety == {"camera.safety": 0.5}            # the calls count from 1; the fake sound has no samples
    audio.act = lambda raw: Translation(raw, {}, lambda: (grid[:1], grid[:1]))
    assert both.perform(both.source.load(path)).raw.safety == {"audio.safety": 1.0}


def test_a_judge_of_a_stream_scores_the_frames_of_a_clip(tmp_path: Path):
    camera, path = pictures(dark), clip(tmp_path / "a.mp4", film(), clicks())
    act = camera.act
    camera.act = lambda raw: act(raw)._replace(samples=lambda: (torch.full((3, 4, 4), -0.5), torch.full((3, 4, 4), 0.5)))
    sure = joined({"camera": camera}, judges={"camera": "test_safety:judge"})     # dark, then bright
    made = sure.perform(sure.source.load(path))
    sure.target.save(made.raw, tmp_path / "b.mp4")
    assert made.raw.safety == {"camera.safety": 0.0}


def test_a_clip_that_lacks_a_stream_to_be_translated_is_refused_by_name(tmp_path: Path):
    silent, blind = clip(tmp_path / "silent.mp4", film()), clip(tmp_path / "blind.mp4", None, clicks())
    both = joined({"camera": pictures(dark), "audio": waves(lambda wave: wave)})
    with pytest.raises(RecordingError, match="silent.mp4: holds no sound, which the stream 'audio' translates"):
        both.source.load(silent)
    with pytest.raises(RecordingError, match="blind.mp4: holds no pictures, which the stream 'camera' translates"):
        both.source.load(blind)
    assert translated(joined({"camera": pictures(dark)}), silent)[0].exists()
    assert translated(joined({"audio": waves(lambda wave: wave)}), blind)[0].exists()


def test_runs_that_do_not_fit_into_a_clip_are_refused_before_it_is_read():
    camera, audio = pictures(dark), waves(lambda wave: wave)
    with pytest.raises(UserError, match="the run of stream 'camera' makes Audio of Audio; it must make pictures of"):
        joined({"camera": audio})
    with pytest.raises(UserError, match="the run of stream 'audio' makes Image of Image; it must make sound of sound"):
        joined({"audio": camera})
    camera.target = Audio()
    with pytest.raises(UserError, match="the run of stream 'camera' makes Audio of Image"):
        joined({"camera": camera})
    with pytest.raises(UserError, match="a clip has the streams 'camera' and 'audio'; got 'lidar'"):
        joined({"lidar": audio})
    with pytest.raises(UserError, match="got none"):
        joined({"camera": None})
    with pytest.raises(UserError, match="smooth is 1; it lies from 0"):
        joined({"audio": audio}, smooth=1)


def test_a_sound_too_short_to_be_one_is_refused_by_name(tmp_path: Path):
    path = clip(tmp_path / "a.mkv", film(2), np.zeros((1, 2), np.float32))
    with pytest.raises(RecordingError, match="a.mkv: its sound, 1 samples of 2 channels, is too short"):
        translated(joined({"audio": waves(lambda wave: wave)}), path)


def test_a_joint_translator_is_told_apart_by_its_parts():
    camera, audio, other = pictures(dark), waves(lambda wave: wave), pictures(dark)
    other.sha256 = "1" * 64
    both = joined({"camera": camera, "audio": audio})
    assert (both.run, both.direction, both.stochastic) == ("runs/fake+runs/fake", "ab+ab", False)
    assert both.sha256 != joined({"camera": other, "audio": audio}).sha256 != joined({"audio": audio}).sha256
    audio.stochastic = True
    assert both.stochastic
    assert not both.target.relabel(Path("a.json"), Path("b.json"), None)


# With trained models


def image_model(tmp_path: Path, **networks: object) -> Translator:
    made = tiny(tmp_path, *(f"model.{key}={value}" for key, value in networks.items()))
    torch.manual_seed(0)
    network = generator(made.a.modality, made.b.modality, made.model)
    return Translator(made, "ab", network.state_dict(), device="cpu")


def test_real_translators_give_the_same_bytes_twice(tmp_path: Path):
    path = clip(tmp_path / "a.mp4", film(), clicks(rate=8000), rate=8000)
    both = joined({"camera": image_model(tmp_path), "audio": tiny_sound.translator()})
    first, facts = translated(both, path, seed=3)
    digest = hashlib.sha256(first.read_bytes()).hexdigest()
    again, told = translated(both, path, seed=3)
    assert hashlib.sha256(again.read_bytes()).hexdigest() == digest and facts == told
    assert "audio.snr_db" in facts and both.stochastic
    translated(both, path, seed=4)
    assert hashlib.sha256(again.read_bytes()).hexdigest() != digest


def test_an_error_in_the_middle_leaves_the_network_as_it_was(tmp_path: Path):
    model = image_model(tmp_path)
    both, path = joined({"camera": model}), clip(tmp_path / "a.mp4", film(), clicks())
    (tmp_path / "a.gif").touch()
    with pytest.raises(RecordingError, match="cannot be written as '.gif'"):
        both.target.save(both.perform(both.source.load(path)).raw, tmp_path / "b.gif")
    perform, calls = model.perform, []

    def stumbling(raw: Any, strength: float = 1.0, seed: int = 0) -> Translation:
        calls.append(seed)
        if len(calls) == 5:
            raise RecordingError("b.mp4: stumbled")
        return perform(raw, strength, seed)

    model.perform = stumbling
    with pytest.raises(RecordingError, match="stumbled"):
        both.target.save(both.perform(both.source.load(path)).raw, tmp_path / "b.mp4")
    assert all(norm.moments is None for norm in model.generator.modules() if isinstance(norm, nets.InstanceNorm))


# Steadiness


def test_the_moments_of_a_film_follow_by_a_tenth_and_leap_at_a_cut():
    norm = nets.InstanceNorm()
    low, high = np.full((4, 4, 3), 10, np.uint8), np.full((4, 4, 3), 200, np.uint8)
    x = [torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(n)) * (n + 1) + n for n in range(3)]
    with steady_moments(norm) as show:
        show(low)
        assert torch.allclose(norm(x[0]), torch.nn.functional.instance_norm(x[0]), atol=1e-5)
        show(low)
        found = norm(x[1])
        means = [one.mean((2, 3), keepdim=True) for one in x]
        variances = [one.var((2, 3), correction=0, keepdim=True) for one in x]
        mean, variance = (0.9 * one[0] + FOLLOW * one[1] for one in (means, variances))
        assert torch.allclose(found, (x[1] - mean) / (variance + 1e-5).sqrt(), atol=1e-5)
        assert torch.equal(norm(x[1]), found)           # a second look at one frame, as tiles take it, moves nothing
        show(high)
        assert torch.allclose(norm(x[2]), torch.nn.functional.instance_norm(x[2]), atol=1e-5)
    assert norm.moments is None


def test_tiles_of_a_film_share_the_moments_of_the_film():
    norm = torch.nn.Sequential(nets.InstanceNorm())
    with shared_moments(norm) as outer:
        with shared_moments(norm) as inner:
            assert inner[0] is outer[0] is norm[0].moments
        assert norm[0].moments is outer[0]
    assert norm[0].moments is None


def noisy(film_: list[np.ndarray], deviation: float = 12.0, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each frame, and a translation of it: darker, and with noise of its own in every frame."""
    rng = np.random.default_rng(seed)
    for pixels in film_:
        change = pixels * 0.5 + 60 + rng.normal(0, deviation, pixels.shape)
        yield pixels, np.clip(change, 0, 255).round().astype(np.uint8)


def test_flicker_of_a_still_film_goes_down_as_smoothing_goes_up():
    still = [film(1, flashes=())[0]] * 30
    found = []
    for smooth in (0.0, 0.5, 0.8):
        steadied = Steadied(smooth)
        shown = [steadied(before, after) for before, after in noisy(still)]
        measured = flicker(still[10:], shown[10:])
        assert (measured.source, measured.still) == (0.0, 1.0)
        found.append(measured.translated)
    assert abs(found[0] - 12 * 2 / np.pi**0.5) < 0.5    # mean |a - b| of two normals of deviation 12
    for ratio, smooth in ((found[1] / found[0], 0.5), (found[2] / found[0], 0.8)):
        assert abs(ratio - (1 - smooth) / (1 + smooth) ** 0.5) < 0.03


def test_smoothing_does_not_bring_back_the_grain_that_a_darker_translation_has_lost():
    rng = np.random.default_rng(0)
    grainy = [np.clip(120 + rng.normal(0, 2, (24, 32, 3)), 0, 255).round().astype(np.uint8) for _ in range(24)]
    made = [np.clip(frame * 0.3 + 10, 0, 255).round().astype(np.uint8) for frame in grainy]
    steadied = Steadied(0.8)
    shown = [steadied(before, after) for before, after in zip(grainy, made)]
    bare, smooth = (flicker(grainy[8:], one[8:]) for one in (made, shown))
    assert bare.translated < 0.4 * bare.source                  # three tenths of it, and rounding
    assert smooth.translated < 0.5 * smooth.source


def test_smoothing_leaves_no_ghosts_where_the_film_moves():
    moving = []
    for step in range(12):
        frame = np.full((32, 64, 3), 30, np.uint8)
        frame[8:24, 4 * step : 4 * step + 12] = 220
        moving.append(frame)
    steadied = Steadied(0.8)
    for before, after in noisy(moving, deviation=0.0):
        shown = steadied(before, after)
    box = np.zeros((32, 64), bool)
    box[8:24, 44:56] = True
    assert np.abs(shown.astype(int) - after)[~box].max() <= 1 and np.abs(shown.astype(int) - after)[box].max() <= 1


def test_without_smoothing_every_frame_is_shown_as_the_model_made_it():
    for before, after in noisy(film(3)):
        assert np.array_equal(Steadied(0.0)(before, after), after)


def test_a_slow_change_of_the_source_is_not_smoothed_away():
    """Grain is below the threshold in every step; a fade adds up, and the translation fades with it."""
    fade = [np.full((16, 16, 3), 40 + 2 * step, np.uint8) for step in range(60)]
    steadied = Steadied(0.8)
    for before, after in noisy(fade, deviation=0.0):
        shown = steadied(before, after)
    assert np.abs(shown.astype(int) - after).max() <= 4


def test_flicker_counts_what_the_source_does_itself():
    a, b = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 2, np.uint8)
    assert flicker([a, b, a], [a, 3 * b, a]) == (6.0, 2.0, 1.0)
    moved = np.full_like(a, 200)
    measured = flicker([a, moved], [a, moved])
    assert measured.still == 0 and np.isnan(measured.translated)


def test_flicker_needs_two_frames_of_one_size_of_films_in_step():
    a = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(UserError, match="two frames or more"):
        flicker([a], [a])
    with pytest.raises(UserError, match=r"frames of one size are compared, got \(16, 16\) and \(8, 16\)"):
        flicker([a, a], [a[:8], a[:8]])
    with pytest.raises(UserError, match="as many frames"):
        flicker([a, a, a], [a, a])


def test_a_noisy_translation_of_a_still_clip_flickers_less_when_it_is_steadied(tmp_path: Path):
    path, rng = clip(tmp_path / "a.mp4", film(flashes=()), clicks()), np.random.default_rng(1)
    camera = pictures(lambda pixels: (pixels // 2 + rng.integers(0, 40, pixels.shape)).astype(np.uint8))
    raw = clip_flicker(path, translated(joined({"camera": camera}, smooth=0), path)[0])
    steadied = clip_flicker(path, translated(joined({"camera": camera}), path)[0])
    assert raw.source < 1 and raw.still > 0.95
    assert steadied.translated < 0.4 * raw.translated


def test_clips_that_never_stand_still_do_not_spoil_the_mean(tmp_path: Path):
    still = clip(tmp_path / "still.mp4", film(flashes=()))
    wild = clip(tmp_path / "wild.mp4", [np.full((32, 48, 3), 255 * (step % 2), np.uint8) for step in range(6)])
    assert mean_flicker([(still, still), (wild, wild)]) == clip_flicker(still, still)
    nothing = mean_flicker([(wild, wild)])
    assert nothing.still == 0 and np.isnan(nothing.translated) and mean_flicker([]).still == 0


def test_a_long_clip_needs_no_more_memory_than_a_short_one(tmp_path: Path):
    peaks = []
    for count in (20, 120):
        path = clip(tmp_path / f"{count}.mp4", film(count, size=(96, 128)), clicks())
        both = joined({"camera": pictures(dark)})
        raw = both.source.load(path)
        tracemalloc.start()
        both.target.save(both.perform(raw).raw, tmp_path / "made.mp4")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert len(seen(tmp_path / "made.mp4")) == 120 and FLASHES[0] < 120
