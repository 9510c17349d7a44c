import numpy as np
import pytest

from congling.data.statistics import END, SYMBOLS, BigramModel, CharacterCounts, reference_lines


def counted(*texts: str) -> CharacterCounts:
    counts = CharacterCounts()
    for text in texts:
        counts.add(text)
    return counts


def test_distributions_sum_to_one_over_all_of_unicode() -> None:
    model = BigramModel(counted("云对雨", "雪对风", "晚照对晴空"))
    for before in (ord("对"), ord("无")):  # one that was read, and one that never was
        text = np.stack([np.full(SYMBOLS, before), np.arange(SYMBOLS)], axis=1).ravel()
        alone, after = (found[1::2] for found in model.probabilities(text))
        assert alone.sum() == pytest.approx(1) and after.sum() == pytest.approx(1)
    assert after == pytest.approx(alone)


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
