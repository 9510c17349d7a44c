"""Mismatched questions and answers, from which KTO estimates the KL divergence from the reference.

See Ethayarajh et al. 2024, section 4.1.
"""

from collections.abc import Sequence

import numpy as np

from congling.data.tuning.examples import Example
from congling.data.tuning.pair_batches import Rated


def kl_examples(rated: Sequence[Rated], context: int) -> list[Example]:
    """For each row its question with the answer to the next other question, cut at the context."""
    questions = [one.example.input_ids[~one.example.loss_mask] for one in rated]
    keys = [question.tobytes() for question in questions]
    following = _next_other(keys)
    found = []
    for one, question, place in zip(rated, questions, following, strict=True):
        other = rated[place]
        ids = np.concatenate([question, other.example.input_ids[other.example.loss_mask]])[: context + 1]
        loss_mask = np.zeros(len(ids), bool)
        loss_mask[len(question) :] = True
        found.append(Example(ids, loss_mask, 0, one.example.id))
    return found


def _next_other(keys: Sequence[bytes]) -> list[int]:
    """For each place the next one, past the end from the beginning, whose key differs, if any does."""
    places = [(i + 1) % len(keys) for i in range(len(keys))]
    if len(set(keys)) == 1:
        return places
    for i in range(2 * len(keys) - 1, -1, -1):  # twice round, so that the last places know the first
        here, after = i % len(keys), (i + 1) % len(keys)
        places[here] = after if keys[after] != keys[here] else places[after]
    return places
