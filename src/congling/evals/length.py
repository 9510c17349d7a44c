"""Loss of the same tokens behind more and more text: what a longer context is worth, position by position.

::

    one text    ················■■■■  the block: the same ids in every row
    n = block                   ■■■■
    n = 2·block             ····■■■■  only the last n tokens are read, at positions 0 … n-1
    n = 4·block     ············■■■■
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from congling.evals.likelihood import score_rows
from congling.evals.windows import Row
from congling.model.transformer import Transformer


def tail_losses(
    model: Transformer,
    texts: Sequence[Sequence[int] | NDArray[np.integer]],
    lengths: Sequence[int],
    block: int,
    *,
    rows: int = 8,
    label: str = "lengths",
) -> NDArray[np.float64]:
    """Loss of the last ``block`` ids of every text, with only the last n tokens before its last id read.

    For each n the model reads the n tokens ``ids[-n-1:-1]`` at positions 0 … n-1 and predicts ``ids[-n:]``;
    of these the last ``block`` are scored. So with n = ``block`` every prediction counts, the first behind
    one token alone; and whatever n is, the same ids are scored. Texts may be longer: what stands before is
    not read.

    Args:
        model: its training flag is restored afterwards.
        texts: ids of each, at least ``max(lengths) + 1``.
        lengths: tokens read, each from ``block`` to ``config.max_position_embeddings``.
        block: ids scored in each text.
        rows: texts read together.
        label: what the progress line says.

    Returns:
        (texts, lengths) mean nats of an id of the block.

    Raises:
        ValueError: a length is below the block or above the context, or a text is too short.
    """
    context = model.config.max_position_embeddings
    if block < 1 or not all(block <= n <= context for n in lengths):
        raise ValueError(f"lengths {list(lengths)} must lie between the block {block} and context {context}")
    if texts and lengths and (shortest := min(map(len, texts))) < max(lengths) + 1:
        raise ValueError(f"a text of {shortest} ids where {max(lengths) + 1} are needed")
    found = np.empty((len(texts), len(lengths)))
    for column, n in enumerate(lengths):
        read = [Row(ids[-n - 1 :], n + 1 - block) for ids in texts]
        scored = score_rows(model, read, label=f"{label}, {n:,} tokens", batch_tokens=rows * (n + 1))
        found[:, column] = [one.total / block for one in scored]
    return found
