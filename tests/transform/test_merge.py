"""Merging: the sum of weights and factors, tensor by tensor, refused where they do not fit."""

from collections.abc import Mapping

import pytest
import torch

from congling.core.errors import UserError
from congling.transform.adapter import Adapter, Factors
from congling.transform.merge import merged

WEIGHTS = {"up.weight": torch.randn(6, 4), "norm.weight": torch.randn(4), "down.weight": torch.randn(4, 6)}
FIRST = Adapter({"up.weight": Factors(torch.randn(2, 4), torch.randn(6, 2), 2.0)}, {"name": "first"})
SECOND = Adapter(
    {
        "up.weight": Factors(torch.randn(3, 4), torch.randn(6, 3), 0.5),
        "norm.weight": Factors(torch.randn(1, 1), torch.randn(4, 1)),
    }
)


class Counted(Mapping):
    """Weights that count how often each is read."""

    def __init__(self):
        self.read = []

    def __getitem__(self, name):
        self.read.append(name)
        return WEIGHTS[name]

    def __iter__(self):
        return iter(WEIGHTS)

    def __len__(self):
        return len(WEIGHTS)


def test_adapters_add_up_at_their_strengths():
    found = merged(WEIGHTS, [(FIRST, 0.4), (SECOND, -1.5)])
    delta = 0.4 * FIRST.factors["up.weight"].delta() - 1.5 * SECOND.factors["up.weight"].delta()
    assert torch.allclose(found["up.weight"], WEIGHTS["up.weight"] + delta, atol=1e-6)
    gain = SECOND.factors["norm.weight"].delta().squeeze(1)
    assert torch.allclose(found["norm.weight"], WEIGHTS["norm.weight"] - 1.5 * gain, atol=1e-6)
    assert found["down.weight"] is WEIGHTS["down.weight"]
    assert list(found) == list(WEIGHTS)


def test_the_base_is_read_when_asked_for_and_never_changed():
    base, before = Counted(), {name: weight.clone() for name, weight in WEIGHTS.items()}
    found = merged(base, [(FIRST, 1.0)])
    assert base.read == []
    assert not torch.equal(found["up.weight"], before["up.weight"])
    assert base.read == ["up.weight"]
    assert all(torch.equal(WEIGHTS[name], weight) for name, weight in before.items())


def test_strength_0_changes_no_bit_and_half_precision_is_merged_in_single():
    assert merged(WEIGHTS, [(FIRST, 0.0)])["up.weight"] is WEIGHTS["up.weight"]
    found = merged({"up.weight": WEIGHTS["up.weight"].half()}, [(FIRST, 1.0)])["up.weight"]
    assert found.dtype == torch.float32
    assert torch.allclose(found, WEIGHTS["up.weight"].half().float() + FIRST.factors["up.weight"].delta())


@pytest.mark.parametrize(
    ("weights", "strength", "word"),
    [
        ({"down.weight": WEIGHTS["down.weight"]}, 1.0, "another base"),
        ({"up.weight": WEIGHTS["down.weight"]}, 1.0, "another base"),
        (WEIGHTS, float("nan"), "finite"),
    ],
)
def test_what_does_not_fit_is_refused(weights, strength, word):
    with pytest.raises(UserError, match=word):
        dict(merged(weights, [(FIRST, strength)]))
