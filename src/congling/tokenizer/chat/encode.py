"""Conversations as ids, by the tokenizer's chat template, with a mask of what the assistant wrote.

::

    messages ─ template in its sandbox ─ cut where answers begin and end ─ ids and mask together
    <|im_start|>user\\n 你好 <|im_end|>\\n <|im_start|>assistant\\n 您好 <|im_end|>
                                                                  ■■■■■■■■■■■■■■■   trained on

A template comes with the model, so it is foreign code: it runs in a sandbox (``sandbox``). The texts of the
messages pass through it with each character's source (``traced``), and only what the template itself wrote
becomes special tokens (``sections``): whatever a text imitates, it can neither end a turn nor move the mask.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from congling.core.errors import UserError
from congling.tokenizer.base import Roles, Tokenizer
from congling.tokenizer.chat.rendering import ASSISTANT, REASONING, Message, Part, owned, script, written
from congling.tokenizer.chat.sections import encoded, special_tokens_in
from congling.tokenizer.chat.traced import plain
from congling.tokenizer.chat.turns import PLAIN

__all__ = [
    "ASSISTANT",
    "REASONING",
    "Message",
    "Rendered",
    "answer_texts",
    "bare_template",
    "chat_ids",
    "own_words",
    "render",
    "whole_template",
    "written",
]  # fmt: skip

_BEGINNING = "{{ bos_token }}"


@dataclass(frozen=True)
class Rendered:
    """A conversation to train on."""

    input_ids: list[int]
    answer_mask: list[bool]
    """For each id whether the assistant writes it: its words, and what ends its turn."""
    ended: bool
    """Whether the template itself ends the last answer; if not, an end of text was put there."""
    apart: tuple[int, ...] = ()
    """Places of answers that are read but not learnt here, as the template asks for them otherwise than it
    writes them in a history, or leaves their thoughts out of it: each is learnt where it comes last."""


def chat_ids(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """Ids of a conversation up to where the assistant's answer begins.

    Special tokens come from the template alone: a message that contains ``<|im_end|>`` holds ordinary
    characters, so nobody can end a turn from within.

    Raises:
        UserError: the template is broken.
    """
    parts = _ended_parts(tokenizer, script(tokenizer, messages, answer_next=True).parts)
    ids = _ids(tokenizer, parts)
    return [*_missing_prefix(tokenizer, ids), *ids]


def render(tokenizer: Tokenizer, messages: Sequence[Message]) -> Rendered:
    """Ids of a whole conversation, which ends with its last answer, and which of them are answers.

    The ids before an answer are those of :func:`chat_ids` of the messages before it. It reaches as far as
    the first special token that the template writes behind its text, which is what a model has to write for
    its turn to end. Where the template writes none behind the last answer, the tokenizer's end of text takes
    its place. Answers with ``loss: False`` are not learnt.

    Raises:
        UserError: the template is broken, or leaves out every answer.
    """
    found = script(tokenizer, messages, answer_next=False)
    parts = _ended_parts(tokenizer, found.parts)
    ids: list[int] = []
    answer_mask: list[bool] = []
    ended = False
    for part, piece in zip(parts, encoded(tokenizer, [part.text for part in parts]), strict=True):
        learnt = part.answer is not None and messages[part.answer].get("loss") is not False
        ids += piece
        answer_mask += [learnt] * len(piece)
        if learnt and piece:
            ended = piece[-1] in _ends(tokenizer)
    if True not in answer_mask:
        silent = any(message.get("loss") is False for message in messages)
        what = "no answer is in the loss" if silent else "the chat template leaves out the answers"
        raise UserError(what, value=None if silent else tokenizer.chat_template)
    length = len(answer_mask) - answer_mask[::-1].index(True)
    ids, answer_mask = ids[:length], answer_mask[:length]
    if not ended:
        ids, answer_mask = [*ids, tokenizer.eos_id], [*answer_mask, True]
    prefix = _missing_prefix(tokenizer, ids)
    apart = tuple(place for place in found.apart if messages[place].get("loss") is not False)
    return Rendered([*prefix, *ids], [False] * len(prefix) + answer_mask, ended, apart)


def answer_texts(tokenizer: Tokenizer, messages: Sequence[Message]) -> dict[int, str]:
    """The text of each answer from where it begins to where it ends, by the place of its message.

    Raises:
        UserError: the template is broken.
    """
    parts = _ended_parts(tokenizer, script(tokenizer, messages, answer_next=False).parts)
    return {part.answer: part.text for part in parts if part.answer is not None}


def own_words(tokenizer: Tokenizer, text: str) -> str:
    """What was said in a generated answer, without what the template writes around every answer by itself.

    So a dialogue's history is written as it was learnt: with Llama 2's space once, not twice.
    """
    turns = [{"role": "user", "content": "?"}, {"role": ASSISTANT, "content": "!"}]
    try:
        before, _, behind = plain(answer_texts(tokenizer, turns).get(1, "")).partition("!")
    except UserError:  # it refuses this conversation: nothing is known of it
        return text
    ends = [texts for texts, index in tokenizer.special.items() if index in _ends(tokenizer)]
    cut = min((behind.index(end) for end in ends if end in behind), default=len(behind))
    return text.removeprefix(before).removesuffix(behind[:cut])


def whole_template(tokenizer: Tokenizer) -> str:
    """The chat template for programs that put nothing before a conversation by themselves (transformers).

    Where the template writes no beginning of the text, that comes first; so the ids are those of
    :func:`chat_ids`.
    """
    template, prefix = tokenizer.chat_template or PLAIN, tokenizer.prefix_ids
    texts = {index: text for text, index in tokenizer.special.items()}
    if not prefix or any(index not in texts for index in prefix):
        return template
    try:
        asked = script(tokenizer, [{"role": "user", "content": "?"}], answer_next=True)
    except UserError:  # it refuses this conversation: nothing is known of it
        return template
    if tuple(_ids(tokenizer, asked.parts)[: len(prefix)]) == prefix:
        return template
    if prefix == (tokenizer.roles.bos,):
        return _BEGINNING + template
    return (
        "{{ " + json.dumps("".join(texts[index] for index in prefix), ensure_ascii=False) + " }}" + template
    )


def bare_template(template: str, roles: Roles) -> str:
    """A template of transformers without the beginning of the text that :func:`whole_template` or somebody
    else put there, where it comes before every prompt anyway.
    """
    return template.removeprefix(_BEGINNING) if roles.prefix == (roles.bos,) else template


def _ended_parts(tokenizer: Tokenizer, parts: Sequence[Part]) -> list[Part]:
    """The parts, each answer without what follows its end."""
    ends = _ends(tokenizer)
    found: list[Part] = []
    for part in parts:
        if part.answer is None:
            found.append(part)
            continue
        said = max(owned(part.text, part.answer), default=-1) + 1
        behind = [
            mark.end
            for mark in special_tokens_in(tokenizer, part.text)
            if mark.start >= said and mark.index in ends
        ]
        end = behind[0] if behind else said
        found += [Part(part.text[:end], part.answer), Part(part.text[end:])]
    return [part for part in found if part.text]


def _ends(tokenizer: Tokenizer) -> set[int]:
    """Special tokens that can end an answer: not those that templates write within answers."""
    return set(tokenizer.special.values()) - set(tokenizer.inner_marks.values())


def _ids(tokenizer: Tokenizer, parts: Sequence[Part]) -> list[int]:
    return [index for piece in encoded(tokenizer, [part.text for part in parts]) for index in piece]


def _missing_prefix(tokenizer: Tokenizer, ids: Sequence[int]) -> Sequence[int]:
    """What llama.cpp puts before every prompt, unless the template has written it already."""
    prefix = tokenizer.prefix_ids
    return () if tuple(ids[: len(prefix)]) == prefix else prefix
