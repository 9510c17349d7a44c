"""Tiny models of every architecture that goes into a GGUF file, with weights that make differences show."""

from typing import Any

import torch

from congling.interop.foreign import ForeignModel
from congling.model import families
from congling.model.config import ModelConfig
from congling.model.transformer import Transformer

_SIZES: dict[str, Any] = {"vocab_size": 320, "context": 256, "layers": 2, "width": 64}


def _with(config: ModelConfig, **parts: dict[str, Any]) -> ModelConfig:
    """The configuration with some keys of its parts changed."""
    return config.replace(
        **{name: {**getattr(config, name).model_dump(), **new} for name, new in parts.items()}
    )


def _configs() -> dict[str, tuple[str, ModelConfig]]:
    llama = families.llama(**_SIZES, heads=4, kv_heads=2)
    qwen3 = families.qwen3(**_SIZES, heads=4)
    gpt2 = families.gpt2(**_SIZES)
    first = families.deepseek_moe_v1(**_SIZES)
    moe = families.deepseek_moe(**_SIZES)
    linear = {"scaling": {"kind": "linear", "factor": 2.0}}
    shares_keys = {"heads": 4, "kv_heads": 2, "head_width": 16}
    softmax = {"kind": "softmax", "normalise": False, "scale": 2.0}
    multiplied = {"embedding_multiplier": 12.0, "residual_multiplier": 0.3, "logits_scaling": 0.5}
    after = {"qk_norm_after_rope": True}
    unbiased = {"bias": False, "output_bias": None}
    llama3 = {"kind": "llama3", "factor": 8.0, "original_context": 1024}
    return {
        "llama": ("llama", llama),
        "llama, own head": ("llama", llama.replace(tied=False)),
        "llama, wide heads": ("llama", families.llama(**_SIZES, heads=4, head_width=32)),
        "llama, biases": ("llama", _with(llama, attention={"bias": True})),
        "llama, biases everywhere": ("llama", _with(llama, attention={"bias": True}, mlp={"bias": True})),
        "llama, linear scaling": ("llama", _with(llama, positions=linear)),
        "llama, llama3 scaling": ("llama", _with(llama, positions={"base": 5e5, "scaling": llama3})),
        "mistral": ("llama", families.mistral(**_SIZES)),
        "qwen2": ("qwen2", families.qwen2(**_SIZES)),
        "qwen2, wide heads": ("llama", families.qwen2(**_SIZES, heads=4, head_width=32)),
        "qwen3": ("qwen3", qwen3),
        "qwen3, linear scaling": ("qwen3", _with(qwen3, positions=linear)),
        "qwen3, biases": ("qwen3", _with(qwen3, attention={"bias": True, "output_bias": False})),
        "gpt2": ("gpt2", gpt2),
        "gpt2, shared keys": ("gpt2", _with(gpt2, attention=shares_keys)),
        "gpt2, rotary": ("starcoder2", gpt2.replace(positions={"kind": "rope"})),
        "llama, layer norm": ("stablelm", llama.replace(norm={"kind": "layer"})),
        "baichuan, 40 layers": ("baichuan", families.baichuan(**{**_SIZES, "layers": 40}, heads=4)),
        "baichuan, 2 layers": ("refact", families.baichuan(**_SIZES, heads=4)),
        "olmo2": ("olmo2", families.olmo2(**_SIZES, heads=4, kv_heads=2)),
        "olmo2, linear scaling": ("olmo2", _with(families.olmo2(**_SIZES), positions=linear)),
        "granite": ("granite", _with(llama.replace(**multiplied), attention={"attention_multiplier": 0.1})),
        "granite, biases": (
            "granite",
            _with(llama.replace(**multiplied, tied=False), attention={"bias": True, "output_bias": False}),
        ),
        "granite, biases of the MLP": ("granite", _with(llama.replace(**multiplied), mlp={"bias": True})),
        "granite, wide heads": (
            "granite",
            families.llama(**_SIZES, heads=4, head_width=32).replace(**multiplied),
        ),
        "granite, llama3 scaling": (
            "granite",
            _with(llama.replace(**multiplied), positions={"scaling": llama3}),
        ),
        "smollm3": (
            "smollm3",
            _with(llama.replace(layers=5), positions={"no_rope_layers": (1, 1, 1, 0, 1)}),
        ),
        "smollm3, linear scaling": (
            "smollm3",
            _with(
                families.llama(**_SIZES | {"layers": 4}, heads=4, head_width=32),
                attention={"bias": True, "output_bias": False},
                positions=linear | {"no_rope_layers": (1, 1, 1, 0)},
            ),
        ),
        "hunyuan": ("hunyuan-dense", _with(qwen3, attention=after)),
        "hunyuan, biases": (
            "hunyuan-dense",
            _with(qwen3, attention=after | {"bias": True, "output_bias": False}),
        ),
        "glm": ("chatglm", families.glm(**_SIZES, heads=4)),
        "glm, unbiased": ("chatglm", _with(families.glm(**_SIZES), attention=unbiased)),
        "glm4": ("glm4", families.glm4(**_SIZES, heads=4, tied=False)),
        "glm4, whole heads": (
            "glm4",
            _with(families.glm4(**_SIZES), positions={**linear, "partial_rotary_factor": 1}),
        ),
        "llama, layer norm, partial rotary": (
            "stablelm",
            llama.replace(norm={"kind": "layer"}, positions={"partial_rotary_factor": 0.25}),
        ),
        "gemma3": (
            "gemma3",
            families.gemma3(**_SIZES | {"layers": 7}, heads=4, head_width=32, sliding_window=11),
        ),
        "gemma3, own head": (
            "gemma3",
            _with(families.gemma3(**_SIZES, tied=False, sliding_window=9), positions=linear),
        ),
        "mixtral": ("llama", families.mixtral(**_SIZES)),
        "qwen3-moe": ("qwen3moe", families.qwen3_moe(**_SIZES)),
        "qwen3-moe, first layer dense": (
            "glm4moe",
            _with(families.qwen3_moe(**_SIZES), mlp={"dense_layers": 1, "dense_hidden": 128}),
        ),
        "deepseek-moe-v1": ("deepseek", first),
        "deepseek-moe-v1, shared keys": ("deepseek", _with(first, attention=shares_keys)),
        "deepseek-moe-v1, nothing shared": ("glm4moe", _with(first, mlp={"shared": 0})),
        "deepseek-moe-v1, wide heads": ("glm4moe", _with(first, attention={"head_width": 64})),
        "deepseek-moe": ("glm4moe", moe),
        "deepseek-moe, as dots1": ("dots1", families.deepseek_moe(**_SIZES, heads=2, kv_heads=2, tied=False)),
        "deepseek-moe, softmax": ("glm4moe", _with(moe, mlp={"router": softmax})),
        "deepseek-moe, biases": ("glm4moe", _with(moe, attention={"bias": True, "output_bias": False})),
        "deepseek-moe, plain queries": ("glm4moe", _with(moe, attention={"qk_norm": False})),
    }


CONFIGS = _configs()
"""By a description: the architecture each should get, and its configuration."""


def model_of(config: ModelConfig, seed: int = 0) -> Transformer:
    """A model with random weights of ordinary size: gains around 1, biases and routing biases that matter."""
    model = Transformer(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.dim() > 1:
                tensor.normal_(
                    0, 0.2 if name == "embedding.weight" else tensor.shape[-1] ** -0.5, generator=generator
                )
            else:
                tensor.normal_(1 if name.endswith("norm.weight") else 0, 0.2, generator=generator)
    return model


def foreign(model: Transformer) -> ForeignModel:
    """The model as a writer takes it."""
    return ForeignModel(model.config, model.state_dict())


@torch.no_grad()
def logits(model: Transformer, ids: list[int]) -> torch.Tensor:
    """(T, V) of one text."""
    return model.logits(model(torch.tensor([ids])))[0]
