"""From sources to a finished documents directory, in passes that each stream::

sources ─read→ ─clean→ ─drop equal→ spool ─hold out, drop near copies→ a file for each split
whatever is dropped → dropped.jsonl.zst, each with its reason;  all counts → summary.json
    every problem met while reading → problems.jsonl
"""

import json
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from congling.core import files
from congling.core.artifact import Artifact, opened, write_text, writing
from congling.core.errors import UserError
from congling.core.progress import stage
from congling.data import statistics
from congling.data.clean import clean
from congling.data.config import SMALL_WORLD, DataConfig
from congling.data.dedup import content_hash
from congling.data.document import Document, DocumentWriter, read_documents
from congling.data.problems import Problem, ReadingLog
from congling.data.segmenter import cut
from congling.data.smallworld.config import SmallWorldConfig
from congling.data.sources.contents import contents
from congling.data.sources.reading import read
from congling.data.split_files import SPLITS, Dropped, Split, SplitWriter, divide, file_of, scored_split

KIND = "documents"
LINES: dict[Split, str] = {"validation": "reference_lines", "test": "test_reference_lines"}
"""Keys of the summary: what simple models of the training text need for each held-out split."""
SUMMARY = "summary.json"
PROBLEMS = "problems.jsonl"
MOST_PROBLEMS = 100_000  # lines of problems.jsonl; the summary counts the rest
_SPOOL = "all.jsonl.zst"


def make(config: DataConfig, out: Path | str, *, overwrite: bool = False) -> Artifact:
    """Read, clean, deduplicate and split a corpus; write it as a directory of kind ``documents``.

    Memory stays bounded: by the largest document, one hash a document, and the held-out text.

    Raises:
        UserError: a source cannot be read, or holds no text; or ``out`` exists and is not to be replaced.
    """
    facts: dict[str, Any] = {}
    with writing(out, KIND, facts=facts, overwrite=overwrite) as folder:
        found = build(config, folder)
        facts["config"] = config.model_dump(mode="json")
        facts["contents"] = contents(config.sources)
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
        (folder / PROBLEMS).open("w", encoding="utf-8", errors="backslashreplace") as log,
    ):
        findings = ReadingLog(sink=_logged(log))
        intake = _take_in(config, findings, dropped, folder, at_most)
        spool = folder / _SPOOL
        splits = divide(spool, intake.hashes, intake.lengths, config, findings, dropped)
    (folder / _SPOOL).unlink()
    if not findings.counts:
        (folder / PROBLEMS).unlink()
    result = _summary(config, findings, dropped, splits, folder)
    write_text(folder / SUMMARY, json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    return result


def documents(path: Path | str, split: Split) -> Iterator[Document]:
    """Yield the documents of one split of a finished directory, whose file is checked before the first.

    Whoever reads only some of them has none of a damaged file either.

    Raises:
        UserError: the directory is missing, unfinished or damaged, or has no such split.
    """
    artifact = opened(path, KIND)
    if split not in splits_of(artifact):
        hint = "make the documents again with data.split.test"
        raise UserError(f"these documents have no {split} split", where=path, hint=hint)
    return read_documents(artifact.checked(file_of(split)))


def splits_of(artifact: Artifact) -> tuple[Split, ...]:
    """The splits that a documents directory holds; the test split is there only where it was asked for."""
    return tuple(split for split in SPLITS if split != "test" or file_of(split) in artifact.files)


def held_out(path: Path | str) -> Split:
    """The split of a finished directory that final scores are measured on, see :func:`scored_split`.

    Raises:
        UserError: the directory is missing, unfinished or damaged.
    """
    artifact = opened(path, KIND)
    counts = {split: next(documents(path, split), None) is not None for split in splits_of(artifact)}
    return scored_split(counts)


def summary(path: Path | str) -> dict[str, Any]:
    """Read ``summary.json`` of a finished directory.

    Raises:
        UserError: the directory is missing, unfinished or damaged.
    """
    file = opened(path, KIND).checked(SUMMARY)
    try:
        return json.loads(files.text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"the summary cannot be read ({type(error).__name__})", where=file) from None


def _logged(log: IO[str]) -> Callable[[Problem], None]:
    numbers = iter(range(MOST_PROBLEMS))

    def write(problem: Problem) -> None:
        if next(numbers, None) is not None:
            log.write(json.dumps(asdict(problem), ensure_ascii=False) + "\n")

    return write


@dataclass(slots=True)
class _Intake:
    """What is remembered of the documents in the spool: a hash and a length each."""

    hashes: "array[int]" = field(default_factory=lambda: array("Q"))
    lengths: "array[int]" = field(default_factory=lambda: array("L"))


def prepared(
    config: DataConfig, findings: ReadingLog, drop: Callable[[Document, str], None]
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
    config: DataConfig, findings: ReadingLog, dropped: Dropped, folder: Path, at_most: int | None
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
        found = f"; first problem: {first.place}: {first.reason}" if first else ""
        hint = f"found: {findings.most()}" if first else "give files that hold some"
        raise UserError(f"the sources hold no text{found}", where=", ".join(config.sources), hint=hint)
    return intake


@stage("computing reference lines")
def _summary(
    config: DataConfig,
    findings: ReadingLog,
    dropped: Dropped,
    splits: Mapping[Split, SplitWriter],
    folder: Path,
) -> dict[str, Any]:
    """Everything ``summary.json`` says."""
    result = {
        "sources": list(config.sources),
        "splits": {split: splits[split].as_json() for split in SPLITS if split in splits},
        "dropped": dict(dropped.reasons),
        **{key: _lines(splits["train"], folder, split) for split, key in LINES.items() if split in splits},
        **findings.as_json(),
    }
    if config.sources == (SMALL_WORLD,):
        from congling.data.smallworld import entropy_floor

        result["entropy_floor"] = asdict(
            entropy_floor(config.smallworld or SmallWorldConfig.model_validate({}))
        )
    return result


def _lines(train: SplitWriter, folder: Path, split: Split) -> dict[str, Any] | None:
    """Reference lines of one held-out split; ``None`` where it is empty."""
    texts = (document.text for document in read_documents(folder / file_of(split)))
    found = statistics.reference_lines(train.counts, texts)
    return found.as_json() if found else None
