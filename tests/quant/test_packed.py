"""Packed layers: the same values, products and gradients as the dense matrix they stand for."""

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from congling.core.errors import UserError
from congling.quant import frozen, ggml, library
from congling.quant.packed import PackedEmbedding, PackedLinear
from congling.quant.unpack import unpack

BY_PACKAGE = ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "TQ1_0")
BY_KERNEL = ("Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "IQ4_NL", "IQ4_XS")


def blocks(type: str, rows: int = 6, values: int = 512) -> np.ndarray:
    if type in BY_KERNEL and not library.available():
        pytest.skip("encoded by llama.cpp's kernels, which are not installed")
    numbers = np.random.default_rng(0).standard_normal((rows, values)).astype(np.float32)
    return ggml.encode(numbers, type)


@pytest.mark.parametrize("type", BY_PACKAGE + BY_KERNEL)
def test_values_are_those_of_the_reference_to_the_last_bit(type: str):
    sensible = blocks(type)
    wild = np.random.default_rng(1).integers(0, 256, sensible.shape, dtype=np.uint8)
    for raw in (sensible, wild):  # any bytes are some values
        expected = ggml.decode(raw, type)
        found = unpack(torch.from_numpy(raw), type, torch.empty(expected.shape)).numpy()
        same = (found.view(np.int32) == expected.view(np.int32)) | (np.isnan(found) & np.isnan(expected))
        assert same.all()


@pytest.mark.parametrize("type", ["F32", "F16", "Q8_0", "Q5_1", "Q4_K", "Q2_K"])
@pytest.mark.parametrize("heads", [None, 2])
def test_products_and_gradients_are_those_of_the_dense_matrix(
    type: str, heads: int | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(frozen.PIECE_VALUES, "cpu", 1500)  # two rows in a piece
    raw, bias = blocks(type, rows=12), torch.randn(12)
    order = np.arange(12).reshape(2, 3, 2).swapaxes(1, 2).ravel() if heads else None
    layer = PackedLinear(raw, type, bias, order=order)
    dense = nn.Linear(512, 12)
    with torch.no_grad():
        rows = torch.from_numpy(ggml.decode(raw, type))
        if heads:  # from 0 3 1 4 2 5 of each head
            rows = rows.view(2, 3, 2, 512).transpose(1, 2).reshape(12, 512)
        dense.weight.copy_(rows)
        dense.bias.copy_(bias)
    assert torch.equal(layer.dense(), dense.weight)
    x = torch.randn(2, 3, 512, requires_grad=True)
    results = []
    for module in (layer, dense):
        y = module(x)
        results.append((y, *torch.autograd.grad(y.sin().sum(), x)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)
    assert not list(layer.parameters()) and not layer.state_dict()


def test_an_embedding_unpacks_the_rows_asked_for_and_scores_with_all():
    raw = blocks("Q8_0", rows=20, values=64)
    table, tokens = torch.from_numpy(ggml.decode(raw, "Q8_0")), torch.tensor([[3, 3, 19], [0, 7, 3]])
    layer = PackedEmbedding(raw, "Q8_0")
    assert torch.equal(layer(tokens), table[tokens])
    hidden = torch.randn(2, 64)
    torch.testing.assert_close(layer.logits(hidden), hidden @ table.T)


def test_products_in_half_precision_where_training_asks_for_it():
    layer = PackedLinear(blocks("Q8_0"), "Q8_0")
    x = torch.randn(4, 512, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16 and x.grad is not None and x.grad.dtype == torch.float32
    torch.testing.assert_close(y.float(), x @ layer.dense().T, atol=0.3, rtol=0.05)


def test_no_more_than_a_piece_is_ever_float32():
    """64 MB of values: forward and backward together must do with far less."""
    layer = PackedLinear(ggml.encode(np.zeros((4096, 4096), np.float32), "Q8_0"), "Q8_0")
    x = torch.randn(8, 4096, requires_grad=True)
    layer(x).sum().backward()  # products have their own buffers
    before = psutil.Process().memory_info().rss
    peaks = []
    handle = layer.register_forward_hook(lambda *_: peaks.append(psutil.Process().memory_info().rss))
    layer(x).sum().backward()
    handle.remove()
    peaks.append(psutil.Process().memory_info().rss)
    assert max(peaks) - before < 8 * 2**20


def test_a_layer_used_in_inference_first_can_be_trained_through():
    frozen._scratches.__dict__.clear()  # as in a fresh process
    layer = PackedLinear(blocks("Q8_0"), "Q8_0")
    with torch.inference_mode():
        layer(torch.randn(2, 512))
    x = torch.randn(2, 512, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None


def test_a_type_that_cannot_be_decoded_is_refused_when_the_layer_is_made():
    with pytest.raises(UserError, match="IQ9_X"):
        PackedLinear(np.zeros((1, 8), np.uint8), "IQ9_X")
