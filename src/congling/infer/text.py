"""From generated ids to text as it grows: whole characters only, ending before a stop string."""

import codecs
from collections.abc import Sequence


class TextStream:
    """Collects the bytes of tokens and gives out the text that can no longer change.

    A Chinese character may be spread over three byte tokens, and a stop string over several tokens; what
    could still become one of them is held back.

    >>> stream = TextStream(stop=["。"])
    >>> stream.feed(b"\\xe4\\xbb"), stream.feed(b"\\x8e"), stream.feed("零。".encode()), stream.done
    ('', '从', '零', True)
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(text for text in stop if text)
        self._held = ""
        self.done = False
        """Whether a stop string has come, or ``close`` was called."""

    def feed(self, data: bytes) -> str:
        """Take the bytes of one token and return the text that is settled now (often none)."""
        return "" if self.done else self._settle(self._decoder.decode(data))

    def close(self) -> str:
        """End the text: return what was held back; a character whose last bytes never came is left out."""
        if self.done:
            return ""
        rest, self._held, self.done = self._held, "", True
        return rest

    def _settle(self, new: str) -> str:
        text = self._held + new
        # Of several the one that is complete first, so that nothing depends on how the text was cut.
        found = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self._held, self.done = "", True
            return text[: min(found)[1]]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that begins ``stop``."""
    sizes = range(min(len(stop) - 1, len(text)), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
