"""One-bit layers: packed signs are the latent ones to the bit, and gradients are the paper's."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from congling.core.errors import UserError
from congling.quant.onebit import LatentOneBitLinear, OneBitLinear, pack_signs, svid, unpack_signs


def layer(exportable: bool, bias: bool = True, outputs: int = 7, inputs: int = 13) -> OneBitLinear:
    torch.manual_seed(0)
    columns = None if exportable else torch.rand(inputs).half() + 0.5
    return OneBitLinear(
        pack_signs(torch.randn(outputs, inputs)),
        torch.rand(outputs).half() + 0.1,
        columns,
        torch.randn(outputs) if bias else None,
        inputs=inputs,
    )


def test_svid_finds_the_two_vectors_of_a_matrix_of_rank_one():
    rows, columns = torch.rand(9) + 0.1, torch.rand(20) + 0.1
    signs = torch.where(torch.rand(9, 20) < 0.5, -1.0, 1.0)
    g, h = svid(signs * rows[:, None] * columns)
    assert torch.allclose(g[:, None] * h, rows[:, None] * columns, rtol=1e-6)
    assert h.square().mean().item() == pytest.approx(1)


def test_svid_is_the_leading_singular_pair_of_the_magnitudes():
    weight = torch.randn(12, 30)
    g, h = svid(weight)
    left, values, right = torch.linalg.svd(weight.abs().double())
    best = values[0] * left[:, :1] @ right[:1]
    assert (g[:, None] * h - best).abs().max() < 1e-5 and (g > 0).all() and (h > 0).all()
    g, h = svid(torch.zeros(3, 4))
    assert not g.any() and torch.equal(h, torch.ones(4))


@pytest.mark.parametrize("inputs", [8, 13, 24])
def test_signs_are_packed_eight_a_byte_the_first_in_the_lowest_bit(inputs: int):
    weight = torch.randn(5, inputs)
    weight[0, :3] = torch.tensor([-1.0, 0.0, -0.0])
    packed = pack_signs(weight)
    assert packed.shape == (5, -(-inputs // 8)) and packed.dtype == torch.uint8
    assert int(packed[0, 0]) & 7 == 1  # zero is no minus, whatever its sign
    assert torch.equal(unpack_signs(packed, inputs), torch.where(weight < 0, -1.0, 1.0))


@pytest.mark.parametrize("exportable", [True, False])
def test_a_layer_in_training_is_the_packed_one_to_the_bit(exportable: bool):
    stored, x = layer(exportable), torch.randn(2, 5, 13)
    latent = LatentOneBitLinear(stored)
    with torch.no_grad():  # what training might do: scales that are no float16, signs that turn
        latent.output_scale.mul_(1.2345)
        latent.weight[2] *= -1
    again = latent.packed()
    assert torch.equal(again(x), latent(x)) and not torch.equal(again(x), stored(x))
    assert torch.equal(LatentOneBitLinear(again)(x), again(x))
    facts, parts = again.stored()
    restored = OneBitLinear.restored(facts, parts.get, (7, 13))
    assert torch.equal(restored(x), again(x)) and torch.equal(restored.dense(), again.dense())


def test_the_paper_form_is_scales_product_scales_norm():
    stored, x = layer(False), torch.randn(4, 13)
    assert stored.input_scale is not None and stored.bias is not None
    plain = ((x * stored.input_scale) @ unpack_signs(stored.signs, 13).T) * stored.output_scale
    torch.testing.assert_close(stored(x), layer_norm(plain, (7,)) + stored.bias)
    exportable = layer(True)
    assert exportable.bias is not None
    torch.testing.assert_close(exportable(x), x @ exportable.dense().T + exportable.bias)
    assert set(exportable.dense().abs().unique().tolist()) == set(exportable.output_scale.float().tolist())


def test_the_gradient_of_a_sign_is_damped_by_its_latent_weight():
    latent = LatentOneBitLinear(layer(True))
    with torch.no_grad():
        latent.weight.copy_(torch.randn(7, 13))
    x = torch.randn(3, 13)
    latent(x).sum().backward()
    by_sign = latent.output_scale.detach().half().float()[:, None] * x.sum(0)
    expected = by_sign * (1.001 - latent.weight.detach().tanh() ** 2)
    assert latent.weight.grad is not None
    torch.testing.assert_close(latent.weight.grad, expected)
    assert all(one.grad is not None and one.grad.any() for one in latent.parameters())


def test_packed_products_and_gradients_are_those_of_the_dense_matrix():
    stored, x = layer(True), torch.randn(2, 3, 13, requires_grad=True)
    assert stored.bias is not None
    gradient = torch.autograd.grad(stored(x).sin().sum(), x)[0]
    plain = torch.autograd.grad((x @ stored.dense().T + stored.bias).sin().sum(), x)[0]
    torch.testing.assert_close(gradient, plain)
    torch.testing.assert_close(stored.times(x.detach()[0]), stored(x.detach()[0]))
    with pytest.raises(UserError, match="an adapter cannot stand beside"):
        layer(False).times(x.detach()[0])


def test_parts_that_do_not_fit_are_refused():
    good = layer(False)
    parts = good.stored()[1]

    def restored(**changes: Tensor | None) -> OneBitLinear:
        return OneBitLinear.restored({}, {**parts, **changes}.get, (7, 13))

    for changes, message in (
        ({"signs": None}, "missing"),
        ({"signs": parts["signs"].int()}, "uint8"),
        ({"output_scale": parts["output_scale"].float()}, "float16"),
        ({"signs": parts["signs"][:, :1]}, "do not fit"),
        ({"input_scale": parts["input_scale"][:3]}, "do not fit"),
        ({"output_scale": parts["output_scale"] / 0}, "finite"),
    ):
        with pytest.raises(UserError, match=message):
            restored(**changes)
