import pytest

from congling.tokenizer import store
from congling.tokenizer.config import TokenizerConfig
from congling.tokenizer.token_parts import token_parts
from congling.tokenizer.training import train

TEXT = "春风又绿江南岸，明月何时照我还。春风得意马蹄疾，一日看尽长安花。" * 30 + "The quick brown fox. " * 30


@pytest.mark.parametrize("kind", ["bpe", "unigram", "character"])
def test_parts_spell_the_piece(kind, tmp_path):
    train(TokenizerConfig(kind=kind, vocab_size=420), lambda: iter([TEXT]), tmp_path / "tokenizer")
    tokenizer = store.load(tmp_path / "tokenizer")
    found = token_parts(tokenizer)
    assert found.shape == (tokenizer.vocab_size, 2)
    divisible = [(index, *pair) for index, pair in enumerate(found.tolist()) if pair[0] >= 0]
    for index, left, right in divisible:
        assert tokenizer.token_bytes(left) + tokenizer.token_bytes(right) == tokenizer.token_bytes(index)
        assert tokenizer.token_bytes(left).decode() and tokenizer.token_bytes(right).decode()
    assert divisible if kind == "bpe" else not divisible or kind == "unigram"
    assert not set(tokenizer.special.values()) & {index for index, _, _ in divisible}
