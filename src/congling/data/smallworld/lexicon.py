"""Words of the small world: categories of entries, each with its forms, and the numbers.

The words stand in ``lexicon.toml``. Within a category no form is the beginning of another, so that a text can
be read back in one way only (``proof.ambiguities`` shows it).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from congling.data.smallworld.package_data import table
from congling.data.smallworld.script import to_traditional

LARGEST = 400
"""Numbers from 0 to this one have a name."""
_RANGES = (
    ("number", 0, LARGEST), ("few", 2, 5), ("many", 6, 15), ("digit", 1, 9), ("ten", 1, 20),
    ("hundred", 1, 100),
)  # fmt: skip


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
        forms = tuple(
            {entry[k]: entry for entry in reversed(self.entries)} for k in range(len(self.attributes))
        )
        object.__setattr__(self, "forms", forms)
        object.__setattr__(
            self, "lengths", tuple(tuple(sorted({len(form) for form in table})) for table in forms)
        )

    def identifies(self, attribute: int) -> bool:
        """Whether the form of this attribute tells the entry."""
        return len({entry[attribute] for entry in self.entries}) == len(self.entries)

    def translated(self, translate: Callable[[str], str]) -> "Category":
        """The same category with every form passed through ``translate``."""
        entries = tuple(
            tuple(translate(form) if isinstance(form, str) else form for form in entry)
            for entry in self.entries
        )
        return Category(self.name, self.attributes, entries, self.numeric)


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


def _categories() -> Iterator[Category]:
    """Numbers, and the words of ``lexicon.toml``."""
    for name, low, high in _RANGES:
        numbers = NUMBERS[low : high + 1]
        yield Category(name, ("word", "count", "digits"), numbers, numeric=True)
    for group in table("lexicon").values():
        for name, entry in group.items():
            given = {"words": entry} if isinstance(entry, str) else entry
            words = tuple(tuple(word.split("/")) for word in given["words"].split())
            yield Category(name, tuple(given.get("attributes", ("name",))), words)


@cache
def categories(script: str) -> Mapping[str, Category]:
    """All categories by name, in Simplified (``hans``) or Traditional (``hant``) characters."""
    if script == "hant":
        return {name: category.translated(to_traditional) for name, category in categories("hans").items()}
    return {category.name: category for category in _categories()}
