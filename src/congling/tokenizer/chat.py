"""Conversations as ids, by the tokenizer's chat template, with a mask of what the assistant wrote.

::

    messages ─ texts replaced by marks ─ template in its cage ─ split at the marks ─ ids and mask together
    <|im_start|>user\\n 你好 <|im_end|>\\n <|im_start|>assistant\\n 您好 <|im_end|>
                                                                  ■■■■■■■■■■■■■■■   trained on

A template comes with the model, so it is foreign code: it runs in a cage (``cage``) with nothing but marks in
reach. The texts of the messages never pass through it, and are put in as ordinary characters
afterwards: whatever a text imitates, it can neither end a turn nor move the mask.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from congling.core.errors import UserError
from congling.tokenizer import cage
from congling.tokenizer.base import Roles, Tokenizer
from congling.tokenizer.turns import PLAIN

Message = Mapping[str, Any]
"""``{"role": "user", "content": "…"}``; roles are system, user, assistant and tool.

An assistant's turn may have a ``reasoning_content``, the thoughts before its answer, and ``loss: False``,
which keeps it from being learnt.
"""
ASSISTANT = "assistant"
REASONING = "reasoning_content"

_MARK = "\ue000{}\ue001"  # private use: stands for the text of one message while the template runs
_BEGINNING = "{{ bos_token }}"
_MARKS = re.compile("\ue000(\\d+)\ue001")


@dataclass(frozen=True)
class Rendered:
    """A conversation to train on."""

    ids: list[int]
    answered: list[bool]
    """For each id whether the assistant writes it: its words, and what ends its turn."""
    ended: bool
    """Whether the template itself ends the last answer; if not, an end of text was put there."""


def chat_ids(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """Ids of a conversation up to where the assistant's answer begins.

    Special tokens come from the template alone: a message that contains ``<|im_end|>`` holds ordinary
    characters, so nobody can end a turn from within.

    Raises:
        UserError: the template is broken.
    """
    ids: list[int] = []
    for part, message in _parts(tokenizer, messages, answer_next=True):
        written = message is None
        ids += (
            _template_ids(tokenizer, part, ids) if written else _text_ids(tokenizer, message["content"], ids)
        )
    return [*_missing_prefix(tokenizer, ids), *ids]


def render(tokenizer: Tokenizer, messages: Sequence[Message]) -> Rendered:
    """Ids of a whole conversation, which ends with its last answer, and which of them are answers.

    An answer reaches as far as the first special token that the template writes behind it, which is what a
    model has to write for its turn to end. Where the template writes none behind the last answer, the
    tokenizer's end of text takes its place.

    Raises:
        UserError: the template is broken, or leaves out every answer.
    """
    special = set(tokenizer.special.values())
    ids: list[int] = []
    answered: list[bool] = []
    open_answer = False
    for part, message in _parts(tokenizer, messages, answer_next=False):
        if message is not None:
            open_answer = message["role"] == ASSISTANT and message.get("loss") is not False
            found = _text_ids(tokenizer, message["content"], ids)
            answered += [open_answer] * len(found)
        else:
            found = _template_ids(tokenizer, part, ids)
            end = next((i + 1 for i, index in enumerate(found) if index in special), 0)
            reach = end if open_answer else 0
            open_answer = open_answer and not end
            answered += [i < reach for i in range(len(found))]
        ids += found
    if True not in answered:
        raise UserError("the chat template leaves out the answers", value=tokenizer.chat_template)
    length = len(answered) - answered[::-1].index(True)
    ids, answered, ended = ids[:length], answered[:length], ids[length - 1] in special
    if not ended:
        ids, answered = [*ids, tokenizer.eos_id], [*answered, True]
    prefix = _missing_prefix(tokenizer, ids)
    return Rendered([*prefix, *ids], [False] * len(prefix) + answered, ended)


def written(
    tokenizer: Tokenizer, messages: Sequence[Message], *, answer_next: bool = False
) -> Iterator[tuple[str, Message | None]]:
    """What the template writes, piece by piece: its own text with None, or "" with the message put in there.

    Raises:
        UserError: the template is broken, or refuses these messages.
    """
    return _parts(tokenizer, messages, answer_next=answer_next)


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
        part, message = next(_parts(tokenizer, [{"role": "user", "content": "?"}], answer_next=True))
    except UserError:  # it refuses this conversation: nothing is known of it
        return template
    if message is None and tuple(_template_ids(tokenizer, part, ())[: len(prefix)]) == prefix:
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


def _parts(
    tokenizer: Tokenizer, messages: Sequence[Message], *, answer_next: bool
) -> Iterator[tuple[str, Message | None]]:
    """What the template writes, and between it the messages themselves, in order."""
    template = tokenizer.chat_template or PLAIN
    messages = [message if _reads_reasoning(template) else _with_thoughts(message) for message in messages]
    marked = [{"role": _role(message), "content": _MARK.format(i)} for i, message in enumerate(messages)]
    thoughts = len(messages)  # the thoughts of message i stand for themselves as number thoughts + i
    for i, message in enumerate(messages):
        if message.get(REASONING):
            marked[i][REASONING] = _MARK.format(thoughts + i)
    messages += [{**message, "content": message.get(REASONING, "")} for message in messages]
    names = {"bos_token": "", "eos_token": ""} | tokenizer.template_texts
    written = cage.run(template, marked, add_generation_prompt=answer_next, **names)
    for i, part in enumerate(_MARKS.split(written)):
        if i % 2:  # the odd parts are the numbers of messages
            yield "", messages[int(part)]
        elif "\ue000" in part or "\ue001" in part:
            raise UserError("the chat template takes messages apart", value=tokenizer.chat_template)
        elif part:
            yield part, None


def _with_thoughts(message: Message) -> Message:
    """The thoughts at the beginning of the answer, as templates have them that know none."""
    if not message.get(REASONING):
        return message
    content = f"<think>\n{message[REASONING]}\n</think>\n\n{message['content']}"
    return {key: value for key, value in message.items() if key != REASONING} | {"content": content}


@lru_cache(maxsize=16)
def _reads_reasoning(template: str) -> bool:
    """Whether a template writes the thoughts of an answer by itself."""
    turns = [
        {"role": "user", "content": "?"},
        {"role": ASSISTANT, "content": "!", REASONING: _MARK.format(0)},
    ]
    try:
        return _MARK.format(0) in cage.run(
            template, turns, add_generation_prompt=False, bos_token="", eos_token=""
        )
    except UserError:
        return False


def _missing_prefix(tokenizer: Tokenizer, ids: Sequence[int]) -> Sequence[int]:
    """What llama.cpp puts before every prompt, unless the template has written it already."""
    prefix = tokenizer.prefix_ids
    return () if tuple(ids[: len(prefix)]) == prefix else prefix


def _role(message: Message) -> str:
    """The role, which is the one thing of a message that the template sees.

    Raises:
        UserError: it is no plain word, and could imitate the template.
    """
    role = message["role"]
    if not (role.isascii() and role.isidentifier()):
        raise UserError("a role is a word such as user or assistant", value=role)
    return role


def _text_ids(tokenizer: Tokenizer, text: str, before: Sequence[int]) -> list[int]:
    """Ids of ordinary characters; within a conversation no tokenizer puts a space of its own first."""
    return tokenizer.encode_rest(text) if before else tokenizer.encode(text)


def _template_ids(tokenizer: Tokenizer, text: str, before: Sequence[int]) -> list[int]:
    """Ids of text the template itself wrote: here, and only here, special tokens are recognised."""
    if not tokenizer.special:
        return _text_ids(tokenizer, text, before)
    pattern = "|".join(re.escape(special) for special in sorted(tokenizer.special, key=len, reverse=True))
    ids: list[int] = []
    for part in re.split(f"({pattern})", text):
        known = part in tokenizer.special
        ids += [tokenizer.special[part]] if known else _text_ids(tokenizer, part, ids or before)
    return ids
