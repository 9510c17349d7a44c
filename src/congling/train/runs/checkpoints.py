"""Checkpoints, and resuming from one as if nothing had happened.

::

    step-00000400/
    ├── model.safetensors  model.json     the model: averaged weights where there is an average
    ├── tokenizer/
    ├── state/optimizer.safetensors       moments
    ├── state/weights.safetensors         the weights in training, where the model is not just these
    ├── state/batches.safetensors         answers being learnt from, where the model wrote them itself
    ├── state/average.safetensors         their average, where there is one and it is not the model
    ├── state/state.json                  step, tokens, best loss, lengths and hashes of the logs,
    │                                     what its bits rest on
    └── MANIFEST.json                     SHA-256 of all that

Of a model whose base is frozen (an adapter is trained) the trained parameters alone are kept; the model
is then whatever ``save_model`` writes. Data order and dropout are functions of the step, so the step is
all there is to say about them.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from safetensors.torch import save_file
from torch import Tensor, nn

from congling.core import artifact
from congling.core.artifact import Artifact
from congling.core.config import Config
from congling.core.errors import UserError
from congling.core.rundir import LOGS, RunDirectory
from congling.core.text import write_text
from congling.train.loop import Trainer
from congling.train.runs import arithmetic, retention
from congling.train.runs import settings as recorded
from congling.transform.fake import in_training

WEIGHTS, AVERAGE, BATCHES = "weights.safetensors", "average.safetensors", "batches.safetensors"


@runtime_checkable
class Stateful(Protocol):
    """Batches that are no function of the step alone, such as answers that the model wrote some steps ago."""

    def tensors(self) -> dict[str, Tensor]:
        """All state, by name; empty where there is none at this step."""
        ...

    def load(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Restore the state; nothing where there was none."""
        ...


SaveModel = Callable[[Any, Path], None]
"""Writes ``model.safetensors`` (all of ``state_dict()``) and a description into a directory; what it likes
where only a part of the model is learnt."""


def save(
    trainer: Trainer,
    run: RunDirectory,
    save_model: SaveModel,
    *,
    tokenizer: Path | None,
    parents: Mapping[str, Artifact],
    facts: Mapping[str, Any] | None = None,
    config: Config | None = None,
) -> Path:
    """Write the current step's checkpoint, let the pointers name theirs, remove old ones.

    Where the disk is full it is tried again as ``run`` has it; what is removed goes when all else is on the
    disk. ``config`` is what determines the run; a checkpoint is gone on from with the same alone.

    Raises:
        UserError: it cannot be written.
    """
    plain = RunDirectory(run.path)
    settings = None if config is None else recorded.settings_of(config)
    target = run.retry(
        lambda: _write(
            trainer, plain, save_model, tokenizer=tokenizer, parents=parents, facts=facts, settings=settings
        )
    )
    tidy(trainer, run)
    return target


def _write(
    trainer: Trainer,
    run: RunDirectory,
    save_model: SaveModel,
    *,
    tokenizer: Path | None,
    parents: Mapping[str, Artifact],
    facts: Mapping[str, Any] | None,
    settings: Mapping[str, Any] | None,
) -> Path:
    target = run.checkpoint(trainer.step)
    known: dict[str, Any] = {"step": trainer.step, "steps": trainer.steps, "tokens": float(trainer.tokens)}
    known |= facts or {}
    if settings is not None:
        known[recorded.STATE_KEY] = recorded.fingerprint(settings)
    with artifact.writing(target, "checkpoint", parents=parents, facts=known, overwrite=True) as folder:
        with trainer.evaluated_model() as model:
            save_model(model, folder)
        if tokenizer is not None:
            if not tokenizer.is_dir():  # a base that was still being trained may remove its checkpoint
                hint = "restore it, and run the same command again"
                raise UserError("the tokenizer of the base is gone", value=str(tokenizer), hint=hint)
            artifact.copy(artifact.opened(tokenizer, "tokenizer"), folder / "tokenizer")
        state = folder / "state"
        state.mkdir()
        moments = {
            name: value for optimizer in trainer.optimizers for name, value in optimizer.tensors().items()
        }
        save_file(_portable(moments), state / "optimizer.safetensors")
        learnt = trainable_parameters(trainer.model)
        apart = learnt is not None or hasattr(trainer.model, "scalar_head") or in_training(trainer.model)
        if trainer.ema is not None or apart:
            save_file(_portable(learnt or trainer.model.state_dict()), state / WEIGHTS)
        if trainer.ema is not None and apart:
            save_file(_portable(trainer.ema.average), state / AVERAGE)
        if isinstance(trainer.batches, Stateful) and (remembered := trainer.batches.tensors()):
            save_file(_portable(remembered), state / BATCHES)
        values = {
            "step": trainer.step,
            "tokens": float(trainer.tokens),
            "best": trainer.best,
            "micro_batch": trainer.micro_batch,
            arithmetic.STATE_KEY: arithmetic.facts(trainer),
            "rollbacks": trainer.rollbacks,
            "skipped_batches": [asdict(one) for one in trainer.skipped],
            "logs": (logs := {name: run.log(name).size() for name in LOGS}),
            "log_hashes": {name: run.log(name).fingerprint(size) for name, size in logs.items()},
        } | ({} if settings is None else {recorded.STATE_KEY: settings})
        if trainer.deadline is not None:
            values["deadline"] = trainer.deadline.state()
        write_text(state / "state.json", json.dumps(values, indent=1) + "\n")
    return target


def trainable_parameters(model: nn.Module) -> dict[str, Tensor] | None:
    """The parameters that are learnt, where a part of the model is frozen; None where all of it is learnt."""
    parameters = dict(model.named_parameters())
    learnt = {name: one for name, one in parameters.items() if one.requires_grad}
    return None if len(learnt) == len(parameters) else dict(learnt)


def tidy(trainer: Trainer, run: RunDirectory) -> None:
    """Let pointers and kept checkpoints be those of the step just saved, or gone on from."""
    best = None if trainer.best is None else int(trainer.best["step"])
    retention.point(run, step=trainer.step, best=best, decay_start=trainer.decay_start)
    retention.prune(run, keep=trainer.config.save_total_limit, best=best)


def _portable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
