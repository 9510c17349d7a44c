"""What the tokenizers run by the ``tokenizers`` library share: ids, bytes, and how a file's JSON is read."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import tokenizers

from congling.core import files
from congling.core.errors import UserError
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.characters import is_whole

FILE = "tokenizer.json"
LARGEST = 40 * 2**20
"""Bytes of a file; vocabularies of 256 thousand pieces take some 33 million."""
LONGEST_TOKEN = 2**16
"""Characters of a token; the longest of public vocabularies are runs of a few hundred signs."""
_MOST_PARTS = 2**20
"""Lists and objects in a file: one for each merge. Empty ones take twenty times their length when parsed."""


class LibraryTokenizer(Tokenizer):
    """A tokenizer around the library's; subclasses say which bytes its ids stand for."""

    _inner: tokenizers.Tokenizer
    _pieces: list[bytes]
    """Bytes by id."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        """Ids of a text; special tokens are neither added nor recognised."""
        return ids_of(self._inner, text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several texts, on all cores."""
        try:
            found = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)
        except BaseException as error:
            raise _told(error) from None
        return [one.ids for one in found]

    def piece(self, index: int) -> bytes:
        """UTF-8 bytes of an ordinary id; none for one that only fills the vocabulary up."""
        if index < 0:
            raise IndexError(index)
        return self._pieces[index]

    def is_byte(self, index: int) -> bool:
        """Whether the id stands for a part of a character."""
        return not is_whole(self.piece(index))


def ids_of(inner: tokenizers.Tokenizer, text: str) -> list[int]:
    """Ids of a text by the library; special tokens are neither added nor recognised.

    Raises:
        UserError: a pattern of the tokenizer gives up on this text.
    """
    try:
        return inner.encode(text, add_special_tokens=False).ids
    except BaseException as error:
        raise _told(error) from None


def _told(error: BaseException) -> BaseException:
    """A panic of the library, which is no ``Exception``, as an error of ours; others as they are."""
    if type(error).__name__ != "PanicException":
        return error
    hint = "one of its patterns takes too many steps: use another tokenizer"
    return UserError("the tokenizer fails on this text", value=str(error), hint=hint)


@contextlib.contextmanager
def panics_as_errors() -> Iterator[None]:
    """Around calls of the library: its panics, which are no ``Exception``, become ValueError."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise ValueError(str(error)) from None


def read_text(file: Path) -> str:
    """The text of a JSON file.

    Raises:
        UserError: it is missing, larger than any vocabulary or no text.
    """
    try:
        if (size := file.stat().st_size) > LARGEST:
            raise UserError("this file is too large for a tokenizer", where=file, value=size)
        text = files.text(file, LARGEST)
    except OSError as error:
        raise UserError("cannot read the tokenizer", where=file, value=error.strerror) from None
    except UnicodeDecodeError:
        raise UserError("this is no UTF-8 text", where=file) from None
    if (parts := text.count("[") + text.count("{")) > _MOST_PARTS:
        raise UserError("more lists and objects than any tokenizer has", where=file, value=parts)
    return text
