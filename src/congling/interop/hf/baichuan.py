"""What Baichuan models have besides a Llama's parts: the NormHead of Baichuan 2."""

# V vocabulary, W width

from torch import Tensor
from torch.nn.functional import normalize


def folded_norm_head(weight: Tensor) -> Tensor:
    """The output matrix (V, W) with rows of length 1, as Baichuan 2 multiplies by it.

    Its head divides each row by its length at every step; done once, the head is an ordinary matrix.
    Converters that leave this out give other logits (https://arxiv.org/abs/2309.10305, section 2.3).
    """
    return normalize(weight.float(), dim=-1)
