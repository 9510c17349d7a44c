"""Text of a chat template as ids: special tokens where the template wrote them, and the text between them.

::

    <|user|>⏎ 你好 <|im_end|> <|end|>      written by the template, but for 你好 <|im_end|>
    ■■■■■■■■  ───────────────  ■■■■■■■     one special token, a section of ordinary characters, another one

Sections get the ids that transformers and llama.cpp give for the whole text: some vocabularies put a space
before each, some tokens take the white space beside them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from congling.tokenizer.base import TokenAttributes, Tokenizer
from congling.tokenizer.chat.rendering import from_template
from congling.tokenizer.chat.traced import plain

_PLAIN = TokenAttributes()


@dataclass(frozen=True)
class SpecialToken:
    """A special token in a text, and which characters it takes."""

    start: int
    end: int
    index: int
    """Its id."""
    open: bool
    """Whether it takes the white space that follows."""


def special_tokens_in(tokenizer: Tokenizer, text: str) -> list[SpecialToken]:
    """The special tokens that the template wrote, the longest where several begin."""
    known = dict(tokenizer.special) | dict(tokenizer.inner_marks)
    pattern = _pattern(tuple(known))
    if pattern is None:
        return []
    found: list[SpecialToken] = []
    letters = plain(text)
    for begin, part in from_template(text):
        for match in pattern.finditer(part):
            start, end = begin + match.start(), begin + match.end()
            attributes = tokenizer.token_attributes.get(match[0], _PLAIN)
            if attributes.single_word and (
                _is_word(letters[start - 1 : start]) or _is_word(letters[end : end + 1])
            ):
                continue
            least = found[-1].end if found else 0
            if start < least:
                continue  # taken as white space of the one before
            if attributes.lstrip:
                start = least + len(letters[least:start].rstrip())
            if attributes.rstrip:
                end += len(letters[end:]) - len(letters[end:].lstrip())
            found.append(SpecialToken(start, end, known[match[0]], attributes.rstrip))
    return found


class SectionEncoder:
    """Text to ids, stretch by stretch; each stretch goes on where the last one ended."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._beginning = self._fresh = True
        self._open = False

    def __call__(self, text: str) -> list[int]:
        """Ids of the next stretch of the text."""
        if self._open:
            text = text[len(text) - len(text.lstrip()) :]
        ids: list[int] = []
        place = 0
        for mark in special_tokens_in(self.tokenizer, text):
            ids += [*self._section(plain(text)[place : mark.start]), mark.index]
            place = mark.end
            self._fresh, self._beginning, self._open = True, False, mark.open
        return ids + self._section(plain(text)[place:])

    def _section(self, text: str) -> list[int]:
        if not text:
            return []
        spaced = self._fresh and (self._beginning or self.tokenizer.space_after_special)
        self._fresh = self._beginning = self._open = False
        return self.tokenizer.encode(text) if spaced else self.tokenizer.encode_rest(text)


def encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Ids of stretches that make one text together."""
    encode = SectionEncoder(tokenizer)
    return [encode(text) for text in texts]


def _is_word(character: str) -> bool:
    return re.fullmatch(r"\w", character) is not None


@lru_cache(maxsize=16)
def _pattern(known: tuple[str, ...]) -> re.Pattern[str] | None:
    longest_first = sorted((text for text in known if text), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
