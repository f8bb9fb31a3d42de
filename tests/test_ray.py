"""Ray: the bytes of the local engine, whatever happens to its workers; on a cluster of two nodes on this machine."""
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from command import contents, mmcycle
from mmcycle.errors import MmcycleError, RecordingError, UserError
from mmcycle.generate import ray_engine
from mmcycle.generate.dataset import generate
from mmcycle.generate.manifest import verify
from mmcycle.generate.ray_engine import Place, Worker, run_ray
from mmcycle.generate.shard import Share, Task
from mmcycle.interruption import Interrupted

TESTS = Path(__file__).parent


class Raw:
    """A sensor of plain bytes; "broken" is no recording."""

    suffixes = (".raw",)

    def load(self, path: Path) -> bytes:
        if path.read_bytes().startswith(b"broken"):
            raise RecordingError(f"{path}: is broken")
        return path.read_bytes()

    def save(self, raw: bytes, path: Path) -> None:
        path.write_bytes(raw)

    def relabel(self, label: Path, target: Path, raw: bytes) -> bool:
        return False


class Translation(NamedTuple):
    raw: bytes
    facts: dict[str, float]
    samples: None = None


@dataclass
class Reverser:
    """Turns bytes round, and names the seed; "die once" and "die always" end the process."""

    place: Path
    source = target = Raw()
    run: str = "reverser"
    sha256: str = "0"
    direction: str = "ab"
    stochastic: bool = True

    def perform(self, raw: bytes, strength: float = 1.0, seed: int = 0) -> Translation:
        with (self.place / "workers").open("a") as file:
            file.write(f"{os.getpid()}\n")
        if raw.startswith(b"die once") and not (self.place / "died").exists():
            (self.place / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if raw.startswith(b"die always"):
            os.kill(os.getpid(), signal.SIGKILL)
        if raw.startswith(b"slow"):
            time.sleep(0.05)
        return Translation(raw[::-1] + f" {strength} {seed}".encode(), {})


def load(run: Path, direction: str, share: Share) -> Reverser:
    return Reverser(run)


def load_wrongly(run: Path, direction: str, share: Share) -> Reverser:
    """Only the process that asks for the job has this variable: its workers were begun before."""
    if "ASKS" not in os.environ:
        raise TypeError("the author never tried this")
    return Reverser(run)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def make_source(folder: Path, count: int, content: bytes = b"recording", **special: bytes) -> Path:
    """A labelled data set; special: _003=b"broken"."""
    folder.mkdir()
    for number in range(count):
        told = special.get(f"_{number:03}", content)
        (folder / f"{number:03}.raw").write_bytes(told + b" %d" % number)
        (folder / f"{number:03}.txt").write_text(f"{number} 0.5 0.5 0.1 0.1\n")
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core each; RAY_ADDRESS names them, as it would on a real cluster."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
        made = Cluster()
        try:
            made.add_node(**small, include_dashboard=False)
            made.add_node(**small)
        except Exception as error:                      # Ray gives each node 15 s
            made.shutdown()
            pytest.skip(f"this machine is too busy to start a Ray cluster: {error}")
        patch.setenv("RAY_ADDRESS", made.address)
        yield ray
        made.shutdown()


@pytest.mark.slow
def test_a_worker_that_is_killed_in_the_middle_changes_no_byte(cluster: Any, run: Path, tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", 24, _011=b"die once")
    heard = []
    job = generate(source, tmp_path / "out", {"raw": str(run)}, copies=2, seed=4, engine="ray", devices=2, load=load,
                   progress=heard.append)
    assert (run / "died").exists() and len(workers(run)) == 3
    assert job[:4] == (48, 0, 0, 48) and [one.done for one in heard] == list(range(1, 49))
    generate(source, tmp_path / "local", {"raw": str(run)}, copies=2, seed=4, load=load)
    assert contents(tmp_path / "out") == contents(tmp_path / "local")
    assert verify(tmp_path / "out").ok


def workers(run: Path) -> set[str]:
    """The processes that translated something."""
    return set((run / "workers").read_text().split())


@pytest.mark.slow
def test_a_job_that_was_stopped_goes_on(
    cluster: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_source(tmp_path / "source", 40, content=b"slow")
    monkeypatch.chdir(tmp_path)

    def stop(job: Any) -> None:
        if job.done == 1:
            signal.raise_signal(signal.SIGTERM)

    arguments = {"with_": {"raw": "run:ab"}, "load": load}              # relative paths mean what they mean here
    with pytest.raises(Interrupted, match="stopped by SIGTERM after the item in hand; run the same line again"):
        generate(Path("source"), Path("out"), engine="ray", devices=2, progress=stop, **arguments)
    done = len(list((tmp_path / "out").glob("*.raw")))
    assert 0 < done < 40 and not (tmp_path / "out/manifest.jsonl").exists()
    job = generate(Path("source"), Path("out"), engine="ray", devices=3, **arguments)      # one has no room
    assert job.skipped >= done - 2 and job.done + job.skipped == 40
    generate(Path("source"), Path("local"), **arguments)
    assert contents(tmp_path / "out") == contents(tmp_path / "local")
    assert generate(Path("source"), Path("out"), engine="ray", **arguments)[:4] == (0, 40, 0, 40)


@pytest.mark.slow
def test_what_is_broken_is_told_as_the_local_engine_tells_it(cluster: Any, run: Path, tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", 6, _003=b"broken")
    told = []
    for engine in ("ray", "local"):
        with pytest.raises(RecordingError, match="003.raw: is broken. What is done is kept") as error:
            generate(source, tmp_path / engine, {"raw": str(run)}, engine=engine, load=load)
        told.append(str(error.value))
        job = generate(source, tmp_path / engine, {"raw": str(run)}, engine=engine, load=load, on_error="quarantine")
        assert job[:4] == (5 - job.skipped, job.skipped, 1, 6)
    assert told[0] == told[1]
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


@pytest.mark.slow
def test_a_record_that_kills_every_worker_ends_the_job_and_can_be_mended(
    cluster: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source(tmp_path / "source", 6, _003=b"die always")
    died = r"3 Ray workers died one after the other over '003' \(.*run the same line again"
    with pytest.raises(MmcycleError, match=died) as error:
        generate(source, tmp_path / "out", {"raw": str(run)}, engine="ray", load=load)
    assert not isinstance(error.value, UserError) and "\n" not in str(error.value)
    (source / "003.raw").write_bytes(b"mended")
    monkeypatch.setenv("ASKS", "1")
    with pytest.raises(MmcycleError, match="a Ray worker failed over its start: TypeError: the author never"):
        generate(source, tmp_path / "out", {"raw": str(run)}, engine="ray", load=load_wrongly)
    job = generate(source, tmp_path / "out", {"raw": str(run)}, engine="ray", load=load)
    assert job.skipped >= 1 and job.done + job.skipped == 6
    assert verify(tmp_path / "out").ok


@pytest.mark.slow
def test_real_networks_write_the_same_bytes_from_the_command_line(cluster: Any, tmp_path: Path) -> None:
    from tiny_models import IMAGE, untrained

    model = untrained(tmp_path / "night.safetensors", IMAGE)
    rng = np.random.default_rng(0)
    for folder in ("image_2", "image_3"):
        (tmp_path / "drive" / folder).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 256, (45, 70, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"drive/{folder}/{number:06}.png")
    line = ["generate", tmp_path / "drive", "--with", f"camera={model}", "--with", f"camera_right={model}"]
    said = mmcycle(*line[:2], tmp_path / "ray", *line[2:], "--engine", "ray", "--devices", 2)
    assert said.code == 0 and "4 recordings: 4 done" in said.out, said
    assert mmcycle(*line[:2], tmp_path / "local", *line[2:]).code == 0
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def task_of(tmp_path: Path, run: Path, **versions: str) -> tuple[Task, Place]:
    source, out = make_source(tmp_path / "source", 2), tmp_path / "out"
    (out / ".mmcycle").mkdir(parents=True)
    mark = out / ".mmcycle/.tmp-ray-1"
    mark.touch()
    task = Task(source=source, out=out, runs={"raw": (run, "ab")}, load=load, copies=1, seed=0, strength=(1.0, 1.0),
                keeps_labels=True, quarantines=False, versions=versions)
    return task, Place(tmp_path, mark)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A worker changes the folder that it works in; this one is left again."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_worker_that_does_not_see_what_was_written_says_so(here: Path, run: Path) -> None:
    task, place = task_of(here, run)
    assert Worker(task, place, 0).prepare().error is None
    place.mark.unlink()
    kind, told = Worker(task, place, 0).prepare().error
    assert kind == "UserError"
    assert told.startswith(f"{here}/out: the Ray worker on ") and "sees another folder there, or none" in told
    assert "storage that every machine sees under the same path" in told


def test_a_worker_that_does_not_see_the_source_or_the_run_names_it(here: Path, run: Path) -> None:
    task, place = task_of(here, run)
    run.rename(here / "away")
    assert f"{run}: the Ray worker on" in Worker(task, place, 0).prepare().error[1]
    (here / "source").rename(here / "elsewhere")
    assert f"{here}/source: the Ray worker on" in Worker(task, place, 0).prepare().error[1]


def test_a_relative_path_below_a_folder_that_a_worker_does_not_see_is_refused(here: Path, run: Path) -> None:
    task, place = task_of(here, run)
    lost = place._replace(folder=here / "home")
    assert Worker(task, lost, 0).prepare().error is None                # absolute paths need no such folder
    relative = Task(**vars(task) | {"source": Path("source")})
    kind, told = Worker(relative, lost, 0).prepare().error
    assert kind == "UserError" and told.startswith(f"source is a path below {here}/home") and "absolute paths" in told


def test_a_worker_with_another_version_is_refused(here: Path, run: Path) -> None:
    task, place = task_of(here, run, numpy="0.1", carried="7")
    kind, told = Worker(task, place, 0).prepare().error
    assert kind == "UserError" and f"has numpy {np.__version__}, the job was begun with 0.1" in told


def test_a_worker_that_is_told_to_stop_begins_nothing(here: Path, run: Path) -> None:
    from mmcycle.data.records import Record
    from mmcycle.generate.shard import Portion

    task, place = task_of(here, run)
    portions = [Portion(Record(key="000", streams={"raw": "000.raw"}, labels=(), tags={}), (0,))]
    worker = Worker(task, place, 0)
    assert [outcome.key for outcome in worker.translate(portions).outcomes] == ["000"]
    worker.stop()
    assert worker.translate(portions).outcomes == ()


def test_without_ray_it_is_said_before_the_work(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    source = make_source(tmp_path / "source", 2)
    with pytest.raises(UserError, match=r"--engine ray needs mmcycle\[ray\].*pip install 'mmcycle\[ray\]'"):
        generate(source, tmp_path / "out", {"raw": str(run)}, engine="ray", load=load)
    assert not (tmp_path / "out").exists()


def small_ray(**members: Any) -> SimpleNamespace:
    """As much of Ray as it takes to be refused."""
    return SimpleNamespace(exceptions=SimpleNamespace(RayError=LookupError), is_initialized=lambda: False, **members)


def test_a_cluster_that_does_not_answer_is_told(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise ConnectionError("Could not find any running Ray instance\nand more")

    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(ray_engine, "need", lambda *words: small_ray(init=init))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    task, _ = task_of(tmp_path, run)
    with pytest.raises(UserError, match=r"no cluster answers \(Could not find any running Ray instance\). Start one"):
        run_ray(task, [object()], 1, print)
    assert signal.getsignal(signal.SIGTERM) == handler
    run_ray(task, [], 1, print)                     # nothing left to do needs no cluster


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_is_at_home_is_told_at_once(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("RAY_ADDRESS", f"{scheme}127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.setattr(ray_engine, "need", lambda *words: small_ray())
    with pytest.raises(UserError, match=r"no cluster answers \(.*refused\). Start one .* name it in RAY_ADDRESS"):
        run_ray(task_of(tmp_path, run)[0], [object()], 1, print)


def test_a_cluster_without_room_is_told_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "PATIENCE", 0.0)
    turns = []

    def wait(refs: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        turns.append(time.sleep(0.01))
        return [], refs

    worker = SimpleNamespace(prepare=SimpleNamespace(remote=lambda: "ref"))
    caught: list[int] = []
    threading.Timer(0.3, lambda: caught.append(15)).start()
    with pytest.warns(UserWarning, match="Ray has started no worker yet"):
        assert ray_engine._drive(small_ray(wait=wait), [worker], ray_engine.deque([[]]), print, caught) is None
    assert len(turns) > 3


def test_pieces_are_many_and_small() -> None:
    assert [len(list(ray_engine._pieces([None] * count, 2))) for count in (1, 24, 64, 10_000)] == [1, 24, 32, 313]
