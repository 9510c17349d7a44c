"""Running a chat template, which came with a model and is foreign code, under limits.

It sees only what ``sandbox_environment`` gives it. The texts of messages are
:class:`~congling.tokenizer.chat.traced.Traced`, and stay so whatever is done to them. The settings are those
of transformers, which templates are written for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes

from congling.core.errors import UserError
from congling.tokenizer.chat.sandbox_environment import REFUSES, SAID, Sandbox
from congling.tokenizer.chat.sandbox_limits import TEXTS
from congling.tokenizer.chat.sandbox_syntax import Metered, parsed
from congling.tokenizer.chat.traced import joined

__all__ = ["LONGEST", "REFUSES", "constants", "run"]

LONGEST = 1_000_000
"""Characters a template may write beyond the texts of its messages."""
_MESSAGE = 64  # what a message counts for beside its texts
_FEW = 2_000  # characters of messages for which no honest template runs out of its allowance


def run(source: str, messages: Sequence[Mapping[str, Any]], **names: Any) -> str:
    """What a template writes for these messages; a Traced string where their texts are.

    Raises:
        UserError: it is broken, refuses these messages, wants too much, or never ends.
    """
    opened = _opened(source)
    if opened.fault:
        raise UserError(opened.fault, value=source)
    texts = sum(len(text) for message in messages for text in message.values() if isinstance(text, str))
    texts += _MESSAGE * len(messages)
    parts, size = [], 0
    opened.sandbox.allowance.begin(texts)
    try:
        for part in opened.template.generate(messages=messages, tools=None, documents=None, **names):
            parts.append(part)
            size += len(part)
            if size > LONGEST + TEXTS * texts:
                raise UserError("the chat template writes without end", value=source)
    except UserError as error:
        if texts < _FEW and not error.what.startswith(REFUSES):
            opened.fault = error.what
        raise
    except Exception as error:  # a template can make any of Python's operations fail
        raise UserError(f"the chat template does not work: {_said(error)}", value=source) from None
    return joined(parts)


def constants(source: str) -> str:
    """All that stands in the template as text, piece by piece on lines of their own.

    Raises:
        UserError: it is no template.
    """
    try:
        tree = parsed(Sandbox(source), source)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the chat template does not work: {_said(error)}", value=source) from None
    found = [node.data for node in tree.find_all(nodes.TemplateData)]
    return "\n".join([*found, *(str(node.value) for node in tree.find_all(nodes.Const))])


@dataclass
class _Opened:
    """A template ready to be run; or what is wrong with it, which is not tried again for every row."""

    sandbox: Sandbox
    template: Any = None
    fault: str = ""


@lru_cache(maxsize=16)
def _opened(source: str) -> _Opened:
    opened = _Opened(sandbox := Sandbox(source))
    try:
        tree = Metered().visit(parsed(sandbox, source))
        for node in tree.find_all(nodes.Node):
            node.lineno = node.lineno or 1
        tree.set_environment(sandbox)
        code: Any = sandbox.compile(tree)
        opened.template = jinja2.Template.from_code(sandbox, code, sandbox.globals)
    except UserError as error:
        opened.fault = error.what
    except Exception as error:
        opened.fault = f"the chat template does not work: {_said(error)}"
    return opened


def _said(error: Exception) -> str:
    """What is told of a failure, which may quote anything."""
    text = str(error)
    return text if len(text) <= SAID else text[:SAID] + "…"
