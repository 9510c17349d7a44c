"""What was measured of a machine and of one training step: pure numbers, for the plan and for JSON; no
torch."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Probe:
    """What the machine is good for."""

    matmul_peak: float
    """Floating-point operations a second in large matrix multiplications, in ``precision``."""
    precision: str
    """``fp32`` or ``bf16``: the faster one here, or the one asked for."""
    accelerator: str | None = None
    """Name of the GPU."""
    accelerator_memory: int | None = None
    """Bytes of that GPU."""


@dataclass(frozen=True)
class Calibration:
    """Speed and memory of one training step, measured on this machine."""

    matmul_peak: float
    """Floating-point operations a second in large matrix multiplications, in the precision of training."""
    seconds_per_step: float
    """Of a whole step: all micro-batches, forward, backward, update."""
    tokens_per_step: int
    peak_memory_bytes: int
    """Of the measuring process (a GPU's memory where it trains on one)."""
    utilisation: float
    """Share of the peak that the step reaches."""
    manner: str | None = None
    """How threads wait for one another (:mod:`congling.train.waiting`): what was faster now. ``None`` where
    there is no choice."""
    other_manner: float | None = None
    """Seconds of the step in the other manner."""

    @property
    def tokens_per_second(self) -> float:
        """Targets trained on in a second."""
        return self.tokens_per_step / self.seconds_per_step

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
