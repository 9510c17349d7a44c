"""Cross-entropy over a packed output layer in one pass: every row is unpacked once, for logits and gradient.

A softmax needs the sum over the whole vocabulary before it is one. But its gradient by the hidden state is a
mean of the rows, weighted by the exponentials of their logits, and such a mean can be gathered as the rows
come by, like attention over blocks of keys (FlashAttention, Dao et al. 2022)::

    for each piece of rows:   s = x @ rowsᵀ      mass += Σ exp(s - m)      mean += exp(s - m) @ rows
    loss = log mass + m - s[target]              gradient = mean / mass - rows[target]
"""

# N positions, W width, V vocabulary, P rows of a piece

import torch
from torch import Tensor

from congling.quant.frozen import FrozenMatrix
from congling.train.objectives.chunks import with_gradients

_POSITIONS = 8192
"""Positions that meet a piece of rows at once: their logits are the largest tensor."""
_SLACK = 30.0
"""How far logits may pass the reference m before everything is scaled to a new one: float32 ends at e⁸⁸."""


def packed_cross_entropy(
    hidden: Tensor, layer: FrozenMatrix, targets: Tensor, weights: Tensor | None
) -> Tensor:
    """Sum over positions of ``weights · -log softmax(hidden @ matrixᵀ)[targets]``, in nats: a scalar.

    Args:
        hidden: (N, W).
        layer: the matrix (V, W).
        targets: (N,) int64 in [0, V).
        weights: (N,) or None for one each.
    """
    kind = hidden.device.type
    compute = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    learn = torch.is_grad_enabled()

    def computed() -> tuple[Tensor, list[Tensor]]:
        total = torch.zeros((), device=hidden.device)
        gradient = torch.empty_like(hidden) if learn else hidden.new_empty(0)
        with torch.autocast(kind, enabled=False):
            for start in range(0, len(hidden), _POSITIONS):
                part = slice(start, start + _POSITIONS)
                pass_over = _Pass(hidden[part].to(compute), targets[part], learn)
                for rows, values in layer.pieces(compute):
                    pass_over.meet(rows.start, values)
                each = None if weights is None else weights[part, None].float()
                losses, gradients = pass_over.end()
                total += (losses if each is None else losses * each).sum()
                if learn:
                    gradient[part] = gradients if each is None else gradients.mul_(each)
        return total[None], [gradient]

    return with_gradients(computed, (hidden,)).squeeze(0)


class _Pass:
    """Sums gathered while the rows of the output layer come by."""

    def __init__(self, x: Tensor, targets: Tensor, learn: bool) -> None:
        self.x, self.targets, self.learn = x, targets, learn
        self.reference: Tensor | None = None
        """(N, 1), about the highest logit so far."""
        self.mass = torch.zeros(len(x), 1, device=x.device)
        self.chosen = torch.zeros(len(x), 1, device=x.device)
        self.mean = torch.zeros(x.shape, device=x.device) if learn else self.mass
        self.aim = torch.empty(x.shape, device=x.device) if learn else self.mass

    def meet(self, start: int, rows: Tensor) -> None:
        """Take in the rows (P, W) from ``start`` on."""
        logits = (self.x @ rows.T).float()
        self.refer(logits.amax(1, keepdim=True))
        assert self.reference is not None
        here = (self.targets >= start) & (self.targets < start + len(rows))
        found = here.nonzero().squeeze(1)
        if len(found):
            own = self.targets[found] - start
            self.chosen[found] = logits[found, own].unsqueeze(1)
            if self.learn:
                self.aim[found] = rows[own].float()
        masses = logits.sub_(self.reference).exp_()
        self.mass += masses.sum(1, keepdim=True)
        if self.learn:
            if rows.dtype == torch.float32:
                self.mean.addmm_(masses, rows)
            else:
                self.mean += masses.to(rows.dtype) @ rows

    def refer(self, top: Tensor) -> None:
        """Move the reference where logits have left it behind."""
        if self.reference is None:
            self.reference = top
        elif bool((top > self.reference + _SLACK).any()):
            higher = torch.maximum(top, self.reference)
            factor = (self.reference - higher).exp_()
            self.mass *= factor
            if self.learn:
                self.mean *= factor
            self.reference = higher

    def end(self) -> tuple[Tensor, Tensor]:
        """Losses (N, 1), and gradients of them by x (N, W)."""
        assert self.reference is not None
        losses = self.mass.log().add_(self.reference).sub_(self.chosen)
        return losses, self.mean.div_(self.mass).sub_(self.aim) if self.learn else self.mean
