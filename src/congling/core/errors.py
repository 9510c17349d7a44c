"""One exception for whatever a person can mend: what is wrong, where, the value, and what to do."""


class UserError(Exception):
    """A mistake in the input, the configuration or the environment, worded for the person who can mend it.

    The command line prints it as one message without a traceback; a program catches this one class.

    >>> print(UserError("no such key", where="a.toml", value="setps", hint="did you mean 'steps'?"))
    no such key: 'setps' (in a.toml)
      help: did you mean 'steps'?
    """

    def __init__(
        self, what: str, *, where: object = None, value: object = None, hint: str | None = None
    ) -> None:
        self.what, self.where, self.value, self.hint = what, where, value, hint
        text = what if value is None else f"{what}: {_shown(value)}"
        if where is not None:
            text += f" (in {where})"
        if hint is not None:
            text += f"\n  help: {hint}"
        super().__init__(text)


class Interrupted(Exception):
    """Ctrl-C arrived; what was done so far is saved, and the message says how to go on."""


def _shown(value: object, limit: int = 120) -> str:
    """Represent a value in a message, cut to a length a terminal line can hold."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
