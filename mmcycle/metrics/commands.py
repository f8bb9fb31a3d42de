"""`mmcycle evaluate`, as the command line shows it; cli.py hangs it up."""
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from mmcycle.errors import UserError

Runs = Annotated[list[Path], typer.Argument(
    metavar="RUN...", help="A run folder, or a file made by `export --to safetensors`; with --downstream several.")]
Real = Annotated[Path | None, typer.Option(help="Real recordings to compare with; the run's own where not given.")]
Source = Annotated[Path | None, typer.Option(help="Recordings to translate; the run's own where not given.")]
Samples = Annotated[int, typer.Option(min=4, help="Of each set, at most.")]
Seed = Annotated[int, typer.Option(help="Decides which samples, and what the networks learn.")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write every number there too.")]
Downstream = Annotated[
    bool, typer.Option("--downstream", help="Teach networks on translations and test them on real recordings.")
]
Test = Annotated[Path | None, typer.Option(help="With --downstream: labelled recordings of the target, to test on.")]
SourceTest = Annotated[Path | None, typer.Option(help="With --downstream: labelled recordings of the source.")]
Seeds = Annotated[int, typer.Option(min=1, max=20, help="With --downstream: networks taught on each training set.")]
Size = Annotated[str | None, typer.Option(metavar="HxW", help="With --downstream: what networks see; the run's crops.")]
Learner = Annotated[
    str | None, typer.Option(metavar="MODULE:FUNCTION", help="With --downstream: (channels, classes) -> your network.")
]
Steps = Annotated[int | None, typer.Option(min=1, help="With --downstream: of each network; 25 passes, 600 at least.")]
Copies = Annotated[int, typer.Option(min=1, help="With --downstream: translations of each recording.")]
KeepBest = Annotated[float, typer.Option(metavar="SHARE", help="With --downstream: as of generate.")]
Void = Annotated[list[int] | None, typer.Option(metavar="N", help="With --downstream: a value of masks to leave out.")]
SelfTrain = Annotated[bool, typer.Option(
    "--self-train", help="With --downstream: every network also trains itself on the unlabelled --real.")]
Checkpoint = Annotated[Literal["last", "best"], typer.Option(help="With --downstream: of each run.")]


def evaluate(
    runs: Runs,
    direction: Annotated[Literal["ab", "ba"], typer.Option(help="ab: first domain to second.")] = "ab",
    real: Real = None, source: Source = None, samples: Samples = 200, seed: Seed = 0, json: Json = None,
    downstream: Downstream = False, test: Test = None, source_test: SourceTest = None, seeds: Seeds = 5,
    size: Size = None, learner: Learner = None, steps: Steps = None, copies: Copies = 1, keep_best: KeepBest = 1.0,
    void: Void = None, self_train: SelfTrain = False, checkpoint: Checkpoint = "last",
) -> None:
    """Is a translation realistic, did it keep the meaning, has it collapsed? Numbers, each beside what to expect.

    With --downstream: does training on translations help on labelled real recordings (--test)?
    """
    if downstream:
        found = _downstream(
            runs, checkpoint, test=test, source=source, real=real, source_test=source_test, direction=direction,
            seeds=seeds, seed=seed, size=_size(size), learner=learner, steps=steps, copies=copies, keep_best=keep_best,
            voids=tuple(void or ()), self_train=self_train,
        )
    else:
        found = _examine(runs, test, direction=direction, real=real, source=source, samples=samples, seed=seed)
    if json is not None:
        from mmcycle.files import write_json

        write_json(json, found)


def _examine(runs: list[Path], test: Path | None, **asked: object) -> dict[str, object]:
    from mmcycle.metrics.evaluate import evaluate as examine
    from mmcycle.metrics.scorecard import print_scorecard

    if len(runs) > 1:
        raise UserError(f"{len(runs)} runs: without --downstream one is examined at a time")
    if test is not None:
        raise UserError(f"--test {test} belongs to --downstream; held-out recordings of the target are --real")
    found = examine(runs[0], **asked)
    print_scorecard(found)
    return found.to_dict()


def _downstream(
    runs: list[Path], checkpoint: Literal["last", "best"], test: Path | None, **asked: object
) -> dict[str, object]:
    from functools import partial

    from mmcycle.generate.dataset import load_translator
    from mmcycle.metrics.gain import Question, downstream
    from mmcycle.metrics.scorecard import print_gain

    if test is None:
        raise UserError("--downstream needs --test DIR: labelled recordings of the target that no run was trained on")
    found = downstream(runs, Question(test=test, **asked), partial(load_translator, which=checkpoint))
    print_gain(found)
    return found.to_dict()


def _size(text: str | None) -> tuple[int, int] | None:
    """"64x32" -> height, width."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if found is None:
        raise UserError(f"--size {text!r}: expected HEIGHTxWIDTH in pixels, such as 64x32")
    return int(found[1]), int(found[2])
