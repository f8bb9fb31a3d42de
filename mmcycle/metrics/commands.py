"""`mmcycle evaluate`, as the command line shows it; cli.py hangs it up."""
from pathlib import Path
from typing import Annotated, Literal

import typer

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a file made by `export --to safetensors`.")]
Real = Annotated[Path | None, typer.Option(help="Real recordings to compare with; the run's own where not given.")]
Source = Annotated[Path | None, typer.Option(help="Recordings to translate; the run's own where not given.")]
Samples = Annotated[int, typer.Option(min=4, help="Of each set, at most.")]
Seed = Annotated[int, typer.Option(help="Decides which samples, and what the features learn.")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write every number there too.")]


def evaluate(
    run: Run,
    direction: Annotated[Literal["ab", "ba"], typer.Option(help="ab: first domain to second.")] = "ab",
    real: Real = None,
    source: Source = None,
    samples: Samples = 200,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Is a translation realistic, did it keep the meaning, has it collapsed? Numbers, each beside what to expect."""
    from mmcycle.files import write_json
    from mmcycle.metrics.evaluate import evaluate as examine
    from mmcycle.metrics.scorecard import print_scorecard

    found = examine(run, direction=direction, real=real, source=source, samples=samples, seed=seed)
    print_scorecard(found)
    if json is not None:
        write_json(json, found.to_dict())
