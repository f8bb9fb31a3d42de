"""Faults that no loss shows: each is found in a model made for it, and in no other; looking changes nothing."""
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcycle.train import health
from mmcycle.train.health import FAULTS, PATIENCE, Monitor, due, examine
from tiny_run import differences, rows, tensors, tiny, trained

Map = Callable[[Tensor], Tensor]
STEPS = 1000


class Act(nn.Module):
    """A network that is a function; one parameter says where it lives."""

    def __init__(self, act: Map):
        super().__init__()
        self.act, self.place = act, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)


class Model(nn.Module):
    """What health asks of a CycleModel."""

    sees_pairs = False

    def __init__(self, ab: Map, ba: Map | None, disc_a: Map, disc_b: Map):
        super().__init__()
        self.ab, self.disc_b = Act(ab), Act(disc_b)
        self.ba, self.disc_a = (Act(ba), Act(disc_a)) if ba else (None, None)

    @property
    def generators(self) -> dict[str, nn.Module]:
        return {"ab": self.ab} | ({"ba": self.ba} if self.ba else {})

    @property
    def discriminators(self) -> dict[str, nn.Module]:
        return {"b": self.disc_b} | ({"a": self.disc_a} if self.disc_a else {})


def pictures(seed: int) -> Tensor:
    coarse = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 1.8 - 0.9
    return F.interpolate(coarse, size=(32, 32), mode="bilinear")


def darker(x: Tensor) -> Tensor:
    return 0.5 * x - 0.4


def lighter(x: Tensor) -> Tensor:
    return (x + 0.4) / 0.5


def blurred(x: Tensor) -> Tensor:
    return F.interpolate(F.avg_pool2d(x, 8), size=(32, 32), mode="bilinear")


REALS = {"a": pictures(1), "b": darker(pictures(2))}


def doubtful(x: Tensor) -> Tensor:
    """It finds the real ones a little more real: right about three pairs in four."""
    real = any(x.data_ptr() == one.data_ptr() for one in REALS.values())
    return torch.randn(len(x), 1, 8, 8, generator=torch.Generator().manual_seed(int(real))) + real


def strict(real: Tensor) -> Map:
    """It knows the real ones by heart."""
    return lambda x: torch.full((len(x), 1, 8, 8), 1.0 if x.data_ptr() == real.data_ptr() else -1.0)


def guessing(x: Tensor) -> Tensor:
    return torch.zeros(len(x), 1, 8, 8)


def found_back(hidden: dict[int, Tensor]) -> tuple[Map, Map]:
    """Cheats that remember: the translation is coarse, and comes back exactly if no bit of it has changed."""
    def there(x: Tensor) -> Tensor:
        y = darker(blurred(x))
        hidden[hash(y.numpy().tobytes())] = x
        return y

    def back(y: Tensor) -> Tensor:
        return hidden.get(hash(y.numpy().tobytes()), blurred(lighter(y)).flip(0))

    return there, back


SANE = (darker, lighter, doubtful, doubtful)
SABOTAGED = {
    "discriminator too strong": (darker, lighter, doubtful, strict(REALS["b"])),
    "discriminator too weak": (darker, lighter, doubtful, guessing),
    "no variety": (lambda x: darker(pictures(5)[:1]).expand(len(x), -1, -1, -1), None, doubtful, doubtful),
    "identity copy": (lambda x: 0.99 * x, lambda x: 0.99 * x, doubtful, doubtful),
    "hidden signal": (*found_back({}), doubtful, doubtful),
    "inverted": (lambda x: -0.5 * x - 0.4, lambda x: -(x + 0.4) / 0.5, doubtful, doubtful),
}


def told(model: tuple, looks: int = PATIENCE) -> list[dict]:
    monitor = Monitor([], STEPS)
    found = examine(Model(*model), REALS)
    return [event for look in range(looks) for event in monitor.hear(500 + look, found)]


def test_a_sane_model_is_not_warned_of() -> None:
    assert told(SANE) == []


@pytest.mark.parametrize("name", SABOTAGED)
def test_each_fault_is_found_by_its_own_name_and_no_other(name: str) -> None:
    events = told(SABOTAGED[name], looks=PATIENCE + 3)
    assert {event["name"] for event in events} == {name}
    assert len(events) == len({event["domain"] for event in events})        # each once
    assert all(event["event"] == "warning" and event["advice"] for event in events)


def test_every_fault_has_its_sabotage() -> None:
    assert {fault.name for fault in FAULTS} == set(SABOTAGED)


def test_a_fault_is_told_when_it_has_lasted_and_not_in_the_first_tenth() -> None:
    bad, good = {"changed_b": 0.0}, {"changed_b": 0.5}
    monitor = Monitor([], STEPS)
    assert [bool(monitor.hear(step, bad)) for step in range(50, 500, 50)] == [False] * 6 + [True] + [False] * 2
    monitor = Monitor([], STEPS)
    assert not any(monitor.hear(500 + step, bad if step % 3 else good) for step in range(20))


def test_a_resumed_monitor_goes_on_where_the_log_ends_and_repeats_nothing() -> None:
    bad = {"diverse_a": 0.0}
    log = [{"step": 500 + look, "health": bad} for look in range(PATIENCE - 1)]
    (event,) = Monitor(log, STEPS).hear(600, bad)
    assert (event["name"], event["domain"], event["value"], event["step"]) == ("no variety", "a", 0.0, 600)
    assert Monitor([*log, {"step": 600, "health": bad}, event], STEPS).hear(601, bad) == []
    assert Monitor([{"step": "x", "health": bad}, {"event": "start"}, {"step": 1, "health": 3}], STEPS).hear(601, bad) == []


def test_what_is_measured_is_what_its_name_says() -> None:
    found = examine(Model(darker, lighter, guessing, strict(REALS["b"])), REALS)
    assert (found["judged_a"], found["judged_b"]) == (0.5, 1.0)
    assert found["correlated_a"] == found["correlated_b"] == pytest.approx(1)
    assert found["changed_b"] == pytest.approx((darker(REALS["a"]) - REALS["a"]).abs().mean().item() / torch.stack(
        [(a - b).abs().mean() for a in REALS["a"] for b in REALS["b"]]).mean().item(), abs=1e-3)
    assert 0 < found["hidden_a"] < 0.06 and 0.5 < found["diverse_b"] < 2


def test_one_recording_has_no_variety_to_lose_and_one_way_hides_nothing() -> None:
    found = examine(Model(darker, None, doubtful, doubtful), {key: real[:1] for key, real in REALS.items()})
    assert set(found) == {"judged_b", "changed_b", "correlated_b"}


def test_sensors_of_two_shapes_are_not_compared_with_each_other() -> None:
    reals = {"a": REALS["a"][:, :1, :16], "b": REALS["b"]}
    found = examine(Model(lambda x: F.interpolate(x, size=(32, 32)).expand(-1, 3, -1, -1), None, doubtful, doubtful), reals)
    assert set(found) == {"judged_b", "diverse_b"}


def test_a_network_that_broke_is_not_measured() -> None:
    found = examine(Model(lambda x: x * float("nan"), None, doubtful, guessing), REALS)
    assert "changed_b" not in found and "correlated_b" not in found


@pytest.mark.parametrize("log_every, steps", [(1, [50, 100]), (20, [60, 120]), (50, [50, 100]), (100, [100])])
def test_a_look_is_due_with_a_row_of_the_log_at_most_every_fifty_steps(log_every: int, steps: list[int]) -> None:
    assert [step for step in range(1, 121) if step % log_every == 0 and due(step, log_every)] == steps


def test_looking_leaves_modes_and_random_numbers_alone() -> None:
    model = Model(lambda x: x + 0.1 * torch.rand(x.shape), None, doubtful, doubtful)
    model.disc_b.eval()
    before = torch.get_rng_state()
    examine(model, REALS)
    assert torch.equal(torch.get_rng_state(), before)
    assert (model.training, model.ab.training, model.disc_b.training) == (True, True, False)


def test_a_run_is_looked_at_without_changing_a_bit_and_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny(tmp_path)
    plain = trained(tmp_path, "plain")
    monkeypatch.setattr(health, "STEPS", 1)
    monkeypatch.setattr(health, "PATIENCE", 2)
    monkeypatch.setattr(health, "FAULTS", (health.Fault("always", "judged", 2, 3, "Nothing to do"),))
    looked = trained(tmp_path, "looked")
    for part in ("networks", "averages", "optimisers", "rank-0"):
        ours, theirs = (tensors(run, 12, part) for run in (plain, looked))
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert all("health" in row for row in rows(looked)) and not any("health" in row for row in rows(plain))
    assert [(row["step"], row["name"], row["domain"]) for row in rows(looked, "warning")] == [(3, "always", "a"), (3, "always", "b")]
    assert "warning: always (night, step 3: judged" in capsys.readouterr().err
    assert differences(plain, looked, 12) == ["log"]
