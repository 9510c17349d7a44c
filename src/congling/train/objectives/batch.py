"""What objectives read: micro-batches whose arrays the backend has made tensors on the device."""

# B rows of a micro-batch, T tokens of a row, S sequences of a micro-batch, P pairs

from typing import Protocol

from torch import Tensor


class DeviceBatch(Protocol):
    """:class:`congling.data.batches.Batch` on the device; see there what its fields are."""

    tokens: Tensor
    targets: Tensor
    positions: Tensor | None
    documents: Tensor | None
    count: float
    uncounted: Tensor | None

    @property
    def weights(self) -> Tensor | None:
        """(B, T), how much each target counts; None means one each."""
        ...


class DeviceWeighted(DeviceBatch, Protocol):
    """The same where some targets do not count, so that all have a weight."""

    @property
    def weights(self) -> Tensor:
        """(B, T)."""
        ...


class DeviceSequences(DeviceWeighted, Protocol):
    """:class:`congling.data.tuning.pair_batches.SequenceBatch` on the device."""

    owner: Tensor
    sequences: int


class DevicePairs(DeviceSequences, Protocol):
    """:class:`congling.data.tuning.pair_batches.PairBatch` on the device."""

    reference: Tensor | None


class DeviceRated(DeviceSequences, Protocol):
    """:class:`congling.data.tuning.pair_batches.RatedBatch` on the device."""

    reference: Tensor
    good: Tensor


class DeviceRollouts(DeviceSequences, Protocol):
    """:class:`congling.train.rl.rollout_buffer.RolloutBatch` on the device."""

    advantages: Tensor
    old: Tensor
    fresh: bool
    reference: Tensor | None
    values: Tensor
    returns: Tensor
    mean: float
