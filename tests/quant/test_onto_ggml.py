"""GPTQ's codes in ggml's blocks: layouts to the bit, errors that only fall, blocks that are left alone."""

import numpy as np
import pytest
import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.quant import ggml
from congling.quant.feedback import output_error
from congling.quant.layouts import layout_of
from congling.quant.onto_ggml import onto_ggml

TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
ROWS, INPUTS = 8, 512


def case() -> tuple[Tensor, Tensor]:
    """A weight, and H of inputs that are correlated and of very different size."""
    draw = np.random.default_rng(0)
    weight = draw.standard_normal((ROWS, INPUTS)) * 0.05
    sizes = np.exp(draw.standard_normal(INPUTS))
    x = (
        draw.standard_normal((900, INPUTS))
        @ (np.eye(INPUTS) + 0.05 * draw.standard_normal((INPUTS, INPUTS)))
        * sizes
    )
    return torch.from_numpy(weight.astype(np.float32)), torch.from_numpy(2 / len(x) * x.T @ x)


def encoded(weight: Tensor, gram: Tensor, type: str) -> Tensor:
    pytest.importorskip("xllamacpp")
    return torch.from_numpy(ggml.encode(weight.numpy(), type, gram.diagonal().float().numpy()))


def errors(weight: Tensor, gram: Tensor, raw: Tensor, type: str) -> Tensor:
    return output_error(weight, torch.from_numpy(ggml.decode(raw.numpy(), type)), gram)


@pytest.mark.parametrize("type", TYPES)
def test_codes_and_grid_are_what_ggml_decodes_to_the_bit(type):
    weight, gram = case()
    raw, layout = encoded(weight, gram, type), layout_of(type)
    assert layout is not None
    blocks = raw.view(ROWS, -1, ggml.TYPES[type].bytes)
    codes = layout.codes(blocks).flatten(1)
    values = layout.columns(blocks).value(codes.double(), slice(None))
    assert np.array_equal(values.float().numpy(), ggml.decode(raw.numpy(), type))
    assert torch.equal(layout.put(blocks, codes), blocks)
    drawn = torch.randint(0, layout.highest + 1, codes.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layout.codes(layout.put(blocks, drawn)).flatten(1).long(), drawn)


@pytest.mark.parametrize("type", TYPES)
def test_same_size_and_nearer_outputs_than_ggmls_with_an_importance_matrix(type):
    weight, gram = case()
    raw = encoded(weight, gram, type)
    found = onto_ggml(weight, raw, type, gram)
    assert found.shape == raw.shape and found.dtype == torch.uint8
    before, after = (errors(weight, gram, each, type) for each in (raw, found))
    assert (after <= before).all()
    assert after.sum() < 0.6 * before.sum()
    assert torch.equal(onto_ggml(weight, raw, type, gram), found)


def test_inputs_that_say_nothing_leave_the_nearest_codes_or_better():
    weight, _ = case()
    gram = torch.eye(INPUTS).double()
    raw = encoded(weight, gram, "Q4_0")
    found = onto_ggml(weight, raw, "Q4_0", gram)
    assert (errors(weight, gram, found, "Q4_0") <= errors(weight, gram, raw, "Q4_0")).all()


def test_zeros_and_dead_inputs_stay_and_nothing_is_made_of_them():
    weight, gram = case()
    weight[2], weight[:, 64:96] = 0, 0
    gram[100:140], gram[:, 100:140] = 0, 0
    for type in ("Q4_0", "Q4_K", "Q2_K"):
        raw = encoded(weight, gram + 1e-6, type)
        found = ggml.decode(onto_ggml(weight, raw, type, gram).numpy(), type)
        assert np.isfinite(found).all()
        assert (found[2] == 0).all()


def test_codebooks_are_left_alone_and_what_is_not_finite_is_refused():
    weight, gram = case()
    raw = encoded(weight, gram, "IQ4_NL")
    assert onto_ggml(weight, raw, "IQ4_NL", gram) is raw
    gram[0, 0] = torch.nan
    with pytest.raises(UserError, match="finite"):
        onto_ggml(weight, encoded(weight, torch.eye(INPUTS), "Q4_0"), "Q4_0", gram)
