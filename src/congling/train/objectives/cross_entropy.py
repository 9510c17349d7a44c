"""Output layer and cross-entropy in one, chunk by chunk: what pretraining and fine-tuning minimise.

One function serves every output layer. A dense matrix has the quickest way, and so has one in ggml's blocks
(``packed_cross_entropy.py``); any other, such as one with adapters, gives its own logits and gradients.
"""

# N positions, n those of one chunk, W width, V vocabulary

import torch
from torch import Tensor, nn

from congling.quant.frozen import FrozenMatrix
from congling.train.objectives.chunks import ChunkSize, sum_over_chunks, with_gradients
from congling.train.objectives.packed_cross_entropy import packed_cross_entropy

DENSE_CHUNK = ChunkSize({"cpu": 2**20, "cuda": 2**27}, 256)
"""About a CPU's second-level cache; each chunk passes over the whole gradient of the weight."""


def linear_cross_entropy(
    hidden: Tensor, layer: nn.Module, targets: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Sum over positions of ``weights · -log softmax(logits of hidden)[targets]``, in nats: a scalar.

    The gradient goes to ``hidden`` and to the layer's parameters that are trained.

    Args:
        hidden: (..., W).
        layer: the output layer, dense, packed or with adapters.
        targets: (...) int64 in [0, V).
        weights: (...) or None for one each; positions of weight 0 have no influence.
    """
    selected = select_targets(hidden, targets, weights)
    if isinstance(layer, nn.Embedding | nn.Linear):
        return dense_cross_entropy(selected[0], layer.weight, *selected[1:])
    if isinstance(layer, FrozenMatrix):
        return packed_cross_entropy(selected[0], layer, *selected[1:])
    return _any_cross_entropy(selected[0], layer, *selected[1:])


def select_targets(
    hidden: Tensor, targets: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The positions that count, flattened: (N, W), (N,), (N,); a question's, of weight 0, need no logits.

    With weights a GPU is waited for: how many count decides the shapes of what follows.
    """
    flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    if weights is None:
        return flat, wanted, None
    each = weights.reshape(-1)
    counting = each.nonzero().squeeze(1)
    return flat[counting], wanted[counting], each[counting]


def dense_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """:func:`linear_cross_entropy` of (N, W) over a matrix (V, W), whose gradient is left out if frozen."""
    kind = hidden.device.type
    compute = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    learn, learn_weight = torch.is_grad_enabled(), weight.requires_grad

    def computed() -> tuple[Tensor, list[Tensor]]:
        with torch.autocast(kind, enabled=False):
            return _dense_chunks(hidden, weight.to(compute), targets, weights, learn, learn_weight)

    return with_gradients(computed, (hidden, weight) if learn_weight else (hidden,)).squeeze(0)


def _dense_chunks(
    hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor | None, learn: bool, learn_weight: bool
) -> tuple[Tensor, list[Tensor]]:
    """Total (1,); gradients of hidden (N, W) if ``learn``, and of weight (V, W) if that learns, too."""
    exact = torch.promote_types(weight.dtype, torch.float32)  # fp64 where gradients are checked in it
    grad_hidden = torch.empty_like(hidden, dtype=weight.dtype) if learn else weight.new_empty(0)
    grad_weight = torch.zeros_like(weight, dtype=exact) if learn and learn_weight else weight.new_empty(0)
    total = torch.zeros((), dtype=exact, device=hidden.device)
    for part in DENSE_CHUNK.parts(hidden, len(weight)):
        x, target = hidden[part].to(weight.dtype), targets[part, None]
        log_probs = torch.log_softmax(x @ weight.T, -1, dtype=exact)
        losses = -log_probs.gather(1, target)
        each = None if weights is None else weights[part, None].to(exact)
        total += (losses if each is None else losses * each).sum()
        if not learn:
            continue
        probs = log_probs.exp_()
        # d loss / d logits = softmax - one-hot, times the position's weight
        grad_logits = probs.scatter_add_(1, target, torch.full_like(losses, -1.0))
        grad_logits = (grad_logits if each is None else grad_logits.mul_(each)).to(weight.dtype)
        torch.mm(grad_logits, weight, out=grad_hidden[part])
        if not learn_weight:
            continue
        if weight.dtype == exact:
            grad_weight.addmm_(grad_logits.T, x)
        else:
            grad_weight += grad_logits.T @ x
    return total[None], [grad_hidden, grad_weight] if learn_weight else [grad_hidden]


def _any_cross_entropy(hidden: Tensor, layer: nn.Module, targets: Tensor, weights: Tensor | None) -> Tensor:
    def loss(logits: Tensor, part: slice, learn: bool) -> tuple[Tensor | None, Tensor]:
        return _chunk_loss(logits, targets[part], None if weights is None else weights[part], learn)

    return sum_over_chunks(hidden, layer, loss).squeeze(0)


def _chunk_loss(
    logits: Tensor, targets: Tensor, weights: Tensor | None, learn: bool
) -> tuple[Tensor | None, Tensor]:
    """Gradient of the summed loss by the logits (n, V), in their memory, and the loss."""
    exact = logits if logits.dtype == torch.float32 else logits.float()
    top = exact.amax(1, keepdim=True)
    chosen = exact.gather(1, targets[:, None])
    masses = exact.sub_(top).exp_()
    mass = masses.sum(1, keepdim=True)
    losses = mass.log().add_(top).sub_(chosen)
    each = None if weights is None else weights[:, None].to(losses.dtype)
    loss = (losses if each is None else losses * each).sum()
    if not learn:
        return None, loss
    factor = mass.reciprocal_() if each is None else each / mass
    grad_logits = masses.mul_(factor)
    grad_logits.scatter_add_(1, targets[:, None], -torch.ones_like(factor) if each is None else -each)
    return grad_logits.to(logits.dtype), loss
