"""The sizes of a pruned model, checked against the whole one. Imports no torch."""

from typing import Any

from pydantic import PositiveInt

from congling.core.config import Config
from congling.core.errors import UserError
from congling.model.config import ModelConfig
from congling.model.mlp_config import MoEConfig


class Sizes(Config):
    """How much remains along each axis; ``None`` leaves an axis alone."""

    num_hidden_layers: PositiveInt | None = None
    """Blocks."""
    intermediate_size: PositiveInt | None = None
    """Hidden channels of each MLP, or of each routed and shared expert."""
    num_attention_heads: PositiveInt | None = None
    """Query heads of each block; they go in whole groups with the key/value head they share."""
    hidden_size: PositiveInt | None = None
    """Channels of the residual stream, the same ones in all blocks."""
    num_experts: PositiveInt | None = None
    """Routed experts of each mixture."""

    def asked(self) -> dict[str, int]:
        """The axes that are pruned."""
        return {axis: size for axis, size in self.model_dump().items() if size is not None}


def sizes_of(config: ModelConfig) -> dict[str, int]:
    """How large a model is along the axes that can be pruned."""
    found = {
        "num_hidden_layers": config.num_hidden_layers,
        "intermediate_size": config.mlp_size,
        "num_attention_heads": config.attention.num_attention_heads,
        "hidden_size": config.hidden_size,
    }
    return found | ({"num_experts": config.mlp.num_experts} if isinstance(config.mlp, MoEConfig) else {})


def check(config: ModelConfig, sizes: Sizes) -> None:
    """Say what is wrong with the sizes for this model, if anything is.

    Raises:
        UserError: nothing is pruned, something would grow, or what remained would be no model.
    """
    now, asked = sizes_of(config), sizes.asked()
    if not asked:
        hint = ", ".join(f"--{axis.replace('_', '-')}" for axis in Sizes.model_fields)
        raise UserError("nothing to prune: say how much remains", hint=hint)
    for axis, size in asked.items():
        option = f"--{axis.replace('_', '-')}"
        if axis not in now:
            raise UserError("the model has no experts", where=option, value=size)
        if size > now[axis]:
            raise UserError("the model is smaller than that", where=option, value=f"{size} of {now[axis]}")
    attention, mlp = config.attention, config.mlp
    group = attention.num_attention_heads // attention.num_key_value_heads
    if sizes.num_attention_heads is not None and sizes.num_attention_heads % group:
        raise UserError(
            "heads go in whole groups that share keys and values",
            where="--num-attention-heads",
            value=sizes.num_attention_heads,
            hint=f"a multiple of {group}",
        )
    if sizes.num_attention_heads is not None and config.positions.kind == "alibi":
        raise UserError(
            "the slopes of ALiBi follow from the number of heads: the heads that remain would see otherwise",
            where="--num-attention-heads",
            value=sizes.num_attention_heads,
            hint="prune layers, hidden channels or width",
        )
    if sizes.num_attention_heads is not None and attention.qk_norm and attention.qk_norm_over == "projection":
        raise UserError(
            "queries and keys are normalised over all heads together: those that remain would see otherwise",
            where="--num-attention-heads",
            value=sizes.num_attention_heads,
            hint="prune layers, hidden channels or width",
        )
    if (
        isinstance(mlp, MoEConfig)
        and sizes.num_experts is not None
        and sizes.num_experts < mlp.num_experts_per_tok
    ):
        raise UserError(
            "each token uses more experts than would remain",
            where="--num-experts",
            value=sizes.num_experts,
            hint=f"at least {mlp.num_experts_per_tok}",
        )


def smaller(config: ModelConfig, sizes: Sizes, layers: list[int]) -> ModelConfig:
    """The configuration of what remains.

    Args:
        config: of the whole model.
        sizes: what remains.
        layers: numbers of the blocks that remain.
    """
    attention = config.attention
    changes: dict[str, Any] = {}
    if sizes.num_hidden_layers is not None:
        changes["num_hidden_layers"] = sizes.num_hidden_layers
        if config.positions.kind == "rope" and config.positions.no_rope_layers is not None:
            rotated = config.positions.no_rope_layers
            changes["positions"] = {"no_rope_layers": [rotated[layer] for layer in layers]}
        if attention.layer_types is not None:
            changes["attention"] = {"layer_types": tuple(attention.layer_types[layer] for layer in layers)}
    if sizes.num_attention_heads is not None:
        shared = attention.num_attention_heads // attention.num_key_value_heads
        heads = {
            "num_attention_heads": sizes.num_attention_heads,
            "num_key_value_heads": sizes.num_attention_heads // shared,
        }
        changes["attention"] = {**changes.get("attention", {}), **heads}
    hidden = "moe_intermediate_size" if isinstance(config.mlp, MoEConfig) else "intermediate_size"
    mlp = {
        key: size
        for key, size in ((hidden, sizes.intermediate_size), ("num_experts", sizes.num_experts))
        if size
    }
    if isinstance(config.mlp, MoEConfig):
        mlp["first_k_dense_replace"] = sum(layer < config.mlp.first_k_dense_replace for layer in layers)
    if mlp:
        changes["mlp"] = mlp
    if sizes.hidden_size is not None:
        changes["hidden_size"] = sizes.hidden_size
        # Of a mean over fewer channels; see the gains in `prune.cut`.
        changes["norm"] = {"eps": config.norm.eps * config.hidden_size / sizes.hidden_size}
    return config.replace(**changes)
