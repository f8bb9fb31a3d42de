"""`mmcycle generate` and `mmcycle export`, as the command line shows them; cli.py hangs them up."""
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
Smooth = Annotated[
    float, typer.Option(help="Of films: how much of the change stays from frame to frame where nothing moves; 0: none.")
]
ShardSize = Annotated[int, typer.Option(min=1, metavar="MB", help="Of one shard, at most; a sample is never cut.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")]

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a file made by `export --to safetensors`.")]
Exported = Annotated[Path, typer.Argument(metavar="FILE", help="What to write; a new folder for hub.")]
ExportTo = Annotated[
    Literal["onnx", "pt2", "safetensors", "hub"],
    typer.Option(help="One file, or hub: a folder with all directions and a model card, for the Hugging Face Hub."),
]
Direction = Annotated[
    Literal["ab", "ba"] | None, typer.Option(help="ab: first domain to second, the default; hub takes all.")
]
License = Annotated[str | None, typer.Option(metavar="NAME", help="With hub: as the Hub names it, such as apache-2.0.")]


def generate(
    source: Source, out: Out, with_: With, layout: Layout = None, copies: Copies = 1, strength: Strength = "1",
    seed: Seed = 0, checkpoint: Checkpoint = "last", devices: Devices = 1, engine: Engine = "local",
    on_error: OnError = "stop", labels: Labels = "keep", keep_best: KeepBest = 1.0, judge: Judge = None,
    smooth: Smooth = 0.8, to: To = "folder", shard_size: ShardSize = 256, dry_run: DryRun = False,
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
            judge=judge, smooth=smooth, to=to, shard_mb=shard_size, dry_run=dry_run, progress=progress,
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


def export(
    run: Run, file: Exported, to: ExportTo, direction: Direction = None, checkpoint: Checkpoint = "last",
    license: License = None,
) -> None:
    """Write a trained model for others, after comparing it with torch: one direction as a file, or all to share."""
    from mmcycle.generate.export import export as write
    from mmcycle.generate.export import share
    from mmcycle.generate.translator import Translator

    if to == "hub" and direction is not None:
        raise UserError("--direction: a shared folder holds all directions of the run; leave it out")
    if to != "hub" and license is not None:
        raise UserError(f"--license: a model card tells it, and --to {to} writes none; leave it out")
    if to == "hub":
        difference = share(run, file, which=checkpoint, license=license)
    else:
        difference = write(Translator.load(run, direction or "ab", which=checkpoint, device="cpu"), to, file)
    print(f"{file}: largest difference from torch {difference:.2g}")
    if to == "hub":
        print(f"Read {file / 'README.md'}, then: hf upload USER/{file.resolve().name} {file}")


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
