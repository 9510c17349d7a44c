"""Conversations as text by a chat template, cut where each answer begins.

::

    <|im_start|>user⏎ 你好 <|im_end|>⏎<|im_start|>assistant⏎ │ <think>⏎⏎</think>⏎⏎ 您好 <|im_end|> │ ⏎
                    what the template writes to ask ──┘   the answer, as far as its end

An answer begins where the template, asked for it, has stopped: whatever it writes behind that belongs to the
answer. So what is asked and what stood before a learnt answer cannot part.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Any

from congling.core.errors import UserError
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat import sandbox
from congling.tokenizer.chat.traced import TEMPLATE, Traced, joined, plain, sources_of
from congling.tokenizer.chat.turns import PLAIN

Message = Mapping[str, Any]
"""``{"role": "user", "content": "…"}``; roles are system, user, assistant and tool.

An assistant's turn may have a ``reasoning_content``, the thoughts before its answer, and ``loss: False``,
which keeps it from being learnt.
"""
ASSISTANT = "assistant"
REASONING = "reasoning_content"
OPENING, CLOSING = "<think>", "</think>"
_FIRST = 2  # sources of message i are the characters 2 + 2i, and 3 + 2i for its thoughts


@dataclass(frozen=True)
class Part:
    """A stretch of a conversation's text."""

    text: str
    """Traced, where texts of messages are in it."""
    answer: int | None = None
    """Of an answer, the place of its message."""


@dataclass(frozen=True)
class Script:
    """A conversation's text."""

    parts: Sequence[Part]
    apart: tuple[int, ...]
    """Places of answers that begin nowhere in it, as the template asks for them with another text; and of
    those whose thoughts it leaves out."""


@dataclass(frozen=True)
class _Habits:
    reads: bool
    """The template has a place for thoughts."""
    drops: bool
    """It leaves out what an answer says before ``</think>``."""


def script(tokenizer: Tokenizer, messages: Sequence[Message], *, answer_next: bool) -> Script:
    """The text of a conversation, cut where answers begin; with ``answer_next`` it goes up to the next one.

    Where a template asks for the last answer with something that it does not write before answers (as
    ``<think>``), the answer stands behind what it asks with, and its thoughts are closed.

    Raises:
        UserError: the template is broken, or refuses these messages.
    """
    text = template_text(tokenizer, messages, answer_next=answer_next)
    borders: dict[int, int | None] = {}
    apart = []
    for i, message in enumerate(messages):
        if message["role"] != ASSISTANT:
            continue
        asked = _asked(tokenizer, messages[:i])
        last = not answer_next and i == len(messages) - 1
        if asked is not None and last:
            text = _answered(tokenizer, asked, text, message, i)
        if asked is None or not text.startswith(plain(asked)):
            apart.append(i)
        else:  # what a message spells as the template asks for it is the template's
            before = max(borders, default=0)
            text = joined((text[:before], asked[before:], text[len(asked) :]))
            whole = not _thinks(tokenizer, message) or _source(i, thoughts=True) in sources_of(text)
            borders[len(asked)] = i if whole else None
            apart += [] if whole else [i]
    places = [*sorted(borders), len(text)]
    parts = [Part(text[: places[0]])]
    parts += [Part(text[start:end], borders[start]) for start, end in pairwise(places)]
    return Script(parts, tuple(apart))


def template_text(tokenizer: Tokenizer, messages: Sequence[Message], *, answer_next: bool) -> str:
    """What the template writes, each character with its source.

    Raises:
        UserError: the template is broken, or refuses these messages.
    """
    template = tokenizer.chat_template or PLAIN
    names = {"bos_token": "", "eos_token": ""} | tokenizer.template_texts
    given = _given(template, messages)
    return sandbox.run(template, given, add_generation_prompt=answer_next, **names)


def written(
    tokenizer: Tokenizer, messages: Sequence[Message], *, answer_next: bool = False
) -> Iterator[tuple[str, Message | None]]:
    """What the template writes, piece by piece: its own text with None, or that of a message with it.

    Raises:
        UserError: the template is broken, or refuses these messages.
    """
    text = template_text(tokenizer, messages, answer_next=answer_next)
    place = 0
    for number, run in groupby((ord(source) - _FIRST) // 2 for source in sources_of(text)):
        length = sum(1 for _ in run)
        yield plain(text)[place : place + length], None if number < 0 else messages[number]
        place += length


def owned(text: str, place: int) -> list[int]:
    """Where the characters stand that came from message ``place``."""
    own = _source(place) + _source(place, thoughts=True)
    return [i for i, source in enumerate(sources_of(text)) if source in own]


def _source(place: int, *, thoughts: bool = False) -> str:
    return chr(_FIRST + 2 * place + thoughts)


def _given(template: str, messages: Sequence[Message]) -> list[dict[str, str]]:
    """The messages as the template is given them."""
    habits = _habits(template)
    given = []
    for i, message in enumerate(messages):
        content, thoughts = _parted(message, habits)
        said: str = Traced(content, _source(i) * len(content))
        made = {"role": _role(message), "content": said}
        if thoughts:
            traced = Traced(thoughts, _source(i, thoughts=True) * len(thoughts))
            if habits.reads:
                made |= {REASONING: traced, "thinking": traced}
            elif not habits.drops:
                made["content"] = joined((_thought(traced), said))
        given.append(made)
    return given


def _parted(message: Message, habits: _Habits) -> tuple[str, str]:
    """What a message says, and its thoughts; where a template would drop these, they come from its text."""
    content, thoughts = message["content"], message.get(REASONING) or ""
    if habits.drops and not thoughts and message["role"] == ASSISTANT and CLOSING in content:
        before, _, content = content.rpartition(CLOSING)
        content, thoughts = content.lstrip("\n"), before.partition(OPENING)[2] or before
        thoughts = thoughts.removeprefix(OPENING).strip("\n")
    return content, thoughts


def _thought(thoughts: str, *, opened: bool = False) -> str:
    """Thoughts as they stand before an answer, behind a mark that opens them or with one of their own."""
    return joined(("" if opened else f"{OPENING}\n", thoughts, f"\n{CLOSING}\n\n"))


@lru_cache(maxsize=64)
def _habits(template: str) -> _Habits:
    """How a template treats thoughts, seen from one answer."""
    question, probe = {"role": "user", "content": "?"}, "a thought"
    ways = [
        {"content": "!", REASONING: probe, "thinking": probe},
        {"content": f"{OPENING}\n{probe}\n{CLOSING}\n\n!"},
    ]
    found = []
    for way in ways:
        turns = [question, {"role": ASSISTANT} | way]
        try:
            text = sandbox.run(template, turns, add_generation_prompt=False, bos_token="", eos_token="")
        except UserError:
            return _Habits(reads=False, drops=False)  # it does not work: said where it is used
        found.append(probe in text)
    return _Habits(reads=found[0], drops=not found[1])


def _asked(tokenizer: Tokenizer, messages: Sequence[Message]) -> str | None:
    """What asks for an answer to these messages; None where the template refuses to."""
    try:
        return template_text(tokenizer, messages, answer_next=True)
    except UserError:
        return None


def _thinks(tokenizer: Tokenizer, message: Message) -> bool:
    """Whether an answer has thoughts that are given to the template apart from its text."""
    return bool(_parted(message, _habits(tokenizer.chat_template or PLAIN))[1])


def _answered(tokenizer: Tokenizer, asked: str, text: str, message: Message, place: int) -> str:
    """The whole text with the last answer behind what asks for it, its thoughts before it."""
    common = _alike(asked, text)
    own = owned(text, place)
    start = own[0] if own else common
    follows = common == len(asked)
    opened = asked.rfind(OPENING) > asked.rfind(CLOSING)
    _, thoughts = _parted(message, _habits(tokenizer.chat_template or PLAIN))
    if _source(place, thoughts=True) in sources_of(text):
        missing = ""
    elif thoughts or (opened and not follows):
        traced = Traced(thoughts, _source(place, thoughts=True) * len(thoughts))
        missing = _thought(traced, opened=opened)
    else:
        missing = ""
    before = text[:start] if follows else asked
    return joined((before, missing, text[start:])) if missing or not follows else text


def _alike(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    pairs = enumerate(zip(plain(one), plain(other), strict=False))
    return next((i for i, (left, right) in pairs if left != right), min(len(one), len(other)))


def _role(message: Message) -> str:
    """The role, of which a template may make marks.

    Raises:
        UserError: it is no plain word, and could imitate the template.
    """
    role = message["role"]
    if not (role.isascii() and role.isidentifier()):
        raise UserError("a role is a word such as user or assistant", value=role)
    return role


def from_template(text: str) -> Iterator[tuple[int, str]]:
    """The stretches that the template itself wrote, and where they begin."""
    place = 0
    for own, run in groupby(sources_of(text), key=lambda source: source == TEMPLATE):
        length = sum(1 for _ in run)
        if own:
            yield place, plain(text)[place : place + length]
        place += length
