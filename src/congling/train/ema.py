"""An exponential moving average over the weights: the noise of the last steps cancels out."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class EMA:
    """Average of the trainable weights of ``model``; early on it forgets faster, to lose the random start."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.average: dict[str, Tensor] = {name: p.detach().clone() for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int, skip: Tensor | float = 0.0) -> None:
        """Take in the weights after the update of ``step``, or nothing where ``skip`` (scalar) is 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        average: list[Tensor] = list(self.average.values())
        weights: list[Tensor] = list(self.parameters.values())
        differences = torch._foreach_sub(weights, average)
        torch._foreach_mul_(differences, (1 - skip) * (1 - decay))
        torch._foreach_add_(average, differences)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the model's weights are the average."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, parameter in self.parameters.items():
            parameter.data, self.average[name] = self.average[name], parameter.data
