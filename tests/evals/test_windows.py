import numpy as np
import pytest

from congling.data.token_split import TokenSplit
from congling.evals.windows import Row, split_row, text_rows, window_starts

EOS = 1


def split_of(*lengths: int) -> TokenSplit:
    """Documents whose ids count up from 10 through the whole split, so that every token is told apart."""
    ends = np.cumsum(lengths)
    tokens = np.arange(10, 10 + ends[-1]).astype(np.uint16)
    tokens[ends - 1] = EOS
    sizes = np.asarray(lengths) - 1
    return TokenSplit(tokens, ends, sizes, 3 * sizes, EOS, 60_000)


MANY = split_of(7, 1, 30, 12, 2, 90, 5, 5, 61, 18, 3, 44)


def windows(context: int, overlap: int, mask: bool = False) -> list[Row]:
    starts = window_starts(len(MANY.tokens), context, overlap).tolist()
    return [split_row(MANY, start, context, overlap, document_mask=mask) for start in starts]


@pytest.mark.parametrize(
    ("context", "overlap"), [(8, 0), (8, 3), (16, 15), (500, 0), (500, 100), (278, 0), (279, 0)]
)
def test_each_token_of_a_split_is_scored_once(context: int, overlap: int):
    rows = windows(context, overlap)
    scored = np.concatenate([row.ids[row.start :] for row in rows])
    assert np.array_equal(scored, MANY.tokens)
    assert all(len(row.ids) <= context + 1 for row in rows)
    assert all(row.start == overlap + 1 for row in rows[1:])
    assert len(rows) == max(1, -(-(len(MANY.tokens) - overlap) // (context - overlap)))
    whole = [EOS, *MANY.tokens.tolist()]  # the first token is predicted from an end of a text too
    starts = window_starts(len(MANY.tokens), context, overlap).tolist()
    assert [list(row.ids) for row in rows] == [whole[start : start + context + 1] for start in starts]


def test_an_id_belongs_to_the_document_of_what_follows_it():
    row = split_row(MANY, 5, 8, 0, document_mask=True)
    assert list(row.ids) == [14, 15, EOS, EOS, 18, 19, 20, 21, 22]
    assert row.documents is not None and row.documents.tolist() == [0, 0, 1, 2, 2, 2, 2, 2]
    assert split_row(MANY, 5, 8, 0).documents is None


def test_fewer_windows_are_spread_over_the_whole_text():
    everything, some = window_starts(278, 8, 0), window_starts(278, 8, 0, 45)
    assert len(some) == 5 and {some[0], some[-1]} == {everything[0], everything[-1]}
    assert set(some) <= set(everything)
    assert np.array_equal(window_starts(278, 8, 0, 10**6), everything)
    with pytest.raises(ValueError, match="overlap"):
        window_starts(278, 8, 8)


@pytest.mark.parametrize("length", [2, 9, 10, 17, 40])
def test_windows_over_a_text_score_every_id_once_behind_half_a_context(length: int):
    ids, context = list(range(length)), 8
    rows = text_rows(ids, context)
    assert [index for row in rows for index in row.ids[row.start :]] == ids[1:]
    assert all(len(row.ids) <= context + 1 for row in rows)
    assert all(row.start > context // 2 for row in rows[1:])
