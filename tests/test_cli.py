"""The command line: what each command says, what it leaves behind, and how it ends."""
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from command import contents, mmcycle, refused
from mmcycle import __version__
from mmcycle.cli import main
from mmcycle.recipe import recipe_names
from mmcycle.strict_yaml import parse_yaml
from mmcycle.train import preview, trainer
from tiny_run import photographs, rows, steps_saved, tiny_yaml

STEPS = 6
ROOT = Path(__file__).parents[1]
COMMANDS = (
    "train", "translate", "generate", "verify", "report", "recipes", "recipes list", "recipes copy", "config", "config show",
    "config schema", "config check", "fit", "match", "evaluate", "check", "modalities", "doctor", "export",
    "simulate", "simulate street", "simulate drive",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """root/day (labelled), root/night, root/tiny.yaml and root/run, the one run that all tests share."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("cli")
    tiny_yaml(root)
    (root / "day" / "00.json").write_text('{"car": [1, 2, 3, 4]}\n')
    said = mmcycle("train", root / "tiny.yaml", "--out", root / "run", f"train.steps={STEPS}")
    assert said.code == 0, said
    assert said.out == f"{root}/run: {STEPS} steps. Next: mmcycle report {root}/run\n"
    return root


@pytest.fixture
def run(root: Path) -> Path:
    return root / "run"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


# Before any work


def test_questions_are_answered_without_torch() -> None:
    """None in sys.modules makes every import of that name fail."""
    questions = [
        "--help", "--version", "recipes", "recipes list", "config show day_to_night", "config check day_to_night", "config schema",
        "modalities", "train --help", "translate --help",
    ]
    code = f"""
import contextlib, io, sys
for heavy in ("torch", "torchvision", "torchaudio", "open3d", "librosa", "lightning_fabric", "safetensors.torch"):
    sys.modules[heavy] = None
from mmcycle.cli import main
for question in {questions}:
    sys.argv, out = ["mmcycle", *question.split()], io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            main()
    except SystemExit as ended:
        print(question, "->", ended.code or 0, len(out.getvalue()) > 10)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert ran.stdout.splitlines() == [f"{question} -> 0 True" for question in questions], ran.stderr


def test_python_m_mmcycle_is_the_command_line_and_imports_no_torch() -> None:
    code = "import runpy, sys; sys.argv = ['mmcycle', '--help']\ntry: runpy.run_module('mmcycle', run_name='__main__')\n" \
           "finally: print(sorted({'torch', 'open3d', 'numpy'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert ran.returncode == 0 and ran.stderr == ""
    assert ran.stdout.startswith("Usage: mmcycle") and ran.stdout.endswith("[]\n")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_a_help_of_its_own(command: str) -> None:
    said = mmcycle(*command.split(), "--help")
    assert said.code == 0 and said.err == ""
    assert said.out.startswith(f"Usage: mmcycle {command}".rstrip())
    assert len(said.out.split("\n\n")[1].strip()) > 20          # what it does
    assert said.out == mmcycle(*command.split(), "-h").out


def test_the_help_lists_every_command() -> None:
    listed = mmcycle("--help").out.partition("Commands:")[2]
    assert set(re.findall(r"^  (\w+)", listed, re.MULTILINE)) == {command.split()[0] for command in COMMANDS}


def test_a_warning_is_one_line_without_the_code_that_said_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    assert mmcycle("--version").code == 0
    assert warnings.formatwarning("it is dark", UserWarning, "code.py", 3, "x = 1") == "warning: it is dark\n"


def test_the_version_is_that_of_the_package() -> None:
    assert mmcycle("--version").out == f"mmcycle {__version__}\n"


def test_no_command_shows_the_help_and_counts_as_a_mistake() -> None:
    said = mmcycle()
    assert said.code == 2 and said.err.startswith("Usage: mmcycle") and "train" in said.err


# Mistakes


@pytest.mark.parametrize(("words", "hint"), [
    ("trian", "No such command 'trian'. Did you mean 'train'?"),
    ("recipes lst", "Did you mean 'list'?"),
    ("simulate stret x", "Did you mean 'street'?"),
    ("train day_to_night --out x --frsh", "No such option: --frsh (Possible options: --fresh)"),
    ("train day_to_night", "Missing option '--out'"),
    ("generate a b", "Missing option '--with'"),
    ("translate r i --out o --direction bc", "'bc' is not one of 'ab', 'ba'"),
    ("export r f --to onx", "'onx' is not one of 'onnx', 'pt2', 'safetensors'"),
])
def test_a_mistyped_word_is_answered_with_the_right_one(words: str, hint: str, tmp_path: Path) -> None:
    said = mmcycle(*words.split(), at=tmp_path)
    assert said.code == 2 and hint in said.err and "Traceback" not in said.err
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(("words", "sentence"), [
    ("config check day_to_nigth", "unknown recipe 'day_to_nigth'. Did you mean 'day_to_night'?"),
    ("config check nowhere.yaml", "nowhere.yaml does not exist; a YAML file was expected"),
    ("config check {root}/tiny.yaml train.stesp=3", "override train.stesp=3: unknown key. Did you mean 'steps'?"),
    ("config check {root}/tiny.yaml train.steps=many", "override train.steps=many: must be a whole number. Got 'many'."),
    ("config check {root}/tiny.yaml a.modality=imgae", "unknown modality 'imgae'. Did you mean 'image'?"),
    ("train day_to_night --out {root}/none", "a.root is not set: name the folder of day recordings"),
    ("train {root}/tiny.yaml --out {root}/run", "holds a run of another config: train.steps was 6, now 12"),
    ("train {root}/tiny.yaml --out {root}/day", "{root}/day is not empty and holds no run"),
    ("translate {root}/none {root}/day --out {root}/none", "{root}/none holds no whole checkpoint. Train first: mmcycle train"),
    ("translate {root}/run {root}/day --out {root}/day/night", "{root}/day/night lies inside {root}/day"),
    ("translate {root}/run {root}/day/00.png --out {root}/day", "{root}/day/00.png exists already"),
    ("translate {root}/run {root}/none.png --out {root}/none", "{root}/none.png: cannot be read as a picture: No such file"),
    ("translate {root}/run {root}/day/00.json --out {root}/none", "{root}/day/00.json: is not a picture in a known format"),
    ("translate {root}/run {root}/day/00.png {root}/night/00.png --out {root}/none", "two inputs have the same name"),
    ("generate {root}/none {root}/out --with image={root}/run", "{root}/none: does not exist"),
    ("generate {root}/day {root}/out --with {root}/run", "expected STREAM=RUN or STREAM=RUN:ab"),
    ("generate {root}/day {root}/out --with image={root}/run:bb", "there is no run at {root}/run:bb"),
    ("generate {root}/day {root}/out --with image={root}/run --with image={root}/run", "the stream 'image' is named twice"),
    ("generate {root}/day {root}/out --with image={root}/run --layout foldr", "unknown layout 'foldr'. Did you mean 'folder'?"),
    ("generate {root}/day {root}/out --with image={root}/run --strength high", "--strength 'high': expected a number in [0, 1]"),
    ("generate {root}/day {root}/out --with image={root}/run --strength 0:2", "--strength '2': expected a number in [0, 1]"),
    ("generate {root}/day {root}/out --with image={root}/run --strength nan", "--strength 'nan': expected a number in [0, 1]"),
    ("generate {root}/day {root}/out --with image={root}/run --strength 1:0", "strength is (1.0, 0.0); it must be a range"),
    ("generate {root}/day {root}/out --with image={root}/run --copies 2", "2 copies with the one strength 1.0 would be identical"),
    ("verify {root}/day", "{root}/day: there is no manifest.jsonl"),
    ("report {root}/day", "{root}/day has neither log.jsonl nor config.yaml (a run) nor manifest.jsonl (a data set)"),
    ("report {root}/none", "{root}/none: there is no such folder"),
    ("export {root}/day {root}/m.pt2 --to pt2", "{root}/day holds no whole checkpoint"),
    ("check imgae {root}/day/00.png", "Did you mean 'image'?"),
    ("check image {root}/day/00.png sise=32", "override sise=32: unknown key. Did you mean 'size'?"),
    ("check image {root}/none.png", "{root}/none.png does not exist"),
    ("check image size=32", "no recording was named"),
    ("recipes copy day_to_nigth {root}/mine.yaml", "Did you mean 'day_to_night'?"),
    ("recipes copy day_to_night {root}/tiny.yaml", "{root}/tiny.yaml exists already"),
    ("simulate street {root}/street --views dusk", "views dusk: name at least one of day, night, fog"),
    ("simulate street {root}/street --size big", "--size 'big': expected WIDTHxHEIGHT"),
])
def test_a_mistake_is_answered_in_a_sentence_and_changes_nothing(root: Path, words: str, sentence: str) -> None:
    before = contents(root)
    assert sentence.format(root=root) in refused(*words.format(root=root).split())
    after = contents(root)
    del before["run/.lock"], after["run/.lock"]                     # names the last process that asked for it
    assert after == before and not (root / "none").exists()


def test_all_mistakes_of_a_config_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("name: x\na: {name: day, modality: image, sise: 3}\nb: {name: night, modality: image}\ntrain:\n  steps: -1\n")
    told = refused("config", "check", path, "run.sede=1").splitlines()
    assert told[0] == f"{path}: 3 problems"
    assert any("wrong.yaml:2  a.sise: unknown key. Did you mean 'size'?" in line for line in told)
    assert any("wrong.yaml:5  train.steps: must be greater than 0" in line for line in told)
    assert any("override run.sede=1: unknown key. Did you mean 'seed'?" in line for line in told)


def test_debug_adds_the_traceback_and_keeps_the_exit_code() -> None:
    said = mmcycle("config", "check", "nowhere.yaml", "--debug")
    assert said.code == 2
    assert said.err.startswith("Traceback (most recent call last)") and "load_config" in said.err
    assert said.err.splitlines()[-1].startswith("mmcycle: nowhere.yaml does not exist")


@pytest.mark.parametrize(("error", "code", "sentence"), [
    (ZeroDivisionError("by zero"), 1, "unexpected ZeroDivisionError: by zero (run again with --debug for the traceback"),
    (OSError(28, "No space left on device", "/data/x"), 1, "/data/x: No space left on device"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (BrokenPipeError(), 1, ""),
])
def test_any_other_failure_is_told_without_a_traceback(
    error: BaseException, code: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*words: object) -> None:
        raise error

    monkeypatch.setattr("mmcycle.config.load_config", fail)
    said = mmcycle("config", "check", "day_to_night")
    assert said.code == code and "Traceback" not in said.err
    assert said.err.startswith(f"mmcycle: {sentence}" if sentence else "")


# Recipes and configs


def test_the_recipes_are_listed_with_how_to_run_them() -> None:
    said = mmcycle("recipes")
    assert said.out == mmcycle("recipes", "list").out
    assert "day_to_night\n  Day -> night:" in said.out
    assert "smoke  python recipes/day_to_night.py --smoke" in said.out


@pytest.mark.parametrize("name", recipe_names())
def test_a_copied_recipe_is_a_config_that_still_loads(tmp_path: Path, name: str) -> None:
    said = mmcycle("recipes", "copy", name, tmp_path / "mine.yaml")
    assert said.code == 0 and "mmcycle train" in said.out
    assert mmcycle("config", "show", tmp_path / "mine.yaml").out == mmcycle("config", "show", name).out


def test_a_shown_config_is_a_config_that_shows_the_same(tmp_path: Path) -> None:
    shown = mmcycle("config", "show", "day_to_night", "train.steps=5e3").out
    assert parse_yaml(shown, "shown")[0]["train"]["steps"] == 5000
    (tmp_path / "whole.yaml").write_text(shown)
    assert mmcycle("config", "show", tmp_path / "whole.yaml").out == shown
    assert mmcycle("config", "check", tmp_path / "whole.yaml").out == f"{tmp_path}/whole.yaml: right\n"


def test_the_schema_is_json_that_knows_every_section() -> None:
    schema = json.loads(mmcycle("config", "schema").out)
    assert set(schema["properties"]) == {"base", "name", "a", "b", "model", "loss", "train", "data", "run"}


# Train


def test_a_dry_run_counts_and_measures_and_writes_nothing(root: Path) -> None:
    before = contents(root)
    said = mmcycle("train", root / "tiny.yaml", "--out", root / "dry", "--dry-run")
    assert said.code == 0 and contents(root) == before
    assert "a day: 8 recordings, crops (3, 32, 32)" in said.out
    assert "generator ab: 0.01 M parameters" in said.out            # width 4: counted below
    assert re.search(r"cpu, 32-true: \d+\.\d\d s a step", said.out) and "12 steps: about" in said.out


@pytest.mark.parametrize(("devices", "override", "sentence"), [
    (0, "run.accelerator=cuda", "run.accelerator is 'cuda', but torch finds no CUDA device here; use run.accelerator=auto"),
    (2, "run.devices=3", "run.devices is 3, but this machine has 2 CUDA devices; use run.devices=auto"),
])
def test_devices_that_are_not_there_are_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: int, override: str, sentence: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    told = refused("train", root / "tiny.yaml", "--out", tmp_path / "run", "run.accelerator=auto", override)
    assert told.startswith(sentence) and not (tmp_path / "run").exists()


def test_a_dry_run_counts_the_parameters_right() -> None:
    assert preview._millions(torch.nn.Linear(1000, 2000)) == "2.00 M parameters"       # 1000 * 2000 + 2000 = 2 002 000


def test_the_same_line_goes_on_where_a_run_ended(root: Path, run: Path) -> None:
    before = contents(run / "checkpoints")
    said = mmcycle("train", root / "tiny.yaml", "--out", run, f"train.steps={STEPS}")
    assert said.code == 0 and "resumed at step 6" in said.err
    assert contents(run / "checkpoints") == before
    assert [row["step"] for row in rows(run)] == [1, 2, 3, 4, 5, 6]


def test_what_teaches_nothing_may_change_when_a_run_goes_on(root: Path, run: Path) -> None:
    assert mmcycle("train", root / "tiny.yaml", "--out", run, f"train.steps={STEPS}", "run.keep=99").code == 0


def test_fresh_forgets_the_run_that_is_there(root: Path, tmp_path: Path) -> None:
    for steps in (2, 1):
        said = mmcycle("train", root / "tiny.yaml", "--out", tmp_path, f"train.steps={steps}", "--fresh")
        assert said.code == 0 and "a new run" in said.err
    assert [row["step"] for row in rows(tmp_path)] == [1] and steps_saved(tmp_path) == [1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_training_with_a_checkpoint_and_its_own_exit_code(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    write_row = trainer._write_row

    def interrupting(log: object, step: int, *others: object) -> None:
        write_row(log, step, *others)
        if step == 2:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_write_row", interrupting)
        said = mmcycle("train", root / "tiny.yaml", "--out", tmp_path, "train.steps=3")
    assert said.code == code and steps_saved(tmp_path) == [2]
    assert "mmcycle: stopped by a signal after step 2, saved; run the same line again to go on" in said.err
    said = mmcycle("train", root / "tiny.yaml", "--out", tmp_path, "train.steps=3")
    assert said.code == 0 and "resumed at step 2" in said.err and steps_saved(tmp_path) == [2, 3]


# Translate


def test_a_folder_is_translated_under_its_own_names(root: Path, run: Path, tmp_path: Path) -> None:
    said = mmcycle("translate", run, root / "day", "--out", tmp_path / "out")
    names = [f"{index:02}.png" for index in range(8)]
    assert said.code == 0 and said.err == ""
    assert said.out.splitlines() == [f"{tmp_path}/out/{name}" for name in names]
    assert sorted(contents(tmp_path / "out")) == names
    assert {pixels(tmp_path / "out" / name).shape for name in names} == {(40, 40, 3)}


def test_direction_and_strength_are_those_of_the_translator(root: Path, run: Path, tmp_path: Path) -> None:
    day = root / "day" / "00.png"
    made = {}
    for name, words in {"ab": [], "ba": ["--direction", "ba"], "none": ["--strength", "0"], "bf16": ["--bf16"]}.items():
        assert mmcycle("translate", run, day, "--out", tmp_path / name, *words).code == 0
        made[name] = pixels(tmp_path / name / "00.png").tobytes()
    assert made["none"] == pixels(day).tobytes()
    assert len(set(made.values())) == 4


def test_a_mistake_in_the_last_input_is_found_before_the_first_is_written(root: Path, run: Path, tmp_path: Path) -> None:
    photographs(tmp_path / "out", count=1, seed=9)
    day = root / "day"
    message = refused("translate", run, day / "01.png", day / "00.png", "--out", tmp_path / "out")
    assert message.startswith(f"{tmp_path}/out/00.png exists already")
    assert list(contents(tmp_path / "out")) == ["00.png"]


# Generate, verify, report


def test_a_data_set_is_written_verified_and_shown(root: Path, run: Path, tmp_path: Path) -> None:
    line = ["generate", root / "day", tmp_path / "out", "--with", f"image={run}"]
    said = mmcycle(*line)
    assert said.code == 0
    assert "8 records, layout folder, 1 copy" in said.out and "Image -> Image by run (ab, sha256" in said.out
    assert f"8 recordings: 8 done, 0 skipped (done before), 0 quarantined. Next: mmcycle verify {tmp_path}/out" in said.out
    assert said.err.splitlines()[-1] == "8/8 recordings, 0 quarantined"
    first = contents(tmp_path / "out")
    assert (tmp_path / "out" / "00.json").read_bytes() == (root / "day" / "00.json").read_bytes()

    said = mmcycle(*line)
    assert said.code == 0 and "8 recordings: 0 done, 8 skipped (done before), 0 quarantined" in said.out
    assert contents(tmp_path / "out") == first

    said = mmcycle("verify", tmp_path / "out")
    assert (said.code, said.out) == (0, f"{tmp_path}/out: good (8 rows, 9 files, 1 labels, 0 quarantined, 8 total)\n")
    assert mmcycle("report", tmp_path / "out").out == f"{tmp_path}/out/report.html\n"
    assert mmcycle("verify", tmp_path / "out").code == 0            # the page is nobody's data

    refusal = refused(*line, "--seed", "3")
    assert refusal.startswith(f"{tmp_path}/out: was begun by a different job: seed was 0 and is now 3.")

    (tmp_path / "out" / "01.png").write_bytes(b"x")
    said = mmcycle("verify", tmp_path / "out")
    assert said.code == 1 and said.err == ""
    assert said.out.startswith("01.png: its bytes are not those that were written\n") and "1 problems" in said.out


def test_copies_go_different_ways_and_each_keeps_its_label(root: Path, run: Path, tmp_path: Path) -> None:
    said = mmcycle("generate", root / "day", tmp_path / "out", "--with", f"image={run}:ba", "--copies", "2", "--strength", "0.5:1")
    assert said.code == 0 and "16 recordings: 16 done" in said.out
    manifest = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    outputs = [row["streams"]["image"]["output"] for row in manifest]
    assert len(set(outputs)) == 16 and all((tmp_path / "out" / output).is_file() for output in outputs)
    assert [row["params"]["strength"] for row in manifest if row["copy"] == 0] == [1.0] * 8
    assert len([label for row in manifest for label in row["labels"]]) == 2
    assert mmcycle("verify", tmp_path / "out").code == 0


def test_a_dry_generation_says_what_would_be_done_and_writes_nothing(root: Path, run: Path, tmp_path: Path) -> None:
    said = mmcycle("generate", root / "day", tmp_path / "out", "--with", f"image={run}", "--dry-run")
    assert said.code == 0 and "8 records, layout folder" in said.out and "done" not in said.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_generation_says_so_and_the_same_line_ends_it(
    root: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    line = ["generate", root / "day", tmp_path / "out", "--with", f"image={run}"]
    heard = []

    def progress(job: object) -> None:
        heard.append(job)
        if len(heard) == 3:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr("mmcycle.generate.progress.job_progress", lambda: contextlib.nullcontext(progress))
        said = mmcycle(*line)
    assert (said.code, said.out) == (code, "")
    assert said.err == f"mmcycle: stopped by {number.name} after the item in hand; run the same line again to go on\n"
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    assert "not finished" in refused("report", tmp_path / "out")
    said = mmcycle(*line)
    skipped = int(re.search(r"(\d) skipped", said.out)[1])
    assert 3 <= skipped < 8                                         # what was in hand at the third was finished too
    assert said.code == 0 and f"8 recordings: {8 - skipped} done, {skipped} skipped (done before), 0 quarantined" in said.out
    mmcycle("generate", root / "day", tmp_path / "straight", "--with", f"image={run}")
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


@pytest.mark.parametrize("words", ["done", "done", "broken", "--dry-run"])
def test_a_bar_on_a_terminal_gives_the_cursor_back_however_the_job_ends(
    root: Path, run: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")                          # rich takes it for a terminal
    monkeypatch.setenv("TERM", "xterm")
    out = tmp_path_factory.getbasetemp() / f"bar-{words.strip('-')}"     # the second "done" has nothing left to do
    source = photographs(tmp_path_factory.mktemp("bar"), count=2) if words == "broken" else root / "night"
    if words == "broken":
        (source / "99.png").write_bytes(b"")
    said = mmcycle("generate", source, out, "--with", f"image={run}", *([words] if words.startswith("-") else []))
    assert said.code == (2 if words == "broken" else 0), said
    assert said.err.count("\x1b[?25l") == said.err.count("\x1b[?25h") <= 1      # hidden as often as shown
    assert ("8/8" in said.err) or words != "done" or "0 done" in said.out


def test_a_bar_of_training_gives_the_cursor_back(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    line = ["train", root / "tiny.yaml", "--out", tmp_path, "train.steps=2"]
    said = mmcycle(*line)
    assert said.code == 0 and "2/2" in said.err, said
    assert said.err.count("\x1b[?25l") == said.err.count("\x1b[?25h") == 1, said
    for path in (tmp_path / "checkpoints").glob("step-*/state.json"):
        path.write_text("{}")
    said = mmcycle(*line)
    assert said.code == 2 and said.err.count("\x1b[?25l") == said.err.count("\x1b[?25h")


def test_a_run_is_shown_on_one_page(run: Path) -> None:
    assert mmcycle("report", run).out == f"{run}/report.html\n"
    page = (run / "report.html").read_text()
    assert "tiny" in page and "http://" not in page.replace("http://www.w3.org", "")


# Export, check, modalities, doctor, simulate


def test_an_exported_file_is_used_like_its_run(root: Path, run: Path, tmp_path: Path) -> None:
    said = mmcycle("export", run, tmp_path / "m.safetensors", "--to", "safetensors", "--direction", "ba")
    assert (said.code, said.out) == (0, f"{tmp_path}/m.safetensors: largest difference from torch 0\n")
    assert load_file(tmp_path / "m.safetensors")
    for model, name in ((run, "run"), (tmp_path / "m.safetensors", "file")):
        assert mmcycle("translate", model, root / "day", "--out", tmp_path / name, "--direction", "ba").code == 0
    assert contents(tmp_path / "run") == contents(tmp_path / "file")
    assert "holds direction 'ba', asked for 'ab'" in refused("translate", tmp_path / "m.safetensors", root / "day", "--out", tmp_path / "x")


def test_check_tells_every_law_and_counts_those_that_are_broken(root: Path, tmp_path: Path) -> None:
    said = mmcycle("check", "image", root / "day" / "00.png", "size=16")
    laws = said.out.splitlines()[:-1]
    assert said.code == 0 and len(laws) > 20 and all(law.startswith("ok ") for law in laws)
    assert said.out.splitlines()[-1] == f"image: keeps all {len(laws)} laws"
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    said = mmcycle("check", "image", tmp_path / "broken.png")
    assert said.code == 1 and "BROKEN" in said.out and f"{tmp_path}/broken.png" in said.out and "1 of " in said.out


def test_the_modalities_are_listed_with_their_files() -> None:
    said = mmcycle("modalities")
    assert said.code == 0 and said.out.startswith("audio\n") and "\nlidar\n" in said.out
    assert "\nimage\n" in said.out and ".png" in said.out and "mmcycle.modalities.image:Image" in said.out


def test_the_doctor_looks_at_the_machine_and_at_a_config(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmcycle.doctor.REQUIRED", ("torch", "PIL"))            # the whole list takes seconds to import
    said, version = mmcycle("doctor", root / "tiny.yaml"), torch.__version__.partition("+")[0]
    assert said.code == 0 and all(line.startswith("ok ") for line in said.out.splitlines())
    assert f"torch          {version}" in said.out and "a day: 8 recordings" in said.out
    said = mmcycle("doctor", "day_to_nigth")
    assert said.code == 1 and "BAD  config         unknown recipe 'day_to_nigth'. Did you mean 'day_to_night'?" in said.out


def test_the_doctor_names_what_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmcycle.doctor.REQUIRED", ("open3d",))
    monkeypatch.setitem(sys.modules, "open3d", None)
    said = mmcycle("doctor")
    assert said.code == 1 and re.search(r"^BAD  open3d +does not import: .*apt-get install libusb-1.0-0", said.out, re.MULTILINE)


def test_a_street_is_simulated_and_can_be_trained_on(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("open3d")
    said = mmcycle("simulate", "street", tmp_path / "street", "--scenes", "2", "--size", "48x32")
    assert (said.code, said.out) == (0, f"{tmp_path}/street: 2 scenes (day,night)\n")
    roots = [f"{side}.root={tmp_path}/street/{view}/images" for side, view in (("a", "day"), ("b", "night"))]
    said = mmcycle("train", root / "tiny.yaml", *roots, "--out", tmp_path / "dry", "--dry-run")
    assert said.code == 0 and "a day: 2 recordings" in said.out


def test_a_module_in_the_folder_where_one_works_can_be_named_and_hides_no_library(root: Path, tmp_path: Path) -> None:
    (tmp_path / "my_lab_cli.py").write_text(
        "from dataclasses import dataclass\nfrom mmcycle.modalities.image import Image\n\n\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Thermal(Image):\n    '''Heat.'''\n\n    kelvin: bool = True\n"
    )
    (tmp_path / "json.py").write_text("raise SystemExit('a library was hidden')\n")
    said = mmcycle("check", "my_lab_cli:Thermal", root / "day" / "00.png", "size=16", at=tmp_path)
    assert said.code == 0 and "my_lab_cli:Thermal: keeps all" in said.out
    sys.modules.pop("my_lab_cli")




@pytest.mark.parametrize("error", [
    MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 480000000000 bytes."),
])
def test_too_little_memory_is_said_with_what_to_make_smaller(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(source: str, overrides: object) -> None:
        raise error

    monkeypatch.setattr("mmcycle.config.load_config", fails)
    said = mmcycle("config", "check", "day_to_night")
    assert said.code == 1
    assert said.err.startswith("mmcycle: not enough memory: take smaller samples") and "report it" not in said.err


def test_threads_do_not_wait_in_a_loop_unless_the_user_says_so(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mmcycle", "--version"])
    for given, expected in ((None, "passive"), ("active", "active")):
        monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
        if given is None:
            monkeypatch.delenv("OMP_WAIT_POLICY")
        with pytest.raises(SystemExit):
            main()
        assert os.environ["OMP_WAIT_POLICY"] == expected
