"""Unpaired batches: an endless, balanced, resumable order over two folders of recordings.

Everything is a pure function of (seed, step): there is no state to save but the step, and neither the number of
workers nor the way a batch is divided among ranks changes a bit. A slot is one place in the endless row of samples
of a domain: slot = step * global batch + place in the global batch. Shapes: B batch of this rank, C H W a crop.
"""
from __future__ import annotations

import gc
import os
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from mmcycle.data.partners import Partners, known_partners
from mmcycle.data.same_window import SameWindow
from mmcycle.data.seeds import seed_of
from mmcycle.errors import MmcycleError, RecordingError, UserError
from mmcycle.files import walk
from mmcycle.modality import Modality

OnError = Literal["stop", "skip"]


class Batch(NamedTuple):
    """One step's samples: a (B, *shape_a), b (B, *shape_b), float32 in [-1, 1], and the recordings they came from.

    known (B,) is 1 where b is the true partner of a, else 0; None where no pairs are asked for.
    """

    step: int
    a: Tensor
    b: Tensor
    names_a: tuple[str, ...]
    names_b: tuple[str, ...]
    bad: tuple[tuple[str, str], ...] = ()       # recordings passed over: (path, why)
    known: Tensor | None = None


class EndlessSampler:
    """The order in which one domain is seen: pass after pass over all items, each pass shuffled anew.

    Every item comes exactly once in a pass. Rank r of w takes slots [r B, (r + 1) B) of a global batch of w B, so that
    w ranks of B see what one rank of w B sees.
    """

    def __init__(self, items: int, *, batch_size: int, seed: int, name: str, rank: int = 0, world: int = 1) -> None:
        if items < 1 or batch_size < 1 or not 0 <= rank < world:
            raise UserError(f"cannot sample: {items} items, batch_size {batch_size}, rank {rank} of {world}")
        self.items, self.batch_size, self.seed, self.name = items, batch_size, seed, name
        self.rank, self.world = rank, world

    def slots(self, step: int) -> range:
        """The slots of this rank at a step."""
        first = (step * self.world + self.rank) * self.batch_size
        return range(first, first + self.batch_size)

    def index(self, slot: int) -> int:
        """The item at a slot."""
        turn, place = divmod(slot, self.items)
        return int(_shuffled(self.items, seed_of(self.seed, self.name, turn))[place])


class Domain:
    """A folder of unpaired recordings of one modality, sorted by path; a map from an index to a training sample.

    Tensors of decoded recordings are kept in memory up to `cache_bytes`, which all workers of a process share out
    among themselves: small sets are decoded once, and no bit changes.
    """

    def __init__(self, root: Path, modality: Modality, cache_bytes: int = 2**29) -> None:
        self.root, self.modality, self.cache_bytes = Path(root), modality, cache_bytes
        self.names = _recordings(self.root, modality)
        self._cache: dict[int, Tensor] = {}
        self._sizes: dict[int, tuple[int, int]] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return len(self.names)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should be told although training can go on."""
        if len(self) > 1:
            return ()
        return (f"{self.root} holds a single recording ({self.names[0]}): the networks will learn it by heart",)

    def path(self, index: int) -> Path:
        """Where the recording lies."""
        return self.root / self.names[index]

    def whole(self, index: int) -> Tensor:
        """The recording at its own size, (C, H', W'); RecordingError names the file. Must not be changed in place."""
        if index in self._cache:
            return self._cache[index]
        path = self.path(index)
        try:
            x, _ = self.modality.to_tensor(self.modality.load(path))
        except MmcycleError:
            raise
        except OSError as error:
            raise RecordingError(f"{path}: cannot be read: {error.strerror or error}") from error
        except Exception as error:              # a modality's mistake must name the file that brought it out
            raise MmcycleError(
                f"{path}: {type(self.modality).__name__} failed: {type(error).__name__}: {error}"
            ) from error
        self._keep(index, x)
        self._sizes[index] = x.shape[-2:]
        return x

    def size(self, index: int) -> tuple[int, int]:
        """(H', W') of the recording, which is read no second time for it."""
        if index not in self._sizes:
            self.whole(index)
        return self._sizes[index]

    def sample(self, index: int, seed: int) -> Tensor:
        """(C, H, W): a training crop; the same seed gives the same bytes."""
        return self.modality.crop(self.whole(index), torch.Generator().manual_seed(seed))

    def _keep(self, index: int, x: Tensor) -> None:
        """Remember the first recordings that fit: in a cyclic order nothing is won by replacing them."""
        worker = get_worker_info()
        size = x.numel() * x.element_size()
        if self._cached_bytes + size <= self.cache_bytes // (worker.num_workers if worker else 1):
            self._cache[index] = x
            self._cached_bytes += size


def unpaired_batches(
    a: Domain, b: Domain, *, batch_size: int, seed: int, start: int, steps: int, rank: int = 0, world: int = 1,
    workers: int = 0, shared_crop: bool = False, on_error: OnError = "stop", paired: bool = False,
    paired_fraction: float = 1.0, pairs: Path | None = None, known_only: bool = False,
) -> Iterator[Batch]:
    """The batches of the steps start, start + 1, ... steps - 1; `batch_size` is per rank.

    shared_crop      both domains cut out the same window (their recordings must show the same geometry)
    paired           b's recording is the true partner of a's, cut with the same seed: see `known_partners`; of one
                     sensor, or with shared_crop, partners whose windows differ are refused
    paired_fraction  the share of these pairs that is known; all other recordings stay unpaired
    pairs            a table of partners, where not equal paths tell
    known_only       recordings of a without a known partner are not seen
    on_error         a broken recording stops the run, or its successor takes its place and `bad` says so
    """
    partner = known_partners(a, b, paired_fraction, seed, pairs) if paired else None
    source = _Steps(a, b, batch_size, seed, rank, world, shared_crop, on_error == "skip", partner, known_only)
    if start >= steps:
        return iter(())
    return _batches(source, range(start, steps), workers)


class _Failure(NamedTuple):
    """An error on its way out of a worker, where raising it would bury the sentence under a traceback."""

    kind: type[MmcycleError]
    sentence: str


class _Steps(Dataset):
    """Step number -> its Batch; the same in every process that computes it."""

    def __init__(
        self, a: Domain, b: Domain, batch_size: int, seed: int, rank: int, world: int,
        shared_crop: bool, skip: bool, partner: Partners | None, known_only: bool,
    ) -> None:
        self.a, self.b, self.seed = a, b, seed
        self.shared_crop, self.skip = shared_crop, skip
        alike = shared_crop or type(a.modality) is type(b.modality)             # partners are compared place by place
        windows = a.modality.extensive and b.modality.extensive                 # a text has none
        self.same_window = SameWindow(a.modality, b.modality) if alike and windows else None
        self.paired, self.partner = partner is not None, partner or {}
        taken = {one for known in self.partner.values() for one in known}   # they come with their partners
        self.strangers = [index for index in range(len(b)) if index not in taken] or range(len(b))
        # Drawn by role, not by name: two equal folders must not come out as pairs.
        self.seen = sorted(self.partner) if known_only and self.partner else range(len(a))
        self.order_a = EndlessSampler(len(self.seen), batch_size=batch_size, seed=seed, name="a", rank=rank, world=world)
        items = len(self.strangers)
        self.order_b = EndlessSampler(items, batch_size=batch_size, seed=seed, name="b", rank=rank, world=world)

    def __getitem__(self, step: int) -> Batch | _Failure:
        try:
            return self._batch(step)
        except MmcycleError as error:
            return _Failure(type(error), str(error))

    def _batch(self, step: int) -> Batch:
        bad: list[tuple[str, str]] = []
        first = [self.seen[self.order_a.index(slot)] for slot in self.order_a.slots(step)]
        drawn = [self._draw(slot, index, bad) for slot, index in zip(self.order_a.slots(step), first)]
        xs_a, xs_b, names_a, names_b = zip(*drawn)
        known = torch.tensor([float(index in self.partner) for index in first]) if self.paired else None
        return Batch(step, torch.stack(xs_a), torch.stack(xs_b), names_a, names_b, tuple(bad), known)

    def _draw(self, slot: int, first: int, bad: list[tuple[str, str]]) -> tuple[Tensor, Tensor, str, str]:
        seed_a = seed_of(self.seed, "crop", "a", slot)
        if first in self.partner:
            return self._pair(first, seed_a, bad)
        seed_b = seed_a if self.shared_crop else seed_of(self.seed, "crop", "b", slot)
        x_a, name_a = self._one(self.a, range(len(self.a)), first, seed_a, bad)
        x_b, name_b = self._one(self.b, self.strangers, self.order_b.index(slot), seed_b, bad)
        return x_a, x_b, name_a, name_b

    def _one(
        self, domain: Domain, allowed: Sequence[int], first: int, seed: int, bad: list[tuple[str, str]]
    ) -> tuple[Tensor, str]:
        for place in _onwards(first, len(allowed)):
            x = self._sample(domain, allowed[place], seed, bad)
            if x is not None:
                return x, domain.names[allowed[place]]
        raise RecordingError(
            f"{domain.root}: none of its {len(allowed)} recordings can be used; the last one: {bad[-1][1]}"
        )

    def _pair(self, first: int, seed: int, bad: list[tuple[str, str]]) -> tuple[Tensor, Tensor, str, str]:
        """`first` and one of its partners, or where one is broken the next pair."""
        for index in _onwards(first, len(self.a)):
            if index in self.partner:
                x_a = self._sample(self.a, index, seed, bad)
                partner = self.partner[index][seed % len(self.partner[index])]
                x_b = self._sample(self.b, partner, seed, bad)
                if x_a is not None and x_b is not None and self._agree(index, partner, bad):
                    return x_a, x_b, self.a.names[index], self.b.names[partner]
        raise RecordingError(
            f"{self.a.root} and {self.b.root}: none of the {len(self.partner)} pairs can be used; the last one: "
            f"{bad[-1][1]}"
        )

    def _agree(self, index_a: int, index_b: int, bad: list[tuple[str, str]]) -> bool:
        """Whether the windows of two partners show one place."""
        sizes = self.a.size(index_a), self.b.size(index_b)
        if self.same_window is None or self.same_window(*sizes):
            return True
        paths = self.a.path(index_a), self.b.path(index_b)
        seen = " and ".join(f"{path} ({height} x {width})" for path, (height, width) in zip(paths, sizes))
        why = (f"{seen} are partners, but a training window of one is not that of the other: bring both domains to one "
               "size (pictures: stretch), mirror both or neither (flip), give a full turn a sector (azimuth)")
        if not self.skip:
            raise RecordingError(why)
        bad.append((str(paths[0]), why))
        return False

    def _sample(self, domain: Domain, index: int, seed: int, bad: list[tuple[str, str]]) -> Tensor | None:
        try:
            return domain.sample(index, seed)
        except RecordingError as error:
            if not self.skip:
                raise
            bad.append((str(domain.path(index)), str(error)))
            return None


def _batches(source: _Steps, steps: range, workers: int) -> Iterator[Batch]:
    rows = _start(source, steps, workers)
    while True:
        try:
            batch = next(rows, None)
        except RuntimeError as error:           # all errors of recordings arrive as a _Failure: a process died
            raise MmcycleError(
                f"a process that reads recordings was lost ({str(error).splitlines()[0]}). If memory or /dev/shm ran "
                f"out, lower data.workers or set it to 0; the run can be resumed."
            ) from error
        if batch is None:
            return
        if isinstance(batch, _Failure):
            raise batch.kind(batch.sentence)
        yield batch


def _start(source: _Steps, steps: range, workers: int) -> Iterator[Batch | _Failure]:
    with warnings.catch_warnings():         # of forks beside threads (the workers use none), of more workers than cores
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        return iter(DataLoader(
            source, batch_size=None, sampler=steps, num_workers=workers, collate_fn=_as_it_is,
            worker_init_fn=_heed_parent,
            generator=torch.Generator(),        # its own, or it would draw from the one that the networks use
        ))


def _as_it_is(batch: Batch | _Failure) -> Batch | _Failure:
    return batch


def _heed_parent(worker: int) -> None:
    """Signals reach a whole process group; the trainer decides what they mean, and a worker must not look like a crash.

    SIGTERM cannot be ignored: it is how an exiting parent ends the workers of an iterator that was never closed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    sys.excepthook = _unless_the_trainer_left
    gc.freeze()                                 # what the trainer has thrown away is not finalised a second time here


def _unless_the_trainer_left(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A batch that a leaving trainer no longer fetches breaks the pipe it would have gone through: nobody's mistake."""
    if not issubclass(kind, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)


@lru_cache(maxsize=8)                           # two domains, and a batch may lie across two passes
def _shuffled(items: int, seed: int) -> Tensor:
    return torch.randperm(items, generator=torch.Generator().manual_seed(seed))


def _onwards(first: int, items: int) -> Iterator[int]:
    return ((first + ahead) % items for ahead in range(items))


def _recordings(root: Path, modality: Modality) -> list[str]:
    if not root.exists():
        raise UserError(f"{root}: there is no such folder; give the folder that holds the recordings")
    if not root.is_dir():
        raise UserError(f"{root} is a file; give the folder that holds the recordings")
    files = list(walk(root))
    names = [file.relative_to(root).as_posix() for file in files if file.suffix.lower() in modality.suffixes]
    if not names:
        kinds = Counter(file.suffix.lower() or "no suffix" for file in files).most_common(5)
        found = f" ({', '.join(f'{kind}: {count}' for kind, count in kinds)})" if kinds else ""
        raise UserError(
            f"{root}: found {len(files)} files{found} but no recording; "
            f"{type(modality).__name__} reads {', '.join(modality.suffixes)}"
        )
    return names
