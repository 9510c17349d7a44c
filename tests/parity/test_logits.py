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

SIZES: dict[str, Any] = {"vocab_size": 97, "context": 48, "layers": 3, "width": 64, "heads": 4}
LLAMA3 = {
    "kind": "llama3",
    "factor": 4.0,
    "low_frequency_factor": 1.0,
    "high_frequency_factor": 4.0,
    "original_context": 32,
}
MULTIPLIED = {"embedding_multiplier": 12.0, "residual_multiplier": 0.3, "logits_scaling": 0.4}
WHOLE = "full_attention"
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "gpt2": ("gpt2", {}, {}, "GPT2LMHeadModel"),
    "gpt2-untied": ("gpt2", {"tied": False}, {}, "GPT2LMHeadModel"),
    "llama": ("llama", {"tied": False}, {}, "LlamaForCausalLM"),
    "llama-gqa": ("llama", {"kv_heads": 2, "rope_base": 500_000.0}, {}, "LlamaForCausalLM"),
    "llama-biased": ("llama", {}, {"attention": {"bias": True}}, "LlamaForCausalLM"),
    "llama-linear": (
        "llama", {}, {"positions": {"scaling": {"kind": "linear", "factor": 2.0}}}, "LlamaForCausalLM",
    ),
    "llama3": ("llama", {}, {"positions": {"scaling": LLAMA3}}, "LlamaForCausalLM"),
    "mistral": ("mistral", {"heads": 3, "kv_heads": 1, "head_width": 32}, {}, "MistralForCausalLM"),
    "qwen2": ("qwen2", {}, {}, "Qwen2ForCausalLM"),
    "qwen3": ("qwen3", {"head_width": 32}, {}, "Qwen3ForCausalLM"),
    "granite": ("llama", {"kv_heads": 2}, MULTIPLIED | {"attention": {"attention_multiplier": 0.4}},
                "GraniteForCausalLM"),
    "granite-untied": (
        "llama", {"tied": False},
        MULTIPLIED | {"attention": {"bias": True}, "positions": {"scaling": LLAMA3}}, "GraniteForCausalLM",
    ),
    "smollm3": ("llama", {"kv_heads": 2}, {"positions": {"no_rope_layers": [1, 0, 1]}}, "SmolLM3ForCausalLM"),
    "hunyuan": (
        "qwen3", {"head_width": 32}, {"attention": {"qk_norm_after_rope": True}}, "HunYuanDenseV1ForCausalLM",
    ),
    "mixtral": ("mixtral", {"experts": 4, "tied": False}, {}, "MixtralForCausalLM"),
    "qwen3-moe": ("qwen3-moe", {"experts": 6, "active": 2, "tied": False}, {}, "Qwen3MoeForCausalLM"),
    "qwen3-moe-raw": (
        "qwen3-moe", {"experts": 6},
        {"mlp": {"dense_layers": 1, "dense_hidden": 96, "router": {"normalise": False}}},
        "Qwen3MoeForCausalLM",
    ),
    "deepseek-moe": (
        "deepseek-moe", {"experts": 8, "active": 3, "shared": 2, "scale": 1.7}, {}, "Dots1ForCausalLM",
    ),
    "olmo2": ("olmo2", {"kv_heads": 2}, {}, "Olmo2ForCausalLM"),
    "olmo2-biased": ("olmo2", {"tied": False}, {"attention": {"bias": True}}, "Olmo2ForCausalLM"),
    "glm": ("glm", {"kv_heads": 2, "head_width": 32}, {}, "GlmForCausalLM"),
    "glm-linear": (
        "glm", {"tied": False}, {"positions": {"scaling": {"kind": "linear", "factor": 2.0}}},
        "GlmForCausalLM",
    ),
    "glm4": ("glm4", {"partial_rotary_factor": 0.25}, {}, "Glm4ForCausalLM"),
    "glm4-unbiased": (
        "glm4", {"partial_rotary_factor": 1.0}, {"attention": {"bias": False, "output_bias": None}},
        "Glm4ForCausalLM",
    ),
    "gemma3": (
        "gemma3", {"layers": 7, "sliding_window": 7, "head_width": 32, "kv_heads": 2}, {},
        "Gemma3ForCausalLM",
    ),
    "gemma3-biased": (
        "gemma3", {"tied": False, "sliding_window": 5, "rope_local_base_freq": 1e3},
        {"attention": {"bias": True, "layer_types": [WHOLE, "sliding_attention", WHOLE]},
         "positions": {"scaling": {"kind": "linear", "factor": 2.0}}}, "Gemma3ForCausalLM",
    ),
    "deepseek-moe-0": ("deepseek-moe", {"experts": 8, "shared": 0}, {}, "Dots1ForCausalLM"),
}  # fmt: skip


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
        assert back.config.replace(mlp={"shared": 0}) == pair.ours.config
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
    config = FAMILIES["qwen3-moe"](**SIZES | {"layers": 1}, experts=6, active=2, balance=1.0)
    ours = Transformer(config)
    tokens = torch.randint(0, config.vocab_size, (2, 24))
    ours(tokens)
    write(ForeignModel(config, ours.state_dict()), tmp_path / "hf")
    theirs = TransformersEngine(tmp_path / "hf")._model
    expected = theirs(tokens, output_router_logits=True).aux_loss
    torch.testing.assert_close(ours.balance_loss(), expected)
