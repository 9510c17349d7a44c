"""Chat templates by name, and a vocabulary under another one.

==========  ======================================================  =======================================
name        a turn of the user, and where the answer begins         source
==========  ======================================================  =======================================
chatml      ``<|im_start|>user⏎…<|im_end|>⏎<|im_start|>assistant⏎``  OpenAI's ChatML; what is learnt here
qwen        the same, with a system turn of its own if none is said  Qwen2-Instruct
llama2      ``<s>[INST] … [/INST]``                                  Llama-2-chat
llama3      ``<|start_header_id|>user<|end_header_id|>⏎⏎…<|eot_id|>``  Llama-3-Instruct
chatglm     ``[Round 1]⏎⏎问：…⏎⏎答：``                               ChatGLM2
chatglm3    ``<|user|>⏎ …<|assistant|>⏎ ``                           ChatGLM3
none        a line for what is said                                  models without a template
==========  ======================================================  =======================================

The template lives with the tokenizer: whoever tunes with another one hands it on in every checkpoint and
export, so that a program far away asks the model the way it was taught.
"""

import copy
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from congling.core import files
from congling.core.errors import UserError
from congling.tokenizer.base import CHATML, Tokenizer
from congling.tokenizer.chat import sandbox
from congling.tokenizer.chat.encode import Message, answer_texts
from congling.tokenizer.chat.guard import guarded
from congling.tokenizer.chat.rendering import script, template_text, written
from congling.tokenizer.chat.turns import CHATGLM2, PLAIN

QWEN = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""ChatML with the system turn that Qwen2 puts first where nobody says one."""

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}"
    "{% set turns = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + ' ' + eos_token }}"
    "{% else %}{{ raise_exception('Llama 2 knows a system turn at the beginning, user and assistant') }}"
    "{% endif %}{% endfor %}"
)
"""Llama 2: the system turn stands inside the first question."""

LLAMA3 = (
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{ message['content'] + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
"""Llama 3: a header for every turn."""

CHATGLM3 = (
    "{{ '[gMASK]sop' }}{% for message in messages %}"
    "{{ '<|' + ('observation' if message['role'] == 'tool' else message['role']) + '|>\\n ' }}"
    "{{ message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n ' }}{% endif %}"
)
"""ChatGLM3: a mark for every role; the mark of the next turn ends an answer, the end of text the last one.

The line feed and the space behind ``<|assistant|>`` are part of what is asked, not of the answer.
"""

TEMPLATES: Mapping[str, str] = {
    "chatml": CHATML,
    "qwen": QWEN,
    "llama2": LLAMA2,
    "llama3": LLAMA3,
    "chatglm": CHATGLM2,
    "chatglm3": CHATGLM3,
    "none": PLAIN,
}
"""Jinja sources by name."""

_MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?s>|<(?:start|end)_of_turn>|\[gMASK\]|\[/?INST\]|<</?SYS>>")
_NEVER_TOKENS = re.compile(r"\[/?INST\]|<</?SYS>>")  # ordinary text in Llama 2 itself
_EXCHANGE = (
    {"role": "user", "content": "?"},
    {"role": "assistant", "content": "!"},
    {"role": "user", "content": "?"},
    {"role": "assistant", "content": "!"},
)


@dataclass(frozen=True)
class Fit:
    """How well a template goes with a vocabulary."""

    foreign: tuple[str, ...]
    """Marks the template writes that are no special tokens here: each is spelt out in ordinary pieces."""
    end: str | None
    """The special token the template ends an answer with; None where the end of text stands in."""
    differences: tuple[str, ...] = ()
    """In which ways the template writes answers otherwise than it asks for them, as sentences."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences a person should read before training."""
        if not self.foreign:
            return self.differences
        listed = ", ".join(self.foreign)
        plural = len(self.foreign) > 1
        said = f"{listed} {'are no special tokens' if plural else 'is no special token'} of this vocabulary: "
        said += f"the template's {'marks are' if plural else 'mark is'} spelt out in ordinary pieces"
        return (said + ("" if self.end else ", and the end of text ends an answer"), *self.differences)


def source_of(name: str) -> str:
    """The Jinja source of a named template; a source is given back as it is.

    Raises:
        UserError: it is neither.
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    if "{{" in name or "{%" in name:
        return name
    raise UserError(
        "no such chat template",
        value=name,
        hint=f"templates are {', '.join(TEMPLATES)}; or give Jinja source",
    )


def read(name: str) -> str:
    """The source in a file that ends in ``.jinja``; a template's name or source is given back as it is.

    Raises:
        UserError: the file cannot be read.
    """
    if not name.endswith(".jinja"):
        return name
    try:
        return files.text(name)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UserError(f"the chat template cannot be read ({reason})", value=name) from None


def name_of(template: str) -> str:
    """The name of a template, or ``its own`` where it has none here."""
    return next((name for name, source in TEMPLATES.items() if source == (template or PLAIN)), "its own")


def with_template(tokenizer: Tokenizer, name: str) -> Tokenizer:
    """The same vocabulary under another chat template, given by name or as Jinja source.

    What ends an answer there ends it in generation too. The fingerprint tells both apart: it is made of the
    old one and the template, and is the old one where the template is the same. A directory written of it
    (``store.write``) has the fingerprint of its files, as every directory.

    Raises:
        UserError: no such template, one that does not work, or nothing that could end an answer.
    """
    template = source_of(name)
    if template == tokenizer.chat_template:
        checked(tokenizer)
        return tokenizer
    changed = copy.copy(tokenizer)
    changed.chat_template = template
    changed = guarded(changed)
    changed.fingerprint = hashlib.sha256(f"{tokenizer.fingerprint}\n{template}".encode()).hexdigest()
    end = checked(changed).end
    if end is not None:
        stops = tokenizer.roles.stops | {tokenizer.special[end]}
        changed.roles = replace(tokenizer.roles, stops=stops)
    return changed


def failure_of(tokenizer: Tokenizer) -> str | None:
    """Why the chat template cannot be used here, as a sentence; None where it can.

    That it refuses a system turn or a tool's is no failure.
    """
    try:
        checked(tokenizer)
        for turn in ({"role": "system", "content": "."}, {"role": "tool", "content": "1"}):
            template_text(tokenizer, [turn, *_EXCHANGE[:1]], answer_next=True)
    except UserError as error:
        if error.what.startswith(sandbox.REFUSES):
            return None
        return f"conversations cannot be written here ({error.what}): sft template=… learns another template"
    return None


def checked(tokenizer: Tokenizer) -> Fit:
    """How the chat template of a tokenizer goes with its vocabulary, seen from two exchanges.

    Raises:
        UserError: the template does not work, or nothing can end an answer.
    """
    texts = ["" if message else part for part, message in written(tokenizer, _EXCHANGE)]
    foreign = dict.fromkeys(
        mark for text in texts for mark in _MARK.findall(text) if mark not in tokenizer.special
    )
    behind = _behind_answer(tokenizer)
    special = sorted(tokenizer.special, key=len, reverse=True)
    found = re.search("|".join(map(re.escape, special)), behind) if special else None
    if found is None and tokenizer.eos_id not in tokenizer.stop_ids:
        hint = "choose a template whose marks the vocabulary has, or a tokenizer with an end of text"
        what = "nothing can end an answer: a tokenizer without end-of-turn"
        raise UserError(what, value=name_of(tokenizer.chat_template), hint=hint)
    return Fit(
        tuple(mark for mark in foreign if not _NEVER_TOKENS.fullmatch(mark)),
        None if found is None else found[0],
        tuple(_differences(tokenizer)),
    )


def _differences(tokenizer: Tokenizer) -> Iterator[str]:
    """How the template writes answers otherwise than it asks for them, seen from plain conversations."""
    asked = template_text(tokenizer, _EXCHANGE[:1], answer_next=True)
    whole = template_text(tokenizer, _EXCHANGE[:2], answer_next=False)
    if not whole.startswith(asked):
        common = len(os.path.commonprefix([asked, whole]))  # noqa: RUF071 - character by character is meant
        yield (
            f"the template asks for an answer with {asked[common:]!r}, but writes {_short(whole[common:])!r} "
            "there: answers are trained behind what it asks with"
        )
    said = _learnt_text(tokenizer, _EXCHANGE[:2], 1)
    system = {"role": "system", "content": "."}
    for before, where in (((), ""), ((system,), " behind a system turn")):
        try:
            apart = script(tokenizer, [*before, *_EXCHANGE], answer_next=False).apart
        except UserError:  # it has no system turn
            continue
        if apart:
            yield (
                f"the template writes earlier answers of a conversation{where} otherwise than it asks for "
                "them: each is trained in an example of its own"
            )
            return
    earlier = _learnt_text(tokenizer, _EXCHANGE, 1)
    if earlier is not None and said is not None and earlier != said:
        yield (
            f"the template writes an earlier answer of a conversation as {_short(earlier)!r}, "
            f"the last one as {_short(said)!r}"
        )


def _learnt_text(tokenizer: Tokenizer, messages: Sequence[Message], place: int) -> str | None:
    """An answer's text as far as its own end, without what ends it."""
    found = answer_texts(tokenizer, messages).get(place)
    return None if found is None else str.partition(found, "!")[0] + "!"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "…"


def _behind_answer(tokenizer: Tokenizer) -> str:
    """What the template writes between the first answer and the next question."""
    parts = list(written(tokenizer, _EXCHANGE))
    answers = [place for place, (_, message) in enumerate(parts) if message is _EXCHANGE[1]]
    if not answers:
        raise UserError("the chat template leaves out the answers", value=tokenizer.chat_template)
    following = parts[answers[0] + 1 : answers[0] + 2]
    return following[0][0] if following else ""
