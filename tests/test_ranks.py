"""Two processes that train together on the CPU (gloo) learn what one process learns from the doubled batch."""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmcycle.errors import UserError
from mmcycle.train.engine import Engine
from tiny_run import differences, ended, leftovers, photographs, rows, start_training, steps_saved, tensors, tiny, trained, wait_until

ALONE = ("train.replay=0", "train.lr=2e-4", "train.steps=6", "run.save_every=3")     # replay buffers are one per rank: they differ


def together(root: Path, name: str, *overrides: str) -> list[int]:
    """Train with two ranks, as torchrun would start them -> their exit codes."""
    return [ended(process) for process in start_both(root, name, *overrides)]


def start_both(root: Path, name: str, *overrides: str) -> list:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return [
        start_training(root, name, *overrides, environment=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"})
        for rank in (0, 1)
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ranks")
    tiny(root)
    assert together(root, "two", *ALONE) == [0, 0], (root / "said").read_text()
    return root


def test_two_ranks_learn_what_one_learns_from_the_doubled_batch(root: Path) -> None:
    one = trained(root, "one", *ALONE, "train.batch_size=2")
    two = root / "two"
    for part in ("networks", "averages"):
        ours, theirs = (tensors(run, 6, part) for run in (one, two))
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            torch.testing.assert_close(tensor, theirs[name], atol=1e-5, rtol=0, msg=name)
    for alone, both in zip(rows(one), rows(two), strict=True):
        assert both["losses"] == pytest.approx(alone["losses"], rel=1e-4) and both["scores"] == pytest.approx(alone["scores"], abs=1e-4)


def test_each_row_and_each_checkpoint_is_written_once(root: Path) -> None:
    two = root / "two"
    assert [row["step"] for row in rows(two)] == [1, 2, 3, 4, 5, 6]
    assert rows(two, "start")[0]["ranks"] == 2 and steps_saved(two) == [3, 6] and leftovers(two) == []
    files = {path.name for path in (two / "checkpoints/step-00000006").iterdir()}
    assert {"rank-0.safetensors", "rank-1.safetensors"} < files
    assert len(list((two / "samples").iterdir())) == 1


def test_ranks_draw_random_numbers_of_their_own(root: Path) -> None:
    assert not torch.equal(*(tensors(root / "two", 6, f"rank-{rank}")["rng.model"] for rank in (0, 1)))


def test_two_ranks_resume_exactly(root: Path) -> None:
    """With replay and augmentation, whose state is each rank's own."""
    overrides = ("train.steps=6", "run.save_every=3", "train.replay=2", "train.diff_augment=[color, translation]")
    assert together(root, "straight", *overrides) == [0, 0]
    shutil.copytree(root / "straight", root / "resumed")
    shutil.rmtree(root / "resumed/checkpoints/step-00000006")
    assert together(root, "resumed", *overrides) == [0, 0]
    assert differences(root / "straight", root / "resumed", 6) == []


def test_another_number_of_ranks_is_refused(root: Path) -> None:
    process = start_training(root, "two", *ALONE)
    assert ended(process) == 2
    assert "two/checkpoints/step-00000006 was written by 2 ranks and 1 were started: start as many" in (root / "said").read_text()


def test_a_refusal_ends_every_rank(root: Path) -> None:
    """The second rank must not wait for half an hour for the one that refused."""
    codes = together(root, "two", *ALONE, "train.lr=0.5")
    assert codes[0] == 2 and codes[1] != 0
    assert "holds a run of another config: train.lr was 0.0002, now 0.5" in (root / "said").read_text()


def test_a_signal_to_one_rank_ends_both_at_the_same_step(root: Path) -> None:
    first, second = start_both(root, "signalled", "train.steps=100000", "train.replay=0", "run.save_every=100000")
    wait_until(lambda: (root / "signalled/log.jsonl").exists() and len(rows(root / "signalled")) > 0)
    os.kill(second.pid, signal.SIGTERM)
    assert (ended(first), ended(second)) == (143, 143)
    (step,) = steps_saved(root / "signalled")
    assert step % 10 == 0 and len(rows(root / "signalled")) == step


def test_bad_recordings_of_both_ranks_are_told(root: Path) -> None:
    photographs(root / "broken")
    for name in ("01.png", "05.png"):
        (root / "broken" / name).write_bytes(b"not a photograph")
    assert together(root, "skipping", f"a.root={root}/broken", "data.on_error=skip", "train.steps=4", "train.replay=0") == [0, 0]
    told = [Path(row["path"]).name for row in rows(root / "skipping", "bad recording")]     # four steps of two: one pass
    assert set(told) == {"01.png", "05.png"}


def test_torchrun_decides_the_number_of_processes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmcycle.train import engine

    for key, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(key, value)
    assert engine._processes(tiny(root, "run.devices=1").run) == (4, 2)


def test_alone_is_the_default_where_there_is_no_gpu(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    engine = Engine(tiny(root, "run.devices=auto").run)
    assert (engine.world, engine.rank, engine.leads) == (1, 0, True) and not engine.any_rank(False) and engine.any_rank(True)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]])
def test_both_ways_of_starting_several_processes_work(root: Path, launcher: list[str]) -> None:
    name = f"launched-{len(launcher)}"
    devices = ["run.devices=2"] if not launcher else []
    words = ["-m", "mmcycle", "train", str(root / "tiny.yaml"), "--out", str(root / name), *ALONE, *devices]
    done = subprocess.run([sys.executable, *launcher, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not re.search("Traceback|Error", done.stderr)
    assert differences(root / "two", root / name, 6) == ([] if launcher else ["state.json", "sums.json"])     # they hold run.devices


def test_more_processes_than_cores_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"run\.devices=6400: .* this machine has \d+ cores"):
        Engine(tiny(root, "run.devices=6400", "run.accelerator=cpu").run)
