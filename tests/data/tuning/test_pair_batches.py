"""Batches of whole answers: every pair once a pass, in an order that the step alone decides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from congling.data.tuning.examples import Example
from congling.data.tuning.kl_examples import kl_examples
from congling.data.tuning.pair_batches import Order, PairBatches, Rated, RatedBatches, SequenceBatch, batched

CONTEXT, PAD = 32, 0


def example(number: int, length: int, prompt: int = 1) -> Example:
    """A text whose every id is its number."""
    ids = np.full(length, number, np.int32)
    return Example(ids, np.arange(length) >= prompt, 0, f"rows:{number}")


def pairs(count: int) -> list[tuple[Example, Example]]:
    random = np.random.default_rng(count)
    return [tuple(example(i + 1, int(n)) for n in random.integers(2, CONTEXT + 2, 2)) for i in range(count)]


def batches(count: int, rows: int, accumulation: int, seed: int = 0) -> PairBatches:
    reference = np.arange(2 * count, dtype=np.float32)
    return PairBatches(
        pairs(count),
        context=CONTEXT,
        rows=rows,
        accumulation=accumulation,
        seed=seed,
        pad=PAD,
        reference=reference,
    )


def numbers(batch: SequenceBatch) -> list[int]:
    """The number of every sequence, and that all its places say so."""
    found = []
    for index in range(batch.sequences):
        (number,) = set(batch.tokens[(batch.owner == index) & (batch.tokens != PAD)].tolist())
        found.append(number)
    return found


@settings(max_examples=12)
@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 4))
def test_a_pass_has_every_pair_once_with_its_own_numbers(count: int, rows: int, accumulation: int):
    made, step = batches(count, rows, accumulation), rows * accumulation
    seen: list[int] = []
    for number in range(-(-2 * count // step)):
        for batch in made(number):
            found = numbers(batch)
            assert found[0::2] == found[1::2] and batch.count == len(found) / 2
            wanted = [x for i in found[0::2] for x in (2 * (i - 1), 2 * (i - 1) + 1)]
            assert batch.reference.tolist() == wanted
            seen += found[0::2]
    assert sorted(seen[:count]) == sorted(seen[count : 2 * count]) == list(range(1, count + 1))


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_a_step_and_nothing_else_decides_it(world: int):
    made = batches(37, 2, 4)
    whole = [[number for batch in made(step) for number in numbers(batch)] for step in range(9)]
    for step in (8, 0, 5):  # in any order, from new objects
        again = batches(37, 2, 4)
        parts = [
            [number for batch in again(step, rank, world) for number in numbers(batch)]
            for rank in range(world)
        ]
        assert [number for part in parts for number in part] == whole[step]
        assert len({len(again(step, rank, world)) for rank in range(world)}) == 1
    other = batches(37, 2, 4, seed=1)
    assert [[number for batch in other(step) for number in numbers(batch)] for step in range(9)] != whole


def test_pairs_of_like_length_stand_together():
    lengths = np.random.default_rng(1).integers(1, 500, 640)
    order = Order(lengths, 8, 0)
    steps = lengths[order(np.arange(640))].reshape(-1, 8)
    assert np.ptp(steps, axis=1).mean() < 0.3 * np.ptp(lengths)
    assert sorted(order(np.arange(640))) == list(range(640))


def test_rows_hold_whole_sequences_and_their_masks():
    given_examples = [example(i + 1, n, p) for i, (n, p) in enumerate([(9, 3), (5, 1), (33, 30), (2, 1)])]
    batch = batched(SequenceBatch, given_examples, CONTEXT, PAD)
    assert batch.tokens.shape[0] < 4 and numbers(batch) == [1, 2, 3, 4]
    for index, one in enumerate(given_examples):
        place = (batch.owner == index) & (batch.tokens != PAD)
        assert place.sum() == one.length
        np.testing.assert_array_equal(batch.targets[place], one.input_ids[1:])
        np.testing.assert_array_equal(batch.weights[place], one.loss_mask[1:])
        np.testing.assert_array_equal(batch.positions[place], np.arange(one.length))
        assert len(set(batch.documents[place].tolist())) == 1


def test_ratings_and_references_follow_their_answers():
    rated = [Rated(example(i + 1, 3 + i % 5), i % 3 == 0) for i in range(11)]
    others = [example(100 + i, 4) for i in range(11)]
    made = RatedBatches(
        rated,
        others,
        context=CONTEXT,
        rows=4,
        accumulation=1,
        seed=0,
        pad=PAD,
        reference=np.arange(22, dtype=np.float32),
    )
    for step in range(5):
        (batch,) = made(step)
        found = numbers(batch)
        assert found[4:] == [n + 99 for n in found[:4]] and batch.count == 4
        assert batch.good.tolist() == [(n - 1) % 3 == 0 for n in found[:4]]
        assert batch.reference.tolist() == [n - 1 for n in found[:4]] + [n + 10 for n in found[:4]]


def test_unrelated_answers_are_those_to_another_question():
    def asked(question: int, answer: int) -> Rated:
        ids = np.array([question, question, answer, answer], np.int32)
        return Rated(Example(ids, np.array([False, False, True, True]), 0, ""), True)

    rated = [asked(1, 11), asked(1, 12), asked(2, 21), asked(2, 22), asked(1, 13)]
    found = [one.input_ids.tolist() for one in kl_examples(rated, CONTEXT)]
    assert found == [[1, 1, 21, 21], [1, 1, 21, 21], [2, 2, 13, 13], [2, 2, 13, 13], [1, 1, 21, 21]]
    alike = [one.input_ids.tolist() for one in kl_examples([asked(1, 11), asked(1, 12)], CONTEXT)]
    assert alike == [[1, 1, 12, 12], [1, 1, 11, 11]]
    cut = kl_examples([asked(1, 11), asked(2, 22)], 2)
    assert [one.input_ids.tolist() for one in cut] == [[1, 1, 22], [2, 2, 11]]
