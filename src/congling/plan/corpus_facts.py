"""What a plan starts from: facts about the corpus and about the machine, as plain numbers."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from congling.core import machine
from congling.data.corpus import LINES
from congling.data.document import Document
from congling.data.shards import Shards
from congling.plan.text_lengths import UNKNOWN, TextLengths
from congling.tokenizer.advice import advise_vocab, often
from congling.train.measurement import Probe

CPU_PEAK_PER_CORE = 8e10
"""fp32 matmul FLOP/s of one core when nothing was measured: a cautious figure for processors with AVX2."""


@dataclass(frozen=True)
class CorpusFacts:
    """Size and shape of a tokenized corpus."""

    characters: int
    """Characters of the training part."""
    tokens: int
    """Tokens of the training part, ends of documents included."""
    documents: int
    """Documents of the training part."""
    median_tokens: int
    """Tokens of the median document."""
    vocab_size: int
    validation_tokens: int
    validation_documents: int
    stored_bytes: int = 0
    """Size of the token files on disk."""
    reference_lines: Mapping[str, float] = field(default_factory=dict)
    """Bits per character of the validation text by name: uniform, unigram, bigram, and the source's floor
    if known."""
    test_tokens: int = 0
    test_documents: int = 0
    test_reference_lines: Mapping[str, float] = field(default_factory=dict)
    """The same of the test text."""
    estimated: bool = False
    """True when tokens were guessed from characters because there are no shards yet."""
    lengths: TextLengths = UNKNOWN
    """Of the training part's documents."""

    @property
    def characters_per_token(self) -> float:
        """Training characters behind one token."""
        return self.characters / max(1, self.tokens)


@dataclass(frozen=True)
class MachineFacts:
    """What the run may use."""

    cores: int
    memory: int
    """Bytes: of main memory, or of the accelerator's when there is one."""
    free_disk: int
    """Bytes free where the run is written."""
    peak: float
    """Matmul FLOP/s in ``precision``."""
    accelerator: str | None = None
    """Name of the GPU; ``None`` on a CPU."""
    measured: bool = False
    """Whether ``peak`` was measured or is the cautious default."""
    precision: str = "fp32"
    """``fp32`` or ``bf16``: what is faster here."""


def this_machine(out: Path | str = ".", found: Probe | None = None) -> MachineFacts:
    """Facts about this machine: those the system tells, and ``found`` where something was measured."""
    cores = machine.cores()
    if found is None:
        return MachineFacts(
            cores, machine.memory_bytes(), machine.free_disk_bytes(out), cores * CPU_PEAK_PER_CORE
        )
    return MachineFacts(
        cores=cores,
        memory=found.accelerator_memory or machine.memory_bytes(),
        free_disk=machine.free_disk_bytes(out),
        peak=found.matmul_peak,
        precision=found.precision,
        accelerator=found.accelerator,
        measured=True,
    )


def to_json(facts: CorpusFacts | MachineFacts) -> dict[str, Any]:
    """Return the plain fields, but for the lengths of all documents."""
    return {name: value for name, value in asdict(facts).items() if name != "lengths"}


def reference_lines(summary: Mapping[str, Any], split: str = "validation") -> dict[str, float]:
    """Reference lines of a split in bits per character, from the summary of a documents or shards directory.

    Those of training text, which nobody measures, are none at all.
    """
    key = next((LINES[one] for one in LINES if one == split), None)
    if key is None:
        return {}
    lines, floor = summary.get(key) or {}, summary.get("entropy_floor") or {}
    found = {name: float(lines[name]) for name in ("uniform", "unigram", "bigram") if name in lines}
    return found | ({"floor": float(floor["bits_per_character"])} if "bits_per_character" in floor else {})


def facts_of_shards(shards: Shards) -> CorpusFacts:
    """Corpus facts of a shards directory."""
    train, validation, test = shards["train"], shards["validation"], shards.splits.get("test")
    lengths = np.diff(train.ends, prepend=0)
    return CorpusFacts(
        characters=int(train.characters.sum()),
        tokens=len(train.tokens),
        documents=train.documents,
        median_tokens=int(np.median(lengths)) if len(lengths) else 0,
        vocab_size=shards.vocab_size,
        validation_tokens=len(validation.tokens),
        validation_documents=validation.documents,
        stored_bytes=sum(split.tokens.nbytes for split in shards.splits.values()),
        reference_lines=reference_lines(shards.summary),
        test_tokens=0 if test is None else len(test.tokens),
        test_documents=0 if test is None else test.documents,
        test_reference_lines=reference_lines(shards.summary, "test"),
        lengths=TextLengths.of(lengths),
    )


def facts_of_text(
    documents: Iterable[Document],
    *,
    kind: str = "bpe",
    vocab_size: int | None = None,
    validation: float = 0.1,
    test: float = 0,
) -> CorpusFacts:
    """Corpus facts guessed from text that is not tokenized yet.

    ``kind`` and ``vocab_size`` are the tokenizer's, ``validation`` and ``test`` the shares (or numbers) of
    documents held out.
    """
    lengths: list[int] = []
    counts: Counter[str] = Counter()
    for document in documents:
        lengths.append(len(document.text))
        counts.update(document.text)
    total = sum(lengths)
    frequent = sum(count >= often(total) for count in counts.values())
    vocab = vocab_size or advise_vocab(total, len(counts), frequent, kind=kind).vocab_size
    wide = sum(count for character, count in counts.items() if character >= "\u2e80")
    per_token = 1.0 if kind == "character" else 1.3 if wide > total / 2 else 3.0
    tested = _held_out_share(test, len(lengths), len(lengths)) if test and len(lengths) != 2 else 0.0
    of_test = round(tested * len(lengths))
    share = _held_out_share(validation, len(lengths), len(lengths) - of_test)
    held_out = round(share * len(lengths))
    tokens = round(total / per_token) + len(lengths)
    return CorpusFacts(
        characters=round(total * (1 - share - tested)),
        tokens=max(1, round(tokens * (1 - share - tested))),
        documents=len(lengths) - held_out - of_test,
        median_tokens=round(statistics.median(lengths) / per_token) + 1 if lengths else 0,
        vocab_size=vocab,
        validation_tokens=round(tokens * share),
        validation_documents=held_out,
        test_tokens=round(tokens * tested),
        test_documents=of_test,
        estimated=True,
        lengths=TextLengths.of(round(length / per_token) + 1 for length in lengths),
    )


def _held_out_share(asked: float, documents: int, left: int) -> float:
    """Share that will be held out, as :mod:`congling.data.split` does it: whole documents, at most half of
    those that are ``left``."""
    if documents < 2:
        return min(0.5, asked) if asked < 1 else 0.1
    wanted = max(1, round(asked * documents)) if asked < 1 else int(asked)
    return min(wanted, left // 2) / documents
