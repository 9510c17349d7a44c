"""A BPE directory read by transformers gives our ids."""

import random

import pytest

from congling.tokenizer import store
from congling.tokenizer.config import TokenizerConfig
from congling.tokenizer.training import train


def test_same_ids_as_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    draw = random.Random(5)
    words = [
        "天气",
        "很好",
        "，",
        "。",
        "“",
        "”",
        " we",
        " have",
        "don't",
        "2026",
        "年",
        "\n",
        "　　",
        "！",
        "end.Next",
    ]
    texts = ["".join(draw.choices(words, k=60)) for _ in range(300)]
    train(TokenizerConfig(vocab_size=420), lambda: iter(texts), tmp_path / "out")
    ours = store.load(tmp_path / "out")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "out" / "tokenizer.json"))
    probes = [*texts[:100], "  \n \t他说：“好。”", "𠀀😀é", "It's 12345 o'clock!!!  ok"]
    for text in probes:
        assert theirs.encode(text, add_special_tokens=False) == ours.encode(text)
        assert theirs.decode(ours.encode(text), clean_up_tokenization_spaces=False) == text
    assert theirs.convert_tokens_to_ids("<|im_end|>") == ours.special["<|im_end|>"]
    assert len(theirs) == ours.vocab_size
    chat = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "好"}]
    rendered = theirs.apply_chat_template(chat, chat_template=ours.chat_template, tokenize=False)
    assert rendered == "<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n好<|im_end|>\n"
