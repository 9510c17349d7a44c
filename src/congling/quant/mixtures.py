"""Which tensor of a quantised file gets which type: the mixtures that ``Q4_K_M`` and its kin stand for.

Some tensors hurt more than others when they lose bits: the output matrix, the values of attention and the
last matrix of an MLP get more than the rest, in the first and last layers above all.

Source: the documented behaviour of llama.cpp's ``llama-quantize``, with an importance matrix and without.
"""

import re
from dataclasses import dataclass
from typing import Self

from congling.core.errors import UserError
from congling.model.config import ModelConfig
from congling.model.mlp_config import MoEConfig
from congling.quant.ggml import TYPES

FILE_TYPES: dict[str, tuple[int, str]] = {
    "F32": (0, "F32"), "F16": (1, "F16"), "BF16": (32, "BF16"),
    "Q4_0": (2, "Q4_0"), "Q4_1": (3, "Q4_1"), "Q5_0": (8, "Q5_0"), "Q5_1": (9, "Q5_1"), "Q8_0": (7, "Q8_0"),
    "Q2_K": (10, "Q2_K"), "Q2_K_S": (21, "Q2_K"),
    "Q3_K_S": (11, "Q3_K"), "Q3_K_M": (12, "Q3_K"), "Q3_K_L": (13, "Q3_K"),
    "Q4_K_S": (14, "Q4_K"), "Q4_K_M": (15, "Q4_K"), "Q5_K_S": (16, "Q5_K"), "Q5_K_M": (17, "Q5_K"),
    "Q6_K": (18, "Q6_K"), "IQ4_NL": (25, "IQ4_NL"), "IQ4_XS": (30, "IQ4_XS"),
    "IQ3_XXS": (23, "IQ3_XXS"), "IQ3_XS": (22, "IQ3_S"), "IQ3_S": (26, "IQ3_S"), "IQ3_M": (27, "IQ3_S"),
    "IQ2_XXS": (19, "IQ2_XXS"), "IQ2_XS": (20, "IQ2_XS"), "IQ2_S": (28, "IQ2_XS"), "IQ2_M": (29, "IQ2_S"),
    "IQ1_S": (24, "IQ1_S"), "IQ1_M": (31, "IQ1_M"),
    "TQ1_0": (36, "TQ1_0"), "TQ2_0": (37, "TQ2_0"),
}  # fmt: skip
"""Name of a mixture: its number in ``general.file_type``, and the type most tensors get."""
ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
PLAIN = frozenset({"F32", "F16", "BF16"})
COPY = "COPY"
"""No mixture: codes of a checkpoint in few bits as they are, all else in float32 (llama-quantize's word)."""
NEEDS_IMPORTANCE = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS"})
"""Types that llama-quantize refuses without an importance matrix: they cannot be made, or are useless."""
_SMALLER_BLOCKS = {
    "Q2_K": "Q4_0", "Q3_K": "Q4_0", "TQ1_0": "Q4_0", "TQ2_0": "Q4_0",
    "IQ4_XS": "IQ4_NL", "IQ3_S": "IQ4_NL", **dict.fromkeys(NEEDS_IMPORTANCE, "IQ4_NL"),
    "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0",
}  # fmt: skip
"""For rows that are no multiple of 256: a type of 32 values a block, with at least as many bits."""
_ATTENTION_OUTPUT = {
    "Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_XXS": "IQ3_S", "IQ3_M": "Q4_K",
    "IQ1_S": "IQ2_XXS", "IQ1_M": "IQ2_XXS", "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S",
}  # fmt: skip
_ATTENTION_OUTPUT_OF_8 = frozenset(
    {
        "Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ4_NL", "IQ4_XS", "IQ3_XS", "IQ3_XXS", "IQ3_S",
        "IQ3_M", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M",
    }
)  # fmt: skip
_VERY_FEW_BITS = {
    "IQ1_S": "Q2_K", "IQ1_M": "Q2_K", "IQ2_XXS": "Q2_K", "IQ2_XS": "Q2_K", "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S",
}  # fmt: skip
"""Mixtures of about two bits: the type of their embedding, values and first down projections."""
_EMBEDDING = _VERY_FEW_BITS | {"IQ3_XXS": "IQ3_S", "TQ1_0": "Q4_K", "TQ2_0": "Q4_K"}


@dataclass(frozen=True)
class Mixture:
    """The types of one file."""

    name: str
    """A key of ``FILE_TYPES``."""
    layers: int
    queries_per_key: int = 1
    """Query heads that share a key/value head."""
    experts: int = 0
    tied: bool = False
    """There is no ``output.weight``: the embedding does its work and gets its type."""
    imatrix: bool = False
    """There is an importance matrix."""

    @classmethod
    def of(cls, config: ModelConfig, name: str, *, tied: bool, imatrix: bool = False) -> Self:
        """That of a model's file."""
        attention, mlp = config.attention, config.mlp
        return cls(
            name,
            config.num_hidden_layers,
            attention.num_attention_heads // attention.num_key_value_heads,
            mlp.num_experts if isinstance(mlp, MoEConfig) else 0,
            tied,
            imatrix,
        )

    def type_of(self, tensor: str, shape: tuple[int, ...]) -> str:
        """Type of a tensor by its name in GGUF and its shape (rows first)."""
        if not quantised(tensor, shape):
            return "F32"
        base = FILE_TYPES[self.name][1]
        if self.name in PLAIN:
            return base
        return _fitting(self._wanted(tensor, shape, base), shape[-1])

    def _wanted(self, tensor: str, shape: tuple[int, ...], base: str) -> str:
        if tensor == "output.weight" or (self.tied and tensor == "token_embd.weight"):
            if base == "Q8_0" or shape[-1] % TYPES[base].values:
                return "Q8_0"
            return "Q5_K" if self.name in _VERY_FEW_BITS or self.name == "IQ3_XXS" else "Q6_K"
        if tensor == "token_embd.weight":
            return _EMBEDDING.get(self.name, base)
        found = re.match(r"blk\.(\d+)\.(\w+)\.", tensor)
        return self._in_block(int(found[1]), found[2], base) if found else base

    def _in_block(self, layer: int, part: str, base: str) -> str:
        match part:
            case "attn_v" | "attn_qkv" if self.name in _VERY_FEW_BITS:
                shared = self.queries_per_key >= 4 or self.experts >= 4
                wanted = "Q4_K" if shared else _VERY_FEW_BITS[self.name]
            case "attn_v" | "attn_qkv":
                wanted = self._more_for_8(self._values(layer, base))
            case "attn_k" if self.name in _VERY_FEW_BITS:
                wanted = "Q4_K" if self.experts == 8 else base
            case "attn_k":
                wanted = self._more_for_8(self._queries(base))
            case "attn_q":
                wanted = self._queries(base)
            case "attn_output" if self.experts == 8:
                wanted = "Q5_K" if self.name in _ATTENTION_OUTPUT_OF_8 else base
            case "attn_output":
                wanted = _ATTENTION_OUTPUT.get(self.name, base)
            case "ffn_down" | "ffn_down_exps" | "ffn_down_shexp":
                wanted = self._down(layer, base)
            case "ffn_gate" | "ffn_up" | "ffn_gate_exps" | "ffn_up_exps" | "ffn_gate_shexp" | "ffn_up_shexp":
                eighth = self.layers // 8
                middle = eighth <= layer < 7 * self.layers // 8
                wanted = "IQ3_XXS" if self.name == "IQ3_XS" and middle else base
            case _:
                wanted = base
        return wanted

    def _queries(self, base: str) -> str:
        return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(self.name, base)

    def _values(self, layer: int, base: str) -> str:
        shared = self.queries_per_key >= 4
        return {
            "Q2_K": "Q4_K" if shared else "Q3_K",
            "Q2_K_S": "Q4_K" if shared else base,
            "Q3_K_M": "Q5_K" if layer < 2 else "Q4_K",
            "Q3_K_L": "Q5_K",
            "Q4_K_S": "Q5_K" if layer < 4 else base,
            "Q4_K_M": "Q6_K" if self._important(layer) else base,
            "Q5_K_M": "Q6_K" if self._important(layer) else base,
            "IQ3_XXS": "Q4_K" if shared else base,
            "IQ3_XS": "Q4_K" if shared else base,
            "IQ3_S": "Q4_K" if shared else base,
            "IQ3_M": "Q4_K",
            "IQ4_NL": "Q5_K" if shared else base,
            "IQ4_XS": "Q5_K" if shared else base,
        }.get(self.name, base)

    def _down(self, layer: int, base: str) -> str:
        early = layer < self.layers // 8
        if early and self.name in _VERY_FEW_BITS:
            return _VERY_FEW_BITS[self.name]
        if early and self.imatrix:  # these two go wrong in the first layers even with a matrix
            base = {"Q4_0": "Q4_1", "Q5_0": "Q5_1"}.get(self.name, base)
        return {
            "Q2_K": "Q3_K",
            "Q2_K_S": "Q4_K" if early else base,
            "Q3_K_M": "Q5_K" if layer < self.layers // 16 else "Q4_K",
            "Q3_K_L": "Q5_K",
            "Q4_K_S": "Q5_K" if early else base,
            "Q4_K_M": "Q6_K" if self._important(layer) else base,
            "Q5_K_M": "Q6_K" if self._important(layer) else base,
            "IQ3_M": "Q4_K" if early or (self.experts == 8 and self._important(layer)) else base,
            "IQ4_NL": "Q5_K" if early and not self.imatrix else base,
            "IQ4_XS": "Q5_K" if early and not self.imatrix else base,
        }.get(self.name, base)

    def _important(self, layer: int) -> bool:
        """The first and last eighth of the layers, and every third of the others."""
        eighth = self.layers // 8
        return layer < eighth or layer >= 7 * self.layers // 8 or (layer - eighth) % 3 == 2

    def _more_for_8(self, wanted: str) -> str:
        """With eight experts, attention is so small a share that 8 bits cost next to nothing."""
        return "Q8_0" if self.experts == 8 else wanted


def named(name: str) -> str:
    """The canonical name of a mixture: ``q4_k`` is ``Q4_K_M``.

    Raises:
        UserError: there is none of this name.
    """
    upper = name.upper()
    upper = ALIASES.get(upper, upper)
    if upper not in FILE_TYPES:
        known = ", ".join((*FILE_TYPES, COPY))
        raise UserError("no such type of GGUF file", value=name, hint=f"known: {known}")
    return upper


def quantised(tensor: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is stored in fewer bits at all: vectors, routers and position tables are not."""
    kept = ("_norm.weight", "ffn_gate_inp.weight", "position_embd.weight")
    return len(shape) >= 2 and tensor.endswith("weight") and not tensor.endswith(kept)


def _fitting(type: str, width: int) -> str:
    if width % TYPES[type].values:
        type = _SMALLER_BLOCKS.get(type, "F16")
    return type if width % TYPES[type].values == 0 else "F16"
