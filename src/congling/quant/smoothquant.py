"""SmoothQuant (Xiao et al. 2022): the range of large inputs is moved into the weights, through the norm.

::

    scale_j = max|X_j|^α / max|W_j|^(1 - α)        X_j ÷ scale_j (folded into the norm), W_j · scale_j

Channels of inputs and of weights then share the difficulty of being eight bits wide (α = 0.5), or inputs give
more of it away (α = 0.8 for models with stronger outliers). An input channel that is a times as large, with
weights a times as small, gets a times the scale whatever α is.
"""

# O outputs, I inputs

from collections.abc import Sequence

import torch
from torch import Tensor


def smoothing_scales(max_abs: Tensor, weights: Sequence[Tensor], strength: float) -> Tensor:
    """What each input channel is divided by, and its column multiplied by; 1 where either is 0 throughout.

    Args:
        max_abs: (I,) the largest |x| of every channel of the inputs.
        weights: matrices (…, O, I) that read them.
        strength: α, from 0 (inputs stay as they are, but for the range of the weights) to 1.

    Returns:
        (I,) positive and finite.
    """
    largest = torch.stack([weight.detach().abs().flatten(0, -2).amax(0) for weight in weights]).amax(0)
    alive = (max_abs > 0) & (largest > 0)
    inputs, columns = max_abs.double().where(alive, 1), largest.double().where(alive, 1)
    return (inputs**strength / columns ** (1 - strength)).float()
