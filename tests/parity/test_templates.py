"""Our named templates in transformers' own renderer."""

import pytest

from congling.tokenizer import store, training
from congling.tokenizer.chat.encode import written
from congling.tokenizer.chat.templates import TEMPLATES, with_template
from congling.tokenizer.config import TokenizerConfig

transformers = pytest.importorskip("transformers")
TALK = [
    {"role": "system", "content": "你是\n诗人"},
    {"role": "user", "content": "对下联：白鹭飞青岭"},
    {"role": "assistant", "content": "黄莺入翠溪。"},
    {"role": "user", "content": "再来"},
]


def test_apply_chat_template_writes_the_same(tmp_path):
    from tokenizers import Tokenizer, models

    path = tmp_path / "tokenizer"
    training.train(TokenizerConfig(kind="character"), lambda: iter(["从零开始\n"] * 9), path)
    own = store.load(path)
    for name in TEMPLATES:
        tokenizer = with_template(own, name)
        theirs = transformers.PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(models.WordLevel({"?": 0}, unk_token="?")), **tokenizer.template_texts
        )
        found = theirs.apply_chat_template(
            TALK, chat_template=tokenizer.chat_template, tokenize=False, add_generation_prompt=True
        )
        parts = written(tokenizer, TALK, answer_next=True)
        assert found == "".join(part if message is None else message["content"] for part, message in parts)
