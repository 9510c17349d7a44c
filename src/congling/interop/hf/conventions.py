"""What some classes store otherwise than we do: rows in another order, or not yet divided by their length."""

# V vocabulary, W width, D head width; K groups of G heads that share keys and values

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.nn.functional import normalize

from congling.interop.gguf.arrangement import to_half_split, to_interleaved, turned_heads
from congling.model.config import AttentionConfig, ModelConfig
from congling.model.lazy import LazyTensors

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
    architecture: str, config: ModelConfig, names: Iterable[str], values: Mapping[str, Any]
) -> dict[str, Callable[[Tensor], Tensor]]:
    """Functions by our name for tensors that are not used as a folder stores them."""
    if architecture == "BaichuanForCausalLM" and normalised_head(values):
        return {"head.weight": folded_norm_head}
    found = {name: change.to_ours for name, change in conversions(architecture, config, names).items()}
    if architecture == "Gemma3ForCausalLM":
        # Scores are divided by the root of this number, whatever the width of the heads: the rest of that is
        # in the gains of the queries.
        share = (config.attention.head_dim / (values.get("query_pre_attn_scalar") or 256)) ** 0.5
        for name in found:
            if name.endswith("query_norm.weight"):
                found[name] = lambda gain: (gain + 1) * share
    return found


class Conversion(NamedTuple):
    """Of one tensor, both ways."""

    to_ours: Callable[[Tensor], Tensor]
    to_theirs: Callable[[Tensor], Tensor]


def conversions(architecture: str, config: ModelConfig, names: Iterable[str]) -> dict[str, Conversion]:
    """Of those of our tensors that a folder of this class does not hold as they are."""
    found: dict[str, Conversion] = {}
    for name in names:
        if architecture == "Gemma3ForCausalLM" and name.endswith("norm.weight"):
            found[name] = Conversion(lambda gain: gain + 1, lambda gain: gain - 1)
        if (heads := turned_heads(name, config, architecture)) is not None:
            found[name] = Conversion(
                partial(to_half_split, heads=heads), partial(to_interleaved, heads=heads)
            )
    return found


def converted(weights: Mapping[str, Tensor], changes: Mapping[str, Conversion]) -> LazyTensors:
    """Our tensors as a class holds them."""

    def make(name: str) -> Tensor:
        return changes[name].to_theirs(weights[name]) if name in changes else weights[name]

    return LazyTensors(weights, make)


def fused_rows(architecture: str, attention: AttentionConfig) -> np.ndarray | None:
    """Numbers of the rows of all queries, all keys and all values in one matrix; ``None``: in this order.

    InternLM2 has them group after group: G heads of queries, then the keys and values they share.
    """
    if architecture != "InternLM2ForCausalLM":
        return None
    groups = np.arange(sum(attention.projection_sizes)).reshape(
        attention.num_key_value_heads, -1, attention.head_dim
    )  # (K, G + 2, D)
    return np.concatenate([groups[:, :-2].ravel(), groups[:, -2].ravel(), groups[:, -1].ravel()])
