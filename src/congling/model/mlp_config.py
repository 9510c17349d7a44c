"""What the MLP of a block is made of: gated, plain, or experts with their router; without torch."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from congling.core.config import Config


class GatedMLPConfig(Config):
    """SwiGLU: ``down(silu(gate(x)) * up(x))`` (Shazeer 2020), or GeGLU with GELU in its tanh form."""

    kind: Literal["gated"] = "gated"
    intermediate_size: PositiveInt
    mlp_bias: bool = False
    """Add a learned vector behind each of the three matrices."""
    hidden_act: Literal["silu", "gelu_pytorch_tanh"] = "silu"


class PlainMLPConfig(Config):
    """Two biased layers with GELU (Hendrycks & Gimpel 2016) between them: GPT-2."""

    kind: Literal["plain"] = "plain"
    intermediate_size: PositiveInt
    hidden_act: Literal["gelu_new", "gelu"] = "gelu_new"
    """GELU in its tanh form (GPT-2), or the exact one with the error function (nanoGPT)."""


class SoftmaxRouterConfig(Config):
    """Top-k of a softmax, balanced by an auxiliary loss (Switch Transformer; Qwen3-MoE)."""

    kind: Literal["softmax"] = "softmax"
    router_aux_loss_coef: float = Field(default=0.001, ge=0)
    """Weight of the load-balancing loss that training adds."""
    norm_topk_prob: bool = True
    """Divide the chosen experts' scores by their sum (Qwen3-MoE, Mixtral); DeepSeekMoE does not."""
    routed_scaling_factor: PositiveFloat = 1.0
    """Factor on the mixed output of the routed experts."""


class SigmoidRouterConfig(Config):
    """Top-k of a sigmoid plus a bias that only steers the choice: balance without a loss (DeepSeek-V3)."""

    kind: Literal["sigmoid"] = "sigmoid"
    routed_scaling_factor: PositiveFloat = 1.0
    """Factor on the mixed output of the routed experts."""
    bias_update_rate: float = Field(default=0.001, ge=0)
    """How far an expert's bias moves at each step, up when it got less than its share, down when more."""


Router = Annotated[SoftmaxRouterConfig | SigmoidRouterConfig, Field(discriminator="kind")]


class MoEConfig(Config):
    """Mixture of SwiGLU experts: each token uses ``num_experts_per_tok`` of ``num_experts``, and all
    ``n_shared_experts``."""

    kind: Literal["moe"] = "moe"
    num_experts: PositiveInt
    num_experts_per_tok: PositiveInt
    moe_intermediate_size: PositiveInt
    """Hidden width of one expert."""
    n_shared_experts: int = Field(default=0, ge=0)
    """Experts that every token uses; stored as one MLP, so many times ``moe_intermediate_size`` wide."""
    first_k_dense_replace: int = Field(default=0, ge=0)
    """The first so many blocks keep one dense SwiGLU of ``intermediate_size`` channels (DeepSeek)."""
    intermediate_size: PositiveInt | None = None
    router: Router = SoftmaxRouterConfig()

    @model_validator(mode="after")
    def _choice_is_possible(self) -> Self:
        if self.num_experts_per_tok > self.num_experts:
            raise ValueError(
                f"num_experts_per_tok ({self.num_experts_per_tok}) exceeds num_experts ({self.num_experts})"
            )
        if self.first_k_dense_replace and self.intermediate_size is None:
            raise ValueError(
                "first_k_dense_replace needs intermediate_size, the hidden width of those blocks"
            )
        return self


DenseMLP = GatedMLPConfig | PlainMLPConfig
MLP = Annotated[DenseMLP | MoEConfig, Field(discriminator="kind")]


def hidden_channels(mlp: MLP) -> int:
    """Hidden channels of an MLP, or of one expert."""
    return mlp.moe_intermediate_size if mlp.kind == "moe" else mlp.intermediate_size
