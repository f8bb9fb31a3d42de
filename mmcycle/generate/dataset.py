"""A labelled data set written again in the other domain: same tree, same names, same labels, every file traceable."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from mmcycle import files
from mmcycle.data import labels as label_files
from mmcycle.data.shards import shards_of
from mmcycle.errors import MmcycleError, UserError, need
from mmcycle.generate import ledger
from mmcycle.generate.engines import run_local
from mmcycle.generate.manifest import (
    LEFT_OUT, MANIFEST, QUARANTINE, Label, LeftOut, Quarantined, Row, from_line, read_rows, to_line,
)
from mmcycle.generate.packing import TO, Delivery, deliver
from mmcycle.generate.parts import SMOOTH
from mmcycle.generate.plan import (
    Item, Plan, check_begun, choose, outline, outputs, plan_generation, readable, table_name,
)
from mmcycle.generate.ray_engine import run_ray
from mmcycle.generate.safety import best, safety_of
from mmcycle.generate.shard import Loader, Outcome, Portion, Share, Translates


class Job(NamedTuple):
    """What became of a job: done (now) + skipped (done before) + quarantined == total; left_out of them are not there."""

    done: int
    skipped: int
    quarantined: int
    total: int
    manifest: Path
    outline: str                        # what the job is, in a few plain lines
    strays: tuple[tuple[str, str], ...]
    left_out: int = 0


def load_translator(run: Path, direction: str, share: Share, which: Literal["last", "best"] = "last") -> Translates:
    """The translator of a training run: the GPUs in turn, or a fair share of this machine's cores."""
    import torch

    from mmcycle.generate.translator import Translator

    device = "auto"
    if share.workers > 1 and torch.cuda.is_available():
        device = f"cuda:{share.worker % torch.cuda.device_count()}"
    elif share.workers > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // share.workers))
    return Translator.load(run, direction, which=which, device=device)


def generate(
    source: Path,
    out: Path,
    with_: Mapping[str, str],
    *,
    layout: str | None = None,
    copies: int = 1,
    seed: int = 0,
    devices: int = 1,
    engine: Literal["local", "ray"] = "local",
    on_error: Literal["stop", "quarantine"] = "stop",
    strength: tuple[float, float] = (1.0, 1.0),
    labels: Literal["keep", "class"] = "keep",
    to: Literal["folder", "webdataset", "hf"] = "folder",
    shard_mb: int = 256,
    judge: str | None = None,
    keep_best: float = 1.0,
    smooth: float = SMOOTH,
    dry_run: bool = False,
    progress: Callable[[Job], None] = lambda job: None,
    load: Loader = load_translator,
) -> Job:
    """Translate the streams of `with_` ({"image": "RUN:ab"}), copy the others and the labels, list all in a manifest.

    Run the same call again to resume: what is done is skipped, what was quarantined is tried again, and the final
    bytes are those of a run that was never interrupted, on any number of devices. `progress` hears of every item.
    The engine "ray" has `devices` workers on a Ray cluster, of which every machine must see source, runs and out.

    Labels are copied byte for byte. So are tables, unless there are several copies or something is quarantined: then
    they are rewritten, to name every copy that exists and nothing that does not.

    Where source and translation can be compared, the manifest tells how far they agree ("image.safety"): their edges,
    or what the model of `judge` ("[STREAM=]my_lab.nets:classifier") says of them. Only the share `keep_best` of the
    items that agree best stays in OUT; left_out.jsonl lists the others: `generate.safety`. `smooth` is of films: see
    `generate.steadiness`.

    The source may also be WebDataset shards or a Hugging Face data set on disk, and `to` packs the new one into such
    shards, of at most `shard_mb` MB where a sample allows: see `generate.packing`.

    UserError: the job cannot begin. RecordingError: a recording is broken and on_error is "stop".
    MmcycleError: a full disk, a dead worker. Interrupted: a signal. In each case what is done is kept.
    """
    _check_choices(engine, devices, to)
    source, out = Path(source), Path(out)
    shards = shards_of(source) if source.is_dir() else []
    if shards or to != "folder":
        def make(folder: Path, loose: Path, dry: bool) -> Job:
            return generate(
                folder, loose, with_, layout=layout, copies=copies, seed=seed, devices=devices, engine=engine, load=load,
                on_error=on_error, strength=strength, labels=labels, judge=judge, keep_best=keep_best, smooth=smooth,
                dry_run=dry, progress=progress)

        return deliver(Delivery(source, out, to, shard_mb, shards, make, lambda: readable(with_, load)), dry_run)
    plan = plan_generation(source, out, with_, layout, copies, seed, on_error, strength, labels, load, judge, keep_best,
                           smooth)
    job = Job(0, 0, 0, len(plan.items), plan.task.out / MANIFEST, outline(plan), plan.collection.strays)
    if dry_run:
        return job
    with ledger.alone(plan.task.out):
        return _run(plan, job, devices, engine, progress)


def _check_choices(engine: str, devices: int, to: str) -> None:
    choose("engine", engine, ("local", "ray"))
    choose("to", to, TO)
    if engine == "ray":
        need("ray", "--engine ray", "mmcycle[ray]")
    if devices < 1:
        raise UserError(f"devices is {devices}; it must be 1 or more")


def _run(plan: Plan, job: Job, devices: int, engine: str, progress: Callable[[Job], None]) -> Job:
    """Do what is left of the job, then list it."""
    out = plan.task.out
    check_begun(plan)                   # again, now that no other process can begin there
    begun = ledger.read_job(out)
    if begun is None:
        ledger.write_job(out, plan.job, None)
    for path in ledger.leftovers(out):
        path.unlink(missing_ok=True)
    rows, left = _rows_done(plan), _left_out(plan)
    todo = [item for item in plan.items if item not in rows and item not in left]
    job = job._replace(skipped=job.total - len(todo))
    if begun is not None and not todo and _is_whole(plan):
        ledger.clear(out)
        return job._replace(left_out=len(left))
    if begun is not None and begun.get("finished"):
        ledger.write_job(out, plan.job, None)

    def tell(outcome: Outcome) -> None:
        nonlocal job
        job = job._replace(done=job.done + (not outcome.quarantined), quarantined=job.quarantined + outcome.quarantined)
        progress(job)

    while todo:
        if engine == "ray":
            run_ray(plan.task, _portions(plan, todo), devices, tell)
        else:
            run_local(plan.task, _portions(plan, todo), devices, plan.translators, tell)
        done = _rows_done(plan)
        todo = sorted(_best(plan, done) - done.keys())      # left out earlier, when something else was broken
        job = job._replace(skipped=job.skipped - len(todo))
    return job._replace(left_out=_finish(plan))


def _portions(plan: Plan, todo: list[Item]) -> list[Portion]:
    wanted: dict[str, list[int]] = {}
    for key, copy in todo:
        wanted.setdefault(key, []).append(copy)
    return [Portion(record, tuple(wanted[record.key])) for record in plan.collection.records if record.key in wanted]


def _rows_done(plan: Plan) -> dict[Item, Row]:
    """What earlier runs finished under the names of this plan and is still there."""
    out, tables = plan.task.out, set(plan.tables)
    wanted, names = set(plan.items), {name for name, _ in outputs(plan)}
    rows = _journaled(out)[0]
    if (out / MANIFEST).exists():
        for row in read_rows(out):
            kept = tuple(label for label in row.labels if label.source not in tables)
            rows.setdefault((row.key, row.copy), dataclasses.replace(row, labels=kept))

    def there(row: Row) -> bool:
        entries = (*row.streams.values(), *row.labels)
        return all(entry.output in names and (out / entry.output).is_file() for entry in entries)

    return {item: row for item, row in rows.items() if item in wanted and there(row)}


def _journaled(out: Path) -> tuple[dict[Item, Row], dict[Item, Quarantined]]:
    rows: dict[Item, Row] = {}
    bad: dict[Item, Quarantined] = {}
    for line in ledger.journal_lines(out):
        for kind, found in ((Row, rows), (Quarantined, bad)):
            try:
                value = from_line(kind, line)
            except ValueError:          # neither: a line that the disk damaged is work to do again
                continue
            found[value.key, value.copy] = value
            break
    return rows, bad


def _left_out(plan: Plan) -> dict[Item, float]:
    """What was translated and then left out, with its score: its files are gone, and it is done."""
    path, found = plan.task.out / LEFT_OUT, {}
    if plan.task.keep_best < 1 and path.is_file():
        for line in path.read_bytes().splitlines():
            with suppress(ValueError):          # a line that the disk damaged is work to do again
                row = from_line(LeftOut, line)
                found[row.key, row.copy] = row.safety
    return {item: found[item] for item in plan.items if item in found}


def _scores(plan: Plan, rows: dict[Item, Row]) -> dict[Item, float]:
    """Of everything that was translated, also of what was left out before; a quarantined recording has none."""
    bad = _journaled(plan.task.out)[1]
    scores = {item: score for item, score in _left_out(plan).items() if item not in bad}
    for item, row in rows.items():
        score = safety_of(row)
        if score is None:
            raise UserError(f"{row.key}: nothing tells how far its translation agrees with it, so the best cannot be "
                            "chosen; generate without keep_best")
        scores[item] = score
    return scores


def _best(plan: Plan, rows: dict[Item, Row]) -> set[Item]:
    """What is to be in OUT."""
    return best(_scores(plan, rows), plan.task.keep_best) if plan.task.keep_best < 1 else set(rows)


def _leave_out(plan: Plan, rows: dict[Item, Row]) -> dict[Item, Row]:
    """The rows that stay. The others are listed, and only then their files go: a kill between leaves them done."""
    if plan.task.keep_best == 1:
        return rows
    out, scores = plan.task.out, _scores(plan, rows)
    stay = best(scores, plan.task.keep_best)
    gone = [LeftOut(key=key, copy=copy, safety=scores[key, copy]) for key, copy in sorted(scores.keys() - stay)]
    files.write_text(out / LEFT_OUT, "".join(map(to_line, gone)))
    kept = {item: row for item, row in rows.items() if item in stay}
    shared = {entry.output for row in kept.values() for entry in (*row.streams.values(), *row.labels)}
    for row in (row for item, row in rows.items() if item not in stay):
        for entry in (*row.streams.values(), *row.labels):
            if entry.output not in shared:
                files.inside(out, entry.output).unlink(missing_ok=True)
    return kept


def _is_whole(plan: Plan) -> bool:
    """Whether a finished job still has its lists and tables."""
    out, names = plan.task.out, (MANIFEST, *map(table_name, plan.tables))
    names = (*names, LEFT_OUT) if plan.task.keep_best < 1 else names
    return ledger.finished(out) is not None and all((out / name).is_file() for name in names)


def _finish(plan: Plan) -> int:
    """Leave out what is not among the best, write tables and lists: only then the job is finished -> how many it left."""
    out, rows, bad = plan.task.out, _rows_done(plan), _journaled(plan.task.out)[1]
    left = _left_out(plan)
    missing = [item for item in plan.items if item not in rows and item not in bad and item not in left]
    if missing:
        raise MmcycleError(f"{out}: {len(missing)} of {len(plan.items)} are not there, the first is {missing[0][0]!r}; "
                           "run the same line again")
    bad = {item: bad[item] for item in sorted(bad) if item not in rows}
    rows = _leave_out(plan, rows)
    tables = tuple(_write_table(plan, table, rows) for table in plan.tables)
    if bad:
        files.write_text(out / QUARANTINE, "".join(to_line(row) for row in bad.values()))
    else:
        (out / QUARANTINE).unlink(missing_ok=True)

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8") as file:
            for item in sorted(rows):
                file.write(to_line(dataclasses.replace(rows[item], labels=rows[item].labels + tables)))

    files.write_atomic(out / MANIFEST, write)
    left_out = len(plan.items) - len(rows) - len(bad)
    counts = {"done": len(rows), "quarantined": len(bad), "total": len(plan.items)}
    ledger.write_job(out, plan.job, counts | ({"left_out": left_out} if left_out else {}))
    ledger.clear(out)
    return left_out


def _write_table(plan: Plan, table: str, rows: dict[Item, Row]) -> Label:
    """Copy a table byte for byte, or rewrite it so that it names all that was written and nothing else."""
    name = table_name(table)
    original, target = plan.task.source / table, files.inside(plan.task.out, name)
    before = files.sha256(original)
    names = {item: {stream: entry.output for stream, entry in row.streams.items()} for item, row in rows.items()}
    if not label_files.changes(plan.collection, names):
        files.copy_atomic(original, target)
    else:
        text = label_files.remap(plan.collection, table, names)
        files.write_atomic(target, lambda temporary: temporary.write_bytes(text) and None)
    after = files.sha256(target)
    how = "copied" if before == after else "remapped"
    return Label(source=table, source_sha256=before, output=name, sha256=after, how=how)
