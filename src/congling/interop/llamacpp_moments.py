"""The order in which llama.cpp's former trainers keep Adam's moments: that of a walk through their graph.

Their optimizer numbers the parameters as its graph lists them, which is depth first from the loss down, a
node's operands before the node. So a block's tensors come in two parts, before and after those of the block
below it, and the order depends on how attention is computed (a fused node takes queries, keys, values; two
products take the values first) and on which operand is walked first. The programs chose the walk that needs
less memory. A file does not tell; which tokens a text never had does: their rows of moments are zero.

Held against build 1446 of ``train-text-from-scratch`` and ``finetune`` with all four walks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from congling.interop.names import pattern


class Walk(NamedTuple):
    """How the graph was walked."""

    flash: bool = True
    """Attention is one fused node: the default of 2023, off since 2024."""
    left_to_right: bool = True


WALKS = tuple(Walk(flash, left) for left in (True, False) for flash in (True, False))
_TOP = ("mlp.down", "mlp.gate", "mlp_norm", "attention.output")
_PARTS = {  # of a block: before and after all blocks below it
    Walk(True, True): ((*_TOP, "attention.query", "attention_norm"),
                       ("attention.key", "attention.value", "mlp.up")),
    Walk(False, True): ((*_TOP, "attention_norm"),
                        ("attention.value", "attention.key", "attention.query", "mlp.up")),
    Walk(True, False): ((), ("attention.value", "attention_norm", "attention.key", "attention.query",
                             "attention.output", "mlp_norm", "mlp.up", "mlp.gate", "mlp.down")),
    Walk(False, False): ((), ("attention_norm", "attention.query", "attention.key", "attention.value",
                              "attention.output", "mlp_norm", "mlp.up", "mlp.gate", "mlp.down")),
}  # fmt: skip


class Placed(NamedTuple):
    """What the walk needs to know of a trained tensor."""

    key: str
    """Our parameter's name, with ``.a`` or ``.b`` behind it for the factors of one."""
    second: bool
    """Of two factors, that which files call ``lora_b``."""
    size: int


def walked(tensors: Sequence[Placed], walk: Walk) -> list[int]:
    """Indices of the tensors in the order in which their moments lie."""
    return sorted(range(len(tensors)), key=lambda index: _place(tensors[index], walk))


def walk_of(second: np.ndarray, tensors: Sequence[Placed], usual: Walk) -> Walk:
    """The walk that second moments (P,) were stored by.

    It is ``usual`` unless moments would be zero where all tokens move them, and another walk has all its
    zeros in the embedding.
    """
    zeros = np.concatenate([[0], np.cumsum(second == 0)])
    outside = {walk: int(zeros[-1]) - _within(zeros, tensors, walk) for walk in (usual, *WALKS)}
    return min(outside, key=lambda walk: (outside[walk] > 0, walk != usual, walk.flash != usual.flash))


def _within(zeros: np.ndarray, tensors: Sequence[Placed], walk: Walk) -> int:
    """How many zeros lie in the embedding, whose rows stay as they are for tokens that no text has."""
    found = at = 0
    for index in walked(tensors, walk):
        size = tensors[index].size
        if tensors[index].key.startswith("embedding."):
            found += int(zeros[at + size] - zeros[at])
        at += size
    return found


def _place(tensor: Placed, walk: Walk) -> tuple[int, int, int, bool]:
    """Where a tensor comes: part of the walk, block in it, place in the block, factor."""
    name, layer = pattern(tensor.key)
    stem = name.removeprefix("blocks.{}.").split(".weight")[0]
    factor = tensor.second if walk.left_to_right else not tensor.second
    if layer is None:
        ends = ("head", "norm", "embedding") if walk.left_to_right else ("embedding", "norm", "head")
        part = {"embedding": 2, "head": 0, "norm": 0} if walk.left_to_right else {"embedding": 2}
        return part.get(stem, 4), 0, ends.index(stem), factor
    before, after = _PARTS[walk]
    if stem in before:
        return 1, -layer, before.index(stem), factor
    return 3, layer, after.index(stem), factor
