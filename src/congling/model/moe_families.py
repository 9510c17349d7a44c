"""Families with mixtures of experts: a dense family with another MLP; see ``families.py``."""

from typing import Unpack

from congling.model.config import ModelConfig
from congling.model.dense_families import Sizes, llama, mistral, qwen3
from congling.model.mlp_config import MoEConfig, SigmoidRouterConfig, SoftmaxRouterConfig


def qwen3_moe(
    *,
    hidden_size: int,
    moe_intermediate_size: int | None = None,
    rope_theta: float = 10_000.0,
    num_experts: int = 8,
    num_experts_per_tok: int = 2,
    router_aux_loss_coef: float = 0.001,
    **sizes: Unpack[Sizes],
) -> ModelConfig:
    """Qwen3 whose MLPs are ``num_experts`` smaller ones behind a softmax router."""
    mlp = MoEConfig(
        num_experts=num_experts,
        num_experts_per_tok=num_experts_per_tok,
        moe_intermediate_size=moe_intermediate_size or _share(3 * hidden_size, num_experts_per_tok),
        router=SoftmaxRouterConfig(router_aux_loss_coef=router_aux_loss_coef),
    )
    return qwen3(hidden_size=hidden_size, rope_theta=rope_theta, **sizes).replace(mlp=mlp.model_dump())


def mixtral(
    *,
    hidden_size: int,
    intermediate_size: int | None = None,
    rope_theta: float = 10_000.0,
    num_experts: int = 8,
    num_experts_per_tok: int = 2,
    router_aux_loss_coef: float = 0.001,
    **sizes: Unpack[Sizes],
) -> ModelConfig:
    """Mistral whose MLPs are ``num_experts`` of full width behind a softmax router (Jiang et al. 2024)."""
    mlp = MoEConfig(
        num_experts=num_experts,
        num_experts_per_tok=num_experts_per_tok,
        moe_intermediate_size=intermediate_size or 7 * hidden_size // 2,
        router=SoftmaxRouterConfig(router_aux_loss_coef=router_aux_loss_coef),
    )
    return mistral(hidden_size=hidden_size, rope_theta=rope_theta, **sizes).replace(mlp=mlp.model_dump())


def deepseek_moe_v1(
    *,
    hidden_size: int,
    moe_intermediate_size: int | None = None,
    rope_theta: float = 10_000.0,
    num_experts: int = 16,
    num_experts_per_tok: int = 3,
    n_shared_experts: int = 1,
    first_k_dense_replace: int = 1,
    intermediate_size: int | None = None,
    routed_scaling_factor: float = 1.0,
    router_aux_loss_coef: float = 0.001,
    **sizes: Unpack[Sizes],
) -> ModelConfig:
    """DeepSeekMoE as published (Dai et al. 2024): Llama's attention, softmax not renormalised."""
    dense = llama(hidden_size=hidden_size, rope_theta=rope_theta, **sizes)
    mlp = MoEConfig(
        num_experts=num_experts,
        num_experts_per_tok=num_experts_per_tok,
        moe_intermediate_size=moe_intermediate_size
        or _share(3 * hidden_size, num_experts_per_tok + n_shared_experts),
        n_shared_experts=n_shared_experts,
        first_k_dense_replace=min(first_k_dense_replace, dense.num_hidden_layers - 1),
        intermediate_size=intermediate_size or 3 * hidden_size,
        router=SoftmaxRouterConfig(
            router_aux_loss_coef=router_aux_loss_coef,
            norm_topk_prob=False,
            routed_scaling_factor=routed_scaling_factor,
        ),
    )
    return dense.replace(norm={"eps": 1e-6}, mlp=mlp.model_dump())


def deepseek_moe(
    *,
    hidden_size: int,
    moe_intermediate_size: int | None = None,
    rope_theta: float = 10_000.0,
    num_experts: int = 16,
    num_experts_per_tok: int = 3,
    n_shared_experts: int = 1,
    first_k_dense_replace: int = 1,
    intermediate_size: int | None = None,
    routed_scaling_factor: float = 1.0,
    bias_update_rate: float = 0.001,
    **sizes: Unpack[Sizes],
) -> ModelConfig:
    """Shared and many fine-grained routed experts, balanced without a loss (DeepSeekMoE, Dai et al. 2024).

    Attention is Qwen3's, as in dots.llm1; multi-head latent attention is another part.
    ``intermediate_size`` is that of the first, dense blocks.
    """
    dense = qwen3(hidden_size=hidden_size, rope_theta=rope_theta, **sizes)
    mlp = MoEConfig(
        num_experts=num_experts,
        num_experts_per_tok=num_experts_per_tok,
        moe_intermediate_size=moe_intermediate_size
        or _share(3 * hidden_size, num_experts_per_tok + n_shared_experts),
        n_shared_experts=n_shared_experts,
        first_k_dense_replace=min(first_k_dense_replace, dense.num_hidden_layers - 1),
        intermediate_size=intermediate_size or 3 * hidden_size,
        router=SigmoidRouterConfig(
            routed_scaling_factor=routed_scaling_factor, bias_update_rate=bias_update_rate
        ),
    )
    return dense.replace(mlp=mlp.model_dump())


def _share(intermediate_size: int, num_experts_per_tok: int) -> int:
    """Hidden width of one of ``active`` experts that together are as wide as a dense MLP of ``hidden``."""
    return max(64, intermediate_size // num_experts_per_tok // 64 * 64)
