"""Cross-entropy over an output layer that is more than one dense matrix: packed in blocks, or with adapters.

Like ``cross_entropy``, chunk by chunk with the gradient computed right after the logits; only that here the
layer itself says what its scores and their gradients are.
"""

# N positions, W width, V vocabulary

import torch
from torch import Tensor, nn

from congling.quant.packed import Packed
from congling.train.objectives.chunks import summed_over_chunks
from congling.train.objectives.cross_entropy import select_targets
from congling.train.objectives.streamed import packed_cross_entropy_sum


def scored_cross_entropy_sum(
    hidden: Tensor, layer: nn.Module, targets: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Sum over positions of ``weights · -log softmax(scores of hidden)[targets]``, in nats.

    Args:
        hidden: (..., W).
        layer: gives (..., V) by ``scores`` where it has that (an embedding), else by a call.
        targets: (...) int64 in [0, V).
        weights: (...) or None for one each.
    """
    flat, wanted, each = select_targets(hidden, targets, weights)
    if isinstance(layer, Packed):
        return packed_cross_entropy_sum(flat, layer, wanted, each)

    def slope(logits: Tensor, part: slice, learn: bool) -> tuple[Tensor | None, Tensor]:
        return _slope(logits, wanted[part], None if each is None else each[part], learn)

    return summed_over_chunks(flat, layer, slope).squeeze(0)


def _slope(
    logits: Tensor, targets: Tensor, weights: Tensor | None, learn: bool
) -> tuple[Tensor | None, Tensor]:
    """Gradient of the summed loss by the logits (their memory is used for it), and the loss."""
    scores = logits if logits.dtype == torch.float32 else logits.float()
    top = scores.amax(1, keepdim=True)
    chosen = scores.gather(1, targets[:, None])
    scores.sub_(top).exp_()
    mass = scores.sum(1, keepdim=True)
    losses = mass.log().add_(top).sub_(chosen)
    each = None if weights is None else weights[:, None].to(losses.dtype)
    loss = (losses if each is None else losses * each).sum()
    if not learn:
        return None, loss
    factor = mass.reciprocal_() if each is None else each / mass
    slope = scores.mul_(factor)
    slope.scatter_add_(1, targets[:, None], -torch.ones_like(factor) if each is None else -each)
    return slope.to(logits.dtype), loss
