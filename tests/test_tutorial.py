"""The script of docs/audio_visual.md, as it stands there: a loader of translated clips, a network that learns."""
import re
from pathlib import Path

import pytest
import torch
from tiny_models import IMAGE, SOUND, untrained

from mmcycle.generate.translator import Translator
from mmcycle.simulate.clips import write_clips

pytest.importorskip("av")
PAGE = (Path(__file__).parents[1] / "docs" / "audio_visual.md").read_text(encoding="utf-8")
HOME = Path("runs/augment_audio_visual")


def script() -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return code


def test_the_script_of_the_page_has_at_most_forty_lines() -> None:
    assert len([line for line in script().splitlines() if line.strip()]) <= 40


def test_the_script_of_the_page_trains_on_what_the_recipe_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    write_clips(HOME / "clips" / "day", 4, seed=1, seconds=1.5, size=(96, 64))
    write_clips(HOME / "clips" / "night", 2, seed=2, view="night", noisy=True, seconds=1.0, size=(96, 64))
    models = {"camera": untrained(tmp_path / "camera.safetensors", IMAGE),
              "audio": untrained(tmp_path / "audio.safetensors", SOUND | {"change": "noise"})}
    load = Translator.load
    monkeypatch.setattr(Translator, "load", lambda run, *way, **where: load(models[run.name], *way, **where))

    names: dict[str, object] = {}
    code = script().replace('"car"), 20', '"car"), 2')
    exec(compile(code, "docs/audio_visual.md", "exec"), names)
    batch = names["batch"]
    assert batch["camera"].shape[1:] == (3, 6, 48, 72) and batch["wave"].shape[1:] == (1, 16_000)
    assert set(batch["present"]) == {"camera", "wave"}
    assert bool(torch.stack(list(batch["present"].values())).any(dim=0).all())
    assert batch["label"].shape[1:] == (3,) and torch.allclose(batch["label"].sum(1), torch.ones(len(batch["label"])))
    assert torch.isfinite(names["loss"]) and re.search(r"\d+% are told right", capsys.readouterr().out)
