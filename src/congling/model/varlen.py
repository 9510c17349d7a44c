"""Attention of rows that several texts share, text by text: what a mask gives, without scores that it hides.

::

    row of T places   [a a a][b b b b b][c c]       mask   T · T scores, of which most are thrown away
                                                    varlen 3 · 3 + 5 · 5 + 2 · 2, and only half of each

What a kernel call costs beside its scores makes many very short texts cheaper behind the mask, so
:func:`text_lengths` chooses, by nothing but the batch: a resumed run chooses as it did before.
"""

# B rows, T places of a row, H heads, K key/value heads, D head width

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

CALL = 2**20
"""What one more call costs, in products of a query's channel with a key's: measured on CPUs
(``benchmarks/varlen.py``). With 224 channels texts below about 25 tokens in rows of 256 stay masked."""


def text_lengths(documents: Tensor, channels: int) -> tuple[int, ...] | None:
    """Lengths of the texts in rows laid end to end, where to attend one by one is cheaper; else None.

    Also None on another device than a CPU: it would have to wait for the answer, and there calls weigh more.

    Args:
        documents: (B, T), numbers that differ between neighbouring texts of a row.
        channels: H · D, over all heads.
    """
    if documents.device.type != "cpu":
        return None
    rows, time = documents.shape
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    places = begins.flatten().nonzero().squeeze(1)
    found = torch.diff(places, append=places.new_tensor([documents.numel()]))
    saved = rows * time * time - int((found * found).sum()) // 2
    return tuple(found.tolist()) if saved * channels > len(found) * CALL else None


def attend_apart(
    query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], mask: Tensor | None
) -> Tensor:
    """Causal attention inside each text: (B, H, T, D), twice (B, K, T, D) -> (B, H, T, D).

    Args:
        query: of rows that are full of texts.
        key: the same.
        value: the same.
        lengths: of the texts, row after row; none reaches into the next row.
        mask: (1, 1 or H, T, T) of a row with one text, where it is more than causal: what a token sees and
            how much must depend on distances alone, so that its corner serves every text.
    """
    batch, heads, time, width = query.shape
    # Laid end to end as (1, B · T, H, D), a view; split and joined again, which also costs backward one copy.
    parts = zip(
        *(
            one.transpose(1, 2).reshape(1, batch * time, -1, width).split(lengths, 1)
            for one in (query, key, value)
        ),
        strict=True,
    )
    found = [
        scaled_dot_product_attention(
            *(one.transpose(1, 2) for one in part),
            is_causal=mask is None,
            attn_mask=None if mask is None else mask[..., :length, :length],
            enable_gqa=heads != key.shape[1],
        )
        for length, part in zip(lengths, parts, strict=True)
    ]
    return torch.cat(found, 2).transpose(1, 2).reshape(batch, time, heads, width).transpose(1, 2)


def cut(lengths: tuple[int, ...], time: int, size: int, first: int) -> tuple[int, ...]:
    """The same texts, cut where the groups of their rows end: see :mod:`congling.transform.longlora`.

    Args:
        lengths: as above.
        time: T.
        size: of a group.
        first: of the first group of a row, 0 where it is a whole one.

    >>> cut((3, 5), 8, 4, 0)
    (3, 1, 4)
    """
    found, place = [], 0
    for length in lengths:
        end = place + length
        while place < end:
            row, within = divmod(place, time)
            following = within + size - (within - first) % size
            stop = min(end, row * time + min(time, following))
            found.append(stop - place)
            place = stop
    return tuple(found)
