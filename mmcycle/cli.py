"""The command line. Importing this module imports no torch; each command imports what it needs when it runs."""
from __future__ import annotations

import os
import sys
import traceback
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.core import TyperGroup

from mmcycle import __version__
from mmcycle.errors import MmcycleError, UserError
from mmcycle.generate.commands import export, generate
from mmcycle.interruption import Interrupted
from mmcycle.metrics.commands import evaluate
from mmcycle.simulate.commands import drive, street


class Commands(TyperGroup):
    """typer answers every KeyboardInterrupt with a silent 130; here it is told, and exits with its signal's number."""

    def invoke(self, ctx: typer.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            print(f"mmcycle: {str(error) or 'interrupted'}", file=sys.stderr)
            raise typer.Exit(error.code if isinstance(error, Interrupted) else 130) from error


HELP = {
    "context_settings": {"help_option_names": ["-h", "--help"]}, "no_args_is_help": True, "add_completion": False,
    "rich_markup_mode": None,
}
app = typer.Typer(
    cls=Commands, help="Turn a labelled data set of one domain into a labelled data set of another.", **HELP
)
LISTS = HELP | {"no_args_is_help": False, "invoke_without_command": True}       # without a command it lists
recipes_app = typer.Typer(help="The recipes that come with the package.", **LISTS)
config_app = typer.Typer(help="Look at a config without running it.", **HELP)
simulate_app = typer.Typer(help="Labelled data to try everything on.", **HELP)
for name, group in (("recipes", recipes_app), ("config", config_app), ("simulate", simulate_app)):
    app.add_typer(group, name=name)


class Direction(StrEnum):
    """Which way a run translates."""

    ab = "ab"
    ba = "ba"


class Which(StrEnum):
    """A checkpoint of a run."""

    last = "last"
    best = "best"


ConfigArgument = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file or a recipe's name.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides such as train.steps=2000.")
]
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run folder, or what `export --to safetensors` or `--to hub` wrote.")
]

Checkpoint = Annotated[Which, typer.Option(help="The newest one, or the one with the best score in training.")]


def main() -> NoReturn:
    """Run one command; a mistake of the user exits with 2, a failure with 1, a signal with 128 + its number."""
    # Threads that wait in a loop take the core from the thread they wait for: ten times slower beside another process.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")         # read once, when torch is imported
    debug = "--debug" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    if not debug:
        warnings.formatwarning = lambda message, *where: f"warning: {message}\n"     # not the line of code that said it
    sys.path.append("")                 # last: my_lab.radar:Radar is found here, and nothing here hides a library
    try:
        sys.exit(app(arguments, standalone_mode=True, prog_name="mmcycle"))
    except UserError as error:
        _leave(error, 2, debug)
    except MmcycleError as error:
        _leave(error, 1, debug)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        _leave(f"{error.filename or 'the system'}: {error.strerror or error}", 1, debug)
    except Exception as error:
        said = str(error).lower()
        if isinstance(error, MemoryError) or "out of memory" in said or "can't allocate" in said:
            _leave("not enough memory: take smaller samples (a.size, b.size), train.batch_size or model.width; "
                   "`mmcycle train ... --dry-run` measures what a step needs", 1, debug)
        told = f"unexpected {type(error).__name__}: {error}"
        _leave(f"{told} (run again with --debug for the traceback, and please report it)", 1, debug)


def _leave(reason: object, code: int, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    print(f"mmcycle: {reason}", file=sys.stderr)
    sys.exit(code)


def _print(*lines: object) -> None:
    for line in lines:
        print(line)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False) -> None:
    if show:
        print(f"mmcycle {__version__}")
        raise typer.Exit()


@recipes_app.callback()
def recipes(context: typer.Context) -> None:
    """The recipes that come with the package; without a command, list them."""
    if context.invoked_subcommand is None:
        list_recipes()


@recipes_app.command("list")
def list_recipes() -> None:
    """Every recipe: what it does, what it needs and how to run it."""
    from mmcycle.recipe import recipe_table

    for recipe in recipe_table():
        told = (("needs", recipe.needs), ("run", recipe.run), ("smoke", recipe.smoke), ("expect", recipe.expect))
        _print(recipe.name, f"  {recipe.summary}", *(f"  {label:<6} {text}" for label, text in told if text), "")


@recipes_app.command("copy")
def copy_recipe(name: str, file: Path) -> None:
    """Copy a recipe's config to FILE, to change its numbers."""
    from mmcycle.files import copy_atomic
    from mmcycle.recipe import find_config

    if file.exists():
        raise UserError(f"{file} exists already; choose another name")
    copy_atomic(find_config(name), file)
    print(f"{file}: change it, then: mmcycle train {file} --out runs/{file.stem}")


@config_app.command("show")
def show_config(config: ConfigArgument, overrides: Overrides = None) -> None:
    """Print the whole config, every default written out."""
    from mmcycle.config import load_config, to_dict
    from mmcycle.strict_yaml import format_yaml

    print(format_yaml(to_dict(load_config(config, overrides or ()))), end="")


@config_app.command("schema")
def show_schema() -> None:
    """Print the JSON schema of a config, for editors."""
    import json

    from mmcycle.schema import config_schema

    print(json.dumps(config_schema(), indent=2))


@config_app.command("check")
def check_config(config: ConfigArgument, overrides: Overrides = None) -> None:
    """Say everything that is wrong with a config, or that it is right."""
    from mmcycle.config import load_config

    load_config(config, overrides or ())
    print(f"{config}: right")


@app.command()
def train(
    config: ConfigArgument,
    out: Annotated[Path, typer.Option(help="The run folder; a run of the same config goes on where it stopped.")],
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Take a few steps, measure them, write nothing.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the run that is there and begin again.")] = False,
) -> None:
    """Learn to translate between two domains without pairs."""
    from mmcycle.config import load_config

    loaded = load_config(config, overrides or ())
    if dry_run:
        from mmcycle.train.preview import preview

        _print(*preview(loaded))
        return
    from mmcycle.train.trainer import train as run

    ended = run(loaded, out, fresh=fresh)
    if ended.signal:
        told = f"mmcycle: stopped by a signal after step {ended.step}, saved; run the same line again to go on"
        print(told, file=sys.stderr)
        raise typer.Exit(128 + ended.signal)
    print(f"{ended.run}: {ended.step} steps. Next: mmcycle report {ended.run}")


@app.command()
def fit(
    config: ConfigArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT.yaml", help="The config to write, ready for `mmcycle train`.")],
    overrides: Overrides = None,
    rows: Annotated[bool, typer.Option("--rows", help="Write the measured rows in place of the sensor's.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.yaml where it exists.")] = False,
) -> None:
    """Say what the recordings of a and b tell about their sensors, and write a config that knows it."""
    from mmcycle.train.fit import fit as run

    _print(*run(config, out, overrides or (), measure=rows, force=force))


@app.command()
def match(
    config: ConfigArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT.csv", help="The table of pairs to write, for data.pairs.")],
    overrides: Overrides = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.csv where it exists.")] = False,
) -> None:
    """Find recordings of a and b that show one place in two conditions, such as a webcam by day and by night."""
    from mmcycle.train.match import match as run

    _print(*run(config, out, overrides or (), force=force))


@app.command()
def translate(
    run: RunArgument,
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Recordings or folders of them.")],
    out: Annotated[Path, typer.Option(help="The folder to write to.")],
    direction: Annotated[Direction, typer.Option(help="ab: first domain to second.")] = Direction.ab,
    strength: Annotated[float, typer.Option(min=0, max=1, help="Go only a part of the way.")] = 1.0,
    checkpoint: Checkpoint = Which.last,
    bf16: Annotated[bool, typer.Option("--bf16", help="Half the time on recent hardware, a little less exact.")] = False,
) -> None:
    """Translate single recordings; names are kept."""
    from mmcycle.generate.single import translate_files
    from mmcycle.generate.translator import Translator

    translator = Translator.load(run, direction.value, which=checkpoint.value, precision="bf16" if bf16 else "32")
    for path in translate_files(translator, inputs, out, strength):
        print(path)


app.command()(generate)


@app.command()
def verify(out: Annotated[Path, typer.Argument(metavar="OUT")]) -> None:
    """Check a generated data set: every file's hash, the counts, the labels against the source."""
    from mmcycle.generate.manifest import verify as check

    verdict = check(out)
    _print(*verdict.problems[:50])
    counts = ", ".join(f"{number} {what}" for what, number in verdict.counts.items())
    print(f"{out}: {'good' if verdict.ok else f'{len(verdict.problems)} problems'} ({counts})")
    if not verdict.ok:
        raise typer.Exit(1)


app.command()(evaluate)


@app.command()
def report(folder: Annotated[Path, typer.Argument(metavar="RUN|OUT", help="A run or a generated data set.")]) -> None:
    """Write FOLDER/report.html: one page that needs nothing else."""
    from mmcycle.report import write_report

    print(write_report(folder))


app.command()(export)


@simulate_app.callback()
def simulate() -> None:
    """Labelled data to try everything on."""


for name, simulates in (("street", street), ("drive", drive)):
    simulate_app.command(name)(simulates)


@app.command()
def check(
    modality: Annotated[str, typer.Argument(metavar="MODALITY", help="A name, or a path such as my_lab.radar:Radar.")],
    words: Annotated[list[str], typer.Argument(metavar="FILE... [FIELD=VALUE]...", help="Recordings; fields of the modality.")],
    tolerance: Annotated[float, typer.Option(help="How far a recording may move in a round trip, on [-1, 1].")] = 0.01,
) -> None:
    """Check that a sensor keeps the laws of the contract."""
    from mmcycle.config import modality_from
    from mmcycle.testing import check_modality

    files = [Path(word) for word in words if "=" not in word or Path(word).exists()]
    missing = [file for file in files if not file.exists()]
    if missing or not files:
        nothing = "no recording was named: give one or more, the laws are tried on them"
        raise UserError(f"{missing[0]} does not exist" if missing else nothing)
    fields = [word for word in words if Path(word) not in files]
    laws = check_modality(modality_from(modality, fields), files, tolerance)
    _print(*laws)
    broken = sum(not law.passed for law in laws)
    print(f"{modality}: {f'{broken} of {len(laws)} laws broken' if broken else f'keeps all {len(laws)} laws'}")
    if broken:
        raise typer.Exit(1)


@app.command()
def modalities() -> None:
    """Every kind of sensor that can be named in a config."""
    from mmcycle.modality import find_modality, known_modalities

    for name, target in sorted(known_modalities().items()):
        try:
            found = find_modality(name)
            what = (found.__doc__ or "").strip().splitlines()[0]
            _print(name, f"  {what}", f"  files  {' '.join(found.suffixes)}", f"  class  {target}", "")
        except UserError as error:
            _print(name, f"  does not import: {error}", "")


@app.command()
def doctor(config: Annotated[str | None, typer.Argument(metavar="[CONFIG]")] = None, overrides: Overrides = None) -> None:
    """Versions, device and memory; with a config also its data, and what one step costs."""
    from mmcycle.doctor import examine

    findings = examine(config, overrides or ())
    for finding in findings:
        print(f"{'ok  ' if finding.good else 'BAD '} {finding.what:<14} {finding.found}")
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)
