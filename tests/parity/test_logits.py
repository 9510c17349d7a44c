"""Every family against its original: the same weights give the same logits, with a cache and without.

Our model goes to a folder that ``AutoModelForCausalLM`` loads; what that saves comes back to us.
"""

# B batch, T time, V vocabulary

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from congling.interop.engines.transformers import TransformersEngine
from congling.interop.foreign import ForeignModel
from congling.interop.hf.model import read, write
from congling.model.cache import KVCache
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer

transformers = pytest.importorskip("transformers", reason="the originals come with congling[hf]")

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "max_position_embeddings": 48,
    "num_hidden_layers": 3,
    "hidden_size": 64,
    "num_attention_heads": 4,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
MULTIPLIED = {"embedding_multiplier": 12.0, "residual_multiplier": 0.3, "logits_scaling": 0.4}
WHOLE = "full_attention"
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "gpt2": ("gpt2", {}, {}, "GPT2LMHeadModel"),
    "gpt2-untied": ("gpt2", {"tie_word_embeddings": False}, {}, "GPT2LMHeadModel"),
    "llama": ("llama", {"tie_word_embeddings": False}, {}, "LlamaForCausalLM"),
    "llama-gqa": ("llama", {"num_key_value_heads": 2, "rope_theta": 500_000.0}, {}, "LlamaForCausalLM"),
    "llama-biased": ("llama", {}, {"attention": {"attention_bias": True}}, "LlamaForCausalLM"),
    "llama-linear": (
        "llama",
        {},
        {"positions": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}},
        "LlamaForCausalLM",
    ),
    "llama3": ("llama", {}, {"positions": {"rope_scaling": LLAMA3}}, "LlamaForCausalLM"),
    "mistral": (
        "mistral",
        {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 32},
        {},
        "MistralForCausalLM",
    ),
    "qwen2": ("qwen2", {}, {}, "Qwen2ForCausalLM"),
    "qwen3": ("qwen3", {"head_dim": 32}, {}, "Qwen3ForCausalLM"),
    "granite": (
        "llama",
        {"num_key_value_heads": 2},
        MULTIPLIED | {"attention": {"attention_multiplier": 0.4}},
        "GraniteForCausalLM",
    ),
    "granite-untied": (
        "llama",
        {"tie_word_embeddings": False},
        MULTIPLIED | {"attention": {"attention_bias": True}, "positions": {"rope_scaling": LLAMA3}},
        "GraniteForCausalLM",
    ),
    "smollm3": (
        "llama",
        {"num_key_value_heads": 2},
        {"positions": {"no_rope_layers": [1, 0, 1]}},
        "SmolLM3ForCausalLM",
    ),
    "hunyuan": (
        "qwen3",
        {"head_dim": 32},
        {"attention": {"qk_norm_after_rope": True}},
        "HunYuanDenseV1ForCausalLM",
    ),
    "mixtral": ("mixtral", {"num_experts": 4, "tie_word_embeddings": False}, {}, "MixtralForCausalLM"),
    "qwen3-moe": (
        "qwen3-moe",
        {"num_experts": 6, "num_experts_per_tok": 2, "tie_word_embeddings": False},
        {},
        "Qwen3MoeForCausalLM",
    ),
    "qwen3-moe-raw": (
        "qwen3-moe",
        {"num_experts": 6},
        {"mlp": {"first_k_dense_replace": 1, "intermediate_size": 96, "router": {"norm_topk_prob": False}}},
        "Qwen3MoeForCausalLM",
    ),
    "deepseek-moe": (
        "deepseek-moe",
        {"num_experts": 8, "num_experts_per_tok": 3, "n_shared_experts": 2, "routed_scaling_factor": 1.7},
        {},
        "Dots1ForCausalLM",
    ),
    "olmo2": ("olmo2", {"num_key_value_heads": 2}, {}, "Olmo2ForCausalLM"),
    "olmo2-biased": (
        "olmo2",
        {"tie_word_embeddings": False},
        {"attention": {"attention_bias": True}},
        "Olmo2ForCausalLM",
    ),
    "glm": ("glm", {"num_key_value_heads": 2, "head_dim": 32}, {}, "GlmForCausalLM"),
    "glm-linear": (
        "glm",
        {"tie_word_embeddings": False},
        {"positions": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}},
        "GlmForCausalLM",
    ),
    "glm4": ("glm4", {"partial_rotary_factor": 0.25}, {}, "Glm4ForCausalLM"),
    "glm4-unbiased": (
        "glm4",
        {"partial_rotary_factor": 1.0},
        {"attention": {"attention_bias": False, "attention_output_bias": None}},
        "Glm4ForCausalLM",
    ),
    "gemma3": (
        "gemma3",
        {"num_hidden_layers": 7, "sliding_window": 7, "head_dim": 32, "num_key_value_heads": 2},
        {},
        "Gemma3ForCausalLM",
    ),
    "gemma3-biased": (
        "gemma3",
        {"tie_word_embeddings": False, "sliding_window": 5, "rope_local_base_freq": 1e3},
        {
            "attention": {"attention_bias": True, "layer_types": [WHOLE, "sliding_attention", WHOLE]},
            "positions": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        },
        "Gemma3ForCausalLM",
    ),
    "deepseek-moe-0": ("deepseek-moe", {"num_experts": 8, "n_shared_experts": 0}, {}, "Dots1ForCausalLM"),
}


@dataclass
class Pair:
    case: str
    ours: Transformer
    folder: Path
    engine: TransformersEngine
    tokens: Tensor

    def theirs(self, *arguments: Tensor, **options: Any) -> Tensor:
        return self.engine._model(*arguments, **options).logits


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    family, arguments, changes, _ = CASES[request.param]
    config = FAMILIES[family](**SIZES | arguments).replace(**changes)
    ours = Transformer(config).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in ours.state_dict().items():
            # Scales near 1 and weights large enough that every part moves the logits.
            tensor.copy_(torch.randn(tensor.shape) * 0.15 + ("norm.weight" in name))
    folder = tmp_path_factory.mktemp("hf") / request.param
    notes = write(ForeignModel(config, ours.state_dict()), folder)
    assert ("shared expert of zeros" in "".join(notes)) == (request.param == "deepseek-moe-0")
    tokens = torch.randint(0, config.vocab_size, (2, 24))
    return Pair(request.param, ours, folder, TransformersEngine(folder), tokens)


@torch.inference_mode()
def test_logits_and_greedy_text_agree(pair: Pair):
    expected = torch.from_numpy(pair.engine.logits(pair.tokens[0].tolist()))
    found = pair.ours.logits(pair.ours(pair.tokens[:1]))[0]
    assert type(pair.engine._model).__name__ == CASES[pair.case][3]
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    ids = pair.tokens[0, :8].tolist()
    for token in pair.engine.greedy(ids, 40):
        assert pair.ours.logits(pair.ours(torch.tensor([ids])))[0, -1].argmax() == token
        ids.append(token)


@torch.inference_mode()
def test_logits_with_a_cache_agree(pair: Pair):
    cache = KVCache(pair.ours.config, 2, 24)
    steps = [pair.tokens[:, :9], pair.tokens[:, 9:14], *pair.tokens[:, 14:].split(1, dim=1)]
    found = torch.cat([pair.ours.logits(pair.ours(step, cache=cache)) for step in steps], dim=1)
    torch.testing.assert_close(found, pair.theirs(pair.tokens), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_logits_of_left_padded_rows_agree(pair: Pair):
    padding = torch.tensor([7, 0])
    visible = (torch.arange(24) >= padding[:, None]).long()
    positions = (visible.cumsum(-1) - 1).clamp_min(0)
    expected = pair.theirs(pair.tokens, attention_mask=visible, position_ids=positions)
    cache = KVCache(pair.ours.config, 2, 24, start=padding)
    parts = pair.tokens.split(12, dim=1)
    found = torch.cat([pair.ours.logits(pair.ours(part, cache=cache)) for part in parts], dim=1)
    kept = visible.bool()
    torch.testing.assert_close(found[kept], expected[kept], atol=1e-4, rtol=0)


def test_what_is_written_is_read_bit_for_bit(pair: Pair):
    back = read(pair.folder)
    weights = dict(pair.ours.state_dict())
    if pair.case == "deepseek-moe-0":  # the class cannot be without a shared expert: it gets one of zeros
        assert back.config.replace(mlp={"n_shared_experts": 0}) == pair.ours.config
        assert all(not back.weights[name].any() for name in back.weights if ".shared." in name)
    else:
        assert back.config == pair.ours.config and back.weights.keys() == weights.keys()
    if "gemma3" in pair.case:  # a gain less one, and one more again
        assert all((back.weights[name] - tensor).abs().max() < 1e-6 for name, tensor in weights.items())
        return
    assert all(torch.equal(back.weights[name], tensor) for name, tensor in weights.items())


@torch.inference_mode()
@pytest.mark.parametrize("size", ["1GB", "100KB"])
def test_what_transformers_saves_is_read(pair: Pair, tmp_path: Path, size: str):
    pair.engine._model.save_pretrained(tmp_path, max_shard_size=size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (size == "100KB")
    back = read(tmp_path)
    model = Transformer(back.config).eval()
    model.load_state_dict(dict(back.weights))
    found = model.logits(model(pair.tokens))
    torch.testing.assert_close(found, pair.theirs(pair.tokens), atol=1e-4, rtol=0)


def test_balance_loss_agrees(tmp_path: Path):
    config = FAMILIES["qwen3-moe"](
        **SIZES | {"num_hidden_layers": 1}, num_experts=6, num_experts_per_tok=2, router_aux_loss_coef=1.0
    )
    ours = Transformer(config)
    tokens = torch.randint(0, config.vocab_size, (2, 24))
    ours(tokens)
    write(ForeignModel(config, ours.state_dict()), tmp_path / "hf")
    theirs = TransformersEngine(tmp_path / "hf")._model
    expected = theirs(tokens, output_router_logits=True).aux_loss
    torch.testing.assert_close(ours.balance_loss(), expected)
