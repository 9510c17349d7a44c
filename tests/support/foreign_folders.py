"""Small folders of classes that are a Llama but for a few keys, as transformers or their authors write them.

Where transformers has a class, its own random model is saved; MiniCPM, InternLM2 and MiniMind get the tensors
of the class that computes the same, under their names and in their arrangement.
"""

# W width, D head width; K groups of G heads that share keys and values

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

LAYERS, W, HEADS, GROUPS = 4, 64, 4, 2
D = W // HEADS
SIZES: dict[str, Any] = {
    "hidden_size": W, "intermediate_size": 96, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
    "num_key_value_heads": GROUPS, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
ALPHA = {"rope_type": "dynamic", "alpha": 50.0, "factor": 1.0, "rope_theta": 10_000.0}
MULTIPLIERS = {
    "embedding_multiplier": 12.0,
    "residual_multiplier": 0.7,
    "logits_scaling": 0.25,
    "attention_multiplier": 0.3,
}


def random_model(kind: str, vocab: int, **settings: Any) -> Any:
    """A model of transformers with gains around 1 and matrices large enough that every part matters."""
    config = getattr(transformers, f"{kind}Config")(vocab_size=vocab, **SIZES | settings)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            gain = name.endswith("norm.weight")
            size = 0.2 if gain or "embed" in name or tensor.dim() == 1 else tensor.shape[-1] ** -0.5
            tensor.normal_(1 if gain else 0, size, generator=generator)
    return model


def _saved(kind: str, **settings: Any) -> Callable[[Path, int], nn.Module]:
    def make(folder: Path, vocab: int) -> nn.Module:
        model = random_model(kind, vocab, **settings)
        model.save_pretrained(folder)
        return model

    return make


def _relabelled(
    kind: str,
    config: dict[str, Any],
    arranged: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    **settings: Any,
) -> Callable[[Path, int], nn.Module]:
    """The tensors of a class of transformers in a folder of another."""

    def make(folder: Path, vocab: int) -> nn.Module:
        model = random_model(kind, vocab, **settings)
        tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        if model.config.tie_word_embeddings:
            del tensors["lm_head.weight"]
        folder.mkdir(exist_ok=True)
        save_file(arranged(tensors), folder / "model.safetensors")
        values = {key: value for key, value in SIZES.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(values | {"vocab_size": vocab} | config))
        return model

    return make


def _as_internlm2(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values group after group in one matrix, and names of its own."""
    renamed = {
        "embed_tokens": "tok_embeddings",
        "lm_head": "output",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.o_proj": "attention.wo",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.up_proj": "feed_forward.w3",
        "mlp.down_proj": "feed_forward.w2",
    }
    found: dict[str, Tensor] = {}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}.self_attn."
        for suffix in ("weight", "bias"):
            if f"{prefix}q_proj.{suffix}" not in tensors:
                continue
            query, key, value = (tensors.pop(f"{prefix}{part}_proj.{suffix}") for part in "qkv")
            rows = []
            for group in range(GROUPS):
                rows += [query.split(D)[head] for head in range(group * 2, group * 2 + 2)]
                rows += [key.split(D)[group], value.split(D)[group]]
            found[f"model.layers.{layer}.attention.wqkv.{suffix}"] = torch.cat(rows)
    for name, tensor in tensors.items():
        for theirs, other in renamed.items():
            name = name.replace(theirs, other)
        found[name] = tensor
    return found


def _as_minimind(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Experts one by one, as MiniMind holds them."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place, _, last = name.rpartition(".")
        if last == "gate_up_proj":
            for expert, (gate, up) in enumerate(zip(*tensor.chunk(2, 1), strict=True)):
                found[f"{place}.{expert}.gate_proj.weight"] = gate.clone()
                found[f"{place}.{expert}.up_proj.weight"] = up.clone()
        elif last == "down_proj":
            found |= {f"{place}.{n}.down_proj.weight": down.clone() for n, down in enumerate(tensor)}
        else:
            found[name] = tensor
    return found


_MINIMIND = {"architectures": ["MiniMindForCausalLM"], "model_type": "minimind", "dropout": 0.0,
             "rope_theta": 1e6, "inference_rope_scaling": False, "rope_scaling": None,
             "flash_attn": True}  # fmt: skip
_MINIMIND_3 = _MINIMIND | {
    "head_dim": D,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 96,
    "norm_topk_prob": True,
    "router_aux_loss_coef": 5e-4,
    "tie_word_embeddings": True,
}
_INTERNLM2 = {"architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", "rope_theta": 1e6,
              "tie_word_embeddings": False}  # fmt: skip
MAKERS: dict[str, tuple[Callable[[Path, int], nn.Module], str, str]] = {
    "ernie": (_saved("Ernie4_5", head_dim=32), "LlamaForCausalLM", "llama"),
    "ernie, own head": (
        _saved("Ernie4_5", head_dim=D, tie_word_embeddings=False), "LlamaForCausalLM", "llama",
    ),
    "ernie, biases": (
        _saved("Ernie4_5", head_dim=D, use_bias=True), "LlamaForCausalLM", "llama",
    ),
    "granite, biases of the MLP": (
        _saved("Granite", mlp_bias=True, **MULTIPLIERS), "GraniteForCausalLM", "granite",
    ),
    "hunyuan": (
        _saved("HunYuanDenseV1", head_dim=D, rope_parameters=ALPHA, tie_word_embeddings=True),
        "HunYuanDenseV1ForCausalLM", "hunyuan-dense",
    ),
    "hunyuan, biases": (
        _saved("HunYuanDenseV1", head_dim=32, attention_bias=True), "HunYuanDenseV1ForCausalLM", "",
    ),
    "smollm3": (_saved("SmolLM3"), "SmolLM3ForCausalLM", "smollm3"),
    "smollm3, all rotate": (_saved("SmolLM3", no_rope_layers=[1] * LAYERS), "LlamaForCausalLM", "llama"),
    "granite": (_saved("Granite", **MULTIPLIERS), "GraniteForCausalLM", "granite"),
    "granite, biases": (
        _saved("Granite", attention_bias=True, tie_word_embeddings=True, **MULTIPLIERS),
        "GraniteForCausalLM", "granite",
    ),
    "llama, dynamic": (
        _saved("Llama", rope_parameters=ALPHA | {"factor": 4.0}), "LlamaForCausalLM", "llama",
    ),
    "minicpm": (
        _relabelled(
            "Granite",
            {"architectures": ["MiniCPMForCausalLM"], "model_type": "minicpm", "scale_emb": 12,
             "scale_depth": 1.4, "dim_model_base": 256, "rope_scaling": None},
            lambda tensors: tensors,
            embedding_multiplier=12.0, residual_multiplier=1.4 / math.sqrt(LAYERS), logits_scaling=W / 256,
            attention_multiplier=D**-0.5, tie_word_embeddings=True,
        ),
        "GraniteForCausalLM", "granite",
    ),
    "internlm2": (
        _relabelled("Llama", _INTERNLM2 | {"bias": False, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
                    _as_internlm2, rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
        "LlamaForCausalLM", "llama",
    ),
    "internlm2, biases": (
        _relabelled("Llama", _INTERNLM2 | {"attention_bias": True}, _as_internlm2, attention_bias=True,
                    rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
        "LlamaForCausalLM", "llama",
    ),
    "minimind": (
        _relabelled("Qwen3", _MINIMIND_3 | {"use_moe": False}, lambda tensors: tensors, head_dim=D,
                    rope_parameters={"rope_type": "default", "rope_theta": 1e6}, tie_word_embeddings=True),
        "Qwen3ForCausalLM", "qwen3",
    ),
    "minimind, experts": (
        _relabelled("Qwen3Moe", _MINIMIND_3 | {"use_moe": True}, _as_minimind, head_dim=D, num_experts=4,
                    num_experts_per_tok=2, moe_intermediate_size=96, norm_topk_prob=True,
                    rope_parameters={"rope_type": "default", "rope_theta": 1e6}, tie_word_embeddings=True),
        "Qwen3MoeForCausalLM", "qwen3moe",
    ),
    "minimind 2": (
        _relabelled("Llama", _MINIMIND | {"use_moe": False, "n_routed_experts": 4, "n_shared_experts": 1,
                                          "num_experts_per_tok": 2}, lambda tensors: tensors,
                    rope_parameters={"rope_type": "default", "rope_theta": 1e6}, tie_word_embeddings=True),
        "LlamaForCausalLM", "llama",
    ),
}  # fmt: skip
"""By a description: what fills a folder for some size of vocabulary and gives the model of transformers that
computes the same; the class, and the architecture of llama.cpp, it is exported as ("": that is refused)."""
