"""From sources to a finished documents directory, in passes that each stream::

sources ─read→ ─clean→ ─drop equal→ spool ─hold out→ validation.jsonl.zst
                                      └──── drop near copies of validation → train.jsonl.zst
whatever is dropped → dropped.jsonl.zst, each with its reason;  all counts → summary.json
    every problem met while reading → problems.jsonl
"""

import dataclasses
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from congling.core.artifact import Artifact, opened, write_text, writing
from congling.core.errors import UserError
from congling.core.progress import track
from congling.data import script, statistics
from congling.data.clean import clean
from congling.data.config import SMALL_WORLD, DataConfig
from congling.data.dedup import Overlap, content_hash
from congling.data.document import Document, DocumentWriter, read_documents
from congling.data.findings import Findings, Problem
from congling.data.segment import cut
from congling.data.smallworld.config import SmallWorldConfig
from congling.data.sources.reading import read
from congling.data.split import cut_last_part, hold_out

KIND = "documents"
Split = Literal["train", "validation"]
SUMMARY = "summary.json"
PROBLEMS = "problems.jsonl"
MOST_PROBLEMS = 100_000  # lines of problems.jsonl; the summary counts the rest
_SPOOL = "all.jsonl.zst"


def make(config: DataConfig, out: Path | str, *, overwrite: bool = False) -> Artifact:
    """Read, clean, deduplicate and split a corpus; write it as a directory of kind ``documents``.

    Memory stays bounded: by the largest document, one hash a document, and the validation text.

    Raises:
        UserError: a source cannot be read, or holds no text; or ``out`` exists and is not to be replaced.
    """
    facts: dict[str, Any] = {}
    with writing(out, KIND, facts=facts, overwrite=overwrite) as folder:
        found = build(config, folder)
        facts["config"] = config.model_dump(mode="json")
        facts["documents"] = {name: split["documents"] for name, split in found["splits"].items()}
    return opened(out, KIND)


def build(config: DataConfig, folder: Path, *, at_most: int | None = None) -> dict[str, Any]:
    """Fill an empty folder with the files of a documents directory; returns the summary.

    With ``at_most``, reading stops after that many characters (for a look at a large corpus).

    Raises:
        UserError: a source cannot be read, or holds no text.
    """
    with (
        Dropped(folder / "dropped.jsonl.zst") as dropped,
        (folder / PROBLEMS).open("w", encoding="utf-8") as log,
    ):
        findings = Findings(sink=_logged(log))
        intake = _take_in(config, findings, dropped, folder, at_most)
        train, validation = _divide(config, findings, intake, dropped, folder)
    (folder / _SPOOL).unlink()
    if not findings.counts:
        (folder / PROBLEMS).unlink()
    result = _summary(config, findings, dropped, train, validation, folder)
    write_text(folder / SUMMARY, json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    return result


def documents(path: Path | str, split: Split) -> Iterator[Document]:
    """Yield the documents of one split of a finished directory.

    Raises:
        UserError: the directory is missing, unfinished or damaged.
    """
    artifact = opened(path, KIND)
    return read_documents(artifact.path / f"{split}.jsonl.zst")


def summary(path: Path | str) -> dict[str, Any]:
    """Read ``summary.json`` of a finished directory.

    Raises:
        UserError: the directory is missing, unfinished or damaged.
    """
    file = opened(path, KIND).path / SUMMARY
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"the summary cannot be read ({type(error).__name__})", where=file) from None


def _logged(log: IO[str]) -> Callable[[Problem], None]:
    numbers = iter(range(MOST_PROBLEMS))

    def write(problem: Problem) -> None:
        if next(numbers, None) is not None:
            log.write(json.dumps(asdict(problem), ensure_ascii=False) + "\n")

    return write


class Dropped(DocumentWriter):
    """The file of documents that were left out, counted by reason."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reasons: Counter[str] = Counter()

    def drop(self, document: Document, reason: str, **details: Any) -> None:
        """Write one document with the reason it was left out for."""
        self.reasons[reason] += 1
        self.write(document, reason=reason, **details)


@dataclass(slots=True)
class _Intake:
    """What is remembered of the documents in the spool: a hash and a length each."""

    hashes: "array[int]" = field(default_factory=lambda: array("Q"))
    lengths: "array[int]" = field(default_factory=lambda: array("L"))


def prepared(
    config: DataConfig, findings: Findings, drop: Callable[[Document, str], None]
) -> Iterator[tuple[Document, int]]:
    """Read, clean and deduplicate the sources; yield each kept document with its content hash.

    ``drop`` is told every document that is left out, with the reason.

    Raises:
        UserError: a source cannot be read.
    """
    seen: set[int] = set()
    for raw in read(config.sources, config, findings):
        text, removed = clean(raw.text, config)
        if removed:
            findings.problem(
                "invisible characters",
                raw.id,
                None,
                f"{removed} control, zero-width or invalid characters removed",
            )
        for number, piece in enumerate(cut(text, config.longest)):
            name = f"{raw.id}/{number}" if number else raw.id
            document = Document(piece.strip("\n"), name, raw.meta)
            if not document.text.strip() or len(document.text) < config.smallest:
                drop(
                    document,
                    "empty" if not document.text.strip() else f"shorter than {config.smallest} characters",
                )
                continue
            key = content_hash(document.text)
            if config.deduplicate and key in seen:
                drop(document, "equal to an earlier document")
                continue
            seen.add(key)
            yield document, key
        if len(text) > config.longest:
            findings.problem(
                "long document", raw.id, None, f"{len(text)} characters; cut at {config.longest}"
            )


def _take_in(
    config: DataConfig, findings: Findings, dropped: Dropped, folder: Path, at_most: int | None
) -> _Intake:
    intake, characters = _Intake(), 0
    with DocumentWriter(folder / _SPOOL) as spool:
        for document, key in prepared(config, findings, dropped.drop):
            spool.write(document)
            intake.hashes.append(key)
            intake.lengths.append(len(document.text))
            characters += len(document.text)
            if at_most and characters >= at_most:
                findings.notes.append(f"only the first {characters:,} characters were looked at")
                break
    if not intake.hashes:
        first = findings.examples[0] if findings.examples else None
        found = f"; first problem: {first.file}: {first.reason}" if first else ""
        hint = "run `congling data inspect` on them to see how each was read"
        raise UserError(f"the sources hold no text{found}", where=", ".join(config.sources), hint=hint)
    return intake


class _SplitWriter(DocumentWriter):
    """One split's file, and the counts of what went into it."""

    def __init__(self, path: Path, *, pairs: bool) -> None:
        super().__init__(path)
        self.counts = statistics.CharacterCounts(pairs=pairs)
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


def _divide(
    config: DataConfig, findings: Findings, intake: _Intake, dropped: Dropped, folder: Path
) -> tuple[_SplitWriter, _SplitWriter]:
    """Write both splits from the spool; near copies of validation documents are dropped from training."""
    held = hold_out(intake.hashes, intake.lengths, config.split)
    if held.note:
        findings.notes.append(held.note)
    overlap = Overlap(config.overlap)
    spool = folder / _SPOOL
    train = _SplitWriter(folder / "train.jsonl.zst", pairs=True)
    validation = _SplitWriter(folder / "validation.jsonl.zst", pairs=False)
    with train, validation:
        if len(intake.hashes) == 1:
            _divide_one(next(read_documents(spool)), config, findings, train, validation)
            return train, validation
        for document, flag in zip(read_documents(spool), held.flags, strict=True):
            if flag:
                validation.take(document)
                if _compared(document, config):
                    overlap.add(document.text, document.id)
        overlap.ready()
        rest = (
            document for document, flag in zip(read_documents(spool), held.flags, strict=True) if not flag
        )
        for document in track(rest, "splitting", total=int((~held.flags).sum())):
            found = overlap.near_copy(document.text) if _compared(document, config) else None
            if found:
                dropped.drop(
                    document, "near copy of a validation document", of=found[0], share=round(found[1], 3)
                )
            else:
                train.take(document)
    if not train.count:
        hint = "the documents are nearly alike; deduplicate=false keeps them all"
        raise UserError(
            "every training document is a near copy of a validation document",
            value=list(config.sources),
            hint=hint,
        )
    return train, validation


def _compared(document: Document, config: DataConfig) -> bool:
    """Whether near copies matter: documents of the generator share its phrases by design."""
    return config.deduplicate and "bits" not in document.meta


def _divide_one(
    document: Document, config: DataConfig, findings: Findings, train: _SplitWriter, validation: _SplitWriter
) -> None:
    head, tail = cut_last_part(document.text, config.split)
    train.take(dataclasses.replace(document, text=head))
    if tail:
        validation.take(dataclasses.replace(document, text=tail, id=f"{document.id}/end"))
        findings.notes.append(
            f"a single document: its last {len(tail)} of {len(document.text)} characters are held out"
        )
    else:
        findings.notes.append("the only document is too short to be divided: nothing is held out")


def _summary(
    config: DataConfig,
    findings: Findings,
    dropped: Dropped,
    train: _SplitWriter,
    validation: _SplitWriter,
    folder: Path,
) -> dict[str, Any]:
    """Everything ``summary.json`` says."""
    texts = (document.text for document in read_documents(folder / "validation.jsonl.zst"))
    lines = statistics.reference_lines(train.counts, texts)
    result = {
        "sources": list(config.sources),
        "splits": {"train": train.as_json(), "validation": validation.as_json()},
        "dropped": dict(dropped.reasons),
        "reference_lines": lines.as_json() if lines else None,
        **findings.as_json(),
    }
    if config.sources == (SMALL_WORLD,):
        from congling.data.smallworld import entropy_floor

        result["entropy_floor"] = asdict(
            entropy_floor(config.smallworld or SmallWorldConfig.model_validate({}))
        )
    return result
