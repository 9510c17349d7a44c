"""Texts that other programs have strung together, divided again at the marks between them.

::

    从前有一只兔子。<|endoftext|>从前有一只猫。      two documents; so too where the mark is a line of its own
    <s>从前有一只兔子。</s>⏎<s>从前有一只猫。</s>    two documents

A mark is believed to divide where nearly all of its kind stand at a border: of a line, or behind the end of a
sentence. A text that only speaks of such a mark stays whole.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

ENDS = (
    "<|endoftext|>", "<|end_of_text|>", "<|endofdoc|>", "<|eod|>", "<|eos|>", "</s>", "<eos>", "<eod>",
    "<EOD>", "[EOS]", "[SEP]", "<|end_of_document|>", "<｜end▁of▁sentence｜>",
)  # fmt: skip
"""Marks that end a document."""
BEGINNINGS = (
    "<s>",
    "<bos>",
    "[BOS]",
    "[CLS]",
    "<|begin_of_text|>",
    "<|startoftext|>",
    "<｜begin▁of▁sentence｜>",
)
"""Marks that begin one; they go with the ends."""
_KNOWN = re.compile("|".join(map(re.escape, (*ENDS, *BEGINNINGS))))
_BEGINS = re.compile(r"\A\s*(?:" + "|".join(map(re.escape, BEGINNINGS)) + ")")
_SENTENCE_END = re.compile(r"[。！？…!?.;；”’」』)）\"'>*\]]\s*\Z")
_BELIEVED = 0.9


@dataclass(slots=True)
class Separators:
    """How often each known mark stands in a text, and how often at a border."""

    found: Counter[str] = field(default_factory=Counter)
    borders: Counter[str] = field(default_factory=Counter)

    def look(self, line: str) -> None:
        """Count the marks of one line."""
        if "<" not in line and "[" not in line:
            return
        for match in _KNOWN.finditer(line):
            before, after = line[: match.start()], line[match.end() :]
            self.found[match[0]] += 1
            ends = not before.strip() or not after.strip() or _SENTENCE_END.search(before[-4:])
            self.borders[match[0]] += bool(ends)

    @property
    def separator(self) -> str:
        """The mark that divides the text, one that ends documents before one that begins them; or nothing."""
        believed = [mark for mark, count in self.borders.items() if count >= _BELIEVED * self.found[mark]]
        ends = [mark for mark in believed if mark in ENDS]
        return max(ends or believed, key=self.borders.__getitem__, default="")


def separator_of(texts: Iterable[str]) -> str:
    """The known mark that divides texts, or nothing."""
    seen = Separators()
    for text in texts:
        seen.look(text)
    return seen.separator


def divided(text: str, separator: str) -> list[str]:
    """A text at its separators, each part without the mark that begins it; parts that say nothing are none.

    >>> divided("<s>一。</s>\\n<s>二。</s>", "</s>")
    ['一。', '二。']
    """
    parts = (begun(part).strip("\n ") for part in text.split(separator))
    return [part for part in parts if part.strip()]


def begun(text: str) -> str:
    """A text without the mark with which other programs begin one."""
    return _BEGINS.sub("", text, count=1)
