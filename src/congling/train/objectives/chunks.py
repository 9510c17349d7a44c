"""A loss over the scores of any output layer, chunk by chunk, so that all logits never exist at once.

What the loss is, and its gradient by the scores, a function says for one chunk at a time::

    hidden (N, W) ─┬─ chunk ─ layer ─ scores (n, V) ─ loss and slope ─ back through the layer ─┬─ sums
                   └─ …                                                                        ┘
"""

# N positions, n those of one chunk, W width, V vocabulary

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

CHUNK_VALUES = {"cpu": 2**22, "cuda": 2**27}
"""Logits in one chunk: a packed matrix is unpacked twice for each."""
LEAST_ROWS = 64
"""Positions in one chunk at least."""

Slope = Callable[[Tensor, slice, bool], tuple[Tensor | None, Tensor]]
"""(scores (n, V), which positions they are of, whether to learn) to the gradient of the summed loss by the
scores, None unless learning, and what is summed: the loss first, then whatever else is to be known, (m,). The
memory of the scores may be used."""


def summed_over_chunks(hidden: Tensor, layer: nn.Module, slope: Slope, sums: int = 1) -> Tensor:
    """Sum over positions of a loss of the layer's scores; (``sums``,), of which the first has a gradient.

    The gradient goes to ``hidden`` and to the layer's parameters that are trained.

    Args:
        hidden: (N, W).
        layer: gives (..., V) by ``scores`` where it has that (an embedding), else by a call.
        slope: the loss of a chunk and its gradient by the scores.
        sums: how many numbers ``slope`` sums.
    """
    trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    return _uncompiled(hidden, layer, slope, sums, torch.is_grad_enabled(), *trained)


class _Chunked(torch.autograd.Function):
    """Forward computes the gradients for a factor of one; backward multiplies by the factor that arrives."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, layer: nn.Module, slope: Slope, sums: int, learn: bool, *trained: Tensor
    ) -> Tensor:
        score = getattr(layer, "scores", layer)
        size = _rows(hidden, layer)
        exact = torch.promote_types(hidden.dtype, torch.float32)  # fp64 where gradients are checked in it
        total = torch.zeros(sums, dtype=exact, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if learn else hidden.new_empty(0)
        gathered = [torch.zeros_like(parameter) for parameter in trained] if learn else []
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            x = hidden[part].detach().requires_grad_(learn)
            with torch.set_grad_enabled(learn):
                logits = score(x)
            by_scores, loss = slope(logits.detach(), part, learn)
            total += loss
            if learn:
                grads = torch.autograd.grad(logits, (x, *trained), by_scores)
                grad_hidden[part] = grads[0]
                for one, grad in zip(gathered, grads[1:], strict=True):
                    one += grad
        ctx.save_for_backward(grad_hidden, *gathered)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, *gathered = ctx.saved_tensors
        factor = grads[0][0]
        for_hidden = (grad_hidden * factor).to(grad_hidden.dtype)
        return for_hidden, None, None, None, None, *(each * factor for each in gathered)


_uncompiled: Any = torch.compiler.disable(_Chunked.apply)


def _rows(hidden: Tensor, layer: Any) -> int:
    """Positions in a chunk."""
    base = getattr(layer, "base", layer)
    vocabulary = getattr(base, "num_embeddings", None) or base.out_features
    return max(LEAST_ROWS, CHUNK_VALUES.get(hidden.device.type, 2**24) // vocabulary)
