"""Held-out loss in every unit people compare: nats/token, perplexity, bits/byte and bits/character."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from congling.core.errors import UserError
from congling.core.progress import track
from congling.data.token_split import TokenSplit
from congling.evals.likelihood import read_rows, target_nats
from congling.evals.windows import split_row, window_starts
from congling.infer.checkpoints import Loaded
from congling.model.transformer import Transformer


@dataclass(frozen=True)
class LossReport:
    """Mean negative log-probability of a text, and how much text it was.

    An end-of-text id is predicted like any token and its cost belongs to the text; the denominators count
    the text alone, so that values compare across tokenizers and with the reference lines.
    """

    nats: float
    """Sum over all tokens."""
    tokens: int
    characters: int
    bytes: int

    @property
    def nats_per_token(self) -> float:
        """Cross-entropy of a token, in nats."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """``exp(nats_per_token)``; infinite where that overflows."""
        return math.exp(self.nats_per_token) if self.nats_per_token < 700 else math.inf

    @property
    def bits_per_character(self) -> float:
        """Bits per character of text costs."""
        return self.nats / math.log(2) / self.characters

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of UTF-8 costs."""
        return self.nats / math.log(2) / self.bytes

    def to_json(self) -> dict[str, Any]:
        """Return counts and every unit as plain values."""
        units = ("nats_per_token", "perplexity", "bits_per_byte", "bits_per_character")
        return asdict(self) | {unit: getattr(self, unit) for unit in units}


EachPart = Callable[[Callable[[Any], Sequence[float]], Sequence[Any]], list[Sequence[float]]]
"""See :meth:`congling.train.backends.single.Single.each_part`."""


def in_turn(function: Callable[[Any], Sequence[float]], parts: Sequence[Any]) -> list[Sequence[float]]:
    """One part after the other, with a line that shows how far it is."""
    return [function(part) for part in track(parts, "held-out loss", total=len(parts))]


@torch.inference_mode()
def evaluate(
    model: Transformer,
    split: TokenSplit,
    *,
    context: int | None = None,
    rows: int = 16,
    overlap: int | None = None,
    limit_tokens: int | None = None,
    document_mask: bool = False,
    each_part: EachPart = in_turn,
) -> LossReport:
    """Score every token of a split exactly once, in windows (:mod:`congling.evals.windows`).

    Args:
        model: its training flag is restored afterwards.
        split: tokens with the sizes of their documents.
        context: window in tokens; the model's by default.
        rows: windows scored together.
        overlap: tokens of each window that only give context; half a window by default. 0 is fastest and
            counts the first tokens of every window as if nothing stood before them.
        limit_tokens: score only about so many, in windows spread over the split; characters and bytes of the
            report are then the same share of the split's.
        document_mask: attention stays inside a document.
        each_part: how batches of windows are gone through, here or in several processes.

    Raises:
        UserError: the split is empty, or ``context`` exceeds the model's.
    """
    context = context or model.config.max_position_embeddings
    if context > model.config.max_position_embeddings:
        raise UserError(
            "the window is longer than the model's context",
            value=context,
            hint=f"at most {model.config.max_position_embeddings}",
        )
    if not len(split.tokens):
        raise UserError(
            "there is no held-out text to score", hint="hold out documents: data.split.validation"
        )
    overlap = context // 2 if overlap is None else overlap
    starts = window_starts(len(split.tokens), context, overlap, limit_tokens).tolist()
    was_training = model.training
    model.eval()

    def score(first: int) -> Sequence[float]:
        windows = [
            split_row(split, start, context, overlap, document_mask=document_mask)
            for start in starts[first : first + rows]
        ]
        hidden, targets = read_rows(model, windows, context)  # one shape for all: compiled models wish it
        return [len(targets), *(float(one.double().sum()) for one, _ in target_nats(model, hidden, targets))]

    try:
        found = each_part(score, range(0, len(starts), rows))
    finally:
        model.train(was_training)
    scored, nats = int(sum(count for count, *_ in found)), sum(one for _, *parts in found for one in parts)
    share = scored / len(split.tokens)
    characters, sizes = (max(1, round(share * int(part.sum()))) for part in (split.characters, split.bytes))
    return LossReport(nats, scored, characters, sizes)


def evaluate_loaded(
    loaded: Loaded,
    split: TokenSplit,
    *,
    context: int | None = None,
    overlap: int | None = None,
    limit_tokens: int | None = None,
) -> LossReport:
    """As :func:`evaluate`, in rows read as the model was trained to read them; ``context`` for other rows.

    Raises:
        UserError: see there.
    """
    reading = loaded.reading
    return evaluate(
        loaded.model,
        split,
        context=context or reading.context,
        overlap=overlap,
        limit_tokens=limit_tokens,
        document_mask=reading.document_mask,
    )
