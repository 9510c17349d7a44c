import pytest

from congling.evals.compression import COMPRESSORS, compressed_bits, tail

TEXT = "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。寒来暑往，秋收冬藏。"


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_text_seen_before_costs_next_to_nothing(name: str):
    known = compressed_bits(name, tail([TEXT]), [TEXT])
    unknown = compressed_bits(name, tail(["却说那日天气晴和，众人在园中闲坐。"]), [TEXT])
    assert known < unknown / 4 and unknown > 8 * len(TEXT)


def test_the_tail_is_the_end_of_all_texts():
    texts = [TEXT, "云对雨", "雪对风"]
    whole = b"".join(text.encode() + b"\0" for text in texts)
    assert tail(texts) == whole
    for window in (1, 10, 12, 50):
        assert tail(texts, window) == whole[-window:]
