"""Signs and scales of matrices that read one tensor, chosen for what the matrices put out.

::

    ‖(W - g hᵀ ⊙ S) X‖²     H = X Xᵀ (gram)

    S   column by column, what a sign loses repaired by the columns behind it (GPTQ on the grid -g h, g h)
    g   a quotient for every row, given S and h
    h   one system of linear equations, given S and g

The three are taken in turn, from SVID (OneBit, Xu et al. 2024): the signs of W, and the best g hᵀ for |W|.
SVID alone loses hardly less than one magnitude a row on models of a few million weights; the fit a tenth.

In the exportable form layers have no column scales: matrices that read one tensor share them, and they are
folded into what makes it (``folding.py``), the gain of a norm or the rows of the linear layer before. What
is left is ±g in each row, which GGUF's TQ2_0 and TQ1_0 hold exactly. Where nothing can take them (behind
GELU, or where no norm stands before) they are 1.
"""

# O outputs of all matrices together, I inputs, S scales of columns (as many, or fewer: columns may share one)

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.model.transformer import Transformer
from congling.quant.config import OneBitConfig
from congling.quant.feedback import Columns, codes_with_feedback
from congling.quant.folding import Unfoldable, fold, foldings
from congling.quant.onebit import OneBitLinear, pack_signs, svid

_TURNS = 2
"""How often signs are chosen again for the scales that fit them."""
_STEPS = 10
"""Alternations of row and column scales."""
_DAMP = 1e-2
_TINY = 1e-30
_LEAST = 1e-3
"""A column scale is at least this share of their root mean square: a norm is multiplied by it."""


@dataclass(frozen=True)
class Fit:
    """W as signs times g hᵀ."""

    signs: Tensor
    """(O, I) float64 of -1 and 1."""
    rows: Tensor
    """(O,) float64, g; not negative."""
    columns: Tensor
    """(S,) float64, h; above 0, of mean square 1."""


def layer_of(weight: Tensor, bias: Tensor | None, gram: Tensor, config: OneBitConfig) -> OneBitLinear:
    """A one-bit layer that puts out what the matrix (O, I) does, as nearly as that goes.

    Args:
        weight: of the layer.
        bias: (O,) or None.
        gram: (I, I) mean of x xᵀ over its inputs, or any multiple of it.
        config: the paper's form or the exportable one.

    Raises:
        UserError: weights or statistics that are not finite, or scales beyond float16.
    """
    found = fit(weight, gram, with_columns=config.layer_norm)
    columns = found.columns.half() if config.layer_norm else None
    return OneBitLinear(pack_signs(found.signs), found.rows.half(), columns, bias, inputs=weight.shape[1])


@torch.no_grad()
def fold_columns(
    model: Transformer, index: int, grams: Mapping[str, Tensor], config: OneBitConfig
) -> tuple[str, ...]:
    """Before a block is put in one bit in the exportable form, fold the columns' scales into what makes them.

    The block still computes the same.

    Args:
        model: its linear layers still dense.
        index: of the block.
        grams: (I, I) of the inputs of its linear layers, by place.
        config: the form; in the paper's nothing is folded.

    Raises:
        UserError: a mixture of experts, or values that are not finite.
    """
    if config.layer_norm:
        return ()
    if model.config.mlp_of(index).kind == "moe":
        what, hint = "a mixture of experts has no exportable one-bit form", "layer_norm=true is the paper's"
        raise UserError(what, value="layer_norm=false", hint=hint)
    notes = []
    for tensor in foldings(model.config, index):
        if isinstance(tensor, Unfoldable):
            notes.append(f"{', '.join(tensor.readers)}: columns without scales ({tensor.reason})")
            continue
        rows = torch.cat([model.get_parameter(f"{place}.weight") for place in tensor.readers])
        share = tensor.columns(torch.arange(tensor.size))
        found = fit(rows, grams[tensor.readers[0]], share)
        fold(model, tensor, 1 / found.columns)
    return tuple(notes)


def fit(weight: Tensor, gram: Tensor, share: Tensor | None = None, *, with_columns: bool = True) -> Fit:
    """Signs and scales of the matrix (O, I).

    Args:
        weight: rows of all matrices that read the tensor.
        gram: (I, I) mean of x xᵀ over their inputs, or any multiple of it.
        share: (I,) which of the S scales each column has; by default its own.
        with_columns: whether columns have scales; otherwise they are 1.

    Raises:
        UserError: weights or statistics that are not finite.
    """
    exact = weight.detach().double().cpu()
    if not exact.isfinite().all():
        raise UserError("weights that are not finite cannot be quantised")
    share = torch.arange(exact.shape[1]) if share is None else share
    signs = torch.where(exact < 0, -1.0, 1.0).double()
    start = Fit(signs, *_of_magnitudes(exact, share, with_columns))
    gram = gram.double().cpu()
    gram = gram + _DAMP * gram.diagonal().mean().clamp_min(_TINY) * torch.eye(len(gram), dtype=gram.dtype)
    found = _scaled(exact, gram, share, start, with_columns)
    for _ in range(_TURNS):
        reach = found.rows[:, None] * found.columns[share]
        grid = Columns(2 * reach, reach, 0, 1, (found.signs > 0).to(torch.uint8))
        signs = 2 * codes_with_feedback(exact, gram, grid, _DAMP)[0] - 1
        found = _scaled(exact, gram, share, Fit(signs, found.rows, found.columns), with_columns)
    return found


def _of_magnitudes(weight: Tensor, share: Tensor, with_columns: bool) -> tuple[Tensor, Tensor]:
    """SVID; of columns that share a scale the mean magnitude counts."""
    count = int(share.max()) + 1
    if not with_columns:
        return weight.abs().mean(1), weight.new_ones(count)
    sizes = torch.bincount(share, minlength=count).double()
    means = torch.zeros(len(weight), count, dtype=weight.dtype).index_add_(1, share, weight.abs()) / sizes
    rows, columns = svid(means)
    return rows.double(), columns.double()


def _scaled(weight: Tensor, gram: Tensor, share: Tensor, start: Fit, with_columns: bool) -> Fit:
    """The scales that fit the signs best, from where they are: least squares by turns."""
    signs, rows, columns = start.signs, start.rows, start.columns
    wanted = weight @ gram  # (O, I)
    for _ in range(_STEPS if with_columns else 1):
        if with_columns:
            scaled = signs * rows[:, None]
            system = _shared(_shared(gram * (scaled.T @ scaled), share, len(columns)).T, share, len(columns))
            target = _shared((scaled * wanted).sum(0)[:, None], share, len(columns))
            ridge = 1e-9 * system.diagonal().mean().clamp_min(_TINY)
            columns = torch.linalg.solve(system + ridge * torch.eye(len(system)).double(), target)[:, 0]
        seen = signs * columns[share]
        rows = (seen * wanted).sum(1) / ((seen @ gram) * seen).sum(1).clamp_min(_TINY)
    return _positive(Fit(signs, rows, columns), share)


def _shared(rows: Tensor, share: Tensor, count: int) -> Tensor:
    """Sums of the rows that share a scale: (I, …) -> (S, …)."""
    if count == len(rows):
        return rows
    return rows.new_zeros(count, *rows.shape[1:]).index_add_(0, share, rows)


def _positive(found: Fit, share: Tensor) -> Fit:
    """The same with scales that are not negative: their signs go into the signs."""
    rows, columns = (torch.where(each < 0, -1.0, 1.0).double() for each in (found.rows, found.columns))
    length = found.columns.square().mean().sqrt()
    length = length if length > 0 else length + 1
    return Fit(
        found.signs * rows[:, None] * columns[share],
        found.rows.abs() * length,
        (found.columns.abs() / length).clamp_min(_LEAST),
    )
