"""A shard is the part of a data set that one worker translates: the same function, the same bytes, on any engine."""
from __future__ import annotations

import random
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mmcycle import files
from mmcycle.data import labels
from mmcycle.data.records import Record
from mmcycle.errors import MmcycleError, RecordingError, UserError
from mmcycle.generate.ledger import Journal
from mmcycle.generate.manifest import Label, Model, Output, Quarantined, Row, item_seed, scrub, to_line
from mmcycle.generate.parts import SMOOTH, Part, parts_of
from mmcycle.generate.safety import NAME, agreement
from mmcycle.modality import Modality

if TYPE_CHECKING:
    from torch import Tensor

    from mmcycle.generate.translator import Translation


class Translates(Protocol):
    """What a data set asks of `mmcycle.generate.translator.Translator`."""

    source: Modality
    target: Modality
    sha256: str
    run: str
    direction: str
    stochastic: bool                                    # True: the seed matters, and two seeds give two translations

    def perform(self, raw: Any, strength: float = 1.0, seed: int = 0) -> Translation: ...


READERS, WRITERS = 2, 4                 # threads beside the model; waiting for the disk, they cost no core


Samples = Callable[[], "tuple[Tensor, Tensor]"]


class Share(NamedTuple):
    """Worker `worker` of `workers` on one machine."""

    worker: int = 0
    workers: int = 1


Loader = Callable[[Path, str, Share], Translates]       # run, direction, whose device and cores to use


@dataclass(frozen=True, kw_only=True)
class Task:
    """What every worker must know; it travels to other processes and machines, so it holds values only."""

    source: Path
    out: Path
    runs: dict[str, tuple[Path, str]]                   # stream -> run, direction
    load: Loader
    copies: int
    seed: int
    strength: tuple[float, float]
    keeps_labels: bool                                  # False: only tags are kept
    quarantines: bool
    versions: dict[str, str]
    shared: frozenset[str] = frozenset()                # files that several records have, copied into each
    judges: Mapping[str, str] = field(default_factory=dict)     # stream -> what scores it instead of its edges
    keep_best: float = 1.0                              # the share of the items that stays in OUT
    smooth: float = SMOOTH                              # of films


class Portion(NamedTuple):
    """One record and those of its copies that are still to be written."""

    record: Record
    copies: tuple[int, ...]


class Outcome(NamedTuple):
    """What became of one (record, copy)."""

    key: str
    copy: int
    quarantined: bool


class Broken(RecordingError):
    """A recording of a record that cannot be read, translated or written."""

    def __init__(self, stream: str, path: str, reason: str) -> None:
        super().__init__(reason)
        self.stream, self.path = stream, path


class _Loaded(NamedTuple):
    raws: dict[str, Any]                                # source path -> recording, of the parts that are translated
    hashes: dict[str, str]                              # source path -> sha256


class _Item(NamedTuple):
    raws: dict[str, Any]                                # source path -> translation
    hashes: dict[str, str]
    facts: dict[str, float]                             # "audio.snr_db" -> number: see Modality.carry_out
    samples: dict[str, Samples]                         # source path -> source and translation, for measuring


def translate_shard(
    task: Task,
    portions: list[Portion],
    worker: int = 0,
    translators: dict[str, Translates] | None = None,
    tell: Callable[[Outcome], None] = lambda outcome: None,
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Write every (record, copy) of the portions and journal each; the one in hand is finished when `stopping`.

    While one recording is in the model, the next are read and those before are written. A clip is read, translated and
    written piece by piece, so it is finished here, alone with the model. RecordingError names the first broken
    recording, unless the task quarantines; MmcycleError a disk that takes no more.
    """
    translators = translators or load_translators(task, Share())
    behind: deque[Future[Outcome]] = deque()
    readers, writers = ThreadPoolExecutor(READERS), ThreadPoolExecutor(WRITERS)
    with Journal(task.out, worker) as journal, readers as reader, writers as writer:
        try:
            for portion, loading in _read_ahead(reader, task, translators, portions):
                for copy in portion.copies:
                    if stopping():
                        return
                    item = _translate(task, translators, portion.record, copy, loading)
                    alone = isinstance(item, Broken) or any(one.joint for one in parts_of(portion.record, translators))
                    while len(behind) >= (1 if alone else WRITERS):
                        tell(behind.popleft().result())
                    behind.append(writer.submit(_finish, task, translators, journal, portion.record, copy, item))
                    if alone:               # what is broken may stop the job: nothing is begun before that is known
                        tell(behind.popleft().result())
        finally:
            while behind:
                tell(behind.popleft().result())


def load_translators(task: Task, share: Share) -> dict[str, Translates]:
    """Stream -> its translator, as one of several workers loads it."""
    return {stream: task.load(run, direction, share) for stream, (run, direction) in task.runs.items()}


def strength_of(task: Task, seed: int, copy: int) -> float:
    """The first copy has the full strength, the others one drawn from the range with the item's own seed."""
    low, high = task.strength
    return high if copy == 0 else round(random.Random(seed).uniform(low, high), 6)


def _read_ahead(
    pool: ThreadPoolExecutor, task: Task, translators: dict[str, Translates], portions: list[Portion]
) -> Iterator[tuple[Portion, Future[_Loaded]]]:
    """Every portion with its loaded recordings, the next ones being read meanwhile."""
    ahead: deque[tuple[Portion, Future[_Loaded]]] = deque()
    for portion in portions:
        ahead.append((portion, pool.submit(_read, task, translators, portion.record)))
        if len(ahead) > READERS:
            yield ahead.popleft()
    yield from ahead


def _read(task: Task, translators: dict[str, Translates], record: Record) -> _Loaded:
    raws, hashes = {}, {}
    for part in parts_of(record, translators):
        place = task.source / part.path
        hashes[part.path] = _attempt(task, part.name, part.path, "read", lambda: files.sha256(place))
        if part.translator is not None:
            load = part.translator.source.load
            raws[part.path] = _attempt(task, part.name, part.path, "read", lambda: load(place))
    for relative in record.labels if task.keeps_labels else ():
        hashes[relative] = _attempt(task, "label", relative, "read", lambda: files.sha256(task.source / relative))
    return _Loaded(raws, hashes)


def _translate(
    task: Task, translators: dict[str, Translates], record: Record, copy: int, loading: Future[_Loaded]
) -> _Item | Broken:
    """The record with its streams translated, or what is broken in it."""
    try:
        loaded = loading.result()
        seed = item_seed(task.seed, record.key, copy)
        strength = strength_of(task, seed, copy)
        raws, facts, samples = {}, {}, {}
        for part in parts_of(record, translators, task.smooth, task.judges):
            if part.translator is not None:
                act, raw = part.translator.perform, loaded.raws[part.path]
                made = _attempt(task, part.name, part.path, "translated", lambda: act(raw, strength, seed))
                raws[part.path] = made.raw
                if made.samples is not None:
                    samples[part.path] = made.samples
                start = "" if part.joint else f"{part.name}."
                facts |= {f"{start}{name}": value for name, value in made.facts.items()}
        return _Item(raws, loaded.hashes, facts, samples)
    except Broken as broken:
        return broken


def _finish(
    task: Task, translators: dict[str, Translates], journal: Journal, record: Record, copy: int, item: _Item | Broken
) -> Outcome:
    """Write one (record, copy) and journal it, or quarantine it, or raise what is broken."""
    if not isinstance(item, Broken):
        try:
            journal.append(to_line(_write(task, translators, record, copy, item)))
            return Outcome(record.key, copy, quarantined=False)
        except Broken as broken:
            item = broken
    written = {part.path: part.output(copy) for part in parts_of(record, translators)}
    written |= {relative: labels.copy_name(relative, copy) for relative in record.labels if task.keeps_labels}
    for name in (name for relative, name in written.items() if relative not in task.shared):    # no half record
        files.inside(task.out, name).unlink(missing_ok=True)
    if not task.quarantines:
        advice = "What is done is kept; go on without this one: --on-error quarantine"
        raise Broken(item.stream, item.path, f"{item}. {advice}") from item
    reason = scrub(str(item), task.source, task.out)
    journal.append(to_line(Quarantined(key=record.key, copy=copy, stream=item.stream, path=item.path, reason=reason)))
    return Outcome(record.key, copy, quarantined=True)


def _write(task: Task, translators: dict[str, Translates], record: Record, copy: int, item: _Item) -> Row:
    seed, parts = item_seed(task.seed, record.key, copy), parts_of(record, translators)
    safety: dict[str, float] = {}
    for part in parts:
        safety |= _safety(task, part, item.samples[part.path]) if part.path in item.samples else {}
    outputs = {part.path: _write_part(task, part, copy, item) for part in parts}
    for part in (one for one in parts if one.joint):        # known once all of its frames are written
        safety |= item.raws[part.path].safety
    streams = {
        stream: Output(source=relative, source_sha256=item.hashes[relative], output=outputs[relative][0],
                       sha256=outputs[relative][1], translated=stream in translators)
        for stream, relative in record.streams.items()
    }
    return Row(
        key=record.key, copy=copy, streams=streams, tags=dict(record.tags), seed=seed, versions=task.versions,
        labels=tuple(_label(task, translators, record, relative, copy, item)
                     for relative in (record.labels if task.keeps_labels else ())),
        model={stream: Model(sha256=one.sha256, direction=one.direction, run=str(one.run))
               for stream, one in translators.items()},
        params={"strength": strength_of(task, seed, copy)} | item.facts | safety,
    )


def _safety(task: Task, part: Part, samples: Samples) -> dict[str, float]:
    """"image.safety" -> how far source and translation agree; nothing where they cannot be compared."""
    score = _attempt(task, part.name, part.path, "compared with its translation",
                     lambda: agreement(*samples(), task.judges.get(part.name)), UserError)
    return {} if score is None else {f"{part.name}.{NAME}": score}


def _write_part(task: Task, part: Part, copy: int, item: _Item) -> tuple[str, str]:
    """Write one file of a record; its name and sha256."""
    name, place = part.output(copy), task.source / part.path
    if part.translator is None:
        return name, _put(task, part.name, part.path, name, lambda temporary: _copy(place, temporary))
    save, raw = part.translator.target.save, item.raws[part.path]
    return name, _put(task, part.name, part.path, name, lambda temporary: save(raw, temporary))


def _label(
    task: Task, translators: dict[str, Translates], record: Record, relative: str, copy: int, item: _Item
) -> Label:
    """Write one label file under the name of the copy: byte for byte, unless a sensor knows that it must change."""
    source, name = task.source / relative, labels.copy_name(relative, copy)
    about = {record.streams[stream] for stream in record.streams_of(relative)}
    parts = [part for part in parts_of(record, translators) if part.translator is not None and part.path in about]

    def write(temporary: Path) -> None:
        if not any(part.translator.target.relabel(source, temporary, item.raws[part.path]) for part in parts):
            _copy(source, temporary)

    digest = _put(task, "label", relative, name, write)
    how = "copied" if digest == item.hashes[relative] else "remapped"
    return Label(source=relative, source_sha256=item.hashes[relative], output=name, sha256=digest, how=how)


def _put(task: Task, stream: str, relative: str, name: str, write: Callable[[Path], Any]) -> str:
    """Write one file of OUT atomically; returns the sha256 of what stands there."""
    target = files.inside(task.out, name)
    try:
        _attempt(task, stream, relative, "written", lambda: files.write_atomic(target, write), OSError)
        return files.sha256(target)
    except OSError as error:
        raise MmcycleError(
            f"{target}: could not be written: {error.strerror or error}. What is done is kept."
        ) from error


def _copy(source: Path, target: Path) -> None:
    try:
        original = source.open("rb")
    except OSError as error:
        raise RecordingError(f"{source}: cannot be read: {error.strerror or error}") from error
    with original, target.open("wb") as file:
        shutil.copyfileobj(original, file, 1 << 20)


def _attempt(
    task: Task, stream: str, relative: str, verb: str, act: Callable[[], Any], passing: type = MmcycleError
) -> Any:
    """act(), with any failure told as the failure of this recording; `passing` and what the user must mend pass."""
    try:
        return act()
    except RecordingError as error:
        told = str(error) if PurePosixPath(relative).name in str(error) else f"{task.source / relative}: {error}"
        raise Broken(stream, relative, told) from error
    except (MmcycleError, passing):
        raise
    except Exception as error:      # a sensor's own code meets files that its author never saw
        told = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        raise Broken(stream, relative, f"{task.source / relative}: could not be {verb}: {told}") from error
