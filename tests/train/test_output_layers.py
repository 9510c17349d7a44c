"""The loss over an output layer that is packed or adapted equals that over the dense matrix it stands for."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from congling.quant import ggml
from congling.quant.frozen import PIECE_VALUES
from congling.quant.packed import PackedEmbedding, PackedLinear
from congling.train.objectives import chunks, packed_cross_entropy
from congling.train.objectives.cross_entropy import linear_cross_entropy
from congling.transform.adapted import AdaptedEmbedding, AdaptedLinear
from congling.transform.adapter import Factors

WEIGHTS = {"all": None, "some": torch.tensor([0.0, 1.0, 0.5, 0.0, 2.0] * 8), "none": torch.zeros(40)}


def packed(
    kind: type[PackedLinear] | type[PackedEmbedding], size: float = 1.0
) -> PackedLinear | PackedEmbedding:
    """A matrix (120, 64), in pieces of 7 rows."""
    values = np.random.default_rng(0).standard_normal((120, 64)).astype(np.float32)
    return kind(ggml.encode(values * size, "Q8_0"), "Q8_0")


def plain(hidden: Tensor, matrix: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """The loss from all logits at once."""
    losses = cross_entropy((hidden @ matrix.T).flatten(0, -2), targets.flatten(), reduction="none")
    return (losses if weights is None else losses * weights.flatten()).sum()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chunks, "LAYER_CHUNK", chunks.ChunkSize({"cpu": 1}, 16))
    monkeypatch.setattr(packed_cross_entropy, "_POSITIONS", 16)
    monkeypatch.setitem(PIECE_VALUES, "cpu", 450)
    torch.manual_seed(0)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("kind", [PackedLinear, PackedEmbedding])
@pytest.mark.parametrize("size", [0.1, 30.0])
def test_packed(kind: type, weights: str, size: float):
    """Also where scores are in the thousands and rise far beyond those of the first rows."""
    layer, each = packed(kind, size), WEIGHTS[weights]
    hidden = torch.randn(2, 20, 64, requires_grad=True)
    targets = torch.randint(0, 120, (2, 20))
    each = None if each is None else each.view(2, 20)
    results = []
    for loss in (
        linear_cross_entropy(hidden, layer, targets, each),
        plain(hidden, layer.dense(), targets, each),
    ):
        results.append((loss, *torch.autograd.grad(loss * 0.3, hidden)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * max(1.0, size))
    with torch.no_grad():
        torch.testing.assert_close(linear_cross_entropy(hidden, layer, targets, each), results[0][0])


@pytest.mark.parametrize("base", ["dense", "packed"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_adapted(base: str, tied: bool, weights: str):
    kind, wrapper = (PackedEmbedding, AdaptedEmbedding) if tied else (PackedLinear, AdaptedLinear)
    layer, each = packed(kind), WEIGHTS[weights]
    dense = layer.dense()
    if base == "dense":
        layer = nn.Embedding.from_pretrained(dense) if tied else nn.Linear(64, 120, bias=False)
        layer.weight = nn.Parameter(dense, requires_grad=False)
    outer = wrapper(layer)
    outer.add("mine", Factors(torch.randn(3, 64), torch.randn(120, 3), 0.5), train=True)
    a, b = outer.a["mine"], outer.b["mine"]
    hidden, targets = torch.randn(40, 64, requires_grad=True), torch.randint(0, 120, (40,))
    results = []
    for loss in (
        linear_cross_entropy(hidden, outer, targets, each),
        plain(hidden, dense + 0.5 * b @ a, targets, each),
    ):
        results.append((loss, *torch.autograd.grad(loss, (hidden, a, b))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
