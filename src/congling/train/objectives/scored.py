"""Cross-entropy over an output layer that is more than one dense matrix: packed in blocks, or with adapters.

Like ``cross_entropy``, chunk by chunk with the gradient computed right after the logits; only that here the
layer itself says what its scores and their gradients are.
"""

# N positions, W width, V vocabulary

from typing import Any

import torch
from torch import Tensor, nn

from congling.quant.packed import Packed
from congling.train.objectives.cross_entropy import counted
from congling.train.objectives.streamed import packed_cross_entropy_sum

CHUNK_VALUES = {"cpu": 2**22, "cuda": 2**27}
"""Logits in one chunk: a packed matrix is unpacked twice for each."""


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
    learn = torch.is_grad_enabled()
    flat, wanted, each = counted(hidden, targets, weights)
    if isinstance(layer, Packed):
        return packed_cross_entropy_sum(flat, layer, wanted, each)
    trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    return _uncompiled(flat, layer, wanted, each, learn, *trained)


class _ScoredCrossEntropy(torch.autograd.Function):
    """Forward computes the gradients for a factor of one; backward multiplies by the factor that arrives."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        layer: nn.Module,
        targets: Tensor,
        weights: Tensor | None,
        learn: bool,
        *trained: Tensor,
    ) -> Tensor:
        score = getattr(layer, "scores", layer)
        size = _rows(hidden, layer)
        total = torch.zeros((), device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if learn else hidden.new_empty(0)
        sums = [torch.zeros_like(parameter) for parameter in trained] if learn else []
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            x = hidden[part].detach().requires_grad_(learn)
            with torch.set_grad_enabled(learn):
                logits = score(x)
            slope, loss = _slope(
                logits.detach(), targets[part], None if weights is None else weights[part], learn
            )
            total += loss
            if learn:
                grads = torch.autograd.grad(logits, (x, *trained), slope)
                grad_hidden[part] = grads[0]
                for gathered, grad in zip(sums, grads[1:], strict=True):
                    gathered += grad
        ctx.save_for_backward(grad_hidden, *sums)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, *sums = ctx.saved_tensors
        factor = grads[0]
        for_hidden = (grad_hidden * factor).to(grad_hidden.dtype)
        return for_hidden, None, None, None, None, *(each * factor for each in sums)


_uncompiled: Any = torch.compiler.disable(_ScoredCrossEntropy.apply)


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


def _rows(hidden: Tensor, layer: Any) -> int:
    """Positions in a chunk."""
    base = getattr(layer, "base", layer)
    vocabulary = getattr(base, "num_embeddings", None) or base.out_features
    return max(64, CHUNK_VALUES.get(hidden.device.type, 2**24) // vocabulary)
