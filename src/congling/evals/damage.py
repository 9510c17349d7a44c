"""What a quantised model lost against the model it was made from, on the same held-out tokens.

::

    window ─┬─ base ─────── p ─┐
            └─ quantised ── q ─┴─ of each token: KL(p ‖ q), −ln p and −ln q of what stands there,
                                  whether both find the same token likeliest

The loss alone does not say it: what some tokens lose others gain by chance. KL is zero only for equal
probabilities, and needs no luck to be seen (llama.cpp#5076, #6936). Probabilities are computed in float64
from the models' own logits, a few positions at a time.
"""

# N scored tokens, n those of one chunk, V vocabulary, U units that the intervals are drawn from

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from congling.core.errors import UserError
from congling.core.progress import track
from congling.data.token_split import TokenSplit
from congling.evals.likelihood import BATCH_TOKENS, read_rows
from congling.evals.paired import Difference, Measured, paired
from congling.evals.scores import bootstrap
from congling.evals.windows import Row, split_row, window_starts
from congling.infer.checkpoints import Loaded
from congling.train.objectives.chunks import ChunkSize

CHUNK = ChunkSize({"cpu": 2**20, "cuda": 2**24}, 1)
"""4 MB of a model's logits on a CPU, whatever the vocabulary."""
EXACT = ChunkSize({"cpu": 2**17, "cuda": 2**22}, 1)
"""Of these 1 MB at a time in float64: what stays in the cache is eight times as fast."""
FEWEST_TOKENS = 256
"""Of fewer nothing is said."""
FEWEST_DOCUMENTS = 30
"""From so many on intervals are drawn from documents, else from windows."""
MEASURABLE, DAMAGED = 0.01, 0.05
"""Nats per token up to which damage has a milder name."""


@dataclass(frozen=True)
class HeldOutRows:
    """Windows over a held-out text, and where each of their scored tokens stands."""

    rows: Sequence[Row]
    unit: NDArray[np.int64]
    """(N,) number of the document or window of each."""
    position: NDArray[np.int64]
    """(N,) how many tokens are read before each."""
    context: int
    """Tokens of a window."""
    units: Literal["documents", "windows"]


def held_out_rows(
    split: TokenSplit, context: int, *, limit_tokens: int, document_mask: bool = False
) -> HeldOutRows:
    """Windows side by side, about ``limit_tokens`` in all, evenly spread; every token in them is scored once.

    Raises:
        UserError: there are fewer than 256 tokens.
    """
    if len(split.tokens) < FEWEST_TOKENS:
        raise UserError(
            f"the held-out text is too short, at least {FEWEST_TOKENS} tokens are needed",
            value=len(split.tokens),
            hint="name more text with --data; 20,000 tokens make a narrow interval",
        )
    starts = window_starts(len(split.tokens), context, 0, limit_tokens).tolist()
    rows, window, document, position = [], [], [], []
    for number, start in enumerate(starts):
        row = split_row(split, start, context, 0, document_mask=document_mask)
        rows.append(row)
        count = len(row.ids) - row.start
        inside = np.searchsorted(split.ends, np.arange(start, start + count), side="right")
        begins = np.searchsorted(inside, inside) if document_mask else 0
        position.append(np.arange(count) - begins + 1)
        document.append(inside)
        window.append(np.full(count, number))
    documents = np.unique(np.concatenate(document), return_inverse=True)
    by_document = len(documents[0]) >= FEWEST_DOCUMENTS
    unit = documents[1] if by_document else np.concatenate(window)
    units = "documents" if by_document else "windows"
    return HeldOutRows(rows, unit.astype(np.int64), np.concatenate(position), context, units)


@dataclass(frozen=True)
class TokenDamage:
    """Both models on the same tokens, one number a token."""

    kl: NDArray[np.float64]
    """(N,) KL(p ‖ q)."""
    before: NDArray[np.float64]
    """(N,) nats of the token that stands there, of the base."""
    after: NDArray[np.float64]
    """(N,) the same of the quantised model."""
    agree: NDArray[np.bool_]
    """(N,) whether both find the same token likeliest."""
    equal: bool
    """Whether all logits are equal to the bit."""


@torch.inference_mode()
def token_damage(base: Loaded, quantised: Loaded, text: HeldOutRows) -> TokenDamage:
    """Read every window with both models and compare their probabilities token by token.

    Raises:
        UserError: logits of one of them are not finite.
    """
    parts: list[tuple[NDArray[np.float64], NDArray[np.bool_]]] = []
    equal, size = True, max(1, BATCH_TOKENS // text.context)
    firsts = range(0, len(text.rows), size)
    for first in track(firsts, "comparing", total=len(firsts)):
        batch = text.rows[first : first + size]
        before, targets = read_rows(base.model, batch, text.context)
        after, _ = read_rows(quantised.model, batch, text.context)
        for part in CHUNK.parts(before, base.model.config.vocab_size):
            p, q = finite(base, before[part]), finite(quantised, after[part])
            equal = equal and torch.equal(p, q)
            parts += [_compared(p[one], q[one], targets[part][one]) for one in EXACT.parts(p, p.shape[1])]
    values = np.concatenate([numbers for numbers, _ in parts], 1)
    return TokenDamage(values[0], values[1], values[2], np.concatenate([same for _, same in parts]), equal)


def finite(loaded: Loaded, hidden: Tensor) -> Tensor:
    """Logits (n, V) of hidden states (n, W).

    Raises:
        UserError: one of them is not finite.
    """
    logits = loaded.model.logits(hidden)
    if not torch.isfinite(logits).all():
        raise UserError(
            "this model gives logits that are not finite",
            value=str(loaded.checkpoint.path),
            hint="its weights hold NaN or overflow: quantise it again, or look at the model it was made from",
        )
    return logits


def log_probabilities(logits: Tensor) -> Tensor:
    """In float64: (n, V)."""
    return logits.double().log_softmax(-1)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) of log-probabilities (n, V): (n,)."""
    return (p.exp() * (p - q)).sum(-1)


def _compared(p: Tensor, q: Tensor, targets: Tensor) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Of logits (n, V): KL, nats before and after (3, n), and whether the likeliest is the same (n,)."""
    same = (p.argmax(-1) == q.argmax(-1)).cpu().numpy()
    p, q = log_probabilities(p), log_probabilities(q)
    nats = [-one.gather(1, targets[:, None])[:, 0] for one in (p, q)]
    return torch.stack([divergence(p, q), *nats]).cpu().numpy(), same


@dataclass(frozen=True)
class Damage:
    """What all tokens together say; intervals are those of 95 %, bootstrapped over documents or windows."""

    kl: Measured
    """Mean nats per token."""
    kl_99: float
    """99 % of the tokens lose no more."""
    agreement: Measured
    """Share of tokens with the same likeliest one."""
    before: float
    """Nats per token of the base."""
    nats: Difference
    """By how many nats per token the quantised model is worse, paired."""
    equal: bool
    """Whether both give the same logits, to the bit."""

    @property
    def worst(self) -> float:
        """The upper end of what a token loses, by KL or by the loss."""
        return max(value for one in (self.kl, self.nats) for value in (one.value, one.high or one.value))

    @property
    def verdict(self) -> str:
        """In one line, from the upper ends of the intervals."""
        if self.equal:
            return "equal to the bit"
        if self.worst > DAMAGED:
            return "damaged"
        if self.worst > MEASURABLE:
            return f"measurable, ≤ {DAMAGED} nats"
        return f"measurable, ≤ {MEASURABLE} nats" if self.nats.certain else "within the noise"


def summary(found: TokenDamage, text: HeldOutRows, *, seed: int = 0) -> Damage:
    """Means, a quantile and intervals."""
    sizes = sums(np.ones(len(found.kl)), text.unit)
    before, after = sums(found.before, text.unit), sums(found.after, text.unit)
    return Damage(
        mean_of(found.kl, text.unit, seed),
        float(np.quantile(found.kl, 0.99)),
        mean_of(found.agree.astype(np.float64), text.unit, seed),
        float(found.before.mean()),
        paired(before.tolist(), after.tolist(), sizes.tolist(), seed=seed),
        found.equal,
    )


def sums(values: NDArray[np.float64], unit: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums of a number of each token by unit, of those that have any: (N,) -> (U,)."""
    _, numbers = np.unique(unit, return_inverse=True)
    return np.bincount(numbers, values).astype(np.float64)


def mean_of(values: NDArray[np.float64], unit: NDArray[np.int64], seed: int) -> Measured:
    """A mean over tokens, with the interval of a bootstrap over units; none of a single one."""
    above, below = sums(values, unit), sums(np.ones(len(values)), unit)
    low, high = bootstrap(above, below, seed=seed) if len(above) > 1 else (None, None)
    return Measured(float(values.mean()), low, high, len(values))


@dataclass(frozen=True)
class Band:
    """Tokens with so many others before them in their window."""

    first: int
    last: int
    before: float
    """Nats per token of the base."""
    kl: Measured
    nats: Difference


def by_position(found: TokenDamage, text: HeldOutRows, *, seed: int = 0) -> Iterator[Band]:
    """The damage by how much was read before, in doublings from 16 on: long range may lose more."""
    first, most = 1, int(text.position.max())
    while first <= most:
        last = min(most, 16 if first == 1 else 2 * (first - 1))
        here = (text.position >= first) & (text.position <= last)
        if here.any():
            own = TokenDamage(
                found.kl[here], found.before[here], found.after[here], found.agree[here], found.equal
            )
            all_of = HeldOutRows((), text.unit[here], text.position[here], text.context, text.units)
            told = summary(own, all_of, seed=seed)
            yield Band(first, last, told.before, told.kl, told.nats)
        first = last + 1


@dataclass(frozen=True)
class Recovery:
    """What of the damage of rounding to nearest another method saves, on the same grid."""

    kl: Measured
    """1 − its KL / that of rounding."""
    nats: float | None
    """The same of the loss; None where rounding costs no loss that can be told from chance."""


def recovery(
    found: TokenDamage, rounded: TokenDamage, text: HeldOutRows, *, seed: int = 0
) -> Recovery | None:
    """Compare with rounding; None where that lost nothing."""
    ours, theirs = sums(found.kl, text.unit), sums(rounded.kl, text.unit)
    if not theirs.sum() > 0:
        return None
    low, high = bootstrap(ours, theirs, seed=seed) if len(ours) > 1 else (None, None)
    kl = Measured(
        1 - float(ours.sum() / theirs.sum()),
        None if high is None else 1 - high,
        None if low is None else 1 - low,
        len(found.kl),
    )
    lost = summary(rounded, text, seed=seed).nats
    gained = float((found.after - found.before).sum() / (rounded.after - rounded.before).sum())
    return Recovery(kl, 1 - gained if lost.certain and lost.value > 0 else None)
