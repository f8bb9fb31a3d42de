"""The recipes are found by name, and their headers read without running them."""

import pytest

from mmcycle.config import load_config
from mmcycle.errors import UserError
from mmcycle.recipe import CONFIGS, Recipe, find_config, read_header, recipe_names, recipe_table


def test_a_header_is_read_without_running_the_script(tmp_path):
    path = tmp_path / "rain.py"
    path.write_text('''"""Clear -> rain: wet sweeps out of dry ones.

Needs   two folders of sweeps
        (or nothing: --smoke draws them)
Run     python recipes/rain.py --root DATA
Smoke   python recipes/rain.py --smoke

Told in the paper.
Expect: 3 dB
"""
raise SystemExit("a recipe was run")
''')
    assert read_header(path) == Recipe(
        name="rain",
        summary="Clear -> rain: wet sweeps out of dry ones.",
        needs="two folders of sweeps (or nothing: --smoke draws them)",
        run="python recipes/rain.py --root DATA",
        smoke="python recipes/rain.py --smoke",
        expect="3 dB",
    )


def test_a_script_without_a_header_has_an_empty_one(tmp_path):
    (tmp_path / "bare.py").write_text("x = 1\n")
    assert read_header(tmp_path / "bare.py") == Recipe(name="bare", summary="")


def test_every_script_and_every_config_without_one_is_in_the_table_once():
    scripts = {path.stem for path in CONFIGS.with_name("recipes").glob("*.py") if path.stem != "__init__"}
    configs = {name.removesuffix("_cpu") for name in recipe_names()}
    table = {recipe.name: recipe for recipe in recipe_table()}
    assert list(table) == sorted(scripts | configs) and len(recipe_table()) == len(table)
    assert table["relight"].summary == "Labelled photographs in another light, nothing moved."
    assert table["relight"].run == "mmcycle train relight a.root=DAY b.root=DUSK --out runs/relight"


def test_a_bare_word_is_a_recipe_and_anything_else_a_path(tmp_path):
    assert find_config("day_to_night") == CONFIGS / "day_to_night.yaml"
    assert find_config("other.yaml", beside=tmp_path) == tmp_path / "other.yaml"
    with pytest.raises(UserError, match="unknown recipe 'other'. Known: .*day_to_night"):
        find_config("other")


@pytest.mark.parametrize("name", recipe_names())
def test_a_config_is_short_and_begins_with_its_command(name):
    path = CONFIGS / f"{name}.yaml"
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 40
    assert lines[0].startswith("# ") and f"mmcycle train {name}" in lines[0]
    assert load_config(name).name == name.removesuffix("_cpu")      # the same run with the numbers of a smaller machine
