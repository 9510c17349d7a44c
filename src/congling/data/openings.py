"""How one would begin to read on aloud: the first clause of a paragraph, no heading and no half a word."""

import re
from collections.abc import Iterator

from congling.data.segmenter import is_heading
from congling.data.token_split import TokenSplit, beginnings
from congling.tokenizer.base import Tokenizer

TOKENS = 24
"""Longest opening: a model with a context of 64 tokens is to have room to go on."""
_LOOKED = 512  # tokens of a document in which a paragraph is looked for
_SHORTEST = 4  # characters, so that 话说， alone is none
_LONGEST = 40  # characters in which a mark is looked for
_MARK = re.compile(r"[，。！？；：、,.!?;:…]+[”’」』）)\"']*(?=\s|[^\x00-\x7f]|$)")
_SENTENCE = re.compile(r"[。！？!?….]+[”’」』）)\"']*$")
_WORDS = re.compile(r"\S+\s*")


def openings(split: TokenSplit, tokenizer: Tokenizer, *, documents: int) -> tuple[str, ...]:
    """Openings of the first ``documents`` that hold a paragraph, or of as few as do; where all are single
    characters, those."""
    found: list[str] = []
    for index in range(min(split.documents, 10 * documents)):
        ids = split.document(index)
        text = tokenizer.decode(ids[:_LOOKED].tolist(), skip_special=True).replace("\ufffd", "")
        if (start := opening(text, tokenizer)) and start not in found:
            found.append(start)
        if len(found) == documents:
            break
    return tuple(found) or beginnings(split, tokenizer, documents=documents, tokens=1)


def opening(text: str, tokenizer: Tokenizer) -> str:
    """The first clause of a text's first paragraph, no more than ``TOKENS`` tokens of it and never all; empty
    where there is no text."""
    line = _paragraph(text)
    for end in _ends(line):
        start = line[:end].strip()
        if start and len(tokenizer.encode(start)) <= TOKENS:
            return start
    return ""


def _paragraph(text: str) -> str:
    """The first line that is a sentence; else the first that is no heading, else the first."""
    lines = [line for raw in text.split("\n") if (line := raw.strip())]
    plain = [line for line in lines if not is_heading(line)]
    sentences = (line for line in plain if _SENTENCE.search(line) or len(line) > _LONGEST)
    return next(sentences, (plain or lines or [""])[0])


def _ends(line: str) -> Iterator[int]:
    """Where an opening of a line may end, the best first: at its marks, then ever earlier between words."""
    marks = [found.end() for found in _MARK.finditer(line) if _SHORTEST <= found.end() <= _LONGEST]
    yield from (end for end in marks if end < len(line))
    half = min(len(line) - 1, _LONGEST // 2)
    words = [found.end() for found in _WORDS.finditer(line) if found.end() <= half]
    yield from reversed(words)
    yield from range(half, 0, -1)
