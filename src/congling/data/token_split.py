"""The files of one split: written document by document, opened as memory maps.

::

    train.bin                                     ids of all documents, each followed by one end-of-text id
    train.ends.npy                                int64, where each document ends (cumulative tokens)
    train.characters.npy  train.bytes.npy         int64, size of each document's text
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np

from congling.core import files
from congling.core.errors import UserError
from congling.core.progress import stage
from congling.data.document import Document
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.split import safe_chunks

BATCH_CHARACTERS = 2**20  # text held at a time, a longer document excepted
CHUNK_CHARACTERS = (
    2**12
)  # documents are encoded in chunks cut where no token spans: twice as fast, and bounded
CHUNKS_AT_ONCE = 2**10  # enough work for every core; ids as Python integers are large


@dataclass(frozen=True)
class TokenSplit:
    """The tokens of one split and where its documents lie."""

    tokens: np.ndarray
    """(tokens,) ids, one document after another, each followed by ``eos_id``; a read-only memory map."""
    ends: np.ndarray
    """int64 (documents,): the end of each document, its end-of-text id included."""
    characters: np.ndarray
    """int64 (documents,): characters of each document's text."""
    bytes: np.ndarray
    """int64 (documents,): UTF-8 bytes of each document's text."""
    eos_id: int
    vocab_size: int

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(self.ends)

    def document(self, index: int) -> np.ndarray:
        """Ids of one document, its end-of-text id included."""
        start = int(self.ends[index - 1]) if index else 0
        return self.tokens[start : int(self.ends[index])]


def dtype_for(vocab_size: int) -> str:
    """Name of the smallest token type for all ids: ``"uint16"`` up to 65,536 of them, else ``"uint32"``."""
    return "uint16" if vocab_size <= 2**16 else "uint32"


def write_split(
    documents: Iterable[Document], tokenizer: Tokenizer, folder: Path, split: str, total: int | None = None
) -> dict[str, int]:
    """Write one split's files into ``folder``; returns how many documents, tokens, characters, bytes.

    ``total`` is how many characters there are, where that is known.
    """
    lengths: list[int] = []
    characters: list[int] = []
    sizes: list[int] = []
    dtype = np.dtype(dtype_for(tokenizer.vocab_size)).newbyteorder("<")
    with (
        (folder / f"{split}.bin").open("wb") as stream,
        stage(f"tokenizing {split}", total=total) as current,
    ):
        for batch in _batches(documents):
            lengths += _write_batch(batch, tokenizer, stream, dtype)
            characters += [len(document.text) for document in batch]
            current.done += sum(characters[-len(batch) :])
            sizes += [len(document.text.encode()) for document in batch]
    ends = np.fromiter(accumulate(lengths), np.int64, len(lengths))
    for name, values in (("ends", ends), ("characters", characters), ("bytes", sizes)):
        np.save(folder / f"{split}.{name}.npy", np.asarray(values, np.int64), allow_pickle=False)
    totals = {"tokens": sum(lengths), "characters": sum(characters), "bytes": sum(sizes)}
    return {"documents": len(lengths)} | totals


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Group documents until they hold about ``BATCH_CHARACTERS``."""
    batch: list[Document] = []
    held = 0
    for document in documents:
        batch.append(document)
        held += len(document.text) + 1  # one more, so that a flood of empty documents is bounded as well
        if held >= BATCH_CHARACTERS:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _write_batch(batch: list[Document], tokenizer: Tokenizer, stream: BinaryIO, dtype: np.dtype) -> list[int]:
    """Encode and append some documents; returns their lengths in tokens."""
    chunks = [
        (index, chunk)
        for index, document in enumerate(batch)
        for chunk in (safe_chunks(document.text, CHUNK_CHARACTERS) if tokenizer.cuttable else [document.text])
    ]
    lengths = [1] * len(batch)
    pieces: list[list[np.ndarray]] = [[] for _ in batch]
    for start in range(0, len(chunks), CHUNKS_AT_ONCE):
        part = chunks[start : start + CHUNKS_AT_ONCE]
        for (index, _), ids in zip(part, tokenizer.encode_batch([text for _, text in part]), strict=True):
            pieces[index].append(np.asarray(ids, dtype))
            lengths[index] += len(ids)
    eos = np.array([tokenizer.eos_id], dtype)
    stream.write(np.concatenate([array for document in pieces for array in (*document, eos)]).tobytes())
    return lengths


def open_split(folder: Path, name: str, dtype: np.dtype, eos_id: int, vocab_size: int) -> TokenSplit:
    """Open the files of a split; their sizes and every id's range are checked.

    Raises:
        UserError: a file is missing or damaged.
    """
    ends, characters, sizes = (
        _read_array(folder / f"{name}.{part}.npy") for part in ("ends", "characters", "bytes")
    )
    lengths = np.diff(ends, prepend=0)
    if len({len(ends), len(characters), len(sizes)}) != 1 or (lengths < 1).any():
        raise UserError("the document index is damaged", where=folder / f"{name}.ends.npy")
    file = folder / f"{name}.bin"
    total = int(ends[-1]) if len(ends) else 0
    size = file.stat().st_size if file.is_file() else -1
    if size != total * dtype.itemsize:
        raise UserError(
            f"the token file should have {total * dtype.itemsize} bytes",
            where=file,
            value=size,
            hint="it is cut off or damaged: tokenize again",
        )
    tokens = np.memmap(file, dtype, mode="r") if total else np.empty(0, dtype)
    for start in range(0, total, 2**22):
        largest = int(tokens[start : start + 2**22].max())
        if largest >= vocab_size:
            raise UserError(
                f"a token id is beyond the vocabulary of {vocab_size}",
                where=file,
                value=largest,
                hint="the file is damaged: tokenize again",
            )
    if total and (tokens[ends - 1] != eos_id).any():
        raise UserError(
            "a document does not end with the end-of-text id",
            where=file,
            hint="the file is damaged: tokenize again",
        )
    return TokenSplit(tokens, ends, characters, sizes, eos_id, vocab_size)


def _read_array(file: Path) -> np.ndarray:
    try:
        files.opened(file).close()
        values = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError("cannot read this part of the shards", where=file, value=str(error)) from None
    if values.dtype != np.int64 or values.ndim != 1:
        raise UserError(
            "this part of the shards has a wrong type", where=file, value=f"{values.dtype}, {values.ndim}-d"
        )
    return np.asarray(values)


def beginnings(split: TokenSplit, tokenizer: Tokenizer, *, documents: int, tokens: int) -> tuple[str, ...]:
    """How the first ``documents`` begin: the text of ``tokens`` ids of each, or all of a shorter one."""
    starts = (split.document(index)[:tokens].tolist() for index in range(min(documents, split.documents)))
    return tuple(tokenizer.decode(ids, skip_special=True) for ids in starts)
