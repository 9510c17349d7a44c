"""Continuing texts: many at once with a cache of keys and values, or one as a stream of characters.

A text longer than the model's context slides: when the cache is full, the last half of the context is read
anew and generation goes on, so that a reading of ``context / 2`` tokens is paid once in ``context / 2`` new
ones.
"""

# B batch, T time, V vocabulary

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.infer.sampler import SamplingConfig, sample
from congling.infer.text import TextStream
from congling.model.cache import KVCache
from congling.model.transformer import Transformer
from congling.tokenizer.base import Tokenizer

Prompt = str | Sequence[int]
"""Text, which the model reads as the beginning of a document, or ids taken as they are."""


def generate(
    model: Transformer, tokenizer: Tokenizer, prompts: Sequence[Prompt], *, max_new_tokens: int = 200,
    sampling: SamplingConfig | None = None, stop: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """Continue every prompt; returns the new text of each, without the prompt and without what ended it.

    A text ends at a special token, before a string of ``stop``, or after ``max_new_tokens``. Prompts may
    differ in length: they share one cache, padded on the left.

    Raises:
        UserError: the model and the tokenizer do not fit.
    """
    if not prompts:
        return []
    texts = [TextStream(stop) for _ in prompts]
    pieces: list[list[str]] = [[] for _ in prompts]
    ids = [_ids(tokenizer, prompt) for prompt in prompts]
    _check_fit(model, tokenizer)
    for chosen in tokens(model, ids, max_new_tokens=max_new_tokens, sampling=sampling or SamplingConfig()):
        for text, piece, index in zip(texts, pieces, chosen, strict=True):
            piece.append(_advance(text, tokenizer, index))
        if all(text.done for text in texts):
            break
    return ["".join(piece) + text.close() for text, piece in zip(texts, pieces, strict=True)]


def stream(
    model: Transformer, tokenizer: Tokenizer, prompt: Prompt, *, max_new_tokens: int = 200,
    sampling: SamplingConfig | None = None, stop: Sequence[str] = (),
) -> Iterator[str]:  # fmt: skip
    """Like ``generate`` for one prompt, yielding text as soon as it is settled: never part of a character.

    Raises:
        UserError: the model and the tokenizer do not fit.
    """
    _check_fit(model, tokenizer)
    text = TextStream(stop)
    prompts = [_ids(tokenizer, prompt)]
    sampling = sampling or SamplingConfig()
    for (index,) in tokens(model, prompts, max_new_tokens=max_new_tokens, sampling=sampling):
        if piece := _advance(text, tokenizer, index):
            yield piece
        if text.done:
            return
    if piece := text.close():
        yield piece


def tokens(
    model: Transformer, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, sampling: SamplingConfig
) -> Iterator[list[int]]:
    """Yield the next id of every row, step by step; nothing stops it but ``max_new_tokens`` or the caller.

    All rows draw from one generator: equal seeds give equal texts for equal lists of prompts.
    """
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(sampling.seed)
    texts = [list(prompt) for prompt in prompts]
    seen = _seen(model, texts) if sampling.repetition_penalty != 1 else None
    cache, hidden = _read(model, texts, max_new_tokens)
    for step in range(max_new_tokens):
        chosen = _choose(model, hidden, sampling, generator, seen)
        for text, index in zip(texts, chosen.tolist(), strict=True):
            text.append(index)
        yield chosen.tolist()
        if step + 1 == max_new_tokens:
            return
        if cache.length < cache.capacity:
            hidden = _evaluate(model, chosen[:, None], cache)
        else:
            cache, hidden = _read(model, texts, max_new_tokens - step - 1)


@torch.inference_mode()
def _choose(
    model: Transformer, hidden: Tensor, sampling: SamplingConfig, generator: torch.Generator,
    seen: Tensor | None,
) -> Tensor:  # fmt: skip
    chosen = sample(model.logits(hidden[:, -1]), sampling, generator, seen)
    if seen is not None:
        seen.scatter_(1, chosen[:, None], True)
    return chosen


def _read(model: Transformer, texts: list[list[int]], new: int) -> tuple[KVCache, Tensor]:
    """Read the ends of all texts into a cache with room for ``new`` more tokens, at most half a context."""
    context = model.config.context
    room = min(new, max(1, context // 2))
    rows = [text[-max(1, context - room) :] for text in texts]
    return read_rows(model, rows, min(context, max(map(len, rows)) + room))


def read_rows(model: Transformer, rows: Sequence[Sequence[int]], capacity: int) -> tuple[KVCache, Tensor]:
    """Read rows of unequal length, padded on the left, into a cache of ``capacity`` tokens.

    Returns:
        The cache, and the hidden states (B, T, W).

    Raises:
        UserError: ``capacity`` exceeds the model's context.
    """
    weight = next(model.parameters())
    longest = max(map(len, rows))
    padding = [longest - len(row) for row in rows]
    padded = [[0] * pad + list(row) for pad, row in zip(padding, rows, strict=True)]
    start = torch.tensor(padding, device=weight.device) if any(padding) else None
    cache = KVCache(model.config, len(rows), capacity, start=start, device=weight.device, dtype=weight.dtype)
    return cache, _evaluate(model, torch.tensor(padded, device=weight.device), cache)


@torch.inference_mode()
def _evaluate(model: Transformer, ids: Tensor, cache: KVCache) -> Tensor:
    """Hidden states without dropout; a model in training (samples between steps) goes back to it."""
    training = model.training
    model.eval()
    try:
        return model(ids, cache=cache)
    finally:
        model.train(training)


def _advance(text: TextStream, tokenizer: Tokenizer, index: int) -> str:
    """Add one token to a text; one that ends an answer, or any special one, ends it."""
    special = index in tokenizer.special.values() and index not in tokenizer.inner_marks.values()
    if index in tokenizer.stop_ids or special:
        return text.close()
    return text.feed(tokenizer.token_bytes(index))


def _ids(tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    if isinstance(prompt, str):
        prompt = [*tokenizer.prefix_ids, *tokenizer.encode(prompt)]
    return list(prompt) or [tokenizer.bos_id]


def _seen(model: Transformer, texts: list[list[int]]) -> Tensor:
    shape, device = (len(texts), model.config.vocab_size), next(model.parameters()).device
    seen = torch.zeros(shape, dtype=torch.bool, device=device)
    for row, text in enumerate(texts):
        seen[row, text] = True
    return seen


def _check_fit(model: Transformer, tokenizer: Tokenizer) -> None:
    if tokenizer.vocab_size > model.config.vocab_size:
        hint = f"the model knows {model.config.vocab_size}; use the tokenizer it was trained with"
        raise UserError("the tokenizer has more ids than the model", value=tokenizer.vocab_size, hint=hint)
