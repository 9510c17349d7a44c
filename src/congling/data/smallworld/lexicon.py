"""Words of the small world: categories of entries, each with its forms, and the numbers.

An entry is written ``name/attribute/attribute``. Within a category no form is the beginning of another, so that a
text can be read back in one way only (``entropy.ambiguities`` proves it).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LARGEST = 400
"""Numbers from 0 to this one have a name."""


@dataclass(frozen=True, eq=False)
class Category:
    """Words that can stand in the same place."""

    name: str
    attributes: tuple[str, ...]
    entries: tuple[tuple[Any, ...], ...]
    """The forms in the order of ``attributes``; a number carries its value as one more."""
    numeric: bool = False
    forms: tuple[Mapping[str, tuple[Any, ...]], ...] = field(init=False, repr=False)
    """For each attribute: from form to the (first) entry that has it."""
    lengths: tuple[tuple[int, ...], ...] = field(init=False, repr=False)
    """For each attribute: the lengths of its forms in characters."""

    def __post_init__(self) -> None:
        entries = NUMBERS if self.numeric else self.entries
        forms = tuple({entry[k]: entry for entry in reversed(entries)} for k in range(len(self.attributes)))
        object.__setattr__(self, "forms", forms)
        object.__setattr__(self, "lengths", tuple(tuple(sorted({len(form) for form in table})) for table in forms))

    def identifies(self, attribute: int) -> bool:
        """Whether the form of this attribute tells the entry."""
        return len({entry[attribute] for entry in self.entries}) == len(self.entries)


def number_word(value: int) -> str:
    """A number from 0 to 999 in Chinese: 8 → 八, 12 → 十二, 35 → 三十五, 208 → 二百零八.

    Raises:
        ValueError: the number is outside this range.
    """
    digits = "零一二三四五六七八九"
    if not 0 <= value < 1000:
        raise ValueError(f"no word for {value}")
    hundreds, rest = divmod(value, 100)
    tens, ones = divmod(rest, 10)
    if hundreds:
        middle = digits[tens] + "十" if tens else "零" if ones else ""
        return digits[hundreds] + "百" + middle + (digits[ones] if ones else "")
    if tens:
        return ("" if tens == 1 else digits[tens]) + "十" + (digits[ones] if ones else "")
    return digits[ones]


def _number(value: int) -> tuple[str, str, str, int]:
    word = number_word(value)
    return (word, "两" if value == 2 else word, str(value), value)


NUMBERS: tuple[tuple[str, str, str, int], ...] = tuple(_number(value) for value in range(LARGEST + 1))
"""(name, form before a measure word, digits, value): (二, 两, 2, 2)."""


def _numbers(name: str, low: int, high: int) -> Category:
    return Category(name, ("word", "count", "digits"), NUMBERS[low : high + 1], numeric=True)


def _words(name: str, attributes: str, text: str) -> Category:
    entries = tuple(tuple(word.split("/")) for word in text.split())
    return Category(name, tuple(attributes.split()), entries)


_CATEGORIES = (
    _numbers("number", 0, LARGEST),
    _numbers("few", 2, 9),
    _numbers("digit", 1, 9),
    _numbers("ten", 1, 20),
    _numbers("hundred", 1, 100),
)


def categories(script: str) -> dict[str, Category]:
    return {c.name: c for c in _CATEGORIES}
