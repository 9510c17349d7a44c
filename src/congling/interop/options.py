"""Parts of a model that few programs compute. Without torch.

Every format says which options it holds (``COMPUTED``); a model that uses another is refused there, so that
an option added here is never dropped without a word.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from congling.model.config import ModelConfig


class Option(NamedTuple):
    """One such part."""

    what: str
    """The part, in words."""
    used: Callable[[ModelConfig], bool]
    off: str
    """The setting without it."""


def _multiplied(config: ModelConfig) -> bool:
    factors = (config.embedding_multiplier, config.residual_multiplier, config.logits_scaling)
    return factors != (1, 1, 1) or config.attention.attention_multiplier is not None


def scaled_embedding(config: ModelConfig) -> bool:
    """Whether embeddings are multiplied by the root of the width, and nothing else by anything (Gemma)."""
    return (
        abs(config.embedding_multiplier - config.hidden_size**0.5) < 1e-6 * config.hidden_size**0.5
        and config.residual_multiplier == config.logits_scaling == 1
        and config.attention.attention_multiplier is None
    )


def window_period(config: ModelConfig) -> int | None:
    """The n for which every n-th block alone sees the whole text; None: there is none."""
    whole = [config.layer_type(layer) == "full_attention" for layer in range(config.num_hidden_layers)]
    period = whole.index(True) + 1 if True in whole else config.num_hidden_layers + 1
    fits = period > 1 and all(
        whole[layer] == ((layer + 1) % period == 0) for layer in range(config.num_hidden_layers)
    )
    return period if fits else None


OPTIONS: dict[str, Option] = {
    "multipliers": Option(
        "multipliers of the embedding, the residual stream, the logits or the attention scores", _multiplied,
        "embedding_multiplier, residual_multiplier and logits_scaling = 1 without attention_multiplier",
    ),
    "no_rope_layers": Option(
        "blocks that rotate nothing beside blocks that do",
        lambda config: any(not config.rotated(layer) for layer in range(config.num_hidden_layers))
        and config.positions.kind == "rope",
        "no positions.no_rope_layers",
    ),
    "partial_rotary_factor": Option(
        "rotary positions on a part of each head",
        lambda config: config.positions.kind == "rope" and config.positions.partial_rotary_factor != 1,
        "positions.partial_rotary_factor = 1",
    ),
    "sliding_window": Option(
        "blocks that look through a sliding window",
        lambda config: config.attention.sliding_window is not None,
        "no attention.sliding_window",
    ),
    "hidden_act": Option(
        "a gated MLP with GELU",
        lambda config: config.mlp.kind == "gated" and config.mlp.hidden_act != "silu",
        "mlp.hidden_act = silu",
    ),
    "qk_norm_after_rope": Option(
        "queries and keys normalised after they are rotated",
        lambda config: config.attention.qk_norm_after_rope,
        "attention.qk_norm_after_rope = false",
    ),
    "mlp_bias": Option(
        "biases in gated MLPs",
        lambda config: config.mlp.kind == "gated" and config.mlp.mlp_bias,
        "mlp.mlp_bias = false",
    ),
    "exact_gelu": Option(
        "GELU with the error function",
        lambda config: config.mlp.kind == "plain" and config.mlp.hidden_act == "gelu",
        "mlp.hidden_act = gelu_new",
    ),
}  # fmt: skip
COMPUTED: dict[str, frozenset[str]] = {
    "LlamaForCausalLM": frozenset({"mlp_bias"}),
    "GraniteForCausalLM": frozenset({"multipliers", "mlp_bias"}),
    "SmolLM3ForCausalLM": frozenset({"no_rope_layers", "mlp_bias"}),
    "HunYuanDenseV1ForCausalLM": frozenset({"qk_norm_after_rope"}),
    "Gemma3ForCausalLM": frozenset({"multipliers", "sliding_window", "hidden_act"}),
    "gemma3": frozenset({"multipliers", "sliding_window", "hidden_act"}),
    "GlmForCausalLM": frozenset({"partial_rotary_factor"}),
    "Glm4ForCausalLM": frozenset({"partial_rotary_factor"}),
    "GPT2LMHeadModel": frozenset({"exact_gelu"}),
    "llama": frozenset({"mlp_bias"}),
    "granite": frozenset({"multipliers", "mlp_bias"}),
    "smollm3": frozenset({"no_rope_layers"}),
    "hunyuan-dense": frozenset({"qk_norm_after_rope"}),
    "chatglm": frozenset({"partial_rotary_factor"}),
    "glm4": frozenset({"partial_rotary_factor"}),
    "stablelm": frozenset({"partial_rotary_factor"}),
}
"""Options by the class or architecture that holds them; all others hold none."""


def used(config: ModelConfig) -> frozenset[str]:
    """Names of the options that a model uses."""
    return frozenset(name for name, option in OPTIONS.items() if option.used(config))


def uncomputed(name: str) -> Iterable[Option]:
    """What a class or architecture does not compute."""
    return (option for key, option in OPTIONS.items() if key not in COMPUTED.get(name, ()))
