"""How many bits per character of the small world holds: the loss no model can get below, on average.

Exact, not an estimate by some model: a document is a row of uniform choices, and no two rows write the
same text (``proof.py``), so −log2 P(text) is the sum of log2(possibilities) over its choices, that of its
kind and that of ending where it ends included. Only the mean over documents is a sample, hence its error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

from congling.data.smallworld.config import KINDS, SmallWorldConfig
from congling.data.smallworld.generator import Generator


@dataclass(frozen=True)
class Floor:
    """Entropy of the corpus in bits per character; ``bits`` of all documents over their characters."""

    bits_per_character: float
    standard_error: float
    documents: int
    characters: int


@dataclass(frozen=True)
class EntropyFloor(Floor):
    """The floor of the whole mix and of each kind of document in it."""

    by_kind: Mapping[str, Floor]


def entropy_floor(config: SmallWorldConfig, documents: int = 2000) -> EntropyFloor:
    """Estimate the entropy rate from the exact information of the first ``documents`` documents."""
    generator = Generator(config)
    rows: dict[str, list[tuple[float, int]]] = {}
    for index in range(documents):
        document = generator.document(index)
        rows.setdefault(document.meta["kind"], []).append((document.meta["bits"], len(document.text)))
    parts = {kind: Floor(*_ratio(rows[kind])) for kind in KINDS if kind in rows}
    return EntropyFloor(*_ratio([row for kind in rows.values() for row in kind]), by_kind=parts)


def _ratio(rows: list[tuple[float, int]]) -> tuple[float, float, int, int]:
    """Ratio of two sums with its standard error by linearisation: (ratio, error, documents, characters)."""
    characters = sum(length for _, length in rows)
    ratio = sum(bits for bits, _ in rows) / characters
    squares = sum((bits - ratio * length) ** 2 for bits, length in rows)
    return ratio, sqrt(squares) / characters, len(rows), characters
