"""Texts as long as they should be, in tokens: the filler is searched for, which is counted in characters."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

SLACK = 16
"""Tokens by which a text may be shorter than it should be: about a sentence."""
_TRIES = 8  # texts made for one length


class Measured(Protocol):
    """A text whose length is known."""

    @property
    def tokens(self) -> int:
        """What must not exceed the length."""
        ...

    @property
    def characters(self) -> int:
        """Of the whole text, filler included."""
        ...


T = TypeVar("T", bound=Measured)


@dataclass
class Fitting:
    """Finds the filler that makes texts as long as they should be."""

    length: int
    """Tokens that a text may have."""
    filler: int = 0
    """Characters of the filler that fitted last: where the next search begins."""

    def fitted(self, make: Callable[[int], T]) -> T | None:
        """The longest text that fits, of some with more and less filler; none where not even one without
        filler does.

        The search ends within ``SLACK`` of the length, or where neighbouring lengths of filler lie on
        either side of it.
        """
        best: T | None = None
        least, most, at = -1, 16 * self.length, self.filler or self.length // 2
        for _ in range(_TRIES):
            found = make(at)
            left = self.length - found.tokens
            if left >= 0:
                least = at
                best = found if best is None or found.tokens > best.tokens else best
                if left <= SLACK:
                    break
            else:
                most = at
            rate = max(0.2, found.tokens / found.characters)
            wanted = at + round((left - SLACK / 2) / rate)
            at = min(max(wanted, least + 1), most - 1)
            if not least < at < most:
                break
        self.filler = max(least, 0)
        return best
