"""What can be said to the chat itself: lines that begin with a slash.

Each command is a function of the conversation and of what stands behind its name, and gives what to show.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from congling.core.errors import UserError
from congling.core.output import replacing
from congling.core.text import write_text
from congling.core.units import plural

if TYPE_CHECKING:  # torch loads only when a model does
    from congling.infer.chat import Conversation


class Command(NamedTuple):
    """A command."""

    does: str
    """What it does, in a line."""
    run: Callable[[Conversation, str], str]
    """Raises UserError for what it cannot do."""
    argument: str = ""


def _temperature(conversation: Conversation, text: str) -> str:
    if text:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (0 <= value < math.inf):
            raise UserError("a temperature is 0 or a number above", value=text, hint="such as /temp 0.7")
        conversation.sampling = conversation.sampling.replace(temperature=value)
    return f"temperature {conversation.sampling.temperature:g}"


def _system(conversation: Conversation, text: str) -> str:
    if text:
        conversation.system = None if text == "-" else text
    told = conversation.system
    return "the model is told nothing beforehand" if told is None else f"told beforehand: {told}"


def _reset(conversation: Conversation, text: str) -> str:
    conversation.reset()
    return "(forgotten)"


def _save(conversation: Conversation, text: str) -> str:
    """Rows that `congling sft` reads, or plain text where the name ends so."""
    if not conversation.messages:
        raise UserError("there is nothing to save yet")
    file = _file(text or f"chat-{datetime.now():%Y%m%d-%H%M%S}.jsonl")
    if file.suffix in (".txt", ".md"):
        turns = (f"{message['role']}: {message['content']}\n" for message in conversation.messages)
        content = "\n".join(turns)
    else:
        content = json.dumps({"messages": conversation.messages}, ensure_ascii=False) + "\n"
    try:
        with replacing(file) as temporary:
            write_text(temporary, content)
    except UserError as error:
        raise UserError(error.what, value=error.value, hint="/save ANOTHER-NAME") from None
    count = len(conversation.messages)
    return f"saved {count} {plural(count, 'message')} in {file}"


def _file(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except (RuntimeError, ValueError) as error:  # ~nobody, or no name at all
        raise UserError(f"no name for a file ({error})", value=name) from None


COMMANDS: Mapping[str, Command] = {
    "/retry": Command("answer the last question anew", lambda conversation, text: ""),
    "/temp": Command("how freely it writes: 0 = always the likeliest token", _temperature, "NUMBER"),
    "/system": Command("what the model is told beforehand; - for nothing", _system, "TEXT"),
    "/reset": Command("forget the conversation", _reset),
    "/save": Command("write it down: .jsonl to tune with, .txt or .md to read", _save, "FILE"),
    "/help": Command("this list", lambda conversation, text: help_text()),
    "/quit": Command("leave, as Ctrl-D does", lambda conversation, text: ""),
}
"""All commands; ``/retry`` and ``/quit`` are carried out by the loop that reads them."""
_KEYS = """\
A line that ends with \\ goes on in the next; three quotation marks open and close a message of several lines;
// at the beginning is a slash of the message itself. Ctrl-C stops an answer."""


def help_text() -> str:
    """All commands with what they do."""
    names = {name: f"{name} {command.argument}".rstrip() for name, command in COMMANDS.items()}
    width = max(map(len, names.values()))
    return "\n".join([*(f"{names[name]:{width}}  {one.does}" for name, one in COMMANDS.items()), _KEYS])
