"""Linear layer and cross-entropy in one, chunk by chunk, so that all logits never exist at once.

Logits are the largest tensor of a small model: 4096 positions times 32,000 pieces are half a gigabyte, and as
much again for their gradient. The gradient of a cross-entropy needs nothing from later in the graph but one
factor, so each chunk's is computed right after its logits, while these are still in the cache, and only the
small gradients of the hidden states and of the weight are kept (as in Liger-Kernel, Hsu et al. 2024).
"""

# N positions, W width, V vocabulary

from typing import Any

import torch
from torch import Tensor

CHUNK_VALUES = {"cpu": 2**20, "cuda": 2**27}
"""Logits in one chunk: about a CPU's second-level cache; large enough to fill a GPU."""
LEAST_ROWS = 256
"""Positions in one chunk at least: each chunk passes over the whole gradient of the weight."""


def cross_entropy_sum(
    hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Sum over positions of ``weights · -log softmax(hidden @ weight.T)[targets]``, in nats.

    Args:
        hidden: (..., W).
        weight: (V, W) of the output layer.
        targets: (...) int64 in [0, V).
        weights: (...) or None for one each; positions of weight 0 have no influence.
    """
    flat, wanted, each = select_targets(hidden, targets, weights)
    kind = flat.device.type
    compute = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else flat.dtype
    return _uncompiled(flat, weight, wanted, each, compute, torch.is_grad_enabled(), weight.requires_grad)


def select_targets(
    hidden: Tensor, targets: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The positions that count, flattened: a question's, of weight 0, need no scores."""
    flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    if weights is None:
        return flat, wanted, None
    each = weights.reshape(-1)
    places = each.nonzero().squeeze(1)
    return flat[places], wanted[places], each[places]


class _LinearCrossEntropy(torch.autograd.Function):
    """Forward computes the gradients for a factor of one; backward multiplies by the factor that arrives."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        weights: Tensor | None,
        compute: torch.dtype,
        learn: bool,
        learn_weight: bool,
    ) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            total, grad_hidden, grad_weight = _chunked(
                hidden, weight.to(compute), targets, weights, learn, learn_weight
            )
        if learn:
            ctx.save_for_backward(grad_hidden, grad_weight)
            ctx.dtypes = hidden.dtype, weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        hidden_dtype, weight_dtype = ctx.dtypes
        for_hidden = (grad_hidden * grads[0]).to(hidden_dtype)
        for_weight = (grad_weight * grads[0]).to(weight_dtype) if ctx.needs_input_grad[1] else None
        return for_hidden, for_weight, None, None, None, None, None


# Compiling would unroll the loop over chunks, to fuse what are few kernels already.
_uncompiled: Any = torch.compiler.disable(_LinearCrossEntropy.apply)


def _chunked(
    hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor | None, learn: bool, learn_weight: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Total (scalar), gradient of hidden (N, W) and of weight (V, W); these are empty unless ``learn``, the
    latter also unless ``learn_weight``: a frozen layer has no use for it."""
    size = max(LEAST_ROWS, CHUNK_VALUES.get(hidden.device.type, 2**24) // weight.shape[0])
    exact = torch.promote_types(weight.dtype, torch.float32)  # fp64 where gradients are checked in it
    grad_hidden = torch.empty_like(hidden, dtype=weight.dtype) if learn else weight.new_empty(0)
    grad_weight = torch.zeros_like(weight, dtype=exact) if learn and learn_weight else weight.new_empty(0)
    total = torch.zeros((), dtype=exact, device=hidden.device)
    for start in range(0, len(hidden), size):
        part = slice(start, start + size)
        x, target = hidden[part].to(weight.dtype), targets[part, None]
        scores = torch.log_softmax(x @ weight.T, -1, dtype=exact)
        losses = -scores.gather(1, target)
        each = None if weights is None else weights[part, None].to(exact)
        total += (losses if each is None else losses * each).sum()
        if learn:
            slope = scores.exp_()  # d loss / d logits = softmax - one-hot, times the position's weight
            slope.scatter_add_(1, target, torch.full_like(losses, -1.0))
            slope = (slope if each is None else slope.mul_(each)).to(weight.dtype)
            torch.mm(slope, weight, out=grad_hidden[part])
            if not learn_weight:
                continue
            if weight.dtype == exact:
                grad_weight.addmm_(slope.T, x)
            else:
                grad_weight += slope.T @ x
    return total, grad_hidden, grad_weight
