"""What every objective returns."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Loss:
    """Sums over the targets of one micro-batch, never averages: the loop divides once, by the step's count.

    Averages of averages are wrong as soon as micro-batches hold different numbers of targets.
    """

    total: Tensor
    """Scalar with gradient."""
    metrics: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Detached scalar sums to log, by name; ``loss`` is in nats."""
