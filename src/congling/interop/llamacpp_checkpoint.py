"""Checkpoints of llama.cpp's former trainers: GGUF files with counters, shuffle state and Adam's moments.

::

    training.type · model or adapter keys · training.* · optimizer.* · congling.*
    trained tensors · optimizer.adam.first_moments · .second_moments (· .past_loss_values)

The moments are two vectors over all parameters, in the order of ``llamacpp_moments``. Everything passes both
ways: weights, moments, counters, and the place in the shuffled text.
"""

# P parameters in all

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from congling.core.errors import UserError
from congling.interop.gguf.arrangement import Heads, to_half_split, to_interleaved
from congling.interop.gguf.file import Field, GGUFFile, TensorData
from congling.interop.llamacpp_moments import Placed, Walk, walk_of, walked

Kind = Literal["train_model", "finetune_lora"]
MOMENTS = ("optimizer.adam.first_moments", "optimizer.adam.second_moments")
PAST = "optimizer.adam.past_loss_values"
ORDER, SINCE = "congling.moments.order", "congling.moments.since"
_MOST_ITERATIONS = 2**31 - 1
_WALKS = {"1": Walk(flash=False), "2": Walk(flash=True)}
"""The order that a file written here says it has."""


@dataclass(frozen=True)
class Slot:
    """One trained tensor: its key here, and its name and arrangement in files."""

    key: str
    name: str
    shape: tuple[int, ...]
    """In the file, rows first."""
    heads: int | Heads | None = None
    """The rows belong to rotated heads, whose channels files have in another order; a number: interleaved."""
    transposed: bool = False

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    @property
    def dimensions(self) -> int:
        """Dimensions as ggml counts them: outer ones of size 1 are none."""
        outer = next((i for i, size in enumerate(self.shape) if size > 1), len(self.shape) - 1)
        return len(self.shape) - outer

    def to_file(self, values: np.ndarray) -> np.ndarray:
        """From our arrangement to the file's, float32."""
        values = values.T if self.transposed else values
        values = values if self.heads is None else to_interleaved(values, self.heads)
        return np.ascontiguousarray(values, np.float32).reshape(self.shape)

    def from_file(self, values: np.ndarray) -> np.ndarray:
        """From the file's arrangement to ours, a copy."""
        values = values.reshape(self.shape)
        values = values if self.heads is None else to_half_split(values, self.heads)
        return np.array(values.T if self.transposed else values, np.float32)


@dataclass(frozen=True)
class Progress:
    """How far training is: everything in a checkpoint but tensors. Totals are over all runs."""

    iterations: int = 0
    samples: int = 0
    tokens: int = 0
    epochs: int = 0
    samples_hash: int = 0
    shuffle_state: str = ""
    """Of the epoch under way; empty in files of the first version."""
    sample_count: int = 0
    next_sample: int = 0
    past: int = 0
    """Losses that the delta test keeps."""
    best_loss: float = 0.0
    previous_loss: float = 0.0
    no_improvement: int = 0
    fresh: bool = True
    """No iteration was done yet."""


@dataclass(frozen=True)
class Moments:
    """Adam's state."""

    first: Mapping[str, np.ndarray]
    """By key, in our arrangement."""
    second: Mapping[str, np.ndarray]
    since: int
    """Iteration at which they were zero."""


def training_fields(
    progress: Progress, slots: Sequence[Slot], since: int, *, flash: bool
) -> dict[str, Field]:
    """The keys after those of the model; ``since`` as in ``Moments``, ``flash`` as in ``Walk``."""
    parameters = sum(slot.size for slot in slots)
    return {
        "training.file_version": Field("u32", 1),
        "training.iteration_count": Field("u64", progress.iterations),
        "training.sample_count": Field("u64", progress.samples),
        "training.token_count": Field("u64", progress.tokens),
        "training.epoch_count": Field("u64", progress.epochs),
        "training.shuffle.samples_hash": Field("u64", progress.samples_hash),
        "training.shuffle.rng_state": Field("string", progress.shuffle_state),
        "training.shuffle.sample_count": Field("u64", progress.sample_count),
        "training.shuffle.next_sample": Field("u64", progress.next_sample),
        "optimizer.file_version": Field("u32", 0),
        "optimizer.convergence_past_count": Field("u32", progress.past),
        "optimizer.parameter_count": Field("u64", parameters),
        "optimizer.iteration_count": Field("u32", progress.iterations),
        "optimizer.just_initialized": Field("bool", progress.fresh),
        "optimizer.type": Field("string", "adam"),
        "optimizer.adam.best_loss": Field("f32", progress.best_loss),
        "optimizer.adam.previous_loss": Field("f32", progress.previous_loss),
        "optimizer.adam.no_improvement_count": Field("u32", progress.no_improvement),
        ORDER: Field("string", next(key for key, walk in _WALKS.items() if walk == Walk(flash))),
        SINCE: Field("u64", since),
    }


def training_tensors(
    slots: Sequence[Slot], moments: Moments, past: np.ndarray, *, flash: bool
) -> list[TensorData]:
    """The tensors after those that are trained; ``flash`` as in ``Walk``."""
    found, slots = [], _ordered(slots, Walk(flash))
    for name, values in zip(MOMENTS, (moments.first, moments.second), strict=True):
        parts = [slot.to_file(values[slot.key]).reshape(-1) for slot in slots]
        found.append(tensor(name, np.concatenate(parts)))
    return found + ([tensor(PAST, past)] if len(past) else [])


def tensor(name: str, values: np.ndarray) -> TensorData:
    """A float32 tensor for a file."""
    return TensorData(name, values.shape, "F32", lambda: np.ascontiguousarray(values, np.float32))


def kind_of(file: GGUFFile) -> Kind | None:
    """What trainer wrote the file; ``None``: it is no checkpoint.

    Raises:
        UserError: a kind that does not exist, or of a version not known.
    """
    kind = file.text("training.type", None)
    if kind is None:
        return None
    for value in ("train_model", "finetune_lora"):
        if kind == value:
            if file.integer("training.file_version", 0) > 1:
                raise UserError(
                    "a checkpoint of a later version",
                    where=file.path,
                    value=file.value("training.file_version"),
                )
            return value
    raise UserError("a checkpoint of an unknown kind of training", where=file.path, value=kind)


def progress_of(file: GGUFFile) -> Progress:
    """Counters and states of a checkpoint; what the first version lacks is zero.

    Raises:
        UserError: a key is missing or of another type.
    """
    adam = file.text("optimizer.type", "adam") == "adam"
    return Progress(
        iterations=_count(file, "training.iteration_count", most=_MOST_ITERATIONS),
        samples=_count(file, "training.sample_count"),
        tokens=_count(file, "training.token_count"),
        epochs=_count(file, "training.epoch_count", 0),
        samples_hash=_count(file, "training.shuffle.samples_hash", 0, most=2**64 - 1),
        shuffle_state=file.text("training.shuffle.rng_state", ""),
        sample_count=_count(file, "training.shuffle.sample_count", 0),
        next_sample=_count(file, "training.shuffle.next_sample", 0),
        past=_count(file, "optimizer.convergence_past_count", 0),
        best_loss=file.real("optimizer.adam.best_loss", 0.0) if adam else 0.0,
        previous_loss=file.real("optimizer.adam.previous_loss", 0.0) if adam else 0.0,
        no_improvement=_count(file, "optimizer.adam.no_improvement_count", 0) if adam else 0,
        fresh=file.flag("optimizer.just_initialized", True),
    )


def moments_of(file: GGUFFile, slots: Sequence[Slot], *, flash: bool) -> tuple[Moments, Walk] | None:
    """Adam's moments, and in which order they were found; ``None``: the file's optimizer is another.

    A file of the former programs does not say its order: it is that with or without ``flash``, unless the
    moments themselves show another.

    Raises:
        UserError: their length is not that of the parameters, or Adam cannot have made them.
    """
    if file.text("optimizer.type", "adam") != "adam":
        return None
    first, second = (_moment(file, name, sum(slot.size for slot in slots)) for name in MOMENTS)
    if (second < 0).any():
        raise UserError("moments that Adam cannot have made", where=file.path, value=MOMENTS[1])
    walk = _WALKS.get(file.text(ORDER, "")) or walk_of(second, _placed(slots), Walk(flash))
    ordered = _ordered(slots, walk)
    ends = np.cumsum([slot.size for slot in ordered])[:-1]
    tables = [
        {slot.key: slot.from_file(part) for slot, part in zip(ordered, np.split(values, ends), strict=True)}
        for values in (first, second)
    ]
    done = _count(file, "training.iteration_count", most=_MOST_ITERATIONS)
    return Moments(tables[0], tables[1], _count(file, SINCE, 0, most=done)), walk


def _moment(file: GGUFFile, name: str, total: int) -> np.ndarray:
    values = file.array(name).reshape(-1)
    if len(values) != total:
        raise UserError(
            f"{name} has {len(values)} values where the model has {total} parameters", where=file.path
        )
    if not np.isfinite(values).all():
        raise UserError("moments that Adam cannot have made", where=file.path, value=name)
    return values


def _placed(slots: Sequence[Slot]) -> list[Placed]:
    return [Placed(slot.key, slot.name.endswith(".lora_b"), slot.size) for slot in slots]


def _ordered(slots: Sequence[Slot], walk: Walk) -> list[Slot]:
    return [slots[index] for index in walked(_placed(slots), walk)]


def past_losses(file: GGUFFile) -> np.ndarray:
    """Losses kept for the delta test, empty where there are none."""
    return file.array(PAST).reshape(-1) if PAST in file.tensors else np.zeros(0, np.float32)


def values_of(file: GGUFFile, slot: Slot) -> np.ndarray:
    """One trained tensor in our arrangement.

    Raises:
        UserError: it is missing, of another shape, or not finite.
    """
    check_shape(file, slot)
    values = file.array(slot.name)
    if not np.isfinite(values).all():
        raise UserError("a tensor holds values that are not finite", where=file.path, value=slot.name)
    return slot.from_file(values)


def check_shape(file: GGUFFile, slot: Slot) -> None:
    """Compare a tensor in a file with what is due; the former programs dropped outer sizes of 1.

    Raises:
        UserError: it is missing or of another shape.
    """
    shape = file.info(slot.name).shape
    if [size for size in shape if size > 1] != [size for size in slot.shape if size > 1]:
        raise UserError(f"{slot.name} has shape {shape}, and {slot.shape} is due", where=file.path)


def _count(file: GGUFFile, key: str, *default: int, most: int = 2**63 - 1) -> int:
    value = file.integer(key, *default)
    if not 0 <= value <= most:
        raise UserError("a count that cannot be", where=f"{file.path}: {key}", value=value)
    return value
