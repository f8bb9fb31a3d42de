"""Hostile and broken input: one sentence that names the file; nothing executed, nothing lost, nothing written elsewhere."""
import errno
import json
import os
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import hostile
from command import contents, mmcycle, refused
from mmcycle.files import sha256
from tiny_run import YAML, photographs, rows, tiny_yaml

HEALTHY = tuple(f"{index:02}.png" for index in range(3))
BROKEN = tuple(hostile.broken_pictures(Path("sprung")))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.yaml, day/, night/ and run/, which no test changes."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("bad")
    said = mmcycle("train", tiny_yaml(root), "--out", root / "run", "train.steps=4", "run.save_every=2")
    assert said.code == 0, said
    return root


@pytest.fixture
def run(trained: Path) -> Path:
    return trained / "run"


@pytest.fixture
def own_run(run: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three healthy photographs."""
    return photographs(tmp_path / "source", count=len(HEALTHY))


@pytest.fixture
def sprung(tmp_path: Path) -> Iterator[Path]:
    """The file that appears when a trap was executed; fails when it does."""
    path = tmp_path / "sprung"
    yield path
    assert not path.exists(), "a pickle was executed"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writing more bytes than this to one file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def newest(run: Path) -> Path:
    return max((run / "checkpoints").glob("step-*"))


def forge(checkpoint: Path, name: str, content: bytes) -> None:
    """Replace a file of a checkpoint and its checksum too, as only somebody who means harm does."""
    (checkpoint / name).write_bytes(content)
    sums = json.loads((checkpoint / "sums.json").read_text())
    sums["files"][name] = sha256(checkpoint / name)
    (checkpoint / "sums.json").write_text(json.dumps(sums))


def refused_job(*words: object) -> str:
    """Refused after the work had begun: progress was shown before the sentence."""
    said = mmcycle(*words)
    assert said.code == 2 and "Traceback" not in said.err, said
    last = said.err.splitlines()[-1]
    assert last.startswith("mmcycle: ")
    return last.removeprefix("mmcycle: ")


# Recordings


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_stops_a_job_by_name_and_costs_no_other(run: Path, source: Path, tmp_path: Path, sprung: Path, name: str) -> None:
    content, why = hostile.broken_pictures(sprung)[name]
    (source / name).write_bytes(content)
    before = contents(source)
    told = refused_job("generate", source, tmp_path / "out", "--with", f"image={run}")
    assert re.match(f"{source}/{name}: .*{why}", told), told
    assert "\n" not in told and len(told) < 500
    assert {*HEALTHY} <= {*contents(tmp_path / "out")}          # they come first
    assert contents(source) == before                           # read, never written
    assert told.endswith(". What is done is kept; go on without this one: --on-error quarantine")
    said = mmcycle("generate", source, tmp_path / "out", "--with", f"image={run}", "--on-error", "quarantine")
    assert said.code == 0 and "4 recordings: 0 done, 3 skipped (done before), 1 quarantined" in said.out
    (source / name).write_bytes(hostile.mended(name))
    said = mmcycle("generate", source, tmp_path / "out", "--with", f"image={run}")
    assert said.code == 0 and "4 recordings: 1 done, 3 skipped (done before), 0 quarantined" in said.out


def test_quarantine_lists_all_that_is_broken_and_does_all_that_is_not(run: Path, source: Path, tmp_path: Path, sprung: Path) -> None:
    broken = hostile.broken_pictures(sprung)
    for name, (content, _) in broken.items():
        (source / name).write_bytes(content)
        (source / name).with_suffix(".txt").write_text("car")
    before, out = contents(source), tmp_path / "out"
    line = ["generate", source, out, "--with", f"image={run}", "--on-error", "quarantine"]
    said = mmcycle(*line)
    total, bad = len(broken) + len(HEALTHY), len(broken)
    assert said.code == 0, said.err
    assert f"{total} recordings: {len(HEALTHY)} done, 0 skipped (done before), {bad} quarantined" in said.out
    listed = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    assert {entry["path"] for entry in listed} == {*broken}
    for entry in listed:
        assert re.search(broken[entry["path"]][1], entry["reason"]) and entry["path"] in entry["reason"]
        assert str(tmp_path) not in entry["reason"]
    made = contents(out)
    own = {"manifest.jsonl", "quarantine.jsonl", ".mmcycle/job.json"}
    assert {*made} == {*HEALTHY} | own                          # and no label without its recording, which would be a lie
    assert contents(source) == before
    assert mmcycle("verify", out).code == 0

    said = mmcycle(*line)
    assert f"{total} recordings: 0 done, {len(HEALTHY)} skipped (done before), {bad} quarantined" in said.out
    assert contents(out) == made


@pytest.mark.parametrize("name", ["truncated.png", "pickled_array.npy", "bomb.png", "empty.jpg"])
def test_a_broken_picture_is_named_by_translate_and_check(run: Path, tmp_path: Path, sprung: Path, name: str) -> None:
    content, why = hostile.broken_pictures(sprung)[name]
    (tmp_path / name).write_bytes(content)
    assert re.match(f"{tmp_path}/{name}: .*{why}", refused("translate", run, tmp_path / name, "--out", tmp_path / "out"))
    assert not (tmp_path / "out" / name).exists()
    said = mmcycle("check", "image", tmp_path / name)
    assert said.code == 1 and f"{tmp_path}/{name}" in said.out


def test_training_stops_at_a_broken_picture_or_notes_it_and_goes_on(trained: Path, tmp_path: Path, sprung: Path) -> None:
    day = photographs(tmp_path / "day", count=2)
    (day / "bad.png").write_bytes(hostile.picture()[:2000])
    line = ["train", trained / "tiny.yaml", f"a.root={day}", "train.steps=4"]
    told = refused_job(*line, "--out", tmp_path / "stopped")
    assert told.startswith(f"{day}/bad.png: cannot be read as a picture")
    said = mmcycle(*line, "data.on_error=skip", "--out", tmp_path / "skipped")
    assert said.code == 0, said.err
    noted = rows(tmp_path / "skipped", "bad recording")
    assert noted and all(row["path"] == f"{day}/bad.png" for row in noted)


def test_a_gif_is_no_recording_and_is_said_to_be_left_out(run: Path, source: Path, tmp_path: Path) -> None:
    (source / "film.gif").write_bytes(hostile.film("GIF"))
    said = mmcycle("generate", source, tmp_path / "out", "--with", f"image={run}")
    assert said.code == 0 and "3 recordings: 3 done" in said.out
    assert "not part of the job: film.gif: no recording of this name" in said.out


def test_a_file_without_permission_is_named(run: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "01.png").chmod(0)
    if os.geteuid() == 0:                                       # root reads every file, whatever its mode
        monkeypatch.setattr(Path, "open", refusing(Path.open, "01.png"))
    told = refused_job("generate", source, tmp_path / "out", "--with", f"image={run}")
    assert told.startswith(f"{source}/01.png: ") and "Permission denied" in told
    (source / "01.png").chmod(0o600)


def refusing(opened: Callable[..., object], name: str) -> Callable[..., object]:
    """Path.open that is denied one file."""
    def open_or_refuse(path: Path, *arguments: object, **named: object) -> object:
        if path.name == name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *arguments, **named)

    return open_or_refuse


def test_a_name_that_is_not_utf8_is_refused_before_the_first_file(run: Path, trained: Path, source: Path, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(source) + b"/caf\xe9.png")).write_bytes(hostile.picture())
    sentence = rf"{source}: the name b'caf\xe9.png' is not UTF-8; rename the file"
    assert refused("generate", source, tmp_path / "out", "--with", f"image={run}").startswith(sentence)
    assert refused("translate", run, source, "--out", tmp_path / "out").startswith(sentence)
    assert refused("train", trained / "tiny.yaml", f"a.root={source}", "--out", tmp_path / "out").startswith(sentence)
    assert not (tmp_path / "out").exists()


def test_odd_but_lawful_names_are_kept(run: Path, tmp_path: Path) -> None:
    names = ["-x.png", "new\nline.png", "quote'\".png", "per%cent.png", "ümläut.png", "$(touch sprung).png", f"{'n' * 240}.png", "CASE.PNG"]
    (tmp_path / "source").mkdir()
    for name in names:
        (tmp_path / "source" / name).write_bytes(hostile.picture())
    out = tmp_path / "out"
    said = mmcycle("generate", tmp_path / "source", out, "--with", f"image={run}")
    assert said.code == 0 and f"{len(names)} recordings: {len(names)} done" in said.out, said.err
    assert {*contents(out)} == {*names, "manifest.jsonl", ".mmcycle/job.json"}
    assert len((out / "manifest.jsonl").read_text().splitlines()) == len(names)
    assert mmcycle("verify", out).code == 0
    assert mmcycle("report", out).code == 0
    assert mmcycle("translate", run, tmp_path / "source", "--out", tmp_path / "translated").code == 0
    assert {*contents(tmp_path / "translated")} == {*names}


def test_loops_of_symbolic_links_end(run: Path, source: Path, tmp_path: Path) -> None:
    (source / "again").symlink_to(source)
    (source / "self.png").symlink_to(source / "self.png")
    (source / "deep").mkdir()
    (source / "deep" / "up").symlink_to("..")
    said = mmcycle("generate", source, tmp_path / "out", "--with", f"image={run}")
    assert said.code == 0 and "3 recordings: 3 done" in said.out
    assert mmcycle("verify", tmp_path / "out").code == 0


# Domains and labels


def test_an_empty_domain_says_what_it_may_hold(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    (tmp_path / "day" / "notes.txt").write_text("later")
    told = refused("train", trained / "tiny.yaml", f"a.root={tmp_path / 'day'}", "--out", tmp_path / "run")
    assert told.startswith(f"{tmp_path}/day") and ".png" in told
    told = refused("train", trained / "tiny.yaml", f"a.root={tmp_path / 'none'}", "--out", tmp_path / "run")
    assert told.startswith(f"{tmp_path}/none")
    assert not (tmp_path / "run").exists()


def test_a_domain_of_one_recording_is_trained_on_with_a_note(trained: Path, tmp_path: Path) -> None:
    photographs(tmp_path / "day", count=1)
    said = mmcycle("train", trained / "tiny.yaml", f"a.root={tmp_path / 'day'}", "--out", tmp_path / "run", "train.steps=1")
    assert said.code == 0
    assert f"note: {tmp_path}/day holds a single recording (00.png): the networks will learn it by heart" in said.err


def test_an_empty_source_says_what_it_may_hold(run: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    told = refused("generate", tmp_path / "source", tmp_path / "out", "--with", f"image={run}")
    assert told.startswith(f"{tmp_path}/source: found 0 files but no recording") and ".png" in told
    assert not (tmp_path / "out").exists()


def test_labels_without_a_picture_are_told_and_pictures_without_a_label_are_done(run: Path, source: Path, tmp_path: Path) -> None:
    (source / "00.json").write_text("{}")
    (source / "lost.xml").write_text("<box/>")
    said = mmcycle("generate", source, tmp_path / "out", "--with", f"image={run}")
    assert said.code == 0 and "3 recordings: 3 done" in said.out and "labels: 1 files" in said.out
    assert "not part of the job: lost.xml: no recording of this name" in said.out
    assert {*HEALTHY, "00.json"} <= {*contents(tmp_path / "out")} and "lost.xml" not in contents(tmp_path / "out")


@pytest.mark.parametrize(("source", "out", "sentence"), [
    ("data", "data", "is the source itself"),
    ("data", "data/night", "lies inside the source"),
    ("data/day", "data", "the source lies inside"),
    ("link", "data/night", "lies inside the source"),
    ("data/day", "link", "the source lies inside"),
])
def test_source_and_output_may_not_hold_each_other(run: Path, tmp_path: Path, source: str, out: str, sentence: str) -> None:
    photographs(tmp_path / "data" / "day", count=1)
    (tmp_path / "link").symlink_to("data")
    before = contents(tmp_path)
    told = refused("generate", tmp_path / source, tmp_path / out, "--with", f"image={run}")
    assert sentence in told and str(tmp_path / out) in told
    assert contents(tmp_path) == before


def test_an_output_with_somebodys_files_is_left_alone(run: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    told = refused("generate", source, tmp_path / "out", "--with", f"image={run}")
    assert told.startswith(f"{tmp_path}/out: is not empty and was not begun by generate")
    assert contents(tmp_path / "out") == {"thesis.txt": b"mine"}


def test_a_link_inside_the_output_leads_nothing_out_of_it(run: Path, tmp_path: Path) -> None:
    photographs(tmp_path / "source" / "street", count=2)
    line = ["generate", tmp_path / "source", tmp_path / "out", "--with", f"image={run}"]
    assert mmcycle(*line).code == 0
    shutil.rmtree(tmp_path / "out" / "street")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "street").symlink_to(tmp_path / "elsewhere")
    said = mmcycle(*line)
    assert said.code != 0 and "through a symbolic link" in said.err and "Traceback" not in said.err
    assert contents(tmp_path / "elsewhere") == {}


# A table that leads out of the data set


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname.png", "sub/../../secret.png"])
def test_a_table_that_names_a_file_outside_is_refused(run: Path, source: Path, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.png").write_bytes(hostile.picture())
    lines = [{"file_name": "00.png", "label": "car"}, {"file_name": path, "label": "car"}]
    (source / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = refused("generate", source, tmp_path / "out", "--with", f"image={run}", "--layout", "table")
    assert path in told and "not a path inside" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("field", ["output", "source"])
def test_a_manifest_that_leads_outside_is_told_and_not_followed(run: Path, source: Path, tmp_path: Path, field: str) -> None:
    out = tmp_path / "out"
    assert mmcycle("generate", source, out, "--with", f"image={run}").code == 0
    (tmp_path / "secret.png").write_bytes(b"secret")
    first, *rest = (out / "manifest.jsonl").read_text().splitlines(keepends=True)
    row = json.loads(first)
    row["streams"]["image"][field] = "../secret.png"
    (out / "manifest.jsonl").write_text(json.dumps(row) + "\n" + "".join(rest))
    said = mmcycle("verify", out)
    assert said.code == 1 and "../secret.png" in said.out and sha256(tmp_path / "secret.png") not in said.out
    said = mmcycle("report", out)
    assert said.code in (0, 2) and "Traceback" not in said.err
    assert (tmp_path / "secret.png").read_bytes() == b"secret"


# Models


def test_a_checkpoint_cut_short_is_passed_over_and_said(trained: Path, own_run: Path, tmp_path: Path) -> None:
    path = newest(own_run) / "networks.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    said = mmcycle("train", trained / "tiny.yaml", "--out", own_run, "train.steps=4", "run.save_every=2")
    assert said.code == 0
    assert f"passed over a checkpoint: {path} is damaged or missing" in said.err and "resumed at step 2" in said.err
    assert load_file(path)                                      # written again


def test_a_run_with_no_whole_checkpoint_is_refused_by_every_command(trained: Path, own_run: Path, source: Path, tmp_path: Path) -> None:
    for path in (own_run / "checkpoints").glob("step-*/averages.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    broken = str(newest(own_run) / "averages.safetensors")
    assert broken in refused("translate", own_run, source, "--out", tmp_path / "out")
    assert broken in refused("generate", source, tmp_path / "out", "--with", f"image={own_run}")
    assert broken in refused("export", own_run, tmp_path / "m.pt2", "--to", "pt2")
    said = mmcycle("train", trained / "tiny.yaml", "--out", own_run, "train.steps=4", "run.save_every=2")
    assert said.code == 2 and "holds no checkpoint that is whole; begin again with --fresh" in said.err
    assert not (tmp_path / "out").exists() and not (tmp_path / "m.pt2").exists()


@pytest.mark.parametrize("content", [
    pytest.param(lambda sprung: hostile.trap(sprung), id="pickle"),
    pytest.param(lambda sprung: hostile.lying_safetensors(), id="a header of a terabyte"),
    pytest.param(lambda sprung: hostile.lying_safetensors(70), id="a header longer than the file"),
    pytest.param(lambda sprung: hostile.overlapping_safetensors(), id="a tensor beyond the end"),
    pytest.param(lambda sprung: b"", id="nothing"),
    pytest.param(lambda sprung: hostile.archive("zip"), id="a zip, as torch.save writes"),
])
def test_a_forged_model_is_refused_and_not_executed(own_run: Path, source: Path, tmp_path: Path, sprung: Path, content: object) -> None:
    forged = content(sprung)
    (tmp_path / "model.safetensors").write_bytes(forged)
    told = refused("translate", tmp_path / "model.safetensors", source, "--out", tmp_path / "out")
    assert told.startswith(f"{tmp_path}/model.safetensors is not a model made by")
    told = refused("generate", source, tmp_path / "out", "--with", f"image={tmp_path / 'model.safetensors'}")
    assert told.startswith(f"{tmp_path}/model.safetensors is not a model made by")
    for path in (own_run / "checkpoints").glob("step-*"):
        forge(path, "averages.safetensors", forged)
    said = mmcycle("translate", own_run, source, "--out", tmp_path / "out")
    assert said.code in (1, 2) and said.err.startswith("mmcycle: ") and "averages.safetensors cannot be read" in said.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["networks", "optimisers", "rank-0"])
def test_a_forged_checkpoint_is_not_trained_on(trained: Path, own_run: Path, sprung: Path, name: str) -> None:
    for path in (own_run / "checkpoints").glob("step-*"):
        forge(path, f"{name}.safetensors", hostile.trap(sprung))
    said = mmcycle("train", trained / "tiny.yaml", "--out", own_run, "train.steps=4", "run.save_every=2")
    assert said.code in (1, 2) and f"{name}.safetensors cannot be read" in said.err and "Traceback" not in said.err


@pytest.mark.parametrize(("modality", "sentence"), [
    ("no_such_lab.radar:Radar", "no_such_lab.radar:Radar could not be imported: No module named 'no_such_lab'"),
    ("os:system", "os:system is not a class derived from mmcycle.modality.Modality"),
    ("os:remove", "os:remove is not a class derived"),
])
def test_a_run_that_names_code_which_is_no_sensor_is_refused(own_run: Path, source: Path, tmp_path: Path, modality: str, sentence: str) -> None:
    path = newest(own_run)
    state = json.loads((path / "state.json").read_text())
    state["config"]["a"] = {"name": "day", "modality": modality}
    forge(path, "state.json", json.dumps(state).encode())
    told = refused("translate", own_run, source, "--out", tmp_path / "out")
    assert f"{path}/state.json" in told and sentence in told


def test_a_run_whose_weights_do_not_fit_its_config_is_refused(own_run: Path, source: Path, tmp_path: Path) -> None:
    path = newest(own_run)
    state = json.loads((path / "state.json").read_text())
    state["config"]["model"]["width"] = 8
    forge(path, "state.json", json.dumps(state).encode())
    assert "its weights do not fit its config" in refused("translate", own_run, source, "--out", tmp_path / "out")


# Pickles in the place of text


def test_a_pickle_is_executed_nowhere(trained: Path, own_run: Path, source: Path, tmp_path: Path, sprung: Path) -> None:
    content, out = hostile.trap(sprung), tmp_path / "out"
    (tmp_path / "trap.yaml").write_bytes(content)
    assert f"{tmp_path}/trap.yaml" in refused("config", "check", tmp_path / "trap.yaml")
    assert f"{tmp_path}/trap.yaml" in refused("train", tmp_path / "trap.yaml", "--out", out)
    assert not out.exists()

    (own_run / "config.yaml").write_bytes(content)
    assert f"{own_run}/config.yaml" in refused("train", trained / "tiny.yaml", "--out", own_run, "train.steps=4")
    said = mmcycle("report", own_run)
    assert "Traceback" not in said.err and said.code in (0, 2)
    for name in ("state.json", "sums.json"):
        (newest(own_run) / name).write_bytes(content)
    assert mmcycle("translate", own_run, source, "--out", tmp_path / "older").code == 0         # the one before is whole

    assert mmcycle("generate", source, out, "--with", f"image={trained / 'run'}").code == 0
    (out / "manifest.jsonl").write_bytes(content)
    said = mmcycle("verify", out)
    assert said.code == 1 and "manifest.jsonl, line 1: " in said.out
    said = mmcycle("report", out)
    assert said.code in (0, 2) and "Traceback" not in said.err
    (out / ".mmcycle" / "job.json").write_bytes(content)
    assert f"{out}/.mmcycle/job.json" in refused("generate", source, out, "--with", f"image={trained / 'run'}")


# Configs that point elsewhere


def test_a_config_that_names_anothers_file_tells_nothing_of_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("password: hunter2\ntoken: 12345\n")
    path = tmp_path / "config.yaml"
    path.write_text(YAML.format(root=tmp_path).replace(f"{tmp_path}/day", str(secret)))
    told = refused("train", path, "--out", tmp_path / "run")
    assert told.startswith(str(secret)) and "hunter2" not in told
    path.write_text(f"base: {secret}\nname: x\n")
    told = refused("config", "check", path)
    assert "hunter2" not in told and "12345" not in told
    assert secret.read_text() == "password: hunter2\ntoken: 12345\n" and not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", [
    "!!python/object/apply:os.system ['touch sprung']", "a: &x [*x]\n", "x: " + "[" * 2000, "\0", "name: [unclosed", "",
    "a: {name: day}\na: {name: night}\n",
])
def test_a_hostile_yaml_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hostile.yaml"
    path.write_text(text)
    told = refused("config", "check", path)
    assert told.startswith(str(path)) and len(told) < 1000
    assert contents(tmp_path).keys() == {"hostile.yaml"}


# A full disk


def test_a_full_disk_ends_a_generation_which_goes_on_when_there_is_room(run: Path, source: Path, tmp_path: Path) -> None:
    out, line = tmp_path / "out", ["generate", source, tmp_path / "out", "--with", f"image={run}", "--on-error", "quarantine"]
    (source / "00.json").write_text("{}")
    with largest_file(2000):                                    # a picture has about 5000 bytes
        said = mmcycle(*line)
    assert said.code == 1 and said.err.splitlines()[-1].startswith(f"mmcycle: {out}/")
    assert "could not be written: File too large" in said.err and "Traceback" not in said.err
    assert not any(name.endswith(".png") for name in contents(out)) and not (out / "quarantine.jsonl").exists()
    said = mmcycle(*line)
    assert said.code == 0 and "3 recordings: 3 done, 0 skipped (done before), 0 quarantined" in said.out
    assert mmcycle("verify", out).code == 0


def test_a_full_disk_ends_training_which_goes_on_when_there_is_room(trained: Path, own_run: Path, tmp_path: Path) -> None:
    before = contents(own_run / "checkpoints")
    line = ["train", trained / "tiny.yaml", "--out", tmp_path / "full", "train.steps=2"]
    with largest_file(4000):
        said = mmcycle(*line)
    assert said.code == 1 and "could not be written" in said.err and "Traceback" not in said.err, said.err
    assert str(tmp_path / "full") in said.err.splitlines()[-1]
    said = mmcycle(*line)
    assert said.code == 0 and len(list((tmp_path / "full" / "checkpoints").glob("step-*"))) == 1
    assert not list((tmp_path / "full").rglob(".tmp-*"))
    assert contents(own_run / "checkpoints") == before


def test_an_export_that_finds_no_room_leaves_nothing(run: Path, tmp_path: Path) -> None:
    with largest_file(1000):
        said = mmcycle("export", run, tmp_path / "m.safetensors", "--to", "safetensors")
    assert said.code == 1 and said.err.startswith(f"mmcycle: {tmp_path}/m.safetensors") and "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_made_is_named(run: Path, source: Path, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for words in (
        ["translate", run, source, "--out", tmp_path / "file"],
        ["generate", source, tmp_path / "file", "--with", f"image={run}"],
        ["generate", source, tmp_path / "file" / "out", "--with", f"image={run}"],
        ["train", trained / "tiny.yaml", "--out", tmp_path / "file"],
        ["export", run, tmp_path / "file" / "m.safetensors", "--to", "safetensors"],
    ):
        said = mmcycle(*words)
        assert said.code in (1, 2) and said.out == "", words
        assert str(tmp_path / "file") in said.err.splitlines()[-1] and "Traceback" not in said.err
    assert (tmp_path / "file").read_text() == "mine"
