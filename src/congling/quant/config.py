"""How a model's linear layers are put in fewer bits: one class a method, no torch.

::

    rtn           nearest code                                    no data
    hqq           zeros moved by a robust fit of the weights      no data
    gptq          codes column by column, later columns repair the error of earlier ones
    awq           columns that meet large inputs are scaled up first; then ``rounding``
    int8          eight bits a row of weights and of inputs, outlier columns apart (LLM.int8)
    smoothquant   the same after large inputs were moved into the weights
    onebit        signs, and one value a row and a column
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from congling.core.config import Config

FACT = "quantization"
"""Under which a checkpoint says how its layers came to be in few bits."""
BASE_PATH = "base_path"
"""Under which it says where the model lay that it was made of; its fingerprint is among the parents."""
Bits = Literal[2, 3, 4, 8]
GroupSize = Annotated[int, Field(ge=-1, le=2**20)]


class GridConfig(Config):
    """What integer methods share: codes of ``bits`` bits, and a scale for each group of a row's weights."""

    bits: Bits = 4
    group_size: GroupSize = 32
    """Weights of a row that share a scale; -1: the whole row."""
    sym: bool = False
    """Whether codes are spread evenly around 0; otherwise every group has a zero point."""


class RtnConfig(GridConfig):
    """Round to nearest: the baseline of all others."""

    method: Literal["rtn"] = "rtn"


class GptqConfig(GridConfig):
    """GPTQ (Frantar et al. 2022): errors are repaired by the columns that are still to come."""

    method: Literal["gptq"] = "gptq"
    damp_percent: Annotated[float, Field(gt=0, le=1000)] = 0.01
    """Share of the mean of the Hessian's diagonal that is added to it; raised where that is too little."""


TRIED, TRIED_ROWS = 11, 256
"""Scales that AWQ tries by GPTQ (none, and α = 0, 1/10 … 9/10), and rows that GPTQ rounds for each."""


class AwqConfig(GridConfig):
    """AWQ (Lin et al. 2023): columns that meet large inputs are scaled up before rounding."""

    method: Literal["awq"] = "awq"
    rounding: Literal["rtn", "gptq"] = "rtn"
    """How the scaled weights are rounded."""


class HqqConfig(GridConfig):
    """HQQ (Badri & Shaji 2023): zeros are fitted to the weights alone, large errors counting little."""

    method: Literal["hqq"] = "hqq"
    iterations: PositiveInt = 20
    lp_norm: Annotated[float, Field(gt=0, le=1)] = 0.7
    """The power p of the errors whose sum is made small."""


class Int8Config(Config):
    """LLM.int8 (Dettmers et al. 2022): columns of large inputs stay apart, the rest is multiplied in int8."""

    method: Literal["int8"] = "int8"
    llm_int8_threshold: Annotated[float, Field(ge=0)] = 6.0
    """Inputs of this size and more are outliers; 0: none are."""
    whole_batch: bool = False
    """Outliers are columns of a whole batch and all weights are codes, to the bit as in bitsandbytes. By
    default each token has its own, and columns found large in calibration keep weights of 16 bits."""


class SmoothQuantConfig(Config):
    """SmoothQuant (Xiao et al. 2022), then eight bits for weights and for inputs, token by token."""

    method: Literal["smoothquant"] = "smoothquant"
    smoothing_strength: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How much of the inputs' range goes into the weights: the α of the paper."""


class OneBitConfig(Config):
    """OneBit (Xu et al. 2024): signs, a value a row and a value a column, begun by SVID."""

    method: Literal["onebit"] = "onebit"
    layer_norm: bool = False
    """The paper's form: a layer norm after each layer, and scales of columns in each. Without it these are
    folded into the norms and matrices before, which fits GGUF's TQ2_0 and TQ1_0 and begins far nearer."""


QuantConfig = Annotated[
    RtnConfig | GptqConfig | AwqConfig | HqqConfig | Int8Config | SmoothQuantConfig | OneBitConfig,
    Field(discriminator="method"),
]
TrainedConfig = Annotated[RtnConfig | GptqConfig | OneBitConfig, Field(discriminator="method")]
"""What a model can be trained in: quantisation-aware training from its own weights or GPTQ's, and OneBit."""
IntegerConfig = RtnConfig | GptqConfig | AwqConfig | HqqConfig
"""Methods whose weights are codes on a grid."""


STAGES = (("query", "key", "value"), ("output",), ("gate", "up"), ("down",))
"""Layers of a block in the order in which they compute; those of one stage do not see each other."""


def kind_of_layer(place: str) -> str:
    """``gate`` of ``blocks.0.mlp.gate`` and of ``blocks.0.mlp.experts.gate.7``."""
    return next(part for part in reversed(place.split(".")) if not part.isdigit())


def read_tensor(place: str) -> tuple[str, ...]:
    """A name of the tensor that a layer reads: the same for query, key and value, for gate and up."""
    kind = kind_of_layer(place)
    stage = next(at for at, stage in enumerate(STAGES) if kind in stage)
    return (*(part for part in place.split(".") if part != kind), str(stage))


def fitting_groups(shapes: Mapping[str, tuple[int, int]]) -> list[int]:
    """Group sizes that divide the rows of all layers (O, I), the whole row (-1) last."""
    sizes = (8, 16, 32, 64, 128, 256)
    return [*(size for size in sizes if not any(i % size for _, i in shapes.values())), -1]
