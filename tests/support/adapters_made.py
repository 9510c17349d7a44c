"""Adapters and small models for the tests of adapter formats."""

from typing import Any

import torch

from congling.interop.adapters.fitting import is_gain, matrices
from congling.model.families import baichuan, deepseek_moe, glm4, gpt2, llama, olmo2, qwen2, qwen3, qwen3_moe
from congling.model.transformer import Transformer
from congling.transform.adapter import Adapter, Factors
from congling.transform.merge import merged

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "max_position_embeddings": 64,
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
}
CONFIGS = {
    "llama": llama(**SIZES, num_key_value_heads=2, tie_word_embeddings=False),
    "qwen3": qwen3(**SIZES),
    "qwen2": qwen2(**SIZES, tie_word_embeddings=False),
    "gpt2": gpt2(**SIZES),
    "baichuan": baichuan(**SIZES, tie_word_embeddings=False),
    "olmo2": olmo2(**SIZES, num_key_value_heads=2, tie_word_embeddings=False),
    "glm4": glm4(**SIZES, num_key_value_heads=2, tie_word_embeddings=False),
    "qwen3-moe": qwen3_moe(**SIZES, num_experts=4, tie_word_embeddings=False),
    "deepseek-moe": deepseek_moe(**SIZES, tie_word_embeddings=False),
}
IDS = [1, *range(260, 290), 5, 77, 270, 3]


def model_of(config, seed=0):
    """A model whose logits are about 1 wide."""
    model = Transformer(config).eval()
    torch.manual_seed(seed)
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, mean=float(is_gain(name)), std=0.15)
    return model


def adapter_of(config, *, seed=1, gains=False, embedding=False, scales=(2.0, 2.0), ranks=(4, 4)):
    """Factors for every matrix; every second tensor takes the second scale and rank."""
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for i, (name, (outputs, inputs)) in enumerate(matrices(config).items()):
        whole = name in ("embedding.weight", "head.weight")
        if (is_gain(name) and not gains) or (whole and not embedding):
            continue
        rank = 1 if is_gain(name) else ranks[i % 2]
        a = torch.randn(rank, inputs, generator=generator) * 0.2
        b = torch.randn(outputs, rank, generator=generator) * 0.2
        factors[name] = Factors(a, b, scales[i % 2])
    return Adapter(factors, {"name": "test"})


def logits(config, weights, ids=IDS):
    """(T, V) of a model with these weights."""
    model = Transformer(config).eval()
    model.load_state_dict({name: weights[name] for name in weights})
    with torch.no_grad():
        return model.logits(model(torch.tensor([list(ids)])))[0].numpy()


def adapted_logits(model, *adapters):
    """Logits with adapters merged in."""
    return logits(model.config, merged(model.state_dict(), list(adapters)))


def same(first, second, tolerance=0.0):
    """Whether two adapters change the same tensors by the same."""
    assert first.factors.keys() == second.factors.keys()
    for name, part in first.factors.items():
        assert (part.delta() - second.factors[name].delta()).abs().max() <= tolerance, name
    return True
