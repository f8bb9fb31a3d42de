"""What recordings tell of their sensors is said in words and written into a config that trains at once."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command import mmcycle, refused
from PIL import Image

from mmcycle.config import load_config
from mmcycle.errors import UserError
from mmcycle.modalities.lidar import Lidar
from mmcycle.modalities.lidar_fit import ego_of
from mmcycle.modalities.lidar_sensor import SensorSpec, preset
from mmcycle.modalities.range_files import RangeImage
from mmcycle.train.fit import fit
from mmcycle.train.trainer import train

TRUE = tuple(float(angle) for angle in np.linspace(4, -24.5, 16).round(3))
SENSOR = SensorSpec(rows=16, columns=64, measured=TRUE)
EGO = ((13, 10, 19), (14, 0, 7), (14, 56, 63))
CONFIG = """
name: little
a: {{name: simulated, root: {a}, modality: lidar, sensor: {sensor}, window: 32, projection: elevation{own}}}
b: {{name: real, root: {b}, modality: lidar, sensor: {sensor}, window: 32, projection: elevation, change: returns}}
model: {{generator: light, width: 8, blocks: 1, discriminator_width: 8, discriminator_layers: 1}}
loss: {{adversarial: nonsaturating, consistency: nce, nce: 0.1, identity: 0}}
train: {{steps: 1, batch_size: 1}}
data: {{workers: 0}}
"""


def sweeps(folder, count=12, spec=SENSOR, ego=(), seed=0, places=None, share=0.9):
    """`count` sweeps of random ranges, a tenth lost; of `places` different ones, if not each of its own."""
    lidar = Lidar(sensor=spec)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng([seed, number % (places or count)])
        shape = (spec.rows, spec.columns)
        ranges = (rng.uniform(3, 40, shape) * (rng.random(shape) < share)).astype(np.float32)
        for row, first, last in ego:
            ranges[row, first : last + 1] = 0
        light = rng.uniform(0.1, 0.9, shape).astype(np.float32) * np.float32(spec.intensity_scale)
        lidar.save(RangeImage(ranges, light), folder / f"{number:02}.bin")
    return folder


def config(tmp_path, sensor=None, own="", **roots):
    sensor = sensor or f"{{rows: 16, columns: 64, measured: {list(TRUE)}}}"
    path = tmp_path / "base.yaml"
    where = {key: roots.get(key) or sweeps(tmp_path / key, seed=number) for number, key in enumerate("ab")}
    path.write_text(CONFIG.format(**where, sensor=sensor, own=own))
    return str(path)


def test_rows_and_ego_are_found_shared_by_both_domains_and_train_a_step(tmp_path):
    torch.set_num_threads(1)
    source = config(tmp_path, b=sweeps(tmp_path / "real", ego=EGO, seed=5), own=", ego: [[15, 3, 4]]")
    (tmp_path / "real" / "zz.bin").write_bytes(b"\x00" * 17)
    told = fit(source, tmp_path / "my.yaml", ["train.lr=1e-3"])
    made = load_config(tmp_path / "my.yaml")
    assert set(made.b.modality.ego) == {*EGO, (15, 3, 4)} and made.a.modality.ego == made.b.modality.ego
    asked = load_config(source, ["train.lr=1e-3"])
    assert replace(made.a.modality, ego=((15, 3, 4),)) == asked.a.modality and made.train == asked.train
    written = (tmp_path / "my.yaml").read_text()
    assert "base: ./base.yaml" in written and "window" not in written
    text = "\n".join(told)
    assert "a simulated: 12 of 12 recordings" in text and "b real: 13 of 13 recordings" in text
    assert "rows: 16 were found, 16 expected, half of them within 0.00 degrees of those of the sensor described" in text
    assert "ego: the carrier hides 2.5% of the image, in rows 14 to 15" in text         # 26 of 1024
    assert "broken, passed over" in text and "zz.bin" in text and "has 17 bytes" in text
    assert "lost: 10% of the pixels do not return" in text or "lost: 9% of" in text
    assert train(made, tmp_path / "run").step == 1


def test_measured_rows_are_written_for_both_domains_where_the_target_keeps_every_point_on_its_ray(tmp_path):
    source = config(tmp_path, sensor="{rows: 16, columns: 64, fov: [4.5, -25.5]}", own=", full_intensity: 255")
    assert "the farthest 0.44" in "\n".join(fit(source, tmp_path / "believed.yaml"))
    told = fit(source, tmp_path / "my.yaml", measure=True)
    made = load_config(tmp_path / "my.yaml")
    for side, full in ((made.a, 255), (made.b, 1)):
        np.testing.assert_allclose(side.modality.spec.elevations, TRUE, atol=0.02)
        assert side.modality.spec.intensity_scale == full
    assert made.a.modality.head(made.b.modality) is None and made.b.modality.head(made.a.modality) is not None
    assert any("its rows were not measured: they are those of the other domain" in line for line in told)


def test_two_domains_that_are_made_anew_keep_rows_of_their_own(tmp_path):
    other = replace(SENSOR, measured=tuple(angle - 0.5 for angle in TRUE))
    source = config(tmp_path, b=sweeps(tmp_path / "real", spec=other, ego=EGO))
    fit(source, tmp_path / "my.yaml", ["b.change=any"], measure=True)
    made = load_config(tmp_path / "my.yaml")
    np.testing.assert_allclose(made.a.modality.spec.elevations, TRUE, atol=0.02)
    np.testing.assert_allclose(made.b.modality.spec.elevations, other.elevations, atol=0.02)
    assert made.a.modality.ego == () and made.b.modality.ego == EGO         # of another grid


def test_the_wrong_sensor_is_noticed_and_the_right_one_named(tmp_path):
    spec = replace(preset("vlp-16"), columns=128)
    folder = sweeps(tmp_path / "vlp", spec=spec)
    own = ["a.columns=128", "b.columns=128", "a.window=64", "b.window=64"]
    source = config(tmp_path, sensor="hdl-64e", a=folder, b=folder)
    told = "\n".join(fit(source, tmp_path / "my.yaml", own))
    assert "rows: your sweeps have 16, the sensor (hdl-64e) says 64: use sensor: vlp-16" in told
    assert "ego: cannot be told with the wrong rows" in told and load_config(tmp_path / "my.yaml").b.modality.ego == ()
    told = "\n".join(fit(source, tmp_path / "right.yaml", [*own, "a.sensor=vlp-16", "b.sensor=vlp-16"]))
    assert "16 were found, 16 expected" in told and "the carrier hides nothing" in told
    odd = replace(spec, measured=tuple(float(angle) for angle in np.linspace(60, -60, 16)))
    other = sweeps(tmp_path / "odd", spec=odd)
    told = "\n".join(fit(source, tmp_path / "odd.yaml", [*own, f"a.root={other}", f"b.root={other}"]))
    assert "no preset is like that: --rows writes these rows" in told


def test_range_images_of_another_sensor_are_refused_with_the_sensors_of_so_many_rows(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    walls = np.full((32, 64), 9, dtype=np.float32)
    Lidar(sensor="hdl-32e", columns=64).save(RangeImage(walls, walls), folder / "0.npz")
    source = config(tmp_path, a=folder, b=folder)
    wanted = "b real: none of 1 sweeps can be used; sensors with 32 rows are hdl-32e, vlp-32c, os1-32, .*columns: 64"
    with pytest.raises(UserError, match=wanted):
        fit(source, tmp_path / "my.yaml")
    assert not (tmp_path / "my.yaml").exists()


@pytest.mark.parametrize(("kind", "why"), [
    ({"count": 9}, "9 sweeps are too few to tell what the carrier hides, give 10 or more"),
    ({"places": 1}, "all sweeps are of one place"),
    ({"share": 0.05}, "of the image never return or never move, more than any carrier hides"),
])
def test_what_cannot_be_told_of_the_carrier_is_left_out(tmp_path, kind, why):
    folder = sweeps(tmp_path / "some", ego=EGO, **kind)
    told = fit(config(tmp_path, a=folder, b=folder), tmp_path / "my.yaml")
    assert sum(why in line for line in told) == 2
    assert "ego" not in (tmp_path / "my.yaml").read_text()


def test_a_level_street_under_a_low_sensor_is_no_carrier():
    up = np.radians(np.linspace(-4, -44, 11))
    ranges = np.broadcast_to((1.2 / np.sin(-up))[None, :, None], (12, 11, 32)).copy()       # 1.2 m above the street
    spec = SensorSpec(rows=11, columns=32, measured=tuple(np.degrees(up)))
    assert not ego_of(ranges, spec).any()
    ranges[:, 8:, :4] = 0.6                                                                # a bonnet below it
    assert ego_of(ranges, spec).sum() == 12


def test_broken_recordings_are_named_and_none_at_all_is_a_mistake(tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.bin").write_bytes(b"\x00" * 17)
    with pytest.raises(UserError, match=r"b real: none of 8 sweeps can be used; the first: .*0\.bin"):
        fit(config(tmp_path, b=folder), tmp_path / "my.yaml")
    for path in sweeps(tmp_path / "good", count=2).iterdir():
        path.rename(folder / f"good_{path.name}")
    told = fit(config(tmp_path, b=folder), tmp_path / "my.yaml")
    assert sum("broken, passed over" in line for line in told) == 5 and any("and 3 more" in line for line in told)


def test_intensities_of_another_scale_are_noticed(tmp_path):
    folder = sweeps(tmp_path / "bright", spec=replace(SENSOR, intensity_scale=100.0))
    told = "\n".join(fit(config(tmp_path, b=folder), tmp_path / "my.yaml"))
    assert "intensity: 100% of the returns have all of it: set full_intensity, 1, 100 or 255" in told
    told = "\n".join(fit(config(tmp_path, b=tmp_path / "a"), tmp_path / "dark.yaml", ["b.full_intensity=255"]))
    assert "intensity: the brightest has 0.9: set full_intensity" in told


def test_images_say_that_there_is_nothing_to_fit_and_the_config_is_written(tmp_path):
    for key in "ab":
        (tmp_path / key).mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / key / "0.png")
    said = mmcycle("fit", "day_to_night_cpu", "my.yaml", "a.root=a", "b.root=b", at=tmp_path)
    assert said.code == 0 and said.out.count("nothing to fit") == 2 and "mmcycle train my.yaml" in said.out
    made = load_config(tmp_path / "my.yaml")
    assert made == load_config("day_to_night_cpu", ["a.root=a", "b.root=b"])


def test_nothing_is_overwritten_unless_forced_and_nothing_goes_among_the_recordings(tmp_path):
    source = config(tmp_path, b=sweeps(tmp_path / "few", count=1), a=tmp_path / "few")
    out = tmp_path / "my.yaml"
    out.write_text("mine")
    assert "my.yaml exists already; choose another name, or say --force" in refused("fit", source, out)
    assert out.read_text() == "mine"
    assert mmcycle("fit", source, out, "--force").code == 0 and load_config(out)
    assert "is the config that is fitted" in refused("fit", source, source, "--force")
    assert "would lie among the recordings of a.root" in refused("fit", source, tmp_path / "few" / "x.yaml")
    assert "is a YAML file" in refused("fit", source, tmp_path / "x.txt")
    (tmp_path / "folder.yaml").mkdir()
    assert "is a folder" in refused("fit", source, tmp_path / "folder.yaml", "--force")
    assert "a.root is not set" in refused("fit", "sim_to_real_lidar_cpu", tmp_path / "x.yaml")
    assert sorted(path.name for path in Path(tmp_path / "few").iterdir()) == ["00.bin"]


def test_what_builds_on_another_config_is_fitted_too(tmp_path):
    fit(config(tmp_path, b=sweeps(tmp_path / "real", ego=EGO)), tmp_path / "first.yaml", ["train.lr=1e-3"])
    fit(str(tmp_path / "first.yaml"), tmp_path / "below" / "second.yaml")
    assert "base: ../base.yaml" in (tmp_path / "below" / "second.yaml").read_text()
    assert load_config(tmp_path / "below" / "second.yaml") == load_config(tmp_path / "first.yaml")
