"""Mixture of experts: a router sends each token to a few small MLPs.

::

    tokens ─router─ choice (N, k), share (N, k)
       │
       ├─ sort by expert: 0 0 0 │ 1 │ 3 3 ─ one MLP for each group ─ sort back ─ sum by share ─┐
       └─ shared MLP ──────────────────────────────────────────────────────────────────────────┴─ +

Balance, without which few experts would get all tokens, is the router's: by a loss (softmax) or a bias
(sigmoid).
"""

# N tokens (batch times time), k experts a token, E experts, W width, F hidden width of one expert

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from congling.model.config import MoEConfig, SigmoidRouterConfig, SoftmaxRouterConfig
from congling.model.mlp import GatedMLP

Total = Callable[[Tensor], Tensor]
"""Sum of a tensor over all processes that train the same model."""


class Routing(NamedTuple):
    """Where tokens go."""

    choice: Tensor
    """(N, k) numbers of experts."""
    share: Tensor
    """(N, k) weight of each chosen expert in the sum."""
    load: Tensor
    """(E,) tokens sent to each expert."""


class SoftmaxRouter(nn.Module):
    """Top-k of a softmax, by habit renormalised to 1; balanced by the loss of Switch (Fedus et al. 2021)."""

    def __init__(self, config: SoftmaxRouterConfig, width: int, experts: int, active: int) -> None:
        super().__init__()
        self.active, self.balance, self.scale = active, config.balance, config.scale
        self.total = _sum if config.normalise else _one
        self.weight = nn.Parameter(torch.empty(experts, width))
        self.loss: Tensor | None = None

    def forward(self, x: Tensor) -> Routing:
        """Route tokens (N, W)."""
        # float32 whatever the precision around it: ties and rounding here would change whole outputs.
        scores = linear(x.float(), self.weight.float()).softmax(-1)  # (N, E)
        share, choice = scores.topk(self.active, dim=-1)
        load = _load(choice, len(self.weight))
        # E · Σ f·p, least when the share of tokens f and the mean score p are uniform; times N, as losses are
        # summed.
        self.loss = self.balance * len(self.weight) * (load / len(x) * scores.sum(0)).sum()
        return Routing(choice, share / self.total(share) * self.scale, load)

    def balance_loss(self) -> Tensor:
        """The loss of the last forward pass, summed over tokens."""
        return self.weight.new_zeros(()) if self.loss is None else self.loss

    def update_balance(self, total: Total) -> None:
        """Nothing: the loss does it."""


class SigmoidRouter(nn.Module):
    """Top-k of sigmoid scores plus a bias that only steers the choice (DeepSeek-V3; Wang et al. 2024)."""

    bias: Tensor
    load: Tensor

    def __init__(self, config: SigmoidRouterConfig, width: int, experts: int, active: int) -> None:
        super().__init__()
        self.active, self.scale, self.rate = active, config.scale, config.bias_rate
        self.weight = nn.Parameter(torch.empty(experts, width))
        self.register_buffer("bias", torch.zeros(experts))
        self.register_buffer("load", torch.zeros(experts), persistent=False)

    def forward(self, x: Tensor) -> Routing:
        """Route tokens (N, W)."""
        scores = linear(x.float(), self.weight.float()).sigmoid()  # (N, E)
        choice = (scores + self.bias).topk(self.active, dim=-1).indices
        share = scores.gather(-1, choice)
        load = _load(choice, len(self.weight))
        if self.training:
            self.load += load
        return Routing(choice, share / share.sum(-1, keepdim=True) * self.scale, load)

    def balance_loss(self) -> Tensor:
        """Zero: balance costs the main loss nothing here."""
        return self.weight.new_zeros(())

    def update_balance(self, total: Total) -> None:
        """Move each bias one step towards an even load since the last call, and count anew."""
        load = total(self.load)
        self.bias += self.rate * (load.mean() - load).sign()
        self.load.zero_()


class Experts(nn.Module):
    """SwiGLU MLPs whose matrices are stacked, (E, F, W) and (E, W, F)."""

    def __init__(self, width: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.empty(experts, hidden, width))
        self.up = nn.Parameter(torch.empty(experts, hidden, width))
        self.down = nn.Parameter(torch.empty(experts, width, hidden))

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """Sum of the chosen experts by share: (N, W) -> (N, W)."""
        active = routing.choice.shape[-1]
        order = routing.choice.flatten().argsort(stable=True)  # (N·k): expert 0's tokens first, then 1's …
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        rows = x[order // active]
        parts = _each_expert(rows, routing.load, self.gate, self.up, self.down)  # pyright: ignore[reportCallIssue]
        chosen = parts[back].view(-1, active, x.shape[-1])  # (N, k, W)
        return (routing.share.to(x.dtype).unsqueeze(1) @ chosen).squeeze(1)


class MixtureOfExperts(nn.Module):
    """Router, routed experts, and the experts every token shares (DeepSeekMoE, Dai et al. 2024)."""

    def __init__(self, config: MoEConfig, width: int) -> None:
        super().__init__()
        self.router = build_router(config, width)
        self.experts = Experts(width, config.hidden, config.experts)
        self.shared = GatedMLP(width, config.shared * config.hidden) if config.shared else _Nothing()

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        flat = x.flatten(0, -2)
        return self.experts(flat, self.router(flat)).view_as(x) + self.shared(x)

    def balance_loss(self) -> Tensor:
        """The router's loss of the last forward pass, summed over tokens."""
        return self.router.balance_loss()

    def update_balance(self, total: Total) -> None:
        """Let the router even out its load after an optimizer step."""
        self.router.update_balance(total)


class _Nothing(nn.Module):
    """No shared experts."""

    def forward(self, x: Tensor) -> float:
        return 0.0


def build_router(config: MoEConfig, width: int) -> SoftmaxRouter | SigmoidRouter:
    """The router of this kind."""
    match config.router:
        case SoftmaxRouterConfig():
            return SoftmaxRouter(config.router, width, config.experts, config.active)
        case SigmoidRouterConfig():
            return SigmoidRouter(config.router, width, config.experts, config.active)


@torch.compiler.disable  # how many tokens an expert gets is known only at run time
def _each_expert(x: Tensor, load: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Run each expert on its consecutive rows of x (N·k, W), skipping those without any."""
    parts = []
    for expert, rows in enumerate(x.split(load.tolist())):
        if len(rows):
            parts.append(linear(silu(linear(rows, gate[expert])) * linear(rows, up[expert]), down[expert]))
    return torch.cat(parts)


def _sum(share: Tensor) -> Tensor:
    """Divisor of shares (N, k) that are to sum to 1."""
    return share.sum(-1, keepdim=True)


def _one(share: Tensor) -> float:
    """Divisor of shares that stay as they are."""
    return 1.0


def _load(choice: Tensor, experts: int) -> Tensor:
    return choice.flatten().bincount(minlength=experts)
