import threading

import numpy as np
import pytest

from congling.core.errors import UserError
from congling.data.batches import CorpusBatches
from congling.data.packing import restarts
from congling.data.prefetch import prefetch
from congling.data.token_split import TokenSplit

EOS = 1


def split_of(*lengths: int) -> TokenSplit:
    """Documents whose ids count up from 10 through the whole split, so that every token is told apart."""
    ends = np.cumsum(lengths)
    tokens = np.arange(10, 10 + ends[-1]).astype(np.uint16)
    tokens[ends - 1] = EOS
    sizes = np.asarray(lengths) - 1
    return TokenSplit(
        tokens, ends.astype(np.int64), sizes.astype(np.int64), 3 * sizes.astype(np.int64), EOS, 60_000
    )


MANY = split_of(7, 1, 30, 12, 2, 90, 5, 5, 61, 18, 3, 44)


def rows(batches, step, world=1):
    """All rows of a step as tuples, in rank and micro-batch order."""
    dealt = [batches(step, rank, world) for rank in range(world)]
    return [tuple(row) for rank in dealt for batch in rank for row in batch.targets]


def equal(left, right):
    fields = ("tokens", "targets", "weights", "positions", "documents", "count")
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        if getattr(a, name) is not None
        else getattr(b, name) is None
        for a, b in zip(left, right, strict=True)
        for name in fields
    )


@pytest.mark.parametrize("context", [3, 8, 16])
def test_every_token_is_a_target_once_an_epoch(context):
    batches = CorpusBatches(MANY, context=context, rows=1, seed=3)
    total = len(MANY.tokens)
    assert batches.steps_per_epoch == total // context
    for epoch in range(3):
        first = epoch * batches.windows
        seen = [
            token
            for step in range(first, first + batches.windows)
            for row in rows(batches, step)
            for token in row
        ]
        ordinary = [token for token in seen if token != EOS]
        assert len(seen) == total // context * context
        assert len(set(ordinary)) == len(ordinary)
        assert len(seen) > total - context


def test_inputs_and_targets_are_neighbours_and_documents_begin_after_eos():
    batches = CorpusBatches(MANY, context=16, rows=4, seed=1)
    starts = {int(MANY.document(index)[0]) for index in range(MANY.documents)} - {EOS}
    for step in range(12):
        for batch in batches(step):
            assert np.array_equal(batch.tokens[:, 1:], batch.targets[:, :-1])
            inside = ~np.isin(batch.targets, list(starts)) & (batch.targets != EOS)
            assert np.array_equal(batch.tokens[inside], batch.targets[inside] - 1)
            assert (batch.tokens[np.isin(batch.targets, list(starts))] == EOS).all()
            assert batch.count == batch.targets.size


def test_epochs_differ_in_order_and_in_cuts():
    batches = CorpusBatches(MANY, context=8, rows=1, seed=3)
    one, two = (
        [rows(batches, epoch * batches.windows + step)[0] for step in range(batches.windows)]
        for epoch in (0, 1)
    )
    assert one != two
    assert set(one) != set(two)
    assert [
        rows(CorpusBatches(MANY, context=8, rows=1, seed=4), step)[0] for step in range(batches.windows)
    ] != one


def test_batches_are_a_pure_function():
    arguments = {"context": 8, "rows": 3, "accumulation": 2, "seed": 9, "document_mask": True}
    forward = CorpusBatches(MANY, **arguments)
    in_order = [forward(step) for step in range(40)]
    other = CorpusBatches(MANY, **arguments)
    for step in (39, 0, 17, 17, 38, 3):
        assert equal(other(step), in_order[step])


@pytest.mark.parametrize("world", [2, 3, 4, 6])
def test_the_number_of_ranks_changes_nothing_but_who_gets_what(world):
    batches = CorpusBatches(MANY, context=8, rows=3, accumulation=4, seed=9)
    for step in range(8):
        assert rows(batches, step, world) == rows(batches, step)
        counts = {len(batches(step, rank, world)) for rank in range(world)}
        assert len(counts) == 1


def test_whole_micro_batches_where_ranks_divide_the_accumulation():
    batches = CorpusBatches(MANY, context=8, rows=3, accumulation=4)
    assert [batch.tokens.shape for batch in batches(0, 1, 2)] == [(3, 8), (3, 8)]
    assert batches.tokens_per_step == 96


def test_too_many_ranks_are_refused():
    with pytest.raises(UserError, match="shared out"):
        CorpusBatches(MANY, context=8, rows=2)(0, 0, 3)
    with pytest.raises(UserError, match="shared out"):
        CorpusBatches(MANY, context=8, rows=1, accumulation=3)(0, 0, 2)


def test_a_corpus_shorter_than_a_window_goes_round():
    tiny = split_of(6, 4)
    batches = CorpusBatches(tiny, context=32, rows=5, seed=0)
    assert batches.steps_per_epoch == 0.2
    (batch,) = batches(3)
    assert batch.tokens.shape == (5, 32)
    assert set(batch.targets.ravel()) == set(tiny.tokens)
    for row in batch.targets:
        assert np.array_equal(row[:22], row[10:])


def test_an_empty_split_is_an_error():
    empty = np.empty(0, np.int64)
    with pytest.raises(UserError, match="no tokens"):
        CorpusBatches(TokenSplit(empty, empty, empty, empty, EOS, 10), context=4, rows=1)


def test_positions_restart_with_each_document():
    batches = CorpusBatches(MANY, context=16, rows=4, seed=1, document_mask=True)
    for step in range(10):
        for batch in batches(step):
            assert batch.positions is not None
            assert batch.documents is not None
            assert batch.positions.max() < 16
            assert (batch.documents[:, 0] == 0).all()
            opens = np.zeros(batch.tokens.shape, bool)
            opens[:, 0] = True
            opens[:, 1:] = batch.tokens[:, 1:] == EOS  # the eos before a document opens it
            assert np.array_equal(batch.positions == 0, opens)
            assert np.array_equal(np.diff(batch.documents, axis=1), opens[:, 1:].astype(int))


def test_restarts_by_hand():
    positions, documents = restarts(np.array([[5, 5, 9, 9, 9, 2], [7, 7, 7, 7, 7, 7]]))
    assert positions.tolist() == [[0, 1, 0, 1, 2, 0], [0, 1, 2, 3, 4, 5]]
    assert documents.tolist() == [[0, 0, 1, 1, 1, 2], [0, 0, 0, 0, 0, 0]]


def test_prefetching_changes_nothing():
    batches = CorpusBatches(MANY, context=8, rows=2, accumulation=2, seed=5)
    with prefetch(batches, 4, 14) as ahead:
        found = list(ahead)
    assert len(found) == 10
    assert all(equal(step, batches(4 + index)) for index, step in enumerate(found))


def test_prefetching_ends_cleanly_and_raises_where_asked():
    batches = CorpusBatches(MANY, context=8, rows=2)
    before = threading.active_count()
    with prefetch(batches, 0) as ahead:
        next(ahead)
    assert threading.active_count() == before

    def broken(step, rank, world):
        if step == 2:
            raise UserError("the disk is gone")
        return batches(step, rank, world)

    with prefetch(broken, 0) as ahead:
        next(ahead)
        next(ahead)
        with pytest.raises(UserError, match="disk is gone"):
            next(ahead)
        with pytest.raises(StopIteration):
            next(ahead)
    assert threading.active_count() == before
