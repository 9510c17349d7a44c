"""GPTQ against known answers: where it must be round to nearest, and where it must be better."""

import pytest
import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.quant.config import GptqConfig
from congling.quant.feedback import output_error
from congling.quant.gptq import columns_of, gptq
from congling.quant.grid import Grid
from congling.quant.rtn import round_to_nearest


def case(outputs: int = 12, inputs: int = 160, tokens: int = 600) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=draw)
    mixing = torch.eye(inputs) + 0.3 * torch.randn(inputs, inputs, generator=draw)
    x = (torch.randn(tokens, inputs, generator=draw) @ mixing).double()
    return weight, 2 / tokens * x.T @ x


def lost(weight: Tensor, codes: Tensor, grid: Grid, gram: Tensor) -> float:
    return float(output_error(weight, grid.value(codes), gram).sum())


@pytest.mark.parametrize("sym", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_inputs_that_are_independent_give_round_to_nearest(bits: int, sym: bool):
    weight, _ = case()
    config = GptqConfig(bits=bits, group_size=32, sym=sym)  # type: ignore[arg-type]
    codes, grid = round_to_nearest(weight, config)
    found = gptq(weight, 3.5 * torch.eye(160, dtype=torch.float64), config)
    assert torch.equal(found.codes, codes) and torch.equal(found.grid.scales, grid.scales)
    heavy = gptq(weight, case()[1], config, damp_percent=1e9)  # damping drowns what inputs say
    assert torch.equal(heavy.codes, codes)


@pytest.mark.parametrize(("bits", "group_size", "most"), [(4, -1, 0.6), (4, 32, 0.6), (3, 32, 0.6)])
def test_outputs_are_nearer_than_with_nearest_codes(bits: int, group_size: int, most: float):
    weight, gram = case()
    config = GptqConfig(bits=bits, group_size=group_size)  # type: ignore[arg-type]
    codes, grid = round_to_nearest(weight, config)
    found = gptq(weight, gram, config)
    assert found.damp_percent == 0.01
    assert lost(weight, found.codes, found.grid, gram) < most * lost(weight, codes, grid, gram)


def naive(weight: Tensor, gram: Tensor, grid: Grid, damp: float) -> Tensor:
    """Optimal brain quantisation as its paper has it: after each column the inverse loses that column."""
    order = gram.diagonal().argsort(descending=True, stable=True).tolist()
    eye = torch.eye(len(gram), dtype=torch.float64)
    inverse = torch.linalg.inv(gram + damp * gram.diagonal().mean() * eye)
    left, codes = weight.double().clone(), torch.zeros_like(weight, dtype=torch.uint8)
    columns = columns_of(grid, codes)
    for column in order:
        codes[:, column] = columns.nearest(left, slice(None))[:, column].to(torch.uint8)
        error = (left[:, column] - columns.value(codes[:, column].double(), column)) / inverse[column, column]
        left -= error[:, None] * inverse[column]
        inverse -= inverse[:, [column]] @ inverse[[column]] / inverse[column, column]
    return codes


def test_it_is_the_naive_loop():
    weight, gram = case()
    config = GptqConfig(bits=4, group_size=32)
    found = gptq(weight, gram, config)
    expected = naive(weight, gram, found.grid, 0.01)
    assert found.nearest_rows == 0 and torch.equal(found.codes, expected)


def test_permuted_inputs_give_permuted_codes():
    weight, gram = case()
    order = torch.randperm(160, generator=torch.Generator().manual_seed(1))
    config = GptqConfig(bits=4, group_size=-1)
    found = gptq(weight, gram, config)
    other = gptq(weight[:, order], gram[order][:, order], config)
    assert torch.equal(other.codes, found.codes[:, order])


def test_a_column_twice_repairs_itself():
    weight, _ = case(inputs=40)
    gram = torch.eye(40, dtype=torch.float64)
    gram[3, 4] = gram[4, 3] = 1.0  # the same input
    config = GptqConfig(bits=3, group_size=-1, damp_percent=1e-6)
    codes, grid = round_to_nearest(weight, config)
    found = gptq(weight, gram, config)
    pair = gram.clone()
    pair[5:] = pair[:3] = 0
    assert lost(weight, found.codes, grid, pair) < 0.8 * lost(weight, codes, grid, pair)
    others = [column for column in range(40) if column not in (3, 4)]
    assert torch.equal(found.codes[:, others], codes[:, others])


@pytest.mark.parametrize("tokens", [1, 3, 20])
def test_few_and_equal_samples_lose_to_nothing_and_say_the_damp(tokens: int):
    weight, _ = case()
    x = torch.randn(1, 160, generator=torch.Generator().manual_seed(2)).double().repeat(tokens, 1)
    gram = 2 / tokens * x.T @ x
    config = GptqConfig(bits=3, group_size=32, damp_percent=1e-15)
    codes, grid = round_to_nearest(weight, config)
    found = gptq(weight, gram, config)
    assert found.damp_percent > 1e-15
    assert torch.isfinite(found.grid.value(found.codes)).all()
    assert lost(weight, found.codes, found.grid, gram) <= lost(weight, codes, grid, gram)


def test_dead_inputs_keep_their_nearest_codes():
    weight, gram = case()
    gram[:, 5] = gram[5] = 0
    config = GptqConfig(bits=4, group_size=32)
    codes, _ = round_to_nearest(weight, config)
    assert torch.equal(gptq(weight, gram, config).codes[:, 5], codes[:, 5])
    nothing = gptq(weight, torch.zeros_like(gram), config)
    assert torch.equal(nothing.codes, codes)


def test_what_is_not_finite_is_refused():
    weight, gram = case()
    with pytest.raises(UserError, match="of inputs are not finite"):
        gptq(weight, gram * torch.nan, GptqConfig())
    weight[0, 0] = torch.inf
    with pytest.raises(UserError, match="not finite"):
        gptq(weight, gram, GptqConfig())
