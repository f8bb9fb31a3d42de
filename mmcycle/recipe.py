"""The recipes that come with the package: a script in recipes/ and the numbers in configs/, under one name."""
import ast
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from mmcycle.errors import UserError

# Beside the package in a checkout and in site-packages alike. Importing `configs` instead would run whatever a
# user's own folder of that name holds.
CONFIGS = Path(__file__).resolve().parent.parent / "configs"
RECIPES = CONFIGS.with_name("recipes")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The header of one script, as its docstring tells it; of a config that has no script, its first line."""

    name: str
    summary: str
    needs: str = ""
    run: str = ""
    smoke: str = ""
    yields: str = ""
    expect: str = ""


def recipe_names() -> list[str]:
    """The recipes whose config can be named instead of given as a path."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def recipe_table() -> list[Recipe]:
    """Every script in recipes/, read without running it, and every config that needs none."""
    scripts = [read_header(path) for path in RECIPES.glob("*.py") if path.stem != "__init__"]
    alone = {name.removesuffix("_cpu") for name in recipe_names()} - {recipe.name for recipe in scripts}
    return sorted([*scripts, *map(_read_comment, alone)], key=lambda recipe: recipe.name)


def _read_comment(name: str) -> Recipe:
    """The first line of a config: "# What it is for. Run: how"."""
    first = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    summary, _, run = first.removeprefix("#").partition("Run:")
    return Recipe(name=name, summary=summary.strip(), run=run.strip())


def read_header(path: Path) -> Recipe:
    """The first line and the lines that start with Needs, Run, Smoke, Yields, Expect; deeper lines continue them."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first, *rest = docstring.splitlines() or [""]
    told: dict[str, str] = {}
    label = ""
    for line in rest:
        start = re.match(r"(Needs|Run|Smoke|Yields|Expect):?\s+(.*)", line)
        if start:
            label = start[1].lower()
            told[label] = start[2].strip()
        elif label and line.startswith(" ") and line.strip():
            told[label] += " " + line.strip()
        else:
            label = ""
    return Recipe(name=path.stem, summary=first.strip(), **told)


def find_config(source: str | Path, beside: Path = Path()) -> Path:
    """A bare word is a recipe's name; everything else is a path, relative to the folder `beside`."""
    names = recipe_names()
    if isinstance(source, str) and re.fullmatch(r"[\w-]+", source):
        if source in names:
            return CONFIGS / f"{source}.yaml"
        close = get_close_matches(source[:100], names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        known = f"Known: {', '.join(names)}, or the path of a YAML file."
        raise UserError(f"unknown recipe {source[:100]!r}.{hint} {known}")
    path = beside / source
    if path.stem in names and not path.exists():
        raise UserError(f"{path} does not exist. Did you mean the recipe {path.stem!r}, without .yaml?")
    return path
