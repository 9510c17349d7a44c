"""Which formats of other programs hold a model in few bits as it is, and what stands in the way of others."""

from collections.abc import Iterator

from congling.core.diagnosis import Diagnosis
from congling.core.errors import UserError
from congling.core.units import show_bytes
from congling.interop.hf.architecture import architecture
from congling.interop.names import ARCHITECTURES
from congling.interop.targets import obstacles
from congling.model.config import ModelConfig
from congling.model.counts import linear_shapes
from congling.plan.quantisation import plan_quantisation
from congling.plan.situation import Situation
from congling.quant.config import (
    GridConfig,
    Int8Config,
    OneBitConfig,
    QuantConfig,
    SmoothQuantConfig,
    fitting_groups,
)

FOLDERS = ("gptq", "awq", "ct", "bnb")
"""Of Hugging Face: ``convert --to hf --type``."""
BLOCKS = ("Q4_0", "Q4_1", "Q8_0", "TQ2_0")
"""Of GGUF."""
_SIDES, _BLOCK, _TERNARY = 32, 32, 256
"""What both sides of a matrix are multiples of in GPTQ's and AWQ's packers; weights of a block of Q4_0 and
its kin, and of TQ2_0."""


def formats(config: ModelConfig, method: QuantConfig, tokenizer_kind: str | None = None) -> dict[str, str]:
    """By the name of a format, why it does not hold the codes as they are; empty where it does."""
    found = {name: "; ".join(_folder(config, method, name)) for name in FOLDERS}
    reasons = [one.what for one in obstacles(config, tokenizer_kind, "gguf")]
    return found | {name: "; ".join([*reasons, *_block(config, method, name)]) for name in BLOCKS}


def _folder(config: ModelConfig, method: QuantConfig, name: str) -> Iterator[str]:
    try:
        entries = ARCHITECTURES[architecture(config)]
    except UserError as error:
        yield error.what
        return
    if any(entry.transposed for entry in entries):
        yield "its matrices are no linear layers in transformers"
    if config.mlp.kind == "moe":
        yield "experts are written in floats alone"
    if isinstance(method, Int8Config | SmoothQuantConfig):
        yield from _int8(method, name)
    elif isinstance(method, GridConfig):
        yield from _grid(config, method, name)
    else:
        yield "it holds no signs"


def _int8(method: Int8Config | SmoothQuantConfig, name: str) -> Iterator[str]:
    if name in ("gptq", "awq"):
        yield "it rounds weights alone, and these layers round their inputs too"
    elif isinstance(method, Int8Config) and method.llm_int8_threshold:
        if name == "ct":
            yield "it has no columns that leave the product in int8: method=smoothquant"
        elif not method.whole_batch:
            yield "columns found large in calibration stay in 16 bits: whole_batch=true"


def _grid(config: ModelConfig, method: GridConfig, name: str) -> Iterator[str]:
    shapes = linear_shapes(config).values()
    odd = next((shape for shape in shapes if any(one % _SIDES for one in shape)), None)
    if name == "bnb":
        yield "it holds rows of 8 bits: method=int8"
    if name in ("gptq", "awq") and odd is not None:
        yield f"its packers want multiples of {_SIDES}, and a matrix is {odd[0]} × {odd[1]}"
    if name == "awq" and method.bits != 4:
        yield "it has 4 bits"
    if name == "ct" and not method.sym:
        yield "transformers loads symmetric codes alone: sym=true"


def _block(config: ModelConfig, method: QuantConfig, name: str) -> Iterator[str]:
    inputs = [shape[1] for shape in linear_shapes(config).values()]
    if name == "TQ2_0":
        if not isinstance(method, OneBitConfig):
            yield "it holds signs: method=onebit"
        elif method.layer_norm:
            yield "no other program has layer norms there: layer_norm=false"
        elif any(one % _TERNARY for one in inputs):
            yield f"rows are no multiples of {_TERNARY}; those that are not go to Q4_1"
        return
    if not isinstance(method, GridConfig):
        yield "it holds codes in groups, as of rtn, hqq, gptq and awq"
        return
    bits = 8 if name == "Q8_0" else 4
    if method.bits != bits:
        yield f"it has {bits} bits"
    sizes = inputs if method.group_size == -1 else [method.group_size]
    if any(one % _BLOCK for one in sizes):
        yield f"groups are no multiples of {_BLOCK}"
    if name == "Q4_1":
        if method.sym:
            yield "symmetric codes go to Q4_0"
    elif not method.sym:
        yield "it has no zero points: sym=true"


def check_quantisation(s: Situation) -> Iterator[Diagnosis]:
    """What a run with a ``[quantization]`` table leaves behind, and whether its groups fit."""
    if s.quantization is None:
        return
    method, shapes = s.quantization, linear_shapes(s.model)
    if s.model.mlp.kind == "moe":
        what, remedy = (
            "a mixture of experts cannot be trained in few bits",
            "train it, then congling quantize",
        )
        yield Diagnosis("error", "quantised-experts", what, "experts are no linear layers yet", remedy)
        return
    fitting = fitting_groups(shapes)
    if isinstance(method, GridConfig) and method.group_size != -1:
        odd = next((place for place, (_, i) in shapes.items() if i % max(1, method.group_size)), None)
        if odd is not None:
            what = f"groups of {method.group_size} do not divide the {shapes[odd][1]} inputs of {odd}"
            remedy = f"quantization.group_size = one of {', '.join(map(str, fitting))}"
            yield Diagnosis("error", "quantised-groups", what, "a group never spans two rows", remedy)
            return
    plan = plan_quantisation(s.model, method, peak=s.machine.peak)
    held, lacking = sorted_out(formats(s.model, method, s.tokenizer_kind))
    what = (
        f"{plan.weights:,} weights are trained in few bits ({method.method}): {plan.bits:.2f} bits a weight "
    )
    what += f"of the whole file, {show_bytes(plan.file_bytes)}; held as they are by {held}"
    remedy = "nothing, unless it is meant for one of those"
    yield Diagnosis("note", "quantised-formats", what, "; ".join(lacking) or "all formats hold them", remedy)


def sorted_out(found: dict[str, str]) -> tuple[str, list[str]]:
    """The formats that hold the codes, and a clause for those of the others that share a reason."""
    held = ", ".join(name for name, reason in found.items() if not reason) or "no other format"
    reasons: dict[str, list[str]] = {}
    for name, reason in found.items():
        if reason:
            reasons.setdefault(reason, []).append(name)
    return held, [f"not {', '.join(names)}: {reason}" for reason, names in reasons.items()]
