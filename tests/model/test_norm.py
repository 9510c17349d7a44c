"""RMSNorm: the eager path on a CPU equals torch's own, values and gradients."""

import torch
from torch.nn.functional import rms_norm

from congling.model.norm import RMSNorm, _EagerRMSNorm


def test_the_eager_path_has_true_gradients():
    torch.manual_seed(0)
    x, weight = (torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in ((3, 2, 5), (5,)))
    assert torch.autograd.gradcheck(lambda x, weight: _EagerRMSNorm.apply(x, weight, 1e-2), (x, weight))


def test_strided_input_and_gradients_agree_with_torch():
    torch.manual_seed(0)
    norm = RMSNorm(16, 1e-6)
    with torch.no_grad():
        norm.weight.normal_()
    x = torch.randn(4, 6, 7, 32)[..., ::2].transpose(1, 2).requires_grad_()
    seed = torch.randn(6, 7, 4, 16).transpose(0, 2)
    found = norm(x)
    gradients = torch.autograd.grad(found, (x, norm.weight), seed)
    expected = rms_norm(x, (16,), norm.weight, 1e-6)
    torch.testing.assert_close(found, expected)
    for one, other in zip(gradients, torch.autograd.grad(expected, (x, norm.weight), seed), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_other_precisions_go_through_torch():
    norm, x = RMSNorm(16, 1e-6).bfloat16(), torch.randn(4, 16).bfloat16()
    torch.testing.assert_close(norm(x), rms_norm(x, (16,), norm.weight, 1e-6))
