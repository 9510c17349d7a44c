"""What a plan starts from: facts about the corpus and about the machine, as plain numbers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from congling.core import machine

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
    """Bits per character of the held-out text by name: uniform, unigram, bigram, and the source's floor if known."""
    estimated: bool = False
    """True when tokens were guessed from characters because there are no shards yet."""

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
    """Matmul FLOP/s in the precision of training."""
    accelerator: str | None = None
    """Name of the GPU; ``None`` on a CPU."""
    measured: bool = False
    """Whether ``peak`` was measured or is the cautious default."""


def this_machine(out: Path | str = ".", *, peak: float | None = None, accelerator: str | None = None,
                 accelerator_memory: int | None = None) -> MachineFacts:
    """Facts about this machine; ``peak`` is a measured matmul rate (FLOP/s) where there is one."""
    cores = machine.cores()
    return MachineFacts(
        cores=cores,
        memory=accelerator_memory or machine.memory_bytes(),
        free_disk=machine.free_disk_bytes(out),
        peak=peak or cores * CPU_PEAK_PER_CORE,
        accelerator=accelerator,
        measured=peak is not None,
    )  # fmt: skip


def to_json(facts: CorpusFacts | MachineFacts) -> dict[str, Any]:
    """Return the plain fields."""
    return asdict(facts)


def reference_lines(summary: Mapping[str, Any]) -> dict[str, float]:
    """Reference lines in bits per character, from the summary of a documents or shards directory."""
    lines, floor = summary.get("reference_lines") or {}, summary.get("entropy_floor") or {}
    found = {name: float(lines[name]) for name in ("uniform", "unigram", "bigram") if name in lines}
    return found | ({"floor": float(floor["bits_per_character"])} if "bits_per_character" in floor else {})
