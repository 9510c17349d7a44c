from collections import Counter

import pytest

from congling.tokenizer.advice import LARGEST, advise_vocab
from congling.tokenizer.sampling import BLOCK_CHARACTERS, count, sample

TEXTS = ["红楼梦" * 9000, "abc é", "", "😀𠀀\n" * 500, "一二三四五" * 20_000]


def texts():
    return iter(TEXTS)


def test_counts_are_exact():
    found = count(texts)
    whole = "".join(TEXTS)
    assert found.by_character == dict(Counter(whole))
    assert (found.texts, found.characters, found.bytes) == (len(TEXTS), len(whole), len(whole.encode()))
    assert list(found.by_character.values()) == sorted(found.by_character.values(), reverse=True)
    assert found.frequent(9000) == sum(number >= 9000 for number in Counter(whole).values())


def test_a_small_corpus_is_taken_whole():
    found = list(sample(texts, corpus_bytes=count(texts).bytes, limit_bytes=10**9, seed=0))
    assert "".join(found) == "".join(TEXTS)
    assert max(map(len, found)) <= BLOCK_CHARACTERS


@pytest.mark.parametrize("limit", [0, 60_000, 150_000])
def test_the_limit_is_never_passed(limit):
    total = count(texts).bytes
    found = list(sample(texts, corpus_bytes=total, limit_bytes=limit, seed=0))
    assert sum(len(block.encode()) for block in found) <= limit
    assert found == list(sample(texts, corpus_bytes=total, limit_bytes=limit, seed=0))


def test_the_sample_is_spread_over_the_corpus_and_depends_on_the_seed():
    documents = [f"{number:05d}" * 20 for number in range(4000)]
    taken = list(sample(lambda: iter(documents), corpus_bytes=400_000, limit_bytes=100_000, seed=1))
    places = [int(text[:5]) for text in taken]
    assert 800 < len(places) <= 1000
    assert places == sorted(places)
    assert all(sum(low <= place < low + 1000 for place in places) > 150 for low in (0, 1000, 2000))
    assert taken != list(sample(lambda: iter(documents), corpus_bytes=400_000, limit_bytes=100_000, seed=2))


def test_advice_grows_with_the_corpus_and_explains_itself():
    book = advise_vocab(530_000, 4073, 2500)
    assert 4000 <= book.vocab_size <= 5500
    tiny = advise_vocab(1600, 600, 600)
    assert 1050 <= tiny.vocab_size < 1150  # every character with its beginnings, and hardly more
    sizes = [
        advise_vocab(characters, 5000, 3000).vocab_size
        for characters in (10**4, 10**5, 10**6, 10**7, 10**8, 10**10)
    ]
    assert sizes == sorted(sizes)
    assert sizes[-1] == LARGEST
    assert all(reason.endswith(".") for reason in book.reasons + tiny.reasons)
    assert advise_vocab(1600, 600, kind="character").vocab_size == 859
