"""One exception for whatever a person can mend: what is wrong, where, the value, and what to do."""

from congling.core.text import one_line, printable, readable


class UserError(Exception):
    """A mistake in the input, the configuration or the environment, worded for the person who can mend it.

    The command line prints it as one message without a traceback; a program catches this one class. What it
    quotes may come from anywhere: the message is safe to show on a terminal.

    >>> print(UserError("no such key", where="a.toml", value="setps", hint="did you mean 'steps'?"))
    no such key: 'setps' (in a.toml)
      help: did you mean 'steps'?
    """

    def __init__(
        self, what: str, *, where: object = None, value: object = None, hint: str | None = None
    ) -> None:
        self.what, self.where, self.value, self.hint = what, where, value, hint
        what = _short(what, LONGEST)
        text = what if value is None else f"{what}: {_shown(value)}"
        if where is not None:
            text += f" (in {one_line(_short(str(where), LONGEST))})"
        if hint is not None:
            text += f"\n  help: {_short(hint, LONGEST)}"
        super().__init__(printable(text))


class Interrupted(Exception):
    """Ctrl-C arrived; what was done so far is saved, and the message says how to go on."""


LONGEST = 2000
"""Characters of a sentence, a place or a remedy; names of files end before."""


def _shown(value: object, limit: int = 120) -> str:
    """Represent a value in a message, cut to a length a terminal line can hold."""
    try:
        return _short(repr(readable(value[:LONGEST]) if type(value) is str else value), limit)
    except (ValueError, RecursionError):  # a number of too many digits, or lists in lists without end
        return "a value too large to show"


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
