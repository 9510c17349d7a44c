"""Signs and scales fitted to outputs: far nearer than signs and magnitudes; folding changes nothing."""

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from congling.core.errors import UserError
from congling.quant.config import OneBitConfig
from congling.quant.onebit_fit import Fit, fit, fold_columns
from support.training_doubles import CONTEXT, VOCABULARY, small_model


def realistic(outputs: int = 24, inputs: int = 48) -> tuple[Tensor, Tensor]:
    """Weights, and inputs of which some channels are large and most depend on others."""
    torch.manual_seed(0)
    spread = torch.randn(inputs).exp()
    x = torch.randn(2000, inputs // 3) @ torch.randn(inputs // 3, inputs) + 0.3 * torch.randn(2000, inputs)
    return torch.randn(outputs, inputs) / spread, x * spread


def _gram(x: Tensor) -> Tensor:
    return x.flatten(0, 1).double().T @ x.flatten(0, 1).double()


def error(weight: Tensor, matrix: Tensor, x: Tensor) -> float:
    return float((x.double() @ (matrix - weight.double()).T).square().sum())


def dense(found: Fit, share: Tensor | None = None) -> Tensor:
    columns = found.columns if share is None else found.columns[share]
    return found.signs * found.rows[:, None] * columns


@pytest.mark.parametrize("with_columns", [True, False])
def test_the_fit_loses_far_less_than_signs_and_mean_magnitudes(with_columns: bool):
    weight, x = realistic()
    signs = torch.where(weight < 0, -1.0, 1.0).double()
    magnitudes = error(weight, signs * weight.abs().mean(1, keepdim=True), x)
    found = fit(weight, x.T @ x, with_columns=with_columns)
    assert error(weight, dense(found), x) < 0.5 * magnitudes
    assert (found.rows >= 0).all() and (found.columns > 0).all() and found.signs.abs().eq(1).all()
    assert with_columns or torch.equal(found.columns, torch.ones(48).double())


def test_a_matrix_of_that_form_is_found_exactly():
    signs = torch.where(torch.rand(6, 16) < 0.5, -1.0, 1.0)
    weight = signs * (torch.rand(6, 1) + 0.2) * (torch.rand(16) + 0.2)
    x = torch.randn(300, 16)
    assert (dense(fit(weight, x.T @ x)) - weight).abs().max() < 1e-6


def test_columns_may_share_scales():
    share = torch.arange(4).repeat(12)
    weight, x = realistic()
    found = fit(weight, x.T @ x, share)
    assert found.columns.shape == (4,)
    alone = fit(weight, x.T @ x, with_columns=False)
    assert error(weight, dense(found, share), x) <= 1.05 * error(weight, dense(alone), x)


def test_dead_inputs_and_weights_give_numbers():
    weight, x = realistic()
    weight[3], x[:, 5] = 0, 0
    for gram in (x.T @ x, torch.zeros(48, 48)):
        found = fit(weight, gram)
        assert dense(found).isfinite().all() and dense(found)[3].abs().max() < 1e-6
    with pytest.raises(UserError, match="not finite"):
        fit(weight / 0, x.T @ x)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_folded_scales_of_columns_leave_a_model_what_it_computes(family: str):
    torch.manual_seed(0)
    model = small_model(family).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    tokens = torch.randint(0, VOCABULARY, (64, CONTEXT))
    wanted, before = model(tokens), [one.clone() for one in model.parameters()]
    places = {
        place: one for place, one in model.named_modules() if isinstance(one, nn.Linear) and "blocks" in place
    }
    for index in range(2):
        grams: dict[str, Tensor] = {}
        with contextlib.ExitStack() as hooks:
            for place, one in places.items():
                see: Any = lambda _, given, place=place: grams.update({place: _gram(given[0])})  # noqa: B023, E731
                hooks.callback(one.register_forward_pre_hook(see).remove)
            model(tokens)
        fold_columns(model, index, grams, OneBitConfig())
    torch.testing.assert_close(model(tokens), wanted, atol=1e-4, rtol=1e-4)
    assert sum(not torch.equal(*pair) for pair in zip(model.parameters(), before, strict=True)) >= 10


def test_mixtures_have_no_exportable_form():
    with pytest.raises(UserError, match="no exportable one-bit form"):
        fold_columns(small_model("qwen3-moe"), 0, {}, OneBitConfig())
    assert not fold_columns(small_model("qwen3-moe"), 0, {}, OneBitConfig(layer_norm=True))
