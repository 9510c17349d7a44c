"""Conversations: from messages to ids by the tokenizer's chat template, or plainly for a model that only
continues.

A template comes with the model, so it is foreign code: it runs in jinja2's immutable sandbox, with nothing
but the messages in reach.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from congling.core.errors import UserError
from congling.infer.checkpoints import Loaded
from congling.infer.generate import stream
from congling.infer.sampler import SamplingConfig
from congling.tokenizer.base import Tokenizer

Message = Mapping[str, str]
"""``{"role": "user", "content": "…"}``; roles are system, user and assistant."""

_LONGEST = 1_000_000  # characters of a rendered conversation; a template that loops is stopped here
_MARK = "\ue000{}\ue001"  # private use: stands for the text of one message while the template runs
_MARKS = re.compile("\ue000(\\d+)\ue001")


def chat_ids(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """Ids of a conversation up to where the assistant's answer begins.

    Special tokens come from the template alone: a message that contains ``<|im_end|>`` holds ordinary
    characters, so nobody can end a turn from within.

    Raises:
        UserError: the template is broken.
    """
    marked = [{**message, "content": _MARK.format(i)} for i, message in enumerate(messages)]
    ids: list[int] = []
    for i, part in enumerate(_MARKS.split(_rendered(tokenizer.chat_template, marked))):
        if i % 2:  # the odd parts are the numbers of messages
            ids += tokenizer.encode(messages[int(part)]["content"])
        else:
            ids += _template_ids(tokenizer, part)
    return ids


class Conversation:
    """A dialogue with a model: keeps the history and streams answers.

    A model tuned for chat sees the messages through its template; any other continues the plain text of
    everything said so far, one line a turn.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        sampling: SamplingConfig,
        max_new_tokens: int = 200,
        system: str | None = None,
    ) -> None:
        self.loaded, self.sampling, self.max_new_tokens = loaded, sampling, max_new_tokens
        self._system = [{"role": "system", "content": system}] if system else []
        self.messages: list[Message] = list(self._system)

    def reset(self) -> None:
        """Forget what was said, except the system message."""
        self.messages = list(self._system)

    def answer(self, text: str) -> Iterator[str]:
        """Say ``text`` and yield the model's answer piece by piece; a broken-off answer stays in the history.

        Raises:
            UserError: the chat template is broken.
        """
        self.messages.append({"role": "user", "content": text})
        pieces: list[str] = []
        # Another seed each turn, or a model asked twice would answer in the same words.
        sampling = self.sampling.replace(seed=self.sampling.seed + len(self.messages))
        try:
            for piece in self._stream(sampling):
                pieces.append(piece)
                yield piece
        finally:
            self.messages.append({"role": "assistant", "content": "".join(pieces)})

    def _stream(self, sampling: SamplingConfig) -> Iterator[str]:
        model, tokenizer = self.loaded.model, self.loaded.tokenizer
        if self.loaded.tuned_for_chat:
            prompt, stop = chat_ids(tokenizer, self.messages), ()
        else:
            prompt, stop = [tokenizer.bos_id, *tokenizer.encode(self._plain())], ("\n\n",)
        return stream(
            model, tokenizer, prompt, max_new_tokens=self.max_new_tokens, sampling=sampling, stop=stop
        )

    def _plain(self) -> str:
        """Everything said so far as one text: an answer goes on in the line of what it answers."""
        ends = {"user": "", "assistant": "\n", "system": "\n"}
        return "".join(message["content"] + ends[message["role"]] for message in self.messages)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, which also refuses the operators that make huge values of small ones."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Stand in for ``*`` and ``**``."""
        raise jinja2.exceptions.SecurityError(f"chat templates need no {operator}")


def _rendered(template: str, messages: Sequence[Message]) -> str:
    """Run a template in the sandbox with Hugging Face's settings, which templates are written for."""
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refused
    parts, size = [], 0
    try:
        for part in environment.from_string(template).generate(messages=messages, add_generation_prompt=True):
            parts.append(part)
            size += len(part)
            if size > _LONGEST:
                raise UserError("the chat template writes without end", value=template)
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RuntimeError) as error:
        raise UserError(f"the chat template does not work: {error}", value=template) from None
    return "".join(parts)


def _refused(message: str) -> None:
    raise UserError(f"the chat template refuses these messages: {message}")


def _template_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of text the template itself wrote: here, and only here, special tokens are recognised."""
    pattern = "|".join(re.escape(special) for special in sorted(tokenizer.special, key=len, reverse=True))
    ids: list[int] = []
    for part in re.split(f"({pattern})", text):
        ids += [tokenizer.special[part]] if part in tokenizer.special else tokenizer.encode(part)
    return ids
