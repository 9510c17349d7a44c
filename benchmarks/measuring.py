"""What every measurement shares: the matmul peak, spreads instead of single numbers, circumstances."""

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from congling.core import machine

Effort = Literal["full", "quick", "tiny"]
"""``full`` for figures to quote, ``quick`` for a first look, ``tiny`` to see that the benchmark works."""

PACKAGES = ("congling", "torch", "transformers", "accelerate", "tokenizers", "sentencepiece", "numpy")


@dataclass(frozen=True)
class Options:
    """What the command line says to every benchmark."""

    effort: Effort = "full"
    corpora: Path | None = None
    """Folder of real corpora; a benchmark that needs one says so and is skipped."""
    results: Path = Path("runs/bench")
    """Where long measurements keep their parts, so that they can be stopped and continued."""


@dataclass(frozen=True)
class Spread:
    """Median and range of repetitions: machines are noisy, and one number would hide it."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    def show(self, form: str = "{:,.0f}") -> str:
        """``"2,310 (2,250–2,340)"``."""
        middle, low, high = (
            form.format(value) for value in (self.median, min(self.values), max(self.values))
        )
        return middle if low == high else f"{middle} ({low}–{high})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Ratios of values measured in the same round, one right after the other."""
    return Spread(tuple(a / b for a, b in zip(ours, theirs, strict=True)))


def matmul_peak(device: str = "cpu") -> float:
    """Fastest large matrix product in FLOP/s, all threads: 1024² in fp32 on a CPU, 8192² in bf16 on a GPU."""
    import torch

    from congling.train.calibrate import matmul_peak as measured

    return measured(torch.device(device), torch.float32 if device == "cpu" else torch.bfloat16)


def synchronize(device: str) -> None:
    """Wait for the GPU, whose work is only queued; nothing to do on a CPU."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize(device)


def peak_memory(device: str) -> int:
    """Most bytes held so far: resident memory of this process, or allocated on the GPU."""
    if device == "cpu":
        return machine.peak_memory_bytes()
    import torch

    return torch.cuda.max_memory_allocated(device)


def circumstances() -> dict[str, str]:
    """Machine, versions and commit: what a reader needs to place the figures."""
    facts = {"machine": f"{_processor()}; {machine.description()}", "load": _load(), "commit": _commit()}
    facts["versions"] = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    facts["measured"] = time.strftime("%Y-%m-%d")
    return facts


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        names = [line.partition(":")[2] for line in listing.read_text().splitlines() if "model name" in line]
        if names:
            return names[0].strip()
    return platform.processor() or platform.machine()


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f} when started"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
