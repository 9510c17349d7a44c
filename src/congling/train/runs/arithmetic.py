"""What the bits of a run rest on, and how far a run that goes on equals one that was never stopped.

::

    bits     the same weights to the last bit: nothing that bits rest on has changed
    order    the same rows in the same order, rounded otherwise
    none     not even the rows are the same: the model writes them itself, and does so by its last bits

Every checkpoint holds what its bits rest on. The number of processes is part of it only where it matters:
with ``train.sums=ordered`` 1, 2, 4 … processes have the same bits where their number divides the
micro-batches.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from congling.core.rundir import RunDirectory
from congling.core.text import printable
from congling.train.backends.ordered import shares_are_nodes
from congling.train.loop import Trainer
from congling.train.micro_batch import can_shrink
from congling.train.runs.retention import state_of

STATE_KEY = "arithmetic"
"""Name of these facts in a checkpoint's ``state.json``."""
Level = Literal["bits", "order", "none"]


@dataclass(frozen=True)
class Equality:
    """How far a run that goes on equals one that was never stopped."""

    level: Level
    changes: tuple[str, ...] = ()
    """What bits rest on and is another now, or is not known."""

    def __str__(self) -> str:
        if self.level == "bits":
            return "bit for bit as if it had never stopped"
        rows = "with the same rows in the same order" if self.level == "order" else "with other rows"
        return f"{rows}, rounded otherwise ({'; '.join(self.changes)})"


def facts(trainer: Trainer) -> dict[str, Any]:
    """What the bits of a step rest on, besides settings, inputs and weights."""
    backend, device = trainer.backend, trainer.backend.device
    cpu = device.type == "cpu"
    found: dict[str, Any] = {
        "sums": "ordered" if backend.ordered else "sequential",
        "device": torch.backends.cpu.get_cpu_capability() if cpu else torch.cuda.get_device_name(device),
        "precision": str(backend.dtype).removeprefix("torch."),
        "compiled": backend.compile,
        "torch": torch.__version__,
        "micro_batch": list(trainer.micro_batch),
    }
    if cpu:
        found["threads"] = torch.get_num_threads()
    cut = getattr(trainer.batches, "corpus", trainer.batches)  # whoever continues a corpus's rows
    free = backend.ordered and can_shrink(cut)
    free = free and shares_are_nodes(trainer.micro_batch[1], backend.world)
    return found if free else found | {"processes": backend.world}


def equality(then: Mapping[str, Any] | None, now: Mapping[str, Any], *, fixed_rows: bool) -> Equality:
    """Compare what a checkpoint rests on with what the run would rest on now.

    Args:
        then: facts of the checkpoint; None where an earlier program wrote none.
        now: facts of the trainer.
        fixed_rows: whether rows are a function of the step alone, and not of weights or processes.
    """
    if then is None:
        unknown = "the checkpoint does not say what its bits rest on"
        return Equality("order" if fixed_rows else "none", (unknown,))
    names = [*now, *(name for name in then if name not in now)]
    changed = [name for name in names if then.get(name) != now.get(name)]
    told = tuple(f"{printable(name)}: {_said(then.get(name))} → {_said(now.get(name))}" for name in changed)
    if not told:
        return Equality("bits")
    return Equality("order" if fixed_rows else "none", told)


def other_bits(trainer: Trainer) -> str | None:
    """What to say where a run begins on several processes with other bits than on one, and need not."""
    world, cut = trainer.backend.world, trainer.micro_batch[1]
    if not (trainer.backend.ordered and can_shrink(trainer.batches)) or shares_are_nodes(cut, world):
        return None
    return (
        f"{world} processes round otherwise than one: the same bits need 2, 4, 8 … of them and a multiple of "
        f"that as train.gradient_accumulation_steps, which is {cut}"
    )


def settle(trainer: Trainer, run: RunDirectory, start: int) -> Equality | None:
    """Decide in which order a run adds up, where its settings do not say.

    Returns:
        How far it equals one that was never stopped; None where it begins.

    A run goes on as it began: one of an earlier program in the order of the micro-batches.
    """
    known = state_of(run.checkpoint(start)).get(STATE_KEY)
    then = known if isinstance(known, dict) else None
    if trainer.config.sums is None:
        began = trainer.backend.device.type == "cpu" and not start
        trainer.backend.ordered = began if then is None else then.get("sums") == "ordered"
    if not start:
        return None
    return equality(then, facts(trainer), fixed_rows=can_shrink(trainer.batches))


def _said(value: Any) -> str:
    return "any" if value is None else printable(str(value))[:80]
