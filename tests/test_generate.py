"""A data set is written again: same tree, same labels, the same bytes whatever happens on the way."""
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from mmcycle.errors import MmcycleError, RecordingError, UserError
from mmcycle.generate import engines, ledger, shard
from mmcycle.generate.dataset import generate
from mmcycle.generate.manifest import item_seed, read_rows, verify
from mmcycle.generate.shard import Share
from mmcycle.generate.translator import Translation
from mmcycle.interruption import Interrupted


class Raw:
    """A sensor whose recordings are plain bytes; a file that begins with "broken" is not one."""

    suffixes = (".raw",)

    def load(self, path: Path) -> bytes:
        content = path.read_bytes()
        if content.startswith(b"broken"):
            raise RecordingError(f"{path}: is broken")
        if content.startswith(b"odd"):
            raise ValueError("the author never saw this")
        return content

    def save(self, raw: bytes, path: Path) -> None:
        with path.open("wb") as file:
            for start in range(0, len(raw), 7):         # in pieces, so that a kill can fall between two of them
                file.write(raw[start : start + 7])
        if raw.startswith(b"unwritable"):
            raise RecordingError(f"{path}: is too odd to be written")

    def relabel(self, label: Path, target: Path, raw: bytes) -> bool:
        return False


class Sweep(Raw):
    """Another sensor, with other files."""

    suffixes = (".swp",)


@dataclass
class Inverter:
    """255 - byte; a copy with less strength is told apart by its last bytes."""

    run: str
    direction: str
    target: Raw
    source: Raw = Raw()
    pause: float = 0.0
    stochastic: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256((Path(self.run) / "weights").read_bytes()).hexdigest()

    def perform(self, raw: bytes, strength: float = 1.0, seed: int = 0) -> Translation:
        if not self.stochastic:
            return Translation(self._inverted(raw, strength, 0), {})
        return Translation(self._inverted(raw, strength, seed), {"first_byte": float(raw[0])})

    def _inverted(self, raw: bytes, strength: float, seed: int) -> bytes:
        time.sleep(self.pause)
        if raw.startswith(b"die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if raw.startswith(b"unwritable"):
            return raw
        return bytes(255 - byte for byte in raw) + f" {strength} {seed}".encode()


def load_unhurried(run: Path, direction: str, share: Share) -> Inverter:
    """Slow enough for the writers to keep pace."""
    return Inverter(str(run), direction, Raw(), pause=0.25)


def load(run: Path, direction: str, share: Share) -> Inverter:
    return Inverter(str(run), direction, Raw())


def load_slow(run: Path, direction: str, share: Share) -> Inverter:
    return Inverter(str(run), direction, Raw(), pause=0.01)


def load_crossing(run: Path, direction: str, share: Share) -> Inverter:
    return Inverter(str(run), direction, Sweep())


def load_stochastic(run: Path, direction: str, share: Share) -> Inverter:
    return Inverter(str(run), direction, Raw(), stochastic=True)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "weights").write_bytes(b"weights")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "source", 6)


def make_source(folder: Path, count: int, labels: bool = True) -> Path:
    (folder / "train").mkdir(parents=True)
    for number in range(count):
        (folder / f"train/{number:03}.raw").write_bytes(b"recording %d " % number * 9)
        if labels:
            (folder / f"train/{number:03}.txt").write_text(f"{number} 0.5 0.5 0.1 0.1\n")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    """Every file, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_tree_the_names_and_the_labels_are_kept(source: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = generate(source, out, {"raw": f"{run}:ab"}, seed=5, load=load)
    assert job[:4] == (6, 0, 0, 6)
    assert json.loads((out / ".mmcycle/job.json").read_text())["runs"] == {"raw": str(run)}
    assert set(tree(out)) == {*tree(source), "manifest.jsonl", ".mmcycle/job.json"}
    assert (out / "train/003.txt").read_bytes() == (source / "train/003.txt").read_bytes()
    assert (out / "train/003.raw").read_bytes().startswith(bytes(255 - byte for byte in b"recording 3 "))
    assert verify(out).ok


def test_a_manifest_line_says_where_everything_came_from(source: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    generate(source, out, {"raw": f"{run}:ba"}, seed=5, load=load)
    row = json.loads((out / "manifest.jsonl").read_text().splitlines()[2])
    digest = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in
              {"in": source / "train/002.raw", "out": out / "train/002.raw", "label": source / "train/002.txt"}.items()}
    seed = int.from_bytes(hashlib.sha256(b"5/train/002/0").digest()[:8], "big") // 2
    assert row["streams"] == {"raw": {"source": "train/002.raw", "source_sha256": digest["in"], "output": "train/002.raw",
                                      "sha256": digest["out"], "translated": True}}
    assert row["labels"] == [{"source": "train/002.txt", "source_sha256": digest["label"], "output": "train/002.txt",
                              "sha256": digest["label"], "how": "copied"}]
    assert (row["key"], row["copy"], row["seed"], row["params"]) == ("train/002", 0, seed, {"strength": 1.0})
    assert row["model"]["raw"] == {"sha256": hashlib.sha256(b"weights").hexdigest(), "direction": "ba", "run": str(run)}
    assert item_seed(5, "train/002", 0) == seed
    assert row["versions"]["mmcycle"]


def test_one_worker_and_two_write_the_same_bytes(source: Path, run: Path, tmp_path: Path) -> None:
    heard = []
    generate(source, tmp_path / "one", {"raw": str(run)}, load=load)
    job = generate(source, tmp_path / "two", {"raw": str(run)}, load=load, devices=2, progress=heard.append)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert job[:4] == (6, 0, 0, 6) and [one.done for one in heard] == [1, 2, 3, 4, 5, 6]


def test_killed_at_any_moment_and_run_again_gives_the_same_tree(run: Path, tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", 24)
    generate(source, tmp_path / "whole", {"raw": str(run)}, copies=2, strength=(0.5, 1), load=load_slow)
    whole = tree(tmp_path / "whole")
    out = tmp_path / "killed"
    kills = 0
    for moment in (0.0, 0.06, 0.13, 0.21):
        child = start(source, out, run)
        wait_for_work(child, out)
        time.sleep(moment)
        kills += child.poll() is None
        child.kill()
        child.communicate()
        for name, content in tree(out).items():     # what a reader sees before the resumption is whole
            assert name.startswith(".mmcycle") or ".tmp-" in name or content == whole[name]
    assert kills >= 2
    generate(source, out, {"raw": str(run)}, copies=2, strength=(0.5, 1), load=load_slow)
    assert tree(out) == whole
    assert verify(out).ok


def start(source: Path, out: Path, run: Path, devices: int = 1) -> subprocess.Popen:
    code = (f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            "import test_generate as t\n"
            "if __name__ == '__main__':\n"
            f"    t.generate({str(source)!r}, {str(out)!r}, {{'raw': {str(run)!r}}}, copies=2, strength=(0.5, 1), "
            f"load=t.load_slow, devices={devices})\n")
    script = out.parent / "script.py"
    script.write_text(code)
    return subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE, cwd=Path(__file__).parents[1],
                            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])})


def wait_for_work(child: subprocess.Popen, out: Path) -> None:
    """Until the child holds the lock."""
    deadline = time.monotonic() + 60
    while not (out / ".mmcycle/.lock").exists() or not (out / ".mmcycle/.lock").read_text().startswith(f"process {child.pid} "):
        assert time.monotonic() < deadline
        if child.poll() is not None:
            return
        time.sleep(0.005)


def test_a_signal_finishes_the_item_and_can_be_resumed(run: Path, tmp_path: Path) -> None:
    source, out = make_source(tmp_path / "source", 60), tmp_path / "out"
    child = start(source, out, run)
    wait_for_work(child, out)
    with pytest.raises(UserError, match=f"is being written by process {child.pid} on .*; wait for it"):
        generate(source, out, {"raw": str(run)}, copies=2, strength=(0.5, 1), load=load_slow)
    child.send_signal(signal.SIGTERM)
    assert "stopped by SIGTERM after the item in hand" in child.communicate()[1].decode()
    assert not (out / ".mmcycle/.lock").exists() and not ledger.leftovers(out)
    job = generate(source, out, {"raw": str(run)}, copies=2, strength=(0.5, 1), load=load)
    assert 0 < job.skipped < job.total == job.skipped + job.done


def test_a_signal_to_many_workers_finishes_their_items(run: Path, tmp_path: Path) -> None:
    source, out = make_source(tmp_path / "source", 200), tmp_path / "out"

    def interrupt(job: object) -> None:
        if not sent:
            sent.append(os.kill(os.getpid(), signal.SIGINT))

    sent: list[None] = []
    with pytest.raises(Interrupted, match="stopped by SIGINT") as stop:
        generate(source, out, {"raw": str(run)}, devices=2, load=load_slow, progress=interrupt)
    assert stop.value.code == 130
    job = generate(source, out, {"raw": str(run)}, load=load)
    assert 0 < job.skipped < 200 and job.done == 200 - job.skipped
    assert verify(out).ok


def test_a_killed_worker_is_told_and_the_others_keep_their_work(run: Path, tmp_path: Path) -> None:
    source, out = make_source(tmp_path / "source", 9), tmp_path / "out"
    (source / "train/008.raw").write_bytes(b"die")           # the last of its worker: the first are written long before
    with pytest.raises(MmcycleError, match="worker mmcycle-0 died .exit -9.; what is done is kept, run the same line again"):
        generate(source, out, {"raw": str(run)}, devices=2, load=load_unhurried)
    (source / "train/008.raw").write_bytes(b"lives")
    job = generate(source, out, {"raw": str(run)}, devices=2, load=load_unhurried)
    assert job.skipped >= 1 and job.done + job.skipped == 9


@dataclass
class Worker:
    """What an engine sees of a process: it has ended by the time its pipe is closed."""

    name: str
    exitcode: int

    def join(self) -> None:
        pass


def test_of_two_workers_that_died_the_first_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    (first, killed), (second, stopped) = Pipe(), Pipe()
    workers = {first: Worker("mmcycle-0", -signal.SIGKILL), second: Worker("mmcycle-1", -signal.SIGTERM)}

    def hear_stop(pipe: Connection, what: str) -> None:         # who lives is told to stop, and is ended while it does
        assert (pipe, what) == (second, "stop")
        stopped.close()

    monkeypatch.setattr(engines, "_say", hear_stop)
    killed.close()
    failure = engines._listen(workers, print, [])
    assert stopped.closed and str(failure).startswith("worker mmcycle-0 died (exit -9); what is done is kept")


def test_a_signal_to_every_process_while_the_workers_start_kills_none(
    source: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `timeout`, a terminal or a cluster's scheduler send it: the workers need seconds until they can ignore it."""
    start, heard = SpawnProcess.start, []

    def strike(process: SpawnProcess) -> None:
        start(process)
        heard.append(process)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(process.pid, number)
        if len(heard) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(SpawnProcess, "start", strike)
    with pytest.raises(Interrupted, match="stopped by SIGTERM after the item in hand") as stop:
        generate(source, tmp_path / "out", {"raw": str(run)}, devices=2, load=load)
    assert stop.value.code == 143 and [process.exitcode for process in heard] == [0, 0]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    assert generate(source, tmp_path / "out", {"raw": str(run)}, load=load)[3] == 6


def test_a_finished_job_does_no_work_and_a_lost_file_is_written_again(source: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    generate(source, out, {"raw": str(run)}, load=load)
    before = tree(out)
    assert generate(source, out, {"raw": str(run)}, load=load)[:4] == (0, 6, 0, 6)
    (out / "train/002.raw").unlink()
    assert generate(source, out, {"raw": str(run)}, load=load)[:4] == (1, 5, 0, 6)
    assert tree(out) == before


def test_copies_have_their_own_names_labels_strengths_and_seeds(source: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = generate(source, out, {"raw": str(run)}, copies=3, strength=(0.25, 0.75), load=load)
    rows = list(read_rows(out))
    assert job.total == len(rows) == 18
    first = [row for row in rows if row.key == "train/000"]
    assert [row.streams["raw"].output for row in first] == ["train/000.raw", "train/000_copy1.raw", "train/000_copy2.raw"]
    assert [row.labels[0].output for row in first] == ["train/000.txt", "train/000_copy1.txt", "train/000_copy2.txt"]
    strengths = [row.params["strength"] for row in first]
    assert strengths[0] == 0.75 and all(0.25 <= one <= 0.75 for one in strengths) and len(set(strengths)) == 3
    assert len({row.seed for row in rows}) == 18
    assert (out / "train/000_copy2.txt").read_bytes() == (source / "train/000.txt").read_bytes()
    assert verify(out).ok


def test_a_broken_recording_stops_the_job_by_name_and_what_is_done_stays(source: Path, run: Path, tmp_path: Path) -> None:
    (source / "train/003.raw").write_bytes(b"broken")
    with pytest.raises(RecordingError, match="train/003.raw: is broken"):
        generate(source, tmp_path / "out", {"raw": str(run)}, load=load)
    assert (tmp_path / "out/train/002.raw").exists() and not (tmp_path / "out/train/003.raw").exists()
    (source / "train/003.raw").write_bytes(b"mended")
    assert generate(source, tmp_path / "out", {"raw": str(run)}, load=load)[:4] == (3, 3, 0, 6)


def test_a_broken_recording_in_another_process_keeps_its_message(source: Path, run: Path, tmp_path: Path) -> None:
    (source / "train/003.raw").write_bytes(b"odd")
    with pytest.raises(RecordingError, match="train/003.raw: could not be read: ValueError: the author never saw this"):
        generate(source, tmp_path / "out", {"raw": str(run)}, load=load, devices=2)


def test_quarantine_goes_on_and_the_counts_add_up(source: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name, content in {"001": b"broken", "003": b"odd", "004": b"unwritable"}.items():
        (source / f"train/{name}.raw").write_bytes(content)
    job = generate(source, out, {"raw": str(run)}, on_error="quarantine", load=load)
    assert job[:4] == (3, 0, 3, 6)
    rows = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    assert rows == [
        {"key": "train/001", "copy": 0, "stream": "raw", "path": "train/001.raw", "reason": "train/001.raw: is broken"},
        {"key": "train/003", "copy": 0, "stream": "raw", "path": "train/003.raw",
         "reason": "train/003.raw: could not be read: ValueError: the author never saw this"},
        {"key": "train/004", "copy": 0, "stream": "raw", "path": "train/004.raw",
         "reason": "train/004.raw: is too odd to be written"},
    ]
    assert not list(out.glob("train/001*")) and not list(out.glob("train/004*"))
    assert verify(out).ok and verify(out).counts["quarantined"] == 3
    (source / "train/001.raw").write_bytes(b"mended")      # what was quarantined is tried again
    assert generate(source, out, {"raw": str(run)}, on_error="quarantine", load=load)[:4] == (1, 3, 2, 6)
    assert verify(out).ok


def test_a_record_whose_label_cannot_be_copied_leaves_nothing_behind(
    source: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "train/003.xml").write_text("the second label")
    copy = shard._copy

    def refuse(original: Path, target: Path) -> None:
        if original.suffix == ".xml":
            raise RecordingError(f"{original}: cannot be read: it went away")
        copy(original, target)

    monkeypatch.setattr(shard, "_copy", refuse)
    out = tmp_path / "out"
    assert generate(source, out, {"raw": str(run)}, on_error="quarantine", load=load)[:4] == (5, 0, 1, 6)
    assert not list(out.glob("train/003*")) and verify(out).ok


def test_no_more_workers_are_started_than_there_is_work(source: Path, run: Path, tmp_path: Path, monkeypatch) -> None:
    shares: list[int] = []
    monkeypatch.setattr(engines, "_run_processes", lambda task, shards, tell, caught: shares.append(len(shards)))
    with pytest.raises(MmcycleError, match="6 of 6 are not there"):
        generate(source, tmp_path / "out", {"raw": str(run)}, devices=64, load=load)
    assert shares == [6]


def test_a_full_disk_is_told_with_its_path_and_can_be_resumed(run: Path, tmp_path: Path) -> None:
    source, out = make_source(tmp_path / "source", 4), tmp_path / "out"
    (source / "train/002.raw").write_bytes(bytes(200_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(MmcycleError, match="train/002.raw: could not be written: File too large") as error:
            generate(source, out, {"raw": str(run)}, on_error="quarantine", load=load)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not isinstance(error.value, UserError) and not ledger.leftovers(out)
    job = generate(source, out, {"raw": str(run)}, on_error="quarantine", load=load)
    assert job.done >= 1 and job.skipped >= 2 and job.done + job.skipped == 4
    assert verify(out).ok


def test_streams_without_a_run_are_copied_byte_for_byte(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "kitti"
    for folder, suffix in (("image_2", ".png"), ("label_2", ".txt"), ("velodyne", ".bin"), ("calib", ".txt")):
        (source / "training" / folder).mkdir(parents=True)
        for number in range(3):
            (source / f"training/{folder}/{number:06}{suffix}").write_bytes(f"{folder} {number}".encode())
    out = tmp_path / "out"
    generate(source, out, {"camera": str(run)}, layout="kitti", load=load_png)
    assert (out / "training/velodyne/000001.bin").read_bytes() == b"velodyne 1"
    assert (out / "training/image_2/000001.png").read_bytes().startswith(bytes(255 - byte for byte in b"image_2 1"))
    rows = list(read_rows(out))
    assert not rows[1].streams["lidar"].translated and rows[1].streams["camera"].translated
    assert len(rows[1].labels) == 2 and verify(out).ok


class Png(Raw):
    suffixes = (".png",)


def load_png(run: Path, direction: str, share: Share) -> Inverter:
    return Inverter(str(run), direction, Png(), source=Png())


def test_tables_are_copied_for_one_copy_and_rewritten_for_more(run: Path, tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", 3, labels=False)
    table = "file_name,class\n" + "".join(f"train/{number:03}.raw,c{number}\n" for number in range(3))
    (source / "metadata.csv").write_text(table)
    generate(source, tmp_path / "one", {"raw": str(run)}, load=load)
    assert (tmp_path / "one/metadata.csv").read_text() == table
    generate(source, tmp_path / "two", {"raw": str(run)}, copies=2, strength=(0, 1), load=load)
    lines = (tmp_path / "two/metadata.csv").read_text().split()
    assert sorted(lines[1:]) == sorted(f"train/{number:03}{copy}.raw,c{number}" for number in range(3) for copy in ("", "_copy1"))
    assert [label.how for label in next(read_rows(tmp_path / "two")).labels] == ["remapped"]
    assert verify(tmp_path / "one").ok and verify(tmp_path / "two").ok


def test_a_table_does_not_name_what_is_quarantined(run: Path, tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", 3, labels=False)
    table = "file_name,class\ntrain/000.raw,a\ntrain/001.raw,b\ntrain/002.raw,c\n"
    (source / "metadata.csv").write_text(table)
    (source / "train/001.raw").write_bytes(b"broken")
    generate(source, tmp_path / "out", {"raw": str(run)}, load=load, on_error="quarantine")
    assert (tmp_path / "out/metadata.csv").read_text() == "file_name,class\ntrain/000.raw,a\ntrain/002.raw,c\n"
    assert verify(tmp_path / "out").ok
    (source / "train/001.raw").write_bytes(b"mended")
    generate(source, tmp_path / "out", {"raw": str(run)}, load=load, on_error="quarantine")
    assert (tmp_path / "out/metadata.csv").read_text() == table
    assert verify(tmp_path / "out").ok


def test_a_table_that_cannot_be_rewritten_is_refused_before_the_work(run: Path, tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", 2)
    (source / "notes.csv").write_text("file_name,class\ntrain/000.raw\n")
    with pytest.raises(UserError, match="notes.csv: row 2 has 1 cells, the header has 2"):
        generate(source, tmp_path / "out", {"raw": str(run)}, load=load, layout="folder", copies=2, strength=(0, 1))
    assert not (tmp_path / "out").exists()


def test_a_source_with_its_own_manifest_keeps_it_under_another_name(run: Path, tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", 2, labels=False)
    told = "".join(json.dumps({"file": f"train/{number:03}.raw", "class": "cat"}) + "\n" for number in range(2))
    (source / "manifest.jsonl").write_text(told)
    job = generate(source, tmp_path / "out", {"raw": str(run)}, load=load)
    assert "manifest.jsonl -> metadata.jsonl" in job.outline
    assert (tmp_path / "out/metadata.jsonl").read_text() == told
    assert [row.tags["class"] for row in read_rows(tmp_path / "out")] == ["cat", "cat"]
    assert verify(tmp_path / "out").ok
    (source / "metadata.jsonl").write_text(told)
    with pytest.raises(UserError, match="metadata.jsonl: both"):
        generate(source, tmp_path / "other", {"raw": str(run)}, load=load)


def test_what_generate_wrote_can_be_a_source_in_turn(source: Path, run: Path, tmp_path: Path) -> None:
    (source / "train/001.raw").write_bytes(b"broken")
    generate(source, tmp_path / "first", {"raw": str(run)}, load=load, on_error="quarantine")
    job = generate(tmp_path / "first", tmp_path / "second", {"raw": str(run)}, load=load)
    assert job.total == 5 and not (tmp_path / "second/quarantine.jsonl").exists()
    assert verify(tmp_path / "second").ok


def test_labels_do_not_cross_from_one_sensor_to_another(source: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train/000.txt: labels made for Raw do not hold for Sweep"):
        generate(source, tmp_path / "out", {"raw": str(run)}, load=load_crossing)
    generate(source, tmp_path / "out", {"raw": str(run)}, load=load_crossing, labels="class")
    assert sorted(path.name for path in (tmp_path / "out/train").iterdir()) == [f"00{number}.swp" for number in range(6)]
    assert verify(tmp_path / "out").ok


def test_a_dry_run_tells_and_writes_nothing(source: Path, run: Path, tmp_path: Path) -> None:
    job = generate(source, tmp_path / "out", {"raw": str(run)}, load=load, dry_run=True)
    assert job.total == 6 and not (tmp_path / "out").exists()
    assert "6 records" in job.outline and "raw: Raw -> Raw" in job.outline and "train/000.raw -> train/000.raw" in job.outline


def test_a_folder_of_somebody_is_refused(source: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/thesis.doc").write_text("x")
    with pytest.raises(UserError, match="theirs: is not empty and was not begun by generate"):
        generate(source, tmp_path / "theirs", {"raw": str(run)}, load=load)
    with pytest.raises(UserError, match="thesis.doc: is a file; name a new folder"):
        generate(source, tmp_path / "theirs/thesis.doc", {"raw": str(run)}, load=load)
    assert tree(tmp_path / "theirs") == {"thesis.doc": b"x"}


@pytest.mark.parametrize(("out", "message"), [
    ("source", "source: is the source itself"),
    ("source/out", "lies inside the source"),
    (".", "the source lies inside"),
])
def test_source_and_output_must_be_apart(source: Path, run: Path, tmp_path: Path, out: str, message: str) -> None:
    before = tree(source)
    with pytest.raises(UserError, match=message):
        generate(source, tmp_path / out, {"raw": str(run)}, load=load)
    assert tree(source) == before


@pytest.mark.parametrize(("change", "message"), [
    ({"seed": 1}, "begun by a different job: seed was 0 and is now 1"),
    ({"copies": 2, "strength": (0.0, 1.0)}, r"copies was 1 and is now 2; strength was \[1.0, 1.0\] and is now \[0.0, 1.0\]"),
    ({"labels": "class"}, 'labels was "keep" and is now "class"'),
])
def test_another_job_does_not_continue_this_one(
    source: Path, run: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    generate(source, tmp_path / "out", {"raw": str(run)}, load=load)
    with pytest.raises(UserError, match=message):
        generate(source, tmp_path / "out", {"raw": str(run)}, load=load, **change)


def test_other_weights_or_other_recordings_do_not_continue_a_job(source: Path, run: Path, tmp_path: Path) -> None:
    generate(source, tmp_path / "out", {"raw": str(run)}, load=load)
    (run / "weights").write_bytes(b"others")
    with pytest.raises(UserError, match="with was .*sha256.* and is now"):
        generate(source, tmp_path / "out", {"raw": str(run)}, load=load)
    (run / "weights").write_bytes(b"weights")
    (source / "train/777.raw").write_bytes(b"one more")
    with pytest.raises(UserError, match="records was 6 and is now 7"):
        generate(source, tmp_path / "out", {"raw": str(run)}, load=load)


@pytest.mark.parametrize(("change", "message"), [
    ({"with_": {}}, "no stream is to be translated"),
    ({"with_": {"raw": "nowhere:ab"}}, "there is no run at nowhere; write STREAM=RUN"),
    ({"copies": 0}, "copies is 0"),
    ({"copies": 3}, "3 copies with the one strength 1.0 would be identical"),
    ({"strength": (0.9, 0.1)}, "the low end first"),
    ({"strength": (0.0, float("nan"))}, "the low end first"),
    ({"strength": (0.5, 1.5)}, r"strength is \(0.5, 1.5\); it must be a range within 0 to 1"),
    ({"devices": 0}, "devices is 0"),
    ({"on_error": "ignore"}, "on_error is 'ignore'; it must be one of 'stop', 'quarantine'"),
    ({"engine": "cloud"}, "engine is 'cloud'"),
    ({"labels": "all"}, "labels is 'all'"),
    ({"source": Path("nowhere")}, "nowhere: does not exist"),
])
def test_a_job_that_cannot_begin_says_why(source: Path, run: Path, tmp_path: Path, change: dict, message: str) -> None:
    arguments = {"source": source, "out": tmp_path / "out", "with_": {"raw": str(run)}, "load": load} | change
    with pytest.raises(UserError, match=message):
        generate(**arguments)
    assert not (tmp_path / "out").exists()


def test_an_unknown_stream_is_answered_with_the_known_ones(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "kitti"
    for folder in ("image_2", "label_2", "velodyne"):
        (source / "training" / folder).mkdir(parents=True)
    for name in ("image_2/000000.png", "label_2/000000.txt", "velodyne/000000.bin"):
        (source / "training" / name).write_bytes(b"x")
    with pytest.raises(UserError, match="Did you mean 'camera'"):
        generate(source, tmp_path / "out", {"camra": str(run)}, layout="kitti", load=load_png)


def test_a_stochastic_translator_may_make_copies_of_one_strength(source: Path, run: Path, tmp_path: Path) -> None:
    assert generate(source, tmp_path / "out", {"raw": str(run)}, copies=2, load=load_stochastic).total == 12


def test_two_recordings_never_share_a_name(source: Path, run: Path, tmp_path: Path) -> None:
    (source / "train/000_copy1.raw").write_bytes(b"I was here first")
    with pytest.raises(UserError, match="000_copy1"):
        generate(source, tmp_path / "out", {"raw": str(run)}, copies=2, strength=(0, 1), load=load)


def test_a_link_planted_in_the_output_is_not_followed(source: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (source / "train/003.raw").write_bytes(b"broken")
    with pytest.raises(RecordingError):
        generate(source, out, {"raw": str(run)}, load=load)
    (source / "train/003.raw").write_bytes(b"mended")
    (tmp_path / "victim").mkdir()
    for path in (out / "train").iterdir():
        path.unlink()
    (out / "train").rmdir()
    (out / "train").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match="leaves .* through a symbolic link"):
        generate(source, out, {"raw": str(run)}, load=load)
    assert not list((tmp_path / "victim").iterdir())
