"""What a person types: lines that can be edited, messages of several lines, and where they end.

========================  ===========================================================================
a terminal                edited by prompt_toolkit (the extra ``chat``), else by readline where there is one
anything else             read line by line, as it comes
========================  ===========================================================================

A line that ends with a backslash goes on in the next; three quotation marks open and close a message of any
number of lines.
"""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from congling.core.errors import UserError
from congling.data.encoding import from_outside
from congling.infer.history import History

ReadLine = Callable[[str], str]
"""Shows a prompt and returns the next line. EOFError at the end of input, KeyboardInterrupt for Ctrl-C."""
FIRST, MORE = "\n> ", "… "
"""Prompts of a message's first line, which stands apart, and of its others."""
QUOTES = '"""'


def interactive() -> bool:
    """Whether a person sits in front of both ends."""
    try:
        return sys.stdin is not None and sys.stdin.isatty() and sys.stdout is not None and sys.stdout.isatty()
    except ValueError:  # closed
        return False


def line_reader(history: History, commands: Sequence[str] = ()) -> ReadLine:
    """The best way to read lines here; ``commands`` are completed by Tab where it can be done."""
    if not interactive():
        return _plain
    return _prompt_toolkit(history, commands) or _readline(history)


def read_message(read: ReadLine, history: History | None = None) -> str:
    """The next message, without the marks that hold its lines together.

    Raises:
        EOFError: the input is over.
        KeyboardInterrupt: Ctrl-C; what had been typed is dropped.
    """
    line = from_outside(read(FIRST))
    if line.lstrip().startswith(QUOTES):
        message = _quoted(line.lstrip().removeprefix(QUOTES), read)
    else:
        message = _continued(line, read)
    if history is not None:
        history.add(message)
    return message


def _continued(line: str, read: ReadLine) -> str:
    lines = []
    with contextlib.suppress(EOFError):
        while line.endswith("\\"):
            lines.append(line[:-1])
            line = ""
            line = from_outside(read(MORE))
    return "\n".join([*lines, line])


def _quoted(line: str, read: ReadLine) -> str:
    lines = []
    with contextlib.suppress(EOFError):
        while not line.rstrip().endswith(QUOTES):
            lines.append(line)
            line = QUOTES
            line = from_outside(read(MORE))
    return "\n".join([*lines, line.rstrip().removesuffix(QUOTES)]).strip("\n")


def _plain(prompt: str) -> str:
    """A line of whatever stands behind standard input; where nothing does, the input is over.

    Raises:
        EOFError: it is over.
        UserError: it cannot be read.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise EOFError
    try:
        if sys.stdout is None or sys.stderr is None:  # closed, without which there is no input()
            return _next_line()
        return input(prompt)
    except (io.UnsupportedOperation, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"standard input cannot be read ({reason})") from None


def _next_line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def _readline(history: History) -> ReadLine:
    """Lines edited by the system's own library, which ``input`` uses once it is loaded."""
    try:
        import readline
    except ImportError:  # Windows, whose console edits lines itself
        return _plain
    readline.set_auto_history(False)
    readline.clear_history()

    def read(prompt: str) -> str:
        readline.clear_history()
        for entry in history.entries:
            if "\n" not in entry:  # a line is all that it can edit
                readline.add_history(entry)
        return _plain(_apart(prompt))

    return read


def _apart(prompt: str) -> str:
    """The prompt's own line, after those above it: an editor must know how wide what it edits begins."""
    above = len(prompt) - len(prompt.lstrip("\n"))
    print("\n" * above, end="", flush=True)
    return prompt[above:]


def _prompt_toolkit(history: History, commands: Sequence[str]) -> ReadLine | None:
    """Lines edited by prompt_toolkit; None where it is not installed, or the terminal is none it knows."""
    if os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return None
    try:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import InMemoryHistory
        from prompt_toolkit.key_binding import KeyBindings
        from prompt_toolkit.output import create_output
        from prompt_toolkit.output.vt100 import Vt100_Output
    except ImportError:
        return None
    output = create_output()
    if isinstance(output, Vt100_Output):
        output.enable_cpr = False  # terminals that do not tell where the cursor is would be waited for
    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: Any) -> None:  # Alt and Enter: a new line within the message
        event.current_buffer.insert_text("\n")

    def read(prompt: str) -> str:
        session: PromptSession[str] = PromptSession(
            history=InMemoryHistory(history.entries),
            output=output,
            key_bindings=keys,
            completer=WordCompleter(list(commands), sentence=True),
            complete_while_typing=False,
            reserve_space_for_menu=4,
        )
        return session.prompt(_apart(prompt))

    return read
