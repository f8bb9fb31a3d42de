"""A run is ended from outside, at any moment and in any way, and goes on as if nothing had happened."""
import os
import random
import re
import signal
from pathlib import Path

import pytest

from kill_everywhere import generation_survives, training_survives
from mmcycle.train import trainer
from mmcycle.train.trainer import Ended, train
from tiny_run import differences, ended, leftovers, rows, start_training, steps_saved, tiny, trained, wait_until


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kills")
    trained(root, "straight")
    return root


def said(root: Path) -> str:
    return (root / "said").read_text(encoding="utf-8")


def is_under_way(run: Path, steps: int = 1) -> bool:
    return (run / "log.jsonl").exists() and len(rows(run)) >= steps


# kill -9


def test_training_survives_kills_at_random_moments(tmp_path: Path) -> None:
    assert training_survives(tmp_path, moments=4, rng=random.Random(0)) == []


def test_generation_survives_kills_at_random_moments(tmp_path: Path) -> None:
    assert generation_survives(tmp_path, moments=3, rng=random.Random(0)) == []


def test_a_killed_run_does_not_block_its_folder_though_its_readers_live_on(root: Path) -> None:
    run = root / "readers"
    process = start_training(root, "readers", "data.workers=2", "train.steps=1000", "run.save_every=1")
    wait_until(lambda: len(steps_saved(run)) >= 2)
    process.kill()
    assert ended(process) == -signal.SIGKILL
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_ended", lambda received, step, engine: True)       # one step is enough
        train(tiny(root, "data.workers=0", "train.steps=1000", "run.save_every=1"), run)
    assert leftovers(run) == []


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_its_step_with_a_checkpoint(root: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    run = root / number.name
    write_row = trainer._write_row

    def interrupting(log: object, step: int, *others: object) -> None:
        write_row(log, step, *others)
        if step == 6:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_write_row", interrupting)
        assert train(tiny(root), run) == Ended(run, 6, number)
    assert signal.getsignal(number) == before
    assert steps_saved(run) == [4, 6] and len(rows(run)) == 6
    assert train(tiny(root), run) == Ended(run, 12, None)
    assert differences(root / "straight", run, 12) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_line_says_how_to_go_on_and_exits_with_the_signal(root: Path, number: signal.Signals, code: int) -> None:
    name = f"command-{code}"
    process = start_training(root, name, "train.steps=100000")
    wait_until(lambda: is_under_way(root / name))
    os.kill(process.pid, number)
    assert ended(process) == code
    last = len(rows(root / name))
    assert f"stopped by a signal after step {last}, saved; run the same line again to go on" in said(root)
    assert steps_saved(root / name)[-1] == last


def test_a_signal_to_the_whole_group_lets_the_readers_finish(root: Path) -> None:
    """Ctrl-C on a terminal reaches the processes that load data too."""
    process = start_training(root, "group", "data.workers=2", "train.steps=100000")
    wait_until(lambda: is_under_way(root / "group"))
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGINT)
    os.kill(process.pid, signal.SIGINT)
    assert ended(process) == 130
    assert "Traceback" not in said(root)


# Two at once


def test_a_second_process_on_a_run_is_refused_and_told_who_holds_it(root: Path) -> None:
    first = start_training(root, "shared", "train.steps=100000")
    wait_until(lambda: is_under_way(root / "shared"))
    second = start_training(root, "shared", "train.steps=100000")
    assert ended(second) == 2
    assert re.search(rf"{root}/shared is being written by process {first.pid} on \S+; wait for it or stop it", said(root))
    first.kill()
    assert ended(first) == -signal.SIGKILL
    third = start_training(root, "shared", "train.steps=100000")
    wait_until(lambda: (root / "shared/.lock").read_text().startswith(f"process {third.pid} "))
    third.kill()
    assert ended(third) == -signal.SIGKILL
