"""What changes with the step, at values worked by hand."""
import math

import pytest

from mmcycle.core.schedule import ema_decay, identity_weight, rate
from mmcycle.core.settings import Descent, Objective


def rates(**changes: object) -> list[float]:
    descent = Descent(**changes)
    return [rate(step, descent) for step in range(descent.steps)]


def test_a_constant_rate_is_one_at_every_step():
    assert rates(steps=5, schedule="constant") == [1, 1, 1, 1, 1]


def test_a_linear_rate_stays_for_half_of_the_steps_and_falls_towards_zero():
    assert rates(steps=8, schedule="linear") == pytest.approx([1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])


def test_a_linear_rate_may_fall_from_the_start():
    assert rates(steps=4, schedule="linear", decay_from=0) == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_a_cosine_rate_falls_slowly_then_fast_then_slowly():
    expected = [1, 1, 1] + [0.5 * (1 + math.cos(math.pi * n / 4)) for n in (1, 2, 3)]
    assert rates(steps=6, schedule="cosine") == pytest.approx(expected)
    assert expected[4] == pytest.approx(0.5)


def test_a_warm_up_rises_in_equal_parts_to_one():
    assert rates(steps=6, schedule="constant", warm_up=4) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_a_warm_up_longer_than_the_plateau_delays_the_fall():
    assert rates(steps=6, schedule="linear", warm_up=4, decay_from=0) == pytest.approx([0.25, 0.5, 0.75, 1, 2 / 3, 1 / 3])


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("decay_from", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("warm_up", [0, 1, 5])
def test_a_rate_is_never_negative_never_over_one_and_the_last_step_still_teaches(schedule, steps, decay_from, warm_up):
    found = rates(steps=steps, schedule=schedule, decay_from=decay_from, warm_up=min(warm_up, steps - 1))
    assert all(0 < share <= 1 for share in found)


def test_the_rate_after_a_resume_is_that_of_the_step_alone():
    descent = Descent(steps=100, schedule="cosine", warm_up=10)
    whole = [rate(step, descent) for step in range(100)]
    assert [rate(step, Descent(steps=100, schedule="cosine", warm_up=10)) for step in range(60, 100)] == whole[60:]


def test_the_identity_weight_stays_without_an_end():
    assert [identity_weight(step, Objective(identity=5), steps=100) for step in (0, 50, 99)] == [5, 5, 5]


def test_the_identity_weight_falls_to_its_end_in_its_share_of_the_steps():
    objective = Objective(identity=5, identity_end=1, identity_until=0.5)
    found = [identity_weight(step, objective, steps=100) for step in (0, 25, 50, 99)]
    assert found == pytest.approx([5, 3, 1, 1])


def test_an_identity_weight_that_ends_at_zero_is_exactly_zero():
    objective = Objective(identity=0.3, identity_end=0, identity_until=0.2)
    assert identity_weight(20, objective, steps=100) == 0
    assert identity_weight(19, objective, steps=100) == pytest.approx(0.3 / 20)


def test_the_average_forgets_the_random_start_quickly_and_then_keeps_its_memory():
    assert ema_decay(0, 0.999) == pytest.approx(0.1)
    assert ema_decay(8, 0.999) == pytest.approx(0.5)
    assert ema_decay(8990, 0.999) == pytest.approx(0.999)
    assert ema_decay(10**6, 0.999) == 0.999
    assert ema_decay(100, 0.0) == 0
