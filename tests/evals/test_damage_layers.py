"""One layer at a time, one matrix at a time: known answers on models of which one part was changed."""

import copy

import numpy as np
import pytest
import torch

from congling.evals.damage import held_out_rows, token_damage
from congling.evals.damage_layers import comparable, layer_damage
from congling.infer.checkpoints import Loaded
from support.noisy import loaded, split


def changed(base: Loaded, **weights: float) -> Loaded:
    """A copy of which some matrices are multiplied by a number."""
    model = copy.deepcopy(base.model)
    with torch.no_grad():
        for name, factor in weights.items():
            model.get_parameter(name.replace("__", ".")).mul_(factor)
    return Loaded(model, base.tokenizer, base.checkpoint)


@pytest.fixture(scope="module")
def text():
    return held_out_rows(split(), 16, limit_tokens=10_000)


@pytest.fixture(scope="module")
def base():
    return loaded()


def test_only_the_block_that_was_changed_has_damage(base, text):
    other = changed(base, blocks__1__mlp__down__weight=1.1)
    found = layer_damage(base, other, text.rows)
    assert [layer.name for layer in found.layers] == ["embedding", "block 1", "block 2", "output"]
    by_name = {layer.name: layer for layer in found.layers}
    assert by_name["embedding"].kl == by_name["block 1"].kl == by_name["output"].kl == 0
    assert by_name["block 2"].kl == pytest.approx(found.whole)
    assert by_name["block 1"].error == 0
    assert 0 < (by_name["block 2"].error or 0) < 0.02
    assert found.whole == pytest.approx(float(token_damage(base, other, text).kl.mean()))
    matrices = {one.name: one for one in found.matrices}
    down = matrices["1.mlp.down"]
    assert (down.weight_error, down.output_error) == pytest.approx((0.01, 0.01), rel=1e-4)
    untouched = [one for one in found.matrices if one is not down]
    assert {one.weight_error for one in untouched} == {0.0}
    assert {one.output_error for one in untouched} == {0.0, None}
    assert not found.folded


def test_a_tied_embedding_hurts_where_text_goes_in_and_where_it_comes_out(base, text):
    found = layer_damage(base, loaded(noise=0.0), text.rows)
    assert found.total == 0
    other = changed(base, embedding__weight=1.2)
    parts = {layer.name: layer.kl for layer in layer_damage(base, other, text.rows).layers}
    assert parts["output"] > 0
    assert parts["embedding"] > 0
    assert parts["block 1"] == parts["block 2"] == 0


def test_scales_folded_into_a_norm_are_noticed_and_harm_no_block(base, text):
    """The MLP's norm times 4, what reads it divided by 4: the function stays, matrices do not compare."""
    other = changed(
        base,
        blocks__0__mlp_norm__weight=4.0,
        blocks__0__mlp__gate__weight=0.25,
        blocks__0__mlp__up__weight=0.25,
    )
    found = layer_damage(base, other, text.rows)
    assert found.folded
    assert found.total < 1e-9
    assert all(one.output_error is None for one in found.matrices)
    assert all(one.weight_error is None for one in found.matrices if one.name != "embedding")


def test_outlier_channels_are_counted(base, text):
    other = changed(base, blocks__0__mlp_norm__weight=1.0)
    with torch.no_grad():
        for one in (other, grown := changed(other)):
            one.model.blocks[0].mlp_norm.weight[3] = 400.0
    found = {one.name: one for one in layer_damage(other, grown, text.rows).matrices}
    assert found["0.mlp.gate"].outliers == 1
    assert (found["0.mlp.gate"].outlier_ratio or 0) > 10
    assert found["1.mlp.gate"].outliers == 0


def test_models_of_another_shape_have_no_layers_to_swap(base):
    assert comparable(base.model, copy.deepcopy(base.model))
    fewer = copy.deepcopy(base.model)
    fewer.config = fewer.config.replace(num_hidden_layers=1)
    assert not comparable(base.model, fewer)


def test_two_runs_are_equal_to_the_bit(base, text):
    other = loaded(noise=0.03)
    assert layer_damage(base, other, text.rows) == layer_damage(base, other, text.rows)


def test_the_rows_of_a_text_shorter_than_a_window_suffice(base):
    rows = held_out_rows(split(260, documents=2), 16, limit_tokens=256).rows
    found = layer_damage(base, loaded(noise=0.03), rows[:1])
    assert found.tokens == 16
    assert np.isfinite(found.whole)
