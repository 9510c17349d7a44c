from dataclasses import replace

from congling.infer.checkpoints import Loaded
from congling.infer.prompts import conversation_ids, prompt_ids
from congling.tokenizer.chat.encode import Message, chat_ids

MESSAGES: list[Message] = [
    {"role": "system", "content": "从零"},
    {"role": "user", "content": "云对"},
    {"role": "assistant", "content": "雨"},
    {"role": "user", "content": "雪对"},
]


def known(loaded: Loaded, chat: bool) -> Loaded:
    return replace(loaded, checkpoint=replace(loaded.checkpoint, facts={"chat": chat}))


def test_a_model_that_only_continues_reads_one_text(loaded: Loaded):
    tokenizer = loaded.tokenizer
    ids = conversation_ids(known(loaded, False), MESSAGES)
    assert ids == prompt_ids(tokenizer, "从零\n云对雨\n雪对")
    assert tokenizer.decode(ids[len(tokenizer.prefix_ids) :]) == "从零\n云对雨\n雪对"


def test_a_model_tuned_for_chat_reads_its_template(loaded: Loaded):
    assert conversation_ids(known(loaded, True), MESSAGES) == chat_ids(loaded.tokenizer, MESSAGES)


def test_a_prompt_is_never_empty(loaded: Loaded):
    assert prompt_ids(loaded.tokenizer, "") == (
        list(loaded.tokenizer.prefix_ids) or [loaded.tokenizer.bos_id]
    )
