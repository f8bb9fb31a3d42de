"""A plan is a generation that was checked before its first file is written: what goes where, and what refuses it."""
from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mmcycle
from mmcycle.data import labels as label_files
from mmcycle.data.layouts import scan
from mmcycle.data.layouts.streams import LISTING
from mmcycle.data.records import Collection
from mmcycle.errors import UserError
from mmcycle.generate import ledger
from mmcycle.generate.manifest import LEFT_OUT, MANIFEST, OWN, QUARANTINE, LeftOut, Quarantined, Row, from_line
from mmcycle.generate.parts import SMOOTH, parts_of
from mmcycle.generate.safety import check_comparable, judges_of
from mmcycle.generate.shard import Loader, Share, Task, Translates, load_translators

Item = tuple[str, int]                  # key, copy
LIBRARIES = ("torch", "numpy", "pillow", "soundfile")       # those that decide the bytes of an output; of clips: av


@dataclass(frozen=True)
class Plan:
    """A job that was checked and may begin."""

    task: Task
    collection: Collection
    translators: dict[str, Translates]
    tables: tuple[str, ...]
    identity: dict[str, Any]            # the part of job.json that a rerun must repeat

    @property
    def job(self) -> dict[str, Any]:
        """What job.json holds: also where the runs were, for the report. A run may be moved before a rerun."""
        return self.identity | {"runs": {stream: str(run) for stream, (run, _) in self.task.runs.items()}}

    @property
    def items(self) -> list[Item]:
        return [(record.key, copy) for record in self.collection.records for copy in range(self.task.copies)]


def plan_generation(
    source: Path, out: Path, with_: Mapping[str, str], layout: str | None, copies: int, seed: int,
    on_error: str, strength: tuple[float, float], labels: str, load: Loader, judge: str | None = None,
    keep_best: float = 1.0, smooth: float = SMOOTH,
) -> Plan:
    """Check everything that can be checked before the first file is written."""
    choose("on_error", on_error, ("stop", "quarantine"))
    choose("labels", labels, ("keep", "class"))
    _check_folders(source, out)
    if not 0 < keep_best <= 1:          # false for NaN too
        raise UserError(f"keep_best is {keep_best}; it is the share that stays, above 0 and up to 1, such as 0.9")
    runs = {stream: parse_run(stream, str(value)) for stream, value in with_.items()}
    if not runs:
        raise UserError("no stream is to be translated; name one with its run: --with image=runs/day_to_night:ab")
    task = Task(source=source, out=out, runs=runs, load=load, copies=copies, seed=seed, strength=strength,
                keeps_labels=labels == "keep", quarantines=on_error == "quarantine", versions=_versions(LIBRARIES),
                keep_best=keep_best, smooth=smooth)
    translators = load_translators(task, Share())
    _check_copies(copies, strength, translators)
    collection = scan(source, {stream: one.source.suffixes for stream, one in translators.items()}, layout)
    clips = _check_streams(collection, translators, smooth)
    versions = _versions((*LIBRARIES, "av")) if clips else task.versions
    judges = judges_of(judge, translators)
    check_comparable(keep_best, judges, translators)
    task = replace(task, versions=versions, shared=_check_shared(collection, translators), judges=judges)
    _check_labels(collection, translators, labels)
    tables = tuple(name for name in collection.tables if not _is_our_own(source, name)) if labels == "keep" else ()
    plan = Plan(task, collection, translators, tables, _identity(task, collection, translators))
    _check_names(plan)
    check_begun(plan)
    _check_tables(plan)
    return plan


def readable(with_: Mapping[str, str], load: Loader) -> dict[str, tuple[str, ...]]:
    """Stream -> the suffixes that its run reads."""
    runs = {stream: parse_run(stream, str(value)) for stream, value in with_.items()}
    return {stream: load(*run, Share()).source.suffixes for stream, run in runs.items()}


def outline(plan: Plan) -> str:
    """The job in a few lines, for a person who is about to start it."""
    task, collection = plan.task, plan.collection
    named = sorted({stream for record in collection.records for stream in record.streams})
    count = sum(len(record.labels) for record in collection.records)
    copies = "1 copy" if task.copies == 1 else f"{task.copies} copies"
    size = f"{len(collection.records)} records, layout {collection.layout}, {copies}"
    lines = [f"{collection.root}: {size} -> {task.out}"]
    for stream in named:
        one = plan.translators.get(stream)
        lines.append(f"  {stream}: copied" if one is None else
                     f"  {stream}: {type(one.source).__name__} -> {type(one.target).__name__} by {one.run} "
                     f"({one.direction}, sha256 {one.sha256[:12]})")
    fate = "kept" if task.keeps_labels else "only tags kept"
    lines.append(f"  labels: {count} files and {len(collection.tables)} tables, {fate}")
    lines += [f"  {table} -> {table_name(table)}" for table in plan.tables if table_name(table) != table]
    if task.keep_best < 1:
        by = "the judge" if task.judges else "edges kept"
        lines.append(f"  of all, the best {task.keep_best:.6g} by {by}; the others only in {LEFT_OUT}")
    if collection.strays:
        first, why = collection.strays[0]
        lines.append(f"  left out: {len(collection.strays)} files that no record claims, such as {first} ({why})")
    for record in collection.records[:3]:
        for part in parts_of(record, plan.translators):
            lines.append(f"  {part.path} -> {part.output(0)}{f' ({part.name})' if part.joint else ''}")
    return "\n".join(lines)


def _check_folders(source: Path, out: Path) -> None:
    if not source.is_dir():
        found = "is not a folder" if source.exists() else "does not exist"
        raise UserError(f"{source}: {found}; name the folder of the labelled data set")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; name a new folder for the data set to be written")
    real_source, real_out = source.resolve(), out.resolve()
    if real_source == real_out:
        raise UserError(f"{out}: is the source itself; name another folder, the source is never changed")
    if real_out.is_relative_to(real_source):
        raise UserError(f"{out}: lies inside the source {source}; name a folder outside of it")
    if real_source.is_relative_to(real_out):
        raise UserError(f"{source}: the source lies inside {out}; name a folder that does not hold it")


def parse_run(stream: str, value: str) -> tuple[Path, str]:
    """"RUN", "RUN:ab" or "RUN:ba" -> the run and the direction."""
    head, colon, tail = value.rpartition(":")
    run, direction = (head, tail) if colon and tail in ("ab", "ba") else (value, "ab")
    if not Path(run).exists():
        raise UserError(f"{stream}={value}: there is no run at {run}; "
                        "write STREAM=RUN, STREAM=RUN:ab or STREAM=RUN:ba")
    return Path(run), direction


def _check_copies(copies: int, strength: tuple[float, float], translators: dict[str, Translates]) -> None:
    low, high = strength
    if copies < 1:
        raise UserError(f"copies is {copies}; it must be 1 or more")
    if not 0 <= low <= high <= 1:       # false for NaN too
        raise UserError(f"strength is ({low}, {high}); it must be a range within 0 to 1, the low end first")
    varies = any(one.stochastic for one in translators.values())
    if copies > 1 and low == high and not varies:
        raise UserError(f"{copies} copies with the one strength {high} would be identical, which helps nobody; "
                        "give a range of strengths, such as 0.5 to 1.0, or one copy")


def _check_streams(collection: Collection, translators: dict[str, Translates], smooth: float) -> bool:
    """Every run has its stream, and every recording is one that its run reads; True where some of them are clips."""
    if not collection.records:
        raise UserError(f"{collection.root}: the layout {collection.layout!r} found no records in it")
    known = sorted({stream for record in collection.records for stream in record.streams})
    for stream in translators:
        if stream not in known:
            hint = get_close_matches(stream, known, n=1)
            raise UserError(f"--with {stream}: {collection.root} has no stream of that name."
                            f"{f' Did you mean {hint[0]!r}?' if hint else ''} It has: {', '.join(known)}.")
    joint = [part.joint for record in collection.records for part in parts_of(record, translators, smooth)]
    if smooth != SMOOTH and not (any(joint) and "camera" in translators):
        raise UserError(f"smooth is {smooth}, and no films of {collection.root} are translated: leave it out")
    return any(joint)


def _check_shared(collection: Collection, translators: dict[str, Translates]) -> frozenset[str]:
    """The files that several records have: each gets a copy, but one that is translated can have one origin only."""
    claims = Counter(
        path for record in collection.records for path in {*record.streams.values(), *record.labels}
    )
    shared = frozenset(path for path, times in claims.items() if times > 1)
    for record in collection.records if shared else ():
        for part in parts_of(record, translators):
            if part.translator is not None and part.path in shared:
                raise UserError(f"{part.path}: is to be translated for the record {record.key!r}, and belongs to "
                                "others too; leave it in one of them, or copy the file")
    return shared


def _check_labels(collection: Collection, translators: dict[str, Translates], labels: str) -> None:
    """A box in a photograph is no box in a sweep: what speaks of a stream does not hold when its sensor is another."""
    crossing = {stream: one for stream, one in translators.items() if type(one.source) is not type(one.target)}
    if not crossing or labels != "keep":
        return
    for stream, one in crossing.items():
        found = [path for record in collection.records for path in record.labels if stream in record.streams_of(path)]
        found += [table for table in collection.tables if not _only_lists(collection, table)]
        if found:
            sensors = f"made for {type(one.source).__name__} do not hold for {type(one.target).__name__}"
            raise UserError(f"{found[0]}: labels {sensors} (stream {stream!r}); "
                            "keep only classes and other tags with labels='class'")


def _only_lists(collection: Collection, table: str) -> bool:
    """Whether a table says of files nothing but what they are, and is written anew with their names."""
    return collection.layout == "streams" and table == LISTING


def _check_names(plan: Plan) -> None:
    """Every output has one origin, and none stands in the way of what generate itself writes."""
    origins: dict[str, tuple[str, int]] = {}
    for name, origin in outputs(plan):
        if name in OWN or name.split("/")[0] == ledger.PLACE:
            raise UserError(f"{origin[0]}: would be written over generate's own {name}; rename it in the source")
        if origins.setdefault(name, origin) != origin:
            first, second = origins[name], origin
            raise UserError(f"{name}: both {first[0]} (copy {first[1]}) and {second[0]} (copy {second[1]}) "
                            "would be written there; rename one of them in the source")


def _check_tables(plan: Plan) -> None:
    """A table that cannot be rewritten is refused now, not after a night of work."""
    names = {
        (record.key, copy): {stream: part.output(copy) for part in parts for stream in part.streams}
        for record in plan.collection.records for parts in [parts_of(record, plan.translators)]
        for copy in range(plan.task.copies)
    }
    if label_files.changes(plan.collection, names):
        for table in plan.tables:
            label_files.remap(plan.collection, table, names)


def outputs(plan: Plan) -> list[tuple[str, tuple[str, int]]]:
    """(output, (source, copy)) of everything that the job will write."""
    named = [(table_name(table), (table, 0)) for table in plan.tables]
    for record in plan.collection.records:
        for copy in range(plan.task.copies):
            for part in parts_of(record, plan.translators):
                named.append((part.output(copy), (part.path, copy)))
            for path in record.labels if plan.task.keeps_labels else ():
                named.append((label_files.copy_name(path, copy), (path, copy)))
    return named


def table_name(table: str) -> str:
    """Where a table stands in OUT: a source's own manifest.jsonl takes a name that layouts read too."""
    return "metadata.jsonl" if table == MANIFEST else table


def check_begun(plan: Plan) -> None:
    """A folder with something in it is either this very job, begun before, or somebody's."""
    out = plan.task.out
    begun = ledger.read_job(out)
    if begun is None:
        if out.is_dir() and any(entry.name != ledger.PLACE for entry in out.iterdir()):
            raise UserError(f"{out}: is not empty and was not begun by generate; "
                            "name a new folder, nothing is overwritten")
        return
    new = json.loads(json.dumps(plan.identity))
    differing = [
        f"{name} was {_short(begun.get(name))} and is now {_short(new[name])}"
        for name in new if begun.get(name) != new[name]
    ]
    if differing:
        raise UserError(f"{out}: was begun by a different job: {'; '.join(differing)}. "
                        "Repeat the first line exactly to resume it, or name another folder.")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:200] + "..."


def _identity(task: Task, collection: Collection, translators: dict[str, Translates]) -> dict[str, Any]:
    """What must not change between a run and its resumption; not the number of devices, nor what happens on errors."""
    listing = [[record.key, record.streams, record.labels, record.tags] for record in collection.records]
    return {
        "source": str(task.source),
        "layout": collection.layout,
        "with": {stream: {"sha256": one.sha256, "direction": one.direction} for stream, one in translators.items()},
        "copies": task.copies,
        "seed": task.seed,
        "strength": list(task.strength),
        "labels": "keep" if task.keeps_labels else "class",
        "judges": dict(task.judges) or None,        # None where there is none: so begun by a version without them
        "keep_best": task.keep_best if task.keep_best < 1 else None,
        "smooth": task.smooth if task.smooth != SMOOTH else None,
        "records": len(collection.records),
        "records_sha256": hashlib.sha256(json.dumps([listing, collection.tables]).encode()).hexdigest(),
        "versions": task.versions,
    }


def _versions(libraries: tuple[str, ...]) -> dict[str, str]:
    found = {"mmcycle": mmcycle.__version__}
    for library in libraries:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def _is_our_own(source: Path, table: str) -> bool:
    """Whether a source that generate itself wrote offers its own lists as tables: OUT gets new ones."""
    kinds = {MANIFEST: Row, QUARANTINE: Quarantined, LEFT_OUT: LeftOut}
    if table not in kinds:
        return False
    with (source / table).open("rb") as file:
        try:
            from_line(kinds[table], file.readline())
        except ValueError:
            return False
    return True


def choose(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, allowed))}")
