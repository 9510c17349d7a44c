"""Generation: many texts at once with a KV cache, or one as a stream of characters.

A prompt is read whole where it fits (one token of the context stays for the answer). A text that outgrows the
context slides: when the cache is full, the last half of the context is read anew and generation goes on, so
that a reading of ``context / 2`` tokens is paid once in ``context / 2`` new ones. What a text goes on from
depends on itself alone, never on how much may be written or on what shares the batch; whoever wants to know
that a beginning is read no more, passes ``on_overflow``.
"""

# B batch, T time, V vocabulary

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.core.seeds import mixed
from congling.infer.prompts import prompt_ids
from congling.infer.sampler import SamplingConfig, drawable, sample
from congling.infer.text import TextStream
from congling.infer.whole import WholeCharacters, begun
from congling.model.cache import KVCache
from congling.model.transformer import Transformer
from congling.tokenizer.base import Tokenizer

Prompt = str | Sequence[int]
"""Text, which the model reads as the beginning of a document, or ids taken as they are."""


@dataclass(frozen=True)
class Overflow:
    """A text that is longer than the model's context, so that its beginning is not read, or no more."""

    row: int
    """Which of the prompts."""
    kind: Literal["prompt", "text"]
    """Whether the prompt itself is too long, or what has been written with it."""
    dropped: int
    """Tokens at the beginning that are not read."""
    context: int

    def told(self) -> str:
        """In a sentence."""
        if self.kind == "prompt":
            what = f"the prompt is longer than the model's context of {self.context} tokens"
            return f"{what}: its first {self.dropped} are not read"
        what = f"the text has outgrown the model's context of {self.context} tokens"
        return f"{what}: its beginning is no longer read"


OnOverflow = Callable[[Overflow], None]
"""Told of a prompt that is too long, and once of each text that begins to slide."""
Refit = Callable[[list[int]], list[int] | None]
"""What has been written so far to what is read in place of prompt and text when the context is full (itself
included, shorter than the context); None for the last half, as without it."""


def generate(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int = 200,
    sampling: SamplingConfig | None = None,
    stop: Sequence[str] = (),
    on_overflow: OnOverflow | None = None,
    numbers: Sequence[int] | None = None,
) -> list[str]:
    """Continue every prompt; returns the new text of each, without the prompt and without what ended it.

    A text ends at a special token, before a string of ``stop``, or after ``max_new_tokens``. Prompts may
    differ in length: they share one cache, padded on the left. ``on_overflow`` is told where a beginning is
    not read.

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
    window = _Window(model.config.max_position_embeddings, prompts, on_overflow, refit)
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
            hidden = _evaluate(model, chosen[:, None], cache)
        else:
            window.slide()
            cache, hidden = window.read(model, max_new_tokens - step - 1)


class _Window:
    """The part of each text that is read: from ``begins`` on, at most a context."""

    def __init__(
        self,
        context: int,
        prompts: Sequence[Sequence[int]],
        on_overflow: OnOverflow | None,
        refit: Refit | None,
    ) -> None:
        self.context, self.on_overflow, self.refit = context, on_overflow, refit
        self.texts = [list(prompt) for prompt in prompts]
        self.written: list[list[int]] = [[] for _ in prompts]
        self.begins = [max(0, len(text) - max(1, context - 1)) for text in self.texts]
        self.said: set[int] = set()
        for row, begin in enumerate(self.begins):
            if begin:
                self._say(Overflow(row, "prompt", begin, context))

    def append(self, chosen: Sequence[int]) -> None:
        """Add an id to every row."""
        for text, written, index in zip(self.texts, self.written, chosen, strict=True):
            text.append(index)
            written.append(index)

    def slide(self) -> None:
        """Move on in every row that is full; the others are read from where they were."""
        for row, text in enumerate(self.texts):
            if len(text) - self.begins[row] <= self.context:
                continue
            fitted = None if self.refit is None else self.refit(self.written[row])
            if fitted is not None:
                self.texts[row], self.begins[row] = list(fitted), 0
                continue
            self.begins[row] = len(text) - max(1, self.context - max(1, self.context // 2))
            if row not in self.said:
                self.said.add(row)
                self._say(Overflow(row, "text", self.begins[row], self.context))

    def read(self, model: Transformer, new: int) -> tuple[KVCache, Tensor]:
        """Read all windows into a cache with room for ``new`` more tokens, as far as the context goes."""
        rows = [text[begin:] for text, begin in zip(self.texts, self.begins, strict=True)]
        return read_rows(model, rows, min(self.context, max(map(len, rows)) + new))

    def _say(self, found: Overflow) -> None:
        if self.on_overflow is not None:
            self.on_overflow(found)


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
