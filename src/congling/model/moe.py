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

from congling.model.mlp import GatedMLP
from congling.model.mlp_config import MoEConfig, SigmoidRouterConfig, SoftmaxRouterConfig

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


class Router(nn.Module):
    """What both kinds share: scores by expert, and the count of the tokens that each expert gets."""

    load: Tensor
    """(E,) tokens sent to each expert since the last call of ``update_balance``."""

    def __init__(self, width: int, experts: int, active: int) -> None:
        super().__init__()
        self.active = active
        self.weight = nn.Parameter(torch.empty(experts, width))
        self.register_buffer("load", torch.zeros(experts), persistent=False)
        self.scores: Tensor | None = None
        """(N, E) of the last forward pass."""
        self.choice: Tensor | None = None
        """(N, k) of the last forward pass."""

    def count_load(self, uncounted: Tensor | None = None) -> None:
        """Add the last forward pass to ``load``; ``uncounted`` is true at tokens (N,) to leave out."""
        if self.choice is not None:
            self.load += _load(self.choice, len(self.weight), uncounted)

    def balance_loss(self, uncounted: Tensor | None = None) -> Tensor:
        """Mean over the last forward pass without the ``uncounted`` tokens; in training they are counted."""
        if self.training:
            self.count_load(uncounted)
        return self.weight.new_zeros(())

    def update_balance(self, total: Total, skip: Tensor | float = 0.0) -> None:
        """Count anew."""
        self.load.zero_()


class SoftmaxRouter(Router):
    """Top-k of a softmax, by habit renormalised to 1; balanced by the loss of Switch (Fedus et al. 2021)."""

    def __init__(self, config: SoftmaxRouterConfig, width: int, experts: int, active: int) -> None:
        super().__init__(width, experts, active)
        self.balance, self.scale = config.router_aux_loss_coef, config.routed_scaling_factor
        self.total = _sum if config.norm_topk_prob else _one
        self.step_share: Tensor | None = None
        """(E,) share of tokens of each expert over a whole step, where the loop has counted it."""
        self.step_weight: Tensor | float = 1.0
        """What a mean over this micro-batch weighs, so that it adds up to the mean over a whole step."""

    def forward(self, x: Tensor) -> Routing:
        """Route tokens (N, W)."""
        # float32 whatever the precision around it: ties and rounding here would change whole outputs.
        scores = linear(x.float(), self.weight.float()).softmax(-1)  # (N, E)
        share, choice = scores.topk(self.active, dim=-1)
        self.scores, self.choice = scores, choice
        return Routing(choice, share / self.total(share) * self.scale, _load(choice, len(self.weight)))

    def balance_loss(self, uncounted: Tensor | None = None) -> Tensor:
        """``router_aux_loss_coef`` · E · Σ f·p with the share of tokens f and the mean score p of each
        expert: the coefficient times k where both are uniform, more where they are not. A token weighs the
        same whatever is learnt of it, so objectives add it times their count of targets."""
        nothing = super().balance_loss(uncounted)
        if self.scores is None or self.choice is None:
            return nothing
        counted = self.scores.new_ones(len(self.scores)) if uncounted is None else (~uncounted).float()
        tokens = counted.sum().clamp_min(1)
        share = self.step_share
        if share is None:
            share = _load(self.choice, len(self.weight), uncounted) / tokens
        mean = counted @ self.scores / tokens
        return self.step_weight * self.balance * len(self.weight) * (share * mean).sum()


class SigmoidRouter(Router):
    """Top-k of sigmoid scores plus a bias that only steers the choice (DeepSeek-V3; Wang et al. 2024)."""

    bias: Tensor

    def __init__(self, config: SigmoidRouterConfig, width: int, experts: int, active: int) -> None:
        super().__init__(width, experts, active)
        self.scale, self.rate = config.routed_scaling_factor, config.bias_update_rate
        self.register_buffer("bias", torch.zeros(experts))

    def forward(self, x: Tensor) -> Routing:
        """Route tokens (N, W)."""
        scores = linear(x.float(), self.weight.float()).sigmoid()  # (N, E)
        choice = (scores + self.bias).topk(self.active, dim=-1).indices
        share = scores.gather(-1, choice)
        self.choice = choice
        return Routing(
            choice, share / share.sum(-1, keepdim=True) * self.scale, _load(choice, len(self.bias))
        )

    def update_balance(self, total: Total, skip: Tensor | float = 0.0) -> None:
        """Move each bias one step towards an even load since the last call, and count anew; where ``skip`` is
        1, only count anew."""
        load = total(self.load)
        self.bias += (1 - skip) * self.rate * (load.mean() - load).sign()
        super().update_balance(total, skip)


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
        self.experts = Experts(width, config.moe_intermediate_size, config.num_experts)
        self.shared = (
            GatedMLP(width, config.n_shared_experts * config.moe_intermediate_size)
            if config.n_shared_experts
            else _Nothing()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        flat = x.flatten(0, -2)
        return self.experts(flat, self.router(flat)).view_as(x) + self.shared(x)

    def balance_loss(self, uncounted: Tensor | None = None) -> Tensor:
        """See :meth:`Router.balance_loss`."""
        return self.router.balance_loss(uncounted)

    def update_balance(self, total: Total, skip: Tensor | float = 0.0) -> None:
        """Let the router even out its load after an optimizer step, or one that was skipped."""
        self.router.update_balance(total, skip)


class _Nothing(nn.Module):
    """No shared experts."""

    def forward(self, x: Tensor) -> float:
        return 0.0


def build_router(config: MoEConfig, width: int) -> SoftmaxRouter | SigmoidRouter:
    """The router of this kind."""
    match config.router:
        case SoftmaxRouterConfig():
            return SoftmaxRouter(config.router, width, config.num_experts, config.num_experts_per_tok)
        case SigmoidRouterConfig():
            return SigmoidRouter(config.router, width, config.num_experts, config.num_experts_per_tok)


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


def _load(choice: Tensor, experts: int, uncounted: Tensor | None = None) -> Tensor:
    """(E,) how many of the choices (N, k) each expert has, without those of the ``uncounted`` tokens (N,)."""
    if uncounted is None:
        return choice.flatten().bincount(minlength=experts)
    each = (~uncounted).float().repeat_interleave(choice.shape[1])
    return torch.zeros(experts, device=choice.device).index_add_(0, choice.flatten(), each)
