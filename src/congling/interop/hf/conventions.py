"""What some classes store otherwise than we do: rows in another order, or not yet divided by their length."""

# V vocabulary, W width, D head width; K groups of G heads that share keys and values

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import normalize

from congling.interop.gguf.arrangement import to_half_split
from congling.model.config import AttentionConfig, ModelConfig

_NORM_HEAD_VOCABULARY = 125_696  # Baichuan 2


def folded_norm_head(weight: Tensor) -> Tensor:
    """The output matrix (V, W) with rows of length 1, as Baichuan 2 multiplies by it.

    Its head divides each row by its length at every step; done once, the head is an ordinary matrix.
    Converters that leave this out give other logits (https://arxiv.org/abs/2309.10305, section 2.3).
    """
    return normalize(weight.float(), dim=-1)


def normalised_head(values: Mapping[str, Any]) -> bool:
    """Whether logits are products with the output rows brought to length 1 (Baichuan 2's NormHead).

    ``BaichuanForCausalLM`` is Baichuan 13B as well as both sizes of Baichuan 2. Of these the smaller has a
    table of positions to size, both have the weight of a loss, and 125,696 pieces or, with added ones, more.
    """
    size = values.get("vocab_size")
    return (
        values.get("max_position_embeddings") is not None
        or values.get("z_loss_weight") is not None
        or (type(size) is int and size >= _NORM_HEAD_VOCABULARY)
    )


def changes(
    architecture: str, config: ModelConfig, values: Mapping[str, Any]
) -> dict[str, Callable[[Tensor], Tensor]]:
    """Functions by our name for tensors that are not used as a folder stores them."""
    if architecture == "BaichuanForCausalLM" and normalised_head(values):
        return {"head.weight": folded_norm_head}
    if architecture != "Ernie4_5ForCausalLM":
        return {}
    heads = {"query": config.attention.heads, "key": config.attention.kv_heads}
    return {
        f"blocks.{layer}.attention.{part}.weight": lambda rows, count=count: to_half_split(rows, count)
        for layer in range(config.layers)
        for part, count in heads.items()
    }  # Ernie turns neighbouring channels


def fused_rows(architecture: str, attention: AttentionConfig) -> np.ndarray | None:
    """Numbers of the rows of all queries, all keys and all values in one matrix; ``None``: in this order.

    InternLM2 has them group after group: G heads of queries, then the keys and values they share.
    """
    if architecture != "InternLM2ForCausalLM":
        return None
    groups = np.arange(sum(attention.rows)).reshape(
        attention.kv_heads, -1, attention.head_width
    )  # (K, G + 2, D)
    return np.concatenate([groups[:, :-2].ravel(), groups[:, -2].ravel(), groups[:, -1].ravel()])
