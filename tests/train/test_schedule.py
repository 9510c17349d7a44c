"""Schedules: warm-up rises, plateau is flat, decay ends near the floor, for every length of run."""

import pytest

from congling.train.config import CosineConfig, WSDConfig
from congling.train.schedule import learning_rate_factor

SCHEDULES = [
    WSDConfig(),
    WSDConfig(shape="1-sqrt", floor=0.1),
    WSDConfig(warmup=0, decay=1.0),
    WSDConfig(warmup=0.6, decay=0.9),
    CosineConfig(),
    CosineConfig(warmup=0, floor=0),
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
    schedule = WSDConfig(warmup=0.1, decay=0.2, floor=0.05)
    factors = [learning_rate_factor(schedule, step, 1000) for step in range(1000)]
    assert factors[100:800] == [1.0] * 700
    assert factors[0] == pytest.approx(1 / 101)
    assert factors[-1] == pytest.approx(0.05, abs=0.01)


def test_one_minus_sqrt_falls_faster_at_first():
    linear = learning_rate_factor(WSDConfig(decay=0.5), 550, 1000)
    root = learning_rate_factor(WSDConfig(decay=0.5, shape="1-sqrt"), 550, 1000)
    assert root < linear


def test_cosine_is_half_way_down_in_the_middle():
    assert learning_rate_factor(CosineConfig(warmup=0, floor=0.0), 500, 1000) == pytest.approx(0.5)
