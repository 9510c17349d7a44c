"""DoRA (Liu et al. 2024): direction and length of every row of a matrix, learnt apart.

::

    V = W + scale · b a        the direction is learnt by low-rank factors, as in LoRA
    W' = m · V / ‖V‖           the length by one number a row; m begins at ‖W‖, so that W' begins at W

The lengths ‖V‖ have no gradient (section 4.3 of the paper). V is never made, nor is W unpacked as a whole::

    ‖Vᵢ‖² = ‖Wᵢ‖² + 2 scale · bᵢ · (a Wᵢ) + scale² · bᵢ (a aᵀ) bᵢᵀ

``a W`` is a product with the base like that of the inputs, so a's rows go along with them in one product.
"""

# N rows (batch times time), I inputs, O outputs, r rank

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from congling.quant.frozen import FrozenMatrix
from congling.transform.adapter import growth


class Part(NamedTuple):
    """One adapter of a layer."""

    a: Tensor
    """(r, I)."""
    b: Tensor
    """(O, r)."""
    magnitude: Tensor | None
    """(O,), or None: plain LoRA."""
    scale: float
    strength: float


def square_lengths(base: nn.Linear | FrozenMatrix) -> Tensor:
    """(O,) float32: ‖Wᵢ‖² of every row; a packed matrix is read piece by piece."""
    if isinstance(base, FrozenMatrix):
        return base.square_lengths()
    return base.weight.detach().float().square().sum(1)


def decomposed(base: Any, squares: Tensor, x: Tensor, seen: Tensor, parts: Sequence[Part]) -> Tensor:
    """Product with ``W + Σ strength · (W' - W)``, plus the base's bias: (..., I) -> (..., O).

    Args:
        base: a frozen linear layer, dense or packed.
        squares: (O,) of ``square_lengths``.
        x: (..., I).
        seen: (..., I), what the factors see of it: with dropout something else.
        parts: adapters, at least one of them with a magnitude.
    """
    kind = x.device.type
    compute = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    rows = x.reshape(-1, x.shape[-1]).to(compute)
    probes = [part.a.detach().to(compute) for part in parts if part.magnitude is not None]
    y, *answers = base(torch.cat([rows, *probes])).split([len(rows), *map(len, probes)])
    gain, columns = torch.ones_like(squares), []
    for part in parts:
        b = part.b * (part.strength * part.scale)
        if part.magnitude is not None:
            answer = answers.pop(0).detach() if base.bias is None else answers.pop(0).detach() - base.bias
            grown = growth(part.magnitude, _lengths(part, squares, answer))
            gain = gain + part.strength * (grown - 1)
            b = b * grown[:, None]
        columns.append(b)
    narrow = seen.reshape(rows.shape).to(compute) @ torch.cat([part.a for part in parts]).to(compute).T
    total = torch.addmm(y * gain.to(compute), narrow, torch.cat(columns, dim=1).to(compute).T)
    if base.bias is not None:  # it stays outside: what the gain did to it is taken back
        total = total + (base.bias * (1 - gain)).to(compute)
    return total.view(*x.shape[:-1], -1)


def _lengths(part: Part, squares: Tensor, answer: Tensor) -> Tensor:
    """(O,): ‖Vᵢ‖, given ``answer`` = a Wᵀ (r, O)."""
    a, b = part.a.detach(), part.b.detach()
    cross = (b * answer.T.to(b.dtype)).sum(1)
    own = ((b @ (a @ a.T)) * b).sum(1)
    return (squares + part.scale * (2 * cross + part.scale * own)).clamp_min(0).sqrt()
