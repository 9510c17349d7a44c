"""S²-Attn of LongLoRA (Chen et al. 2023): long rows are trained on in groups, and read as a whole afterwards.

Half of the heads attend inside groups of G tokens. The groups of the other half lie G/2 further on, so that
what one group knows reaches the next::

    position       0 1 2 3 4 5 6 7 8 9 …          G = 4
    half of heads  [0 1 2 3][4 5 6 7][8 9 …       token 3 sees 0 1 2 3
    other half     [0 1][2 3 4 5][6 7 8 9] …      token 4 sees 2 3 4

The authors' code rolls the tokens by G/2, so that the last group of the other half joins the end of the row
with its beginning: under a causal mask the first tokens then see the last ones, which they are to predict.
Here nothing goes round: a row begins and ends with half a group. Positions, rotary or not, stay as they were,
texts that share a row stay apart, and the weights are the same: only ``Attention.attention_fn`` is exchanged.
"""

# B batch, T time, H heads, K key/value heads, D head width, G tokens of a group, n groups

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from congling.core.errors import UserError
from congling.model.attention import Attention, sdpa
from congling.model.positions import AttentionContext
from congling.model.transformer import Transformer
from congling.model.varlen import cut
from congling.transform.config import LongLoRAConfig


def shift(model: Transformer, config: LongLoRAConfig, context: int) -> None:
    """Let the model attend inside shifted groups while it trains; evaluated, it attends to everything.

    Args:
        model: with or without adapters, dense or packed.
        config: how many groups.
        context: tokens of the longest row, which the groups share.

    Raises:
        UserError: frequencies depend on the length of the text, the model has one head, or the context is too
            short for so many groups.
    """
    if model.config.depends_on_length:
        what = "attention in shifted groups does not go with frequencies that depend on the text's length"
        hint = "take a base that is extended by linear, ntk or yarn; or leave [longlora] out"
        scaling = getattr(model.config.positions, "rope_scaling", None)
        raise UserError(what, where="longlora", value=getattr(scaling, "rope_type", ""), hint=hint)
    if model.config.attention.num_attention_heads < 2:
        what = "attention in shifted groups needs two heads, one for the groups and one for the shifted ones"
        raise UserError(what, where="longlora", value="1 head", hint="leave [longlora] out")
    size = 2 * (context // (2 * config.groups))  # halves of a group are whole tokens
    if size < 2:
        what = f"{context} tokens are too few for {config.groups} groups of two and more"
        raise UserError(what, where="longlora.groups", value=config.groups, hint="fewer groups")
    for module in model.modules():
        if isinstance(module, Attention):
            module.attention_fn = ShiftedGroups(size).train(module.training)


class ShiftedGroups(nn.Module):
    """In place of ``attend``; a module, so that it knows whether the model trains. It has no parameters."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, query: Tensor, key: Tensor, value: Tensor, context: AttentionContext) -> Tensor:
        """(B, H, T, D), twice (B, K, T, D) -> (B, H, T, D)."""
        time, heads = query.shape[2], query.shape[1]
        if not self.training or key.shape[2] != time or time <= self.size:
            return sdpa(query, key, value, context)
        half, shared = heads // 2, heads // key.shape[1]
        if half % shared:  # the heads that share keys are in both halves
            key, value = (one.repeat_interleave(shared, dim=1) for one in (key, value))
        # As (B, T, H, D), the order in memory: groups are then views, or one copy.
        split = [one.transpose(1, 2) for one in (query, key, value)]
        halves = zip(*(one.split(_halves(one.shape[2], half, heads), dim=2) for one in split), strict=True)
        places = (slice(0, half), 0), (slice(half, heads), self.size // 2)
        mixed = [
            _in_groups(q, k, v, _of_heads(context, part), self.size, first)
            for (q, k, v), (part, first) in zip(halves, places, strict=True)
        ]
        return torch.cat(mixed, dim=2).transpose(1, 2)


def pieces(time: int, size: int, first: int) -> Iterator[tuple[slice, int]]:
    """Stretches of a row and the size of the groups in each: a first one, whole ones, the rest.

    >>> list(pieces(11, 4, 2))
    [(slice(0, 2, None), 2), (slice(2, 10, None), 4), (slice(10, 11, None), 1)]
    """
    whole = first + (time - first) // size * size
    for start, end, each in ((0, first, first), (first, whole, size), (whole, time, time - whole)):
        if end > start:
            yield slice(start, end), each


def _in_groups(
    query: Tensor, key: Tensor, value: Tensor, context: AttentionContext, size: int, first: int
) -> Tensor:
    """(B, T, h, D), twice (B, T, k, D) -> (B, T, h, D): each group by itself, as if it were a row."""
    batch, time, found = len(query), query.shape[1], []
    if context.lengths is not None:
        parts = context._replace(lengths=cut(context.lengths, time, size, first))
        return sdpa(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), parts).transpose(1, 2)
    whole = list(pieces(time, size, first))
    lengths = [part.stop - part.start for part, _ in whole]
    stretches = zip(*(one.split(lengths, dim=1) for one in (query, key, value)), strict=True)
    for (part, each), stretch in zip(whole, stretches, strict=True):
        q, k, v = (one.unflatten(1, (-1, each)).flatten(0, 1).transpose(1, 2) for one in stretch)
        mixed = sdpa(q, k, v, _of_groups(context, part, each, batch))  # (B·n, h, G, D)
        found.append(mixed.transpose(1, 2).unflatten(0, (batch, -1)).flatten(1, 2))
    return torch.cat(found, dim=1)


def _halves(count: int, half: int, heads: int) -> tuple[int, int]:
    """Of ``count`` heads, or keys that heads share: those of the first ``half`` of all, and the rest."""
    first = count * half // heads
    return first, count - first


def _of_heads(context: AttentionContext, part: slice) -> AttentionContext:
    """What these heads see; a mask may be one for all of them."""
    if context.mask is None or context.mask.shape[1] == 1:
        return context
    return context._replace(mask=context.mask[:, part])


def _of_groups(context: AttentionContext, part: slice, size: int, batch: int) -> AttentionContext:
    """What groups see of themselves: squares on the diagonal of a mask (B or 1, …, T, T), (B·n, …, G, G)."""
    if context.mask is None:
        return context
    square = (
        context.mask[:, :, part, part].unflatten(3, (-1, size)).unflatten(2, (-1, size))
    )  # (…, n, G, n, G)
    own = square.diagonal(dim1=2, dim2=4).movedim(-1, 1)  # (B or 1, n, …, G, G)
    return context._replace(mask=own.expand(batch, *own.shape[1:]).flatten(0, 1))
