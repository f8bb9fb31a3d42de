"""A sensor is a value: its rows and columns look where they are said to look, and nonsense is refused."""
import dataclasses
import json
from math import inf, nan

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from mmcycle.errors import UserError
from mmcycle.modalities.lidar_sensor import PRESETS, SensorSpec, preset


def test_the_middles_of_even_rows_and_of_columns():
    spec = SensorSpec(rows=4, columns=8, fov=(10.0, -30.0))
    assert spec.elevations == (5, -5, -15, -25)
    assert spec.azimuths == (157.5, 112.5, 67.5, 22.5, -22.5, -67.5, -112.5, -157.5)
    assert spec.full_turn


def test_the_edges_of_rows_lie_halfway_and_reach_beyond_by_the_margin():
    spec = SensorSpec(rows=3, measured=(4.0, 0.0, -6.0), margin=0.5)
    np.testing.assert_allclose(spec.row_edges, [6.5, 2, -3, -9.5])
    even = SensorSpec(rows=4, fov=(10.0, -30.0), margin=0.0)
    np.testing.assert_allclose(even.row_edges, [10, 0, -10, -20, -30])
    np.testing.assert_allclose(SensorSpec(rows=1, fov=(1.0, -3.0), margin=0.0).row_edges, [1, -3])
    np.testing.assert_allclose(SensorSpec(rows=1, measured=(2.0,)).row_edges, [3, 1])


def test_a_partial_window_may_lie_across_the_back():
    spec = SensorSpec(columns=4, azimuth=(180.0, 80.0))
    assert spec.azimuths == (-150, -170, 170, 150)
    assert not spec.full_turn


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_a_config(name):
    spec = preset(name)
    written = json.dumps(dataclasses.asdict(spec))
    assert TypeAdapter(SensorSpec).validate_json(written, strict=True) == spec
    assert hash(spec) == hash(preset(name.upper().replace("-", "_")))
    assert len(spec.elevations) == spec.rows and np.all(np.diff(spec.row_edges) < 0)


PUBLISHED = {                                       # rows, uppermost and lowermost row, degrees
    "hdl-64e": (64, 2.635, -23.633), "hdl-32e": (32, 10.67, -30.67), "vlp-16": (16, 15, -15), "vlp-32c": (32, 15, -25),
    "os0-128": (128, 45, -45), "os1-64": (64, 22.5, -22.5), "os2-128": (128, 11.25, -11.25),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_published_figures(name):
    rows, top, bottom = PUBLISHED[name]
    assert preset(name).elevations[0] == top and preset(name).elevations[-1] == bottom
    assert len(preset(name).elevations) == rows


def test_even_presets_have_the_published_steps():
    np.testing.assert_allclose(np.diff(preset("hdl-32e").elevations), -1.3335, atol=2e-4)
    np.testing.assert_allclose(np.diff(preset("vlp-16").elevations), -2)
    np.testing.assert_allclose(preset("hdl-64e-spherical").elevations[0], 3 - 28 / 64 / 2)


def test_an_unknown_sensor_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="unknown sensor 'hdl64e'; did you mean 'hdl-64e'.* Known: hdl-64e, .*os2-128"):
        preset("hdl64e")
    with pytest.raises(UserError, match="unknown sensor 'radar'. Known: hdl-64e"):
        preset("radar")


@pytest.mark.parametrize(("fields", "words"), [
    ({"measured": (1.0, 0.0)}, "2 elevations for rows: 64"),
    ({"rows": 2, "measured": (0.0, 1.0)}, "measured: must fall"),
    ({"rows": 2, "measured": (91.0, 1.0)}, "within 90 to -90"),
    ({"rows": 2, "measured": (1.0, 1.0)}, "measured: must fall"),
    ({"fov": (-25.0, 3.0)}, "fov: must fall"),
    ({"fov": (nan, 3.0)}, "finite"),
    ({"max_range": inf}, "finite"),
    ({"azimuth": (0.0, 0.0)}, "azimuth: got"),
    ({"azimuth": (0.0, 361.0)}, "up to 360"),
    ({"min_range": 0.0}, "above 0 m"),
    ({"min_range": 80.0}, "the first smaller"),
    ({"rows": 0}, "1 to 1024 rows"),
    ({"columns": 100_000}, "columns: got 64 x 100000"),
    ({"intensity_scale": 0.0}, "intensity_scale: got 0.0"),
    ({"margin": -1.0}, "margin: got -1.0"),
])
def test_nonsense_is_refused(fields, words):
    with pytest.raises(UserError, match=words):
        SensorSpec(**fields)


def test_an_unknown_field_is_refused_in_a_config():
    with pytest.raises(ValidationError, match="beams"):
        TypeAdapter(SensorSpec).validate_python({"beams": 64})
