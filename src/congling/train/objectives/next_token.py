"""Predict the next token: the objective of pretraining and, with a mask for weights, of fine-tuning."""

from typing import Protocol

from torch import Tensor, nn

from congling.train.objectives.batch import DeviceBatch
from congling.train.objectives.cross_entropy import linear_cross_entropy
from congling.train.objectives.loss import Loss


class LanguageModel(Protocol):
    """What the objective needs of a model; :class:`congling.model.transformer.Transformer` is one."""

    def __call__(
        self,
        tokens: Tensor,
        *,
        positions: Tensor | None,
        documents: Tensor | None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """(B, T) -> hidden states (B, T, W); ``states`` gets what every block puts out."""
        ...

    def output_layer(self) -> nn.Module:
        """What gives the logits (B, T, V) of hidden states."""
        ...

    def balance_loss(self, uncounted: Tensor | None = None) -> Tensor:
        """Mean over the tokens of the last forward pass but the ``uncounted``; 0 for a dense model."""
        ...


def next_token(model: LanguageModel, batch: DeviceBatch) -> Loss:
    """Cross-entropy of each target, weighted and summed, plus a mixture of experts' load-balancing loss.

    Args:
        model: gives hidden states.
        batch: rows with targets.
    """
    hidden = model(batch.tokens, positions=batch.positions, documents=batch.documents)
    nats = linear_cross_entropy(hidden, model.output_layer(), batch.targets, batch.weights)
    return Loss(nats + batch.count * model.balance_loss(batch.uncounted), {"loss": nats.detach()})
