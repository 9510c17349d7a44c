"""How much better one model is than another, and how sure that is: paired where both met the same items.

::

    same items     d = b - a of each item       bootstrap over the items: hard ones are hard for both,
                                                which cancels in d; so the interval is narrow
    only intervals [la, ha] and [lb, hb]        square-and-add (Zou & Donner 2008): wider
    one number each                             no interval can be given
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from congling.evals.scores import bootstrap


@dataclass(frozen=True)
class Measured:
    """One number of one model, with whatever is known of its certainty."""

    value: float
    low: float | None = None
    high: float | None = None
    """The 95 % interval."""
    n: int | None = None
    """Cases it was measured on."""
    items: Mapping[str, float] = field(default_factory=dict, repr=False)
    """The number of each case by its name; ``value`` is their mean."""


@dataclass(frozen=True)
class Difference:
    """Second minus first."""

    value: float
    low: float | None
    high: float | None
    how: Literal["paired", "unpaired", "no interval"]
    n: int | None = None
    """Items both were measured on, where it is paired."""

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def difference(first: Measured, second: Measured) -> Difference:
    """Second minus first, by the best method their measurements allow."""
    shared = sorted(first.items.keys() & second.items.keys())
    if len(shared) >= 2 and len(shared) == len(first.items) == len(second.items):
        return paired([first.items[name] for name in shared], [second.items[name] for name in shared])
    value = second.value - first.value
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Difference(value, None, None, "no interval")
    below = math.hypot(second.value - second.low, first.high - first.value)
    above = math.hypot(second.high - second.value, first.value - first.low)
    return Difference(value, value - below, value + above, "unpaired")


def paired(
    first: Sequence[float], second: Sequence[float], sizes: Sequence[float] | None = None, *, seed: int = 0
) -> Difference:
    """Difference of two means over the same items, or of two ratios over the sum of their ``sizes``.

    The interval is that of a seeded bootstrap over the items.

    Args:
        first: a number of each item, such as bits of each answer.
        second: the same items' numbers of the other model.
        sizes: what the sums are divided by, such as characters; one each when not given.
        seed: equal seeds give equal intervals.

    Raises:
        ValueError: there are no items, or not the same number of them.
    """
    gain = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    weight = np.ones(len(gain)) if sizes is None else np.asarray(sizes, np.float64)
    if not len(gain) or len(weight) != len(gain):
        raise ValueError(f"{len(gain)} items and {len(weight)} sizes")
    value, n = float(gain.sum() / weight.sum()), len(gain)
    if n < 2:
        return Difference(value, None, None, "no interval", n)
    return Difference(value, *bootstrap(gain, weight, seed=seed), "paired", n)
