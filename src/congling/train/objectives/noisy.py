"""NEFTune (Jain et al. 2023): noise on embedded tokens while training, so that less is memorised.

::

    noise uniform in ±alpha / √(L · W)        L tokens of the example, W width: its length is at most alpha

Added from outside, to any objective; what is evaluated or exported has never seen it.
"""

# B batch, T time, W width

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from congling.train.objectives.batch import DeviceBatch
from congling.train.objectives.loss import Loss


def neftune(objective: Callable[[Any, Any], Loss], alpha: float) -> Callable[[Any, Any], Loss]:
    """The same objective on noisy embeddings; alpha is 5 to 15 in the paper.

    The model needs an ``embedding``. Noise is drawn from torch's generator, which the loop seeds anew for
    each step: a resumed run draws the same.
    """

    def noisy(model: Any, batch: DeviceBatch) -> Loss:
        if not model.training:
            return objective(model, batch)
        counted = lengths(batch)

        def add(module: Any, inputs: Any, embedded: Tensor) -> Tensor:
            bound = alpha / (counted * embedded.shape[-1]).sqrt()  # (B, T)
            return embedded + torch.empty_like(embedded).uniform_(-1, 1) * bound[..., None].to(embedded.dtype)

        handle = model.embedding.register_forward_hook(add)
        try:
            return objective(model, batch)
        finally:
            handle.remove()

    return noisy


def lengths(batch: DeviceBatch) -> Tensor:
    """(B, T) float32: how many tokens the example has that each token belongs to.

    Several texts in a row are told apart by ``documents``; a text alone in its row ends with its last learnt
    target, and what follows is padding.
    """
    rows, time = batch.tokens.shape
    if batch.documents is not None:
        opening = batch.documents[:, 1:] != batch.documents[:, :-1]
        text = torch.nn.functional.pad(opening.cumsum(1), (1, 0))  # (B, T), 0 0 0 1 1 2 …
        counts = torch.zeros(rows, time, device=text.device)
        return counts.scatter_add_(1, text, torch.ones_like(counts)).gather(1, text)
    if batch.weights is None:
        return torch.full((rows, time), float(time), device=batch.tokens.device)
    places = torch.arange(1, time + 1, device=batch.weights.device)
    ends = (places * (batch.weights != 0)).amax(1, keepdim=True).clamp_min(1)
    return ends.float().expand(rows, time)
