"""Adam with decoupled weight decay as llama.cpp's trainers did it: clip, moments, decay and step at once.

What differs from ``optim/adamw.py``: which tensors are decayed is decided by their dimensions, gradients are
clipped to exactly the largest norm, and bias correction counts the iterations of all runs together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

EPSILON = 1e-8


@dataclass(frozen=True)
class AdamSettings:
    """The numbers of ``--adam-*``."""

    alpha: float = 1e-3
    decay: float = 0.1
    decay_dimensions: int = 2
    """Only tensors of so many dimensions or more are decayed."""
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 1.0
    """Largest norm of all gradients together; 0 or less is any."""


class ClassicAdam:
    """The loop's optimizer protocol around those updates.

    Attributes:
        since: iteration at which the moments were zero; bias correction counts from there.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        dimensions: Mapping[str, int],
        settings: AdamSettings,
        since: int = 0,
    ) -> None:
        """``dimensions`` are those of each tensor in a file, which decide about its decay."""
        self.parameters, self.settings, self.since = dict(parameters), settings, since
        self.first = {name: torch.zeros_like(one) for name, one in self.parameters.items()}
        self.second = {name: torch.zeros_like(one) for name, one in self.parameters.items()}
        self._decayed = [dimensions[name] >= settings.decay_dimensions for name in self.parameters]

    @torch.no_grad()
    def step(self, step: int, factor: float, skip: Tensor) -> None:
        """Move the weights at ``factor`` times alpha, unless ``skip`` is 1."""
        if bool(skip):
            return
        settings, (beta1, beta2) = self.settings, self.settings.betas
        weights: list[Tensor] = list(self.parameters.values())
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in weights]
        self._clip(gradients)
        first, second = list(self.first.values()), list(self.second.values())
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        count, rate = step + 1 - self.since, settings.alpha * factor
        sizes = torch._foreach_div(second, 1 - beta2**count)
        torch._foreach_sqrt_(sizes)
        torch._foreach_add_(sizes, EPSILON)
        decayed = [one for one, decays in zip(weights, self._decayed, strict=True) if decays]
        if decayed and settings.decay:
            torch._foreach_mul_(decayed, 1 - settings.decay * rate)
        torch._foreach_addcdiv_(weights, first, sizes, -rate / (1 - beta1**count))

    def _clip(self, gradients: list[Tensor]) -> None:
        if self.settings.clip <= 0:
            return
        norm = float(nn.utils.get_total_norm(gradients))
        if norm > self.settings.clip:
            torch._foreach_mul_(gradients, self.settings.clip / norm)

    def tensors(self) -> dict[str, Tensor]:
        """Moments by name of the parameter and which of the two."""
        return {f"{name}.first": value for name, value in self.first.items()} | {
            f"{name}.second": value for name, value in self.second.items()
        }

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what ``tensors`` gave."""
        for name in self.parameters:
            self.first[name].copy_(tensors[f"{name}.first"])
            self.second[name].copy_(tensors[f"{name}.second"])
