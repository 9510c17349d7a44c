from collections import Counter

import numpy as np
import pytest

from congling.data.counts import Counts, Keys, codes, discount, looked_up, merged, summed


def table(counts: Counter[int]) -> tuple[Keys, Counts]:
    keys = sorted(counts)
    return np.array(keys, np.uint64), np.array([counts[key] for key in keys], np.int64)


def test_tables_add_up_as_counters_do():
    first, second = Counter({3: 2, 2**63: 1}), Counter({3: 5, 7: 4})
    keys, counts = merged(*table(first), *table(second))
    assert dict(zip(keys.tolist(), counts.tolist(), strict=True)) == dict(first + second)
    assert keys.tolist() == sorted(keys.tolist())
    nothing = np.empty(0, np.uint64), np.empty(0, np.int64)
    assert [part.tolist() for part in merged(*nothing, *table(first))] == [[3, 2**63], [2, 1]]
    keys, counts = summed(np.array([5, 1, 5], np.uint64), np.array([1, 2, 3], np.int64))
    assert (keys.tolist(), counts.tolist()) == ([1, 5], [2, 4])


def test_what_is_not_in_a_table_counts_nothing():
    keys, counts = table(Counter({3: 2, 9: 4}))
    assert looked_up(keys, counts, np.array([9, 0, 4, 3, 10], np.uint64)).tolist() == [4, 0, 0, 2, 0]


def test_code_points():
    assert codes("a学𠀀").tolist() == [0x61, 0x5B66, 0x20000]


@pytest.mark.parametrize(
    ("counts", "expected"), [([1, 1, 2, 7], 0.5), ([1] * 9, 0.95), ([2, 2], 0.05), ([], 0.05)]
)
def test_a_discount_follows_from_what_is_rare(counts: list[int], expected: float):
    assert discount(np.array(counts, np.int64)) == expected
