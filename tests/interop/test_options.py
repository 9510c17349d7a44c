"""No format drops a part of a model without a word: it holds the part, or says which it cannot hold."""

from typing import Any

import pytest

from congling.interop import options
from congling.interop.gguf_architecture import gguf_architecture
from congling.interop.hf.architecture import NEEDS, architecture, misfit
from congling.interop.targets import TARGETS, obstacles
from congling.model import families
from congling.model.config import AttentionConfig, ModelConfig, RotaryConfig
from congling.model.mlp_config import GatedMLPConfig, MoEConfig, PlainMLPConfig

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "max_position_embeddings": 64,
    "num_hidden_layers": 4,
    "hidden_size": 64,
}
LLAMA = families.llama(**SIZES).replace(norm={"eps": 1e-5})
USED: dict[str, ModelConfig] = {
    "embedding": LLAMA.replace(embedding_multiplier=2.0),
    "residual": LLAMA.replace(residual_multiplier=0.5),
    "logits": LLAMA.replace(logits_scaling=8.0),
    "scores": LLAMA.replace(attention={"attention_multiplier": 0.5}),
    "some blocks rotate": LLAMA.replace(positions={"no_rope_layers": [1, 1, 1, 0]}),
    "no block rotates": LLAMA.replace(positions={"no_rope_layers": [0, 0, 0, 0]}),
    "a part of each head rotates": LLAMA.replace(positions={"partial_rotary_factor": 0.5}),
    "biases of the MLP": LLAMA.replace(mlp={"mlp_bias": True}),
    "a window": LLAMA.replace(attention={"sliding_window": 8}),
    "GELU": LLAMA.replace(mlp={"hidden_act": "gelu_pytorch_tanh"}),
    "exact GELU": families.gpt2(**SIZES).replace(mlp={"hidden_act": "gelu"}),
    "norm after rotation": families.qwen3(**SIZES).replace(attention={"qk_norm_after_rope": True}),
}
OF_FAMILIES = {"gemma3": frozenset({"multipliers", "sliding_window", "hidden_act"})} | dict.fromkeys(
    ("glm", "glm4"), frozenset({"partial_rotary_factor"})
)
FIELDS = {
    ModelConfig: {
        "vocab_size", "max_position_embeddings", "num_hidden_layers", "hidden_size", "attention", "mlp",
        "norm", "positions", "initial", "tie_word_embeddings", "norm_placement", "dropout",
        "embedding_multiplier", "residual_multiplier", "logits_scaling",
    },
    AttentionConfig: {
        "num_attention_heads", "num_key_value_heads", "head_dim", "qk_norm", "qk_norm_over",
        "qk_norm_after_rope", "attention_bias", "attention_output_bias", "attention_multiplier",
        "sliding_window", "layer_types",
    },
    GatedMLPConfig: {"kind", "intermediate_size", "mlp_bias", "hidden_act"},
    PlainMLPConfig: {"kind", "intermediate_size", "hidden_act"},
    MoEConfig: {
        "kind", "num_experts", "num_experts_per_tok", "moe_intermediate_size", "n_shared_experts",
        "first_k_dense_replace", "intermediate_size", "router",
    },
    RotaryConfig: {
        "kind", "rope_theta", "rope_scaling", "no_rope_layers", "partial_rotary_factor",
        "rope_local_base_freq",
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_every_setting_of_a_model_is_known_to_the_formats(kind: type) -> None:
    """Whoever adds a setting decides here: a row in ``options.OPTIONS``, or a check in every format."""
    assert set(kind.model_fields) == FIELDS[kind]


def test_an_option_is_off_unless_it_is_set() -> None:
    assert {name for config in USED.values() for name in options.used(config)} == set(options.OPTIONS)
    for name, family in families.FAMILIES.items():
        assert options.used(family(**SIZES)) == OF_FAMILIES.get(name, frozenset())


@pytest.mark.parametrize("case", USED)
def test_what_holds_a_model_with_an_option_declares_it(case: str) -> None:
    config = USED[case]
    (name,) = options.used(config)
    if misfit(config) is None:
        assert name in options.COMPUTED[architecture(config)]
    if not (found := obstacles(config, None, "gguf")):
        assert name in options.COMPUTED[gguf_architecture(config)]
    assert bool(found) == (case in ("no block rotates", "a window", "GELU", "exact GELU"))
    for target in TARGETS:
        if reasons := [obstacle.what for obstacle in obstacles(config, None, target)]:
            assert any(options.OPTIONS[name].what in reason for reason in reasons)
    assert obstacles(config, None, "llama2c")


@pytest.mark.parametrize("case", USED)
def test_classes_that_know_nothing_of_an_option_need_it_off(case: str) -> None:
    config = USED[case]
    (name,) = options.used(config)
    for class_name, needs in NEEDS.items():
        if all(met(config) for _, met in needs):
            assert name in options.COMPUTED[class_name]


def test_two_options_together_are_refused_everywhere() -> None:
    both = LLAMA.replace(logits_scaling=8.0, positions={"no_rope_layers": [1, 1, 1, 0]})
    for target in TARGETS:
        assert obstacles(both, None, target)


def test_a_mixture_with_an_option_is_refused_everywhere() -> None:
    mixture = families.mixtral(**SIZES).replace(logits_scaling=8.0)
    for target in TARGETS:
        assert obstacles(mixture, None, target)
