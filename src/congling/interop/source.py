"""What a path leads to, asked once and passed to whoever opens it.

::

    runs/book/               made by congling train
    └── run/                 made by congling pretrain
        ├── BEST  LATEST     the name of a directory below
        ├── adapter/         where one was trained
        └── checkpoints/
            └── step-00000400/    model.safetensors  model.json  tokenizer/  MANIFEST.json
"""

from dataclasses import dataclass
from pathlib import Path

from congling.core import artifact, pointers
from congling.core.addresses import refuse_address
from congling.core.errors import UserError
from congling.interop import adapter_directory
from congling.interop.detect import ADAPTERS, Kind, kind_of


@dataclass(frozen=True)
class Source:
    """A model or an adapter on the disk."""

    path: Path
    """As it was named; of a run that trained an adapter, its adapter directory."""
    kind: Kind

    @property
    def is_adapter(self) -> bool:
        """Whether it belongs beside a base."""
        return self.kind in ADAPTERS

    @property
    def model(self) -> "Source":
        """Where the model itself is: of a run, the checkpoint it leads to.

        Raises:
            UserError: the run has none.
        """
        return Source(locate_checkpoint(self.path), "checkpoint") if self.kind == "run" else self


def source_of(path: "Path | str | Source") -> Source:
    """What ``path`` holds, by its content; one that is known already is handed back.

    Raises:
        UserError: there is nothing, it holds a pickle, or nothing that we know.
    """
    if isinstance(path, Source):
        return path
    refuse_address(path)
    adapter = adapter_directory.locate(path)
    return Source(Path(path), kind_of(path)) if adapter is None else Source(adapter, "adapter")


def locate_checkpoint(path: Path | str) -> Path:
    """The checkpoint directory that ``path`` is or leads to; of a run the best one, else the latest.

    A pointer that is lost or damaged is said on standard error, see :func:`congling.core.pointers.handed_on`.

    Raises:
        UserError: there is none, or the run names only checkpoints that are gone.
    """
    refuse_address(path)
    path = Path(path)
    if artifact.exists(path):
        return artifact.opened(path, "checkpoint").path
    runs = [run for run in (path, path / "run") if pointers.pointed(run) or pointers.checkpoints(run)]
    for run in runs:
        if (found := pointers.handed_on(run)) is not None:
            return found
    if runs:
        hint = "resume the run"
        raise UserError("the checkpoint this run names is gone", where=runs[0], hint=hint)
    state = "this directory holds no checkpoint (yet)" if path.is_dir() else "no such directory"
    hint = "name a checkpoint, a run, or the directory that `congling train` wrote"
    if (path / "config.json").is_file():
        hint = f"bring a Hugging Face folder here first: congling import {path} --out base"
    raise UserError(state, value=str(path), hint=hint)
