"""Unpaired batches: balance, resume, ranks, workers, broken recordings."""
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from mmcycle.data.partners import known_partners
from mmcycle.data.samplers import Batch, Domain, EndlessSampler, unpaired_batches
from mmcycle.data.seeds import seed_of
from mmcycle.errors import MmcycleError, RecordingError, UserError
from mmcycle.modality import Modality


@dataclass(frozen=True)
class Grid(Modality):
    """A sensor for tests: a .npy of (H', W') in [-1, 1]."""

    size: int = 4
    suffixes: ClassVar[tuple[str, ...]] = (".npy",)

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, self.size, self.size)

    def load(self, path: Path) -> Any:
        if path.name.startswith("deadly"):
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            raw = np.load(path)
        except ValueError as error:
            raise RecordingError(f"{path}: not an array: {error}") from error
        return raw

    def save(self, raw: Any, path: Path) -> None:
        np.save(path, raw)

    def to_tensor(self, raw: Any) -> tuple[Tensor, Any]:
        return torch.from_numpy(raw.astype(np.float32))[None], None

    def from_tensor(self, x: Tensor, context: Any) -> Any:
        return x[0].numpy()


class Faulty(Grid):
    """Its author made a mistake."""

    def to_tensor(self, raw: Any) -> tuple[Tensor, Any]:
        raise KeyError("beams")


def folder(root: Path, names: list[str], value: float | None = None) -> Path:
    for index, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(index)
        np.save(root / name, rng.uniform(-1, 1, (7, 9)) if value is None else np.full((7, 9), value))
    return root


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        x.step == y.step and torch.equal(x.a, y.a) and torch.equal(x.b, y.b) and x[3:] == y[3:] for x, y in zip(one, other)
    )


@pytest.fixture
def domains(tmp_path: Path) -> tuple[Domain, Domain]:
    a = folder(tmp_path / "a", [f"{i}.npy" for i in range(5)])
    b = folder(tmp_path / "b", [f"sub/{i}.npy" for i in range(3)])
    return Domain(a, Grid()), Domain(b, Grid())


def test_every_item_comes_exactly_once_in_a_pass():
    sampler = EndlessSampler(7, batch_size=3, seed=0, name="a")
    seen = [sampler.index(slot) for step in range(14) for slot in sampler.slots(step)]
    passes = [seen[i : i + 7] for i in range(0, 42, 7)]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert len({tuple(one) for one in passes}) > 3


def test_the_order_depends_on_the_seed_and_on_the_domain():
    orders = {
        tuple(EndlessSampler(50, batch_size=1, seed=seed, name=name).index(i) for i in range(50)) for seed in (0, 1) for name in "ab"
    }
    assert len(orders) == 4


def test_two_ranks_see_what_one_rank_with_the_doubled_batch_sees():
    one = EndlessSampler(5, batch_size=4, seed=3, name="a")
    two = [EndlessSampler(5, batch_size=2, seed=3, name="a", rank=rank, world=2) for rank in range(2)]
    for step in range(6):
        assert list(one.slots(step)) == [slot for rank in two for slot in rank.slots(step)]


def test_a_domain_of_a_million_items_is_sampled_at_once():
    sampler = EndlessSampler(1_000_000, batch_size=1, seed=0, name="a")
    assert len({sampler.index(slot) for slot in range(1000)}) == 1000


def test_an_impossible_sampler_is_refused():
    with pytest.raises(UserError, match="rank 2 of 2"):
        EndlessSampler(5, batch_size=1, seed=0, name="a", rank=2, world=2)


def test_the_seed_of_parts_is_fixed_for_ever():
    import hashlib

    assert seed_of(0, "crop", "a", 12) == int(hashlib.sha256(b"0/crop/a/12").hexdigest()[:16], 16) // 2


def test_a_domain_lists_its_recordings_sorted_and_nothing_else(tmp_path):
    folder(tmp_path, ["b.npy", "sub/a.npy", "A.NPY.npy"])
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    assert Domain(tmp_path, Grid()).names == ["A.NPY.npy", "b.npy", "sub/a.npy"]


def test_a_domain_without_recordings_says_what_was_found_and_what_is_read(tmp_path):
    (tmp_path / "x.jpg").touch()
    with pytest.raises(UserError, match=r"found 1 files \(\.jpg: 1\) but no recording; Grid reads \.npy"):
        Domain(tmp_path, Grid())


def test_a_domain_that_is_missing_or_a_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        Domain(tmp_path / "none", Grid())
    (tmp_path / "x.npy").touch()
    with pytest.raises(UserError, match="is a file"):
        Domain(tmp_path / "x.npy", Grid())


def test_a_single_recording_is_allowed_with_a_warning(tmp_path):
    domain = Domain(folder(tmp_path, ["only.npy"]), Grid())
    assert "single recording" in domain.warnings[0]
    batches = list(unpaired_batches(domain, domain, batch_size=2, seed=0, start=0, steps=2))
    assert batches[1].names_a == ("only.npy", "only.npy") and batches[1].a.shape == (2, 1, 4, 4)


def test_a_resumed_iterator_goes_on_where_it_would_have_been(domains):
    whole = list(unpaired_batches(*domains, batch_size=2, seed=1, start=0, steps=9))
    tail = list(unpaired_batches(*domains, batch_size=2, seed=1, start=4, steps=9))
    assert [batch.step for batch in tail] == [4, 5, 6, 7, 8] and same(whole[4:], tail)
    assert list(unpaired_batches(*domains, batch_size=2, seed=1, start=9, steps=9)) == []


@pytest.mark.parametrize("workers", [1, 4])
def test_the_number_of_workers_changes_no_bit(domains, workers):
    alone = list(unpaired_batches(*domains, batch_size=2, seed=1, start=0, steps=6))
    helped = list(unpaired_batches(*domains, batch_size=2, seed=1, start=0, steps=6, workers=workers))
    assert same(alone, helped)


def test_the_cache_changes_no_bit_and_keeps_its_limit(domains):
    bare = [Domain(domain.root, domain.modality, cache_bytes=0) for domain in domains]
    tight = [Domain(domain.root, domain.modality, cache_bytes=2 * 7 * 9 * 4) for domain in domains]
    wanted = list(unpaired_batches(*bare, batch_size=2, seed=1, start=0, steps=6))
    for kept in (domains, tight):
        assert same(wanted, list(unpaired_batches(*kept, batch_size=2, seed=1, start=0, steps=6)))
    assert [len(domain._cache) for domain in (*bare, *tight, *domains)] == [0, 0, 2, 2, 5, 3]


def test_drawing_batches_leaves_the_global_generator_alone(domains):
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    list(unpaired_batches(*domains, batch_size=2, seed=1, start=0, steps=3, workers=1))
    assert torch.equal(torch.rand(1), wanted)


def test_two_ranks_together_read_the_batch_of_one(domains):
    one = list(unpaired_batches(*domains, batch_size=4, seed=2, start=0, steps=3))
    two = [list(unpaired_batches(*domains, batch_size=2, seed=2, start=0, steps=3, rank=rank, world=2)) for rank in range(2)]
    for whole, left, right in zip(one, *two):
        assert torch.equal(whole.a, torch.cat([left.a, right.a])) and torch.equal(whole.b, torch.cat([left.b, right.b]))


def test_equal_folders_do_not_come_out_as_pairs(tmp_path):
    domain = Domain(folder(tmp_path, [f"{i}.npy" for i in range(20)]), Grid())
    batches = list(unpaired_batches(domain, domain, batch_size=1, seed=0, start=0, steps=20))
    assert sum(batch.names_a == batch.names_b for batch in batches) < 6


def test_a_shared_crop_shows_the_same_window(tmp_path):
    a = Domain(folder(tmp_path / "a", ["x.npy"]), Grid())
    b = Domain(folder(tmp_path / "b", ["y.npy"]), Grid())
    shared = list(unpaired_batches(a, b, batch_size=1, seed=0, start=0, steps=8, shared_crop=True))
    apart = list(unpaired_batches(a, b, batch_size=1, seed=0, start=0, steps=8))
    assert all(torch.equal(batch.a, batch.b) for batch in shared)
    assert not all(torch.equal(batch.a, batch.b) for batch in apart)


def test_pairs_have_the_same_path_and_the_same_window(tmp_path):
    names = [f"s/{i}.npy" for i in range(6)]
    a, b = Domain(folder(tmp_path / "a", names), Grid()), Domain(folder(tmp_path / "b", names), Grid())
    batches = list(unpaired_batches(a, b, batch_size=2, seed=0, start=0, steps=3, paired=True))
    assert all(batch.names_a == batch.names_b and torch.equal(batch.a, batch.b) for batch in batches)
    assert Counter(name for batch in batches for name in batch.names_b) == Counter(names)


def test_recordings_without_a_partner_are_named(tmp_path):
    a = Domain(folder(tmp_path / "a", ["1.npy", "2.npy"]), Grid())
    b = Domain(folder(tmp_path / "b", ["2.npy", "3.npy"]), Grid())
    with pytest.raises(UserError, match=r"2 recordings have no partner.*a/1\.npy, .*b/3\.npy"):
        unpaired_batches(a, b, batch_size=1, seed=0, start=0, steps=1, paired=True)


def test_pairs_that_cannot_be_told_are_refused(tmp_path):
    @dataclass(frozen=True)
    class Two(Grid):
        suffixes: ClassVar[tuple[str, ...]] = (".npy", ".grid")

    folder(tmp_path, ["1.npy"])
    (tmp_path / "1.grid").touch()
    domain = Domain(tmp_path, Two())
    with pytest.raises(UserError, match="1.grid and 1.npy differ in the suffix alone"):
        known_partners(domain, domain, 1.0, seed=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_recording_stops_the_run_with_one_sentence(domains, workers):
    a, b = domains
    (a.root / "2.npy").write_text("not an array")
    with pytest.raises(RecordingError, match=r"a/2\.npy: not an array") as caught:
        list(unpaired_batches(a, b, batch_size=1, seed=0, start=0, steps=5, workers=workers))
    assert "Traceback" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_recording_is_passed_over_and_reported(domains, workers):
    a, b = domains
    (a.root / "2.npy").write_text("not an array")
    batches = list(unpaired_batches(a, b, batch_size=1, seed=0, start=0, steps=5, workers=workers, on_error="skip"))
    assert Counter(batch.names_a[0] for batch in batches) == {"0.npy": 1, "1.npy": 1, "3.npy": 2, "4.npy": 1}
    assert [path for batch in batches for path, _ in batch.bad] == [str(a.root / "2.npy")]


def test_a_pair_with_a_broken_half_is_passed_over(tmp_path):
    names = [f"{i}.npy" for i in range(3)]
    a, b = Domain(folder(tmp_path / "a", names), Grid()), Domain(folder(tmp_path / "b", names), Grid())
    (b.root / "0.npy").write_text("x")
    batches = list(unpaired_batches(a, b, batch_size=3, seed=0, start=0, steps=1, paired=True, on_error="skip"))
    assert sorted(batches[0].names_a) == ["1.npy", "1.npy", "2.npy"] and batches[0].names_a == batches[0].names_b


@pytest.mark.parametrize("paired", [False, True])
def test_a_domain_of_broken_recordings_ends_the_run_even_when_skipping(tmp_path, paired):
    domain = Domain(folder(tmp_path, ["0.npy", "1.npy"]), Grid())
    for name in domain.names:
        (tmp_path / name).write_text("x")
    with pytest.raises(RecordingError, match="none of .* 2 (recordings|pairs) can be used; the last one: .*not an array"):
        list(unpaired_batches(domain, domain, batch_size=1, seed=0, start=0, steps=1, on_error="skip", paired=paired))


def test_a_recording_that_vanished_is_named(domains):
    a, b = domains
    (a.root / "0.npy").unlink()
    with pytest.raises(RecordingError, match=r"a/0\.npy: cannot be read: No such file"):
        list(unpaired_batches(a, b, batch_size=5, seed=0, start=0, steps=1))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_in_a_modality_names_the_recording_and_is_not_skipped(domains, workers):
    a = Domain(domains[0].root, Faulty())
    with pytest.raises(MmcycleError, match=r"\.npy: Faulty failed: KeyError: 'beams'"):
        list(unpaired_batches(a, domains[1], batch_size=1, seed=0, start=0, steps=1, workers=workers, on_error="skip"))


def test_a_lost_worker_is_told_in_one_sentence(tmp_path):
    domain = Domain(folder(tmp_path, ["deadly.npy"]), Grid())
    with pytest.raises(MmcycleError, match="a process that reads recordings was lost .*data.workers"):
        list(unpaired_batches(domain, domain, batch_size=1, seed=0, start=0, steps=2, workers=1))


def test_an_interrupted_iterator_can_be_left(domains):
    batches = unpaired_batches(*domains, batch_size=1, seed=0, start=0, steps=1000, workers=1)
    assert [batch.step for batch in islice(batches, 2)] == [0, 1]
    batches.close()


def test_an_iterator_that_was_never_closed_does_not_hold_up_the_exit(tmp_path):
    folder(tmp_path, ["0.npy", "1.npy"])
    script = (
        "import sys\nfrom pathlib import Path\nfrom tests.test_samplers import *\n"
        "domain = Domain(Path(sys.argv[1]), Grid())\n"
        "sys.kept = unpaired_batches(domain, domain, batch_size=1, seed=0, start=0, steps=999, workers=1)\n"
        "print(next(sys.kept).step)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[1],
                          capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_signals_to_the_whole_process_group_are_left_to_the_parent(domains):
    batches = unpaired_batches(*domains, batch_size=1, seed=0, start=0, steps=1000, workers=1)
    next(batches)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGINT)
    assert [next(batches).step for _ in range(20)] == list(range(1, 21))
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(timeout=20)
    assert worker.exitcode == 0
    batches.close()
