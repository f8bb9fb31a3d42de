"""The page: a folder -> report.html, which needs no server and nothing from the network.

Its one script, which plays and turns what is no picture, is let in by its hash: nothing that a manifest says can run.
"""
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mmcycle import __version__
from mmcycle.errors import UserError
from mmcycle.files import write_text
from mmcycle.report import curves
from mmcycle.report.dataset import describe_dataset
from mmcycle.report.run import describe_run

NAME = "report.html"


class Script(NamedTuple):
    """The text between the tags, and what the page's policy says of it."""

    text: Markup
    hash: str


def write_page(folder: Path) -> Path:
    """A run has a log or a config, a data set has a manifest; UserError for any other folder."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; a report is about a run or a generated data set")
    if (folder / "manifest.jsonl").is_file():
        text = render("dataset.html", describe_dataset(folder))
    elif (folder / "log.jsonl").is_file() or (folder / "config.yaml").is_file():
        text = render("run.html", describe_run(folder))
    elif (folder / ".mmcycle" / "job.json").is_file():
        raise UserError(f"{folder} is not finished, so it has no manifest.jsonl yet; run `mmcycle generate` again")
    else:
        raise UserError(
            f"{folder} has neither log.jsonl nor config.yaml (a run) nor manifest.jsonl (a data set); "
            "give the folder that `mmcycle train` or `mmcycle generate` wrote"
        )
    write_text(folder / NAME, text.encode("utf-8", "replace").decode())     # half a surrogate pair has no UTF-8
    return folder / NAME


def render(template: str, values: dict[str, Any]) -> str:
    """A template of this folder, filled in; all values are escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(plot=curves, version=__version__, script=_script())
    return environment.get_template(template).render(values)


def _script() -> Script:
    text = (Path(__file__).parent / "exhibits.js").read_text(encoding="utf-8")
    digest = sha256(text.encode()).digest()
    return Script(Markup(text), f"sha256-{b64encode(digest).decode()}")
