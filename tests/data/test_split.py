"""Which of a few documents are held out: those whose length comes nearest to the share."""

import random

import pytest

from congling.data.config import SplitConfig
from congling.data.split import FEW, hold_out


def held(lengths: list[int], **split: float | str) -> list[int]:
    """Lengths of the documents held out."""
    flags = hold_out(range(100, 100 + len(lengths)), lengths, SplitConfig.model_validate(split)).flags
    return [length for length, flag in zip(lengths, flags, strict=True) if flag]


@pytest.mark.parametrize("seed", range(20))
def test_few_documents_never_hold_out_the_larger_part(seed: int) -> None:
    draw = random.Random(seed)
    lengths = [draw.choice((1, 30, 1000, 50_000)) + draw.randrange(30) for _ in range(draw.randrange(2, FEW))]
    found = held(lengths, validation=draw.choice((0.1, 0.3, 0.9)), seed=seed)
    assert found and 2 * sum(found) <= sum(lengths)


def test_the_length_of_few_documents_comes_nearest_to_the_share() -> None:
    assert held([9000, 1000]) == held([1000, 9000]) == [1000]
    assert held([500, 2000, 60, 440, 7000]) == [500, 60, 440]
    assert held([100, 100, 100, 700], validation=0.3) == [100, 100, 100]
    assert sum(held([4000, 3000, 3000], largest=3100)) == 3000


def test_the_seed_decides_between_equals() -> None:
    choices = [hold_out(range(7), [50] * 7, SplitConfig(seed=seed)).flags.tolist() for seed in range(8)]
    assert choices[3] == hold_out(range(7), [50] * 7, SplitConfig(seed=3)).flags.tolist()
    assert all(sum(flags) == 1 for flags in choices) and len(set(map(tuple, choices))) > 1


def test_a_number_and_the_end_stay_as_asked() -> None:
    assert held([10, 20, 3000], validation=1, order="last") == [3000]
    assert held([10, 20, 3000], order="last") == [3000]
    assert len(held([10, 20, 30, 40], validation=2)) == 2
