"""Planted outliers: channels of large activations in a model that computes what it computed before.

A few channels of each norm are multiplied by a factor and the columns that read them divided by it. What a
method against outliers must find is then known, and what it should lose: as much as without the plant.
"""

import torch

from congling.model.transformer import Transformer
from congling.quant.experts import separate_experts
from congling.quant.folding import Folding, fold, foldings


def plant(model: Transformer, channels: int, factor: float, seed: int = 0) -> dict[str, list[int]]:
    """Make ``channels`` random channels behind each norm of the blocks ``factor`` times as large; in place.

    Experts are separate layers afterwards.

    Returns:
        By the place of each linear layer that reads such a norm: the planted channels, in order.
    """
    separate_experts(model)
    generator, planted = torch.Generator().manual_seed(seed), {}
    for layer in range(model.config.num_hidden_layers):
        for folding in foldings(model.config, layer):
            if not isinstance(folding, Folding) or not folding.of_norm:
                continue
            chosen = torch.randperm(folding.size, generator=generator)[:channels].sort().values
            scales = torch.ones(folding.size)
            scales[chosen] = 1 / factor
            fold(model, folding, scales)
            planted |= dict.fromkeys(folding.readers, chosen.tolist())
    return planted
