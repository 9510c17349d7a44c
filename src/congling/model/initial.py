"""The weights before the first step, one function a scheme: a seed gives the same on every device."""

import torch
from torch import Tensor, nn

from congling.model.config import ModelConfig, ScaledNormalConfig, ZeroOutputConfig

_OUTPUTS = ("attention.output.weight", "down.weight", "experts.down")
"""Matrices that write to the residual stream, by the end of their name."""


def initialise(model: nn.Module, seed: int) -> None:
    """Draw every parameter of a transformer by the scheme of its configuration.

    Scales are 1 and shifts 0 in every scheme. Random numbers come from one generator on the CPU, in the order
    of the parameters, so that a seed means the same weights wherever the model lives.
    """
    config: ModelConfig = model.config  # pyright: ignore[reportAssignmentType]
    if next(model.parameters()).is_meta:
        return  # a skeleton of shapes alone has nothing to draw
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif "norm" in name:
                parameter.fill_(1.0)
            elif name == "positions.down":
                parameter.zero_()  # CLEX begins as NTK-aware scaling
            elif name == "positions.up":
                parameter.copy_(
                    torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5
                )
            elif (std := _std(config, name, parameter)) == 0:
                parameter.zero_()
            else:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


def _std(config: ModelConfig, name: str, parameter: Tensor) -> float:
    match config.initial:
        case ZeroOutputConfig():
            return zero_output(config.initial, name, parameter)
        case ScaledNormalConfig():
            return scaled_normal(config.initial, name, config.num_hidden_layers)


def zero_output(scheme: ZeroOutputConfig, name: str, parameter: Tensor) -> float:
    """Standard deviation of a parameter when blocks start as the identity.

    Zero output projections keep the first gradients clean at any depth (Fixup, Zhang et al. 2019); the other
    matrices keep the variance of a normalised input. An untied output layer starts near zero, so that the
    first loss is that of a uniform guess.
    """
    if name.endswith(_OUTPUTS):
        return 0.0
    if name.startswith(("embedding", "positions")):
        return scheme.embedding_std
    if name.startswith("head"):
        return 0.001
    return scheme.gain / parameter.shape[-1] ** 0.5


def scaled_normal(scheme: ScaledNormalConfig, name: str, layers: int) -> float:
    """Standard deviation of a parameter in GPT-2 (Radford et al. 2019, section 2.3).

    Each of the ``2 · layers`` sublayers adds to the residual stream; dividing their outputs by the root of
    that count keeps its size. Position vectors are half as large as token vectors, as in the released code.
    """
    if name.endswith(_OUTPUTS):
        return scheme.initializer_range / (2 * layers) ** 0.5
    return scheme.initializer_range / 2 if name.startswith("positions") else scheme.initializer_range
