"""Going on from the newest whole checkpoint as if nothing had happened."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from congling.core import artifact, leftovers, pointers
from congling.core.artifact import Artifact
from congling.core.config import Config
from congling.core.disk import Refused, writing_to
from congling.core.errors import UserError
from congling.core.numbers import finite, whole
from congling.core.output import warn
from congling.core.rundir import LOGS, RunDirectory
from congling.train.loop import SkippedBatches, Trainer
from congling.train.micro_batch import can_shrink, shrink
from congling.train.runs import retention
from congling.train.runs import settings as recorded
from congling.train.runs.checkpoints import AVERAGE, BATCHES, WEIGHTS, Stateful, tidy, trainable_parameters
from congling.train.runs.longer import Longer


def resume(
    trainer: Trainer,
    run: RunDirectory,
    parents: Mapping[str, Artifact],
    *,
    write: bool = True,
    config: Config | None = None,
    rows: Sequence[Longer] = (),
) -> int:
    """Continue from the newest checkpoint that is whole; returns its step, 0 where there is none yet.

    A damaged one is reported, set aside and the one before is used. Logs are cut back to where the
    checkpoint was, and the pointers name what they would after it was written. ``write`` is false for all
    but the first of several processes, which leave the directory alone. ``config`` is what determines the
    run, and ``rows`` are how it was made longer.

    Raises:
        UserError: all checkpoints are damaged, or they belong to other parents or another ``config``.
    """
    found = pointers.checkpoints(run.path)
    for path in found:
        try:
            checkpoint = artifact.opened(path, "checkpoint", verify=True)
        except UserError as error:
            if write:
                _set_aside(run, path, error)
            continue
        for name, parent in parents.items():
            if checkpoint.parents.get(name) != parent.fingerprint:
                raise UserError(
                    f"this run was made from other {name}",
                    where=path,
                    value=str(parent.path),
                    hint=f"give the {name} it was started with, or choose another --out",
                )
        then = retention.state_of(path).get(recorded.STATE_KEY)
        if config is not None and isinstance(then, dict):
            recorded.require_as_recorded(run, path, then, config, rows)
        with _fitting(path):
            _restore(trainer, run, path, write)
        if write:
            tidy(trainer, run)
        return trainer.step
    if found:
        raise UserError(
            "no checkpoint of this run is whole", where=run.path, hint="remove the directory and start again"
        )
    if write:
        for name in LOGS:
            run.log(name).truncate(0)
    return 0


def _restore(trainer: Trainer, run: RunDirectory, path: Path, write: bool) -> None:
    values = _values(path / "state" / "state.json")
    learnt, state = trainable_parameters(trainer.model), path / "state"
    if trainer.ema is not None:
        kept = state / AVERAGE
        average = load_file(kept if kept.is_file() else path / "model.safetensors")
        for name, value in trainer.ema.average.items():
            value.copy_(average[name])
    kept = state / WEIGHTS
    weights = load_file(kept if kept.is_file() else path / "model.safetensors")
    if learnt is None:
        trainer.model.load_state_dict(weights)
    else:
        for name, parameter in learnt.items():
            parameter.data.copy_(weights[name])
    moments = load_file(path / "state" / "optimizer.safetensors")
    for optimizer in trainer.optimizers:
        optimizer.load(moments)
    if isinstance(trainer.batches, Stateful):
        remembered = load_file(state / BATCHES) if (state / BATCHES).is_file() else {}
        trainer.batches.load(remembered, int(values["step"]))
    trainer.step, trainer.tokens, trainer.best = int(values["step"]), float(values["tokens"]), values["best"]
    _restore_micro_batch(trainer, values.get("micro_batch"))
    trainer.rollbacks = int(values.get("rollbacks", 0))
    trainer.skipped = tuple(SkippedBatches(**one) for one in values.get("skipped_batches", ()))
    if trainer.best is not None and not artifact.exists(run.checkpoint(int(trainer.best["step"]))):
        trainer.best = None  # removed for a better one that was damaged since: the next best counts again
    if trainer.deadline is not None:
        kept = values.get("deadline")
        trainer.deadline.restore(kept if isinstance(kept, dict) else {}, trainer.step)
    if write:
        _cut_back(run, values)


@contextlib.contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """Within the block, tensors that are no state of this run are one error."""
    try:
        yield
    except (torch.OutOfMemoryError, UserError):
        raise
    except (KeyError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        if "alloc" in str(error):  # memory that is not there: nothing is wrong with the file
            raise
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UserError(
            "this checkpoint does not fit the run: it belongs to another, or was edited",
            where=path,
            value=reason,
            hint="restore it, or remove it to resume from the one before",
        ) from error


def _values(file: Path) -> dict[str, Any]:
    """Content of ``state.json``, where it is what :func:`save` writes.

    Raises:
        UserError: it is something else.
    """
    try:
        values = json.loads(file.read_bytes())
        logs, best = values["logs"], values["best"]
        numbers = [values["step"], *logs.values(), *([] if best is None else [best["step"]])]
        sound = None not in [whole(one) for one in numbers] and finite(values["tokens"]) is not None
        sound = sound and all(finite(one) is not None for one in (best or {}).values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound, values = False, {}
    if not sound:
        raise UserError("the state of the run cannot be read: it is damaged or was edited", where=file)
    return values


def _cut_back(run: RunDirectory, values: Mapping[str, Any]) -> None:
    """Cut logs back to where the checkpoint was; a log is no state, so a run goes on without its rows."""
    hashes = values.get("log_hashes")
    for name in LOGS:
        size = int(values["logs"].get(name, 0))
        try:
            run.log(name).truncate(size)
        except Refused:
            raise
        except UserError as error:
            told = str(error)
        else:
            known = hashes.get(name) if isinstance(hashes, dict) else None
            if known in (None, run.log(name).fingerprint(size)):
                continue
            told = f"{run.log(name).path} was changed, or damaged, since the checkpoint was written"
        warn(f"{told}; the weights are not touched by it, and the run goes on")
        run.event("damaged log", log=name, reason=told)


def _restore_micro_batch(trainer: Trainer, kept: Sequence[int] | None) -> None:
    """Cut batches as small as before, where memory had run out: others would be rounded otherwise."""
    rows, accumulation = trainer.micro_batch if kept is None else map(int, kept)
    same = rows * accumulation == trainer.micro_batch[0] * trainer.micro_batch[1]
    if same and rows < trainer.micro_batch[0] and can_shrink(trainer.batches):
        shrink(trainer, rows, accumulation)


def _set_aside(run: RunDirectory, path: Path, error: UserError) -> None:
    aside = path.with_name(path.name + ".damaged")
    with writing_to(run.path):
        leftovers.remove(aside)
        path.rename(aside)
    run.event("damaged checkpoint", checkpoint=path.name, reason=str(error))
    warn(f"{error}\n  {path.name} is damaged and set aside; going on from the one before")
