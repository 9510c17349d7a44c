"""What a vocabulary does to a corpus: how far it shortens it, what it misses, what it never uses."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from congling.tokenizer.base import FIRST_PIECE, Tokenizer
from congling.tokenizer.split import safe_chunks

_CHUNK = 2**12  # characters; see safe_chunks
_AT_ONCE = 256  # chunks


@dataclass(frozen=True)
class Report:
    """Measured on the text given, all of it or a sample."""

    kind: str
    vocab_size: int
    characters: int
    bytes: int
    tokens: int
    characters_per_token: float
    bytes_per_token: float
    coverage: float
    """Share of the text's bytes in tokens of whole characters: 1 when nothing had to be spelt in bytes."""
    unused: int
    """Learnt pieces that the text never needs (most were steps towards longer ones)."""
    unused_share: float
    longest: tuple[str, ...]
    most_frequent: tuple[tuple[str, int], ...]
    held_out: bool
    """Whether the coverage and lengths are of text that the vocabulary was not learnt from."""

    def as_json(self) -> dict[str, Any]:
        """For ``report.json``."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Rows of a table for people."""
        source = "held-out text" if self.held_out else "its own text"
        return [
            ("kind", self.kind),
            ("vocabulary", f"{self.vocab_size:,} ids"),
            ("measured on", f"{source}, {self.characters:,} characters"),
            ("characters a token", f"{self.characters_per_token:.3f}"),
            ("bytes a token", f"{self.bytes_per_token:.3f}"),
            ("coverage without byte fallback", f"{100 * self.coverage:.2f} %"),
            ("ids never used in the corpus", f"{self.unused:,} ({100 * self.unused_share:.1f} %)"),
            ("longest", "  ".join(map(repr, self.longest[:8]))),
            ("most frequent", "  ".join(repr(text) for text, _ in self.most_frequent[:12])),
        ]


@dataclass(frozen=True)
class Usage:
    """Occurrences of each id in some text, and the size of that text."""

    counts: np.ndarray
    characters: int
    bytes: int


def usage(tokenizer: Tokenizer, texts: Iterable[str]) -> Usage:
    """Encode text and count its ids; memory does not grow with the text."""
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    characters = size = 0
    held: list[str] = []

    def flush() -> None:
        for ids in tokenizer.encode_batch(held):
            np.add.at(counts, ids, 1)
        held.clear()

    for text in texts:
        characters += len(text)
        size += len(text.encode())
        for chunk in safe_chunks(text, _CHUNK):
            held.append(chunk)
            if len(held) >= _AT_ONCE:
                flush()
    flush()
    return Usage(counts, characters, size)


def report(tokenizer: Tokenizer, training: Usage, held_out: Usage | None = None) -> Report:
    """Describe a vocabulary by its use on its own text and, for lengths and coverage, on held-out text."""
    measured = held_out or training
    tokens = int(measured.counts.sum())
    pieces = [index for index in range(tokenizer.vocab_size) if index not in tokenizer.special.values()]
    widths = np.zeros(tokenizer.vocab_size, np.int64)
    whole = np.zeros(tokenizer.vocab_size, bool)
    for index in pieces:
        widths[index], whole[index] = len(tokenizer.token_bytes(index)), not tokenizer.is_byte(index)
    texts = {index: tokenizer.token_bytes(index).decode() for index in pieces if whole[index]}
    seen = training.counts > 0
    learnt = [index for index in texts if index >= FIRST_PIECE]
    unused = sum(not seen[index] for index in learnt)
    longest = sorted((index for index in texts if seen[index]), key=lambda index: (-len(texts[index]), index))
    frequent = sorted(texts, key=lambda index: (-training.counts[index], index))
    covered = int((measured.counts * widths)[whole].sum())
    return Report(
        kind=tokenizer.kind,
        vocab_size=tokenizer.vocab_size,
        characters=measured.characters,
        bytes=measured.bytes,
        tokens=tokens,
        characters_per_token=measured.characters / max(1, tokens),
        bytes_per_token=measured.bytes / max(1, tokens),
        coverage=covered / max(1, measured.bytes),
        unused=unused,
        unused_share=unused / max(1, len(learnt)),
        longest=tuple(texts[index] for index in longest[:20]),
        most_frequent=tuple((texts[index], int(training.counts[index])) for index in frequent[:30]),
        held_out=held_out is not None,
    )
