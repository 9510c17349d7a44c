"""From one text file to samples: stretches of tokens that rows begin with.

Without a pattern the text is tokenised in one go and *every* token starts a sample, so that an epoch sees
each token about as often as a row is long. With a pattern each of its occurrences starts a sample, which is
tokenised by itself.
"""

# N samples

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from congling.core import files
from congling.core.errors import UserError
from congling.data import encoding
from congling.llamacpp_trainers.arguments import unescaped
from congling.llamacpp_trainers.name_hash import libstdcxx_hash

_LONGEST = 2**34  # bytes of a training text, which is held at once


class Vocabulary(Protocol):
    """What is needed of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids without BOS; special tokens are not recognised."""
        ...

    def token_bytes(self, index: int) -> bytes:
        """Text of one id."""
        ...


@dataclass(frozen=True)
class Splitting:
    """How a text is cut."""

    pattern: str = ""
    """What samples begin with; empty cuts at every token."""
    include_pattern: bool = False
    overlapping: bool = False
    """A sample goes on over the next occurrence, to about one row."""
    stride: int = 1
    """Tokens from one sample to the next where there is no pattern."""

    @classmethod
    def of(
        cls, pattern: str, *, escape: bool, include_pattern: bool, overlapping: bool, stride: int
    ) -> "Splitting":
        """From the command line's values."""
        return cls(unescaped(pattern) if escape else pattern, include_pattern, overlapping, stride)


@dataclass(frozen=True)
class Samples:
    """Tokens and the stretches in them."""

    tokens: np.ndarray
    """int32, of all samples, which may share them."""
    starts: np.ndarray
    """(N,) int64."""
    sizes: np.ndarray
    """(N,) int64."""

    def __len__(self) -> int:
        return len(self.starts)

    def sample(self, index: int, offset: int = 0) -> np.ndarray:
        """Tokens of one sample from ``offset`` on."""
        start = int(self.starts[index])
        return self.tokens[start + min(offset, int(self.sizes[index])) : start + int(self.sizes[index])]

    def fingerprint(self, name: str) -> int:
        """64 bits that change with the file's name, or the number, places or sizes of samples.

        They are those of the former programs where these were built with GNU's C++ library: its hash of the
        name, and the numbers at twice their value, all combined by exclusive or.
        """
        numbers = np.concatenate([[len(self)], self.starts, self.sizes]).astype(np.uint64)
        combined = int(np.bitwise_xor.reduce(numbers << np.uint64(1)))
        return libstdcxx_hash(name.encode(errors="surrogateescape")) ^ combined

    def findings(self, context: int) -> Iterator[str]:
        """A line for each kind of sample that does not fill a row."""
        long, short = (
            int((self.sizes > context).sum()),
            int(((self.sizes < context) & (self.sizes > 0)).sum()),
        )
        empty = int((self.sizes == 0).sum())
        if long:
            yield f"{long} samples exceed the context length {context} and are truncated"
        if short:
            yield f"{short} samples are shorter than the context length {context} and are padded"
        if empty:
            yield f"{empty} samples are empty"


def read_text(path: str) -> str:
    """The training text.

    Raises:
        UserError: there is no such file, it is empty, or it is not UTF-8.
    """
    try:
        content = files.content(path, _LONGEST)
    except OSError as error:
        raise UserError(
            f"cannot read the training text ({error.strerror})", value=path, hint="--train-data names it"
        ) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"the training text is not UTF-8 at byte {error.start}", value=path, hint=_cure(content, path)
        ) from None
    if not text:
        raise UserError("empty training data", value=path, hint="--train-data names a text file")
    return text


def _cure(content: bytes, path: str) -> str:
    """What makes UTF-8 of a file that is not."""
    codec = encoding.detect(content[: encoding.SAMPLE], where=path).codec
    if codec == "utf-8":
        return f"it is damaged there; without such places: iconv -c -f UTF-8 -t UTF-8 '{path}' > utf8.txt"
    name = codec.upper().replace("UTF-16-", "UTF-16").replace("UTF-32-", "UTF-32")  # as iconv calls them
    return f"it looks like {name}: iconv -f {name} -t UTF-8 '{path}' > utf8.txt"


def split(
    text: str, vocabulary: Vocabulary, context: int, how: Splitting, warn: Callable[[str], None]
) -> Samples:
    """Tokenise ``text`` and cut it into samples; ``warn`` is told what is unusual about them.

    Raises:
        UserError: nothing remains to train on.
    """
    if how.pattern:
        found = _at_pattern(text, vocabulary, context, how, warn)
        for line in found.findings(context):
            warn(line)
    else:
        found = _everywhere(np.array(vocabulary.encode(text), np.int32), context, how.stride)
    if not found.sizes.any():
        raise UserError("the training text gives no tokens", value=text[:40])
    return found


def _everywhere(tokens: np.ndarray, context: int, stride: int) -> Samples:
    """The first sample is what there is, up to a row; then a whole row from each further place."""
    starts = np.arange(0, max(1, len(tokens) - context), stride, dtype=np.int64)
    return Samples(tokens, starts, np.full(len(starts), min(context, len(tokens)), np.int64))


def _at_pattern(
    text: str, vocabulary: Vocabulary, context: int, how: Splitting, warn: Callable[[str], None]
) -> Samples:
    data, pattern = text.encode(), how.pattern.encode()
    hits = _occurrences(data, pattern)
    if not hits:
        warn(f"sample start pattern {how.pattern!r} not found: the whole text is one sample")
    head = 0 if how.include_pattern or not hits else len(pattern)
    begins = [hit + head for hit in hits] or [0]
    if how.overlapping and hits:
        longest = max(len(vocabulary.token_bytes(index)) for index in range(vocabulary.vocab_size))
        ends = [min(len(data), begin + context * longest) for begin in begins]
    else:
        ends = [*hits[1:], len(data)]
    parts = [
        np.array(vocabulary.encode(data[begin : _boundary(data, end)].decode(errors="replace")), np.int32)
        for begin, end in zip(begins, ends, strict=True)
    ]
    sizes = np.array([len(part) for part in parts], np.int64)
    return Samples(np.concatenate(parts), np.cumsum(sizes) - sizes, sizes)


def _occurrences(data: bytes, pattern: bytes) -> list[int]:
    """Places of ``pattern``, left to right without overlap."""
    found, place = [], data.find(pattern)
    while place >= 0:
        found.append(place)
        place = data.find(pattern, place + len(pattern))
    return found


def _boundary(data: bytes, end: int) -> int:
    """``end``, or the end of the character it falls into."""
    while end < len(data) and data[end] & 0xC0 == 0x80:
        end += 1
    return end
