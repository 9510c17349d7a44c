"""Tokens and templates of conversations in vocabularies from elsewhere."""

from collections.abc import Mapping

PLAIN = (
    "{% for message in messages %}{{ message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '\\n' }}{% endfor %}"
)
"""Template for models that have none: a line for what is said, then the answer and the end of the text."""

CHATGLM2 = (
    "{{ '[gMASK]sop' }}{% set round = namespace(number=0) %}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{% set round.number = round.number + 1 %}"
    "{{ '[Round ' ~ round.number ~ ']\\n\\n问：' ~ message['content'] ~ '\\n\\n答：' }}"
    "{% else %}{{ message['content'] ~ '\\n\\n' }}{% endif %}{% endfor %}"
)
"""ChatGLM2's numbered rounds."""

ENDS = (
    "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|end_of_text|>", "</s>",
    "<end_of_turn>", "<|END_OF_TURN_TOKEN|>", "<EOT>", "<｜end▁of▁sentence｜>", "eop",
)  # fmt: skip
"""Texts of tokens that end a text or a turn in well-known vocabularies."""

ENDS_OF_LLAMA_CPP = frozenset({
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<turn|>",
    "<end_of_turn>", "<|endoftext|>", "</s>", "<eos>", "[EOS]", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]",
    "[e~[", "<|end_of_text|>", "<end_of_utterance>", "<｜end▁of▁sentence｜>",
})  # fmt: skip
"""Texts of tokens at which llama.cpp stops without a key in the file, asked of release b11549. It stops at
``<|fim_pad|>``, ``<|repo_name|>`` and ``<|file_sep|>`` too, which end no answer."""


def stops(special: Mapping[str, int]) -> frozenset[int]:
    """Ids of the special tokens that end an answer, known by their texts."""
    return frozenset(special[text] for text in ENDS if text in special)
