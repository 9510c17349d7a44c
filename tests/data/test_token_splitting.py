import numpy as np
import pytest

from congling.core.errors import UserError
from congling.data import token_splitting
from congling.data.batches import CorpusBatches
from congling.data.token_split import TokenSplit
from congling.data.token_splitting import expected_growth, split_tokens

PARTS = np.full((10, 2), -1)
PARTS[9] = (7, 8)  # a word of two words of two characters each
PARTS[7] = (3, 4)
PARTS[8] = (5, 6)
SPELT = {9: [3, 4, 5, 6], 7: [3, 4], 8: [5, 6]}


def split(documents=50, seed=0):
    random = np.random.default_rng(seed)
    texts = [np.append(random.integers(3, 10, random.integers(1, 30)), 1) for _ in range(documents)]
    ends = np.cumsum([len(text) for text in texts])
    return TokenSplit(np.concatenate(texts).astype(np.uint16), ends, ends, ends, eos_id=1, vocab_size=10)


def spelt(tokens):
    return [part for token in tokens.tolist() for part in SPELT.get(token, [token])]


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_every_document_still_spells_the_same(share):
    before = split()
    after = split_tokens(before, PARTS, share, np.random.default_rng(0))
    assert [spelt(after.document(i)) for i in range(50)] == [spelt(before.document(i)) for i in range(50)]
    assert after.tokens.dtype == np.uint16
    assert (len(after.tokens) > len(before.tokens)) == (share > 0)
    if share == 1.0:
        assert after.tokens.max() < 7


def test_about_the_given_share_falls_apart():
    before = split(documents=4000)
    after = split_tokens(before, PARTS, 0.2, np.random.default_rng(0))
    kept = (after.tokens == 9).sum() / (before.tokens == 9).sum()
    assert kept == pytest.approx(0.8, abs=0.02)


def test_the_expected_growth_is_what_comes():
    before = split(documents=4000)
    after = split_tokens(before, PARTS, 0.3, np.random.default_rng(0))
    assert expected_growth(before, PARTS, 0.3) == pytest.approx(
        len(after.tokens) / len(before.tokens), rel=0.005
    )
    assert expected_growth(before, PARTS, 0.0) == 1


def test_epochs_differ_and_are_pure():
    batches = [
        CorpusBatches(split(), context=8, rows=4, seed=3, split_pieces=0.5, parts=PARTS) for _ in range(2)
    ]
    steps = [0, 40, 7, 40]
    first = [batches[0](step)[0].tokens for step in steps]
    assert all(
        (batches[1](step)[0].tokens == tokens).all() for step, tokens in zip(steps, first, strict=True)
    )
    plain = CorpusBatches(split(), context=8, rows=4, seed=3)
    assert not (plain(0)[0].tokens == first[0]).all()
    assert plain.steps_per_epoch == batches[0].steps_per_epoch


def test_a_corpus_beyond_memory_is_refused(monkeypatch):
    monkeypatch.setattr(token_splitting, "MOST_TOKENS", 10)
    with pytest.raises(UserError, match="too large for train.token_split_prob"):
        split_tokens(split(), PARTS, 0.1, np.random.default_rng(0))


def test_noise_changes_inputs_only_and_is_pure():
    plain = CorpusBatches(split(documents=400), context=16, rows=8, seed=3)
    noisy = [CorpusBatches(split(documents=400), context=16, rows=8, seed=3, noise=0.3) for _ in range(2)]
    for step in range(5):
        clean, one, two = plain(step)[0], noisy[0](step)[0], noisy[1](step)[0]
        assert (one.tokens == two.tokens).all()
        assert (one.targets == clean.targets).all()
        assert ((one.tokens == 1) == (clean.tokens == 1)).all()
        dealt = [part for rank in range(2) for part in noisy[0](step, rank, 2)]
        assert (np.concatenate([part.tokens for part in dealt]) == one.tokens).all()
    changed = np.mean([(noisy[0](step)[0].tokens != plain(step)[0].tokens).mean() for step in range(50)])
    assert 0.15 < changed < 0.3
