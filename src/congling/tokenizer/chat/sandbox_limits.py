"""What one rendering of a chat template may still do: effort, time, and how much its values hold.

Whatever is made is paid for by its size before it is kept, freed or not, so that what lives at once is
bounded too; and no single value stands for more text than :attr:`Allowance.largest`, counted as often as it
would be written.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any

from jinja2.utils import Namespace

from congling.core.errors import UserError
from congling.tokenizer.chat.traced import joined

TURN = 500
"""Price of a turn of a loop, a call or a filter."""
EFFORT = 50_000_000
"""About a second; a character that is written costs 1."""
TEXTS = 16
"""Times the texts of the messages may be handled."""
_ITEM, _CHARACTER = 150, 6  # what an item of a value costs that is made, and a character of it
_LOOK = 20  # what an item costs that is looked at
_LARGEST = 100_000  # characters and items of a value, beyond those of the messages
_SECONDS = 1.0  # of the processor, whatever the effort is, beyond those for the messages
_BETWEEN = 50_000  # effort between two looks at the clock
_NUMBER = 2**2048  # no double is larger
_SIZED = (str, list, tuple, dict, range, type({}.keys()), type({}.values()), type({}.items()))


class Allowance:
    """The allowance of a template, made anew for every rendering.

    Attributes:
        effort: what was paid so far.
        largest: characters and items of a value.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self.begin(0)

    def begin(self, texts: int) -> None:
        """A fresh allowance, for messages of so many characters (and a few more for each)."""
        self.effort, self._due, self._allowed = 0, _BETWEEN, EFFORT + 300 * texts
        self.largest = _LARGEST + TEXTS * texts
        self._until = time.thread_time() + _SECONDS * (1 + texts / 1e6)

    def pay(self, price: int) -> None:
        """Take from the allowance.

        Raises:
            UserError: it is used up.
        """
        self.effort += price
        if self.effort > self._due:
            self._due = self.effort + _BETWEEN
            if self.effort > self._allowed or time.thread_time() > self._until:
                raise UserError("the chat template works without end", value=self._source)

    def refuse(self) -> Any:
        """Stop at a value that is too large.

        Raises:
            UserError: always.
        """
        raise UserError("the chat template makes a value without end", value=self._source)

    def within(self, size: int) -> None:
        """Pay for so many characters that are about to be made.

        Raises:
            UserError: a value of that size is too large, or the allowance is used up.
        """
        if size > self.largest:
            self.refuse()
        self.pay(_CHARACTER * size)

    def read(self, value: Any) -> Any:
        """A value that is about to be gone through, paid for."""
        self.pay(len(value) if isinstance(value, str) else _LOOK * length(value))
        return value

    def sliced(self, value: Any) -> Any:
        """A part of a value, which holds what that held, paid for."""
        self.pay((_CHARACTER if isinstance(value, str) else _ITEM) * length(value))
        return value

    def made(self, value: Any) -> Any:
        """A value just made, paid for; what it holds counts as often as it would be written.

        Raises:
            UserError: it is too large, or the allowance is used up.
        """
        if isinstance(value, str):
            self.within(len(value))
        elif isinstance(value, (list, tuple, dict)):
            found, parts = _weighed(value, self.largest)
            self.pay(_ITEM * len(value) + _LOOK * parts)
            if found > self.largest:
                self.refuse()
        elif isinstance(value, int) and not -_NUMBER < value < _NUMBER:
            self.refuse()
        return value

    def turns(self, items: Iterable[Any], text: int = 0) -> Iterator[Any]:
        """Items of a loop whose body holds so much text, each paid for."""
        for item in items:
            self.pay(TURN + text)
            yield item

    def joined(self, parts: Iterable[str], between: str = "") -> str:
        """The parts one after the other, as far as they may go."""
        kept, size = [], 0
        for part in parts:
            kept.append(part)
            size += len(part) + len(between)
            if size > self.largest:
                self.refuse()
        self.pay(_CHARACTER * size + TURN)
        return joined(kept, between)


def length(value: Any) -> int:
    """Characters or items of a value; 0 of what has none."""
    return len(value) if isinstance(value, _SIZED) else 0


def weight(value: Any, most: int) -> int:
    """Characters and items within a value, as often as they would be written; about ``most`` where there
    are more. Namespaces, which could hold one another, count as too much.
    """
    return _weighed(value, most)[0] if not isinstance(value, str) else len(value)


def _weighed(value: Any, most: int) -> tuple[int, int]:
    """The weight of a value, and how many parts were looked at for it."""
    total, parts, waiting = 0, 0, [value]
    while waiting and total <= most:
        one = waiting.pop()
        parts += 1
        if isinstance(one, str):
            total += 1 + len(one)
        elif isinstance(one, (list, tuple)):
            total += 1 + len(one)
            if total <= most:
                waiting += one
        elif isinstance(one, dict):
            total += 1 + len(one)
            if total <= most:
                waiting += [*one.keys(), *one.values()]
        elif isinstance(one, Namespace):
            return most + 1, parts
        elif isinstance(one, _SIZED):
            total += 1 + len(one)
        elif isinstance(one, int):
            total += one.bit_length() // 3
    return total, parts
