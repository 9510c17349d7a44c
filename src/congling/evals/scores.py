"""One number about a model, never alone: how many cases, a 95 % interval, what chance gives, how it was got.

shares   Wilson's interval (1927), which stays within 0 … 1 and holds for few cases
means    percentiles of a seeded bootstrap over the cases (Efron 1979)
ratios   the same over pairs, for sums of one thing a sum of another: bits per character of whole texts
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z = 1.959963984540054
"""Standard normal quantile of 97.5 %: two-sided 95 %."""
RESAMPLES = 2000
_DRAWN = 2**20


@dataclass(frozen=True)
class Score:
    """A measurement."""

    name: str
    """``task/what``, such as ``continuation/50/overlap``."""
    value: float
    n: int
    """Independent cases: problems, documents, prompts."""
    unit: str
    """``share`` (0 to 1), ``bits/character``, ``nats/token``, ``characters`` or ``tokens``."""
    protocol: str
    """How it was got, in one sentence."""
    low: float | None = None
    high: float | None = None
    """The 95 % interval; None where the cases are not independent."""
    chance: float | None = None
    """What guessing gives."""
    reference: bool = False
    """Whether it is a line to compare with, not the model's own."""
    data: str = ""
    """Names of the files it was measured with; none for the run's own held-out text."""
    shots: int = 0
    """Solved questions that were asked to be shown before each question."""

    @property
    def task(self) -> str:
        """The task it belongs to."""
        return self.name.partition("/")[0]

    @property
    def label(self) -> str:
        """Name and what it was measured with; scores with different labels do not compare."""
        return labelled(self.name, self.data, self.shots)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


def labelled(name: str, data: object, shots: object) -> str:
    """A name with the files and the number of solved questions it was measured with, where there are any.

    >>> labelled("choice/sum", "cmmlu.jsonl", 5), labelled("repetition/greedy/looping", "", 0)
    ('choice/sum (cmmlu.jsonl, 5-shot)', 'repetition/greedy/looping')
    """
    parts = ", ".join(str(part) for part in (data, f"{shots}-shot" if shots else "") if part)
    return f"{name} ({parts})" if parts else name


def shown(value: float, unit: str) -> str:
    """A value with as many places as its unit deserves: shares in per cent."""
    if unit == "share":
        return f"{value:.1%}"
    return f"{value:,.1f}" if unit in ("characters", "tokens") or value >= 100 else f"{value:.3f}"


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion.

    Raises:
        ValueError: there are no cases, or more hits than cases.
    """
    if not 0 <= hits <= n or not n:
        raise ValueError(f"{hits} hits of {n} cases")
    share, weight = hits / n, Z * Z / n
    middle = (share + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(share * (1 - share) / n + weight / (4 * n))
    # At the ends the formula gives 0 and 1 exactly, but for rounding.
    return (0.0 if not hits else middle - half), (1.0 if hits == n else middle + half)


def share(
    name: str, hits: Sequence[bool], protocol: str, *, chance: float | None = None, reference: bool = False
) -> Score:
    """Score of a proportion of independent cases.

    Raises:
        ValueError: there are no cases.
    """
    count, n = sum(map(bool, hits)), len(hits)
    low, high = wilson(count, n)
    return Score(name, count / n, n, "share", protocol, low, high, chance, reference)


def mean(
    name: str,
    values: Sequence[float],
    unit: str,
    protocol: str,
    *,
    chance: float | None = None,
    reference: bool = False,
    seed: int = 0,
) -> Score:
    """Score of a mean over independent cases.

    Raises:
        ValueError: there are no cases.
    """
    ones = [1.0] * len(values)
    return ratio(name, values, ones, unit, protocol, chance=chance, reference=reference, seed=seed)


def ratio(
    name: str,
    above: Sequence[float],
    below: Sequence[float],
    unit: str,
    protocol: str,
    *,
    chance: float | None = None,
    reference: bool = False,
    seed: int = 0,
) -> Score:
    """Score of ``sum(above) / sum(below)``; cases are drawn as pairs, so that long texts keep their weight.

    Raises:
        ValueError: there are no cases, or nothing below.
    """
    pairs = np.array([above, below], np.float64)  # (2, cases)
    if not pairs.size or not pairs[1].sum() > 0:
        raise ValueError(f"nothing to divide by for {name}")
    low, high = bootstrap(*pairs, seed=seed)
    value = float(pairs[0].sum() / pairs[1].sum())
    return Score(name, value, pairs.shape[1], unit, protocol, low, high, chance, reference)


def bootstrap(above: NDArray[np.float64], below: NDArray[np.float64], *, seed: int) -> tuple[float, float]:
    """95 % interval of ``sum(above) / sum(below)``: percentiles over cases drawn anew (Efron 1979).

    Args:
        above: (n,) a number of each case.
        below: (n,) what it is divided by.
        seed: equal seeds give equal intervals.
    """
    random, n = np.random.default_rng(seed), len(above)
    block = max(1, _DRAWN // n)  # resamples at a time, in bounded memory
    ratios = []
    for start in range(0, RESAMPLES, block):
        drawn = random.integers(0, n, (min(block, RESAMPLES - start), n))
        ratios.append(above[drawn].sum(1) / np.maximum(below[drawn].sum(1), 1e-12))
    low, high = np.percentile(np.concatenate(ratios), (2.5, 97.5))
    return float(low), float(high)
