"""AdamW through torch's fused kernel: one pass over the weights a step, and no wait for the device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Group:
    """Parameters by name that share a peak rate and a weight decay."""

    parameters: Mapping[str, nn.Parameter]
    rate: float
    weight_decay: float


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    def __init__(self, groups: Sequence[Group], *, betas: tuple[float, float], epsilon: float) -> None:
        self.groups = [group for group in groups if group.parameters]
        settings = [
            {"params": list(group.parameters.values()), "lr": group.rate, "weight_decay": group.weight_decay}
            for group in self.groups
        ]
        self.inner = torch.optim.AdamW(settings, betas=betas, eps=epsilon, fused=True)

    def step(self, step: int, factor: float, skip: Tensor) -> None:
        """Move the weights; ``skip`` (scalar, 0 or 1) leaves weights and state as they are."""
        for group, settings in zip(self.groups, self.inner.param_groups, strict=True):
            settings["lr"] = group.rate * factor
        # The fused kernel's own way to skip on the device, made for gradient scalers. It is private to torch:
        # should that change, `test_a_skipped_step_changes_neither_weights_nor_state` says so.
        self.inner.__dict__.update(found_inf=skip, grad_scale=None)
        self.inner.step()

    def tensors(self) -> dict[str, Tensor]:
        """State by name, for a checkpoint."""
        return {
            f"adamw.{name}.{key}": value
            for group in self.groups
            for name, parameter in group.parameters.items()
            for key, value in self.inner.state[parameter].items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what ``tensors`` gave."""
        for group in self.groups:
            for name, parameter in group.parameters.items():
                keys = ("step", "exp_avg", "exp_avg_sq")
                stored = {key: tensors.get(f"adamw.{name}.{key}") for key in keys}
                self.inner.state[parameter] = {
                    key: value.to(parameter.device) for key, value in stored.items() if value is not None
                }
