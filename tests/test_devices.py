"""Several worker processes on one machine, for data sets of several streams."""
from pathlib import Path

import pytest

from mmcycle.errors import MmcycleError
from mmcycle.generate.dataset import generate
from mmcycle.generate.manifest import verify
from test_multistream import KINDS, load, tree, write


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Two moments."""
    files = {f"{kind}/{k:06}.{suffix}": f"{kind} {k}" for kind, suffix in KINDS.items() for k in range(2)}
    return write(tmp_path / "drive", files)


@pytest.mark.slow
def test_a_worker_that_is_killed_in_a_moment_of_several_streams_leaves_no_half_of_it(
    drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("night", "rain"):
        (tmp_path / name).mkdir()
    runs = {"camera": str(tmp_path / "night"), "lidar": str(tmp_path / "rain")}
    arguments = {"with_": runs, "copies": 2, "seed": 3, "load": load}
    monkeypatch.setenv("DIE_OF", "velodyne 1")          # its camera is translated by then
    heard: list[int] = []
    with pytest.raises(MmcycleError, match=r"worker mmcycle-1 died .exit -9.; what is done is kept") as error:
        generate(drive, tmp_path / "out", devices=8, progress=lambda job: heard.append(job.done), **arguments)
    assert "less --devices need less memory" in str(error.value)
    assert "image_2/000001.png" not in tree(tmp_path / "out") and not (tmp_path / "out/manifest.jsonl").exists()
    monkeypatch.delenv("DIE_OF")
    job = generate(drive, tmp_path / "out", devices=8, **arguments)
    assert job.skipped == len(heard) and job.done + job.skipped == job.total == 4
    generate(drive, tmp_path / "whole", **arguments)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole") and verify(tmp_path / "out").ok
