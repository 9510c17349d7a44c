"""The token embedding, which in a tied model is also the output layer."""

# W width, V vocabulary

from torch import Tensor, nn
from torch.nn.functional import linear


class TokenEmbedding(nn.Embedding):
    """A vector for every token; ``logits`` is the way back."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Product with every token's vector: (..., W) -> (..., V)."""
        return linear(hidden, self.weight)
