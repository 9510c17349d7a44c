"""Strings that know of each of their characters who wrote it: the chat template, or a message.

A template may take a text apart, strip it, or put it together anew; what it writes in the end still says
which characters came from a message, so that these, whatever they spell, never become special tokens::

    "<|im_start|>user\\n" + "  <|im_end|>".strip()      text
     ·················  ·   uuuuuuuuuu                 sources
"""

from collections.abc import Iterable, Iterator
from typing import Any, SupportsIndex

TEMPLATE = "\0"
"""Source of what the template itself writes."""
UNKNOWN = "\1"
"""Source of what was made of texts in a way that is not followed, as their JSON."""


class Traced(str):
    """A string with a second one of equal length: the source of each character."""

    __slots__ = ("sources",)
    sources: str

    def __new__(cls, text: str, sources: str) -> "Traced":
        """Both must have the same length."""
        made = super().__new__(cls, text)
        made.sources = sources if len(sources) == len(made) else UNKNOWN * len(made)
        return made

    def __str__(self) -> str:
        return self

    def __add__(self, other: str) -> str:
        return joined((self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> str:
        return joined((other, self)) if isinstance(other, str) else NotImplemented

    def __mul__(self, times: SupportsIndex) -> str:
        return Traced(str.__mul__(self, times), self.sources * times)

    def __rmul__(self, times: SupportsIndex) -> str:
        return self * times

    def __getitem__(self, place: Any) -> str:
        return Traced(str.__getitem__(self, place), self.sources[place])

    def __iter__(self) -> Iterator[str]:
        return (
            Traced(character, source) for character, source in zip(plain(self), self.sources, strict=True)
        )

    def strip(self, chars: str | None = None, /) -> str:
        """See :meth:`str.strip`."""
        return self.lstrip(chars).rstrip(chars)

    def lstrip(self, chars: str | None = None, /) -> str:
        """See :meth:`str.lstrip`."""
        return self[len(self) - len(str.lstrip(self, chars)) :]

    def rstrip(self, chars: str | None = None, /) -> str:
        """See :meth:`str.rstrip`."""
        return self[: len(str.rstrip(self, chars))]

    def removeprefix(self, prefix: str, /) -> str:
        """See :meth:`str.removeprefix`."""
        return self[len(prefix) :] if self.startswith(prefix) else self

    def removesuffix(self, suffix: str, /) -> str:
        """See :meth:`str.removesuffix`."""
        return self[: len(self) - len(suffix)] if self.endswith(suffix) else self

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:  # pyright: ignore
        """See :meth:`str.split`."""
        return self._cut(str.split(self, sep, maxsplit), len(sep or ""))

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:  # pyright: ignore
        """See :meth:`str.rsplit`."""
        return self._cut(str.rsplit(self, sep, maxsplit), len(sep or ""))

    def splitlines(self, keepends: bool = False) -> list[str]:  # pyright: ignore
        """See :meth:`str.splitlines`."""
        return self._cut(str.splitlines(self, keepends), 0)

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        """See :meth:`str.partition`."""
        return tuple(self._cut(str.partition(self, sep), 0))  # pyright: ignore

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        """See :meth:`str.rpartition`."""
        return tuple(self._cut(str.rpartition(self, sep), 0))  # pyright: ignore

    def upper(self) -> str:
        """See :meth:`str.upper`."""
        return Traced(str.upper(self), self.sources)

    def lower(self) -> str:
        """See :meth:`str.lower`."""
        return Traced(str.lower(self), self.sources)

    def capitalize(self) -> str:
        """See :meth:`str.capitalize`."""
        return Traced(str.capitalize(self), self.sources)

    def title(self) -> str:
        """See :meth:`str.title`."""
        return Traced(str.title(self), self.sources)

    def swapcase(self) -> str:
        """See :meth:`str.swapcase`."""
        return Traced(str.swapcase(self), self.sources)

    def casefold(self) -> str:
        """See :meth:`str.casefold`."""
        return Traced(str.casefold(self), self.sources)

    def _cut(self, parts: Iterable[str], gap: int) -> list[str]:
        """Parts of the string in their order, ``gap`` characters between two; 0 where what lies there is not
        part of any part.
        """
        found, place = [], 0
        for part in parts:
            start = place if gap else self.find(part, place)
            place = start + len(part) + gap
            found.append(self[start : start + len(part)])
        return found


def plain(text: str) -> str:
    """The same characters without their sources."""
    return str.__str__(text)


def sources_of(text: str) -> str:
    """The source of each character."""
    return text.sources if isinstance(text, Traced) else TEMPLATE * len(text)


def joined(parts: Iterable[str], between: str = "") -> str:
    """The parts one after the other; see :meth:`str.join`."""
    parts = list(parts)
    text = str.join(plain(between), parts)
    if not isinstance(between, Traced) and not any(isinstance(part, Traced) for part in parts):
        return text
    return Traced(text, sources_of(between).join(map(sources_of, parts)))


def replaced(text: str, old: str, new: str, count: int = -1) -> str:
    """See :meth:`str.replace`."""
    if not isinstance(text, Traced) and not isinstance(new, Traced):
        return text.replace(old, new, count)
    if not old:
        return Traced(changed := plain(text).replace(old, new, count), UNKNOWN * len(changed))
    return joined(text.split(old, count), new)
