"""From configuration to optimizers: which parameter goes where, at which rate."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from congling.train.config import CURVE_RATE, AdamWConfig, MuonConfig
from congling.train.optim.adamw import AdamW, Group
from congling.train.optim.muon import EachMatrix, Muon, at_once
from congling.train.optim.roles import Role, roles


class Optimizer(Protocol):
    """What the loop asks of an optimizer; it never waits for the device."""

    def step(self, step: int, factor: float, skip: Tensor) -> None:
        """Apply the gradients at ``factor`` times the peak rates, or nothing where ``skip`` is 1."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All state, by name."""
        ...

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state."""
        ...


def build_optimizers(
    model: nn.Module,
    config: AdamWConfig | MuonConfig,
    products: torch.dtype = torch.float32,
    each_matrix: EachMatrix = at_once,
) -> list[Optimizer]:
    """One or two optimizers that together move every trainable parameter once.

    ``products`` is the type in which matrices are multiplied; weights and state are fp32. ``each_matrix`` is
    how Muon's matrices are made orthogonal: at once, or shared out among processes.
    """
    parameters, found = dict(model.named_parameters()), roles(model)

    def group(rate: float, decay: float, *wanted: Role) -> Group:
        return Group({name: parameters[name] for name, role in found.items() if role in wanted}, rate, decay)

    curve = config.positions_learning_rate or CURVE_RATE
    if isinstance(config, AdamWConfig):
        groups = [
            group(config.learning_rate, config.weight_decay, "matrix", "head"),
            group(config.learning_rate, 0.0, "embedding", "scalar"),
            group(curve, 0.0, "curve"),
        ]
        matrices = {}
    else:
        groups = [
            group(config.embedding_learning_rate, config.embedding_weight_decay, "embedding"),
            group(config.head_learning_rate, config.embedding_weight_decay, "head"),
            group(config.scalar_learning_rate, 0.0, "scalar"),
            group(curve, 0.0, "curve"),
        ]
        matrices = group(config.learning_rate, config.weight_decay, "matrix").parameters
    optimizers: list[Optimizer] = []
    if matrices and isinstance(config, MuonConfig):
        optimizers.append(Muon(matrices.values(), config, products, each_matrix))
    if any(one.parameters for one in groups):
        optimizers.append(AdamW(groups, betas=config.betas, epsilon=config.eps))
    return optimizers
