"""Runs that train an adapter: what their checkpoints hold, and what such a run hands on.

::

    runs/poet/
    ├── checkpoints/step-00000200/   adapter.safetensors  adapter.json  state/   (never the base)
    └── adapter/                     that of the best step: for generate, chat and convert
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from congling.core import artifact, pointers
from congling.core.errors import UserError
from congling.core.rundir import RunDirectory
from congling.interop.adapter_directory import DESCRIPTION, KIND, WEIGHTS, Base, write_files
from congling.train.runs.checkpoints import SaveModel
from congling.transform.lora import adapter_of

HANDED_ON = "adapter"
"""Name of the adapter directory in a run."""


def saver(base: Base, facts: Mapping[str, Any]) -> SaveModel:
    """What writes the adapter of a model into a checkpoint; ``facts`` go into its ``adapter.json``."""

    def save(model: Any, folder: Path) -> None:
        write_files(adapter_of(model, facts=facts), base, folder)

    return save


def hand_on(run: RunDirectory) -> Path:
    """Copy the adapter of the run's best checkpoint, else of the latest, to where people look for it.

    Raises:
        UserError: the checkpoint is damaged or gone.
    """
    place = pointers.handed_on(run.path)
    if place is None:
        raise UserError("the run has no checkpoint to take the adapter from", value=str(run.path))
    checkpoint = artifact.opened(place, "checkpoint", verify=True)
    target = run.path / HANDED_ON
    if artifact.exists(target) and artifact.opened(target, KIND).parents == {"run": checkpoint.fingerprint}:
        return target
    facts = {"step": checkpoint.fact("step")}
    with artifact.writing(target, KIND, parents={"run": checkpoint}, facts=facts, overwrite=True) as folder:
        for name in (WEIGHTS, DESCRIPTION):
            (folder / name).write_bytes((checkpoint.path / name).read_bytes())
    return target
