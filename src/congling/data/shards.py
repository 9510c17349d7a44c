"""Documents as token files: written once, opened as memory maps, shared by every run.

::

    shards/
    ├── train.bin  validation.bin                    token ids, headerless, little-endian uint16 or uint32
    ├── train.ends.npy  validation.ends.npy          int64, where each document ends (cumulative tokens)
    ├── train.characters.npy  train.bytes.npy …      int64, size of each document's text
    ├── shards.json                                  vocabulary size, token type, tokenizer, counts …
    └── MANIFEST.json

The files of a third split, ``test``, are there where the documents have one.

Every document is its ids followed by one end-of-text id. Counts of characters and bytes are those of the
text alone, so bits per character compare across tokenizers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from congling.core import artifact, files
from congling.core.artifact import Artifact
from congling.core.errors import UserError
from congling.core.text import write_text
from congling.data import corpus
from congling.data.corpus import documents as read
from congling.data.split_files import SPLITS, scored_split
from congling.data.token_split import TokenSplit, dtype_for, open_split, write_split
from congling.tokenizer import store
from congling.tokenizer.base import Tokenizer


@dataclass(frozen=True)
class Shards:
    """A finished shards directory, opened."""

    artifact: Artifact
    splits: dict[str, TokenSplit]
    """The splits that there are: train, validation and, where the documents have one, test."""
    vocab_size: int
    tokenizer_fingerprint: str
    summary: dict[str, Any]
    """Content of ``shards.json``: counts per split, and what the documents' summary says of their entropy."""

    def __getitem__(self, split: str) -> TokenSplit:
        return self.splits[split]

    @property
    def scored(self) -> str:
        """The split that final scores are measured on: test where there is one, else validation."""
        return scored_split({name: split.documents for name, split in self.splits.items()})


def write(
    documents: Path | str, tokenizer: Path | str, out: Path | str, *, overwrite: bool = False
) -> Artifact:
    """Encode a documents directory with a tokenizer directory into a shards directory.

    Memory stays bounded whatever the corpus: about one million characters are encoded at a time, on all
    cores.

    Raises:
        UserError: an input directory is missing or damaged, or a split holds no documents at all.
    """
    parents = {
        "documents": artifact.opened(documents, "documents"),
        "tokenizer": artifact.opened(tokenizer, "tokenizer"),
    }
    encoder = store.load(tokenizer)
    summary = _read_json(parents["documents"].checked(corpus.SUMMARY))
    facts: dict[str, Any] = {}
    with artifact.writing(out, "shards", parents=parents, facts=facts, overwrite=overwrite) as folder:
        counts = {
            split: write_split(read(documents, split), encoder, folder, split, _characters(summary, split))
            for split in corpus.splits_of(parents["documents"])
        }
        if not counts["train"]["tokens"]:
            raise UserError("the documents hold no training text", where=documents)
        content = {
            "vocab_size": encoder.vocab_size,
            "eos_id": encoder.eos_id,
            "dtype": dtype_for(encoder.vocab_size),
            "tokenizer": parents["tokenizer"].fingerprint,
            "splits": counts,
        } | {
            key: summary[key]
            for key in (*corpus.LINES.values(), "entropy_floor")
            if summary.get(key) is not None
        }
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        write_text(folder / "shards.json", text)
        facts.update(vocab_size=encoder.vocab_size, train_tokens=counts["train"]["tokens"])
    return artifact.opened(out, "shards")


def _characters(summary: Mapping[str, Any], split: str) -> int | None:
    """Characters of a split by the documents' summary, which an edited one need not tell."""
    try:
        return int(summary["splits"][split]["characters"])
    except (KeyError, TypeError, ValueError):
        return None


def open_shards(path: Path | str, *, tokenizer: Tokenizer | None = None, verify: bool = False) -> Shards:
    """Open a shards directory; sizes and every id's range are checked, with ``verify`` the checksums too.

    Whoever computes with the tokens wants them verified: a flipped id is an id.

    Raises:
        UserError: the directory is missing or damaged, or was made with a tokenizer other than ``tokenizer``.
    """
    found = artifact.opened(path, "shards", verify=verify)
    summary = _read_json(found.path / "shards.json")
    try:
        vocab_size, eos_id, dtype = int(summary["vocab_size"]), int(summary["eos_id"]), str(summary["dtype"])
        fingerprint = str(summary["tokenizer"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(
            "the description of the shards is damaged", where=found.path / "shards.json"
        ) from None
    if dtype not in ("uint16", "uint32"):
        raise UserError("unknown token type", where=found.path / "shards.json", value=dtype)
    if tokenizer is not None and tokenizer.fingerprint != fingerprint:
        hint = "tokenize the documents again with this tokenizer, or use the one they were made with"
        raise UserError(
            "these shards were made with another tokenizer", where=path, value=fingerprint[:12], hint=hint
        )
    splits = {
        name: open_split(found.path, name, np.dtype(dtype).newbyteorder("<"), eos_id, vocab_size)
        for name in SPLITS
        if name != "test" or "test.bin" in found.files
    }
    return Shards(found, splits, vocab_size, fingerprint, summary)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(files.text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read this description ({type(error).__name__})", where=file) from None
    if not isinstance(content, dict):
        raise UserError("this description is no table", where=file)
    return content
