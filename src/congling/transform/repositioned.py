"""The same weights behind other positions: a model is built anew around them, and nothing is copied."""

import torch
from torch import nn

from congling.model.attention import Attention
from congling.model.build_positions import build_positions
from congling.model.config import ModelConfig, Positions
from congling.model.sliding import build_sliding
from congling.model.transformer import Transformer


def repositioned(model: Transformer, positions: Positions, context: int) -> Transformer:
    """A model that shares all weights with another, but for those of a learnt curve of frequencies (CLEX).

    Args:
        model: of any kind of weights, packed ones and adapters included; not changed.
        positions: those of the new model, without weights of their own.
        context: tokens that the new model reads.

    Raises:
        ValueError: the positions have weights: learned vectors, or a curve.
    """
    values = model.config.model_dump() | {"positions": positions, "max_position_embeddings": context}
    config = ModelConfig.model_validate(values)
    built = build_positions(config)
    if any(True for _ in built.parameters()):
        raise ValueError(f"positions of kind {positions.kind} have weights of their own")
    with torch.device("meta"):
        other = Transformer(config)
    other.sliding = build_sliding(config)
    _take(other, model, but={"positions", "sliding", "blocks"})
    for block, theirs in zip(model.blocks, other.blocks, strict=True):
        _take(theirs, block, but={"attention"})
        mine, new = block.get_submodule("attention"), theirs.get_submodule("attention")
        assert isinstance(mine, Attention) and isinstance(new, Attention)
        _take(new, mine)
        new.attention_fn = mine.attention_fn
    weight = next(model.parameters())
    other.positions = built.to(device=weight.device, dtype=weight.dtype)
    if isinstance(other.sliding, nn.Module):
        other.sliding.to(device=weight.device, dtype=weight.dtype)
    return other.train(model.training)


def _take(target: nn.Module, source: nn.Module, but: frozenset[str] | set[str] = frozenset()) -> None:
    """Put the parts of one module in the places of those of another."""
    for name, part in source.named_children():
        if name not in but:
            setattr(target, name, part)
