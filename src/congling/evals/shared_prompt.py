"""What follows prompts that are read once: the text that greedy decoding writes, and the likeliest candidate.

::

    prompt ■■■■■■■■■■■■ ┬ written      is 4 7 2 。          one token after the other
                        ├ right        is 4 7 2 。          its log p, and at each token that of others
                        ├ 4 1 5 。     parts behind 4: log p is at most that of "is 4 1", which is known
                        └ 8 0 3 。     parts at once: at most that of "is 8"

Whether the right one is the likeliest is all that is asked: a candidate that cannot outdo it is not read, and
one that does ends the matter. So the answer is that of scoring all of them, for a few instead of fifty.
"""

# B prompts, T time, W width, V vocabulary

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from congling.evals.likelihood import target_nats
from congling.infer.sampler import drawable
from congling.infer.window import hidden_states, read_rows
from congling.model.cache import KVCache
from congling.model.transformer import Transformer

Candidates = Sequence[Sequence[int]]
"""Ids of each, the right one first; none begins another."""


@dataclass(frozen=True)
class Followed:
    """What came behind a prompt."""

    written: list[int]
    """Greedy ids, up to one that ends them; that one is left out."""
    right: bool
    """Whether the right candidate is likelier than every other."""


@torch.inference_mode()
def followed(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    candidates: Sequence[Candidates],
    *,
    new: int,
    ends: frozenset[int],
    undrawable: Sequence[int] = (),
) -> list[Followed]:
    """Read prompts together, write ``new`` ids at most behind each, and compare its candidates.

    Args:
        model: its training flag is restored.
        prompts: ids; of equal length is fastest.
        candidates: of each prompt.
        new: ids to write.
        ends: ids that end what is written.
        undrawable: ids that stand for no token.

    Raises:
        UserError: a prompt with what follows is longer than the context.
    """
    longest = max(len(ids) for some in candidates for ids in some)
    cache, hidden = read_rows(model, prompts, max(map(len, prompts)) + max(new, longest - 1))
    last, length = hidden[:, -1], cache.length
    reading = _Reading(model, last, cache, length)
    written = _written(reading, new, ends, torch.tensor(undrawable, dtype=torch.long, device=last.device))
    right = _likeliest(reading, candidates)
    return [Followed(*pair) for pair in zip(written, right, strict=True)]


@dataclass
class _Reading:
    """Prompts that were read: their cache, filled up to ``length``, and their last hidden states (B, W)."""

    model: Transformer
    last: Tensor
    cache: KVCache
    length: int

    def behind(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Hidden states (B, T, W) in front of each of these ids, the longest T of them."""
        longest = max(map(len, ids))
        if longest == 1:
            return self.last[:, None]
        padded = [[*row, *[0] * (longest - len(row))][:-1] for row in ids]
        self.cache.rewind(self.length)
        read = hidden_states(self.model, torch.tensor(padded, device=self.last.device), self.cache)
        return torch.cat([self.last[:, None], read], 1)

    def totals(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Log-probability of one continuation of each prompt: (B,) float64."""
        hidden = self.behind(ids)
        counts = torch.tensor([len(row) for row in ids], device=hidden.device)
        targets = torch.tensor([index for row in ids for index in row], device=hidden.device)
        mask = torch.arange(hidden.shape[1], device=hidden.device) < counts[:, None]
        nats = torch.cat([losses for losses, _ in target_nats(self.model, hidden[mask], targets)]).double()
        rows = torch.arange(len(ids), device=hidden.device).repeat_interleave(counts)
        return -torch.zeros(len(ids), dtype=torch.float64, device=hidden.device).index_add(0, rows, nats)

    def take(self, rows: Sequence[int]) -> None:
        """Go on with these prompts alone."""
        kept = torch.tensor(rows, device=self.last.device)
        self.cache.take(kept)
        self.last = self.last[kept]


def _written(reading: _Reading, new: int, ends: frozenset[int], barred: Tensor) -> list[list[int]]:
    texts: list[list[int]] = [[] for _ in reading.last]
    done = [False] * len(texts)
    hidden = reading.last
    for step in range(new):
        chosen = drawable(reading.model.logits(hidden), barred).argmax(-1)
        for row, index in enumerate(chosen.tolist()):
            done[row] = done[row] or index in ends
            if not done[row]:
                texts[row].append(index)
        if all(done) or step + 1 == new:
            break
        hidden = hidden_states(reading.model, chosen[:, None], reading.cache)[:, -1]
    return texts


def _likeliest(reading: _Reading, candidates: Sequence[Candidates]) -> list[bool]:
    """Of each prompt whether its first candidate is likelier than all others."""
    first = [some[0] for some in candidates]
    hidden = reading.behind(first)
    bounds = [_bounds(reading.model, row, some) for row, some in zip(hidden, candidates, strict=True)]
    totals = [total for total, _ in bounds]
    # What may still outdo the right one, the most dangerous at the end.
    open_ = [
        sorted((number for number in most if most[number] >= total), key=most.__getitem__)
        for total, most in bounds
    ]
    right = [True] * len(candidates)
    left = [row for row, some in enumerate(open_) if some]
    current = list(range(len(candidates)))
    while left:
        if len(left) <= len(current) // 2:
            reading.take([current.index(row) for row in left])
            current = left
        asked = [candidates[row][open_[row].pop()] if row in left else first[row][:1] for row in current]
        for row, total in zip(current, reading.totals(asked).tolist(), strict=True):
            if row in left and total >= totals[row]:
                right[row], open_[row] = False, []
        left = [row for row in left if open_[row]]
    return right


def _bounds(model: Transformer, hidden: Tensor, candidates: Candidates) -> tuple[float, dict[int, float]]:
    """Log p of the first candidate, and for each other the most that its own can be.

    ``hidden`` (T, W) stands in front of each id of the first one.
    """
    first = candidates[0]
    table = model.logits(hidden[: len(first)]).float().log_softmax(-1)  # (T, V)
    before = [0.0]
    for place, index in enumerate(first):
        before.append(before[-1] + float(table[place, index]))
    most: dict[int, float] = {}
    for number, ids in enumerate(candidates[1:], 1):
        at = next(place for place, (one, other) in enumerate(zip(ids, first, strict=False)) if one != other)
        most[number] = before[at] + float(table[at, ids[at]])
    return before[-1], most
