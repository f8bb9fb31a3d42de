"""A data set is generated as a plain folder; here it is delivered: packed into shards, or out of shards.

OUT/.mmcycle holds what is on its way: `unpacked`, the source where it came in shards; `loose`, the plain folder that
`generate` writes and resumes; `packing.json`, which loose files go into which shard. Each shard is put in its place
whole and only then its loose files go, so the disk holds one shard more than the data set; a kill at any moment
leaves what the next run needs to end with the same bytes.
"""
from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from mmcycle import files
from mmcycle.data.layouts.folder import is_table
from mmcycle.data.layouts.layout import Streams
from mmcycle.data.shards import MARK
from mmcycle.data.unpack import origins_of, unpack
from mmcycle.errors import MmcycleError, UserError
from mmcycle.generate import data_card, hf_dataset, ledger, webdataset_shards
from mmcycle.generate.manifest import CARD, LEFT_OUT, MANIFEST, QUARANTINE, Row, read_rows, to_line
from mmcycle.generate.samples import Contents, Sample, samples_of, to_bytes
from mmcycle.interruption import Interrupted, signals

if TYPE_CHECKING:
    from mmcycle.generate.dataset import Job

FORMATS: dict[str, ModuleType] = {"webdataset": webdataset_shards, "hf": hf_dataset}
TO = ("folder", *FORMATS)
UNPACKED, LOOSE, PACKING = "unpacked", "loose", "packing.json"

MEGABYTE = 1_000_000
Item = tuple[str, int]                              # key, copy
Make = Callable[[Path, Path, bool], "Job"]          # source, out, dry run: writes a data set as a plain folder


class Delivery(NamedTuple):
    """One job between shards and folders. `make` generates; `reads` says which suffixes its runs read."""

    source: Path
    out: Path
    to: str
    shard_mb: int
    shards: list[Path]                              # of the source; none where it is a plain folder
    make: Make
    reads: Callable[[], Streams]

    @property
    def place(self) -> Path:
        return self.out / ledger.PLACE

    @property
    def loose(self) -> Path:
        return self.place / LOOSE

    @property
    def unpacked(self) -> Path:
        return self.place / UNPACKED

    @property
    def identity(self) -> dict[str, Any]:
        """What a rerun must repeat, beside what `generate` itself asks for."""
        listed = [[path.relative_to(self.source).as_posix(), path.stat().st_size] for path in self.shards]
        size = {"shard_mb": self.shard_mb} if self.to in FORMATS else {}
        return {"source": str(self.source), "to": self.to, "source_shards": listed} | size


def deliver(job: Delivery, dry_run: bool) -> Job:
    """Generate from or into shards; run again to resume. A finished job stays as it is, quarantined records too.

    UserError: the job cannot begin. MmcycleError: a full disk. Interrupted: a signal; what is done is kept.
    """
    _check(job)
    with _told_plainly(job):
        if dry_run:
            return _told(job, _tried(job))
        with ledger.alone(job.out):
            _check(job)                             # again, now that no other process can begin there
            return _told(job, _delivered(job))


def _check(job: Delivery) -> None:
    if job.out.exists() and not job.out.is_dir():
        raise UserError(f"{job.out}: is a file; name a new folder for the data set to be written")
    real_source, real_out = job.source.resolve(), job.out.resolve()
    if real_out == real_source or real_out.is_relative_to(real_source) or real_source.is_relative_to(real_out):
        raise UserError(f"{job.out}: the source {job.source} and the new data set must lie apart; name another folder")
    begun = ledger.read_job(job.out)
    if begun is None and job.out.is_dir() and any(entry.name != ledger.PLACE for entry in job.out.iterdir()):
        raise UserError(f"{job.out}: is not empty and was not begun by generate; "
                        "name a new folder, nothing is overwritten")
    for name, now in job.identity.items() if begun is not None else ():
        was = begun.get(name, {"to": "folder"}.get(name))
        if was != now:
            raise UserError(f"{job.out}: was begun by a different job: {name} was {str(was)[:200]} and is now "
                            f"{str(now)[:200]}. Repeat the first line exactly to resume it, or name another folder.")
    if job.to in FORMATS:
        FORMATS[job.to].check()


def _tried(job: Delivery) -> Job:
    """A dry run: nothing stays on the disk."""
    if not job.shards:
        return job.make(job.source, job.loose, True)
    if ledger.read_job(job.out) is not None:
        raise UserError(f"{job.out}: this job is begun already; run the line without --dry-run to go on with it")
    with tempfile.TemporaryDirectory() as hollow:
        unpack(job.source, job.shards, Path(hollow), job.reads(), hollow=True)
        told = job.make(Path(hollow), job.loose, True)
        return told._replace(outline=told.outline.replace(hollow, str(job.source)))


def _delivered(job: Delivery) -> Job:
    begun = ledger.read_job(job.out)
    if begun is None:
        ledger.write_job(job.out, job.identity, None)
    files.remove_leftovers(job.place)
    for path in ledger.leftovers(job.out):
        path.unlink(missing_ok=True)
    done = ledger.finished(job.out)
    lost = [name for name in ledger.shards(job.out) if not (job.out / name).is_file()]
    if lost:
        raise UserError(f"{job.out}: {lost[0]} is no longer there; delete {job.out} and run the line again")
    if job.shards and (done is not None or not job.unpacked.is_dir()):
        shutil.rmtree(job.unpacked, ignore_errors=True)
        reads = job.reads()
        files.write_folder(job.unpacked, lambda new: unpack(job.source, job.shards, new, reads, done is not None))
    source = job.unpacked if job.shards else job.source
    packing = done is not None or (job.place / PACKING).exists()
    made = job.make(source, job.loose, packing)     # a dry run still compares the job with the one that was begun
    if packing:
        counts = done or ledger.finished(job.loose)
        left = counts.get("left_out", 0)
        made = made._replace(done=0, skipped=counts["done"] + left, quarantined=counts["quarantined"], left_out=left)
    if done is None:
        _pack(job)
    _clear(job)
    return made


def _pack(job: Delivery) -> None:
    """Everything is generated: put it into its place, piece by piece."""
    origins = origins_of(job.unpacked) if job.shards else {}
    rows = list(read_rows(job.loose))
    if job.to in FORMATS:
        tables = _tables(rows)
        contents = Contents(job.loose, samples_of(rows, frozenset(tables)), origins)
        places, written = _pack_shards(job, contents)
        renamed = {name: f"{name[:-3]}.source.md" if name == CARD else name for name, source in tables.items()
                   if source not in origins}
        for name, new in renamed.items():
            files.copy_atomic(job.loose / name, files.inside(job.out, new))
        data_card.write(job.out / CARD, FORMATS[job.to], contents)
        rows = [_placed(row, places[row.key, row.copy] | renamed) for row in rows]
    else:
        written = {}
        _move(job, rows)
    _write_manifest(job.out / MANIFEST, rows, origins)
    for name in (QUARANTINE, LEFT_OUT):
        if (job.loose / name).exists():
            files.copy_atomic(job.loose / name, job.out / name)
    inner = ledger.read_job(job.loose)
    layout = f"{inner['layout']}, {f'packed as {job.to}' if job.to in FORMATS else 'unpacked'}"
    ledger.write_job(job.out, inner | job.identity | {"layout": layout, "shards": written}, inner["finished"])


def _pack_shards(job: Delivery, contents: Contents) -> tuple[dict[Item, dict[str, str]], dict[str, str]]:
    """((key, copy) -> loose path -> "shard!member", shard -> SHA-256)."""
    form, plan = FORMATS[job.to], job.place / PACKING
    if not plan.exists():
        files.write_json(plan, _divided(contents, job.shard_mb * MEGABYTE))
    shards = list(_named(form, json.loads(plan.read_text(encoding="utf-8")), contents.samples))
    last = {entry.output: name for name, samples in shards for sample in samples for entry in sample.fields.values()}
    places, written = {}, {}
    with signals() as caught:
        for name, samples in shards:
            target = files.inside(job.out, name)
            if not target.exists():
                files.write_atomic(target, lambda new, these=samples: form.write_shard(new, these, contents))
            written[name] = files.sha256(target)
            for place, sample in enumerate(samples):
                inner = {entry.output: form.member(place, sample, field) for field, entry in sample.fields.items()}
                places[sample.row.key, sample.row.copy] = {path: f"{name}{MARK}{one}" for path, one in inner.items()}
                for path in inner:
                    if last[path] == name:          # a recording may belong to several records
                        (job.loose / path).unlink(missing_ok=True)
            if caught:
                told = signal.Signals(caught[0]).name
                raise Interrupted(
                    caught[0], f"stopped by {told} after the shard in hand; run the same line again to go on")
    return places, written


def _move(job: Delivery, rows: list[Row]) -> None:
    """A plain folder is delivered by renaming; a file that is gone from the one place is in the other already."""
    if not (job.place / PACKING).exists():
        files.write_json(job.place / PACKING, [])
    for row in rows:
        for entry in (*row.streams.values(), *row.labels):
            if (job.loose / entry.output).exists():
                target = files.inside(job.out, entry.output)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(job.loose / entry.output, target)


def _divided(contents: Contents, limit: int) -> list[list[Any]]:
    """[split, number of samples] of each shard: in order, each as full as the limit in bytes allows."""
    shards: list[list[Any]] = []
    held = 0
    for sample in contents.samples:
        size = sum((contents.folder / entry.output).stat().st_size for entry in sample.fields.values())
        size += len(to_bytes(contents.about(sample)))
        if not shards or shards[-1][0] != sample.split or held + size > limit:
            shards.append([sample.split, 0])
            held = 0
        shards[-1][1] += 1
        held += size
    return shards


def _named(
    form: ModuleType, plan: list[list[Any]], samples: Sequence[Sample]
) -> Iterator[tuple[str, Sequence[Sample]]]:
    """(name, samples) of each shard."""
    start = 0
    for split, shards in groupby(plan, key=lambda shard: shard[0]):
        counts = [count for _, count in shards]
        for number, count in enumerate(counts):
            yield form.shard_name(split, number, len(counts)), samples[start : start + count]
            start += count


def _tables(rows: list[Row]) -> dict[str, str]:
    """Output -> source of what speaks of all records: it stands in every row. Of one record, its name must tell."""
    found = {label.output: label.source for label in rows[0].labels} if rows else {}
    if len(rows) == 1:
        return {output: source for output, source in found.items() if is_table(source)}
    for row in rows:
        here = {label.output for label in row.labels}
        found = {output: source for output, source in found.items() if output in here}
    return found


def _placed(row: Row, places: Mapping[str, str]) -> Row:
    """The row with the names that its files have in shards; what was made while unpacking is left out."""
    labels = tuple(replace(label, output=places[label.output]) for label in row.labels if label.output in places)
    streams = {stream: replace(entry, output=places[entry.output]) for stream, entry in row.streams.items()}
    return replace(row, streams=streams, labels=labels)


def _write_manifest(path: Path, rows: list[Row], origins: Mapping[str, str]) -> None:
    """The rows, with the names that their sources have in the shards that they came from."""

    def traced(row: Row) -> Row:
        labels = tuple(replace(label, source=origins.get(label.source, label.source)) for label in row.labels)
        streams = {name: replace(one, source=origins.get(one.source, one.source)) for name, one in row.streams.items()}
        return replace(row, labels=labels, streams=streams)

    files.write_text(path, "".join(to_line(traced(row)) for row in rows))


def _clear(job: Delivery) -> None:
    """Leave of the loose folder only its job.json, which says what a rerun must repeat."""
    shutil.rmtree(job.unpacked, ignore_errors=True)
    for entry in job.loose.iterdir() if job.loose.is_dir() else ():
        if entry.name != ledger.PLACE:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    (job.place / PACKING).unlink(missing_ok=True)


def _told(job: Delivery, made: Job) -> Job:
    outline = made.outline.replace(str(job.unpacked), str(job.source)).replace(str(job.loose), str(job.out))
    lines = [outline]
    if job.shards:
        lines.append(f"  unpacked from {len(job.shards)} shards")
    if job.to in FORMATS:
        lines.append(f"  packed --to {job.to}, in shards of at most {job.shard_mb} MB")
    return made._replace(outline="\n".join(lines), manifest=job.out / MANIFEST)


@contextmanager
def _told_plainly(job: Delivery) -> Iterator[None]:
    """Errors name the source and OUT, not where things lie on their way."""
    try:
        yield
    except MmcycleError as error:
        for inner, outer in ((job.unpacked, job.source), (job.loose, job.out)):
            error.args = tuple(str(word).replace(str(inner), str(outer)) for word in error.args)
        raise
