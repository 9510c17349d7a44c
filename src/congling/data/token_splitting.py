"""Subword regularisation: each token is split in two with some probability, anew in every epoch.

Where a small corpus is read many times, a model that always meets a word as one piece memorises sequences of
tokens. Breaking pieces up at random (as BPE-dropout does while merging, Provilkov et al. 2020)
shows it the same text in ever new ways, and teaches rare pieces through the characters they are made of.
"""

# N tokens, M tokens after falling apart, V vocabulary

from dataclasses import replace

import numpy as np

from congling.core.errors import UserError
from congling.data.token_split import TokenSplit

MOST_TOKENS = 100_000_000
"""A pass is held in memory; a corpus beyond this is not read often enough to need it."""


def split_tokens(
    split: TokenSplit, parts: np.ndarray, share: float, random: np.random.Generator
) -> TokenSplit:
    """The same documents with each divisible piece broken in two with probability ``share``, and again its
    parts.

    Args:
        split: N tokens.
        parts: (V, 2), the two tokens an id splits into, or -1 (:func:`congling.tokenizer.token_parts.parts`).
        share: probability for each piece.
        random: source of chance.

    Raises:
        UserError: the split is too large to be held in memory.
    """
    tokens, ends = np.asarray(split.tokens), split.ends
    if len(tokens) > MOST_TOKENS:
        raise UserError(
            "this corpus is too large for train.token_split_prob",
            value=f"{len(tokens):,} tokens",
            hint="set train.token_split_prob to 0",
        )
    fresh = np.ones(len(tokens), bool)  # not yet considered
    while fresh.any():
        breaks = fresh & (parts[tokens, 0] >= 0) & (random.random(len(tokens)) < share)
        lengths = 1 + breaks
        ends = np.concatenate(([0], np.cumsum(lengths)))[ends]
        first = np.cumsum(lengths) - lengths  # (N,) where each token goes
        spread = np.repeat(tokens, lengths)
        spread[first[breaks]] = parts[tokens[breaks], 0]
        spread[first[breaks] + 1] = parts[tokens[breaks], 1]
        tokens, fresh = spread, np.repeat(breaks, lengths)
    return replace(split, tokens=tokens, ends=ends)


def expected_growth(split: TokenSplit, parts: np.ndarray, share: float) -> float:
    """Mean length of a text that fell apart, relative to before."""
    divisible = parts[:, 0] >= 0
    lengths = np.ones(len(parts))
    for _ in range(int(divisible.sum())):  # parts of parts; ends as soon as nothing changes
        longer = np.where(divisible, 1 - share + share * lengths[parts].sum(1), 1.0)
        if np.array_equal(longer, lengths):
            break
        lengths = longer
    counts = np.zeros(len(parts), np.int64)
    for start in range(0, len(split.tokens), 2**22):
        counts += np.bincount(split.tokens[start : start + 2**22], minlength=len(parts))
    return float(counts @ lengths / counts.sum())
