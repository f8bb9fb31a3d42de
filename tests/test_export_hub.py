"""A run shared as a folder, and had back from a folder, a file or the Hub: the same bytes, or a sentence."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub_stub as stub
import pytest
import torch
from command import contents, mmcycle, refused
from grids import TINY, config, translator
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import mmcycle as package
from mmcycle.config import Config, from_dict, to_dict
from mmcycle.core.model import generator
from mmcycle.errors import MmcycleError, UserError
from mmcycle.generate import export as exporting
from mmcycle.generate.export import export, share
from mmcycle.generate.translator import Translator
from mmcycle.train import checkpoint
from mmcycle.train.checkpoint import Checkpoint
from tiny_run import photographs

SIDE = {"height": 16, "width": 16}
FILES = {"README.md", "config.json", "model.safetensors"}


def made_run(folder: Path, *directions: str, made: Config | None = None) -> Path:
    """A run that was never trained, with its places of recordings in the config."""
    made = made or config(SIDE, SIDE)
    values = to_dict(made)
    values["a"]["root"], values["b"]["root"] = "/home/ann/secret/day", "secret/night"
    weights = {}
    for seed, direction in enumerate(directions or ("ab", "ba")):
        torch.manual_seed(seed)
        network = generator(made.a.modality, made.b.modality, made.model)
        weights |= {f"{direction}.{name}": value.clone() for name, value in network.state_dict().items()}
    state = {"config": values, "versions": {"mmcycle": "0.1.0", "torch": "2.14.1"}}
    saved = Checkpoint(step=7, networks={}, averages=weights, optimisers={}, rank={"x": torch.zeros(1)}, state=state)
    checkpoint.save(folder / "checkpoints", saved, rank=0, world=1, keep=1, wait=lambda: None)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made_run(tmp_path / "run")


@pytest.fixture
def shared(run: Path, tmp_path: Path) -> Path:
    assert share(run, tmp_path / "shared") == 0
    return tmp_path / "shared"


@pytest.mark.parametrize("direction", ["ab", "ba"])
def test_what_was_shared_translates_as_the_run_does_bit_for_bit(run: Path, shared: Path, direction: str) -> None:
    ours = Translator.load(run, direction, device="cpu")
    again = package.Translator.from_pretrained(str(shared), direction=direction, device="cpu")
    x = torch.rand(3, 21, 34, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(again.translate(x), ours.translate(x))
    assert again.sha256 == ours.sha256 and (again.direction, again.run) == (direction, "shared")
    assert torch.equal(Translator.load(shared, direction, device="cpu").translate(x), ours.translate(x))


def test_a_folder_is_three_files_without_the_places_of_recordings(run: Path, shared: Path) -> None:
    assert set(contents(shared)) == FILES
    assert not any(b"secret" in content or b"ann" in content.split() for content in contents(shared).values())
    about = json.loads((shared / "config.json").read_text())
    assert about["library_name"] == "mmcycle" and about["config"]["a"]["root"] is None
    assert about["sha256"] == {way: Translator.load(run, way, device="cpu").sha256 for way in ("ab", "ba")}
    with safe_open(shared / "model.safetensors", "pt") as opened:
        assert {name[:3] for name in opened.keys()} == {"ab.", "ba."}


def test_a_run_of_one_way_is_shared_with_one_and_the_other_is_refused(tmp_path: Path) -> None:
    share(made_run(tmp_path / "run", "ab"), tmp_path / "shared")
    assert Translator.from_pretrained(tmp_path / "shared", device="cpu").direction == "ab"
    with pytest.raises(UserError, match="shared was trained one way: it has no direction 'ba'"):
        Translator.from_pretrained(tmp_path / "shared", direction="ba")


def test_a_file_and_a_run_are_read_too(run: Path, tmp_path: Path) -> None:
    night = translator(config(SIDE, SIDE))
    export(night, "safetensors", tmp_path / "x.safetensors")
    assert Translator.from_pretrained(tmp_path / "x.safetensors", device="cpu").sha256 == night.sha256
    assert Translator.from_pretrained(run, device="cpu").sha256 == Translator.load(run, device="cpu").sha256


def test_nothing_is_overwritten(run: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/.gitattributes").write_text("mine")
    for place in (tmp_path / "full", tmp_path / "full/.gitattributes"):
        with pytest.raises(UserError, match="exists and is not empty; name a new folder, nothing is overwritten"):
            share(run, place)
    assert contents(tmp_path / "full") == {".gitattributes": b"mine"}
    (tmp_path / "empty").mkdir()
    share(run, tmp_path / "empty")
    assert set(contents(tmp_path / "empty")) == FILES


def test_only_a_run_is_shared(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="shared is no run folder; --to hub needs one, because the card tells how"):
        share(shared, tmp_path / "again")
    (tmp_path / "empty/checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="empty holds no whole checkpoint. Train first"):
        share(tmp_path / "empty", tmp_path / "again")


@pytest.mark.parametrize("name", ["Apache 2.0", "", "x\nlibrary_name: other", "-x", "a" * 65])
def test_a_license_that_the_hub_could_not_name_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="is no name of the Hub's, such as apache-2.0"):
        share(run, tmp_path / "shared", license=name)
    assert not (tmp_path / "shared").exists()


def test_a_folder_that_differs_from_torch_is_not_kept(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_difference", lambda *_: 0.5)
    with pytest.raises(MmcycleError, match="the shared model differs from torch by 0.5, more than 0.001"):
        share(run, tmp_path / "shared")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# What a stranger, or half a download, may put there


def rewritten(folder: Path, **changes: object) -> None:
    about = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(about))


def test_weights_and_config_of_two_models_are_refused(shared: Path, tmp_path: Path) -> None:
    weights = load_file(shared / "model.safetensors")
    with safe_open(shared / "model.safetensors", "pt") as opened:
        header = opened.metadata()
    save_file(
        weights | {"ab.decoder.head.1.bias": weights["ab.decoder.head.1.bias"] + 1},
        shared / "model.safetensors",
        header,
    )
    with pytest.raises(
        UserError, match="model.safetensors is not the one that config.json tells of; copy or download both"
    ):
        Translator.from_pretrained(shared)
    assert Translator.from_pretrained(shared, direction="ba", device="cpu").direction == "ba"


@pytest.mark.parametrize(
    "changes", [{"config": {}}, {"sha256": {}}, {"sha256": None}, {"sha256": {"ab": 3}}, {"sha256": ["ab"]}]
)
def test_a_config_that_tells_of_something_else_is_refused(shared: Path, changes: dict) -> None:
    rewritten(shared, **changes)
    with pytest.raises(
        UserError, match="model.safetensors is not the one that config.json tells of|was trained one way"
    ):
        Translator.from_pretrained(shared)


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "\ud800", "3", "[]", "null", " " * (1 << 20) + "{}"])
def test_a_config_that_is_no_object_is_refused_by_name(shared: Path, content: str) -> None:
    (shared / "config.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match="config.json (cannot be read|holds (int|list|NoneType), expected)"):
        Translator.from_pretrained(shared)


def test_a_folder_without_its_config_is_refused_by_name(shared: Path) -> None:
    (shared / "config.json").unlink()
    with pytest.raises(UserError, match="config.json cannot be read: .* It belongs beside model.safetensors"):
        Translator.from_pretrained(shared)


def test_a_model_that_is_no_tensors_is_refused_by_name(shared: Path) -> None:
    (shared / "model.safetensors").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match="model.safetensors is not a model made by `mmcycle export --to hub`"):
        Translator.from_pretrained(shared)


def test_a_shared_folder_cannot_bring_code(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = json.loads((shared / "config.json").read_text())
    about["config"]["b"]["modality"] = "shared.evil:Evil"
    with safe_open(shared / "model.safetensors", "pt") as opened:
        header = json.loads(opened.metadata()["mmcycle"]) | {"config": about["config"]}
    save_file(load_file(shared / "model.safetensors"), shared / "model.safetensors", {"mmcycle": json.dumps(header)})
    rewritten(shared, **about)
    (shared / "evil.py").write_text("raise SystemExit('I was run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, ""])  # as the command line does
    with pytest.raises(UserError, match="'shared.evil:Evil' lies in the run itself, and a run must not bring code"):
        Translator.from_pretrained(shared)


# The Hub


def test_a_name_of_the_hub_fetches_the_two_files_that_are_read(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = stub.install(monkeypatch, shared)
    made = package.Translator.from_pretrained("ann/night", direction="ba", revision="v1", device="cpu")
    assert hub.asked == [("ann/night", "v1", ["model.safetensors", "config.json"])]
    assert (made.run, made.direction) == ("ann/night", "ba")
    assert made.sha256 == Translator.load(shared, "ba", device="cpu").sha256


def test_what_is_here_is_never_looked_for_on_the_hub(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = stub.install(monkeypatch, OSError("no network"))
    shutil.move(run, tmp_path / "ann")
    monkeypatch.chdir(tmp_path)
    assert Translator.from_pretrained("ann", device="cpu").run == "ann" and hub.asked == []
    with pytest.raises(UserError, match="ann is here, so it has no revision 'v1'; leave it out"):
        Translator.from_pretrained("ann", revision="v1")


def test_offline_and_a_wrong_name_are_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    stub.install(monkeypatch, ConnectionError("cannot\nreach the Hub"))
    with pytest.raises(
        UserError, match=r"ann/night does not exist here, and no model .* \(cannot reach the Hub\). Correct the name"
    ):
        Translator.from_pretrained("ann/night")
    stub.install(monkeypatch, ValueError())
    with pytest.raises(UserError, match=r"from the Hub \(ValueError\)"):
        Translator.from_pretrained("ann/night")


@pytest.mark.parametrize("name", ["night", "runs/a/b", "../night", "ann/ni ght", "https://x.org/y", ""])
def test_what_can_be_no_name_of_the_hub_is_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    hub = stub.install(monkeypatch, OSError())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match="does not exist, and it is no name of a model on the Hub|holds no whole checkpoint"
    ):
        Translator.from_pretrained(name)
    assert hub.asked == []


def test_a_model_of_another_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.install(monkeypatch, tmp_path)
    with pytest.raises(
        UserError, match="ann/bert has no model.safetensors on the Hub: it was not made by `mmcycle export"
    ):
        Translator.from_pretrained("ann/bert")


def test_without_its_library_what_to_install_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"ann/night does not exist here, and a model of the Hub needs mmcycle\[hf\]"):
        Translator.from_pretrained("ann/night")


def test_the_package_offers_the_translator_and_costs_nothing_until_then() -> None:
    look = "import sys, mmcycle; print('torch' in sys.modules); mmcycle.Translator; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["False", "True"]
    assert package.Translator is Translator
    with pytest.raises(AttributeError, match="module 'mmcycle' has no attribute 'translator_of'"):
        package.translator_of


# The command


def test_the_command_shares_translates_and_refuses_what_means_nothing(run: Path, tmp_path: Path) -> None:
    said = mmcycle("export", run, tmp_path / "night", "--to", "hub", "--license", "cc-by-4.0")
    assert said.code == 0 and said.out.splitlines() == [
        f"{tmp_path}/night: largest difference from torch 0",
        f"Read {tmp_path}/night/README.md, then: hf upload USER/night {tmp_path}/night",
    ]
    assert "license: cc-by-4.0\n" in (tmp_path / "night/README.md").read_text()
    night = Translator.load(run, device="cpu")
    night.source.save(torch.zeros(3, 16, 16), tmp_path / "x.grid")
    assert mmcycle("translate", tmp_path / "night", tmp_path / "x.grid", "--out", tmp_path / "out").code == 0
    made = night.target.load(tmp_path / "out/x.grid")
    assert torch.equal(made, night(torch.zeros(3, 16, 16)))
    assert "--direction: a shared folder holds all directions of the run" in refused(
        "export", run, tmp_path / "z", "--to", "hub", "--direction", "ba"
    )
    assert "--license: a model card tells it, and --to safetensors writes none" in refused(
        "export", run, tmp_path / "z", "--to", "safetensors", "--license", "mit"
    )
    assert mmcycle("export", run, tmp_path / "ba.safetensors", "--to", "safetensors", "--direction", "ba").code == 0
    assert Translator.load(tmp_path / "ba.safetensors", "ba", device="cpu").direction == "ba"


def test_the_page_on_sharing_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs/sharing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(bash|python)\n(.*?)```", page, re.DOTALL)
    image = from_dict(
        {"name": "night"} | {key: {"name": key, "modality": "image", "size": 32} for key in "ab"} | {"model": TINY}
    )
    made_run(tmp_path / "runs/night", made=image)
    photographs(tmp_path / "photos/day", count=2)
    (tmp_path / "photos/day/00.png").rename(tmp_path / "photos/day/000.jpg")
    monkeypatch.chdir(tmp_path)
    told = [line for kind, text in blocks if kind == "bash" for line in text.splitlines()]
    skipped = [line for line in told if line.startswith(("hf ", "mmcycle evaluate"))]  # a network, and recordings
    assert skipped == ["mmcycle evaluate runs/night", "hf upload USER/night night"]
    for line in (line for line in told if line not in skipped):
        said = mmcycle(*line.split()[1:])
        assert said.code == 0, said
        if " export " in line:
            for text in (text for kind, text in blocks if kind == "python"):
                exec(text, {})
    assert (tmp_path / "000_by_night.jpg").exists() and (tmp_path / "photos_by_night/manifest.jsonl").exists()
