"""Checkpoints: whole or noticed; a full disk leaves what was there; ranks must be as many as wrote them."""
import errno
import hashlib
import json
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmcycle.errors import MmcycleError, UserError
from mmcycle.generate.translator import Translator
from mmcycle.train import checkpoint
from mmcycle.train.checkpoint import Checkpoint, check, find_averages, load, load_averages, newest_good, save_best
from mmcycle.train.trainer import train
from tiny_run import differences, leftovers, steps_saved, tiny, trained

FILES = ["averages.safetensors", "networks.safetensors", "optimisers.safetensors", "rank-0.safetensors", "state.json", "sums.json"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkpoints")
    trained(root, "straight", "train.steps=6", "run.save_every=2")
    return root


@pytest.fixture
def run(root: Path, tmp_path: Path) -> Path:
    """A copy of a run of six steps with checkpoints after 2, 4 and 6, to be damaged."""
    shutil.copytree(root / "straight", tmp_path / "run")
    return tmp_path / "run"


def resume(root: Path, run: Path, *overrides: str) -> None:
    train(tiny(root, "train.steps=6", "run.save_every=2", *overrides), run)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def put_a_folder_there(path: Path) -> None:
    path.unlink()
    path.mkdir()


def take_that_of_another_step(path: Path) -> None:
    shutil.copyfile(path.parent.with_name("step-00000004") / path.name, path)


DAMAGES = [flip_a_bit, truncate, empty, Path.unlink, put_a_folder_there, take_that_of_another_step]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", FILES)
def test_whatever_happens_to_a_file_is_noticed_by_name(run: Path, name: str, damage: Callable[[Path], None]) -> None:
    folder = run / "checkpoints/step-00000006"
    damage(folder / name)
    with pytest.raises(UserError, match="damaged|missing|cannot be read") as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    if name != "sums.json":                     # where the list of sums itself is wrong, any file may be the first to differ
        assert str(folder / name) in str(caught.value)


def test_the_newest_good_one_is_used_and_this_is_said(root: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip_a_bit(run / "checkpoints/step-00000006/networks.safetensors")
    truncate(run / "checkpoints/step-00000004/state.json")
    path, damaged = newest_good(run / "checkpoints")
    assert path == run / "checkpoints/step-00000002" and len(damaged) == 2
    resume(root, run)
    said = capsys.readouterr().err
    assert said.count("passed over a checkpoint: ") == 2 and "resumed at step 2" in said
    assert f"{run}/checkpoints/step-00000006/networks.safetensors is damaged or missing" in said
    assert differences(root / "straight", run, 6) == [] and steps_saved(run) == [2, 4, 6]
    check(run / "checkpoints/step-00000004")


def test_what_was_passed_over_does_not_push_out_what_is_good(root: Path, run: Path) -> None:
    for step in (4, 6):
        empty(run / f"checkpoints/step-{step:08}/averages.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmcycle.train.trainer._ended", lambda received, step, engine: step == 3)
        resume(root, run, "run.keep=1")
    assert steps_saved(run) == [3]
    resume(root, run, "run.keep=1")
    assert differences(root / "straight", run, 6) == ["state.json", "sums.json"]        # they hold run.keep


def test_a_run_without_a_good_checkpoint_is_refused_by_name(root: Path, run: Path) -> None:
    for step in (2, 4, 6):
        flip_a_bit(run / f"checkpoints/step-{step:08}/optimisers.safetensors")
    with pytest.raises(UserError, match=f"{run}/checkpoints holds no checkpoint that is whole; begin again with --fresh"):
        resume(root, run)
    assert steps_saved(run) == [2, 4, 6]                # nothing is thrown away unasked


def rewrite(folder: Path, **changes: object) -> None:
    """Write sums.json anew, with a change."""
    path = folder / "sums.json"
    sums = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in sums.items() if value is not None}))


HOSTILE = {
    "[]": "holds list, expected an object",
    "{}": "needs a format and the files",
    '{"format": 1}': "needs a format and the files",
    '{"format": 1, "files": []}': "needs a format and the files",
    '{"format": "1", "files": {}}': "needs a format and the files",
    '{"format": true, "files": {}}': "does not list state.json|needs a format",
    '{"format": 2, "files": {}}': "was written in format 2; this version reads up to 1: upgrade mmcycle",
    '{"format": 1, "files": {}}': "does not list state.json, which every checkpoint has",
    '{"format": 1': "cannot be read",
    "[" * 100_000: "cannot be read",
    "\ufffe": "cannot be read",
}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_list_of_sums_that_is_none_is_refused(run: Path, text: str) -> None:
    (run / "checkpoints/step-00000006/sums.json").write_text(text)
    with pytest.raises(UserError, match=HOSTILE[text]):
        check(run / "checkpoints/step-00000006")


@pytest.mark.parametrize("name", [name for name in FILES if name != "sums.json"])
def test_a_file_that_is_not_listed_is_not_trusted(run: Path, name: str) -> None:
    folder = run / "checkpoints/step-00000006"
    files = json.loads((folder / "sums.json").read_text())["files"]
    del files[name]
    rewrite(folder, files=files)
    with pytest.raises(UserError, match=f"does not list {name}|does not hold the states of 1 ranks"):
        check(folder)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "..", "", "sums.json", "a/b.safetensors", "rank-0.pt", "x.safetensors\n"])
def test_a_listed_name_cannot_leave_the_folder(run: Path, name: str) -> None:
    folder = run / "checkpoints/step-00000006"
    (run / "checkpoints/outside.safetensors").write_bytes(b"x")
    files = json.loads((folder / "sums.json").read_text())["files"]
    rewrite(folder, files=files | {name: hashlib.sha256(b"x").hexdigest()})
    with pytest.raises(UserError, match="which is no file of a checkpoint: it is damaged"):
        check(folder)


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"step": 4}, "holds the state after step 4: it is not the folder that was written"),
    ({"step": "6"}, "holds the state after step '6'"),
    ({"step": None}, "holds the state after step None"),
    ({"world": 2}, "does not hold the states of 2 ranks"),
    ({"world": 0}, "does not hold the states of 0 ranks"),
    ({"world": 10**12}, "does not hold the states of 1000000000000 ranks"),
    ({"world": "1"}, "does not hold the states of '1' ranks"),
])
def test_a_state_that_does_not_fit_is_refused_though_its_sum_is_right(run: Path, changes: dict[str, object], sentence: str) -> None:
    folder = run / "checkpoints/step-00000006"
    path = folder / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    files = json.loads((folder / "sums.json").read_text())["files"]
    rewrite(folder, files=files | {"state.json": hashlib.sha256(path.read_bytes()).hexdigest()})
    with pytest.raises(UserError, match=sentence):
        check(folder)


def test_a_file_of_tensors_that_is_none_is_refused_though_its_sum_is_right(run: Path) -> None:
    folder = run / "checkpoints/step-00000006"
    (folder / "averages.safetensors").write_bytes(b"\xff" * 100)
    files = json.loads((folder / "sums.json").read_text())["files"]
    rewrite(folder, files=files | {"averages.safetensors": hashlib.sha256(b"\xff" * 100).hexdigest()})
    with pytest.raises(MmcycleError, match="averages.safetensors cannot be read"):
        load_averages(folder)


def test_a_checkpoint_of_networks_of_another_shape_is_refused(root: Path, run: Path) -> None:
    other = trained(root, "wider", "train.steps=6", "run.save_every=2", "model.width=8")
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(other / "checkpoints", run / "checkpoints")
    with pytest.raises(UserError, match="step-00000006 does not fit the networks of this config"):
        resume(root, run)


def test_a_run_goes_on_with_the_random_states_of_another_kind_of_device(root: Path, run: Path) -> None:
    folder = run / "checkpoints/step-00000006"
    rank = load_file(folder / "rank-0.safetensors")
    state = torch.zeros(16, dtype=torch.uint8)              # as CUDA's are
    own = {name: state.clone() for name in ("rng.model", "rng.cuda", "replay_a.rng", "replay_b.rng")}
    save_file(rank | own, folder / "rank-0.safetensors")
    files = json.loads((folder / "sums.json").read_text())["files"]
    digest = hashlib.sha256((folder / "rank-0.safetensors").read_bytes()).hexdigest()
    rewrite(folder, files=files | {"rank-0.safetensors": digest})
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("steps: 6", "steps: 8"))
    train(tiny(root, "train.steps=8", "run.save_every=2"), run)
    assert steps_saved(run)[-1] == 8


def test_a_run_cannot_bring_code_of_its_own(root: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "evil.py").write_text("raise SystemExit('I was run')")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("modality: image", "modality: run.evil:Evil"))
    monkeypatch.chdir(run.parent)
    monkeypatch.setattr(sys, "path", [*sys.path, ""])       # as the command line does
    with pytest.raises(UserError, match="'run.evil:Evil' lies in the run itself, and a run must not bring code"):
        resume(root, run)


def test_folders_swapped_with_each_other_are_noticed(run: Path) -> None:
    four, six = (run / f"checkpoints/step-{step:08}" for step in (4, 6))
    four.rename(run / "between")
    six.rename(four)
    (run / "between").rename(six)
    path, damaged = newest_good(run / "checkpoints")
    assert path == run / "checkpoints/step-00000002" and len(damaged) == 2


def test_another_number_of_ranks_is_refused_for_every_rank(run: Path) -> None:
    for rank in (0, 1):
        with pytest.raises(UserError, match="step-00000006 was written by 1 ranks and 2 were started: start as many"):
            load(run / "checkpoints/step-00000006", rank, 2)


def test_each_file_is_hashed_once_and_a_translator_hashes_only_what_it_reads(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    honest = checkpoint.sha256
    monkeypatch.setattr(checkpoint, "sha256", lambda path: hashed.append(path.name) or honest(path))
    check(run / "checkpoints/step-00000006")
    assert sorted(hashed) == [name for name in FILES if name != "sums.json"]
    hashed.clear()
    Translator.load(run, device="cpu")
    assert sorted(hashed) == ["averages.safetensors", "state.json"]


def test_a_translator_passes_over_damaged_averages_and_needs_nothing_else(run: Path) -> None:
    flip_a_bit(run / "checkpoints/step-00000006/averages.safetensors")
    empty(run / "checkpoints/step-00000004/optimisers.safetensors")
    path, averages, state, damaged = find_averages(run / "checkpoints")
    assert path == run / "checkpoints/step-00000004" and state["step"] == 4 and len(damaged) == 1
    assert "step-00000006/averages.safetensors is damaged or missing" in damaged[0]
    assert averages.keys() == load_file(path / "averages.safetensors").keys()
    with pytest.raises(UserError, match="optimisers.safetensors is damaged or missing"):
        check(path)
    (path / "state.json").write_text("{}")
    assert find_averages(run / "checkpoints")[0] == run / "checkpoints/step-00000002"


def test_the_best_averages_are_those_of_the_lowest_score(run: Path) -> None:
    averages, state, _ = find_averages(run / "checkpoints")[1:]
    for step, score in ((2, 0.5), (4, 0.25)):
        save_best(run / "kept" / str(step), step, averages, state | {"score": score})
        next((run / "kept" / str(step)).iterdir()).rename(run / "checkpoints" / checkpoint.best_name_of(step))
    assert find_averages(run / "checkpoints", best=True)[0] == run / "checkpoints/best-00000004"
    empty(run / "checkpoints/best-00000004/averages.safetensors")
    path, _, _, damaged = find_averages(run / "checkpoints", best=True)
    assert path == run / "checkpoints/best-00000002" and len(damaged) == 1
    assert find_averages(run / "nowhere", best=True) == (None, {}, {}, [])


def test_a_stray_file_among_the_checkpoints_is_passed_over(run: Path) -> None:
    (run / "checkpoints/step-99999999").touch()
    (run / "checkpoints/notes.txt").touch()
    path, damaged = newest_good(run / "checkpoints")
    assert path == run / "checkpoints/step-00000006" and len(damaged) == 1


def test_no_checkpoint_is_no_damage(tmp_path: Path) -> None:
    assert newest_good(tmp_path / "checkpoints") == (None, [])


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    parts = {name: {f"{name}.x": torch.randn(3, generator=torch.Generator().manual_seed(1))} for name in ("networks", "averages", "optimisers", "rank")}
    saved = Checkpoint(step=5, state={"config": {"name": "ä"}}, **parts)
    checkpoint.save(tmp_path, saved, rank=0, world=1, keep=1, wait=lambda: None)
    loaded = load(tmp_path / "step-00000005")
    assert loaded.step == 5 and loaded.state == {"config": {"name": "ä"}, "step": 5, "world": 1}
    assert all(torch.equal(getattr(loaded, name)[f"{name}.x"], part[f"{name}.x"]) for name, part in parts.items())
    assert sorted(path.name for path in (tmp_path / "step-00000005").iterdir()) == FILES and leftovers(tmp_path) == []


# Disks


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond 20000 bytes, as on a disk that is nearly full; Python ignores SIGXFSZ."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def until_step_two(run: Path) -> None:
    for step in (4, 6):
        shutil.rmtree(run / f"checkpoints/step-{step:08}")


def test_a_full_disk_is_told_by_path_and_the_older_checkpoint_stays(root: Path, run: Path, request: pytest.FixtureRequest) -> None:
    until_step_two(run)
    request.getfixturevalue("full_disk")
    with pytest.raises(MmcycleError, match=f"{run}/checkpoints/.*: could not be written: .*File too large.*Nothing was overwritten"):
        resume(root, run, "run.sample_every=1000")
    check(run / "checkpoints/step-00000002")
    assert steps_saved(run) == [2]


def test_a_run_goes_on_once_there_is_room(root: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    until_step_two(run)

    def no_room(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", no_room)
        with pytest.raises(MmcycleError, match=f"{run}/checkpoints/.*: could not be written: No space left on device. Nothing was overwritten"):
            resume(root, run)
    assert leftovers(run) == []
    resume(root, run)
    assert differences(root / "straight", run, 6) == []


def test_a_log_that_cannot_grow_is_told_by_path(root: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    until_step_two(run)
    monkeypatch.setattr("mmcycle.train.log.os.fsync", no_room)
    with pytest.raises(MmcycleError, match=f"{run}/.*: could not be written: No space left on device"):
        resume(root, run)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(root: Path, run: Path) -> None:
    run.chmod(0o500)
    with pytest.raises(MmcycleError, match=f"{run}: cannot be written to: Permission denied"):
        resume(root, run)
