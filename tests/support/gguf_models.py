"""Tiny models of every architecture that goes into a GGUF file, with weights that make differences show."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from congling.interop.foreign import ForeignModel
from congling.interop.gguf.file import Field, GGUFFile, TensorData, write_gguf
from congling.model import families
from congling.model.config import ModelConfig
from congling.model.transformer import Transformer

_SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "max_position_embeddings": 256,
    "num_hidden_layers": 2,
    "hidden_size": 64,
}


def _with(config: ModelConfig, **parts: dict[str, Any]) -> ModelConfig:
    """The configuration with some keys of its parts changed."""
    return config.replace(
        **{name: {**getattr(config, name).model_dump(), **new} for name, new in parts.items()}
    )


def _configs() -> dict[str, tuple[str, ModelConfig]]:
    llama = families.llama(**_SIZES, num_attention_heads=4, num_key_value_heads=2)
    qwen3 = families.qwen3(**_SIZES, num_attention_heads=4)
    gpt2 = families.gpt2(**_SIZES)
    first = families.deepseek_moe_v1(**_SIZES)
    moe = families.deepseek_moe(**_SIZES)
    linear = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    shares_keys = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    softmax = {"kind": "softmax", "norm_topk_prob": False, "routed_scaling_factor": 2.0}
    multiplied = {"embedding_multiplier": 12.0, "residual_multiplier": 0.3, "logits_scaling": 0.5}
    after = {"qk_norm_after_rope": True}
    unbiased = {"attention_bias": False, "attention_output_bias": None}
    llama3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 1024}
    return {
        "llama": ("llama", llama),
        "llama, own head": ("llama", llama.replace(tie_word_embeddings=False)),
        "llama, wide heads": ("llama", families.llama(**_SIZES, num_attention_heads=4, head_dim=32)),
        "llama, biases": ("llama", _with(llama, attention={"attention_bias": True})),
        "llama, biases everywhere": (
            "llama",
            _with(llama, attention={"attention_bias": True}, mlp={"mlp_bias": True}),
        ),
        "llama, linear scaling": ("llama", _with(llama, positions=linear)),
        "llama, llama3 scaling": (
            "llama",
            _with(llama, positions={"rope_theta": 5e5, "rope_scaling": llama3}),
        ),
        "mistral": ("llama", families.mistral(**_SIZES)),
        "qwen2": ("qwen2", families.qwen2(**_SIZES)),
        "qwen2, wide heads": ("llama", families.qwen2(**_SIZES, num_attention_heads=4, head_dim=32)),
        "qwen3": ("qwen3", qwen3),
        "qwen3, linear scaling": ("qwen3", _with(qwen3, positions=linear)),
        "qwen3, biases": (
            "qwen3",
            _with(qwen3, attention={"attention_bias": True, "attention_output_bias": False}),
        ),
        "gpt2": ("gpt2", gpt2),
        "gpt2, shared keys": ("gpt2", _with(gpt2, attention=shares_keys)),
        "gpt2, rotary": ("starcoder2", gpt2.replace(positions={"kind": "rope"})),
        "llama, layer norm": ("stablelm", llama.replace(norm={"kind": "layer"})),
        "baichuan, 40 layers": (
            "baichuan",
            families.baichuan(**{**_SIZES, "num_hidden_layers": 40}, num_attention_heads=4),
        ),
        "baichuan, 2 layers": ("refact", families.baichuan(**_SIZES, num_attention_heads=4)),
        "olmo2": ("olmo2", families.olmo2(**_SIZES, num_attention_heads=4, num_key_value_heads=2)),
        "olmo2, linear scaling": ("olmo2", _with(families.olmo2(**_SIZES), positions=linear)),
        "granite": ("granite", _with(llama.replace(**multiplied), attention={"attention_multiplier": 0.1})),
        "granite, biases": (
            "granite",
            _with(
                llama.replace(**multiplied, tie_word_embeddings=False),
                attention={"attention_bias": True, "attention_output_bias": False},
            ),
        ),
        "granite, biases of the MLP": (
            "granite",
            _with(llama.replace(**multiplied), mlp={"mlp_bias": True}),
        ),
        "granite, wide heads": (
            "granite",
            families.llama(**_SIZES, num_attention_heads=4, head_dim=32).replace(**multiplied),
        ),
        "granite, llama3 scaling": (
            "granite",
            _with(llama.replace(**multiplied), positions={"rope_scaling": llama3}),
        ),
        "smollm3": (
            "smollm3",
            _with(llama.replace(num_hidden_layers=5), positions={"no_rope_layers": (1, 1, 1, 0, 1)}),
        ),
        "smollm3, linear scaling": (
            "smollm3",
            _with(
                families.llama(**_SIZES | {"num_hidden_layers": 4}, num_attention_heads=4, head_dim=32),
                attention={"attention_bias": True, "attention_output_bias": False},
                positions=linear | {"no_rope_layers": (1, 1, 1, 0)},
            ),
        ),
        "hunyuan": ("hunyuan-dense", _with(qwen3, attention=after)),
        "hunyuan, biases": (
            "hunyuan-dense",
            _with(qwen3, attention=after | {"attention_bias": True, "attention_output_bias": False}),
        ),
        "glm": ("chatglm", families.glm(**_SIZES, num_attention_heads=4)),
        "glm, unbiased": ("chatglm", _with(families.glm(**_SIZES), attention=unbiased)),
        "glm4": ("glm4", families.glm4(**_SIZES, num_attention_heads=4, tie_word_embeddings=False)),
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
            families.gemma3(
                **_SIZES | {"num_hidden_layers": 7}, num_attention_heads=4, head_dim=32, sliding_window=11
            ),
        ),
        "gemma3, own head": (
            "gemma3",
            _with(families.gemma3(**_SIZES, tie_word_embeddings=False, sliding_window=9), positions=linear),
        ),
        "mixtral": ("llama", families.mixtral(**_SIZES)),
        "qwen3-moe": ("qwen3moe", families.qwen3_moe(**_SIZES)),
        "qwen3-moe, first layer dense": (
            "glm4moe",
            _with(families.qwen3_moe(**_SIZES), mlp={"first_k_dense_replace": 1, "intermediate_size": 128}),
        ),
        "deepseek-moe-v1": ("deepseek", first),
        "deepseek-moe-v1, shared keys": ("deepseek", _with(first, attention=shares_keys)),
        "deepseek-moe-v1, nothing shared": ("glm4moe", _with(first, mlp={"n_shared_experts": 0})),
        "deepseek-moe-v1, wide heads": ("glm4moe", _with(first, attention={"head_dim": 64})),
        "deepseek-moe": ("glm4moe", moe),
        "deepseek-moe, as dots1": (
            "dots1",
            families.deepseek_moe(
                **_SIZES, num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=False
            ),
        ),
        "deepseek-moe, softmax": ("glm4moe", _with(moe, mlp={"router": softmax})),
        "deepseek-moe, biases": (
            "glm4moe",
            _with(moe, attention={"attention_bias": True, "attention_output_bias": False}),
        ),
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


def rewritten(
    path: Path,
    change: Callable[[dict[str, Field], dict[str, np.ndarray]], object],
    name: str = "changed.gguf",
) -> Path:
    """The same file, beside it, after ``change`` of its keys and F32 tensors."""
    file = GGUFFile.open(path)
    keys, arrays = dict(file.fields), {tensor: file.array(tensor) for tensor in file.tensors}
    change(keys, arrays)
    tensors = [
        TensorData(tensor, array.shape, "F32", lambda array=array: array) for tensor, array in arrays.items()
    ]
    write_gguf(path.with_name(name), keys, tensors)
    return path.with_name(name)


@torch.no_grad()
def logits(model: Transformer, ids: list[int]) -> torch.Tensor:
    """(T, V) of one text."""
    return model.logits(model(torch.tensor([ids])))[0]
