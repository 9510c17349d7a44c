"""Which tokens no text may reach: those with a role, and those that the chat template writes.

Files often forget to call such tokens special (``"special": false`` of ChatML's marks, user-defined symbols
of sentencepiece), and a message could then end its own turn.
"""

from collections.abc import Iterator

from congling.core.errors import UserError
from congling.tokenizer.base import SPECIAL, Tokenizer
from congling.tokenizer.chat import sandbox
from congling.tokenizer.chat.rendering import (
    ASSISTANT,
    CLOSING,
    OPENING,
    Message,
    Part,
    from_template,
    owned,
    script,
)
from congling.tokenizer.chat.turns import PLAIN

_ASK: Message = {"role": "user", "content": "?"}
_SAY: Message = {"role": ASSISTANT, "content": "!"}
_PROBES: tuple[tuple[Message, ...], ...] = (
    (_ASK, _SAY, _ASK, _SAY),
    ({"role": "system", "content": "."}, _ASK, _SAY),
    (_ASK, _SAY, {"role": "tool", "content": "1"}, _SAY),
)


def guarded(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer under its chat template: what that writes, and what has a role, is out of reach of texts.

    What the template writes around turns becomes special. What stands within answers alone, or in parts of
    the template that no plain conversation uses (``<think>``, ``<tool_call>``), is shown when it is generated
    and ends nothing.
    """
    marks = {text: index for text, index in tokenizer.open_marks.items() if _is_mark(text)}
    if not marks and tokenizer.special.keys() <= SPECIAL.keys():
        return tokenizer
    roles = tokenizer.roles.ids()
    around, anywhere = _written(tokenizer)
    thoughts = (OPENING, CLOSING)
    special = {
        text: index
        for text, index in marks.items()
        if index in roles or (text in around and text not in thoughts)
    }
    inner = {
        text: index
        for text, index in {**marks, **tokenizer.special}.items()
        if text not in special
        and index not in roles
        and text in anywhere
        and (text not in around or text in thoughts)
    }
    known = {text: index for text, index in tokenizer.inner_marks.items() if text not in inner}
    if not special and not known and inner.items() == tokenizer.inner_marks.items():
        return tokenizer
    return tokenizer.guarded(special, inner)


def _is_mark(text: str) -> bool:
    """Not white space, a number or a word, which vocabularies also define by hand."""
    return len(text) >= 3 and not text[0].isalnum() and any(map(str.isalpha, text)) and text == text.strip()


def _written(tokenizer: Tokenizer) -> tuple[str, str]:
    """What the template writes around turns, and all it may write."""
    around: list[str] = []
    for messages in _PROBES:
        for asks in (False, True):
            try:
                parts = script(tokenizer, messages, answer_next=asks).parts
            except UserError:  # it has no such role, or does not work: said where it is used
                continue
            around += [text for part in parts for text in _outside(part)]
    try:
        constants = sandbox.constants(tokenizer.chat_template or PLAIN)
    except UserError:
        constants = ""
    named = tokenizer.template_texts.values()
    return "\n".join([*around, *named]), "\n".join([*around, *named, constants])


def _outside(part: Part) -> Iterator[str]:
    """What the template itself wrote in a part, of an answer what follows its text."""
    said = 0 if part.answer is None else max(owned(part.text, part.answer), default=-1) + 1
    return (text for start, text in from_template(part.text) if start >= said)
