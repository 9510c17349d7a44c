"""Losses over an output layer, chunk by chunk, so that all logits never exist at once.

Logits are the largest tensor of a small model: 4096 positions times a vocabulary of 32,000 are half a
gigabyte, and as much again for their gradient. The gradient of a sum needs nothing from later in the graph
but one factor, so each chunk's is computed right after its logits, and only the small gradients of the hidden
states and of the layer are kept (as in Liger-Kernel, Hsu et al. 2024)::

    hidden (N, W) ─┬─ chunk ─ layer ─ logits (n, V) ─ loss and gradient ─ back through the layer ─┬─ sums
                   └─ …                                                                           ┘
"""

# N positions, n those of one chunk, W width, V vocabulary

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ChunkSize:
    """How many logits exist at once, by type of device, and of how many positions at least."""

    logits: Mapping[str, int]
    least_positions: int

    def parts(self, hidden: Tensor, vocabulary: int) -> Iterator[slice]:
        """The chunks of hidden states (N, W)."""
        size = max(self.least_positions, self.logits.get(hidden.device.type, 2**24) // vocabulary)
        return (slice(start, start + size) for start in range(0, len(hidden), size))


LAYER_CHUNK = ChunkSize({"cpu": 2**22, "cuda": 2**27}, 64)
"""Of any output layer: a packed matrix is unpacked twice for each chunk."""

ChunkLoss = Callable[[Tensor, slice, bool], tuple[Tensor | None, Tensor]]
"""(logits (n, V), which positions they are of, whether to learn) to the gradient of the summed loss by the
logits, None unless learning, and what is summed: the loss first, then whatever else is to be known, (m,). The
memory of the logits may be used."""


def sum_over_chunks(hidden: Tensor, layer: nn.Module, loss: ChunkLoss, count: int = 1) -> Tensor:
    """Sum over positions of a loss of the layer's logits; (``count``,), of which the first has a gradient.

    The gradient goes to ``hidden`` and to the layer's parameters that are trained.

    Args:
        hidden: (N, W).
        layer: an output layer.
        loss: the loss of a chunk and its gradient by the logits.
        count: how many numbers ``loss`` sums.
    """
    learn = torch.is_grad_enabled()
    trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]

    def compute() -> tuple[Tensor, list[Tensor]]:
        logits_of = layer_logits(layer)
        exact = torch.promote_types(hidden.dtype, torch.float32)  # fp64 where gradients are checked in it
        total = torch.zeros(count, dtype=exact, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if learn else hidden.new_empty(0)
        grad_trained = [torch.zeros_like(parameter) for parameter in trained] if learn else []
        for part in LAYER_CHUNK.parts(hidden, vocabulary_of(layer)):
            x = hidden[part].detach().requires_grad_(learn)
            with torch.set_grad_enabled(learn):
                logits = logits_of(x)
            grad_logits, sums = loss(logits.detach(), part, learn)
            total += sums
            if learn:
                grads = torch.autograd.grad(logits, (x, *trained), grad_logits)
                grad_hidden[part] = grads[0]
                for one, grad in zip(grad_trained, grads[1:], strict=True):
                    one += grad
        return total, [grad_hidden, *grad_trained]

    return with_gradients(compute, (hidden, *trained))


def with_gradients(compute: Callable[[], tuple[Tensor, list[Tensor]]], inputs: Sequence[Tensor]) -> Tensor:
    """Sums (m,) of which the first has a gradient, where both are computed in one pass.

    Args:
        compute: gives the sums, and the gradients of the first by the inputs.
        inputs: what the gradient goes to.
    """
    return _uncompiled(compute, *inputs)


class _WithGradients(torch.autograd.Function):
    """Forward computes the gradients for a factor of one; backward multiplies by the factor that arrives."""

    @staticmethod
    def forward(ctx: Any, compute: Callable[[], tuple[Tensor, list[Tensor]]], *inputs: Tensor) -> Tensor:
        sums, gradients = compute()
        ctx.dtypes = [one.dtype for one in inputs]
        ctx.save_for_backward(*gradients)
        return sums

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        factor = grads[0][0]
        pairs = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return None, *((gradient * factor).to(dtype) for gradient, dtype in pairs)


# Compiling would unroll the loop over chunks, to fuse what are few kernels already.
_uncompiled: Any = torch.compiler.disable(_WithGradients.apply)


def layer_logits(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """What takes (..., W) to the logits (..., V) of an output layer; an embedding has a method for it."""
    return getattr(layer, "logits", layer)


def vocabulary_of(layer: Any) -> int:
    """V of an output layer: a linear layer or an embedding, dense or packed, with adapters or without."""
    base = getattr(layer, "base", layer)
    return getattr(base, "num_embeddings", None) or base.out_features
