"""Loss of the same tokens behind more and more text: what a longer context is worth, position by position.

::

    one text    ················■■■■  the block: the same ids in every row
    n = block                   ■■■■
    n = 2·block             ····■■■■  only the last n tokens are read, at positions 0 … n-1
    n = 4·block     ············■■■■

The line to beat is the model as it was before its context was extended, over a window of its own length: that
costs nothing. Means over whole texts of different lengths would mix this with how texts begin.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from congling.core.errors import UserError
from congling.core.units import plural
from congling.evals.bench import Bench
from congling.evals.context_lengths import doublings, original_length
from congling.evals.length_scores import NAME
from congling.evals.likelihood import BATCH_TOKENS, score_rows
from congling.evals.paired import paired
from congling.evals.scores import Score, ratio
from congling.evals.tail_blocks import Blocks, tail_blocks
from congling.evals.unextended import reading, require_same_tokens, unextended
from congling.evals.windows import Row
from congling.infer.checkpoints import load_checkpoint
from congling.model.transformer import Transformer

Losses = Mapping[int, NDArray[np.float64]]
"""By tokens read: nats of all blocks of each document (documents,)."""
PART = 4
"""A block is one of so many parts of the trained length."""
_UNIT = "nats/token"
_BEFORE = "the model before it was extended"


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
        rows: texts of the longest length read together, and more of shorter ones.
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
        scored = score_rows(
            model, read, label=f"{label}, {n:,} tokens", batch_tokens=rows * (max(lengths) + 1)
        )
        found[:, column] = [one.total / block for one in scored]
    return found


def run(bench: Bench) -> list[Score]:
    """The scores of the task, by n, the tokens read.

    ::

        length/nats/N              loss of the blocks
        length/gain/N              by how much that is less than with the trained length L, on the same tokens
        length/sliding             loss of the model before it was extended, over its own L     (reference)
        length/below-sliding/N     by how much the model's is less than that, on the same tokens
        length/plain/N             loss of that model beyond its L, positions as they are       (reference)

    Raises:
        UserError: there is no text, none is long enough, or the length is longer than the model reads.
    """
    model, base = bench.loaded.model, None if bench.base is None else load_checkpoint(bench.base)
    trained = bench.context or original_length(base or bench.loaded)
    for one in (model, base.model if base else model):
        _require_room(trained, one.config.max_position_embeddings)
    if (former := unextended(base or bench.loaded)) is None:
        what = "what the model was before its positions were stretched is not known"
        bench.note(f"{what}: name it with --base for the line that a longer context has to beat")
    blocks = tail_blocks(bench, trained, max(1, trained // PART))
    if base is not None:
        require_same_tokens(base, [(one.text, one.ids[1:].tolist()) for one in blocks.sources])
    lengths = read_lengths(trained, blocks.reach, model.config.max_position_embeddings)
    own = _losses(model, blocks, lengths, "this model")
    before = {} if former is None else _former(bench, former, blocks, trained, own)
    return _own_scores(bench, blocks, trained, own, before) + _references(bench, blocks, trained, own, before)


def read_lengths(trained: int, reach: int, context: int) -> list[int]:
    """Tokens to be read: a quarter of the trained length and doublings, and all that fit last.

    >>> read_lengths(256, 2048, 1500), read_lengths(256, 512, 1500)
    ([64, 128, 256, 512, 1024, 1500], [64, 128, 256, 512])
    """
    most = min(reach, context)
    grid = {max(1, trained // PART), max(1, trained // 2), *doublings(trained, most)}
    return sorted({n for n in grid if n <= most} | {max(trained, most)})


def _require_room(trained: int, context: int) -> None:
    if trained > context:
        raise UserError(
            "the window is longer than the model's context", value=trained, hint=f"at most {context}"
        )


def _losses(model: Transformer, blocks: Blocks, lengths: Sequence[int], label: str) -> Losses:
    rows = max(1, BATCH_TOKENS // max(lengths, default=1))
    found = tail_losses(model, blocks.texts, lengths, blocks.size, rows=rows, label=label)
    return {n: blocks.of_documents(column * blocks.size) for n, column in zip(lengths, found.T, strict=True)}


def _former(bench: Bench, model: Transformer, blocks: Blocks, trained: int, own: Losses) -> Losses:
    """What the blocks cost the model before it was extended, from its trained length on."""
    if model.config.positions.kind == "alibi":
        bench.note("ALiBi: scores fall with distance at any length, so nothing was stretched or need be")
    if model.config.positions.kind == "learned":
        most = model.config.max_position_embeddings
        bench.note(f"learned positions end at {most:,} tokens: nothing can be read beyond")
    lengths = [n for n in read_lengths(trained, blocks.reach, blocks.reach) if n >= trained]
    known = own if model is bench.loaded.model else {}
    longer = reading(model, max(lengths))
    lengths = [n for n in lengths if n not in known and n <= longer.config.max_position_embeddings]
    return {**known, **_losses(longer, blocks, lengths, "without extension")}


def _own_scores(bench: Bench, blocks: Blocks, trained: int, own: Losses, before: Losses) -> list[Score]:
    """Of the model itself: losses, and by how much they are less than others of the same tokens."""
    told = _protocol(blocks)
    found = [_score(bench, blocks, f"nats/{n}", nats, f"{told}; n tokens read") for n, nats in own.items()]
    what = f"loss with {trained:,} tokens read minus that with n, of the same tokens"
    found += [_less(bench, blocks, f"gain/{n}", own[trained], own[n], what) for n in own if n != trained]
    if trained in before and before[trained] is not own[trained]:
        what = f"loss of {_BEFORE}, over {trained:,} tokens, minus this model's"
        found += [
            _less(bench, blocks, f"below-sliding/{n}", before[trained], own[n], f"{what} over n")
            for n in own
            if n >= trained
        ]
    return found


def _references(bench: Bench, blocks: Blocks, trained: int, own: Losses, before: Losses) -> list[Score]:
    """Of the model before it was extended: over its own length, and beyond."""
    if trained not in before:
        return []
    who = "this model" if before[trained] is own[trained] else _BEFORE
    told = f"{who}, over its own {trained:,} tokens, which slide with the text"
    found = [_score(bench, blocks, "sliding", before[trained], told)]
    told = f"{who}, positions as they are, n tokens read"
    plain = {n: nats for n, nats in before.items() if n > trained and nats is not own.get(n)}
    found += [_score(bench, blocks, f"plain/{n}", nats, told) for n, nats in plain.items()]
    return [replace(score, reference=True) for score in found]


def _protocol(blocks: Blocks) -> str:
    count, documents, size = len(blocks.texts), len(blocks.sources), blocks.size
    return (
        f"{count:,} {plural(count, 'block')} of {size:,} {plural(size, 'token')} behind {blocks.reach:,} "
        f"others, in {documents:,} {plural(documents, 'document')}, the same for every n"
    )


def _score(bench: Bench, blocks: Blocks, name: str, nats: NDArray[np.float64], protocol: str) -> Score:
    found = ratio(f"{NAME}/{name}", nats.tolist(), _tokens(blocks), _UNIT, protocol, seed=bench.seed)
    return found if found.n > 1 else replace(found, low=None, high=None)  # no interval of one document


def _less(
    bench: Bench,
    blocks: Blocks,
    name: str,
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    protocol: str,
) -> Score:
    """By how much the second loss is less than the first, paired by document."""
    found = paired(second.tolist(), first.tolist(), _tokens(blocks), seed=bench.seed)
    return Score(
        f"{NAME}/{name}", found.value, len(first), _UNIT, f"{protocol}; paired", found.low, found.high
    )


def _tokens(blocks: Blocks) -> list[float]:
    """Ids that are scored of each document."""
    return blocks.of_documents(np.full(len(blocks.texts), float(blocks.size))).tolist()
