"""A model whose loss is known: it foretells the id that stood a fixed distance before."""

import math

import torch
from torch import Tensor

from congling.model.config import ModelConfig
from congling.model.transformer import Transformer

SURE = 0.9
"""Probability of the id that stood ``distance`` before the one to come."""


class LookingBack(Transformer):
    """Gives ``SURE`` to the id that stood ``distance`` before the one to come; all others, and all where it
    does not see so far, are alike."""

    def __init__(self, config: ModelConfig, distance: int) -> None:
        super().__init__(config)
        self.distance = distance

    def forward(self, tokens: Tensor, **_: object) -> Tensor:
        """(B, T) -> (B, T, 1): the id that is foretold, -1 for none."""
        assert tokens.shape[1] <= self.config.max_position_embeddings
        found = torch.full(tokens.shape, -1)
        back = self.distance - 1  # the id to come is the next one already
        if tokens.shape[1] > back:
            found[:, back:] = tokens[:, : tokens.shape[1] - back]
        return found[..., None].float()

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., 1) -> (..., V)."""
        foretold = hidden.long()
        size = self.config.vocab_size
        other = torch.full((*hidden.shape[:-1], size), math.log((1 - SURE) / (size - 1)))
        sure = other.scatter(-1, foretold.clamp_min(0), math.log(SURE))
        return torch.where(foretold < 0, torch.full_like(other, -math.log(size)), sure)
