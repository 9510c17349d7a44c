"""A low-rank adapter as values: what every adapter format is read into and written from.

One convention for every tensor, whatever its format of origin::

    effective weight = W + strength · scale · (b @ a)       a (r, inputs), b (outputs, r), W (outputs, inputs)

Names are those of our own parameters (``blocks.0.attention.query.weight``, ``embedding.weight``,
``norm.weight``), and rows are in our own order: half-split rotary channels. An embedding (V, W) is
adapted like any matrix with V outputs; a norm gain (W,) like a matrix (W, 1).
"""

# r rank, V vocabulary, W width

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Factors:
    """What is added to one tensor, before the strength a person chooses."""

    a: Tensor
    """(r, inputs) float32."""
    b: Tensor
    """(outputs, r) float32."""
    scale: float = 1.0
    """Usually alpha / r."""

    @property
    def rank(self) -> int:
        """Inner dimension r."""
        return self.a.shape[0]

    def delta(self) -> Tensor:
        """(outputs, inputs): what is added at strength 1."""
        return self.scale * (self.b @ self.a)


@dataclass(frozen=True)
class Adapter:
    """Factors by parameter name, and what is known of their origin."""

    factors: Mapping[str, Factors]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Informative: ``name``, ``base`` (fingerprint of the base), ``architecture`` …"""
