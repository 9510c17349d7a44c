"""Models that transformers has no class for, against a plain computation from the tensors of their folder.

Baichuan has one matrix for queries, keys and values, a normalised head (Baichuan 2), linear biases in place
of rotary positions (13B); DeepSeekMoE takes expert scores as the softmax gives them.
"""

# T time, W width, H heads, D head width

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize, silu, softmax

from congling.interop.hf.model import read
from congling.model.transformer import Transformer

W, F, H, D, V, LAYERS = 48, 80, 6, 8, 61, 2
Tensors = dict[str, Tensor]
COMMON: dict[str, Any] = {
    "hidden_size": W, "intermediate_size": F, "num_attention_heads": H, "num_hidden_layers": LAYERS,
    "vocab_size": V, "hidden_act": "silu", "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
}  # fmt: skip
BAICHUAN = {
    "7B": {"architectures": ["BaiChuanForCausalLM"], "max_position_embeddings": 32},
    "13B": {"architectures": ["BaichuanForCausalLM"], "model_max_length": 32},
    "2-7B": {"architectures": ["BaichuanForCausalLM"], "max_position_embeddings": 32, "z_loss_weight": 0},
    "2-7B, another vocabulary": {"architectures": ["BaichuanForCausalLM"], "max_position_embeddings": 32},
    "2-13B": {"architectures": ["BaichuanForCausalLM"], "model_max_length": 32, "z_loss_weight": 0},
}
MINIMIND = {
    "architectures": ["MiniMindForCausalLM"], "max_position_embeddings": 32, "use_moe": True,
    "n_routed_experts": 5, "n_shared_experts": 1, "num_experts_per_tok": 3, "norm_topk_prob": True,
    "scoring_func": "softmax", "aux_loss_alpha": 0.1, "rope_theta": 1e4,
}  # fmt: skip
DEEPSEEK = {
    "architectures": ["DeepseekForCausalLM"], "max_position_embeddings": 32, "n_routed_experts": 5,
    "n_shared_experts": 2, "num_experts_per_tok": 3, "moe_intermediate_size": 24, "norm_topk_prob": False,
    "first_k_dense_replace": 1,
}  # fmt: skip


def stored(folder: Path, config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> Tensors:
    """A folder with random tensors of these shapes."""
    torch.manual_seed(3)
    tensors = {name: torch.randn(shape) * 0.2 + (len(shape) == 1) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(COMMON | config))
    return tensors


def frame() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (V, W),
        "model.norm.weight": (W,),
        "lm_head.weight": (V, W),
    }
    for n in range(LAYERS):
        shapes[f"model.layers.{n}.input_layernorm.weight"] = (W,)
        shapes[f"model.layers.{n}.post_attention_layernorm.weight"] = (W,)
        shapes[f"model.layers.{n}.self_attn.o_proj.weight"] = (W, H * D)
    return shapes


def mlp(prefix: str, hidden: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{prefix}.gate_proj.weight": (hidden, W),
        f"{prefix}.up_proj.weight": (hidden, W),
        f"{prefix}.down_proj.weight": (W, hidden),
    }


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def swiglu(x: Tensor, tensors: Tensors, prefix: str) -> Tensor:
    gate, up, down = (tensors[f"{prefix}.{part}_proj.weight"] for part in ("gate", "up", "down"))
    return (silu(x @ gate.T) * (x @ up.T)) @ down.T


def turned(x: Tensor) -> Tensor:
    """Rotary positions by complex numbers: channel i and i + D/2 of (T, D) are one number."""
    pair = torch.complex(x[:, : D // 2], x[:, D // 2 :])
    angle = torch.arange(len(x))[:, None] * 10_000.0 ** (-torch.arange(0, D, 2) / D)
    pair = pair * torch.polar(torch.ones_like(angle), angle)
    return torch.cat((pair.real, pair.imag), -1)


def attend(query: Tensor, key: Tensor, value: Tensor, slope: float | None) -> Tensor:
    """One head, (T, D) each; with a slope its linear bias, else rotary positions."""
    if slope is None:
        query, key = turned(query), turned(key)
    scores = query @ key.T / math.sqrt(D)
    for i in range(len(scores)):
        scores[i] += (slope or 0) * torch.arange(len(scores))
        scores[i, i + 1 :] = -math.inf
    return softmax(scores, -1) @ value


@torch.inference_mode()
@pytest.mark.parametrize("kind", BAICHUAN)
def test_baichuan(kind: str, tmp_path: Path):
    shapes = frame()
    for n in range(LAYERS):
        shapes[f"model.layers.{n}.self_attn.W_pack.weight"] = (3 * H * D, W)
        shapes |= mlp(f"model.layers.{n}.mlp", F)
    tensors = stored(tmp_path, BAICHUAN[kind], shapes)
    ids = torch.randint(0, V, (11,))
    # Six heads: four slopes of the series 1/4, 1/16 …, then every second of the series 1/2, 1/4 …
    slopes = [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8] if "13B" in kind else [None] * H
    x = tensors["model.embed_tokens.weight"][ids]
    for n in range(LAYERS):
        prefix = f"model.layers.{n}"
        packed = rms(x, tensors[f"{prefix}.input_layernorm.weight"])
        packed = packed @ tensors[f"{prefix}.self_attn.W_pack.weight"].T
        heads = packed.view(11, 3, H, D)
        mixed = [attend(*heads[:, :, h].unbind(1), slopes[h]) for h in range(H)]
        x = x + torch.cat(mixed, -1) @ tensors[f"{prefix}.self_attn.o_proj.weight"].T
        normed = rms(x, tensors[f"{prefix}.post_attention_layernorm.weight"])
        x = x + swiglu(normed, tensors, f"{prefix}.mlp")
    head = tensors["lm_head.weight"]
    head = normalize(head) if kind.startswith("2") else head
    compare(tmp_path, ids, rms(x, tensors["model.norm.weight"]) @ head.T)
    notes = " ".join(read(tmp_path).facts["notes"])
    assert ("NormHead" in notes) == kind.startswith("2") and ("ALiBi" in notes) == ("13B" in kind)


@torch.inference_mode()
@pytest.mark.parametrize("fused", [False, True])
def test_deepseek_moe(fused: bool, tmp_path: Path):
    shapes = frame() | mlp("model.layers.0.mlp", F) | mlp("model.layers.1.mlp.shared_experts", 48)
    for n in range(LAYERS):
        for part in "qkv":
            shapes[f"model.layers.{n}.self_attn.{part}_proj.weight"] = (H * D, W)
    shapes["model.layers.1.mlp.gate.weight"] = (5, W)
    for expert in range(5):
        shapes |= mlp(f"model.layers.1.mlp.experts.{expert}", 24)
    tensors = stored(tmp_path, DEEPSEEK, shapes)
    if fused:
        save_file(with_fused_experts(tensors), tmp_path / "model.safetensors")
    ids = torch.randint(0, V, (11,))
    x = tensors["model.embed_tokens.weight"][ids]
    for n in range(LAYERS):
        prefix = f"model.layers.{n}"
        normed = rms(x, tensors[f"{prefix}.input_layernorm.weight"])
        parts = [normed @ tensors[f"{prefix}.self_attn.{part}_proj.weight"].T for part in "qkv"]
        heads = torch.stack(parts, 1).view(11, 3, H, D)
        mixed = [attend(*heads[:, :, h].unbind(1), None) for h in range(H)]
        x = x + torch.cat(mixed, -1) @ tensors[f"{prefix}.self_attn.o_proj.weight"].T
        normed = rms(x, tensors[f"{prefix}.post_attention_layernorm.weight"])
        if n == 0:
            x = x + swiglu(normed, tensors, f"{prefix}.mlp")
            continue
        scores = softmax(normed @ tensors[f"{prefix}.mlp.gate.weight"].T, -1)
        chosen = torch.where(scores >= scores.sort(descending=True).values[:, 2:3], scores, 0)
        experts = [swiglu(normed, tensors, f"{prefix}.mlp.experts.{expert}") for expert in range(5)]
        x = x + swiglu(normed, tensors, f"{prefix}.mlp.shared_experts")
        x = x + sum(chosen[:, e, None] * experts[e] for e in range(5))
    compare(tmp_path, ids, rms(x, tensors["model.norm.weight"]) @ tensors["lm_head.weight"].T)


@torch.inference_mode()
def test_the_mixture_of_minimind_2(tmp_path: Path):
    """Experts as wide as a dense MLP, shares that are normalised, a shared expert in a list of one."""
    shapes = frame()
    for n in range(LAYERS):
        for part in "qkv":
            shapes[f"model.layers.{n}.self_attn.{part}_proj.weight"] = (H * D, W)
        shapes[f"model.layers.{n}.mlp.gate.weight"] = (5, W)
        shapes |= mlp(f"model.layers.{n}.mlp.shared_experts.0", F)
        for expert in range(5):
            shapes |= mlp(f"model.layers.{n}.mlp.experts.{expert}", F)
    tensors = stored(tmp_path, MINIMIND, shapes)
    ids = torch.randint(0, V, (11,))
    x = tensors["model.embed_tokens.weight"][ids]
    for n in range(LAYERS):
        prefix = f"model.layers.{n}"
        normed = rms(x, tensors[f"{prefix}.input_layernorm.weight"])
        parts = [normed @ tensors[f"{prefix}.self_attn.{part}_proj.weight"].T for part in "qkv"]
        heads = torch.stack(parts, 1).view(11, 3, H, D)
        mixed = [attend(*heads[:, :, h].unbind(1), None) for h in range(H)]
        x = x + torch.cat(mixed, -1) @ tensors[f"{prefix}.self_attn.o_proj.weight"].T
        normed = rms(x, tensors[f"{prefix}.post_attention_layernorm.weight"])
        scores = softmax(normed @ tensors[f"{prefix}.mlp.gate.weight"].T, -1)
        chosen = torch.where(scores >= scores.sort(descending=True).values[:, 2:3], scores, 0)
        chosen = chosen / chosen.sum(-1, keepdim=True)
        x = x + swiglu(normed, tensors, f"{prefix}.mlp.shared_experts.0")
        x = x + sum(
            chosen[:, e, None] * swiglu(normed, tensors, f"{prefix}.mlp.experts.{e}") for e in range(5)
        )
    compare(tmp_path, ids, rms(x, tensors["model.norm.weight"]) @ tensors["lm_head.weight"].T)
    router = read(tmp_path).config.mlp.router  # type: ignore[union-attr]
    assert router.router_aux_loss_coef == 0.1


def with_fused_experts(tensors: Tensors) -> Tensors:
    """The experts as transformers 5 holds them in memory."""
    prefix = "model.layers.1.mlp.experts"
    fused = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
    gate, up, down = (
        torch.stack([tensors[f"{prefix}.{expert}.{part}_proj.weight"] for expert in range(5)])
        for part in ("gate", "up", "down")
    )
    return fused | {f"{prefix}.gate_up_proj": torch.cat((gate, up), 1), f"{prefix}.down_proj": down}


def compare(folder: Path, ids: Tensor, expected: Tensor) -> None:
    back = read(folder)
    model = Transformer(back.config).eval()
    model.load_state_dict(dict(back.weights))
    assert expected.std() > 0.05
    torch.testing.assert_close(model.logits(model(ids[None]))[0], expected, atol=1e-4, rtol=0)
