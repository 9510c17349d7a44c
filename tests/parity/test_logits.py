"""Every family against its original: the same weights give the same logits, with a cache and without."""

# B batch, T time, V vocabulary

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from congling.model.cache import KVCache
from congling.model.config import ModelConfig
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer

from .names import translated

transformers = pytest.importorskip("transformers", reason="the originals come with congling[hf]")

SIZES: dict[str, Any] = {"vocab_size": 97, "context": 48, "layers": 3, "width": 64, "heads": 4}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {}),
    "llama": ("llama", {"tied": False}),
    "llama-gqa": ("llama", {"kv_heads": 2, "rope_base": 500_000.0}),
    "qwen3": ("qwen3", {"head_width": 32}),
    "qwen3-moe": ("qwen3-moe", {"experts": 6, "active": 2, "tied": False}),
    "deepseek-moe": ("deepseek-moe", {"experts": 8, "active": 3, "shared": 2, "scale": 1.7}),
}


@dataclass
class Pair:
    ours: Transformer
    theirs: Any
    tokens: Tensor


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest) -> Pair:
    family, changes = CASES[request.param]
    config = FAMILIES[family](**SIZES, **changes)
    ours = Transformer(config).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in ours.state_dict().items():
            # Scales near 1 and weights large enough that every part moves the logits.
            tensor.copy_(torch.randn(tensor.shape) * 0.15 + ("norm.weight" in name))
    theirs = original(family, config)
    theirs.load_state_dict(translated(family, ours.state_dict(), theirs.state_dict()))
    return Pair(ours, theirs, torch.randint(0, config.vocab_size, (2, 24)))


def original(family: str, config: ModelConfig) -> Any:
    """The transformers model of the same shape, in evaluation mode."""
    attention, mlp = config.attention, config.mlp
    if family == "gpt2":
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(
            vocab_size=config.vocab_size, n_positions=config.context, n_layer=config.layers,
            n_embd=config.width, n_head=attention.heads, n_inner=mlp.hidden,
        )).eval()  # fmt: skip
    assert config.positions.kind == "rope"
    values: dict[str, Any] = {
        "vocab_size": config.vocab_size, "max_position_embeddings": config.context,
        "hidden_size": config.width, "num_hidden_layers": config.layers,
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.kv_heads, "head_dim": attention.head_width,
        "intermediate_size": mlp.hidden, "rms_norm_eps": 1e-6, "tie_word_embeddings": config.tied,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.positions.base},
    }  # fmt: skip
    if mlp.kind == "moe":
        values |= {"num_experts_per_tok": mlp.active, "moe_intermediate_size": mlp.hidden}
        values |= {"norm_topk_prob": True}
    if family == "deepseek-moe":
        assert mlp.kind == "moe" and mlp.router.kind == "sigmoid"
        return transformers.Dots1ForCausalLM(transformers.Dots1Config(**values | {
            "n_routed_experts": mlp.experts, "n_shared_experts": mlp.shared,
            "intermediate_size": mlp.dense_hidden, "first_k_dense_replace": mlp.dense_layers,
            "routed_scaling_factor": mlp.router.scale, "sliding_window": None,
        })).eval()  # fmt: skip
    if family == "qwen3-moe":
        assert mlp.kind == "moe"
        return transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(
            **values, num_experts=mlp.experts, decoder_sparse_step=1, mlp_only_layers=[],
        )).eval()  # fmt: skip
    kinds = {"llama": ("LlamaForCausalLM", "LlamaConfig"), "qwen3": ("Qwen3ForCausalLM", "Qwen3Config")}
    model, configuration = kinds[family]
    return getattr(transformers, model)(getattr(transformers, configuration)(**values)).eval()


@torch.inference_mode()
def test_logits_agree(pair: Pair):
    expected = pair.theirs(pair.tokens).logits
    found = pair.ours.logits(pair.ours(pair.tokens))
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_logits_with_a_cache_agree(pair: Pair):
    cache = KVCache(pair.ours.config, 2, 24)
    steps = [pair.tokens[:, :9], pair.tokens[:, 9:14], *pair.tokens[:, 14:].split(1, dim=1)]
    found = torch.cat([pair.ours.logits(pair.ours(step, cache=cache)) for step in steps], dim=1)
    torch.testing.assert_close(found, pair.theirs(pair.tokens).logits, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_logits_of_left_padded_rows_agree(pair: Pair):
    padding = torch.tensor([7, 0])
    visible = (torch.arange(24) >= padding[:, None]).long()
    positions = (visible.cumsum(-1) - 1).clamp_min(0)
    expected = pair.theirs(pair.tokens, attention_mask=visible, position_ids=positions).logits
    cache = KVCache(pair.ours.config, 2, 24, start=padding)
    parts = pair.tokens.split(12, dim=1)
    found = torch.cat([pair.ours.logits(pair.ours(part, cache=cache)) for part in parts], dim=1)
    kept = visible.bool()
    torch.testing.assert_close(found[kept], expected[kept], atol=1e-4, rtol=0)


def test_balance_loss_agrees():
    config = FAMILIES["qwen3-moe"](**SIZES | {"layers": 1}, experts=6, active=2, balance=1.0)
    ours = Transformer(config)
    tokens = torch.randint(0, config.vocab_size, (2, 24))
    ours(tokens)
    theirs = original("qwen3-moe", config)
    theirs.load_state_dict(translated("qwen3-moe", ours.state_dict(), theirs.state_dict()))
    expected = theirs(tokens, output_router_logits=True).aux_loss
    torch.testing.assert_close(ours.balance_loss() / tokens.numel(), expected)
