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


def parts(lengths: list[int], **split: float | str) -> tuple[list[int], list[int], list[int]]:
    """Places of the documents for training, validation and test."""
    found = hold_out(range(100, 100 + len(lengths)), lengths, SplitConfig.model_validate(split))
    assert not (found.flags & found.test).any()
    train = ~(found.flags | found.test)
    return tuple(flags.nonzero()[0].tolist() for flags in (train, found.flags, found.test))  # type: ignore


def test_the_test_documents_stand_behind_those_for_validation() -> None:
    found = parts([7] * 80, validation=4, test=8, order="last")
    assert found == (list(range(68)), list(range(68, 72)), list(range(72, 80)))


def test_without_a_test_split_nothing_changes_and_with_one_the_earlier_choice_is_tested() -> None:
    before = parts([7] * 40, validation=0.25, seed=3)
    assert before[2] == []
    train, validation, test = parts([7] * 40, validation=0.1, test=0.25, seed=3)
    assert test == before[1] and len(validation) == 4 and len(train) == 26
    halves = parts([7] * 40, validation=0.125, test=0.125, seed=3)
    assert halves[0] == before[0] and sorted(halves[1] + halves[2]) == before[1]


@pytest.mark.parametrize("count", range(2, 14))
@pytest.mark.parametrize("order", ["random", "last"])
def test_every_split_gets_something_where_there_are_three_documents(count: int, order: str) -> None:
    for validation, test in ((0.1, 0.1), (0.4, 0.4), (500, 500), (1, 0.9), (0.9, 1)):
        train, for_validation, for_test = parts(
            [50 + 7 * i for i in range(count)], validation=validation, test=test, order=order
        )
        assert train and for_validation and bool(for_test) == (count > 2)


def test_two_documents_are_too_few_for_a_test_split_and_it_is_said() -> None:
    found = hold_out([1, 2], [10, 10], SplitConfig(test=1))
    assert not found.test.any() and found.flags.sum() == 1 and "too few" in found.note


def test_a_test_split_is_a_share_or_a_whole_number() -> None:
    with pytest.raises(ValueError, match="test is a share below 1 or a whole number"):
        SplitConfig(test=1.5)
