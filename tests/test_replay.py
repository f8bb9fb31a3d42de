"""The memory of past fakes."""
import pytest
import torch
from torch import Tensor

from mmcycle.core.replay import ReplayBuffer


def numbered(first: int, count: int) -> Tensor:
    """Samples (count, 1, 2, 2) that hold their own number."""
    return torch.arange(first, first + count).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()


def numbers(x: Tensor) -> list[int]:
    return x[:, 0, 0, 0].int().tolist()


def test_while_it_fills_fakes_pass_through_in_order():
    buffer = ReplayBuffer(5, (1, 2, 2), seed=0)
    assert numbers(buffer(numbered(0, 3))) == [0, 1, 2]
    assert numbers(buffer(numbered(3, 2))) == [3, 4]
    assert numbers(buffer.samples) == [0, 1, 2, 3, 4]


def test_a_full_buffer_returns_an_old_fake_half_of_the_time():
    buffer = ReplayBuffer(50, (1, 2, 2), seed=0)
    buffer(numbered(0, 50))
    old = sum(numbers(buffer(numbered(50 + n, 1))) != [50 + n] for n in range(2000))
    assert abs(old - 1000) < 4 * (2000 * 0.25) ** 0.5       # four standard deviations of the binomial


def test_fakes_are_neither_lost_nor_doubled():
    buffer, given = ReplayBuffer(7, (1, 2, 2), seed=3), []
    for first in range(0, 60, 4):
        given += numbers(buffer(numbered(first, 4)))
    passed_while_filling = list(range(7))
    assert sorted(given + numbers(buffer.samples)) == sorted([*range(60), *passed_while_filling])


def test_the_capacity_is_never_exceeded_and_the_shape_stays():
    buffer = ReplayBuffer(3, (1, 2, 2), seed=0)
    for first in range(0, 40, 2):
        assert buffer(numbered(first, 2)).shape == (2, 1, 2, 2)
    assert buffer.samples.shape == (3, 1, 2, 2)
    assert buffer.count == 3


def test_a_batch_larger_than_the_capacity_passes_and_fills_it():
    buffer = ReplayBuffer(3, (1, 2, 2), seed=0)
    first = numbers(buffer(numbered(0, 10)))
    assert len(first) == 10 and first[:3] == [0, 1, 2] and first[6:] == [6, 7, 8, 9]
    assert len(set(numbers(buffer.samples))) == 3
    second = numbers(buffer(numbered(10, 10)))
    assert second[3:] == list(range(13, 20))
    assert all(number < 13 for number in numbers(buffer.samples))


def test_one_batch_takes_no_remembered_fake_twice():
    buffer = ReplayBuffer(8, (1, 2, 2), seed=0)
    buffer(numbered(0, 8))
    for first in range(100, 180, 8):
        given = numbers(buffer(numbered(first, 8)))
        assert len(set(given)) == 8


def test_capacity_zero_remembers_nothing():
    buffer = ReplayBuffer(0, (1, 2, 2), seed=0)
    for first in range(5):
        assert numbers(buffer(numbered(first, 3))) == [first, first + 1, first + 2]
    assert buffer.count == 0


def test_the_same_seed_gives_the_same_fakes_and_another_seed_others():
    def history(seed: int) -> list[int]:
        buffer = ReplayBuffer(4, (1, 2, 2), seed)
        return [number for first in range(0, 60, 3) for number in numbers(buffer(numbered(first, 3)))]

    assert history(1) == history(1)
    assert history(1) != history(2)


@pytest.mark.parametrize("filled", [2, 30])
def test_a_restored_buffer_continues_as_if_nothing_had_happened(filled):
    buffer = ReplayBuffer(5, (1, 2, 2), seed=0)
    for first in range(filled):
        buffer(numbered(first, 1))
    state = {name: value.clone() for name, value in buffer.state_dict().items()}
    again = ReplayBuffer(5, (1, 2, 2), seed=99)
    again.load_state_dict(state)
    for first in range(filled, filled + 40, 2):
        torch.testing.assert_close(again(numbered(first, 2)), buffer(numbered(first, 2)), rtol=0, atol=0)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_a_sample_that_is_not_finite_is_never_given_back(broken):
    buffer = ReplayBuffer(4, (1, 2, 2), seed=0)
    for first in range(200):
        fakes = numbered(first, 2)
        fakes[0, 0, 1, 1] = broken if first % 3 == 0 else 0
        given = buffer(fakes)
        if first % 3 != 0:
            assert given.isfinite().all()
    assert buffer.samples.isfinite().all()


def test_a_place_left_by_a_broken_sample_is_taken_by_the_next_good_one():
    buffer = ReplayBuffer(1, (1, 2, 2), seed=0)
    buffer(torch.full((1, 1, 2, 2), float("nan")))
    assert numbers(buffer(numbered(7, 1))) == [7]
    assert numbers(buffer.samples) == [7]


def test_what_comes_back_is_detached_float32():
    buffer = ReplayBuffer(2, (1, 2, 2), seed=0)
    fakes = numbered(0, 3).bfloat16().requires_grad_()
    given = buffer(fakes)
    assert given.dtype == torch.float32
    assert not given.requires_grad


def test_what_was_given_is_not_changed_by_what_comes_later():
    buffer = ReplayBuffer(2, (1, 2, 2), seed=0)
    fakes = numbered(0, 2)
    given = buffer(fakes)
    for first in range(2, 20, 2):
        buffer(numbered(first, 2))
    assert numbers(given) == numbers(fakes) == [0, 1]


def test_the_random_state_of_another_kind_of_device_is_passed_over_and_all_else_taken():
    saved = ReplayBuffer(3, (1, 2, 2), seed=1)
    saved(numbered(0, 2))
    buffer = ReplayBuffer(3, (1, 2, 2), seed=2)
    before = buffer.rng.get_state()
    buffer.load_state_dict(saved.state_dict() | {"rng": torch.zeros(16, dtype=torch.uint8)})        # as CUDA's are
    assert buffer.count == 2 and numbers(buffer.samples) == [0, 1, 0] and torch.equal(buffer.rng.get_state(), before)
