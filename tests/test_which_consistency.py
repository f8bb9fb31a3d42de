"""Which consistency to choose: every arm can be trained, knows the partners that it says, and the truth scores best."""
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import which_consistency as which  # noqa: E402  (a script beside the package)

pytest.importorskip("open3d")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten streets to learn from, and a few others, small."""
    home = tmp_path_factory.mktemp("which")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(which, "SIZE", (48, 32))
        patch.setattr(which, "STREETS", {"known": (10, 1), "labelled": (4, 2), "held_out": (4, 3)})
        which.prepare(home)
        which.prepare(home)
    return home


@pytest.fixture
def tiny(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {"SIZE": (48, 32), "TAUGHT": 2, "SHOWN": (0, 1)}.items():
        monkeypatch.setattr(which, name, value)
    return home


@pytest.mark.parametrize("generator", which.GENERATORS)
@pytest.mark.parametrize("arm", which.ARMS)
def test_an_arm_differs_from_the_others_in_its_objective_and_its_partners_alone(arm: str, generator: str, tiny: Path):
    config = which.config_of(tiny, generator, arm, 0, 4)
    plain = which.config_of(tiny, generator, "cycle", 0, 4)
    pairs = config.model.discriminator_sees == "pair"
    assert pairs == ("pairs judged" in arm)
    judge = replace(config.model, discriminator_sees="sample"), replace(config.train, replay=plain.train.replay)
    assert (*judge, config.run) == (plain.model, plain.train, plain.run)
    assert (config.train.replay == 0) == pairs
    assert config.data.paired == ("known" in arm or "pix2pix" in arm) == (config.b.root.name == "b")
    assert (config.loss.consistency == "none") == ("pix2pix" in arm)
    assert (config.data.paired_fraction < 1) == ("a tenth known" in arm)


def test_pairs_are_pairs_and_shuffled_names_tell_nothing(tiny: Path):
    nights, shuffled = (sorted((tiny / "known" / place).iterdir()) for place in ("b", "shuffled"))
    assert [path.name for path in nights] == [path.name for path in sorted((tiny / "known" / "a").iterdir())]
    assert not {path.name for path in nights} & {path.name for path in shuffled}
    assert sorted(path.read_bytes() for path in nights) == sorted(path.read_bytes() for path in shuffled)
    assert [path.read_bytes() for path in nights] != [path.read_bytes() for path in shuffled]
    assert [path.name for path in (tiny / "few" / "a").iterdir()] == [nights[0].name]
    assert np.array(Image.open(nights[0])).shape == (32, 48, 3)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("arm", ["one way, a tenth known", "pix2pix, all known"])
def test_an_arm_is_trained_and_measured_once(arm: str, tiny: Path, monkeypatch: pytest.MonkeyPatch):
    streets = which.Streets(tiny)
    row = which.measured(streets, "light", arm, 0, 2)
    assert all(np.isfinite(value) for value in row.values())
    assert row.keys() == streets.beside("the truth").keys() | {"ms a step", "MiB held", "weights"}
    monkeypatch.setattr(which, "train", None)           # a second time would fail
    assert which.measured(streets, "light", arm, 0, 2) == row
    assert which.sheet(streets, "light", 0, 2).width == 2 * 48 * 3 // 2


def test_the_truth_is_nearest_to_itself(tiny: Path):
    streets = which.Streets(tiny)
    truth, day = (streets.beside(name) for name in ("the truth", "day, untranslated"))
    assert (truth["L1"], truth["SSIM"]) == (0, pytest.approx(1)) and day["L1"] > 0.05 and day["SSIM"] < 1
    assert day["structure"] == pytest.approx(1) and truth["KID"] < day["KID"]
    assert json.loads((tiny / "the truth.json").read_text()) == truth
    assert "SSIM 1" in which.told({"the truth": truth})
