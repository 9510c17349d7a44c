"""Log-probabilities of chosen tokens, where a loss needs each of them and not just their sum.

The logits of all positions never exist at once: chunks of positions are scored, and scored again when their
gradient is due (a third more products of the output layer, for a fraction of the memory).
"""

# N positions that count, W width, V vocabulary, S sequences

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from congling.train.objectives.batch import DeviceWeighted
from congling.train.objectives.chunks import ChunkSize, layer_logits, vocabulary_of

CHUNK = ChunkSize({"cpu": 2**21, "cuda": 2**27}, 64)
"""Up to two chunks are kept for the gradient instead of computed again."""


class Scored(NamedTuple):
    """The tokens of a batch that count, in the order of ``weights.nonzero()``."""

    log_probs: Tensor
    """(N,) nats, float32, at the temperature asked for."""
    entropy: Tensor
    """(N,) of the whole distribution, without gradient unless it was asked for; empty where it was not."""
    places: Tensor
    """(N,) where they stand in the flattened batch."""
    hidden: Tensor
    """(N, W) states they were predicted from."""


def score(
    model: Any,
    batch: DeviceWeighted,
    *,
    temperature: float = 1.0,
    entropy: bool = False,
    learn_entropy: bool = False,
) -> Scored:
    """Run the model and score every target whose weight is not 0.

    Args:
        model: gives hidden states and its ``output_layer``.
        batch: rows with targets, of which those of weight 0 are not scored.
        temperature: what logits are divided by.
        entropy: also measure how undecided the model is at each place.
        learn_entropy: with a gradient.
    """
    hidden = model(batch.tokens, positions=batch.positions, documents=batch.documents)
    places = batch.weights.reshape(-1).nonzero().squeeze(1)
    chosen = hidden.reshape(-1, hidden.shape[-1])[places]
    targets = batch.targets.reshape(-1)[places]
    kind = "learn" if learn_entropy else "measure" if entropy else ""
    log_probs, entropies = _chunked(chosen, model.output_layer(), targets, temperature, kind)
    return Scored(log_probs, entropies, places, chosen)


def sums(values: Tensor, owner: Tensor, count: int) -> Tensor:
    """Add up values (N,) by the sequence (N,) they belong to: (S,)."""
    return values.new_zeros(count).index_add(0, owner, values)


def _chunked(
    hidden: Tensor, layer: Any, targets: Tensor, temperature: float, entropy: str
) -> tuple[Tensor, Tensor]:
    parts = list(CHUNK.parts(hidden, vocabulary_of(layer))) or [slice(0)]
    again = torch.is_grad_enabled() and len(parts) > 2
    found: list[tuple[Tensor, Tensor]] = []
    for part in parts:
        arguments = (hidden[part], layer, targets[part], temperature, entropy)
        found.append(checkpoint(_scored, *arguments, use_reentrant=False) if again else _scored(*arguments))
    log_probs, entropies = zip(*found, strict=True)
    return torch.cat(log_probs), torch.cat(entropies)


def _scored(
    hidden: Tensor, layer: Any, targets: Tensor, temperature: float, entropy: str
) -> tuple[Tensor, Tensor]:
    logits = layer_logits(layer)(hidden)
    logits = (logits if logits.dtype == torch.float64 else logits.float()) / temperature
    log_probs = -cross_entropy(logits, targets, reduction="none")
    if not entropy:
        return log_probs, log_probs.new_empty(0)
    spread = torch.log_softmax(logits if entropy == "learn" else logits.detach(), -1)
    return log_probs, -(spread.exp() * spread).sum(-1)
