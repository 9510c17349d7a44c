"""A model's configuration as keys of a GGUF file, and back. Without torch."""

# H heads, D head width

import math
from typing import Any

import numpy as np

from congling.core.config import build
from congling.core.errors import UserError
from congling.interop.gguf.contents import require_model
from congling.interop.gguf.fields import Field
from congling.interop.gguf.file import GGUFFile
from congling.interop.gguf.names import FUSED
from congling.interop.options import window_period
from congling.model.config import Llama3Scaling, ModelConfig, RotaryConfig
from congling.model.mlp_config import MoEConfig

_SOFTMAX, _SIGMOID = 1, 2
_SCALED_EXPERTS = frozenset({"deepseek", "dots1", "glm4moe"})
_MIXTURES = _SCALED_EXPERTS | {"qwen3moe"}
_PLAIN_MLP = frozenset({"gpt2", "starcoder2"})
_LAYER_NORM = _PLAIN_MLP | {"stablelm"}
_NORM_PLACEMENT = {"olmo2": "post", "glm4": "sandwich", "gemma3": "sandwich"}
"""Of the architectures in which it is not that before each sublayer."""
_DENSE = frozenset({"llama", "qwen2", "qwen3", "baichuan", "refact", "ernie4_5", "internlm2"})
_MULTIPLIED = frozenset({"granite", "minicpm"})
_PARTIAL_ROTARY = frozenset({"chatglm", "glm4", "stablelm"})
"""Architectures in which a part of each head may turn."""
_OF_THEIR_OWN = frozenset({"smollm3", "hunyuan-dense", "chatglm"}) | _NORM_PLACEMENT.keys()
READABLE = _DENSE | _MULTIPLIED | _OF_THEIR_OWN | _LAYER_NORM | _MIXTURES
_SCALED_NORMAL = frozenset({"gpt2"}) | _NORM_PLACEMENT.keys()
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
ROPE_FACTORS = "rope_freqs.weight"
CHAT = "congling.chat"
"""Our key for whether the model was tuned for its chat template, which its tokenizer has in any case."""
_ORIGINAL_CONTEXTS = tuple(1 << power for power in range(9, 18))


def config_fields(config: ModelConfig, architecture: str) -> dict[str, Field]:
    """The keys that describe a model to llama.cpp, under the prefix of its architecture."""
    attention, hidden = config.attention, config.mlp_size
    if isinstance(config.mlp, MoEConfig) and config.mlp.intermediate_size is not None:
        hidden = config.mlp.intermediate_size
    keys: dict[str, Field] = {
        "vocab_size": Field("u32", config.vocab_size),
        "context_length": Field("u32", config.max_position_embeddings),
        "embedding_length": Field("u32", config.hidden_size),
        "block_count": Field("u32", config.num_hidden_layers),
        "feed_forward_length": Field("u32", hidden),
        "attention.head_count": Field("u32", attention.num_attention_heads),
        "attention.head_count_kv": Field("u32", attention.num_key_value_heads),
    }
    epsilon = "layer_norm_epsilon" if config.norm.kind == "layer" else "layer_norm_rms_epsilon"
    keys[f"attention.{epsilon}"] = Field("f32", config.norm.eps)
    if attention.num_attention_heads * attention.head_dim != config.hidden_size:
        keys["attention.key_length"] = Field("u32", attention.head_dim)
        keys["attention.value_length"] = Field("u32", attention.head_dim)
    if config.positions.kind == "rope":
        keys["rope.dimension_count"] = Field("u32", config.positions.rotary_dim(attention.head_dim))
        keys["rope.freq_base"] = Field("f32", config.positions.rope_theta)
        if config.positions.rope_scaling is not None and config.positions.rope_scaling.rope_type == "linear":
            keys["rope.scaling.type"] = Field("string", "linear")
            keys["rope.scaling.factor"] = Field("f32", config.positions.rope_scaling.factor)
    if isinstance(config.mlp, MoEConfig):
        keys |= _mixture_fields(config.mlp, architecture)
    if architecture == "gemma3":
        keys |= _window_fields(config)
    if architecture in _MULTIPLIED:
        keys["embedding_scale"] = Field("f32", config.embedding_multiplier)
        keys["residual_scale"] = Field("f32", config.residual_multiplier)
        keys["logit_scale"] = Field("f32", config.logits_scaling)
        if attention.attention_multiplier is not None:
            keys["attention.scale"] = Field("f32", attention.attention_multiplier)
    return {f"{architecture}.{key}": field for key, field in keys.items()}


def _window_fields(config: ModelConfig) -> dict[str, Field]:
    assert isinstance(config.positions, RotaryConfig) and config.attention.sliding_window is not None
    return {
        "attention.sliding_window": Field("u32", config.attention.sliding_window),
        "attention.sliding_window_pattern": Field("u32", window_period(config) or 1),
        "rope.freq_base_swa": Field(
            "f32", config.positions.rope_local_base_freq or config.positions.rope_theta
        ),
    }


def rope_factors(scaling: Llama3Scaling, base: float, head_width: int) -> np.ndarray:
    """What llama.cpp divides each channel's frequency by (``rope_freqs.weight``): (D/2,) float32."""
    turns = base ** (-np.arange(0, head_width, 2) / head_width) / (2 * math.pi)  # a token
    seen = turns * scaling.original_max_position_embeddings
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = np.clip((seen - low) / (high - low), 0, 1)
    return (1 / ((1 - kept) / scaling.factor + kept)).astype(np.float32)


def config_from(file: GGUFFile) -> ModelConfig:
    """The configuration of the model in a file.

    Raises:
        UserError: an architecture or a setting that we do not compute, or keys that are missing or contradict
            each other.
    """
    return build(ModelConfig, _Reader(file).values(), where=file.path)


def architecture_of(file: GGUFFile) -> str:
    """The name of the file's architecture.

    Raises:
        UserError: it is none that we read, or the file holds no model.
    """
    kind = file.text("general.type", "model")
    if kind != "model":
        raise UserError("this GGUF file holds something other than a model", where=file.path, value=kind)
    architecture = file.text("general.architecture")
    if architecture not in READABLE:
        hint = f"readable: {', '.join(sorted(READABLE))}"
        raise UserError("no architecture we can read", where=file.path, value=architecture, hint=hint)
    if file.integer("split.count", 1) != 1:
        raise UserError("one of several parts of a model", where=file.path, hint="merge them with gguf-split")
    return architecture


def facts_of(file: GGUFFile) -> dict[str, Any]:
    """What a file says of its model besides numbers: ``name``, ``architecture``, and ``chat``, whether it was
    tuned for its chat template. Where that is not said, a template speaks for it.

    Raises:
        UserError: as ``architecture_of``, or the file holds a trainer's checkpoint or a vocabulary alone.
    """
    require_model(file)
    # A name may be any bytes; in messages and manifests it must be text.
    name = file.text("general.name", file.path.stem).encode("utf-8", "replace").decode()
    chat = file.flag(CHAT, "tokenizer.chat_template" in file.fields)
    return {"name": name, "architecture": architecture_of(file), "chat": chat}


def _mixture_fields(mlp: MoEConfig, architecture: str) -> dict[str, Field]:
    keys = {
        "expert_count": Field("u32", mlp.num_experts),
        "expert_used_count": Field("u32", mlp.num_experts_per_tok),
    }
    if architecture in _MIXTURES:
        keys["expert_feed_forward_length"] = Field("u32", mlp.moe_intermediate_size)
    if architecture in _SCALED_EXPERTS:
        keys["leading_dense_block_count"] = Field("u32", mlp.first_k_dense_replace)
        keys["expert_shared_count"] = Field("u32", max(1, mlp.n_shared_experts))
        keys["expert_weights_scale"] = Field("f32", mlp.router.routed_scaling_factor)
    if architecture in ("dots1", "glm4moe"):
        sigmoid = mlp.router.kind == "sigmoid"
        keys["expert_weights_norm"] = Field("bool", mlp.router.kind == "sigmoid" or mlp.router.norm_topk_prob)
        keys["expert_gating_func"] = Field("u32", _SIGMOID if sigmoid else _SOFTMAX)
    return keys


class _Reader:
    """The keys of one file as values of our configuration."""

    def __init__(self, file: GGUFFile) -> None:
        self.file, self.architecture = file, architecture_of(file)

    def values(self) -> dict[str, Any]:
        for key, neutral in _NEUTRAL.items():
            if self.architecture in _MULTIPLIED and key in _MULTIPLIERS:
                continue
            field = self.file.fields.get(f"{self.architecture}.{key}", Field("", neutral[0]))
            if (value := field.type if field.type.startswith("array") else field.value) not in neutral:
                raise self.odd(f"{self.architecture}.{key} has a value that we do not compute with", value)
        width = self.integer("embedding_length")
        layer = self.architecture in _LAYER_NORM
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
            "norm_placement": _NORM_PLACEMENT.get(self.architecture, "pre"),
            "initial": {"kind": "scaled-normal" if self.architecture in _SCALED_NORMAL else "zero-output"},
            **self.multipliers(),
        }

    def multipliers(self) -> dict[str, Any]:
        """Of a whole model; that of the scores is attention's."""
        if self.architecture == "gemma3":
            return {"embedding_multiplier": self.integer("embedding_length") ** 0.5}
        if self.architecture not in _MULTIPLIED:
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
        if turned != head_width and (self.architecture not in _PARTIAL_ROTARY or not 0 < turned < head_width):
            raise self.odd(f"rotary positions on a part of each head of {head_width} channels", turned)
        base = self.real("rope.freq_base", 10_000.0)
        rested = None
        if self.architecture == "smollm3":
            rested = tuple(int((layer + 1) % 4 != 0) for layer in range(self.integer("block_count")))
        if not self.file.flag(f"{self.architecture}.rope.scaling.finetuned", True) and (
            self.architecture == "granite"
        ):
            raise self.odd("Granite without rotary positions", "rope.scaling.finetuned")
        return {
            "kind": "rope",
            "rope_theta": base,
            "rope_scaling": self.scaling(base, head_width),
            "no_rope_layers": rested,
            "partial_rotary_factor": turned / head_width,
            "rope_local_base_freq": self.local_base(),
        }

    def local_base(self) -> float | None:
        return self.real("rope.freq_base_swa", 10_000.0) if self.architecture == "gemma3" else None

    def scaling(self, base: float, head_width: int) -> dict[str, Any] | None:
        kind = self.file.text(f"{self.architecture}.rope.scaling.type", None)
        factor = self.real("rope.scaling.factor", self.real("rope.scale_linear", 1.0))
        if self.has(ROPE_FACTORS):
            return self.llama3(base, head_width)
        if kind == "none" or factor in (0.0, 1.0):
            return None
        if kind not in (None, "linear"):
            raise self.odd("a scaling of rotary positions that we do not compute", kind)
        return {"rope_type": "linear", "factor": factor}

    def llama3(self, base: float, head_width: int) -> dict[str, Any]:
        """The parameters behind a table of factors, found by trying the few that models have used."""
        factors = self.file.array(ROPE_FACTORS)
        factor = float(factors.max()) if len(factors) else math.nan
        if factors.shape == (head_width // 2,) and math.isfinite(factor) and factor >= 1:
            for context in _ORIGINAL_CONTEXTS:
                scaling = Llama3Scaling(factor=factor, original_max_position_embeddings=context)
                if np.allclose(rope_factors(scaling, base, head_width), factors, rtol=1e-4):
                    return scaling.model_dump()
        raise self.odd("factors of rotary positions that we do not compute", ROPE_FACTORS)

    def mlp(self) -> dict[str, Any]:
        experts = self.integer("expert_count", 0)
        if self.architecture in _PLAIN_MLP:
            return {"kind": "plain", "intermediate_size": self.integer("feed_forward_length")}
        if not experts and self.architecture not in _MIXTURES:
            hidden, bias = self.integer("feed_forward_length"), self.has("blk.0.ffn_gate.bias")
            act = "gelu_pytorch_tanh" if self.architecture == "gemma3" else "silu"
            return {"kind": "gated", "intermediate_size": hidden, "mlp_bias": bias, "hidden_act": act}
        dense = self.integer("leading_dense_block_count", 0) if self.architecture in _SCALED_EXPERTS else 0
        hidden = "expert_feed_forward_length" if self.architecture in _MIXTURES else "feed_forward_length"
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
        if self.architecture in _SCALED_EXPERTS:
            values["n_shared_experts"] = self.integer("expert_shared_count")
        return values

    def router(self) -> dict[str, Any]:
        if self.architecture not in _SCALED_EXPERTS:
            return {"kind": "softmax"}
        scale = self.real("expert_weights_scale", 1.0) or 1.0
        if self.architecture == "deepseek":
            return {"kind": "softmax", "norm_topk_prob": False, "routed_scaling_factor": scale}
        normalise = self.file.flag(f"{self.architecture}.expert_weights_norm", False)
        if self.integer("expert_gating_func", _SIGMOID) == _SOFTMAX:
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
