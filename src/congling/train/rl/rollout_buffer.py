"""The answers of one rollout: in memory, as micro-batches, and as the tensors of a checkpoint.

::

    process 0   answers ─┐
    process 1   answers ─┴─ all of them, in every process ─ checkpoint of the first ─ each takes its own again
"""

# A answers of one process, L tokens of an answer

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.data.tuning.examples import Example
from congling.data.tuning.pair_batches import SequenceBatch, batched
from congling.train.backends.single import Single

_TOKENS = ("old", "advantages", "reference", "values", "returns")
"""What there is of every token, all or none of the answers having it."""
_MEASURED = "measured."
MICRO_TOKENS = 8192
"""Most places of a micro-batch."""


@dataclass
class Rollout:
    """One rollout of one process."""

    examples: list[Example]
    """(A,) question and answer; the answer's ids are learnt."""
    questions: np.ndarray
    """(A,) numbers of the questions."""
    rewards: np.ndarray
    """(A,) float; not a number where no reward function could say."""
    ended: np.ndarray
    """(A,) booleans."""
    old: list[np.ndarray]
    """(A,) of (L,): log-probabilities when they were written."""
    advantages: list[np.ndarray] = field(default_factory=list)
    """(A,) of (L,), once rewards are known; and so on."""
    weights: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    """(A,) what a token weighs."""
    count: float = 0.0
    """What the summed loss of this process's part is divided by, together with the others' counts."""
    reference: list[np.ndarray] | None = None
    values: list[np.ndarray] | None = None
    returns: list[np.ndarray] | None = None
    measured: dict[str, float] = field(default_factory=dict)
    """Means over all processes, for the log."""

    @property
    def lengths(self) -> np.ndarray:
        """(A,) tokens of the answers."""
        return np.array([example.targets for example in self.examples])


@dataclass(frozen=True)
class RolloutBatch(SequenceBatch):
    """Answers to learn from; arrays (B, T) are 0 where nothing counts."""

    advantages: Any = None
    old: Any = None
    """Log-probabilities when the answers were written."""
    fresh: bool = True
    """Whether the model is still the one that wrote them."""
    reference: Any = None
    """Log-probabilities for the base; None where nobody asks."""
    values: Any = None
    returns: Any = None
    """PPO alone."""
    mean: float = 1.0
    """``count`` over the weights' sum: turns weighted sums into means over what weighs."""


def micro_batches(found: Rollout, context: int, pad: int, *, longest: int, fresh: bool) -> list[RolloutBatch]:
    """The answers of a rollout in micro-batches of about equal lengths.

    Args:
        found: with advantages.
        context: most tokens of a row.
        pad: id that fills rows up.
        longest: tokens of the longest prompt and answer there can be: every process makes equally many.
        fresh: whether the model is still the one that wrote them.
    """
    lengths = [example.length for example in found.examples]
    order = np.argsort(lengths, kind="stable")
    size = max(1, MICRO_TOKENS // max(longest, max(lengths)))
    parts = [order[start : start + size] for start in range(0, len(order), size)]
    mean = found.count / max(1e-9, float((found.weights * found.lengths).sum()))
    return [_micro_batch(found, part, context, pad, fresh=fresh, mean=mean) for part in parts]


def _micro_batch(found: Rollout, part: np.ndarray, context: int, pad: int, **more: Any) -> RolloutBatch:
    count = found.count * len(part) / len(found.examples)
    batch = batched(RolloutBatch, [found.examples[i] for i in part], context, pad, count=count, **more)
    counts = batch.weights > 0
    weights = batch.weights * np.take(found.weights[part], batch.owner)

    def spread(values: list[np.ndarray] | None) -> np.ndarray | None:
        if values is None:
            return None
        table = np.zeros(batch.weights.shape, np.float32)
        for place, index in enumerate(part):
            table[counts & (batch.owner == place)] = values[index]
        return table

    return replace(
        batch,
        weights=weights.astype(np.float32),
        advantages=spread(found.advantages),
        old=spread(found.old),
        reference=spread(found.reference),
        values=spread(found.values),
        returns=spread(found.returns),
    )


def pack(found: Rollout, backend: Single) -> dict[str, Tensor]:
    """The rollouts of all processes as flat tensors named ``process.field``; equal in every process."""
    own = _flat(found)
    names, world = sorted(own), backend.world
    sizes = torch.zeros(world, len(names), dtype=torch.float64)
    sizes[backend.rank] = torch.tensor([float(own[name].numel()) for name in names])
    sizes = torch.as_tensor(backend.all_reduce_sum(sizes)).cpu().long()
    start, mine = int(sizes[: backend.rank].sum()), torch.cat([own[name].double() for name in names])
    every = torch.zeros(int(sizes.sum()), dtype=torch.float64)
    every[start : start + len(mine)] = mine
    parts = torch.as_tensor(backend.all_reduce_sum(every)).cpu().split(sizes.flatten().tolist())
    keys = [(rank, name) for rank in range(world) for name in names]
    return {
        f"{rank}.{name}": part.to(own[name].dtype) for (rank, name), part in zip(keys, parts, strict=True)
    }


def unpack(tensors: Mapping[str, Tensor], backend: Single) -> Rollout:
    """This process's rollout out of :func:`pack`.

    Raises:
        UserError: they were written by another number of processes.
    """
    ranks = {name.partition(".")[0] for name in tensors}
    if len(ranks) != backend.world:
        raise UserError(
            "a rollout is shared by as many processes as before",
            value=backend.world,
            hint=f"go on with {len(ranks)}, at least to its end",
        )
    start = f"{backend.rank}."
    flat = {
        name.removeprefix(start): value.numpy() for name, value in tensors.items() if name.startswith(start)
    }
    lengths = flat["answers"]
    examples = []
    for ids, length in zip(np.split(flat["ids"], np.cumsum(flat["sizes"])[:-1]), lengths, strict=True):
        learnt = np.zeros(len(ids), bool)
        learnt[len(ids) - length :] = True
        examples.append(Example(ids, learnt, 0, ""))
    borders = np.cumsum(lengths)[:-1]
    parts: dict[str, Any] = {
        name: np.split(flat[name], borders) if name in flat else None for name in _TOKENS
    }
    measured = {
        name.removeprefix(_MEASURED): float(value[0])
        for name, value in flat.items()
        if name.startswith(_MEASURED)
    }
    return Rollout(
        examples,
        flat["questions"],
        flat["rewards"],
        flat["ended"],
        weights=flat["weights"],
        count=float(flat["count"][0]),
        measured=measured,
        **parts,
    )


def _flat(found: Rollout) -> dict[str, Tensor]:
    """A rollout as flat arrays."""
    flat: dict[str, np.ndarray] = {
        "ids": np.concatenate([example.input_ids for example in found.examples]),
        "sizes": np.array([len(example.input_ids) for example in found.examples]),
        "answers": found.lengths,
        "questions": found.questions,
        "rewards": found.rewards,
        "ended": found.ended,
        "weights": found.weights,
        "count": np.array([found.count]),
    }
    flat |= {f"{_MEASURED}{name}": np.array([value]) for name, value in found.measured.items()}
    for name in _TOKENS:
        if (values := getattr(found, name)) is not None:
            flat[name] = np.concatenate(values)
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in flat.items()}
