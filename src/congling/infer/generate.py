"""Generation: many texts at once with a KV cache, or one as a stream of characters.

A prompt is read whole where it fits (one token of the context stays for the answer). A text that outgrows the
context slides: when the cache is full, the last half of the context is read anew and generation goes on, so
that a reading of ``context / 2`` tokens is paid once in ``context / 2`` new ones. What a text goes on from
depends on itself alone, never on how much may be written or on what shares the batch; whoever wants to know
that a beginning is read no more, passes ``on_overflow``.
"""

# B batch, T time, V vocabulary

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.core.seeds import mixed
from congling.infer.prompts import prompt_ids
from congling.infer.sampler import SamplingConfig, drawable, sample
from congling.infer.text import TextStream
from congling.infer.whole import WholeCharacters, begun
from congling.infer.window import OnOverflow, Refit, Window, hidden_states
from congling.model.transformer import Transformer
from congling.tokenizer.base import Tokenizer

Prompt = str | Sequence[int]
"""Text, which the model reads as the beginning of a document, or ids taken as they are."""


def generate(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int = 200,
    sampling: SamplingConfig | None = None,
    stop: Sequence[str] = (),
    on_overflow: OnOverflow | None = None,
    trained_length: int | None = None,
    numbers: Sequence[int] | None = None,
) -> list[str]:
    """Continue every prompt; returns the new text of each, without the prompt and without what ended it.

    A text ends at a special token, before a string of ``stop``, or after ``max_new_tokens``. Prompts may
    differ in length: they share one cache, padded on the left. ``on_overflow`` is told where a beginning is
    not read, or a text is longer than the ``trained_length`` of a model whose context was extended.

    What is drawn follows from the seed, the prompt, and which of the texts of that prompt it is: its number,
    counted here where ``numbers`` does not say. So it is the same alone and among others, in any order, and
    differs where one prompt is continued several times.

    Raises:
        UserError: the model and the tokenizer do not fit.
    """
    if not prompts:
        return []
    ids = [_ids(tokenizer, prompt) for prompt in prompts]
    texts = [TextStream(stop) for _ in prompts]
    pieces: list[list[str]] = [[] for _ in prompts]
    written = _written(
        model,
        tokenizer,
        ids,
        texts,
        counted(ids) if numbers is None else numbers,
        sampling or SamplingConfig(),
        max_new_tokens=max_new_tokens,
        on_overflow=on_overflow,
        trained_length=trained_length,
    )
    for chosen in written:
        for text, piece, index in zip(texts, pieces, chosen, strict=True):
            piece.append(_advance(text, tokenizer, index))
        if all(text.done for text in texts):
            break
    return ["".join(piece) + text.close() for text, piece in zip(texts, pieces, strict=True)]


def stream(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: Prompt,
    *,
    max_new_tokens: int = 200,
    sampling: SamplingConfig | None = None,
    stop: Sequence[str] = (),
    on_overflow: OnOverflow | None = None,
    refit: Refit | None = None,
    trained_length: int | None = None,
    number: int = 0,
) -> Iterator[str]:
    """Like ``generate`` for one prompt, yielding text as soon as it is settled: never part of a character.

    ``number`` says which of several texts of the same prompt it is; they differ.

    Raises:
        UserError: the model and the tokenizer do not fit.
    """
    text, ids = TextStream(stop), _ids(tokenizer, prompt)
    written = _written(
        model,
        tokenizer,
        [ids],
        [text],
        [number],
        sampling or SamplingConfig(),
        max_new_tokens=max_new_tokens,
        on_overflow=on_overflow,
        refit=refit,
        trained_length=trained_length,
    )
    for (index,) in written:
        if piece := _advance(text, tokenizer, index):
            yield piece
        if text.done:
            return
    if piece := text.close():
        yield piece


def counted(prompts: Sequence[Sequence[int] | str]) -> list[int]:
    """Of each prompt how often the same one stood before it.

    >>> counted(["a", "b", "a"])
    [0, 0, 1]
    """
    seen = Counter[Sequence[int] | str]()
    found = []
    for prompt in prompts:
        key = prompt if isinstance(prompt, str) else tuple(prompt)
        found.append(seen[key])
        seen[key] += 1
    return found


def _written(
    model: Transformer,
    tokenizer: Tokenizer,
    ids: Sequence[list[int]],
    texts: Sequence[TextStream],
    numbers: Sequence[int],
    sampling: SamplingConfig,
    **more: Any,
) -> Iterator[list[int]]:
    """``tokens`` as people read them: each text from a stream of its own, in whole characters if wished."""
    _check_fit(model, tokenizer)
    seeds = [mixed(sampling.seed, number, *prompt) for number, prompt in zip(numbers, ids, strict=True)]
    rows = model.config.vocab_size
    if not (sampling.whole_characters and tokenizer.character_table.spells):
        undrawable = tokenizer.undrawable(rows)
        return tokens(model, ids, sampling=sampling, seeds=seeds, undrawable=undrawable, **more)
    starts = [begun(tokenizer, prompt) for prompt in ids]
    for text, start in zip(texts, starts, strict=True):
        text.feed(start)  # the character that a prompt begins is one of the new text
    whole = WholeCharacters(tokenizer, rows, starts, next(model.parameters()).device)
    return tokens(model, ids, sampling=sampling, seeds=seeds, whole=whole, **more)


def tokens(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampling: SamplingConfig,
    seeds: Sequence[int] | None = None,
    undrawable: Sequence[int] = (),
    whole: WholeCharacters | None = None,
    on_overflow: OnOverflow | None = None,
    refit: Refit | None = None,
    trained_length: int | None = None,
) -> Iterator[list[int]]:
    """Yield the next id of every row, step by step; nothing stops it but ``max_new_tokens`` or the caller.

    All rows draw from one generator of ``sampling.seed``: equal seeds give equal texts for equal lists of
    prompts. With ``seeds``, one for each row, each draws from its own. ``undrawable`` are ids that stand for
    no token (:meth:`congling.tokenizer.base.Tokenizer.undrawable`); ``whole`` bars them too, and all that
    would spoil a character. Without either every id can be drawn: that is the model's own distribution, which
    whoever learns from it or compares it with another program's wants.
    """
    device = next(model.parameters()).device
    generator: torch.Generator | list[torch.Generator]
    if seeds is None:
        generator = torch.Generator(device).manual_seed(sampling.seed)
    else:
        generator = [torch.Generator(device).manual_seed(seed) for seed in seeds]
    window = Window(model.config.max_position_embeddings, prompts, on_overflow, refit, trained_length)
    seen = _seen(model, window.texts) if sampling.repetition_penalty != 1 else None
    barred = torch.tensor(undrawable, dtype=torch.long, device=device)
    cache, hidden = window.read(model, max_new_tokens)
    for step in range(max_new_tokens):
        with torch.inference_mode():
            logits = model.logits(hidden[:, -1])
            logits = drawable(logits, barred) if whole is None else whole.drawable(logits)
            chosen = sample(logits, sampling, generator, seen)
            if seen is not None:
                seen.scatter_(1, chosen[:, None], True)
        drawn = chosen.tolist()
        window.append(drawn)
        if whole is not None:
            whole.append(drawn)
        yield drawn
        if step + 1 == max_new_tokens:
            return
        if cache.length < cache.capacity:
            hidden = hidden_states(model, chosen[:, None], cache)
        else:
            window.slide()
            cache, hidden = window.read(model, max_new_tokens - step - 1)


def _advance(text: TextStream, tokenizer: Tokenizer, index: int) -> str:
    """Add one token to a text; one that ends an answer, or any special one, ends it."""
    special = index in tokenizer.special.values() and index not in tokenizer.inner_marks.values()
    if index in tokenizer.stop_ids or special:
        return text.close()
    return text.feed(tokenizer.token_bytes(index))


def _ids(tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    if isinstance(prompt, str):
        return prompt_ids(tokenizer, prompt)
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
