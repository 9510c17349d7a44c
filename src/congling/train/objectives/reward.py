"""Reward model: one number for an answer, such that better answers have higher ones (Bradley & Terry 1952).

::

    |prompt  answer  end|  ─ model ─ hidden state of the end ─ scalar head ─ r
    loss = −log σ(r₊ − r₋) + centre · (r₊ + r₋)²

The second term (Eisenstein et al. 2023) keeps rewards around zero, which differences alone leave open.
"""

# P pairs, S sequences, W width

from typing import Any

from torch import Tensor
from torch.nn.functional import logsigmoid

from congling.train.objectives.batch import DeviceSequences
from congling.train.objectives.loss import Loss


def rewards(model: Any, batch: DeviceSequences) -> Tensor:
    """(S,) rewards of the sequences of a batch, each scored at its one place that counts."""
    hidden = model(batch.tokens, positions=batch.positions, documents=batch.documents)
    places = batch.weights.reshape(-1).nonzero().squeeze(1)
    found = model.scalar_head(hidden.reshape(-1, hidden.shape[-1])[places]).squeeze(-1)
    return found.new_zeros(int(batch.sequences)).index_add(0, batch.owner.reshape(-1)[places], found)


def pair_loss(found: Tensor, centre: float) -> Tensor:
    """(P,) losses of rewards (2P,), the better answer of each pair first."""
    better, worse = found[0::2], found[1::2]
    return -logsigmoid(better - worse) + centre * (better + worse) ** 2


class BradleyTerry:
    """The objective over :class:`congling.data.tuning.pair_batches.PairBatch`.

    ``centre`` is the key ``center_rewards_coefficient``.
    """

    def __init__(self, centre: float = 0.01) -> None:
        self.centre = centre

    def __call__(self, model: Any, batch: DeviceSequences) -> Loss:
        """Sum over the pairs of a batch; ``accuracy`` counts those in the right order."""
        found = rewards(model, batch)
        losses, margins = pair_loss(found, self.centre), (found[0::2] - found[1::2]).detach()
        return Loss(
            losses.sum() + batch.count * model.balance_loss(batch.uncounted),
            {
                "loss": losses.sum().detach(),
                "margin": margins.sum(),
                "accuracy": (margins > 0).float().sum(),
                "chosen": found[0::2].detach().sum(),
                "rejected": found[1::2].detach().sum(),
            },
        )
