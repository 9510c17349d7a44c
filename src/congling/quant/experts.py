"""Experts of a mixture as linear layers of their own, which stacked matrices are not.

::

    gate (E, F, W)  ─▶  gate.0 … gate.E-1, each a linear layer (W → F), and so up and down

Whatever goes around linear layers (statistics, codes, int8) then needs to know nothing of mixtures.
"""

# N tokens (batch times time), k experts a token, E experts, W width, F hidden width of one expert

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from congling.model.moe import Experts, Routing


class SeparateExperts(nn.Module):
    """What ``Experts`` computes, by linear layers ``gate``, ``up`` and ``down``, each a list of E."""

    def __init__(self, experts: Experts) -> None:
        super().__init__()
        self.gate, self.up, self.down = (_apart(part) for part in (experts.gate, experts.up, experts.down))

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """Sum of the chosen experts by share: (N, W) -> (N, W)."""
        mixed = torch.zeros_like(x)
        for expert, (gate, up, down) in enumerate(zip(self.gate, self.up, self.down, strict=True)):
            rows, choice = (routing.choice == expert).nonzero(as_tuple=True)
            if len(rows):
                chosen = x[rows]
                share = routing.share[rows, choice, None].to(x.dtype)
                mixed = mixed.index_add(0, rows, down(silu(gate(chosen)) * up(chosen)) * share)
        return mixed


def separate_experts(model: nn.Module) -> None:
    """Take the experts of every mixture in a model apart; their matrices stay where they are in memory."""
    for place, module in list(model.named_modules()):
        if isinstance(module, Experts):
            model.set_submodule(place, SeparateExperts(module))


def parameter_of(place: str) -> str:
    """The parameter of a model with stacked experts that holds the weights of a linear layer: of an expert's
    together with those of the others, in their order."""
    stacked, _, last = place.rpartition(".")
    return stacked if last.isdigit() else f"{place}.weight"


def _apart(stacked: Tensor) -> nn.ModuleList:
    layers: list[Any] = []
    for matrix in stacked.detach().unbind():
        with torch.device("meta"):
            layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
        layer.weight = nn.Parameter(matrix, requires_grad=False)
        layers.append(layer)
    return nn.ModuleList(layers)
