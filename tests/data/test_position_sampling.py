"""Positions that are drawn for rows: ordered, within reach, restarting with documents, equal on all ranks."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from congling.data.batches import Batch, CorpusBatches
from congling.data.position_sampling import PositionSampling
from congling.data.token_split import TokenSplit
from congling.data.tuning.examples import Example, ExampleBatches

CONTEXT, REACH, EOS = 16, 60, 1
KINDS = pytest.mark.parametrize("kind", ["randomized", "pose"])


def corpus(documents: int, length: int) -> TokenSplit:
    ends = np.arange(1, documents + 1, dtype=np.int64) * length
    tokens = (np.arange(ends[-1]) % 40 + 2).astype(np.uint16)
    tokens[ends - 1] = EOS
    sizes = np.full(documents, length - 1)
    return TokenSplit(tokens, ends, sizes, sizes, EOS, 50)


def batches(kind: str, rows: int = 4, accumulation: int = 1, **more: Any) -> CorpusBatches:
    sampling = PositionSampling(kind, REACH, seed=3)  # type: ignore[arg-type]
    split = corpus(30, 11)
    return CorpusBatches(
        split, context=CONTEXT, rows=rows, accumulation=accumulation, sampling=sampling, **more
    )  # type: ignore[arg-type]


def places(batch: Batch) -> np.ndarray:
    """(B, T), in whatever shape the batch has them."""
    found = np.arange(CONTEXT)[None] if batch.positions is None else batch.positions
    return np.broadcast_to(found, batch.tokens.shape)


def positions_of(found: Iterable[Batch]) -> np.ndarray:
    """(rows, T)."""
    return np.concatenate([places(one) for one in found])


@KINDS
def test_they_grow_from_0_to_at_most_the_end_of_reach(kind: str):
    lasts = set()
    for step in range(200):
        for row in positions_of(batches(kind)(step)):
            assert row[0] == 0 and (np.diff(row) > 0).all() and row[-1] < REACH
            lasts.add(int(row[-1]))
            if kind == "pose":
                assert (np.diff(row) > 1).sum() <= 1
    times = {CONTEXT - 1, 2 * CONTEXT - 1, 3 * CONTEXT - 1, REACH - 1}
    assert lasts == times if kind == "randomized" else REACH - 1 in lasts and len(lasts) > 30


def test_randomized_positions_are_a_subset_drawn_evenly():
    sampling = PositionSampling("randomized", REACH)
    draws = (sampling(np.array([place]), 1, CONTEXT, None) for place in range(4000))
    longest = np.concatenate([one for one in draws if one is not None and one[0, -1] == REACH - 1])
    share = np.bincount(longest[:, 1:-1].ravel(), minlength=REACH)[1:-1] / len(longest)
    wanted = (CONTEXT - 2) / (REACH - 2)
    assert abs(share - wanted).max() < 5 * (wanted * (1 - wanted) / len(longest)) ** 0.5


@KINDS
def test_they_are_the_same_whatever_the_processes_and_the_cut_of_a_step(kind: str):
    for step in (0, 7):
        whole = positions_of(batches(kind, rows=8)(step))
        assert np.array_equal(positions_of(batches(kind, rows=2, accumulation=4)(step)), whole)
        shared = [one for rank in range(2) for one in batches(kind, rows=8)(step, rank, 2)]
        assert np.array_equal(positions_of(shared), whole)
        assert np.array_equal(positions_of(batches(kind, rows=8)(step)), whole)
    assert not np.array_equal(positions_of(batches(kind)(0)), positions_of(batches(kind)(1)))


@KINDS
def test_documents_that_share_a_row_keep_their_order_and_begin_anew(kind: str):
    drawn, plain = (
        batches(kind, document_mask=True),
        CorpusBatches(corpus(30, 11), context=CONTEXT, rows=4, document_mask=True),
    )
    longer = 0
    for step in range(50):
        found, usual = places(drawn(step)[0]), places(plain(step)[0])
        assert np.array_equal(found == 0, usual == 0)
        assert (np.diff(found)[usual[:, 1:] > 0] > 0).all() and found.max() < REACH
        longer += int((found > usual).any())
    assert longer > 20


def test_examples_that_share_a_row_get_them_too():
    made = [Example(np.arange(n, dtype=np.int32) + 2, np.ones(n, bool), n, "") for n in (6, 9, 16, 4)]
    sampling = PositionSampling("pose", REACH)
    drawn = ExampleBatches(made, context=CONTEXT, rows=3, sampling=sampling)
    plain = ExampleBatches(made, context=CONTEXT, rows=3)
    for step in range(5):
        found, usual = places(drawn(step)[0]), places(plain(step)[0])
        assert np.array_equal(found == 0, usual == 0)
        assert (found >= usual).all() and (found > usual).any()


def test_a_row_of_one_token_stays_where_it_is():
    for kind in ("randomized", "pose"):
        assert PositionSampling(kind, 9)(np.arange(3), 3, 1, None) is None
