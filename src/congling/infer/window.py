"""The part of each text that a model reads: a context at most, which slides when it is full."""

# B batch, T time, W width

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from congling.model.cache import KVCache
from congling.model.transformer import Transformer


@dataclass(frozen=True)
class Overflow:
    """A text that is longer than the model's context, so that its beginning is not read, or no more; or
    longer than what a model was trained on whose context was extended."""

    row: int
    """Which of the prompts."""
    kind: Literal["prompt", "text", "beyond"]
    """Whether the prompt itself is too long, or what has been written with it; or longer than trained on."""
    dropped: int
    """Tokens at the beginning that are not read."""
    context: int
    trained: int = 0
    """Tokens of the longest texts it was trained on, of the last kind."""

    def told(self) -> str:
        """In a sentence."""
        if self.kind == "beyond":
            return (
                f"the text is longer than the {self.trained:,} tokens that the model was trained on; it was "
                f"extended to read {self.context:,}, and has not been trained there"
            )
        if self.kind == "prompt":
            what = f"the prompt is longer than the model's context of {self.context} tokens"
            return f"{what}: its first {self.dropped} are not read"
        what = f"the text has outgrown the model's context of {self.context} tokens"
        return f"{what}: its beginning is no longer read"


OnOverflow = Callable[[Overflow], None]
"""Told of a prompt that is too long, once of each text that begins to slide, and once that one is longer than
what the model was trained on."""
Refit = Callable[[list[int]], list[int] | None]
"""What has been written so far to what is read in place of prompt and text when the context is full (itself
included, shorter than the context); None for the last half, as without it."""


class Window:
    """The part of each text that is read: from ``begins`` on, at most a context."""

    def __init__(
        self,
        context: int,
        prompts: Sequence[Sequence[int]],
        on_overflow: OnOverflow | None,
        refit: Refit | None,
        trained_length: int | None = None,
    ) -> None:
        self.context, self.on_overflow, self.refit = context, on_overflow, refit
        self.texts = [list(prompt) for prompt in prompts]
        self.written: list[list[int]] = [[] for _ in prompts]
        self.begins = [max(0, len(text) - max(1, context - 1)) for text in self.texts]
        self.said: set[int] = set()
        for row, begin in enumerate(self.begins):
            if begin:
                self._say(Overflow(row, "prompt", begin, context))
        # Nothing is said of a model that reads no more than it was trained on.
        self.trained = trained_length if trained_length is not None and trained_length < context else None
        self._say_beyond()

    def append(self, chosen: Sequence[int]) -> None:
        """Add an id to every row."""
        for text, written, index in zip(self.texts, self.written, chosen, strict=True):
            text.append(index)
            written.append(index)
        self._say_beyond()

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

    def _say_beyond(self) -> None:
        """Say once that a text is longer than what the model was trained on."""
        if self.trained is None:
            return
        lengths = [len(text) - begin for text, begin in zip(self.texts, self.begins, strict=True)]
        if max(lengths) > self.trained:
            row = lengths.index(max(lengths))
            self._say(Overflow(row, "beyond", 0, self.context, self.trained))
            self.trained = None

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
    return cache, hidden_states(model, torch.tensor(padded, device=weight.device), cache)


@torch.inference_mode()
def hidden_states(model: Transformer, ids: Tensor, cache: KVCache) -> Tensor:
    """Hidden states without dropout; a model in training (samples between steps) goes back to it."""
    if not model.training:  # setting the flag of every module takes as long as a small model's token
        return model(ids, cache=cache)
    model.eval()
    try:
        return model(ids, cache=cache)
    finally:
        model.train()
