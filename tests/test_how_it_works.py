"""The tutorial, as it stands there: its code runs from first to last, prints what it says, and quotes what is true."""
import ast
import contextlib
import dataclasses
import io
import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from command import mmcycle
from mmcycle.core.settings import Objective
from mmcycle.metrics import features
from mmcycle.train.health import FAULTS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
SCENES, SAMPLES = "4", "4"                      # in place of the page's: the first four are the same streets


class Block(NamedTuple):
    """A fenced block of code, and the file that was last pointed at above it."""

    language: str
    code: str
    file: str


def blocks() -> list[Block]:
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [Block(one[1], one[2], _pointed_at(PAGE[: one.start()])) for one in found]


def _pointed_at(text: str) -> str:
    links = re.findall(r"\]\(\.\./(mmcycle/[\w/]+\.py)\)", text)
    return links[-1] if links else ""


def alike(said: str, printed: str) -> bool:
    """Equal words; equal numbers up to what other processors round otherwise."""
    said, printed = said.strip(), printed.strip()
    if NUMBER.sub("#", said).split() != NUMBER.sub("#", printed).split():
        return False
    pairs = zip(NUMBER.findall(said), NUMBER.findall(printed), strict=True)
    return all(float(one) == pytest.approx(float(other), rel=0.03, abs=0.003) for one, other in pairs)


def cheaply(words: list[str], tiny: list[str]) -> list[str]:
    """The same line with small numbers; the last one of an option counts."""
    match words[0]:
        case "simulate":
            return [*words, "--scenes", SCENES]
        case "train":
            return [*words, *tiny]
        case "evaluate":
            return [*words, "--samples", SAMPLES]
    return words


def tiny_numbers() -> list[str]:
    """TINY, as the page gives it: read before the block that sets it has run."""
    return ast.literal_eval(re.search(r"^TINY = (\[.*?\])$", PAGE, re.MULTILINE | re.DOTALL)[1])


@pytest.mark.usefixtures("one_thread")
def test_every_block_of_the_page_runs_and_prints_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("open3d")
    monkeypatch.chdir(tmp_path)
    learn = features.learn
    monkeypatch.setattr(features, "learn", lambda pools, seed: learn(pools, seed, steps=3))
    names: dict[str, object] = {}
    printed = None
    for block in blocks():
        if block.language == "yaml":
            (tmp_path / block.code.split()[1]).write_text(block.code, encoding="utf-8")
        elif block.language == "console":
            for line in re.findall(r"^\$ mmcycle (.*)$", block.code, re.MULTILINE):
                said = mmcycle(*cheaply(shlex.split(line), tiny_numbers()), at=tmp_path)
                assert said.code == 0, f"mmcycle {line}\n{said.err}{said.out}"
        elif block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
                exec(compile(block.code, "docs/how-it-works.md", "exec"), names)
            printed = out.getvalue()
        elif block.language == "text":
            assert alike(block.code, printed), f"the page says\n{block.code}\nbut it prints\n{printed}"
    row = next(json.loads(block.code) for block in blocks() if block.language == "json")
    assert set(row) <= set(names["rows"][-1]) | {"health"}
    assert set(row["losses"]) <= set(names["rows"][0]["losses"])


def test_every_quoted_line_stands_in_the_file_that_is_named_above_it() -> None:
    quotes = [block for block in blocks() if block.language == "py"]
    assert len(quotes) > 5
    for quote in quotes:
        code = (ROOT / quote.file).read_text(encoding="utf-8")
        for part in quote.code.split("...\n"):
            assert part in code, f"{quote.file} no longer has\n{part}"


def test_every_weight_of_the_objective_is_explained() -> None:
    weights = {field.name for field in dataclasses.fields(Objective)}
    assert [name for name in sorted(weights) if not re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", PAGE)] == []


def test_every_fault_that_training_can_tell_is_in_the_table() -> None:
    for fault in FAULTS:
        (line,) = re.findall(rf"^\| {fault.name} \|(.*)$", PAGE, re.MULTILINE)
        limit = fault.low if fault.high == float("inf") else fault.high
        assert f"`{fault.measure}`" in line and f"{limit:g}" in line


def test_every_file_that_the_page_points_at_is_there() -> None:
    prose = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    assert len(targets) > 10 and [target for target in targets if not (ROOT / "docs" / target).exists()] == []


def test_numbers_may_differ_by_rounding_and_words_may_not() -> None:
    assert alike("adv_b 1.096\n", "adv_b 1.099") and alike("a (2, 3)\n", "a (2,  3)")
    assert not alike("adv_b 1.096", "adv_a 1.096") and not alike("adv_b 1.096", "adv_b 1.196")
    assert not alike("step 2, step 3", "step 2")
