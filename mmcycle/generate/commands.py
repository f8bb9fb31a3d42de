"""`mmcycle generate`, as the command line shows it; cli.py hangs it up."""
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from mmcycle.errors import UserError

Source = Annotated[Path, typer.Argument(metavar="SOURCE", help="The labelled data set: a folder, also of shards.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The new data set.")]
With = Annotated[list[str], typer.Option("--with", metavar="STREAM=RUN[:ab|:ba]", help="What translates a stream.")]
Layout = Annotated[str | None, typer.Option(help="How the data set lies on disk; found out where not given.")]
Copies = Annotated[int, typer.Option(min=1, help="Translations of each recording.")]
Strength = Annotated[str, typer.Option(metavar="[LOW:]HIGH", help="How far copies go; the first goes HIGH.")]
Seed = Annotated[int, typer.Option(help="Decides what differs between copies.")]
Checkpoint = Annotated[
    Literal["last", "best"], typer.Option(help="Of each run: the newest, or the one with the best score in training.")
]
Devices = Annotated[int, typer.Option(min=1, help="Worker processes, one for each GPU or group of cores.")]
Engine = Annotated[
    Literal["local", "ray"], typer.Option(help="Workers on this machine, or on a Ray cluster that sees all folders.")
]
OnError = Annotated[
    Literal["stop", "quarantine"], typer.Option(help="Broken recordings: stop, or list in quarantine.jsonl.")
]
Labels = Annotated[Literal["keep", "class"], typer.Option(help="Across sensors only class labels stay true.")]
KeepBest = Annotated[
    float, typer.Option(metavar="SHARE", help="Leave out those whose labels are least safe: 0.9 keeps nine of ten.")
]
Judge = Annotated[
    str | None,
    typer.Option(metavar="[STREAM=]MODULE:FUNCTION", help="Your model says how safe, before and after; else edges."),
]
To = Annotated[
    Literal["folder", "webdataset", "hf"],
    typer.Option(help="A folder like the source, WebDataset tars, or Hugging Face Parquet."),
]
ShardSize = Annotated[int, typer.Option(min=1, metavar="MB", help="Of one shard, at most; a sample is never cut.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")]


def generate(
    source: Source, out: Out, with_: With, layout: Layout = None, copies: Copies = 1, strength: Strength = "1",
    seed: Seed = 0, checkpoint: Checkpoint = "last", devices: Devices = 1, engine: Engine = "local",
    on_error: OnError = "stop", labels: Labels = "keep", keep_best: KeepBest = 1.0, judge: Judge = None,
    to: To = "folder", shard_size: ShardSize = 256, dry_run: DryRun = False,
) -> None:
    """Write a labelled data set again in the other domain: same tree, names, formats and labels. Run again to resume."""
    from mmcycle.generate.dataset import generate as run
    from mmcycle.generate.dataset import load_translator
    from mmcycle.generate.progress import job_progress

    low, _, high = strength.rpartition(":")
    with job_progress() as progress:
        job = run(
            source, out, _streams(with_), layout=layout, copies=copies, seed=seed, devices=devices, engine=engine,
            on_error=on_error, strength=(_share(low or high), _share(high)), labels=labels, keep_best=keep_best,
            judge=judge, to=to, shard_mb=shard_size, dry_run=dry_run, progress=progress,
            load=partial(load_translator, which=checkpoint),
        )
    for line in (job.outline, *(f"not part of the job: {path}: {why}" for path, why in job.strays[:10])):
        print(line)
    if len(job.strays) > 10:
        print(f"... and {len(job.strays) - 10} more")
    if not dry_run:
        counts = f"{job.done} done, {job.skipped} skipped (done before), {job.quarantined} quarantined"
        counts += f"; {job.left_out} left out" if job.left_out else ""
        print(f"{job.total} recordings: {counts}. Next: mmcycle verify {out}")


def _streams(words: list[str]) -> dict[str, str]:
    """["image=RUN:ab"] -> {"image": "RUN:ab"}."""
    streams: dict[str, str] = {}
    for word in words:
        stream, equals, run = word.partition("=")
        if not (equals and stream and run):
            raise UserError(f"--with {word!r}: expected STREAM=RUN or STREAM=RUN:ab, such as image=runs/day_to_night")
        if stream in streams:
            raise UserError(f"--with {word!r}: the stream {stream!r} is named twice")
        streams[stream] = run
    return streams


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UserError(f"--strength {text!r}: expected a number in [0, 1], or two as in 0.6:1")
    return share
