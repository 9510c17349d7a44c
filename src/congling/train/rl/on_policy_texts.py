"""On-policy distillation: sequences that the student continues itself (GKD, Agarwal et al. 2023).

::

    corpus    a b c d e f g h
    row       a b c X Y Z U V     the prefix is the corpus's, the rest the student's; only X … V are scored

Text the student writes depends on its weights, so batches are made one step at a time. Which steps are its
own and what it draws are functions of weights, seed and step: a resumed run writes the same.
"""

# B rows of a micro-batch, T context (targets a row), P prefix

from collections.abc import Sequence

import numpy as np

from congling.data.batches import Batch, Batches
from congling.infer.generate import tokens
from congling.infer.sampler import SamplingConfig
from congling.model.transformer import Transformer
from congling.train.backends.single import Single
from congling.train.objectives.distill import OwnTexts

_CHOICE, _DRAW = 0x6F77, 0x6472  # separate these uses of a seed from each other and from shuffling


class OwnTextBatches:
    """Batches of a corpus, of which a share of the steps is continued by the model in training.

    Args:
        corpus: batches of the corpus.
        model: the student, as it is when a step begins.
        share: probability with which a step's rows are its own.
        prefix: P, tokens of the corpus a row begins with.
        seed: of the choice of steps and of what is drawn.
        backend: its precision is used, and nothing is compiled for the shapes of writing.
        undrawable: ids that stand for no token.
    """

    def __init__(
        self,
        corpus: Batches,
        model: Transformer,
        *,
        share: float,
        prefix: int,
        seed: int,
        backend: Single,
        undrawable: Sequence[int] = (),
    ) -> None:
        self.corpus, self.model, self.backend = corpus, model, backend
        self.share, self.prefix, self.seed, self.undrawable = share, prefix, seed, undrawable

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> Sequence[Batch]:
        """Micro-batches of one rank for one step; all ranks write, or none does."""
        found = self.corpus(step, rank, world)
        if np.random.default_rng([_CHOICE, self.seed, step]).random() >= self.share:
            return found
        # Where sums are ordered, what is drawn belongs to the micro-batch, and not to the process.
        rank, first = (0, rank * len(found)) if self.backend.ordered else (rank, 0)
        return [self._continued(batch, [step, rank, first + place]) for place, batch in enumerate(found)]

    def _continued(self, batch: Batch, place: list[int]) -> OwnTexts:
        """The same rows (B, T) from the prefix on in the student's words, drawn at temperature 1."""
        rows, time = batch.tokens.shape
        kept = min(self.prefix, time)
        window = np.empty((rows, time + 1), np.int64)
        window[:, :kept] = batch.tokens[:, :kept]
        seed = int(np.random.default_rng([_DRAW, self.seed, *place]).integers(2**31))
        sampling = SamplingConfig(temperature=1.0, seed=seed)
        prompts = window[:, :kept].tolist()
        with self.backend.eval_context():
            written = tokens(
                self.model,
                prompts,
                max_new_tokens=time + 1 - kept,
                sampling=sampling,
                undrawable=self.undrawable,
            )
            for i, chosen in enumerate(written):
                window[:, kept + i] = chosen
        weights = np.zeros((rows, time), np.float32)
        weights[:, kept - 1 :] = 1.0
        return OwnTexts(window[:, :-1], window[:, 1:], weights, count=float(weights.sum()))
