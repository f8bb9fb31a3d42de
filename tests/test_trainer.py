"""The training loop: exact resume, refusals, the guard against NaN, samples, rates and broken recordings."""
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image as Picture
from torch import nn

from mmcycle.config import load_config
from mmcycle.core.settings import Networks
from mmcycle.errors import MmcycleError, RecordingError, UserError
from mmcycle.modalities.image import Image
from mmcycle.train import trainer
from mmcycle.train.trainer import Ended, train
from tiny_run import differences, leftovers, photographs, rows, steps_saved, tensors, tiny, trained


class WithBuffers(nn.Sequential):
    """The usual encoder behind a batch norm."""

    def __init__(self, encoder: nn.Module):
        super().__init__(nn.BatchNorm2d(3), encoder)


@dataclass(frozen=True)
class Normed(Image):
    """Photographs with networks of their own."""

    def encoder(self, networks: Networks) -> nn.Module:
        return WithBuffers(super().encoder(networks))


VARIANTS = {
    "float32, wasserstein, one thing after another": ["loss.adversarial=wgan-gp", "train.clip=1", "train.warm_up=3"],
    "bfloat16, the reference shape": ["run.precision=bf16-mixed", "model.generator=resnet", "train.batch_size=2", "train.replay=3"],
    "everything that draws random numbers": [
        "train.diff_augment=[color, translation, cutout]", "loss.consistency=both", "loss.nce_patches=16", "loss.r1=1",
        "loss.r1_every=2", "loss.identity_end=0", "loss.identity_until=0.9", "train.schedule=cosine",
    ],
    "pix2pix, pairs judged": [
        "data.paired=true", "loss.consistency=none", "loss.paired=10", "loss.identity=0", "loss.identity_end=null",
        "model.discriminator_sees=pair", "train.replay=0", "loss.r1=1", "loss.r1_every=2", "train.diff_augment=[color]",
    ],
    "one way": ["loss.consistency=nce", "model.discriminator_norm=instance", "train.discriminator_lr=0.02"],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs for all tests of this file, and `straight`: a run without interruption."""
    root = tmp_path_factory.mktemp("training")
    trained(root, "straight", "run.sample_every=6")
    return root


def interrupted(run: Path, step: int) -> Path:
    """A copy of a run as it was after `step` steps, but for its log, which is longer as after a kill."""
    copy = run.with_name(f"{run.name}-{step}-{len(list(run.parent.iterdir()))}")
    shutil.copytree(run, copy)
    for path in (copy / "checkpoints").glob("step-*"):
        if path.name > f"step-{step:08}":
            shutil.rmtree(path)
    return copy


# Exact resume


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path: Path, variant: str) -> None:
    overrides = [*VARIANTS[variant], "train.steps=10", "run.save_every=5"]
    straight = trained(tmp_path, "straight", *overrides)
    resumed = interrupted(straight, 5)
    assert steps_saved(resumed) == [5]
    trained(tmp_path, resumed.name, *overrides)
    assert differences(straight, resumed, 10) == []
    assert [row["step"] for row in rows(resumed)] == list(range(1, 11))
    assert [row["step"] for row in rows(resumed, "resume")] == [5]


def test_neither_the_readers_nor_the_cache_nor_the_cadences_change_a_bit(root: Path) -> None:
    resumed = interrupted(root / "straight", 4)
    train(tiny(root, "data.workers=2", "data.cache_mib=0", "run.save_every=3", "run.keep=2", "run.log_every=1"), resumed)
    assert differences(root / "straight", resumed, 12) == ["state.json", "sums.json"]       # they hold the config
    assert steps_saved(resumed) == [9, 12]


def test_a_checkpoint_is_written_at_least_every_few_minutes(root: Path, tmp_path: Path) -> None:
    train(tiny(root, "train.steps=3", "run.save_every=1000", "run.save_minutes=1e-9"), tmp_path)
    assert steps_saved(tmp_path) == [1, 2, 3]


def test_another_seed_gives_another_run(root: Path) -> None:
    other = trained(root, "seed", "run.seed=1", "train.steps=1")
    assert rows(other)[0]["losses"] != rows(root / "straight")[0]["losses"]


def test_a_run_that_is_done_is_left_as_it_is(root: Path) -> None:
    copy = interrupted(root / "straight", 12)
    assert train(tiny(root, "run.sample_every=6"), copy) == Ended(copy, 12, None)
    assert differences(root / "straight", copy, 12) == []


def test_a_row_torn_by_a_kill_is_forgotten(root: Path) -> None:
    resumed = interrupted(root / "straight", 8)
    with (resumed / "log.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')
    trained(root, resumed.name, "run.sample_every=6")
    assert differences(root / "straight", resumed, 12) == []


# What a run folder may be


def test_a_run_of_another_config_is_refused_with_the_keys_that_differ(root: Path) -> None:
    with pytest.raises(UserError, match=r"straight holds a run of another config: loss.cycle was 10.0, now 5.0; train.lr was 0.01, now 0.02") as caught:
        train(tiny(root, "train.lr=0.02", "loss.cycle=5.0", "run.log_every=3"), root / "straight")
    assert "--fresh" in str(caught.value) and "log_every" not in str(caught.value)


def test_fresh_forgets_the_run_that_was_there(root: Path) -> None:
    again = interrupted(root / "straight", 12)
    (again / "samples").mkdir(exist_ok=True)
    (again / "samples/step-00000099.png").touch()
    trained(root, again.name, "train.steps=3", fresh=True)
    assert steps_saved(again) == [3] and len(rows(again)) == 3
    assert [path.name for path in (again / "samples").iterdir()] == ["step-00000003.png"]
    assert load_config(again / "config.yaml").train.steps == 3


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_that_is_no_run_is_refused_and_left_alone(root: Path, tmp_path: Path, fresh: bool) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/thesis.txt").write_text("ten years of work")
    with pytest.raises(UserError, match=r"is not empty and holds no run \(no config.yaml\): choose another --out"):
        train(tiny(root), tmp_path, fresh=fresh)
    assert (tmp_path / "checkpoints/thesis.txt").exists() and not (tmp_path / "config.yaml").exists()


def test_what_a_kill_left_half_written_neither_blocks_nor_stays(root: Path, tmp_path: Path) -> None:
    (tmp_path / ".tmp-123-config.yaml").write_text("name: ti")
    train(tiny(root, "train.steps=1"), tmp_path)
    (tmp_path / "checkpoints/.tmp-123-new-step-00000002").mkdir()
    (tmp_path / "checkpoints/.tmp-123-new-step-00000002/state.json").touch()
    (tmp_path / "checkpoints/.tmp-rank-0.safetensors").touch()
    train(tiny(root, "train.steps=1"), tmp_path)
    assert leftovers(tmp_path) == []


def test_a_file_cannot_be_a_run(root: Path) -> None:
    with pytest.raises(MmcycleError, match="tiny.yaml: cannot be written to"):
        train(tiny(root), root / "tiny.yaml")


def test_before_the_first_checkpoint_a_config_may_still_be_mended(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="loss.task_network 'nowhere:net' could not be built"):
        train(tiny(root, "loss.task=1", "loss.task_network=nowhere:net"), tmp_path)
    train(tiny(root, "train.steps=1"), tmp_path)
    assert steps_saved(tmp_path) == [1]


def test_networks_that_the_samples_do_not_allow_are_refused_as_a_mistake_in_the_config(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tiny: loss.consistency='nce' compares patches of equal shapes; a has \(3, 32, 32\), b has \(3, 64, 64\)"):
        train(tiny(root, "loss.consistency=nce", "b.size=64"), tmp_path)


# Recordings


def test_a_root_that_is_not_set_is_refused_with_the_key(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="b.root is not set: name the folder of night recordings, such as b.root=data/night"):
        train(tiny(root, "b.root=null"), tmp_path / "run")


def test_an_empty_domain_is_refused_by_name(root: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match=rf"{tmp_path}/nothing: found 0 files but no recording"):
        train(tiny(root, f"a.root={tmp_path}/nothing"), tmp_path / "run")


def test_a_domain_of_one_recording_trains_and_says_so(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photographs(tmp_path / "one", count=1)
    train(tiny(root, f"a.root={tmp_path}/one", "train.steps=2"), tmp_path / "run")
    assert steps_saved(tmp_path / "run") == [2]
    assert "note: " in capsys.readouterr().err
    assert size_of(tmp_path / "run/samples/step-00000002.png") == (3 * 36, (1 + 4) * 36)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Eight photographs, one of which is not, and is among those that samples/ shows."""
    photographs(tmp_path / "broken")
    (tmp_path / "broken/02.png").write_bytes(b"not a photograph")
    return tmp_path / "broken"


def test_a_broken_recording_stops_the_run_by_name(root: Path, broken: Path) -> None:
    with pytest.raises(RecordingError, match=rf"{broken}/02.png"):
        train(tiny(root, f"a.root={broken}"), broken.parent / "run")


def test_a_broken_recording_can_be_passed_over_and_is_told(root: Path, broken: Path) -> None:
    run = broken.parent / "run"
    train(tiny(root, f"a.root={broken}", "data.on_error=skip"), run)
    events = rows(run, "bad recording")
    assert {row["path"] for row in events} == {f"{broken}/02.png"} and events[0]["why"].startswith(f"{broken}/02.png")
    assert 1 <= len(events) <= 2 and steps_saved(run) == [4, 8, 12]        # a pass is eight steps
    assert size_of(run / "samples/step-00000012.png") == (3 * 36, (3 + 4) * 36)


def test_events_of_steps_that_are_done_again_are_not_told_twice(root: Path, broken: Path) -> None:
    overrides = (f"a.root={broken}", "data.on_error=skip")
    run = broken.parent / "run"
    train(tiny(root, *overrides), run)
    resumed = interrupted(run, 4)
    train(tiny(root, *overrides), resumed)
    assert rows(resumed, "bad recording") == rows(run, "bad recording")


# The guard against NaN


def poison(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """One pixel of A is NaN in these steps."""
    taught = trainer.Teacher.step

    def step(self: trainer.Teacher, number: int, real_a: torch.Tensor, *others: torch.Tensor) -> object:
        real_a = real_a.clone()
        if number in steps:
            real_a[0, 0, 0, 0] = torch.nan
        return taught(self, number, real_a, *others)

    monkeypatch.setattr(trainer.Teacher, "step", step)


@pytest.mark.parametrize("clip", [0, 1])
def test_a_step_that_is_not_finite_changes_no_weight(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: int) -> None:
    poison(monkeypatch, {0, 3, 4})
    train(tiny(root, "run.save_every=1", "train.steps=8", f"train.clip={clip}", "train.replay=2", "model.discriminator_norm=none"), tmp_path)
    for part in ("networks", "optimisers"):
        before, after, later = (tensors(tmp_path, step, part) for step in (3, 5, 6))
        assert all(torch.equal(value, after[name]) for name, value in before.items())
        assert not all(torch.equal(value, later[name]) for name, value in before.items())
    log = rows(tmp_path)
    assert [row["bad_steps"] for row in log] == [1, 1, 1, 2, 3, 3, 3, 3]
    assert log[3]["losses"]["cycle_a"] is None and None not in {**log[5]["losses"], **log[6]["losses"], **log[7]["losses"]}.values()
    assert all(value.isfinite().all() for part in ("networks", "averages", "optimisers") for value in tensors(tmp_path, 8, part).values())


def test_many_bad_steps_in_a_row_end_the_run_with_advice(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, {1, 2, *range(4, 12)})
    with pytest.raises(MmcycleError, match=r"the losses of the last 3 steps \(up to step 7\) were not finite; no weight was changed by them. Lower train.lr"):
        train(tiny(root, "train.max_bad_steps=3"), tmp_path)
    assert [row["bad_steps"] for row in rows(tmp_path)] == [0, 1, 2, 2, 3, 4, 5]


def test_the_count_of_bad_steps_survives_a_resume(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, {2, 3, 4})
    straight = trained(root, "poisoned", "train.steps=6")
    resumed = interrupted(straight, 4)
    trained(root, resumed.name, "train.steps=6")
    assert differences(straight, resumed, 6) == []
    assert rows(resumed)[-1]["bad_steps"] == 3


# What a run leaves behind


def size_of(path: Path) -> tuple[int, int]:
    with Picture.open(path) as picture:
        return picture.size


def test_samples_show_four_recordings_of_each_domain_there_and_back(root: Path) -> None:
    samples = root / "straight/samples"
    assert sorted(path.name for path in samples.iterdir()) == ["step-00000006.png", "step-00000012.png"]
    for path in samples.iterdir():
        assert size_of(path) == (3 * (32 + 4), 2 * 4 * (32 + 4))                # a gap of 4 pixels after each picture


def test_samples_of_one_way_have_no_way_back_but_a_true_recording_of_the_other_domain(root: Path, tmp_path: Path) -> None:
    train(tiny(root, "loss.consistency=nce", "train.steps=1"), tmp_path / "one")
    train(tiny(root, "train.steps=1"), tmp_path / "both")
    with Picture.open(tmp_path / "one/samples/step-00000001.png") as one, Picture.open(tmp_path / "both/samples/step-00000001.png") as both:
        assert (one.size, both.size) == ((3 * 36, 4 * 36), (3 * 36, 8 * 36))
        for row in range(4):
            right, left = one.crop((72, 36 * row, 104, 36 * row + 32)), both.crop((0, 36 * (row + 4), 32, 36 * (row + 4) + 32))
            assert right.tobytes() == left.tobytes()            # where a run of both ways shows what it translates back


def test_samples_of_three_recordings_show_all_three(root: Path, tmp_path: Path) -> None:
    photographs(tmp_path / "three", count=3)
    train(tiny(root, f"a.root={tmp_path}/three", "train.steps=1"), tmp_path / "run")
    with Picture.open(tmp_path / "run/samples/step-00000001.png") as sheet:
        pictures = [sheet.crop((0, top, 32, top + 32)).tobytes() for top in (0, 36, 72)]
        assert sheet.height == (3 + 4) * 36 and len(set(pictures)) == 3


def test_the_logged_rate_is_the_schedule_also_after_a_resume(root: Path) -> None:
    overrides = ("train.warm_up=2", "train.decay_from=0.5", "train.steps=8")
    resumed = interrupted(trained(root, "rates", *overrides), 4)
    trained(root, resumed.name, *overrides)
    shares = [0.5, 1, 1, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5]      # by hand: two steps up, half of eight, then to 0 after the last
    for run in (root / "rates", resumed):
        assert [row["lr"] for row in rows(run)] == pytest.approx([0.01 * share for share in shares], rel=1e-5)


def test_the_first_step_moves_a_weight_by_the_rate(root: Path, tmp_path: Path) -> None:
    """Adam's first step is lr * sign(gradient), so the schedule reaches the optimiser and not the log alone."""
    train(tiny(root, "train.warm_up=4", "train.steps=5", "run.save_every=1", "train.betas=[0, 0]", "train.discriminator_lr=0.04"), tmp_path)
    for name, lr in (("gen_ab", 0.01), ("disc_a", 0.04)):
        one, two = (tensors(tmp_path, step, "networks") for step in (1, 2))
        weight = next(key for key in one if key.startswith(name) and key.endswith(("original", "weight")))
        moved = (two[weight] - one[weight]).abs()
        assert moved.max().item() == pytest.approx(lr * 2 / 4, rel=1e-3)       # the second of four steps of warm-up


def test_averages_follow_the_weights_with_the_decay_of_the_step(root: Path, tmp_path: Path) -> None:
    train(tiny(root, "train.steps=2", "run.save_every=1", "train.ema=0.9"), tmp_path)
    before = tensors(tmp_path, 1, "averages")
    after, networks = tensors(tmp_path, 2, "averages"), tensors(tmp_path, 2, "networks")
    for name, average in before.items():
        weight = networks[f"gen_{name}"]
        torch.testing.assert_close(after[name], average * 2 / 11 + weight * 9 / 11)     # (1 + step) / (10 + step) at step 1


def test_averages_take_over_the_buffers_of_a_modality_s_own_networks(root: Path, tmp_path: Path) -> None:
    """Where a batch norm keeps running moments, the average of the weights needs those of today."""
    train(tiny(root, "train.steps=2", "a.modality=test_trainer:Normed", "a.size=32"), tmp_path)
    averages, networks = tensors(tmp_path, 2, "averages"), tensors(tmp_path, 2, "networks")
    moments = [name for name in averages if name.endswith("running_mean")]
    assert len(moments) > 0 and all(torch.equal(averages[name], networks[f"gen_{name}"]) and averages[name].any() for name in moments)


def test_the_log_begins_with_what_was_started(root: Path) -> None:
    (begun,) = rows(root / "straight", "start")
    assert begun["recordings"] == {"a": 8, "b": 8} and begun["ranks"] == 1 and begun["device"] == "cpu"
    assert re.match(r"\d{4}-\d\d-\d\dT", begun["time_utc"]) and set(begun["versions"]) == {"mmcycle", "torch", "python"}


def test_a_task_network_that_is_not_there_is_refused(root: Path, tmp_path: Path) -> None:
    for name in ("nowhere.nets:segmenter", "json:missing", "json:loads", "json"):
        with pytest.raises(UserError, match=f"loss.task_network '{name}' could not be built"):
            train(tiny(root, "loss.task=1", f"loss.task_network={name}"), tmp_path / "run")
    with pytest.raises(UserError, match="returned Random, expected a torch.nn.Module"):
        train(tiny(root, "loss.task=1", "loss.task_network=random:Random"), tmp_path / "run")
