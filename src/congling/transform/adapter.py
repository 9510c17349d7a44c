"""A low-rank adapter as values: what every adapter format is read into and written from.

One convention for every tensor, whatever its format of origin::

    effective weight = W + strength · scale · (b @ a)       a (r, inputs), b (outputs, r), W (outputs, inputs)

With a magnitude m (outputs,), as of DoRA (Liu et al. 2024), rows get lengths of their own::

    effective weight = W + strength · (m · V / ‖V‖ - W)     V = W + scale · (b @ a), ‖V‖ (outputs,) by rows

Strength 0 is W itself, 1 the adapter as trained, and what lies between is on the line between the two: so the
effects of several adapters add up, whatever their kind.

Names are those of our own parameters (``blocks.0.attention.query.weight``, ``embedding.weight``,
``norm.weight``), and rows are in our own order: half-split rotary channels. An embedding (V, W) is
adapted like any matrix with V outputs; a norm gain (W,) like a matrix (W, 1).
"""

# r rank, V vocabulary, W width

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.core.renamed import with_new_keys


@dataclass(frozen=True)
class Factors:
    """What is added to one tensor, before the strength a person chooses."""

    a: Tensor
    """(r, inputs) float32."""
    b: Tensor
    """(outputs, r) float32."""
    scale: float = 1.0
    """Usually alpha / r."""
    magnitude: Tensor | None = None
    """(outputs,) float32: lengths of the rows of the adapted matrix; None where they follow from the sum."""

    @property
    def rank(self) -> int:
        """Inner dimension r."""
        return self.a.shape[0]

    def delta(self, weight: Tensor | None = None) -> Tensor:
        """(outputs, inputs): what is added at strength 1 to ``weight``, which only a magnitude asks for."""
        change = self.scale * (self.b @ self.a)
        if self.magnitude is None:
            return change
        assert weight is not None, "what a magnitude changes depends on the weight"
        summed = weight + change
        return growth(self.magnitude, summed.norm(dim=1))[:, None] * summed - weight

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by the names they are stored under."""
        found = {"a": self.a, "b": self.b}
        return found if self.magnitude is None else found | {"magnitude": self.magnitude}

    def is_finite(self) -> bool:
        """Whether all values are finite numbers."""
        return all(bool(tensor.isfinite().all()) for tensor in self.tensors().values())


@dataclass(frozen=True)
class Adapter:
    """Factors by parameter name, and what is known of their origin."""

    factors: Mapping[str, Factors]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Informative: ``name``, ``base`` (fingerprint of the base), ``architecture`` …"""

    @property
    def packed_base(self) -> str | None:
        """The type its dense base was packed as for training, where it was
        (``adapter.base_quantization``).
        """
        settings = self.facts.get("adapter")
        found = (
            with_new_keys(("AdapterConfig",), settings).get("base_quantization")
            if isinstance(settings, Mapping)
            else None
        )
        return found if isinstance(found, str) else None


def growth(magnitude: Tensor, lengths: Tensor) -> Tensor:
    """(outputs,): what rows of these lengths are multiplied by to have the length ``magnitude``.

    A row of zeros has no direction to stretch: it stays zero.
    """
    return magnitude / torch.where(lengths > 0, lengths, 1.0)


def common_packing(adapters: Iterable[Adapter]) -> str | None:
    """The type that a dense base is to be packed as for these adapters; None: left as it is.

    Raises:
        UserError: they were trained beside differently rounded weights.
    """
    types = sorted({adapter.packed_base for adapter in adapters if adapter.packed_base is not None})
    if len(types) > 1:
        what = "these adapters were trained beside one base packed in different types"
        raise UserError(
            what, value=", ".join(types), hint="use one at a time, or merge one into the base first"
        )
    return types[0] if types else None
