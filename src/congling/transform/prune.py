"""Structured pruning: whole layers, heads, channels or experts are removed.

Which ones, scores say (``prune_scores``); here they are cut out of every tensor they run through::

    stream      embedding columns ─ norm gains ─ readers' columns ─ writers' rows ─ head columns
    hidden      gate and up rows ─ down columns
    heads       query, key and value rows ─ output columns, by groups that share keys and values
    experts     router rows ─ stacked matrices

Of parts that do nothing, nothing is lost: the logits stay the same.
"""

# W width, F hidden width, K key/value heads, E experts; primes for what remains

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from congling.model.config import ModelConfig
from congling.model.mlp_config import MoEConfig
from congling.transform.prune_scores import Scores
from congling.transform.prune_sizes import Sizes, check, smaller

BLOCK_AXES: dict[str, tuple[str, ...]] = {
    "attention_norm.weight": ("width",),
    "attention_norm.bias": ("width",),
    "post_attention_norm.weight": ("width",),
    "post_attention_norm.bias": ("width",),
    "attention.query.weight": ("queries", "width"),
    "attention.query.bias": ("queries",),
    "attention.key.weight": ("keys", "width"),
    "attention.key.bias": ("keys",),
    "attention.value.weight": ("keys", "width"),
    "attention.value.bias": ("keys",),
    "attention.output.weight": ("width", "queries"),
    "attention.output.bias": ("width",),
    "attention.query_norm.weight": ("",),
    "attention.query_norm.bias": ("",),
    "attention.key_norm.weight": ("",),
    "attention.key_norm.bias": ("",),
    "mlp_norm.weight": ("width",),
    "mlp_norm.bias": ("width",),
    "post_mlp_norm.weight": ("width",),
    "post_mlp_norm.bias": ("width",),
    "mlp.gate.weight": ("hidden", "width"),
    "mlp.gate.bias": ("hidden",),
    "mlp.up.weight": ("hidden", "width"),
    "mlp.up.bias": ("hidden",),
    "mlp.down.weight": ("width", "hidden"),
    "mlp.down.bias": ("width",),
    "mlp.router.weight": ("experts", "width"),
    "mlp.router.bias": ("experts",),
    "mlp.experts.gate": ("experts", "own", "width"),
    "mlp.experts.up": ("experts", "own", "width"),
    "mlp.experts.down": ("experts", "width", "own"),
    "mlp.shared.gate.weight": ("shared", "width"),
    "mlp.shared.up.weight": ("shared", "width"),
    "mlp.shared.down.weight": ("width", "shared"),
}
"""What runs along each dimension of a block's tensors; ``own`` channels are chosen expert by expert."""
OUTER_AXES: dict[str, tuple[str, ...]] = {
    "embedding.weight": ("", "width"),
    "positions.weight": ("", "width"),
    "positions.up": ("", ""),
    "positions.down": ("", ""),
    "norm.weight": ("width",),
    "norm.bias": ("width",),
    "head.weight": ("", "width"),
}

_WIDTH_NORMS = ("attention_norm.weight", "mlp_norm.weight")  # those behind the sublayers too
_NORMALISED = tuple(f"attention.{part}.{kind}" for part in ("query", "key") for kind in ("weight", "bias"))


@dataclass(frozen=True)
class Kept:
    """Numbers of what remains, in order."""

    layers: list[int]
    width: Tensor
    """(W',)."""
    groups: dict[int, Tensor] = field(default_factory=dict)
    """(K',) of each layer that remains."""
    blocks: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    """By layer and axis of :data:`BLOCK_AXES`: (n',); of ``own``, (E, F')."""


def prune(
    config: ModelConfig, weights: Mapping[str, Tensor], scores: Scores, sizes: Sizes
) -> tuple[ModelConfig, dict[str, Tensor], Kept]:
    """Leave out what scores least: configuration and weights of the smaller model, and what it kept.

    Raises:
        UserError: the sizes do not fit the model.
    """
    check(config, sizes)
    kept = choose(config, scores, sizes)
    return *cut(config, weights, kept, sizes), kept


def choose(config: ModelConfig, scores: Scores, sizes: Sizes) -> Kept:
    """The parts with the highest scores along each axis that is pruned, and all of the others."""
    layers = _best(scores.layers, sizes.num_hidden_layers).tolist()
    attention = config.attention
    shared = attention.num_attention_heads // attention.num_key_value_heads
    groups, blocks = {}, {}
    for layer in layers:
        kept = _best(
            scores.groups[layer],
            None if sizes.num_attention_heads is None else sizes.num_attention_heads // shared,
        )
        groups[layer] = kept
        axes = {
            "keys": _spread(kept, attention.head_dim),
            "queries": _spread(kept, shared * attention.head_dim),
        }
        mlp = config.mlp_of(layer)
        if isinstance(mlp, MoEConfig):
            axes["own"] = _best(scores.hidden[layer], sizes.intermediate_size)  # (E, F')
            axes["experts"] = _best(scores.experts[layer], sizes.num_experts)
            if mlp.n_shared_experts:
                together = (
                    None
                    if sizes.intermediate_size is None
                    else mlp.n_shared_experts * sizes.intermediate_size
                )
                axes["shared"] = _best(scores.shared[layer], together)
        else:
            dense = isinstance(config.mlp, MoEConfig)  # the first blocks of a mixture keep their own width
            axes["hidden"] = _best(scores.hidden[layer], None if dense else sizes.intermediate_size)
        blocks[layer] = axes
    return Kept(layers, _best(scores.width, sizes.hidden_size), groups, blocks)


def cut(
    config: ModelConfig, weights: Mapping[str, Tensor], kept: Kept, sizes: Sizes
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Configuration and weights of what is kept.

    A norm divides by the root of a mean over channels. Over W' instead of W of them it is √(W/W') as large
    when the others are zero; gains grow by as much, and epsilon by W/W', so that the quotient stays. Layer
    norm also subtracts the mean of what is left, so for it that holds where the mean of the residual stream
    is zero. Norms of queries and keys lose no channel but share that epsilon: what they divide grows with its
    root."""
    result = smaller(config, sizes, kept.layers)
    gain = (config.hidden_size / result.hidden_size) ** 0.5
    outer = {"width": kept.width}
    found = {name: _cut(weights[name], axes, outer) for name, axes in OUTER_AXES.items() if name in weights}
    for place, layer in enumerate(kept.layers):
        index = outer | kept.blocks[layer]
        for name, axes in BLOCK_AXES.items():
            if (tensor := weights.get(f"blocks.{layer}.{name}")) is not None:
                found[f"blocks.{place}.{name}"] = _cut(tensor, axes, index)
    scaled = _WIDTH_NORMS + (_NORMALISED if config.attention.qk_norm else ())
    for name in found:
        if name.endswith(scaled) or name == "norm.weight":
            found[name] = found[name] * gain
    return result, found


def _cut(tensor: Tensor, axes: tuple[str, ...], index: Mapping[str, Tensor]) -> Tensor:
    """Pick along every axis that has an index."""
    if "own" in axes:  # channels differ from expert to expert: picked while all experts are there
        dimension = axes.index("own")
        own = index["own"].unsqueeze(2 if dimension == 1 else 1)  # (E, F', 1) or (E, 1, F')
        tensor = torch.take_along_dim(tensor, own, dimension)
    for dimension, axis in enumerate(axes):
        if axis not in ("", "own"):
            tensor = tensor.index_select(dimension, index[axis])
    return tensor.clone()


def _best(scores: Tensor, size: int | None) -> Tensor:
    """Places of the ``size`` highest scores of each row (or of all), in order: (..., n) to (..., n')."""
    size = scores.shape[-1] if size is None else size
    # A stable sort: among equals the first remain, on every machine.
    order = scores.sort(dim=-1, descending=True, stable=True).indices[..., :size]
    return order.sort(dim=-1).values


def _spread(groups: Tensor, rows: int) -> Tensor:
    """Rows of a projection that belong to some groups of ``rows`` each."""
    return (groups[:, None] * rows + torch.arange(rows)).flatten()
