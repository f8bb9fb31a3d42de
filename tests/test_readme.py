"""Every command of README.md is run as it stands there, in one folder, from the first to the last."""
import ast
import contextlib
import io
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from command import mmcycle
from mmcycle.modalities.lidar import Lidar
from mmcycle.modalities.range_files import RangeImage
from mmcycle.recipe import RECIPES
from tiny_places import by_night, place, view
from tiny_run import photographs
from tiny_sound import sounds

ROOT = RECIPES.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TAKES_OVERRIDES = ("train", "fit", "match", "doctor")       # lines that are made cheap with the recipe's own SMOKE numbers
RUN_INLINE = ("recipes", "config", "modalities")


class Block(NamedTuple):
    """A fenced block of code."""

    language: str
    code: str


def blocks(text: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def commands(code: str) -> Iterator[list[str]]:
    """The words of each line; prompts and comments go, a line that ends with a backslash goes on."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words:
            yield words


def inline_commands(text: str) -> list[list[str]]:
    """`mmcycle ...` within a sentence."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [shlex.split(found) for found in re.findall(r"`(mmcycle [^`\n]+)`", prose)]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def smoke_numbers(config: str) -> list[str]:
    """SMOKE of the recipe that a config belongs to, read without running it."""
    tree = ast.parse((RECIPES / f"{config.removesuffix('_cpu')}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "SMOKE":
            return ast.literal_eval(node.value)
    raise AssertionError(f"recipes/{config}.py has no SMOKE")


def make_inputs(text: str, folder: Path) -> None:
    """The folders and files that a reader has already: domains, the data set to be translated, and what is named in them."""
    code = "\n".join(block.code for block in blocks(text))
    roots = set(re.findall(r"\b[ab]\.root=(\S+)", code))
    for number, root in enumerate(sorted(roots)):
        if root.startswith("simulated"):
            continue                                            # the README has it made
        if root.startswith("speech"):
            sounds(folder / root, 3, seed=number)
            continue
        if root.startswith("sweeps"):
            sweeps(folder / root)
            continue
        if root.startswith("webcams"):
            for seed in range(24):                              # the same places in both
                scene = place(seed)
                view(by_night(scene, seed) if root.endswith("night") else scene, folder / root / f"{seed:02d}.png")
            continue
        photographs(folder / root, count=9, seed=number)
        (folder / root / "00.json").write_text('{"car": [1, 2, 3, 4]}')
    for path in sorted(set(re.findall(r"[\w./-]+\.(?:jpg|png)", code))):
        if str(Path(path).parent) in roots:
            gentle_photograph(folder / path)


def sweeps(folder: Path) -> None:
    """Of the sensor that a Lidar is unless told otherwise: walls around it, from 5 to 15 m away."""
    lidar, walls = Lidar(), np.linspace(5, 15, 1024, dtype=np.float32)[None].repeat(64, 0)
    for index in range(3):
        folder.mkdir(parents=True, exist_ok=True)
        lidar.save(RangeImage(walls + index, np.full_like(walls, 0.3)), folder / f"{index}.bin")


def gentle_photograph(path: Path) -> None:
    """A slope of light, which JPEG keeps as well as it keeps a true photograph; noise it does not."""
    slope = np.linspace(40, 200, 40 * 40 * 3).reshape(40, 40, 3)
    Image.fromarray(slope.astype(np.uint8)).save(path)


def run_line(words: list[str], folder: Path) -> None:
    """Run one line of a block, or check what cannot be run here."""
    program, *rest = words
    if program == "make":
        assert rest and set(rest) <= make_targets(), f"the Makefile has no {rest}"
    elif program == "python" and rest[0].startswith(("recipes/", "benchmarks/")):
        assert (ROOT / rest[0]).is_file(), rest[0]              # run by test_recipes.py
    elif program == "mmcycle":
        for line in cheaply(rest):
            said = mmcycle(*line, at=folder)
            assert said.code == 0, f"mmcycle {' '.join(line)}\n{said.err}{said.out}"
    else:
        raise AssertionError(f"{' '.join(words)}: test_readme.py does not know how to run this")


def cheaply(words: list[str]) -> Iterator[list[str]]:
    """The same line with small numbers; several devices are asked for without work, because starting them costs seconds."""
    if words[0] == "simulate":
        yield [*words, "--scenes", "2"]                         # the last one counts
    elif words[0] in TAKES_OVERRIDES and not words[1].endswith(".yaml"):        # that one was made with them
        yield [*words, *smoke_numbers(words[1])]
    elif "--devices" in words:
        yield [*words, "--dry-run"]
        yield [*words, "--devices", "1"]
    else:
        yield words


def test_every_block_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("open3d")
    torch.set_num_threads(1)
    make_inputs(README, tmp_path)
    monkeypatch.chdir(tmp_path)
    ran = 0
    for number, block in enumerate(blocks(README)):
        if block.language in ("bash", "sh"):
            for words in commands(block.code):
                run_line(words, tmp_path)
                ran += 1
        elif block.language == "python":
            (tmp_path / f"block_{number}.py").write_text(block.code, encoding="utf-8")
            with contextlib.redirect_stdout(io.StringIO()):
                runpy.run_path(f"block_{number}.py")
            ran += 1
    assert ran > 5
    for words in inline_commands(README):
        if words[1] in RUN_INLINE:
            run_line(words, tmp_path)
        else:
            assert mmcycle(words[1], "--help").code == 0, words


def test_every_file_that_the_readme_points_at_is_there() -> None:
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", README) if "://" not in target]
    assert targets and [target for target in targets if target and not (ROOT / target).exists()] == []


def test_every_script_and_target_in_the_readme_is_there() -> None:
    spans = re.findall(r"`((?:python|make) [^`\n]+)`", README)
    for words in map(shlex.split, spans):
        run_line(words, ROOT)


def test_blocks_are_found_with_their_language_and_lines_with_their_words() -> None:
    text = "a\n```bash\n$ mmcycle x \\\n  y   # why\n\n# only a comment\nmake 'a b'\n```\n```\nno language\n```\n"
    (block,) = blocks(text)
    assert block.language == "bash"
    assert list(commands(block.code)) == [["mmcycle", "x", "y"], ["make", "a b"]]
    assert inline_commands(text + "use `mmcycle z` or\n`other`") == [["mmcycle", "z"]]


def test_a_line_that_cannot_be_run_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="curl x: test_readme.py does not know how to run this"):
        run_line(["curl", "x"], tmp_path)
    with pytest.raises(AssertionError, match="the Makefile has no .*nothing"):
        run_line(["make", "nothing"], tmp_path)
    with pytest.raises(AssertionError, match="mmcycle trian"):
        run_line(["mmcycle", "trian"], tmp_path)
