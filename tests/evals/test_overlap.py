import random

import pytest

from congling.evals.overlap import common, overlap


def table(one: str, other: str) -> int:
    """Longest common subsequence by the usual table."""
    above = [0] * (len(one) + 1)
    for character in other:
        row = [0]
        for place, own in enumerate(one):
            row.append(above[place] + 1 if own == character else max(row[place], above[place + 1]))
        above = row
    return above[-1]


def test_common_is_what_the_usual_table_says():
    draw = random.Random(0)
    for _ in range(200):
        one, other = ("".join(draw.choices("天地玄黄", k=draw.randrange(90))) for _ in range(2))
        assert common(one, other) == table(one, other)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("", "", 1.0), ("", "天", 0.0), ("天地", "天地", 1.0), ("天地玄黄", "天玄", 2 * 2 / 6)],
)
def test_overlap(one: str, other: str, expected: float):
    assert overlap(one, other) == pytest.approx(expected)
