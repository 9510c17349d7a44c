"""What each method does with one linear layer, and before that with a block: a line a method.

A method that needs more than the statistics of a layer's inputs changes the block's weights first
(``before``), without changing what it computes; its layers are then rounded one by one as all others are.
"""

# O outputs, I inputs

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from congling.core.errors import UserError
from congling.model.transformer import Transformer
from congling.quant.coded import CodedLinear
from congling.quant.config import GridConfig, OneBitConfig
from congling.quant.frozen import FrozenLinear
from congling.quant.gptq import gptq
from congling.quant.hqq import hqq
from congling.quant.onebit_fit import fold_columns, layer_of
from congling.quant.rtn import round_to_nearest
from congling.quant.statistics import InputStatistics

UNTRAINED = "untrained: train it in one bit with congling distill RUN SHARDS quantization.method=onebit"
FEWEST_TOKENS = 256
"""Tokens that have to reach a layer for its statistics to say anything; below, it is rounded to nearest."""


class Replaced(NamedTuple):
    """A layer in few bits."""

    layer: FrozenLinear
    notes: tuple[str, ...] = ()
    """What was not done as asked, and why."""


Layer = Callable[[Tensor, Tensor | None, InputStatistics | None, Any], Replaced]
"""The matrix (O, I) float32, the bias (O,), what its inputs look like, the configuration."""
Before = Callable[[Transformer, int, Mapping[str, InputStatistics], Any], tuple[str, ...]]
"""The model, the number of the block, what the inputs of its layers look like, the configuration."""


class Method(NamedTuple):
    """How a method works."""

    layer: Layer
    calibrated: bool = False
    """Whether it looks at inputs; then layers get statistics that went through all that came before."""
    before: Before | None = None


def rtn_layer(
    weight: Tensor, bias: Tensor | None, statistics: InputStatistics | None, config: GridConfig
) -> Replaced:
    """Round to nearest."""
    return Replaced(CodedLinear(*round_to_nearest(weight, config), bias))


def gptq_layer(
    weight: Tensor, bias: Tensor | None, statistics: InputStatistics | None, config: GridConfig
) -> Replaced:
    """GPTQ; round to nearest where hardly any token came by."""
    tokens = 0 if statistics is None else statistics.tokens
    if statistics is None or tokens < FEWEST_TOKENS:
        note = f"rounded to nearest: {tokens} tokens came by, fewer than {FEWEST_TOKENS}"
        return rtn_layer(weight, bias, statistics, config)._replace(notes=(note,))
    codes, grid, damp, nearest = gptq(weight, statistics.gram, config)
    notes = []
    if damp > getattr(config, "damp_percent", damp):
        notes.append(f"damp_percent was raised to {damp:g}: its inputs are too much alike")
    if nearest == len(weight):
        notes.append("rounded to nearest: no row came out better on its inputs")
    return Replaced(CodedLinear(codes, grid, bias), tuple(notes))


def hqq_layer(
    weight: Tensor, bias: Tensor | None, statistics: InputStatistics | None, config: Any
) -> Replaced:
    """HQQ."""
    return Replaced(CodedLinear(*hqq(weight, config), bias))


def onebit_layer(
    weight: Tensor, bias: Tensor | None, statistics: InputStatistics | None, config: OneBitConfig
) -> Replaced:
    """OneBit, fitted to what the layer reads: where training in one bit begins."""
    if statistics is None:
        raise UserError("one-bit layers are fitted to what they read")
    return Replaced(layer_of(weight, bias, statistics.gram, config), (UNTRAINED,))


def onebit_columns(
    model: Transformer, index: int, statistics: Mapping[str, InputStatistics], config: OneBitConfig
) -> tuple[str, ...]:
    """Scales of columns go where no layer has to hold them."""
    return fold_columns(model, index, {place: one.gram for place, one in statistics.items()}, config)


METHODS: dict[str, Method] = {
    "rtn": Method(rtn_layer),
    "hqq": Method(hqq_layer),
    "gptq": Method(gptq_layer, calibrated=True),
    "onebit": Method(onebit_layer, calibrated=True, before=onebit_columns),
}
