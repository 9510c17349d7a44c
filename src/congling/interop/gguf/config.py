"""The configuration of a model in a GGUF file. Without torch."""

from typing import Any

import numpy as np

from congling.core.config import build
from congling.core.errors import UserError
from congling.interop.gguf.architectures import (
    LAYER_NORM,
    MIXTURES,
    MULTIPLIED,
    NORM_PLACEMENT,
    PARTIAL_ROTARY,
    PLAIN_MLP,
    SCALED_EXPERTS,
    SCALED_NORMAL,
    SIGMOID,
    SOFTMAX,
    architecture_of,
)
from congling.interop.gguf.fields import Field
from congling.interop.gguf.file import GGUFFile
from congling.interop.gguf.names import FUSED
from congling.interop.gguf.stretch_reading import told_by
from congling.model.config import ModelConfig

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "attention.scale": (0.0,), "attention.causal": (True,), "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0, 8.0), "expert_group_count": (0, 1), "nextn_predict_layers": (0,),
    "logit_scale": (0.0, 1.0), "embedding_scale": (0.0, 1.0), "residual_scale": (0.0, 1.0),
    "use_parallel_residual": (False,), "final_logit_softcapping": (0.0,), "attn_logit_softcapping": (0.0,),
}  # fmt: skip
"""Keys that change what is computed in a way we do not follow, unless they have these values."""
_MULTIPLIERS = {
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
    "attention.scale": "attention_multiplier",
}
"""Keys of those architectures that multiply, and ours."""


def config_from(file: GGUFFile) -> ModelConfig:
    """The configuration of the model in a file.

    Raises:
        UserError: an architecture or a setting that we do not compute, or keys that are missing or contradict
            each other.
    """
    return build(ModelConfig, _Reader(file).values(), where=file.path)


class _Reader:
    """The keys of one file as values of our configuration."""

    def __init__(self, file: GGUFFile) -> None:
        self.file, self.architecture = file, architecture_of(file)

    def values(self) -> dict[str, Any]:
        for key, neutral in _NEUTRAL.items():
            if self.architecture in MULTIPLIED and key in _MULTIPLIERS:
                continue
            field = self.file.fields.get(f"{self.architecture}.{key}", Field("", neutral[0]))
            if (value := field.type if field.type.startswith("array") else field.value) not in neutral:
                raise self.odd(f"{self.architecture}.{key} has a value that we do not compute with", value)
        width = self.integer("embedding_length")
        layer = self.architecture in LAYER_NORM
        epsilon = self.real("attention.layer_norm_epsilon" if layer else "attention.layer_norm_rms_epsilon")
        return {
            "vocab_size": self.vocabulary(),
            "max_position_embeddings": self.integer("context_length"),
            "num_hidden_layers": self.integer("block_count"),
            "hidden_size": width,
            "attention": self.attention(width),
            "mlp": self.mlp(),
            "norm": {"kind": "layer" if layer else "rms", "eps": epsilon},
            "positions": self.positions(width),
            "tie_word_embeddings": "output.weight" not in self.file.tensors,
            "norm_placement": NORM_PLACEMENT.get(self.architecture, "pre"),
            "initial": {"kind": "scaled-normal" if self.architecture in SCALED_NORMAL else "zero-output"},
            **self.multipliers(),
        }

    def multipliers(self) -> dict[str, Any]:
        """Of a whole model; that of the scores is attention's."""
        if self.architecture == "gemma3":
            return {"embedding_multiplier": self.integer("embedding_length") ** 0.5}
        if self.architecture not in MULTIPLIED:
            return {}
        keys = {key: ours for key, ours in _MULTIPLIERS.items() if ours != "attention_multiplier"}
        for key in keys:
            # llama.cpp assumes those of MiniCPM 2B, but the logits' upside down.
            if self.architecture == "minicpm" and f"minicpm.{key}" not in self.file.fields:
                raise UserError(
                    "a MiniCPM file without its multipliers",
                    where=self.file.path,
                    value=key,
                    hint="convert the model to GGUF again, with a newer converter",
                )
        return {ours: self.real(key, 0.0) or 1.0 for key, ours in keys.items()}

    def vocabulary(self) -> int:
        shape = self.file.info("token_embd.weight").shape
        if len(shape) != 2:
            raise self.odd("token_embd.weight is no matrix", shape)
        return shape[0]

    def attention(self, width: int) -> dict[str, Any]:
        heads = self.integer("attention.head_count")
        if not heads or (width % heads and not self.integer("attention.key_length", 0)):
            raise self.odd("attention.head_count does not divide the width", heads)
        bias = any(self.has(f"blk.0.{part}.bias") for part in ("attn_q", FUSED))
        output_bias = self.has("blk.0.attn_output.bias")
        return {
            "num_attention_heads": heads,
            "num_key_value_heads": self.integer("attention.head_count_kv", heads),
            "head_dim": self.head_width(width, heads),
            "qk_norm": self.has("blk.0.attn_q_norm.weight"),
            "qk_norm_over": "projection" if self.architecture == "olmo2" else "head",
            **self.window(),
            "qk_norm_after_rope": self.architecture == "hunyuan-dense",
            "attention_multiplier": self.real("attention.scale", 0.0) or None,
            "attention_bias": bias,
            "attention_output_bias": None if output_bias == bias else output_bias,
        }

    def window(self) -> dict[str, Any]:
        """Sliding windows; the other architectures pass over the key, as llama.cpp does, but for OLMo 2."""
        window = self.integer("attention.sliding_window", 0)
        if self.architecture == "olmo2" and window:
            raise self.odd("sliding windows in this architecture are not computed", window)
        if self.architecture != "gemma3":
            return {}
        if not window:
            raise self.odd("Gemma 3 without sliding windows is not computed", window)
        period, layers = self.integer("attention.sliding_window_pattern", 6), self.integer("block_count")
        if period < 1 or not 0 < layers < 2**16:
            raise self.odd("a period of windows that is none", period)
        kinds = ("full_attention", "sliding_attention")
        listed = tuple(kinds[(layer + 1) % period != 0] for layer in range(layers))
        return {"sliding_window": window, "layer_types": listed}

    def head_width(self, width: int, heads: int) -> int:
        keys = self.integer("attention.key_length", width // heads)
        values = self.integer("attention.value_length", width // heads)
        if keys != values:
            raise self.odd("keys and values of different width", values)
        return keys

    def positions(self, width: int) -> dict[str, Any]:
        if self.architecture == "gpt2":
            return {"kind": "learned"}
        if self.architecture == "refact" or (
            self.architecture == "baichuan" and self.integer("block_count") == 40
        ):
            return {"kind": "alibi"}
        head_width = self.head_width(width, self.integer("attention.head_count"))
        turned = self.integer("rope.dimension_count", head_width)
        if turned != head_width and (self.architecture not in PARTIAL_ROTARY or not 0 < turned < head_width):
            raise self.odd(f"rotary positions on a part of each head of {head_width} channels", turned)
        told = told_by(self.file, self.architecture, turned, self.integer("context_length"))
        rested = None
        if self.architecture == "smollm3":
            rested = tuple(int((layer + 1) % 4 != 0) for layer in range(self.integer("block_count")))
        if not self.file.flag(f"{self.architecture}.rope.scaling.finetuned", True) and (
            self.architecture == "granite"
        ):
            raise self.odd("Granite without rotary positions", "rope.scaling.finetuned")
        return {
            "kind": "rope",
            "rope_theta": told.rope_theta,
            "rope_scaling": None if told.rope_scaling is None else told.rope_scaling.model_dump(),
            "no_rope_layers": rested,
            "partial_rotary_factor": turned / head_width,
            "rope_local_base_freq": self.local_base(),
        }

    def local_base(self) -> float | None:
        return self.real("rope.freq_base_swa", 10_000.0) if self.architecture == "gemma3" else None

    def mlp(self) -> dict[str, Any]:
        experts = self.integer("expert_count", 0)
        if self.architecture in PLAIN_MLP:
            return {"kind": "plain", "intermediate_size": self.integer("feed_forward_length")}
        if not experts and self.architecture not in MIXTURES:
            hidden, bias = self.integer("feed_forward_length"), self.has("blk.0.ffn_gate.bias")
            act = "gelu_pytorch_tanh" if self.architecture == "gemma3" else "silu"
            return {"kind": "gated", "intermediate_size": hidden, "mlp_bias": bias, "hidden_act": act}
        dense = self.integer("leading_dense_block_count", 0) if self.architecture in SCALED_EXPERTS else 0
        hidden = "expert_feed_forward_length" if self.architecture in MIXTURES else "feed_forward_length"
        values = {
            "kind": "moe",
            "num_experts": experts,
            "num_experts_per_tok": self.integer("expert_used_count"),
            "moe_intermediate_size": self.integer(hidden),
            "router": self.router(),
        }
        if dense:
            values |= {
                "first_k_dense_replace": dense,
                "intermediate_size": self.integer("feed_forward_length"),
            }
        if self.architecture in SCALED_EXPERTS:
            values["n_shared_experts"] = self.integer("expert_shared_count")
        return values

    def router(self) -> dict[str, Any]:
        if self.architecture not in SCALED_EXPERTS:
            return {"kind": "softmax"}
        scale = self.real("expert_weights_scale", 1.0) or 1.0
        if self.architecture == "deepseek":
            return {"kind": "softmax", "norm_topk_prob": False, "routed_scaling_factor": scale}
        normalise = self.file.flag(f"{self.architecture}.expert_weights_norm", False)
        if self.integer("expert_gating_func", SIGMOID) == SOFTMAX:
            return {"kind": "softmax", "norm_topk_prob": normalise, "routed_scaling_factor": scale}
        if not normalise:
            raise self.odd("experts behind a sigmoid whose shares are not normalised", "expert_weights_norm")
        return {"kind": "sigmoid", "routed_scaling_factor": scale}

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number, or an array that repeats one for every layer."""
        name = f"{self.architecture}.{key}"
        field = self.file.fields.get(name)
        if field is not None and field.type.startswith("array:") and field.type not in ("array:string",):
            values = np.asarray(field.value)
            if values.dtype.kind not in "iu" or not len(values) or (values != values[0]).any():
                raise self.odd(f"{key} differs between layers", name)
            return int(values[0])
        return self.file.integer(name) if default is None else self.file.integer(name, default)

    def real(self, key: str, default: float | None = None) -> float:
        name = f"{self.architecture}.{key}"
        return self.file.real(name) if default is None else self.file.real(name, default)

    def has(self, tensor: str) -> bool:
        return tensor in self.file.tensors

    def odd(self, what: str, value: object) -> UserError:
        return UserError(what, where=self.file.path, value=value)
