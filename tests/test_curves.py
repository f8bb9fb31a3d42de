"""The curves and the numbers of the report page."""
import math

import pytest

from mmcycle.report.curves import HEIGHT, LEFT, MOST_POINTS, RIGHT, TOP, WIDTH, chart, smoothed, ticks
from mmcycle.report.numbers import count, duration, short


def test_a_chart_puts_the_first_and_the_last_step_at_the_edges_of_the_plot():
    one = chart("x", {"line": [(0, 0.0), (50, 5.0), (100, 10.0)]}, exact=True)
    middle = (LEFT + WIDTH - RIGHT) / 2
    assert one.lines[0].smooth == f"M{LEFT:.1f} 186.0L{middle:.1f} 97.0L{WIDTH - RIGHT:.1f} {TOP:.1f}"
    assert one.y_ticks[0] == (HEIGHT - 24, "0") and one.y_ticks[-1] == (TOP, "10")
    assert (one.lines[0].last, one.lines[0].lowest, one.lines[0].highest) == ("10", "0", "10")


def test_a_gap_lifts_the_pen():
    one = chart("x", {"line": [(0, 1.0), (1, 2.0), (2, math.nan), (3, 1.0), (4, 2.0)]})
    assert one.lines[0].raw.count("M") == 2 and one.lines[0].smooth.count("M") == 2


def test_a_chart_of_nothing_is_none_and_of_one_value_is_drawn():
    assert chart("x", {"line": []}) is None and chart("x", {"line": [(0, math.nan)]}) is None
    one = chart("x", {"line": [(5, 3.0)], "empty": [(5, math.nan)]})
    assert [line.name for line in one.lines] == ["line"] and one.x_ticks and one.y_ticks


def test_the_moving_average_starts_unbiased_and_matches_a_sum_by_hand():
    """80 points: half of the past is kept at each."""
    points = [(i, 1.0 if i else 4.0) for i in range(80)]
    found = smoothed(points)
    assert found[0][1] == 4 and found[1][1] == pytest.approx((0.5 * 4 + 1) / 1.5)
    assert found[-1][1] == pytest.approx(1)


def test_one_spike_does_not_hide_a_thousand_values_and_long_lines_are_thinned():
    points = [(i, 1e6 if i == 5000 else math.sin(i / 500)) for i in range(10_000)]
    one = chart("x", {"line": points})
    assert one.lines[0].highest == "1M"
    assert 10 < one.lines[0].raw.count("L") <= MOST_POINTS + 2 and "-999" in one.lines[0].raw


def test_ticks_are_round_and_inside():
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(3, 97) == [20, 40, 60, 80]
    assert ticks(-1.1, 1.1) == [-1, -0.5, 0, 0.5, 1]
    assert ticks(1e-5, 9e-5) == pytest.approx([2e-5, 4e-5, 6e-5, 8e-5])


def test_numbers_are_written_for_people():
    assert [short(value) for value in (0, 0.0002, 0.12345, 12.0, 5000, 1_234_567, math.nan, -3e-5)] == [
        "0", "2e-4", "0.123", "12", "5k", "1.23M", "–", "-3e-5"]
    assert [duration(value) for value in (0, 59, 60, 3725, 90_000)] == ["0 s", "59 s", "1 min", "1 h 2 min", "1 d 1 h"]
    assert duration(1e10) == duration(math.nan) == "–"
    assert count(1234567) == "1\u202f234\u202f567"


def test_ticks_that_are_nearly_equal_get_the_digits_that_tell_them_apart():
    labels = [label for _, label in chart("x", {"line": [(0, 1.001), (1, 1.004)]}, exact=False).y_ticks]
    assert len(set(labels)) == len(labels) > 2 and all(label.startswith("1.00") for label in labels)
