"""GPTQ's loop against known answers: the naive loop, statistics that say nothing, inputs that repeat."""

import pytest
import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.quant.feedback import Columns, codes_with_feedback, inverse_factor


def grid(weight: Tensor, step: float = 0.1) -> Columns:
    like = torch.ones_like(weight)
    return Columns(step * like, 0.3 * like, 0, 6, torch.full_like(weight, 3.0))


def case(outputs: int = 6, inputs: int = 300, tokens: int = 900) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=draw, dtype=torch.float64) * 0.1
    mixed = torch.randn(inputs, inputs, generator=draw, dtype=torch.float64) * 0.05 + torch.eye(inputs)
    x = torch.randn(tokens, inputs, generator=draw, dtype=torch.float64) @ mixed
    return weight, 2 / tokens * x.T @ x, x


def naive(weight: Tensor, gram: Tensor, columns: Columns, damp: float) -> Tensor:
    """One column after another, everything behind it updated at once."""
    order = gram.diagonal().argsort(descending=True, stable=True)
    factor, left = inverse_factor(gram[order][:, order], damp)[0], weight[:, order].clone()
    codes = torch.empty_like(weight)
    for place, column in enumerate(order.tolist()):
        codes[:, column] = columns.nearest(left[:, place], column)
        error = (left[:, place] - columns.value(codes[:, column], column)) / factor[place, place]
        left[:, place:] -= error[:, None] * factor[place, place:]
    return codes


def lost(weight: Tensor, codes: Tensor, columns: Columns, x: Tensor) -> float:
    return float(((weight - columns.value(codes, slice(None))) @ x.T).square().sum())


def test_blocks_of_columns_are_what_one_by_one_gives():
    weight, gram, _ = case()
    assert torch.equal(
        codes_with_feedback(weight, gram, grid(weight), 0.01)[0], naive(weight, gram, grid(weight), 0.01)
    )


def test_inputs_that_are_independent_give_the_nearest_codes():
    weight, _, _ = case()
    columns = grid(weight)
    nearest = columns.nearest(weight, slice(None))
    assert torch.equal(codes_with_feedback(weight, torch.eye(300).double(), columns, 0.0)[0], nearest)
    assert not torch.equal(codes_with_feedback(weight, case()[1], columns, 0.01)[0], nearest)


def test_the_layers_output_is_nearer_than_with_the_nearest_codes():
    weight, gram, x = case()
    columns = grid(weight)
    found = lost(weight, codes_with_feedback(weight, gram, columns, 0.01)[0], columns, x)
    assert found < 0.7 * lost(weight, columns.nearest(weight, slice(None)), columns, x)


def test_a_repeated_input_repairs_the_first_ones_error():
    weight, _, x = case(inputs=2)
    x = x[:, [0, 0]]
    codes = codes_with_feedback(weight, 2 / len(x) * x.T @ x, grid(weight), 1e-6)[0]
    columns = grid(weight)
    assert lost(weight, codes, columns, x) < lost(weight, columns.nearest(weight, slice(None)), columns, x)


def test_dead_inputs_and_empty_blocks_keep_what_they_have():
    weight, gram, _ = case(inputs=40)
    columns, dead = grid(weight), [3, 7]
    gram[dead], gram[:, dead] = 0, 0
    columns.scale[:, 5] = 0
    codes = codes_with_feedback(weight, gram, columns, 0.01)[0]
    assert torch.equal(codes[:, dead], columns.nearest(weight[:, dead], dead))
    assert (codes[:, 5] == 3).all() and codes.isfinite().all()


def test_few_samples_are_damped_and_what_is_not_finite_is_refused():
    weight, _, x = case(inputs=50, tokens=3)
    codes, damp = codes_with_feedback(weight, x.T @ x, grid(weight), 0.0)
    assert codes.isfinite().all() and damp > 0
    with pytest.raises(UserError, match="finite"):
        codes_with_feedback(weight, torch.full((50, 50), torch.nan).double(), grid(weight), 0.01)
