"""The per-token half of a block: a gated or a plain feed-forward layer."""

# W width, F hidden width

from torch import Tensor, nn
from torch.nn.functional import gelu, silu

from congling.model.mlp_config import DenseMLP


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU in its tanh form (Hendrycks & Gimpel 2016)."""
    return gelu(x, approximate="tanh")


class GatedMLP(nn.Module):
    """SwiGLU (Shazeer 2020): ``down(silu(gate(x)) * up(x))``, or GELU in place of SiLU.

    Gate and up are two matrices: one fused matrix was measured slightly slower, since its gradient is a
    concatenation.
    """

    def __init__(self, width: int, hidden: int, bias: bool = False, hidden_act: str = "silu") -> None:
        super().__init__()
        self.activation = {"silu": silu, "gelu_pytorch_tanh": gelu_tanh}[hidden_act]
        self.gate = nn.Linear(width, hidden, bias=bias)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., W) -> (..., W)."""
        return self.down(self.activation(self.gate(x)) * self.up(x))


class PlainMLP(nn.Module):
    """Two biased layers with GELU between them, in its tanh form (GPT-2) or ``exact`` (nanoGPT)."""

    def __init__(self, width: int, hidden: int, exact: bool = False) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.activation = nn.GELU(approximate="none" if exact else "tanh")
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., W) -> (..., W)."""
        return self.down(self.activation(self.up(x)))


def build_mlp(config: DenseMLP, width: int) -> nn.Module:
    """The dense feed-forward layer of this kind."""
    match config.kind:
        case "gated":
            return GatedMLP(width, config.intermediate_size, config.mlp_bias, config.hidden_act)
        case "plain":
            return PlainMLP(width, config.intermediate_size, config.hidden_act == "gelu")
