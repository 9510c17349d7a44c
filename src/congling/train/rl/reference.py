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
from congling.train.objectives.batch import DeviceWeighted
from congling.train.objectives.log_probs import score
from congling.train.objectives.preference import sequence_sums
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
