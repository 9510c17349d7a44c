"""The one type of a model in interop: what every reader gives and every writer takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from congling.model.config import ModelConfig
from congling.quant.frozen import FrozenLinear
from congling.tokenizer.base import Tokenizer


@dataclass(frozen=True)
class ForeignModel:
    """Configuration, weights and tokenizer of one model."""

    config: ModelConfig
    weights: Mapping[str, Tensor]
    """Tensors under the names of our ``Transformer.state_dict()``, in our arrangement (half-split rotary
    rows, separate projections). A mapping may be lazy: a tensor is read when it is asked for."""
    tokenizer: Tokenizer | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """``name`` of the model, ``chat`` (whether it was tuned for its template), ``notes`` (what changed on
    the way, in sentences for the person)."""
    layers: Mapping[str, FrozenLinear] = field(default_factory=dict)
    """Linear layers that are in few bits, by the name of our module: what computes there. ``weights`` has the
    floats they stand for."""
