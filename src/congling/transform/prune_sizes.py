"""What is to remain of a model: sizes, checked against it. Imports no torch."""

from typing import Any

from pydantic import PositiveInt

from congling.core.config import Config
from congling.core.errors import UserError
from congling.model.config import ModelConfig, MoEConfig


class Sizes(Config):
    """How much remains along each axis; ``None`` leaves an axis alone."""

    layers: PositiveInt | None = None
    """Blocks."""
    hidden: PositiveInt | None = None
    """Hidden channels of each MLP, or of each routed and shared expert."""
    heads: PositiveInt | None = None
    """Query heads of each block; they go in whole groups with the key/value head they share."""
    width: PositiveInt | None = None
    """Channels of the residual stream, the same ones in all blocks."""
    experts: PositiveInt | None = None
    """Routed experts of each mixture."""

    def asked(self) -> dict[str, int]:
        """The axes that are pruned."""
        return {axis: size for axis, size in self.model_dump().items() if size is not None}


def sizes_of(config: ModelConfig) -> dict[str, int]:
    """How large a model is along the axes that can be pruned."""
    found = {
        "layers": config.layers,
        "hidden": config.mlp.hidden,
        "heads": config.attention.heads,
        "width": config.width,
    }
    return found | ({"experts": config.mlp.experts} if isinstance(config.mlp, MoEConfig) else {})


def check(config: ModelConfig, sizes: Sizes) -> None:
    """Say what is wrong with the sizes for this model, if anything is.

    Raises:
        UserError: nothing is pruned, something would grow, or what remained would be no model.
    """
    now, asked = sizes_of(config), sizes.asked()
    if not asked:
        hint = "--keep-layers, --hidden, --heads, --width or --experts"
        raise UserError("nothing to prune: say how much remains", hint=hint)
    for axis, size in asked.items():
        option = "--keep-layers" if axis == "layers" else f"--{axis}"
        if axis not in now:
            raise UserError("the model has no experts", where=option, value=size)
        if size > now[axis]:
            raise UserError("the model is smaller than that", where=option, value=f"{size} of {now[axis]}")
    attention, mlp = config.attention, config.mlp
    group = attention.heads // attention.kv_heads
    if sizes.heads is not None and sizes.heads % group:
        raise UserError(
            "heads go in whole groups that share keys and values",
            where="--heads",
            value=sizes.heads,
            hint=f"a multiple of {group}",
        )
    if sizes.heads is not None and config.positions.kind == "alibi":
        raise UserError(
            "the slopes of ALiBi follow from the number of heads: the heads that remain would see otherwise",
            where="--heads",
            value=sizes.heads,
            hint="prune layers, hidden channels or width",
        )
    if sizes.heads is not None and attention.qk_norm and attention.qk_norm_over == "projection":
        raise UserError(
            "queries and keys are normalised over all heads together: those that remain would see otherwise",
            where="--heads",
            value=sizes.heads,
            hint="prune layers, hidden channels or width",
        )
    if isinstance(mlp, MoEConfig) and sizes.experts is not None and sizes.experts < mlp.active:
        raise UserError(
            "each token uses more experts than would remain",
            where="--experts",
            value=sizes.experts,
            hint=f"at least {mlp.active}",
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
    if sizes.layers is not None:
        changes["layers"] = sizes.layers
        if config.positions.kind == "rope" and config.positions.no_rope_layers is not None:
            rotated = config.positions.no_rope_layers
            changes["positions"] = {"no_rope_layers": [rotated[layer] for layer in layers]}
        if attention.layer_types is not None:
            changes["attention"] = {"layer_types": tuple(attention.layer_types[layer] for layer in layers)}
    if sizes.heads is not None:
        shared = attention.heads // attention.kv_heads
        heads = {"heads": sizes.heads, "kv_heads": sizes.heads // shared}
        changes["attention"] = {**changes.get("attention", {}), **heads}
    mlp = {key: size for key, size in (("hidden", sizes.hidden), ("experts", sizes.experts)) if size}
    if isinstance(config.mlp, MoEConfig):
        mlp["dense_layers"] = sum(layer < config.mlp.dense_layers for layer in layers)
    if mlp:
        changes["mlp"] = mlp
    if sizes.width is not None:
        changes["width"] = sizes.width
        # Of a mean over fewer channels; see the gains in `prune.cut`.
        changes["norm"] = {"epsilon": config.norm.epsilon * config.width / sizes.width}
    return config.replace(**changes)
