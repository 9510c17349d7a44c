"""Sampling several answers to every prompt with their log-probabilities, for reinforcement learning.

::

    P prompts ─ read once, padded on the left ─ cache of P rows ─ taken G times each ─ P·G rows
    step by step: one token a row; rows that have ended leave the cache as soon as a quarter has

The weights are those of the model as it is now; probabilities are those at the temperature of sampling. Every
answer has random numbers of its own, so what else is written beside it changes nothing.
"""

# P prompts, G answers to each, L longest answer, V vocabulary

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from congling.infer.sampler import SamplingConfig, drawable, sample
from congling.infer.window import read_rows
from congling.model.transformer import Transformer

LEFT = 0.75
"""Rows are dropped from the cache when no more than this share of them is still being written."""


@dataclass
class Completion:
    """One answer."""

    ids: list[int] = field(default_factory=list)
    """With the id that ended it."""
    log_probs: list[float] = field(default_factory=list)
    """Of each id, in nats."""
    ended: bool = False
    """Whether the model ended it itself, before the limit."""


@torch.inference_mode()
def complete(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    *,
    group: int,
    new_tokens: int,
    stops: frozenset[int],
    temperature: float = 1.0,
    top_k: int | None = None,
    seeds: Sequence[int] = (),
    undrawable: Sequence[int] = (),
) -> list[list[Completion]]:
    """Answer every prompt ``group`` times; a temperature of 0 takes the likeliest token.

    Args:
        model: in evaluation mode; prompt and answer must fit into its context.
        prompts: P lists of ids.
        group: G.
        new_tokens: longest answer.
        stops: ids that end an answer.
        temperature: what logits are divided by.
        top_k: sample among the likeliest k alone.
        seeds: one for each prompt, where tokens are sampled; equal seeds give equal answers.
        undrawable: ids that stand for no token. As with ``top_k``, probabilities are those of all ids all the
            same: so they are compared later with those of a model that has moved, and what went to such ids
            is unlearnt.

    Returns:
        For every prompt its G answers.
    """
    answers = [[Completion() for _ in range(group)] for _ in prompts]
    rows = [answer for same in answers for answer in same]
    drawn = _drawn(seeds, group, new_tokens) if temperature else None
    # The temperature is in the log-probabilities already: those of the tokens are asked for too.
    sampling = SamplingConfig(temperature=1.0 if temperature else 0.0, top_k=top_k)
    barred = torch.tensor(undrawable, dtype=torch.long, device=next(model.parameters()).device)
    cache, read = read_rows(model, prompts, max(map(len, prompts)) + new_tokens)
    every = torch.arange(len(prompts), device=read.device).repeat_interleave(group)
    cache.take(every)
    hidden = read[every, -1]
    for step in range(new_tokens):
        log_probs = torch.log_softmax(model.logits(hidden).float() / (temperature or 1.0), -1)
        open_ = drawable(log_probs, barred)
        chosen = sample(open_, sampling, () if drawn is None else drawn[step])
        paid = log_probs.gather(1, chosen[:, None]).squeeze(1)
        _append(rows, chosen.tolist(), paid.tolist(), stops)
        writing = [i for i, row in enumerate(rows) if not row.ended]
        if not writing or step + 1 == new_tokens:
            break
        if len(writing) <= LEFT * len(rows):
            kept = torch.tensor(writing, device=chosen.device)
            cache.take(kept)
            rows, chosen = [rows[i] for i in writing], chosen[kept]
            drawn = None if drawn is None else drawn[:, writing]
        hidden = model(chosen[:, None], cache=cache)[:, -1]
    return answers


def _drawn(seeds: Sequence[int], group: int, new_tokens: int) -> Tensor:
    """Uniform numbers for all tokens of all answers, (L, P·G), the same on every device."""
    parts = [
        torch.rand(new_tokens, group, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for seed in seeds
    ]
    return torch.cat(parts, 1)


def _append(
    rows: Sequence[Completion], ids: Sequence[int], log_probs: Sequence[float], stops: frozenset[int]
) -> None:
    for row, index, log_prob in zip(rows, ids, log_probs, strict=True):
        if not row.ended:
            row.ids.append(index)
            row.log_probs.append(log_prob)
            row.ended = index in stops
