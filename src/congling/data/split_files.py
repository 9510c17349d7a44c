"""The files of the splits of a corpus: from the spool, held-out ones first, near copies left out.

::

    spool ─ test ──────────────────────────── test.jsonl.zst, where it is asked for
          ├ drop near copies of those before ─ validation.jsonl.zst
          └ drop near copies of those before ─ train.jsonl.zst
"""

import dataclasses
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from congling.core.errors import UserError
from congling.core.progress import track
from congling.data import script, statistics
from congling.data.config import DataConfig
from congling.data.dedup import Overlap
from congling.data.document import Document, DocumentWriter, read_documents
from congling.data.problems import ReadingLog
from congling.data.split import cut_last_part, hold_out

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
"""All that a documents directory may hold; the last one only where it was asked for."""


def file_of(split: Split) -> str:
    """Name of the file of one split."""
    return f"{split}.jsonl.zst"


def scored_split(counts: Mapping[str, int]) -> Split:
    """The split that a final score is measured on: test where it holds anything, else validation."""
    return "test" if counts.get("test") else "validation"


class Dropped(DocumentWriter):
    """The file of documents that were left out, counted by reason."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reasons: Counter[str] = Counter()

    def drop(self, document: Document, reason: str, **details: Any) -> None:
        """Write one document with the reason it was left out for."""
        self.reasons[reason] += 1
        self.write(document, reason=reason, **details)


class SplitWriter(DocumentWriter):
    """One split's file, and the counts of what went into it."""

    def __init__(self, folder: Path, split: Split) -> None:
        super().__init__(folder / file_of(split))
        self.counts = statistics.CharacterCounts(pairs=split == "train")
        self.lengths = array("L")

    def take(self, document: Document) -> None:
        """Write and count one document."""
        self.write(document)
        self.counts.add(document.text)
        self.lengths.append(len(document.text))

    def as_json(self) -> dict[str, Any]:
        """Counts of documents, characters and bytes, lengths, and the script."""
        self.counts.settle()
        lengths = np.asarray(self.lengths)
        return {
            "documents": self.count,
            "characters": self.counts.characters,
            "bytes": self.counts.bytes,
            "distinct_characters": int((self.counts.counts[: statistics.END] > 0).sum()),
            "median_characters": int(np.median(lengths)) if self.count else 0,
            "longest_characters": int(lengths.max()) if self.count else 0,
            "script": script.describe(self.counts.counts),
        }


def divide(
    spool: Path,
    hashes: Sequence[int],
    lengths: Sequence[int],
    config: DataConfig,
    findings: ReadingLog,
    dropped: Dropped,
) -> dict[Split, SplitWriter]:
    """Write all splits beside the spool; near copies of what is held out are dropped from what comes later.

    Args:
        spool: a file of all documents.
        hashes: of their texts, in its order.
        lengths: their characters.
        config: what to hold out.
        findings: is told what could not be done as wished.
        dropped: takes the near copies.

    Raises:
        UserError: all documents of a split are near copies of documents held out before.
    """
    held, folder = hold_out(hashes, lengths, config.split), spool.parent
    if held.note:
        findings.notes.append(held.note)
    flags: dict[Split, NDArray[np.bool_]] = {"test": held.test} if config.split.test else {}
    flags |= {"validation": held.flags, "train": ~(held.flags | held.test)}
    if len(hashes) == 1:
        return _divide_one(next(read_documents(spool)), config, findings, folder, tuple(flags))
    splits: dict[Split, SplitWriter] = {}
    before: dict[Split, Overlap] = {}
    names = {"train": "training"}
    for split, chosen in flags.items():
        every = zip(read_documents(spool), chosen, strict=True)
        mine = (document for document, flag in every if flag)
        own = Overlap(config.overlap)
        with SplitWriter(folder, split) as splits[split]:
            for document in track(mine, f"splitting, {split}", total=int(chosen.sum())):
                compared = _compared(document, config)
                if compared and _dropped_as_copy(document, before, dropped):
                    continue
                splits[split].take(document)
                if compared and split != "train":
                    own.add(document.text, document.id)
        own.ready()
        before[split] = own
        if chosen.any() and not splits[split].count:
            raise UserError(
                f"every {names.get(split, split)} document is a near copy of a held-out one",
                value=list(config.sources),
                hint="the documents are nearly alike; deduplicate=false keeps them all",
            )
    return splits


def _dropped_as_copy(document: Document, before: Mapping[Split, Overlap], dropped: Dropped) -> bool:
    """Drop a near copy of a document that is held out already; whether it was one."""
    for split, overlap in before.items():
        if found := overlap.near_copy(document.text):
            dropped.drop(document, f"near copy of a {split} document", of=found[0], share=round(found[1], 3))
            return True
    return False


def _compared(document: Document, config: DataConfig) -> bool:
    """Whether near copies matter: documents of the generator share its phrases by design."""
    return config.deduplicate and "bits" not in document.meta


def _divide_one(
    document: Document, config: DataConfig, findings: ReadingLog, folder: Path, splits: Sequence[Split]
) -> dict[Split, SplitWriter]:
    """Write a lone document in parts, in the order of the text: what is learnt, validation, test."""
    parts: dict[Split, str] = {}
    head = document.text
    shares = config.split.replace(validation=config.split.test) if "test" in splits else None
    if shares is not None:
        head, parts["test"] = cut_last_part(head, shares)
    head, parts["validation"] = cut_last_part(head, config.split)
    if "test" in splits and not parts["validation"]:  # something must be there to choose by
        parts["validation"], parts["test"] = parts["test"], ""
    parts["train"] = head
    for split, text in parts.items():
        if text and split != "train":
            findings.notes.append(
                f"a single document: its last {len(text)} of {len(document.text)} characters are held out"
                if "test" not in splits
                else f"a single document: {len(text)} of its last characters are held out ({split})"
            )
    if not parts["validation"]:
        findings.notes.append("the only document is too short to be divided: nothing is held out")
    written: dict[Split, SplitWriter] = {}
    names: dict[Split, str] = {"train": "", "validation": "/end", "test": "/test"}
    for split in splits:
        with SplitWriter(folder, split) as written[split]:
            if parts[split]:
                name = document.id + names[split]
                written[split].take(dataclasses.replace(document, text=parts[split], id=name))
    return written
