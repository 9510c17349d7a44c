"""Log-likelihood of given ids: nats of each, and whether greedy decoding gives it.

Rows of unequal length are sorted, padded on the right and read together; a causal model does not see the
padding. Only what stands before a scored id passes through the output matrix.
"""

# T time, N scored ids, W width, V vocabulary

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from congling.core.progress import track
from congling.data.packing import restarts
from congling.evals.windows import Row, text_rows
from congling.infer.prompts import prompt_ids
from congling.infer.sampler import drawable
from congling.model.transformer import Transformer
from congling.tokenizer.base import Tokenizer
from congling.train.objectives.chunks import ChunkSize

_CHUNK = ChunkSize({"cpu": 2**22, "cuda": 2**22}, 1)
"""16 MB of logits, whatever the vocabulary: a GPU may be a small one."""
BATCH_TOKENS = 8192
"""Padded tokens read together."""


@dataclass(frozen=True)
class Scored:
    """What a model thinks of the scored ids of a row."""

    nats: np.ndarray
    """(N,) float32: -log p of each."""
    top: np.ndarray
    """(N,) bool: whether each is the likeliest; a run of them is what greedy decoding writes."""

    @property
    def total(self) -> float:
        """Nats of all together."""
        return float(self.nats.sum(dtype=np.float64))


def target_nats(model: Transformer, hidden: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Nats (n,) of targets (N,) behind hidden states (N, W), some at a time, and their logits (n, V)."""
    for part in _CHUNK.parts(hidden, model.config.vocab_size):
        logits = model.logits(hidden[part]).float()
        yield torch.nn.functional.cross_entropy(logits, targets[part], reduction="none"), logits


@torch.inference_mode()
def score_rows(
    model: Transformer,
    rows: Sequence[Row],
    *,
    label: str = "likelihood",
    batch_tokens: int = BATCH_TOKENS,
    undrawable: Sequence[int] = (),
) -> list[Scored]:
    """Score rows, in their order; the model's training flag is restored afterwards.

    Ids of ``undrawable`` stand for no token and are never the likeliest.

    Raises:
        ValueError: a row is longer than the context, or nothing stands before what is scored.
    """
    context = model.config.max_position_embeddings
    for row in rows:
        if not 1 <= row.start < len(row.ids) <= context + 1:
            raise ValueError(
                f"{len(row.ids)} ids scored from {row.start} on do not fit a context of {context}"
            )
    found: list[Scored | None] = [None] * len(rows)
    was_training = model.training
    model.eval()
    try:
        for batch in track(list(_batches(rows, batch_tokens)), label):
            for index, scored in zip(batch, _score(model, [rows[i] for i in batch], undrawable), strict=True):
                found[index] = scored
    finally:
        model.train(was_training)
    return [scored for scored in found if scored is not None]


def _batches(rows: Sequence[Row], batch_tokens: int) -> Iterator[list[int]]:
    """Numbers of rows of like length, as many as fit."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda i: len(rows[i].ids)):
        if batch and (len(batch) + 1) * len(rows[index].ids) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _score(model: Transformer, rows: Sequence[Row], undrawable: Sequence[int]) -> list[Scored]:
    hidden, targets = read_rows(model, rows)
    barred = torch.tensor(undrawable, dtype=torch.long, device=hidden.device)
    parts = [
        (losses, drawable(logits, barred).argmax(-1))
        for losses, logits in target_nats(model, hidden, targets)
    ]
    nats = torch.cat([losses for losses, _ in parts]).cpu().numpy()
    top = (torch.cat([likeliest for _, likeliest in parts]) == targets).cpu().numpy()
    ends = np.cumsum([len(row.ids) - row.start for row in rows])[:-1]
    return [Scored(*pair) for pair in zip(np.split(nats, ends), np.split(top, ends), strict=True)]


def read_rows(model: Transformer, rows: Sequence[Row], length: int | None = None) -> tuple[Tensor, Tensor]:
    """Read rows together: hidden states (N, W) in front of the ids (N,) that are scored, row by row.

    Args:
        model: as it is, in training or not.
        rows: all with documents, or all without.
        length: inputs of a row with its padding; as long as the longest by default.
    """
    device, length = next(model.parameters()).device, length or max(len(row.ids) for row in rows) - 1
    ids = np.zeros((len(rows), length + 1), np.int64)
    scored = np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = row.ids
        scored[i, row.start - 1 : len(row.ids) - 1] = True
    positions = documents = None
    if inside := [row.documents for row in rows if row.documents is not None]:
        begins = np.stack([np.pad(own, (0, length - len(own)), "edge") for own in inside])
        positions, documents = (torch.from_numpy(array).to(device) for array in restarts(begins))
    placed, mask = torch.from_numpy(ids).to(device), torch.from_numpy(scored).to(device)
    hidden = model(placed[:, :-1], positions=positions, documents=documents)
    return hidden[mask], placed[:, 1:][mask]


def text_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """A whole document as training saw it: the beginning of a text, its ids, the end of a text."""
    return [tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id]


def text_nats(
    model: Transformer,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    context: int | None = None,
    label: str = "likelihood",
) -> list[tuple[float, int]]:
    """Nats of each text, its end included, and over how many tokens.

    Windows are ``context`` long, which is best that of training
    (:attr:`congling.infer.checkpoints.Loaded.reading`); by default as long as the model reads.
    """
    windows = [
        text_rows(text_ids(tokenizer, text), context or model.config.max_position_embeddings)
        for text in texts
    ]
    scored = iter(score_rows(model, [row for rows in windows for row in rows], label=label))
    found = []
    for rows in windows:
        parts = [next(scored) for _ in rows]
        found.append((sum(part.total for part in parts), sum(len(part.nats) for part in parts)))
    return found


def continuation_row(tokenizer: Tokenizer, context: int, before: str, after: str) -> tuple[Row, bool]:
    """The row that scores ``after`` behind ``before``, and whether its beginning had to be cut off.

    Both are encoded as one text and divided where the first alone ends; white space between them belongs to
    the second. So do lm-eval's requests, and numbers can be compared.
    """
    moved = len(before) - len(before.rstrip())
    if moved:
        before, after = before[:-moved], before[-moved:] + after
    first = prompt_ids(tokenizer, before)
    ids = prompt_ids(tokenizer, before + after)
    start = min(len(first), len(ids) - 1)
    over = max(0, len(ids) - context - 1)
    return Row(ids[over:], max(1, start - over)), over > 0
