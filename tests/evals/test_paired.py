"""Differences: their value, the width of their intervals, and what they say of how they were got."""

import random

import pytest

from congling.evals.paired import Difference, Measured, difference, paired


def items(count, right, seed):
    draw = random.Random(seed)
    return {str(i): float(draw.random() < right) for i in range(count)}


def measured(values, half=0.09):
    mean = sum(values.values()) / len(values)
    return Measured(mean, mean - half, mean + half, len(values), values)


def test_items_in_common_make_a_paired_difference():
    first = items(100, 0.5, 1)
    better = {name: 1.0 if int(name) % 10 == 0 else value for name, value in first.items()}
    found = difference(measured(first), measured(better))
    gained = sum(better.values()) - sum(first.values())
    assert found.how == "paired" and found.n == 100 and found.value == pytest.approx(gained / 100)
    assert found.certain
    unpaired = difference(
        Measured(found.value * 0, -0.09, 0.09), Measured(found.value, found.value - 0.09, found.value + 0.09)
    )
    assert unpaired.how == "unpaired" and not unpaired.certain  # the same gain, lost in what differs by item
    assert unpaired.low == pytest.approx(found.value - 0.09 * 2**0.5)


def test_other_items_are_not_paired():
    one, other = items(50, 0.5, 1), {f"x{name}": value for name, value in items(50, 0.5, 2).items()}
    assert difference(measured(one), measured(other)).how == "unpaired"
    assert difference(measured(one), measured(dict(list(one.items())[:40]))).how == "unpaired"


def test_one_number_each_has_no_interval():
    assert difference(Measured(1.0), Measured(0.5, 0.4, 0.6)) == Difference(-0.5, None, None, "no interval")


def test_a_ratio_of_sums_weighs_long_items_more():
    found = paired([10.0, 1.0, 1.0], [10.0, 2.0, 1.0], sizes=[8, 1, 1])
    assert found.value == pytest.approx(0.1)
    assert found.low is not None and found.high is not None and found.low <= 0.1 <= found.high


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    draw, hits = random.Random(0), 0
    for trial in range(40):
        gains = [draw.gauss(0.3, 1.0) for _ in range(60)]
        found = paired([0.0] * 60, gains, seed=trial)
        assert found.low is not None and found.high is not None
        hits += found.low <= 0.3 <= found.high
    assert 34 <= hits <= 40


def test_equal_seeds_equal_intervals_and_equal_models_no_difference():
    values = [1.0, 2.0, 4.0]
    assert paired(values, [2.0, 2.0, 5.0], seed=3) == paired(values, [2.0, 2.0, 5.0], seed=3)
    assert paired(values, values) == Difference(0.0, 0.0, 0.0, "paired", 3)


@pytest.mark.parametrize(("first", "second", "sizes"), [([], [], None), ([1.0], [2.0], [1.0, 2.0])])
def test_nothing_to_compare(first, second, sizes):
    with pytest.raises(ValueError, match="items"):
        paired(first, second, sizes)
