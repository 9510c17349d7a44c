"""Schedules: warm-up rises, plateau is flat, decay ends near the floor, for every length of run."""

import pytest

from congling.train.config import CosineConfig, WSDConfig
from congling.train.schedule import decay_start, learning_rate_factor, warmup_steps

SCHEDULES = [
    WSDConfig(),
    WSDConfig(decay_type="1-sqrt", min_lr_ratio=0.1),
    WSDConfig(warmup_ratio=0, decay_ratio=1.0),
    WSDConfig(warmup_ratio=0.6, decay_ratio=0.9),
    CosineConfig(),
    CosineConfig(warmup_ratio=0, min_lr_ratio=0),
]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 1000])
def test_every_step_has_a_positive_share_of_the_peak(schedule, steps):
    factors = [learning_rate_factor(schedule, step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_wsd_has_a_plateau_and_ends_at_its_floor():
    schedule = WSDConfig(warmup_ratio=0.1, decay_ratio=0.2, min_lr_ratio=0.05)
    factors = [learning_rate_factor(schedule, step, 1000) for step in range(1000)]
    assert factors[100:800] == [1.0] * 700
    assert factors[0] == pytest.approx(1 / 101)
    assert factors[-1] == pytest.approx(0.05, abs=0.01)


def test_one_minus_sqrt_falls_faster_at_first():
    linear = learning_rate_factor(WSDConfig(decay_ratio=0.5), 550, 1000)
    root = learning_rate_factor(WSDConfig(decay_ratio=0.5, decay_type="1-sqrt"), 550, 1000)
    assert root < linear


def test_cosine_is_half_way_down_in_the_middle():
    assert learning_rate_factor(CosineConfig(warmup_ratio=0, min_lr_ratio=0.0), 500, 1000) == pytest.approx(
        0.5
    )


@pytest.mark.parametrize("schedule", [one for one in SCHEDULES if isinstance(one, WSDConfig)])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 100])
def test_up_to_its_decay_a_run_is_that_of_any_longer_one_with_its_warm_up(schedule, steps):
    start = decay_start(schedule, steps)
    for more in (1, 2, 5, 100):
        longer = schedule.replace(warmup_steps=warmup_steps(schedule, steps))
        assert start <= decay_start(longer, steps + more)
        for step in range(start):
            then, now = ((one, count) for one, count in ((schedule, steps), (longer, steps + more)))
            assert learning_rate_factor(then[0], step, then[1]) == learning_rate_factor(now[0], step, now[1])


@pytest.mark.parametrize("steps", [10, 100])
def test_the_decay_starts_where_the_factor_falls(steps):
    schedule = WSDConfig(warmup_ratio=0.1, decay_ratio=0.4)
    start = decay_start(schedule, steps)
    assert learning_rate_factor(schedule, start - 1, steps) == 1
    assert learning_rate_factor(schedule, start, steps) < 1
    assert decay_start(WSDConfig(decay_ratio=0), steps) == steps
    assert decay_start(CosineConfig(), steps) is None


def test_a_warm_up_in_steps_takes_the_place_of_its_share():
    schedule = WSDConfig(warmup_ratio=0.5, warmup_steps=3)
    assert [learning_rate_factor(schedule, step, 100) for step in (0, 2, 3)] == [0.25, 0.75, 1]
    assert warmup_steps(WSDConfig(warmup_steps=30), 10) == 10
