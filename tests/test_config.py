"""A config is read strictly, with every mistake told at once, and written back as it was."""
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from annotated_types import Gt

from mmcycle.config import Config, Data, Domain, Run, differing_keys, from_dict, load_config, save_config, to_dict
from mmcycle.core.settings import Descent, Networks, Objective
from mmcycle.errors import UserError
from mmcycle.modality import Modality
from mmcycle.schema import config_schema


@dataclass(frozen=True)
class Radar(Modality):
    """A sensor of somebody else's package."""

    suffixes: ClassVar[tuple[str, ...]] = (".radar",)
    size: Annotated[int, Gt(0)] | tuple[int, int] = 64
    channels: int = 1
    limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.channels > 100:
            raise UserError("channels of more than 100 are no radar")

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.channels, 64, 64)

    def load(self, path: Path) -> Any: ...
    def save(self, raw: Any, path: Path) -> None: ...
    def to_tensor(self, raw: Any) -> Any: ...
    def from_tensor(self, x: Any, context: Any) -> Any: ...


@dataclass(frozen=True)
class Unfinished(Modality):
    """Its members are not written yet."""


RADAR = f"{__name__}:Radar"
GOOD = f"""\
name: clear_to_rain
a: {{name: clear, root: data/clear, modality: '{RADAR}', size: 32}}
b:
  name: rain
  modality: '{RADAR}'
train:
  steps: 2_000
  lr: 5e-4
"""


def write(folder: Path, text: str, name: str = "x.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str, overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(UserError) as caught:
        load_config(write(folder, text), overrides)
    return str(caught.value)


def test_a_file_becomes_a_config_with_every_default_filled_in(tmp_path):
    config = load_config(write(tmp_path, GOOD))
    assert config == Config(
        name="clear_to_rain",
        a=Domain(name="clear", root=Path("data/clear"), modality=Radar(size=32)),
        b=Domain(name="rain", root=None, modality=Radar()),
        model=Networks(), loss=Objective(), train=Descent(steps=2000, lr=0.0005), data=Data(), run=Run(),
    )


def test_all_mistakes_are_told_at_once_in_the_order_of_the_lines(tmp_path):
    text = f"""\
name: night
a: {{name: day, modality: '{RADAR}', size: 256}}
b:
  name: night
  modality: '{RADAR}'
  chanels: 3
  size: big
train:
  step: 3
  betas: [0.5, x]
  steps: -4
loss: {{cycle: .inf, adversarial: lsgn}}
run: {{compile: on, devices: 0}}
trian: 3
"""
    path = tmp_path / "x.yaml"
    assert refusal(tmp_path, text).splitlines() == [
        f"{path}: 10 problems",
        "  x.yaml:6  b.chanels: unknown key. Did you mean 'channels'?",
        "  x.yaml:7  b.size: must be a whole number, or must be a list. Got 'big'.",
        "  x.yaml:9  train.step: unknown key. Did you mean 'steps'?",
        "  x.yaml:10  train.betas.1: must be a number. Got 'x'.",
        "  x.yaml:11  train.steps: must be greater than 0. Got -4.",
        "  x.yaml:12  loss.cycle: must be a finite number. Got inf.",
        "  x.yaml:12  loss.adversarial: must be 'lsgan', 'hinge', 'nonsaturating' or 'wgan-gp'. Got 'lsgn'.",
        "  x.yaml:13  run.compile: must be true or false. Got 'on'.",
        "  x.yaml:13  run.devices: must be greater than 0, or must be 'auto'. Got 0.",
        "  x.yaml:14  trian: unknown key. Did you mean 'train'?",
    ]


@pytest.mark.parametrize(("setting", "problem"), [
    ("train.step=3", "override train.step=3: unknown key. Did you mean 'steps'?"),
    ("trian.steps=3", "override trian.steps=3: trian: unknown key. Did you mean 'train'?"),
    ("data.colour=3", "unknown key. Allowed: shared_crop, paired, paired_fraction, pairs, workers, cache_mib, on_error."),
    ("loss={cycl: 3}", "override loss={cycl: 3}: loss.cycl: unknown key. Did you mean 'cycle'?"),
    ("train.steps.x=3", "override train.steps.x=3: train.steps is 2000, which has no keys below it"),
    ("train", "override train: expected key=value"),
    ("=3", "override =3: expected key=value"),
    ("train..steps=3", "expected key=value"),
    ("a." * 10_000 + "b=3", "expected key=value"),
    ("train.steps=[1", "override train.steps=[1: while parsing a flow sequence"),
    ("train.steps=*a", "override train.steps=*a: anchors and aliases"),
    ("train.steps=!!python/name:os.system", "tags are not allowed"),
    ("train.steps=", "override train.steps=: must be a whole number. Got None."),
    ("train.steps=2.5", "override train.steps=2.5: must be a whole number. Got 2.5."),
    ("train.steps='20'", "must be a whole number. Got '20'."),
    ("train.steps=true", "must be a whole number. Got True."),
    ("train.steps=10000000000000000000", "is too large a number"),
    ("train.lr=1e400", "must be a finite number. Got inf."),
    ("train.lr=.nan", "must be a finite number. Got nan."),
    ("train.betas=[0.5, .nan]", "must be a finite number"),
    ("train.betas=[0.5]", "train.betas.1: is missing."),
    ("train.betas=[0.5, 0.9, 0.9]", "must have at most 2 items. Got [0.5, 0.9, 0.9]."),
    ("train.diff_augment=[colour]", "train.diff_augment.0: must be 'color', 'translation' or 'cutout'. Got 'colour'."),
    ("train=5", "must be a section of `key: value` lines. Got 5."),
    ("a=5", "must be a section with name, root and modality. Got 5."),
    ("a.modality=", "override a.modality=: is missing."),
    ("a.modality=imgae", "unknown modality 'imgae'. Did you mean 'image'?"),
    ("a.modality=os:system", "is not a class derived from"),
    ("a.modality=.x:y", "could not be imported"),
    ("a.modality=5", "must be a name or an import path such as 'my_lab.radar:Radar'. Got 5."),
    (f"b.modality={__name__}:Unfinished", "Unfinished cannot be built"),
    ("a.channels=101", "a: channels of more than 100 are no radar"),
    ("a.limits=[0.0, [.inf]]", "must be a finite number"),
    ("a.root=5", "must be the path of a folder. Got 5."),
    ("a.root=''", "must be the path of a folder. Got ''."),
    ("a.name=rain", "a.name and b.name are both 'rain'"),
    ("name=../x", "must be up to 100 letters, digits and _ . + -, a letter or digit first. Got '../x'."),
    ("name=", "override name=: is missing."),
    ("base=other.yaml", "override base=other.yaml: unknown key."),
])
def test_a_mistake_in_an_override_names_the_override(tmp_path, setting, problem):
    assert problem in refusal(tmp_path, GOOD, (setting,))


def test_the_member_of_a_union_that_came_furthest_speaks(tmp_path):
    told = refusal(tmp_path, GOOD, ("a.size=[8, x]",)).splitlines()
    assert told[1:] == ["  override a.size=[8, x]: a.size.1: must be a whole number. Got 'x'."]


def test_overrides_are_read_as_yaml_and_the_last_one_counts(tmp_path):
    settings = ["train.steps=1e3", "train.steps=2e3", "train.betas=[0.5, 0.9]", "a.root=data/other", "run.compile=true"]
    settings += ["a.size=[8, 16]", "run.devices=auto", "loss.identity_end=null"]
    config = load_config(write(tmp_path, GOOD), settings)
    assert config.train == Descent(steps=2000, lr=0.0005, betas=(0.5, 0.9))
    assert config.a == Domain(name="clear", root=Path("data/other"), modality=Radar(size=(8, 16)))
    assert config.run == Run(compile=True)


def test_an_override_reaches_a_section_that_the_file_leaves_empty(tmp_path):
    assert load_config(write(tmp_path, GOOD + "loss:\n"), ["loss.cycle=3"]).loss == Objective(cycle=3.0)


def test_a_misspelt_modality_key_is_told_as_such(tmp_path):
    told = refusal(tmp_path, GOOD.replace("  modality", "  modalty"))
    assert "x.yaml:3  b.modality: is missing." in told
    assert "x.yaml:5  b.modalty: unknown key. Did you mean 'modality'?" in told


def test_missing_domains_are_told(tmp_path):
    assert refusal(tmp_path, "name: x\n").splitlines()[1:] == ["  a: is missing.", "  b: is missing."]


def test_only_the_first_fifty_problems_are_told(tmp_path):
    told = refusal(tmp_path, GOOD + "".join(f"k{i}: 1\n" for i in range(60))).splitlines()
    assert len(told) == 52 and told[0].endswith("60 problems") and told[-1] == "  ... and 10 more"


@pytest.mark.parametrize(("settings", "problem"), [
    (("loss.cycle=0",), "loss.cycle=0: is 0, but loss.consistency is 'cycle', which needs loss.cycle above 0"),
    (("loss.consistency=both", "loss.cycle=0"), "loss.cycle=0: is 0, but loss.consistency is 'both'"),
    (("loss.consistency=nce", "loss.nce=0"), "loss.nce=0: is 0, but loss.consistency is 'nce'"),
    (("loss.adversarial=wgan-gp", "loss.gradient_penalty=0"), "loss.gradient_penalty=0: is 0, but loss.adversarial is"),
    (("loss.task=1",), "loss.task=1: needs loss.task_network"),
    (("loss.paired=1",), "loss.paired=1: needs data.paired: true"),
    (("train.warm_up=2000",), "train.warm_up=2000: is 2000, which leaves no step after it: train.steps is 2000"),
])
def test_choices_that_contradict_each_other_are_refused(tmp_path, settings, problem):
    assert problem in refusal(tmp_path, GOOD, settings)


@pytest.mark.parametrize("settings", [
    ("loss.consistency=nce", "loss.cycle=0"),
    ("loss.paired=1", "data.paired=true"),
    ("loss.task=1", "loss.task_network=my_lab.nets:segmenter"),
    ("a.size=[8, 16]", "loss.identity=0", "run.seed=9223372036854775807", "train.diff_augment=[color, cutout]"),
    ("a.root='5e-4'", "b.root='null'", "b.limits=[-1e-30, 1.7976931348623157e308]", "run.save_minutes=1e-5"),
    ("a.root='a: b #c'", "b.root=\"\\u00e9\\u2028\\U0001F600\\t\"", "loss.task_network='on'"),
    ("a.root='1_000'", "b.root='2026-01-01'", "loss.task_network='~'"),
])
def test_a_saved_config_loads_as_the_same_config(tmp_path, settings):
    config = load_config(write(tmp_path, GOOD), settings)
    save_config(config, tmp_path / "run" / "config.yaml")
    assert load_config(tmp_path / "run" / "config.yaml") == config
    assert from_dict(to_dict(config)) == config


def test_a_saved_config_says_everything_and_names_the_modality(tmp_path):
    values = to_dict(load_config(write(tmp_path, GOOD)))
    assert list(values) == ["name", "a", "b", "model", "loss", "train", "data", "run"]
    assert values["a"] == {
        "name": "clear", "root": "data/clear", "modality": RADAR, "size": 32, "channels": 1, "limits": None,
    }
    assert values["train"]["betas"] == [0.5, 0.999]


def test_a_dictionary_is_checked_as_strictly_as_a_file(tmp_path):
    values = to_dict(load_config(write(tmp_path, GOOD)))
    values["train"]["stops"] = 1
    values["a"]["root"] = "half \ud800"
    with pytest.raises(UserError) as caught:
        from_dict(values, "runs/x/checkpoint.json")
    assert "runs/x/checkpoint.json: 2 problems" in str(caught.value)
    assert "train.stops: unknown key. Did you mean 'steps'?" in str(caught.value)
    assert "a.root: must be text without NUL and halves of surrogate pairs" in str(caught.value)


def test_a_dictionary_that_json_cannot_hold_is_refused():
    for odd in (b"x", 10**5000, {("a",): 1}):
        with pytest.raises(UserError, match="checkpoint: holds what JSON cannot"):
            from_dict({"name": odd}, "checkpoint")


def test_a_dictionary_without_an_end_is_refused():
    endless: dict[str, Any] = {}
    endless["a"] = endless
    for values in (endless, [1], None):
        with pytest.raises(UserError, match="expected the sections of a config, nested at most 20 levels deep"):
            from_dict(values)


def test_differing_keys_names_what_changed(tmp_path):
    old = load_config(write(tmp_path, GOOD))
    new = replace(old, train=replace(old.train, betas=(0.5, 0.9)), a=replace(old.a, root=None))
    assert differing_keys(old, old) == []
    assert differing_keys(old, new) == [("a.root", "data/clear", None), ("train.betas", [0.5, 0.999], [0.5, 0.9])]


def test_a_file_builds_on_its_base_key_by_key(tmp_path):
    write(tmp_path, GOOD, "base.yaml")
    config = load_config(write(tmp_path, "base: base.yaml\nname: longer\ntrain: {steps: 9000}\na: {size: 16}\n"))
    assert (config.name, config.train) == ("longer", Descent(steps=9000, lr=0.0005))
    assert config.a == Domain(name="clear", root=Path("data/clear"), modality=Radar(size=16))


def test_a_mistake_in_a_base_is_told_with_the_file_it_stands_in(tmp_path):
    write(tmp_path, GOOD.replace("steps", "step"), "base.yaml")
    told = refusal(tmp_path, "base: base.yaml\ntrain: {lrr: 1}\n")
    assert "  base.yaml:7  train.step: unknown key. Did you mean 'steps'?" in told
    assert "  x.yaml:2  train.lrr: unknown key. Did you mean 'lr'?" in told


def test_a_base_of_a_base_is_refused(tmp_path):
    write(tmp_path, "name: x\nbase: more.yaml\n", "base.yaml")
    assert f"{tmp_path / 'base.yaml'}:2  base: a base must not have a base" in refusal(tmp_path, "base: base.yaml\n")
    assert "base: a base must not have a base" in refusal(tmp_path, "base: x.yaml\n")
    assert "x.yaml:1  base: must be the path of a YAML file or a" in refusal(tmp_path, "base: 3\n")
    assert "none.yaml does not exist" in refusal(tmp_path, "base: none.yaml\n")


def test_a_recipe_is_loaded_by_its_name_and_can_be_a_base(tmp_path):
    config = load_config("day_to_night", ["train.steps=10"])
    assert (config.name, config.a.name, config.b.name) == ("day_to_night", "day", "night")
    assert to_dict(config)["a"]["modality"] == "image" and config.a.modality.shape == (3, 256, 256)
    child = load_config(write(tmp_path, "base: day_to_night\nname: mine\n"))
    assert child == replace(load_config("day_to_night"), name="mine")


def test_an_unknown_recipe_is_told_with_the_nearest_name():
    with pytest.raises(UserError, match="unknown recipe 'day_to_nigth'. Did you mean 'day_to_night'?"):
        load_config("day_to_nigth")
    with pytest.raises(UserError, match="nowhere/day_to_night.yaml does not exist. Did you mean the recipe"):
        load_config("nowhere/day_to_night.yaml")


def test_no_torch_is_imported_to_read_a_config():
    code = (
        "import sys; from mmcycle.config import load_config, to_dict; from mmcycle.schema import config_schema\n"
        "to_dict(load_config('day_to_night')); config_schema(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


def test_the_schema_describes_every_section_and_the_built_in_modalities():
    schema = config_schema()
    assert list(schema["properties"]) == ["base", "name", "a", "b", "model", "loss", "train", "data", "run"]
    definitions = schema["$defs"]
    assert definitions["Descent"]["properties"]["steps"] == {
        "type": "integer", "exclusiveMinimum": 0, "default": 200000, "title": "Steps",
    }
    image = next(kind for kind in definitions["domain"]["anyOf"] if kind.get("title") == "image")
    assert {"name", "root", "modality", "size", "channels"} <= set(image["properties"])
    references = {part["$ref"] for part in schema["properties"].values() if "$ref" in part}
    assert references <= {f"#/$defs/{name}" for name in definitions}
