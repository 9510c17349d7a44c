"""The per-token half of a block: a gated or a plain feed-forward layer."""

# W width, F hidden width

from torch import Tensor, nn
from torch.nn.functional import silu

from congling.model.config import DenseMLP


class GatedMLP(nn.Module):
    """SwiGLU (Shazeer 2020): ``down(silu(gate(x)) * up(x))``.

    Gate and up are two matrices: one fused matrix was measured slightly slower, since its gradient is a
    concatenation.
    """

    def __init__(self, width: int, hidden: int, bias: bool = False) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=bias)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., W) -> (..., W)."""
        return self.down(silu(self.gate(x)) * self.up(x))


class PlainMLP(nn.Module):
    """Two biased layers with GELU, in its tanh form, between them (GPT-2)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.activation = nn.GELU(approximate="tanh")
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., W) -> (..., W)."""
        return self.down(self.activation(self.up(x)))


def build_mlp(config: DenseMLP, width: int) -> nn.Module:
    """The dense feed-forward layer of this kind."""
    match config.kind:
        case "gated":
            return GatedMLP(width, config.hidden, config.bias)
        case "plain":
            return PlainMLP(width, config.hidden)
