"""A hash of a step's rows, however they are cut and shared out."""

import numpy as np

from congling.data.batches import Batch
from congling.data.step_hash import joined, row_sums
from congling.data.tuning.pair_batches import SequenceBatch


def batch(tokens, padding=None):
    return Batch(tokens, tokens, uncounted=padding)


def test_cuts_shares_and_padding_change_nothing_and_another_token_does():
    tokens = np.random.default_rng(0).integers(0, 70_000, (6, 9))
    whole = joined(row_sums([batch(tokens)]))
    parts = [row_sums([batch(tokens[:1]), batch(tokens[1:3])]), row_sums([batch(tokens[3:])])]
    assert joined(parts[0] + parts[1]) == whole and 0 <= whole < 2**48
    wide = np.pad(tokens, ((0, 0), (0, 4)), constant_values=3)
    assert joined(row_sums([batch(wide, np.arange(13)[None] >= np.full((6, 1), 9))])) == whole
    other = tokens.copy()
    other[2, 3] += 1
    assert joined(row_sums([batch(other)])) != whole


def test_sequences_count_wherever_they_are_packed():
    one, two, three = np.arange(4), np.arange(10, 13), np.arange(20, 22)

    def packed(*rows):
        tokens, owner = np.zeros((len(rows), 8), np.int64), np.zeros((len(rows), 8), np.int64)
        padding, number = np.ones((len(rows), 8), bool), 0
        for i, row in enumerate(rows):
            start = 0
            for sequence in row:
                part = slice(start, start := start + len(sequence))
                tokens[i, part], owner[i, part], padding[i, part] = sequence, number, False
                number += 1
        return SequenceBatch(tokens, tokens, uncounted=padding, owner=owner)

    apart = row_sums([packed([one]), packed([two], [three])])
    assert joined(row_sums([packed([three, one], [two])])) == joined(apart)
    assert joined(row_sums([packed([one, two])])) != joined(apart)
