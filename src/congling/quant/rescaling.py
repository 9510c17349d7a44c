"""Scales for the channels of a block, chosen by what it reads and folded in before its layers are rounded."""

# I inputs, S scales

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from congling.model.transformer import Transformer
from congling.quant.awq import Reader, awq_scales
from congling.quant.config import AwqConfig, SmoothQuantConfig
from congling.quant.folding import Folding, Unfoldable, fold, foldings
from congling.quant.smoothquant import smoothing_scales
from congling.quant.statistics import FEWEST_TOKENS, InputStatistics

Inputs = Mapping[str, InputStatistics]
"""What the inputs of a block's linear layers look like, by place."""


def rescale_for_awq(model: Transformer, block: int, inputs: Inputs, config: AwqConfig) -> tuple[str, ...]:
    """Scale columns up as AWQ does, wherever a scale can be folded.

    Returns:
        What was not scaled, and why.

    Raises:
        UserError: the weights cannot be rounded on this grid.
    """

    def scales(folding: Folding, weights: Sequence[Tensor], seen: Sequence[InputStatistics]) -> Tensor:
        tensors = _distinct(seen)
        tokens = sum(one.tokens for one in tensors)
        mean_abs = torch.stack([one.mean_abs * (one.tokens / tokens) for one in tensors]).sum(0)
        grams = {id(one): one.gram * one.tokens for one in tensors}
        readers = [Reader(weight, grams[id(one)]) for weight, one in zip(weights, seen, strict=True)]
        return awq_scales(readers, mean_abs, folding, config)

    return _rescale(model, block, inputs, scales, norms_alone=False)


def rescale_for_smoothquant(
    model: Transformer, block: int, inputs: Inputs, config: SmoothQuantConfig
) -> tuple[str, ...]:
    """Move the range of large inputs into the weights, through norms alone.

    Returns:
        What was not scaled, and why.
    """

    def scales(folding: Folding, weights: Sequence[Tensor], seen: Sequence[InputStatistics]) -> Tensor:
        max_abs = torch.stack([one.max_abs for one in seen]).amax(0)
        return smoothing_scales(max_abs, weights, config.smoothing_strength)

    return _rescale(model, block, inputs, scales, norms_alone=True)


Scales = Callable[[Folding, Sequence[Tensor], Sequence[InputStatistics]], Tensor]


def _rescale(
    model: Transformer, block: int, inputs: Inputs, scales: Scales, *, norms_alone: bool
) -> tuple[str, ...]:
    notes = []
    for folding in foldings(model.config, block):
        # experts that nothing reached say nothing of the scales
        readers = [place for place in folding.readers if inputs[place].tokens]
        tokens = sum(one.tokens for one in _distinct([inputs[place] for place in readers]))
        if isinstance(folding, Unfoldable):
            notes.append(f"not scaled, {_kinds(folding)}: {folding.reason}")
        elif norms_alone and not folding.of_norm:
            continue
        elif tokens < FEWEST_TOKENS:
            notes.append(f"not scaled, {_kinds(folding)}: fewer than {FEWEST_TOKENS} tokens came by")
        else:
            weights = [model.get_submodule(place).get_parameter("weight").detach() for place in readers]
            fold(model, folding, scales(folding, weights, [inputs[place] for place in readers]))
    return tuple(dict.fromkeys(notes))


def _distinct(seen: Sequence[InputStatistics]) -> list[InputStatistics]:
    """Layers that read one tensor have one object: each tensor once."""
    return list({id(one): one for one in seen}.values())


def _kinds(folding: Folding | Unfoldable) -> str:
    """``attention.query, attention.key``: the same for every block and expert."""
    names = (".".join(p for p in place.split(".")[2:] if not p.isdigit()) for place in folding.readers)
    return ", ".join(dict.fromkeys(names))
