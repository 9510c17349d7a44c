"""Training in few bits: the forward pass sees what will be stored, the backward pass moves what is behind it.

::

    rtn      weights ─ codes ─ values ─▶ x @ valuesᵀ       gradient of the weights = that of the values
    gptq     the same, from the codes and on the grid that GPTQ has found
    onebit   latent weights ─ signs ─▶ x @ signsᵀ          … times 1.001 - tanh² of the latent weights

Layers wrap the linear layers of the blocks from outside; embedding, norms and head are trained as they are
(quantisation-aware training with a straight-through gradient, Bengio et al. 2013; OneBit, Xu et al. 2024).
What is saved is the model in few bits, exactly as it was trained; the weights behind it are the run's state.
"""

# O outputs, I inputs

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from congling.core.errors import UserError
from congling.model.transformer import Transformer
from congling.quant.apply import check_shapes, quantise
from congling.quant.coded import CodedLinear
from congling.quant.config import FACT, GridConfig, OneBitConfig, TrainedConfig
from congling.quant.frozen import FrozenLinear
from congling.quant.grid import Grid
from congling.quant.methods import METHODS
from congling.quant.onebit import LatentOneBitLinear, OneBitLinear
from congling.quant.rtn import round_to_nearest
from congling.quant.stored import save_quantised
from congling.quant.walk import Rows


class FakeQuantisedLinear(nn.Module):
    """A linear layer that multiplies with what its weights are when stored in few bits.

    Attributes:
        weight: (O, I).
        bias: (O,) or None.
        config: bits and groups of the grid, which follows the weights' extremes unless it is fixed.
        scales: (O, G) of a fixed grid, else None.
        zeros: (O, G) uint8 of a fixed grid, None where it has none.
    """

    bias: nn.Parameter | None
    scales: Tensor | None
    zeros: Tensor | None

    def __init__(self, layer: nn.Linear | CodedLinear, config: GridConfig) -> None:
        """Of a dense layer; or of one in few bits, whose grid then stays as it is."""
        super().__init__()
        self.in_features, self.out_features, self.config = layer.in_features, layer.out_features, config
        grid = None if isinstance(layer, nn.Linear) else layer.grid
        weight = layer.weight.detach().clone() if isinstance(layer, nn.Linear) else layer.dense()
        self.weight = nn.Parameter(weight)
        bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
        self.register_parameter("bias", bias)
        self.register_buffer("scales", None if grid is None else grid.scales)
        self.register_buffer("zeros", None if grid is None else grid.zeros)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        return linear(x, _rounded(self.weight, self.rounding), self.bias)

    def rounding(self, weight: Tensor) -> tuple[Tensor, Grid]:
        """Codes of weights, and their grid."""
        if self.scales is None:
            return round_to_nearest(weight, self.config)
        grid = Grid(self.scales, self.zeros, self.config.bits, self.in_features // self.scales.shape[1])
        return grid.code(weight), grid

    def packed(self) -> CodedLinear:
        """The layer as it is stored."""
        bias = None if self.bias is None else self.bias.detach().clone()
        return CodedLinear(*self.rounding(self.weight.detach()), bias)


class _Rounded(torch.autograd.Function):
    """Values of the codes of weights; the gradient passes straight through."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, rounding: Callable[[Tensor], tuple[Tensor, Grid]]) -> Tensor:
        codes, grid = rounding(weight)
        return grid.value(codes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


_rounded: Any = torch.compiler.disable(_Rounded.apply)
_TRAINED = (FakeQuantisedLinear, LatentOneBitLinear)


def train_in_few_bits(model: Transformer, config: TrainedConfig, rows: Sequence[Rows] = ()) -> None:
    """Put layers that are trained in few bits in the place of the linear layers of the blocks.

    Args:
        model: dense, without adapters; all of it is trained afterwards.
        config: in which.
        rows: what methods read that begin with what layers put out: GPTQ, OneBit.

    Raises:
        UserError: a mixture of experts, groups that do not divide, or weights that are not finite.
    """
    if model.config.mlp.kind == "moe":
        what = "a mixture of experts cannot be trained in few bits"
        raise UserError(what, where="quantization", hint="congling quantize puts a trained one in few bits")
    training = model.training
    if METHODS[config.method].calibrated:
        quantise(model, config, rows)
    layers = {place: one for place, one in model.named_modules() if isinstance(one, nn.Linear | FrozenLinear)}
    layers = {place: one for place, one in layers.items() if place.startswith("blocks.")}
    check_shapes({place: (one.out_features, one.in_features) for place, one in layers.items()}, config)
    for place, layer in layers.items():
        if isinstance(layer, OneBitLinear):
            model.set_submodule(place, LatentOneBitLinear(layer))
        elif isinstance(layer, nn.Linear | CodedLinear) and not isinstance(config, OneBitConfig):
            model.set_submodule(place, FakeQuantisedLinear(layer, config))
    model.requires_grad_(True).train(training)


def in_training(model: nn.Module) -> bool:
    """Whether layers of it are trained in few bits."""
    return any(isinstance(module, _TRAINED) for module in model.modules())


def made_of(config: TrainedConfig) -> dict[str, Any]:
    """What a checkpoint says of how its layers came to be in few bits."""
    return config.model_dump(mode="json") | {"trained": True}


def saving(config: TrainedConfig) -> Callable[[Any, Path], None]:
    """What writes the model in few bits, exactly as it was trained, into a directory."""

    def save(model: Any, folder: Path) -> None:
        with as_stored(model):
            save_quantised(model, folder, {FACT: made_of(config)})

    return save


@contextlib.contextmanager
def as_stored(model: nn.Module) -> Iterator[None]:
    """Within the block, the layers trained in few bits are those that are stored."""
    trained = {place: module for place, module in model.named_modules() if isinstance(module, _TRAINED)}
    for place, module in trained.items():
        model.set_submodule(place, module.packed())
    try:
        yield
    finally:
        for place, module in trained.items():
            model.set_submodule(place, module)
