import numpy as np
import pytest

from congling.data.statistics import END, SYMBOLS, CharacterCounts, _Bigram, reference_lines


def counted(*texts: str) -> CharacterCounts:
    counts = CharacterCounts()
    for text in texts:
        counts.add(text)
    return counts


def test_distributions_sum_to_one_over_all_of_unicode() -> None:
    model = _Bigram(counted("云对雨", "雪对风", "晚照对晴空"))
    assert model._unigram.sum() == pytest.approx(1)
    after = np.stack([np.full(SYMBOLS, ord("对")), np.arange(SYMBOLS)])
    total = sum(
        2.0 ** -model.bits(np.array([ord("对"), symbol]))[1] for symbol in (ord("雨"), ord("风"), ord("晴"))
    )
    first = 2.0 ** -model.bits(np.array([ord("对")]))[1]
    seen = total / first
    context, kinds, discount = 3, 3, model._pair_discount
    rest = 1 - sum(model._unigram[ord(character)] for character in "雨风晴")
    assert seen + discount * kinds / context * rest == pytest.approx(1)
    assert after.shape[1] == SYMBOLS


def test_unigram_of_a_known_source() -> None:
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("abcd"), 20000, p=[0.5, 0.25, 0.125, 0.125]))
    lines = reference_lines(counted(text[:15000]), [text[15000:]])
    assert lines is not None
    assert lines.unigram == pytest.approx(1.75, abs=0.03)
    assert lines.bigram == pytest.approx(1.75, abs=0.03)
    assert lines.uniform == pytest.approx(
        np.log2(6), abs=0.01
    )  # four letters, the end, one share for the unseen


def test_bigram_sees_what_unigram_cannot() -> None:
    lines = reference_lines(counted("天地玄黄" * 500), ["天地玄黄" * 100])
    assert lines is not None
    assert lines.bigram < 0.3 < 1.9 < lines.unigram


def test_an_unseen_character_costs_about_twenty_bits_more_and_is_counted() -> None:
    lines = reference_lines(counted("天地" * 200), ["天地玄"])
    assert lines is not None
    assert lines.unseen == pytest.approx(1 / 3, abs=1e-6)
    assert 20 / 3 < lines.uniform < 30


def test_counts_do_not_depend_on_how_they_were_settled() -> None:
    once, often = counted("云对雨", "雪对风"), CharacterCounts()
    for text in ("云对雨", "雪对风"):
        often.add(text)
        often.settle()
    assert [part.tolist() for part in once.pairs()] == [part.tolist() for part in often.pairs()]
    assert once.characters == often.characters == 6
    assert once.counts[END] == 2


def test_no_text_has_no_reference_lines() -> None:
    assert reference_lines(CharacterCounts(), ["云"]) is None
    assert reference_lines(counted("云"), []) is None
