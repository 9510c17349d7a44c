"""GPTQ's inner loop: whole-number codes on a fixed grid, chosen column by column with error feedback.

::

    column j:   code = round((w + offset) / scale), clamped       error = (w - value) / U[j, j]
    columns behind j:   w -= error · U[j, behind]                 U: upper Cholesky factor of the inverse of H

The grid is fixed before the first code is chosen (static groups), so columns may be processed in any order:
those with the largest diagonal of H go first, and what they lose is made up for by the others.

Source: Frantar et al. 2022 (arXiv:2210.17323), with static groups as GPTQModel and llm-compressor have them.
"""

# O outputs, I inputs

from dataclasses import dataclass

import torch
from torch import Tensor

from congling.core.errors import UserError

_COLUMNS = 128
"""Columns whose errors are collected before they reach the rest, in one matrix multiplication."""
_MOST_DAMP = 1.0


@dataclass(frozen=True)
class Columns:
    """A grid for every weight: its value is ``scale · code - offset``, rounded to float32.

    Attributes:
        scale: (O, I); where it is 0, as in a block of zeros, the code is kept at ``kept``.
        offset: (O, I).
        lowest: smallest code.
        highest: largest code.
        kept: (O, I) codes to keep where the scale is 0.
    """

    scale: Tensor
    offset: Tensor
    lowest: int
    highest: int
    kept: Tensor

    def nearest(self, weight: Tensor, column: Tensor | list[int] | int | slice) -> Tensor:
        """Codes (as floats) of some columns: (O, …) float64."""
        scale, kept = self.scale[:, column], self.kept[:, column]
        found = ((weight + self.offset[:, column]) / scale).round_().clamp_(self.lowest, self.highest)
        return torch.where(scale == 0, kept.to(found.dtype), found)

    def value(self, codes: Tensor, column: Tensor | list[int] | int | slice) -> Tensor:
        """Float64 holding float32 values of the codes of some columns."""
        exact = self.scale[:, column] * codes - self.offset[:, column]
        return exact.float().double()

    def permuted(self, order: Tensor) -> "Columns":
        """The same with its columns in another order."""
        chosen = (part[:, order].contiguous() for part in (self.scale, self.offset, self.kept))
        scale, offset, kept = chosen
        return Columns(scale, offset, self.lowest, self.highest, kept)


def codes_with_feedback(
    weight: Tensor, gram: Tensor, columns: Columns, damp_percent: float
) -> tuple[Tensor, float]:
    """Codes (O, I) float64 of a weight (O, I), everything in float64; and the damping that was needed.

    Args:
        weight: what is to be approximated.
        gram: H, (I, I): 2/n · Σ xxᵀ over the layer's inputs, or any multiple of it.
        columns: the fixed grid.
        damp_percent: share of H's mean diagonal that is added to it; doubled until H can be inverted.

    Raises:
        UserError: weight or H are not finite.
    """
    if not (weight.isfinite().all() and gram.isfinite().all()):
        raise UserError("weights or statistics of inputs are not finite")
    order = gram.diagonal().argsort(descending=True, stable=True)
    factor, damp = inverse_factor(gram[order][:, order], damp_percent)
    left, grid = weight[:, order].clone(), columns.permuted(order)
    codes = torch.empty_like(left)
    for start in range(0, left.shape[1], _COLUMNS):
        end = min(start + _COLUMNS, left.shape[1])
        errors = torch.empty_like(left[:, start:end])
        for column in range(start, end):
            now = left[:, column]
            codes[:, column] = grid.nearest(now, column)
            error = (now - grid.value(codes[:, column], column)) / factor[column, column]
            left[:, column:end] -= error[:, None] * factor[column, column:end]
            errors[:, column - start] = error
        left[:, end:] -= errors @ factor[start:end, end:]
    return codes[:, order.argsort()], damp


def codes_by_descent(weight: Tensor, gram: Tensor, columns: Columns, codes: Tensor) -> Tensor:
    """Better codes (O, I) float64: every column in turn gets the best there are beside those of the others.

    So the error under H never rises (coordinate descent: QuantEase, Behdin et al. 2023, arXiv:2309.01885).

    Args:
        weight: what is to be approximated, (O, I) float64.
        gram: H, (I, I) float64.
        columns: the fixed grid.
        codes: those to begin with.
    """
    codes = codes.clone()
    slope = (weight - columns.value(codes, slice(None))) @ gram
    bend = gram.diagonal().clone()
    bend[bend <= 0] = 1.0
    for start in range(0, codes.shape[1], _COLUMNS):
        part = slice(start, min(start + _COLUMNS, codes.shape[1]))
        near, moved = slope[:, part].clone(), torch.zeros_like(slope[:, part])
        for place, column in enumerate(range(part.start, part.stop)):
            before = columns.value(codes[:, column], column)
            codes[:, column] = columns.nearest(before + near[:, place] / bend[column], column)
            moved[:, place] = columns.value(codes[:, column], column) - before
            near -= moved[:, place, None] * gram[column, part]
        slope -= moved @ gram[part]
    return codes


def output_error(weight: Tensor, values: Tensor, gram: Tensor) -> Tensor:
    """(O,) float64: how far outputs are off on the text that ``gram`` was gathered from, mean square · 2."""
    off = weight.double() - values.double()
    return ((off @ gram) * off).sum(1)


def inverse_factor(gram: Tensor, damp_percent: float) -> tuple[Tensor, float]:
    """Upper Cholesky factor of the inverse of H (I, I) with damping, and how much of it was needed; inputs
    that were never active get the mean diagonal, and so neither give nor take errors.

    Raises:
        UserError: H cannot be inverted however much it is damped.
    """
    damped = gram.clone()
    diagonal = gram.diagonal().clone()
    dead = diagonal <= 0
    mean = 1.0 if dead.all() else float(diagonal[~dead].mean())
    diagonal[dead] = mean
    damp = damp_percent
    while True:
        damped.diagonal().copy_(diagonal + damp * mean)
        found, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            found = torch.cholesky_inverse(found)
            upper, failed = torch.linalg.cholesky_ex(found, upper=True)
            if not failed:
                return upper, damp
        if damp > _MOST_DAMP:
            raise UserError("the statistics of a layer's inputs cannot be inverted")
        damp = max(2 * damp, 1e-4)
