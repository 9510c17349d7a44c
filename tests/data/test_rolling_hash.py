import numpy as np
import pytest

from congling.data.counts import codes
from congling.data.rolling_hash import sequence_hashes


@pytest.mark.parametrize("length", [1, 2, 13])
def test_equal_sequences_have_equal_hashes_wherever_they_stand(length: int):
    text = "学而时习之不亦说乎" * 3 + "有朋自远方来"
    sequences = [text[i : i + length] for i in range(len(text) - length + 1)]
    hashes = sequence_hashes(codes(text), length)
    assert len(hashes) == len(sequences)
    assert len(set(hashes.tolist())) == len(set(sequences))
    by_text = dict(zip(sequences, hashes.tolist(), strict=True))
    assert [by_text[one] for one in sequences] == hashes.tolist()
    assert sequence_hashes(codes(sequences[-1]), length).tolist() == hashes[-1:].tolist()


def test_the_order_of_characters_counts():
    first, second = (sequence_hashes(codes(text), 2)[0] for text in ("天地", "地天"))
    assert first != second


def test_a_shorter_text_has_none():
    assert sequence_hashes(codes("天地"), 3).shape == (0,)


def test_the_high_bits_are_spread_evenly():
    high = sequence_hashes(np.arange(0x4E00, 0x4E00 + 8192), 1) >> np.uint64(58)
    counts = np.bincount(high.astype(np.int64), minlength=64)
    assert counts.min() > 64 and counts.max() < 256  # 128 each
