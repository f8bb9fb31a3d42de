"""The recipes that come with the package: script, config and row of the README belong together, and all of them run."""
import csv
import json
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from command import contents, mmcycle
from mmcycle.generate.manifest import read_rows
from mmcycle.recipe import CONFIGS, RECIPES, Recipe, recipe_names, recipe_table

ROOT = RECIPES.parent
SCRIPTS = [recipe for recipe in recipe_table() if (RECIPES / f"{recipe.name}.py").exists()]
FIELDS = ("summary", "needs", "run", "smoke", "yields", "expect")


def rows(page: str) -> list[str]:
    """The first cells of the table whose first column is called "recipe" or "use", without marks."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if re.match(r"\|\s*(recipe|use)\s*\|", line))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append(re.search(r"\w+", line.split("|")[1])[0])
    return found


def promised(recipe: Recipe) -> list[str]:
    """"OUT/run (log.jsonl, the pictures), OUT/x.json" -> run, run/log.jsonl, x.json; what has a space is prose."""
    found = []
    for folder, inner in re.findall(r"OUT/([\w./-]+)(?: \(([^)]*)\))?", recipe.yields):
        names = [name.strip() for name in inner.split(",")] if inner else []
        found += [folder, *(f"{folder}/{name}" for name in names if " " not in name)]
    return found


def run_smoke(recipe: Recipe, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Smoke line as it stands in the header, in this process, into a folder of its own."""
    python, script, *words = shlex.split(recipe.smoke)
    assert (python, script) == ("python", f"recipes/{recipe.name}.py")
    monkeypatch.chdir(out)
    monkeypatch.setattr(sys, "argv", [script, *words, "--out", str(out)])
    runpy.run_path(str(ROOT / script), run_name="__main__")


def test_every_recipe_has_a_config_and_one_row_where_a_reader_looks_for_it() -> None:
    names = {name.removesuffix("_cpu") for name in recipe_names()}
    assert names <= {*recipe_names()}                               # a _cpu variant never stands alone
    assert {recipe.name for recipe in SCRIPTS} <= names
    assert sorted(rows("README.md") + rows("docs/classic_uses.md")) == sorted(names)


def test_the_list_tells_every_recipe_and_how_to_run_it() -> None:
    said = mmcycle("recipes").out
    assert [line for line in said.splitlines() if line and not line.startswith(" ")] == [
        recipe.name for recipe in recipe_table()]
    assert "run    mmcycle train relight a.root=DAY b.root=DUSK" in said
    assert "run    python recipes/day_to_night.py" in said


@pytest.mark.parametrize("name", recipe_names())
def test_a_config_loads_strictly_and_is_named_after_its_file(name: str) -> None:
    said = mmcycle("config", "check", name)
    assert (said.code, said.err) == (0, ""), said.err
    lines = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 40 and lines[0].startswith("# ") and f"mmcycle train {name} " in lines[0]


@pytest.mark.parametrize("recipe", SCRIPTS, ids=lambda recipe: recipe.name)
def test_a_header_says_what_is_needed_how_to_run_it_and_what_comes_out(recipe: Recipe) -> None:
    assert all(getattr(recipe, name) for name in FIELDS), recipe
    assert recipe.run.startswith(f"python recipes/{recipe.name}.py") and "--smoke" in recipe.smoke
    assert len((RECIPES / f"{recipe.name}.py").read_text(encoding="utf-8").splitlines()) <= 100
    assert promised(recipe)


@pytest.fixture(scope="module")
def smoked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe, pytest.MonkeyPatch], Path]:
    """Where the smoke run of a recipe lies; it is run when first asked for."""
    places: dict[str, Path] = {}

    def run(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Path:
        pytest.importorskip("open3d")
        torch.set_num_threads(1)
        if recipe.name not in places:
            out = tmp_path_factory.mktemp(recipe.name)
            run_smoke(recipe, out, monkeypatch)
            places[recipe.name] = out
        return places[recipe.name]

    return run


@pytest.mark.parametrize("recipe", SCRIPTS, ids=lambda recipe: recipe.name)
def test_a_recipe_leaves_what_it_promises_and_the_same_line_again_changes_nothing(
    recipe: Recipe, smoked: Callable[[Recipe, pytest.MonkeyPatch], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = smoked(recipe, monkeypatch)
    for name in promised(recipe):
        assert (out / name).exists(), f"{recipe.name} promises {name}"
    sets = [path.parent for path in sorted(out.rglob("manifest.jsonl")) if (path.parent / ".mmcycle").is_dir()]
    assert sets
    for folder in sets:
        assert mmcycle("verify", folder).code == 0, folder
    before = {folder: (contents(folder), written(folder)) for folder in sets}
    logs = {path: path.read_text().splitlines() for path in sorted(out.glob("*/log.jsonl"))}
    assert logs

    run_smoke(recipe, out, monkeypatch)
    for folder in sets:
        made, places = before[folder]
        assert written(folder) == places                            # nothing was even written again
        assert without_page(contents(folder)) == without_page(made)
    for path, log in logs.items():
        again = path.read_text().splitlines()
        assert again[: len(log)] == log and all('"event": "resume"' in line for line in again[len(log) :])


def test_noisy_speech_keeps_its_words_and_says_how_noisy_it_is(
    smoked: Callable[[Recipe, pytest.MonkeyPatch], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = smoked(next(recipe for recipe in SCRIPTS if recipe.name == "clean_to_noisy"), monkeypatch)
    clean, noisy = out / "domains" / "clean", out / "noisy"
    assert (noisy / "labels.csv").read_bytes() == (clean / "labels.csv").read_bytes()
    with (clean / "labels.csv").open(encoding="utf-8", newline="") as file:
        told = {row["file"]: row for row in csv.DictReader(file)}
    rows = list(read_rows(noisy))
    assert {row.streams["audio"].output for row in rows} == told.keys()
    for row in rows:
        source = told[row.streams["audio"].source]
        assert {name: row.tags.get(name, "") for name in ("label", "transcript", "speaker")} == {
            name: source[name] for name in ("label", "transcript", "speaker")
        }
        assert -30 < row.params["audio.snr_db"] < 60
        assert (noisy / row.streams["audio"].output).read_bytes() != (clean / row.streams["audio"].source).read_bytes()


def test_the_measures_of_noisy_speech_stand_beside_white_noise_and_the_untranslated_speech(
    smoked: Callable[[Recipe, pytest.MonkeyPatch], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = smoked(next(recipe for recipe in SCRIPTS if recipe.name == "clean_to_noisy"), monkeypatch)
    measured = json.loads((out / "run" / "metrics.json").read_text())
    for measure in ("WADA SNR, dB, W1 to the real", "noise floor, dB, spread", "LSD to the real, dB"):
        assert {f"{measure}: {name}" for name in ("translated", "white", "untranslated")} <= measured.keys()
    assert {"SI-SDR, dB: noisy", "SI-SDR, dB: cleaned", "SNR, dB, W1 to the real: floor"} <= measured.keys()


def written(folder: Path) -> dict[Path, tuple[int, int]]:
    """Where each file of a data set stands on the disk, and since when; a file that is written again gets another place."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "report.html" and ".mmcycle" not in path.parts)
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def without_page(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name != "report.html"}
