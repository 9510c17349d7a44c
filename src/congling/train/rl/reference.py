"""The reference model: log-probabilities of the base, computed beforehand or during training.

::

    preferences    every answer is scored once, before the first step: numbers, and no second model
    rollouts       new answers all the time: a second model, or the same one with its adapter switched off
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from congling.core.progress import track
from congling.data.tuning.examples import Example
from congling.data.tuning.pair_batches import SequenceBatch, batched
from congling.train.backends.single import Single
from congling.train.objectives.batch import DeviceWeighted
from congling.train.objectives.log_probs import score
from congling.train.objectives.preference import sequence_sums
from congling.train.rl.rollout_buffer import MICRO_TOKENS, Rollout, RolloutBatch
from congling.transform import lora

_PLACES = 8192
"""Tokens that are scored at once."""


@torch.no_grad()
def reference_sums(
    model: Any, examples: Sequence[Example], *, context: int, pad: int, place: Callable[[Any], Any]
) -> np.ndarray:
    """(S,) float32: log-probability of the learnt ids of every example, as the model is now.

    Args:
        model: the base.
        examples: sequences whose learnt ids count.
        context: most tokens of a row.
        pad: id that fills rows up.
        place: takes a batch to the model's device.
    """
    found = np.zeros(len(examples), np.float32)
    order = sorted(range(len(examples)), key=lambda i: examples[i].length)
    size = max(1, _PLACES // max((example.length for example in examples), default=1))
    training = model.training
    model.eval()
    for start in track(range(0, len(order), size), "reference", total=-(-len(order) // size)):
        part = order[start : start + size]
        batch = batched(SequenceBatch, [examples[i] for i in part], context, pad)
        found[part] = sequence_sums(model, place(batch))[0].float().cpu().numpy()
    model.train(training)
    return found


class Reference:
    """The model as it was before training, asked for log-probabilities of new text.

    With an adapter the base is still there: the adapter is switched off while it is asked. Otherwise a copy
    of the model is kept, which takes its memory a second time.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._adapted = bool(lora.strengths(model))
        if not self._adapted:
            self._model = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def __call__(self, batch: DeviceWeighted, temperature: float = 1.0) -> Tensor:
        """(N,) log-probabilities of the targets that count, in the order of ``weights.nonzero()``."""
        if not self._adapted:
            return score(self._model, batch, temperature=temperature).log_probs
        strengths, training = lora.strengths(self._model), self._model.training
        lora.set_strengths(self._model, dict.fromkeys(strengths, 0.0))
        self._model.eval()
        try:
            return score(self._model, batch, temperature=temperature).log_probs
        finally:
            lora.set_strengths(self._model, strengths)
            self._model.train(training)


class RolloutScorer:
    """What the model, or the base, says of the answers of a rollout."""

    def __init__(self, model: Any, backend: Single, pad: int, temperature: float) -> None:
        self.model, self.backend, self.pad, self.temperature = model, backend, pad, temperature

    def reference(self, found: Rollout, reference: Reference) -> list[np.ndarray]:
        """(A,) of (L,): log-probabilities for the base."""
        return self._each(found, lambda batch: reference(batch, self.temperature))

    def values(self, found: Rollout) -> list[np.ndarray]:
        """(A,) of (L,): what the value head expects before each token."""

        def look(batch: Any) -> torch.Tensor:
            training = self.model.training
            self.model.eval()
            hidden = self.model(batch.tokens, positions=batch.positions, documents=batch.documents)
            self.model.train(training)
            places = batch.weights.reshape(-1).nonzero().squeeze(1)
            return self.model.scalar_head(hidden.reshape(-1, hidden.shape[-1])[places]).squeeze(-1)

        return self._each(found, look)

    @torch.no_grad()
    def _each(self, found: Rollout, look: Any) -> list[np.ndarray]:
        lengths = [example.length for example in found.examples]
        order = np.argsort(lengths, kind="stable")
        size = max(1, MICRO_TOKENS // max(lengths))
        result: list[np.ndarray] = [np.zeros(0, np.float32)] * len(lengths)
        for start in range(0, len(order), size):
            part = order[start : start + size]
            examples = [found.examples[i] for i in part]
            batch = batched(RolloutBatch, examples, max(lengths), self.pad)
            with self.backend.eval_context():
                values = look(self.backend.to_device(batch)).float().cpu().numpy()
            owner = batch.owner[batch.weights > 0]
            for place, index in enumerate(part):
                result[index] = values[owner == place]
        return result
