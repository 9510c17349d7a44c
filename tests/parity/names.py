"""Tensor names of our models and of ``transformers``, one table a family, ``{}`` standing for the layer.

A list names tensors that transformers keeps as one, stacked along the rows; GPT-2's ``c_…`` matrices are
stored transposed.
"""

import re

import torch
from torch import Tensor

_SHARED = {
    "model.embed_tokens.weight": "embedding.weight",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "head.weight",
    "model.layers.{}.input_layernorm.weight": "blocks.{}.attention_norm.weight",
    "model.layers.{}.post_attention_layernorm.weight": "blocks.{}.mlp_norm.weight",
    "model.layers.{}.self_attn.q_proj.weight": "blocks.{}.attention.query.weight",
    "model.layers.{}.self_attn.k_proj.weight": "blocks.{}.attention.key.weight",
    "model.layers.{}.self_attn.v_proj.weight": "blocks.{}.attention.value.weight",
    "model.layers.{}.self_attn.o_proj.weight": "blocks.{}.attention.output.weight",
    "model.layers.{}.mlp.gate_proj.weight": "blocks.{}.mlp.gate.weight",
    "model.layers.{}.mlp.up_proj.weight": "blocks.{}.mlp.up.weight",
    "model.layers.{}.mlp.down_proj.weight": "blocks.{}.mlp.down.weight",
}
_QK_NORM = {
    "model.layers.{}.self_attn.q_norm.weight": "blocks.{}.attention.query_norm.weight",
    "model.layers.{}.self_attn.k_norm.weight": "blocks.{}.attention.key_norm.weight",
}
_EXPERTS = {
    "model.layers.{}.mlp.gate.weight": "blocks.{}.mlp.router.weight",
    "model.layers.{}.mlp.experts.gate_up_proj": ["blocks.{}.mlp.experts.gate", "blocks.{}.mlp.experts.up"],
    "model.layers.{}.mlp.experts.down_proj": "blocks.{}.mlp.experts.down",
}
_GPT2 = {
    "transformer.wte.weight": "embedding.weight",
    "transformer.wpe.weight": "positions.weight",
    "lm_head.weight": "head.weight",
    "transformer.ln_f": "norm",
    "transformer.h.{}.ln_1": "blocks.{}.attention_norm",
    "transformer.h.{}.attn.c_attn": [f"blocks.{{}}.attention.{part}" for part in ("query", "key", "value")],
    "transformer.h.{}.attn.c_proj": "blocks.{}.attention.output",
    "transformer.h.{}.ln_2": "blocks.{}.mlp_norm",
    "transformer.h.{}.mlp.c_fc": "blocks.{}.mlp.up",
    "transformer.h.{}.mlp.c_proj": "blocks.{}.mlp.down",
}
NAMES: dict[str, dict[str, str | list[str]]] = {
    "gpt2": _GPT2,
    "llama": _SHARED,
    "qwen3": _SHARED | _QK_NORM,
    "qwen3-moe": _SHARED | _QK_NORM | _EXPERTS,
    "deepseek-moe": _SHARED | _QK_NORM | _EXPERTS | {
        "model.layers.{}.mlp.gate.e_score_correction_bias": "blocks.{}.mlp.router.bias",
        "model.layers.{}.mlp.shared_experts.gate_proj.weight": "blocks.{}.mlp.shared.gate.weight",
        "model.layers.{}.mlp.shared_experts.up_proj.weight": "blocks.{}.mlp.shared.up.weight",
        "model.layers.{}.mlp.shared_experts.down_proj.weight": "blocks.{}.mlp.shared.down.weight",
    },
}  # fmt: skip


def translated(family: str, ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under the names and in the arrangement of a transformers model with tensors ``theirs``."""
    result = {}
    for name, like in theirs.items():
        layer = next(iter(re.findall(r"\.(\d+)\.", name)), "")
        pattern = name.replace(f".{layer}.", ".{}.", 1) if layer else name
        stem, suffix = pattern, ""
        if family == "gpt2" and pattern not in NAMES[family]:
            stem, _, suffix = pattern.rpartition(".")
        parts = NAMES[family][stem]
        names = [parts] if isinstance(parts, str) else parts
        full = [part.format(layer) + (f".{suffix}" if suffix else "") for part in names]
        if full == ["head.weight"] and "head.weight" not in ours:
            full = ["embedding.weight"]
        stack = torch.cat([ours[part] for part in full], dim=-2 if ours[full[0]].dim() > 1 else 0)
        transposed = family == "gpt2" and ".c_" in name and suffix == "weight"
        result[name] = stack.T if transposed else stack
        assert result[name].shape == like.shape, name
    return result
