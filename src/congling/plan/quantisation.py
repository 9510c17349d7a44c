"""What putting a model in fewer bits costs, and how large it is afterwards: by shapes alone, without torch.

::

    shapes, method, tokens ─ arithmetic, by the speed of a matrix multiplication ─→ seconds, bytes
"""

# O outputs, I inputs, N tokens of the calibration, W width

from collections.abc import Mapping
from dataclasses import dataclass

from congling.core.units import show_bytes, show_seconds
from congling.model.config import ModelConfig
from congling.model.counts import linear_shapes, parameters
from congling.model.mlp_config import MoEConfig
from congling.quant.config import (
    STAGES,
    TRIED,
    TRIED_ROWS,
    AwqConfig,
    GptqConfig,
    GridConfig,
    HqqConfig,
    OneBitConfig,
    QuantConfig,
    RtnConfig,
    SmoothQuantConfig,
    fitting_groups,
    kind_of_layer,
    read_tensor,
)

Shapes = Mapping[str, tuple[int, int]]
"""(O, I) by place."""
TOKENS = 32_768
"""Of calibration text that are read where no other number is asked for: 128 rows of 256."""
AT_ONCE = 2048
"""Tokens of rows that go through the model together."""

# Measured with one thread on models of 4, 19 and 85 M weights in the blocks, where a large multiplication of
# matrices had this speed (docs/log/2026-12-quantisation.md); all times fall with it.
_PEAK = 1.2e11
_READING, _SUMMING, _DOUBLE, _FACTOR = 0.75, 0.7, 0.34, 0.17
"""Shares of it that a pass reaches, a Gram matrix, a product in float64, a Cholesky factor."""
_VALUE, _COLUMN, _FED_BACK = 4.6e-8, 6.2e-5, 4.3e-7
"""Seconds: beside its products, a pass for each value of the width; of feedback a column, and a weight."""
_EACH_WEIGHT = {"rtn": 8e-8, "hqq": 1.0e-6, "gptq": 1.4e-7, "awq": 9e-7, "onebit": 5.2e-6}
"""Seconds for choosing the codes of a weight, errors on the way included; int8 and smoothquant as rtn."""


@dataclass(frozen=True)
class QuantisationPlan:
    """What is known before anything is read."""

    method: str
    weights: int
    """That will be in few bits."""
    file_bytes: int
    """Of all tensors afterwards; without columns that int8 keeps in 16 bits, which are found on the way."""
    bits: float
    """A weight of the whole file takes then, whatever stays in floats included."""
    tokens: int
    """Of calibration text; 0 where the method reads none."""
    seconds: float
    memory: int
    """Bytes at the peak besides the model in floats: rows, statistics, and what a layer takes meanwhile."""
    groups: tuple[int, ...]
    """Group sizes that divide all layers, -1 the whole row."""

    def lines(self) -> list[str]:
        """What it comes to, in two sentences."""
        read = f", {self.tokens:,} tokens of calibration" if self.tokens else ""
        return [
            f"{self.method}: {self.weights:,} weights in few bits, {self.bits:.2f} bits a weight of the "
            f"whole file, {show_bytes(self.file_bytes)}",
            f"about {show_seconds(self.seconds)}, {show_bytes(self.memory)} of memory besides the model"
            f"{read}",
        ]


def plan_quantisation(
    config: ModelConfig, method: QuantConfig, *, peak: float, tokens: int = TOKENS
) -> QuantisationPlan:
    """Estimate the work: GPTQ's time by models of three sizes, others by one; memory may be a third more.

    Args:
        config: the model.
        method: and its settings.
        peak: float32 operations a second of a large matrix multiplication on the processors here.
        tokens: of the calibration text, where the method reads one.
    """
    shapes = linear_shapes(config)
    weights = sum(outputs * inputs for outputs, inputs in shapes.values())
    read = 0 if isinstance(method, RtnConfig | HqqConfig) else tokens
    size = sum(_layer_bytes(shape, method) for shape in shapes.values())
    size += 4 * (parameters(config) - weights)
    seconds = weights * _EACH_WEIGHT.get(method.method, _EACH_WEIGHT["rtn"])
    if read:
        seconds += _reading(config, shapes, read, looks_first=_looks_first(method))
    if _feeds_back(method):
        seconds += _feeding_back(shapes)
    if isinstance(method, AwqConfig) and method.rounding == "gptq":
        seconds += _trying(shapes)
    return QuantisationPlan(
        method.method,
        weights,
        size,
        8 * size / parameters(config),
        read,
        seconds * _PEAK / peak,
        _memory(config, shapes, method, read),
        tuple(fitting_groups(shapes)),
    )


def _looks_first(method: QuantConfig) -> bool:
    """Whether all layers of a block are looked at before any is rounded."""
    return isinstance(method, AwqConfig | SmoothQuantConfig | OneBitConfig)


def _feeds_back(method: QuantConfig) -> bool:
    """Whether codes are chosen column by column; of OneBit each weight's time has it."""
    return isinstance(method, GptqConfig) or (isinstance(method, AwqConfig) and method.rounding == "gptq")


def _layer_bytes(shape: tuple[int, int], method: QuantConfig) -> int:
    """Of a layer's codes and scales as a checkpoint holds them."""
    outputs, inputs = shape
    if isinstance(method, GridConfig):
        groups = inputs // method.group_size if method.group_size > 0 else 1
        return -(-outputs * inputs * method.bits // 8) + outputs * groups * (2 if method.sym else 3)
    if isinstance(method, OneBitConfig):
        return outputs * -(-inputs // 8) + 2 * outputs + (2 * inputs if method.layer_norm else 0)
    return outputs * (inputs + 4)


def _reading(config: ModelConfig, shapes: Shapes, tokens: int, *, looks_first: bool) -> float:
    """Seconds of the passes through all blocks, and of the statistics of what the layers read."""
    ends = [0.0]
    """Products of a token in a block up to each stage, all blocks together."""
    for stage in STAGES:
        layers = [place for place in shapes if kind_of_layer(place) in stage]
        ends.append(ends[-1] + sum(_reached(config, place) * _weights(shapes[place]) for place in layers))
    # a pass for each stage up to it, one through the whole block, and the first rows in floats all along
    passes = [(tokens, end) for end in ends[:-1]] + [(tokens + min(tokens, AT_ONCE), ends[-1])]
    if looks_first:
        passes.append((tokens, ends[-2]))
    products = sum(2 * count * end for count, end in passes)
    whole = sum(count * end for count, end in passes) / ends[-1]
    values = whole * config.num_hidden_layers * config.hidden_size
    products += 4 * config.max_position_embeddings * values
    inputs = {read_tensor(place): (place, shape[1]) for place, shape in shapes.items()}
    sums = sum(2 * tokens * _reached(config, place) * size**2 for place, size in inputs.values())
    errors = sum(4 * outputs * size**2 for outputs, size in shapes.values())
    seconds = products / _READING + (1 + looks_first) * sums / _SUMMING + errors / _DOUBLE
    return seconds / _PEAK + _VALUE * values


def _feeding_back(shapes: Shapes) -> float:
    """Seconds of GPTQ's factors and loops, and of comparing its errors with the nearest codes'."""
    factors = sum(4 / 3 * inputs**3 for _, inputs in shapes.values()) / _FACTOR
    errors = sum(4 * outputs * inputs**2 for outputs, inputs in shapes.values()) / _DOUBLE
    columns = sum(_COLUMN * inputs + _FED_BACK * outputs * inputs for outputs, inputs in shapes.values())
    return (factors + errors) / _PEAK + columns


def _trying(shapes: Shapes) -> float:
    """Seconds of GPTQ on some rows of what reads a tensor, for each scale that AWQ tries."""
    inputs = {str(read_tensor(place)): size for place, (_, size) in shapes.items()}
    return TRIED * _feeding_back({name: (TRIED_ROWS, size) for name, size in inputs.items()})


def _memory(config: ModelConfig, shapes: Shapes, method: QuantConfig, tokens: int) -> int:
    """Bytes: the inputs of a block, and what is the most of a pass and a layer while it is rounded."""
    if not tokens:
        most = done = 0.0
        for place in (place for place in shapes if place.startswith("blocks.0.")):
            most = max(most, _WORK * _weights(shapes[place]) - _FREED * done)
            done += _weights(shapes[place])
        return round(most)
    rows, width = min(tokens, AT_ONCE), config.hidden_size
    first = [place for place in shapes if place.startswith("blocks.0.")] if _looks_first(method) else []
    most = _grams(shapes, first)
    widest = max(outputs for outputs, _ in shapes.values())
    for stage in STAGES:
        layers = [place for place in shapes if kind_of_layer(place) in stage]
        for block in {place.split(".")[1] for place in layers}:
            here = [place for place in layers if place.split(".")[1] == block]
            held = _grams(shapes, here)
            work = [_work(shapes[place], by_columns=_feeds_back(method)) for place in here]
            most = max(most, held + max(work), held + 4 * rows * (6 * width + 3 * widest))
    return 4 * (tokens + 2 * rows) * width + most


_WORK, _FREED = 42, 2.8
"""Bytes for each weight of a layer that is rounded, and those that its codes take less than its floats."""


def _work(shape: tuple[int, int], *, by_columns: bool) -> int:
    """Bytes besides its Gram matrix: copies in float64 of weights, grid and codes, and the factor."""
    if not by_columns:
        return _WORK * _weights(shape)
    square = shape[1] ** 2
    return max(40 * square, 8 * square + 66 * _weights(shape))


def _grams(shapes: Shapes, places: list[str]) -> int:
    return sum(8 * size**2 for size in {read_tensor(place): shapes[place][1] for place in places}.values())


def _weights(shape: tuple[int, int]) -> int:
    return shape[0] * shape[1]


def _reached(config: ModelConfig, place: str) -> float:
    """Share of the tokens that come to a layer: of an expert, what it gets when all get the same."""
    mlp = config.mlp
    if ".experts." not in place or not isinstance(mlp, MoEConfig):
        return 1.0
    return mlp.num_experts_per_tok / mlp.num_experts
