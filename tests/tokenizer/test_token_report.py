import json

import pytest

from congling.tokenizer.character import CharacterTokenizer
from congling.tokenizer.config import TokenizerConfig
from congling.tokenizer.token_report import report, usage
from congling.tokenizer.training import train


def test_the_numbers_by_hand():
    tokenizer = CharacterTokenizer("天地玄")
    found = report(tokenizer, usage(tokenizer, ["天天地"]), usage(tokenizer, ["天黄"]))
    assert (found.characters, found.bytes, found.tokens) == (2, 6, 4)  # 黄 is spelt in three bytes
    assert found.characters_per_token == 0.5
    assert found.coverage == pytest.approx(0.5)
    assert found.unused == 1
    assert found.most_frequent[:2] == (("天", 2), ("地", 1))


def test_the_report_lies_in_the_directory(tmp_path):
    def texts():
        return iter(["天地玄黄，宇宙洪荒。" * 30])

    trained = train(TokenizerConfig(), texts, tmp_path / "out", held_out=lambda: iter(["天地人"]))
    content = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert content["vocab_size"] == trained.report.vocab_size
    assert content["held_out"] is True
    assert content["advice"] == list(trained.advice.reasons)
    assert content["coverage"] < 1
