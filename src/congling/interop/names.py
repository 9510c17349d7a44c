"""Tensor names, ours and those of Hugging Face folders: one table an architecture, read in both directions.

``{}`` stands for the number of the block, a second ``{}`` for that of the expert. An entry with several of
our tensors is one tensor there, in which they lie one below the other in this order.
"""

import re
from typing import NamedTuple


class Entry(NamedTuple):
    """One tensor of theirs and what it holds of ours."""

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False
    """Stored as (inputs, outputs)."""

    @property
    def one_expert(self) -> bool:
        """Whether theirs is a single expert and ours the stack of all."""
        return self.theirs.count("{}") == 2


_LLAMA = (
    Entry("model.embed_tokens.weight", ("embedding.weight",)),
    Entry("model.norm.weight", ("norm.weight",)),
    Entry("lm_head.weight", ("head.weight",)),
    Entry("model.layers.{}.input_layernorm.weight", ("blocks.{}.attention_norm.weight",)),
    Entry("model.layers.{}.post_attention_layernorm.weight", ("blocks.{}.mlp_norm.weight",)),
    Entry("model.layers.{}.self_attn.q_proj.weight", ("blocks.{}.attention.query.weight",)),
    Entry("model.layers.{}.self_attn.k_proj.weight", ("blocks.{}.attention.key.weight",)),
    Entry("model.layers.{}.self_attn.v_proj.weight", ("blocks.{}.attention.value.weight",)),
    Entry("model.layers.{}.self_attn.o_proj.weight", ("blocks.{}.attention.output.weight",)),
    Entry("model.layers.{}.mlp.gate_proj.weight", ("blocks.{}.mlp.gate.weight",)),
    Entry("model.layers.{}.mlp.up_proj.weight", ("blocks.{}.mlp.up.weight",)),
    Entry("model.layers.{}.mlp.down_proj.weight", ("blocks.{}.mlp.down.weight",)),
)
_BIASES = (
    Entry("model.layers.{}.self_attn.q_proj.bias", ("blocks.{}.attention.query.bias",)),
    Entry("model.layers.{}.self_attn.k_proj.bias", ("blocks.{}.attention.key.bias",)),
    Entry("model.layers.{}.self_attn.v_proj.bias", ("blocks.{}.attention.value.bias",)),
    Entry("model.layers.{}.self_attn.o_proj.bias", ("blocks.{}.attention.output.bias",)),
)
_MLP_BIASES = (
    Entry("model.layers.{}.mlp.gate_proj.bias", ("blocks.{}.mlp.gate.bias",)),
    Entry("model.layers.{}.mlp.up_proj.bias", ("blocks.{}.mlp.up.bias",)),
    Entry("model.layers.{}.mlp.down_proj.bias", ("blocks.{}.mlp.down.bias",)),
)
_QK_NORM = (
    Entry("model.layers.{}.self_attn.q_norm.weight", ("blocks.{}.attention.query_norm.weight",)),
    Entry("model.layers.{}.self_attn.k_norm.weight", ("blocks.{}.attention.key_norm.weight",)),
)
_OLMO2 = (
    *(entry for entry in (*_LLAMA, *_BIASES, *_QK_NORM) if "layernorm" not in entry.theirs),
    Entry(
        "model.layers.{}.post_attention_layernorm.weight",
        ("blocks.{}.post_attention_norm.weight",),
    ),
    Entry("model.layers.{}.post_feedforward_layernorm.weight", ("blocks.{}.post_mlp_norm.weight",)),
)
_GATE_UP = ("blocks.{}.mlp.gate.weight", "blocks.{}.mlp.up.weight")
_GLM = (
    *(entry for entry in _LLAMA if not re.search("gate_proj|up_proj", entry.theirs)),
    *_BIASES,
    Entry("model.layers.{}.mlp.gate_up_proj.weight", _GATE_UP),
)
_GLM4 = (
    *_GLM,
    Entry(
        "model.layers.{}.post_self_attn_layernorm.weight",
        ("blocks.{}.post_attention_norm.weight",),
    ),
    Entry("model.layers.{}.post_mlp_layernorm.weight", ("blocks.{}.post_mlp_norm.weight",)),
)
_GEMMA3 = (
    *(entry for entry in (*_LLAMA, *_BIASES, *_QK_NORM) if "post_attention" not in entry.theirs),
    Entry(
        "model.layers.{}.post_attention_layernorm.weight",
        ("blocks.{}.post_attention_norm.weight",),
    ),
    Entry("model.layers.{}.pre_feedforward_layernorm.weight", ("blocks.{}.mlp_norm.weight",)),
    Entry("model.layers.{}.post_feedforward_layernorm.weight", ("blocks.{}.post_mlp_norm.weight",)),
)
_FUSED_EXPERTS = (  # as transformers 5 holds them in memory
    Entry("model.layers.{}.mlp.gate.weight", ("blocks.{}.mlp.router.weight",)),
    Entry(
        "model.layers.{}.mlp.experts.gate_up_proj",
        ("blocks.{}.mlp.experts.gate", "blocks.{}.mlp.experts.up"),
    ),
    Entry("model.layers.{}.mlp.experts.down_proj", ("blocks.{}.mlp.experts.down",)),
)
_EXPERTS = (
    Entry("model.layers.{}.mlp.experts.{}.gate_proj.weight", ("blocks.{}.mlp.experts.gate",)),
    Entry("model.layers.{}.mlp.experts.{}.up_proj.weight", ("blocks.{}.mlp.experts.up",)),
    Entry("model.layers.{}.mlp.experts.{}.down_proj.weight", ("blocks.{}.mlp.experts.down",)),
    *_FUSED_EXPERTS,
)
_MIXTRAL_EXPERTS = (
    Entry("model.layers.{}.block_sparse_moe.gate.weight", ("blocks.{}.mlp.router.weight",)),
    Entry("model.layers.{}.block_sparse_moe.experts.{}.w1.weight", ("blocks.{}.mlp.experts.gate",)),
    Entry("model.layers.{}.block_sparse_moe.experts.{}.w3.weight", ("blocks.{}.mlp.experts.up",)),
    Entry("model.layers.{}.block_sparse_moe.experts.{}.w2.weight", ("blocks.{}.mlp.experts.down",)),
    *_FUSED_EXPERTS,
)
_SHARED_EXPERTS = (
    Entry(
        "model.layers.{}.mlp.shared_experts.gate_proj.weight",
        ("blocks.{}.mlp.shared.gate.weight",),
    ),
    Entry("model.layers.{}.mlp.shared_experts.up_proj.weight", ("blocks.{}.mlp.shared.up.weight",)),
    Entry(
        "model.layers.{}.mlp.shared_experts.down_proj.weight",
        ("blocks.{}.mlp.shared.down.weight",),
    ),
)
_QKV = tuple(f"blocks.{{}}.attention.{part}" for part in ("query", "key", "value"))
_GPT2 = (
    Entry("transformer.wte.weight", ("embedding.weight",)),
    Entry("transformer.wpe.weight", ("positions.weight",)),
    Entry("lm_head.weight", ("head.weight",)),
    Entry("transformer.ln_f.weight", ("norm.weight",)),
    Entry("transformer.ln_f.bias", ("norm.bias",)),
    Entry("transformer.h.{}.ln_1.weight", ("blocks.{}.attention_norm.weight",)),
    Entry("transformer.h.{}.ln_1.bias", ("blocks.{}.attention_norm.bias",)),
    Entry("transformer.h.{}.ln_2.weight", ("blocks.{}.mlp_norm.weight",)),
    Entry("transformer.h.{}.ln_2.bias", ("blocks.{}.mlp_norm.bias",)),
    Entry("transformer.h.{}.attn.c_attn.weight", tuple(f"{part}.weight" for part in _QKV), True),
    Entry("transformer.h.{}.attn.c_attn.bias", tuple(f"{part}.bias" for part in _QKV)),
    Entry("transformer.h.{}.attn.c_proj.weight", ("blocks.{}.attention.output.weight",), True),
    Entry("transformer.h.{}.attn.c_proj.bias", ("blocks.{}.attention.output.bias",)),
    Entry("transformer.h.{}.mlp.c_fc.weight", ("blocks.{}.mlp.up.weight",), True),
    Entry("transformer.h.{}.mlp.c_fc.bias", ("blocks.{}.mlp.up.bias",)),
    Entry("transformer.h.{}.mlp.c_proj.weight", ("blocks.{}.mlp.down.weight",), True),
    Entry("transformer.h.{}.mlp.c_proj.bias", ("blocks.{}.mlp.down.bias",)),
)
_BAICHUAN = (
    Entry("model.layers.{}.self_attn.W_pack.weight", tuple(f"{part}.weight" for part in _QKV)),
    *(entry for entry in _LLAMA if not re.search(r"[qkv]_proj", entry.theirs)),
)
_DENSE = _LLAMA + _BIASES + _QK_NORM
_HUNYUAN = (
    *_LLAMA,
    *_BIASES,
    Entry(
        "model.layers.{}.self_attn.query_layernorm.weight",
        ("blocks.{}.attention.query_norm.weight",),
    ),
    Entry("model.layers.{}.self_attn.key_layernorm.weight", ("blocks.{}.attention.key_norm.weight",)),
)
_INTERNLM2 = (
    Entry("model.tok_embeddings.weight", ("embedding.weight",)),
    Entry("model.norm.weight", ("norm.weight",)),
    Entry("output.weight", ("head.weight",)),
    Entry("model.layers.{}.attention_norm.weight", ("blocks.{}.attention_norm.weight",)),
    Entry("model.layers.{}.ffn_norm.weight", ("blocks.{}.mlp_norm.weight",)),
    Entry("model.layers.{}.attention.wqkv.weight", tuple(f"{part}.weight" for part in _QKV)),
    Entry("model.layers.{}.attention.wqkv.bias", tuple(f"{part}.bias" for part in _QKV)),
    Entry("model.layers.{}.attention.wo.weight", ("blocks.{}.attention.output.weight",)),
    Entry("model.layers.{}.attention.wo.bias", ("blocks.{}.attention.output.bias",)),
    Entry("model.layers.{}.feed_forward.w1.weight", ("blocks.{}.mlp.gate.weight",)),
    Entry("model.layers.{}.feed_forward.w3.weight", ("blocks.{}.mlp.up.weight",)),
    Entry("model.layers.{}.feed_forward.w2.weight", ("blocks.{}.mlp.down.weight",)),
)
_MINIMIND = (
    *_DENSE,
    *_EXPERTS,
    *(entry._replace(theirs=entry.theirs.replace("experts.", "experts.0.")) for entry in _SHARED_EXPERTS),
)

ARCHITECTURES: dict[str, tuple[Entry, ...]] = {
    "LlamaForCausalLM": _DENSE + _MLP_BIASES,
    "MistralForCausalLM": _DENSE,
    "Qwen2ForCausalLM": _DENSE,
    "Qwen3ForCausalLM": _DENSE,
    "GPT2LMHeadModel": _GPT2,
    "MixtralForCausalLM": _DENSE + _MIXTRAL_EXPERTS,
    "Qwen3MoeForCausalLM": _DENSE + _EXPERTS,
    "Dots1ForCausalLM": (
        *_DENSE, *_EXPERTS, *_SHARED_EXPERTS,
        Entry("model.layers.{}.mlp.gate.e_score_correction_bias", ("blocks.{}.mlp.router.bias",)),
    ),
    "DeepseekForCausalLM": _DENSE + _EXPERTS + _SHARED_EXPERTS,
    "Olmo2ForCausalLM": _OLMO2,
    "Ernie4_5ForCausalLM": _DENSE + _MLP_BIASES,
    "HunYuanDenseV1ForCausalLM": _HUNYUAN,
    "MiniCPMForCausalLM": _DENSE,
    "GraniteForCausalLM": _DENSE + _MLP_BIASES,
    "InternLM2ForCausalLM": _INTERNLM2,
    "SmolLM3ForCausalLM": _DENSE + _MLP_BIASES,
    "MiniMindForCausalLM": _MINIMIND,
    "GlmForCausalLM": _GLM,
    "Glm4ForCausalLM": _GLM4,
    "Gemma3ForCausalLM": _GEMMA3,
    "BaiChuanForCausalLM": _BAICHUAN,
    "BaichuanForCausalLM": _BAICHUAN,
}  # fmt: skip
"""Names by the class that ``config.json`` gives as ``architectures``. Where a tensor of ours is in several
entries, the first is how it is written and all are read."""


def pattern(name: str) -> tuple[str, int | None]:
    """A name with ``{}`` for the number of its block, and that number.

    >>> pattern("blocks.3.mlp.up.weight")
    ('blocks.{}.mlp.up.weight', 3)
    """
    match = re.match(r"blocks\.(\d+)\.", name)
    if match is None:
        return name, None
    return "blocks.{}." + name[match.end() :], int(match[1])


def entries_of(architecture: str, name: str) -> list[Entry]:
    """Where a tensor of ours may be found in a folder of this architecture, as written first."""
    ours, _ = pattern(name)
    return [entry for entry in ARCHITECTURES[architecture] if ours in entry.ours]


def their_name(architecture: str, name: str) -> str | None:
    """Their name of one of our tensors where it is a tensor of its own there, else ``None``.

    >>> their_name("LlamaForCausalLM", "blocks.3.attention.query.weight")
    'model.layers.3.self_attn.q_proj.weight'
    """
    ours, layer = pattern(name)
    for entry in ARCHITECTURES[architecture]:
        if entry.ours == (ours,) and not entry.one_expert:
            return entry.theirs.format(layer)
    return None
