"""Finding a modality by name: built in, installed by a stranger, or by import path."""
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcycle.errors import UserError
from mmcycle.modality import Modality, find_modality, grow, known_modalities

PLUGIN = Path(__file__).parent / "radar_plugin"


class NotADataclass:
    """Something that a name may point at by mistake."""


@pytest.fixture
def radar(monkeypatch):
    """The plug-in's class, found by import path as a user without a package would."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    yield find_modality("mmcycle_radar:Radar")
    sys.modules.pop("mmcycle_radar", None)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which pip has installed the plug-in, as a stranger's package is."""
    if find_spec("setuptools") is None or find_spec("pip") is None:
        pytest.skip("needs pip and setuptools")
    work = tmp_path_factory.mktemp("plugin")
    source, site = work / "source", work / "site"
    source.mkdir()
    for name in ("pyproject.toml", "mmcycle_radar.py"):
        (source / name).write_text((PLUGIN / name).read_text())
    options = ["-q", "--no-deps", "--no-index", "--no-build-isolation", "--target", site]
    done = subprocess.run([sys.executable, "-m", "pip", "install", *options, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return site


def run(code, site):
    environment = {"PYTHONPATH": f"{site}:{Path(__file__).parents[1]}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def test_an_installed_plugin_is_found_by_its_short_name(installed):
    code = (
        "from mmcycle.modality import find_modality, known_modalities as known\n"
        "radar = find_modality('radar')\n"
        "print(radar(bins=64).shape, known()['radar'], find_modality('mmcycle_radar:Radar') is radar)"
    )
    done = run(code, installed)
    assert done.stdout.split("\n")[0] == "(1, 32, 64) mmcycle_radar:Radar True", done.stderr


def test_an_installed_plugin_is_offered_when_its_name_is_misspelt(installed):
    done = run("from mmcycle.modality import find_modality\nfind_modality('rader')", installed)
    assert "unknown modality 'rader'. Did you mean 'radar'?" in done.stderr


def test_a_strangers_radar_keeps_every_law(radar, tmp_path):
    from mmcycle.testing import check_modality

    sweep = np.random.default_rng(0).uniform(0, 60, (40, 53)).astype(np.float32)
    radar().save(sweep, tmp_path / "one.radar")
    laws = check_modality(radar(), [tmp_path / "one.radar", sweep], tolerance=1e-6)
    assert [str(law) for law in laws if not law.passed] == []


def test_the_plugin_is_short():
    assert len((PLUGIN / "mmcycle_radar.py").read_text().splitlines()) < 60


def test_a_radar_file_that_was_cut_off_is_refused_by_name(radar, tmp_path):
    from mmcycle.errors import RecordingError

    radar().save(np.zeros((4, 4), np.float32), tmp_path / "cut.radar")
    (tmp_path / "cut.radar").write_bytes((tmp_path / "cut.radar").read_bytes()[:-1])
    with pytest.raises(RecordingError, match="cut.radar: is not one whole radar sweep"):
        radar().load(tmp_path / "cut.radar")


def test_a_built_in_modality_is_found_and_listed():
    assert find_modality("image").__name__ == "Image"
    assert known_modalities()["image"] == "mmcycle.modalities.image:Image"


def test_an_unknown_name_says_what_was_meant_and_what_is_known():
    words = r"unknown modality 'imgae'\. Did you mean 'image'\? Known: .*image.*'my_lab.radar:Radar'"
    with pytest.raises(UserError, match=words):
        find_modality("imgae")


@pytest.mark.parametrize("name", ["no_such_package.radar:Radar", "json:NoSuchClass", ":Radar"])
def test_a_path_that_cannot_be_imported_is_told(name):
    with pytest.raises(UserError, match=f"modality '{name}': .* could not be imported"):
        find_modality(name)


@pytest.mark.parametrize("name", ["json:dumps", f"{__name__}:NotADataclass"])
def test_something_that_is_not_a_modality_is_refused(name):
    with pytest.raises(UserError, match="derived from mmcycle.modality.Modality"):
        find_modality(name)


def test_a_field_that_a_domain_needs_itself_is_refused():
    with pytest.raises(TypeError, match="the field name 'root' is taken by the config of a domain; choose another"):

        @dataclass(frozen=True)
        class Rooted(Modality):
            root: str = "x"


def test_an_event_that_a_sensor_cannot_undergo_is_an_error():
    image = find_modality("image")()
    with pytest.raises(UserError, match="Image cannot undergo 'doppler'"):
        image.act("doppler", {}, np.zeros((2, 2, 3), np.uint8))


def test_growing_reflects_without_repeating_the_border():
    x = torch.tensor([[[1.0, 2.0, 3.0]]])
    assert grow(x, 2, 7)[0].tolist() == [[1, 2, 3, 2, 1, 2, 3]] * 2


def test_equal_generators_look_at_the_same_share_of_two_recordings():
    image = find_modality("image")(size=8, channels=1)
    small = torch.arange(24.0).expand(1, 24, 24)
    large = torch.arange(40.0).expand(1, 40, 40)
    left = [image.crop(x, torch.Generator().manual_seed(3))[0, 0, 0].item() for x in (small, large)]
    assert abs(left[0] / 16 - left[1] / 32) < 1 / 16
