import math

import pytest

from congling.evals.scores import Score, mean, ratio, share, wilson


@pytest.mark.parametrize(
    ("hits", "n", "expected"),
    [(0, 10, (0.0, 0.2775)), (5, 10, (0.2366, 0.7634)), (10, 10, (0.7225, 1.0)), (1, 1, (0.2065, 1.0))],
)
def test_wilson_is_the_published_interval(hits: int, n: int, expected: tuple[float, float]):
    assert wilson(hits, n) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_proportion(hits: int, n: int):
    with pytest.raises(ValueError, match="cases"):
        wilson(hits, n)


def test_a_share_says_how_many_cases_and_what_chance_gives():
    found = share("quiz/right", [True, False, True, True], "asked", chance=0.25)
    assert (found.value, found.n, found.chance, found.task) == (0.75, 4, 0.25, "quiz")
    assert found.low is not None and found.high is not None and found.low < 0.75 < found.high
    assert Score(**found.to_json()) == found


def test_a_ratio_gives_long_texts_their_weight():
    found = ratio("loss/bits", [10.0, 300.0], [10.0, 100.0], "bits/character", "")
    assert found.value == pytest.approx(310 / 110)
    assert (found.low, found.high) == (1.0, 3.0)  # two cases: one of them drawn twice at the ends


def test_an_interval_narrows_with_the_cases_and_repeats_with_the_seed():
    few, many = (mean("a", [0.0, 1.0] * n, "share", "") for n in (10, 1000))
    width = [one.high - one.low for one in (few, many) if one.high is not None and one.low is not None]
    assert width[1] < width[0] / 5
    assert width[1] == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 2000), rel=0.15)
    assert mean("a", [0.0, 1.0, 0.5], "share", "", seed=3) == mean("a", [0.0, 1.0, 0.5], "share", "", seed=3)


@pytest.mark.parametrize(("above", "below"), [([], []), ([1.0], [0.0])])
def test_nothing_below_is_an_error(above: list[float], below: list[float]):
    with pytest.raises(ValueError, match="nothing to divide by"):
        ratio("a/b", above, below, "share", "")
