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
from congling.quant.awq import clipped
from congling.quant.coded import CodedLinear
from congling.quant.config import AwqConfig, GridConfig, Int8Config, OneBitConfig, SmoothQuantConfig
from congling.quant.frozen import FrozenLinear
from congling.quant.gptq import gptq
from congling.quant.hqq import hqq
from congling.quant.int8 import int8_linear
from congling.quant.onebit_fit import fold_columns, layer_of
from congling.quant.rescaling import rescale_for_awq, rescale_for_smoothquant
from congling.quant.rtn import round_to_nearest
from congling.quant.statistics import FEWEST_TOKENS, InputStatistics

UNTRAINED = "untrained: train it in one bit with congling distill RUN SHARDS quantization.method=onebit"


class Replaced(NamedTuple):
    """A layer in few bits."""

    layer: FrozenLinear
    notes: tuple[str, ...] = ()
    """What was not done as asked, and why."""


Layer = Callable[[str, Tensor, Tensor | None, InputStatistics | None, Any], Replaced]
"""The place, the matrix (O, I) float32, the bias (O,), what its inputs look like, the configuration."""
Before = Callable[[Transformer, int, Mapping[str, InputStatistics], Any], tuple[str, ...]]
"""The model, the number of the block, what the inputs of its layers look like, the configuration."""


class Method(NamedTuple):
    """How a method works."""

    layer: Layer
    calibrated: bool = False
    """Whether it looks at inputs; then layers get statistics that went through all that came before."""
    before: Before | None = None


def rtn_layer(
    place: str, weight: Tensor, bias: Tensor | None, statistics: InputStatistics | None, config: GridConfig
) -> Replaced:
    """Round to nearest."""
    return Replaced(CodedLinear(*round_to_nearest(weight, config), bias))


def gptq_layer(
    place: str,
    weight: Tensor,
    bias: Tensor | None,
    statistics: InputStatistics | None,
    config: GridConfig,
) -> Replaced:
    """GPTQ on the min-max grid; round to nearest where hardly any token came by."""
    tokens = 0 if statistics is None else statistics.tokens
    if statistics is None or tokens < FEWEST_TOKENS:
        note = f"rounded to nearest: {tokens} tokens came by, fewer than {FEWEST_TOKENS}"
        return Replaced(CodedLinear(*round_to_nearest(weight, config), bias), (note,))
    codes, grid, damp, nearest = gptq(weight, statistics.gram, config)
    notes = []
    if damp > getattr(config, "damp_percent", damp):
        notes.append(f"damp_percent was raised to {damp:g}: its inputs are too much alike")
    if nearest == len(weight):
        notes.append("rounded to nearest: no row came out better on its inputs")
    return Replaced(CodedLinear(codes, grid, bias), tuple(notes))


def hqq_layer(
    place: str, weight: Tensor, bias: Tensor | None, statistics: InputStatistics | None, config: Any
) -> Replaced:
    """HQQ."""
    return Replaced(CodedLinear(*hqq(weight, config), bias))


def onebit_layer(
    place: str, weight: Tensor, bias: Tensor | None, statistics: InputStatistics | None, config: OneBitConfig
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


def awq_layer(
    place: str, weight: Tensor, bias: Tensor | None, statistics: InputStatistics | None, config: AwqConfig
) -> Replaced:
    """By GPTQ; or to nearest, the range of each group narrowed but of queries and keys."""
    if config.rounding == "gptq":
        return gptq_layer(place, weight, bias, statistics, config)
    if statistics is not None and statistics.tokens and not place.endswith((".query", ".key")):
        weight = clipped(weight, statistics.gram, config)
    return rtn_layer(place, weight, bias, statistics, config)


def int8_layer(
    place: str, weight: Tensor, bias: Tensor | None, statistics: InputStatistics | None, config: Int8Config
) -> Replaced:
    """Int8, and columns of large inputs in 16 bits besides."""
    seen = None if statistics is None or config.whole_batch else statistics.max_abs
    layer = int8_linear(weight, bias, config.llm_int8_threshold, seen, whole_batch=config.whole_batch)
    return Replaced(layer)


def smoothquant_layer(
    place: str,
    weight: Tensor,
    bias: Tensor | None,
    statistics: InputStatistics | None,
    config: SmoothQuantConfig,
) -> Replaced:
    """Int8 for weights and for inputs, token by token, without outliers."""
    return Replaced(int8_linear(weight, bias, 0.0))


METHODS: dict[str, Method] = {
    "rtn": Method(rtn_layer),
    "hqq": Method(hqq_layer),
    "gptq": Method(gptq_layer, calibrated=True),
    "onebit": Method(onebit_layer, calibrated=True, before=onebit_columns),
    "awq": Method(awq_layer, calibrated=True, before=rescale_for_awq),
    "int8": Method(int8_layer, calibrated=True),
    "smoothquant": Method(smoothquant_layer, calibrated=True, before=rescale_for_smoothquant),
}
