"""Finding the model a person means: a checkpoint, a run, or the directory that ``congling train`` wrote.

::

    runs/book/               made by congling train
    └── run/                 made by congling pretrain
        ├── BEST  LATEST     the name of a directory below
        └── checkpoints/
            └── step-00000400/    model.safetensors  model.json  tokenizer/  MANIFEST.json
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from congling.core import artifact
from congling.core.artifact import Artifact
from congling.core.errors import UserError
from congling.model.checkpoint import load_model
from congling.model.transformer import Transformer
from congling.tokenizer import store
from congling.tokenizer.base import Tokenizer

_POINTERS = ("BEST", "LATEST")


@dataclass(frozen=True)
class Loaded:
    """A model ready to write, with its tokenizer and the checkpoint both came from."""

    model: Transformer
    tokenizer: Tokenizer
    checkpoint: Artifact

    @property
    def tuned_for_chat(self) -> bool:
        """Whether the model has learned the chat template, as the stage that trained it recorded."""
        return bool(self.checkpoint.facts.get("chat", False))


def locate_checkpoint(path: Path | str) -> Path:
    """The checkpoint directory that ``path`` is or leads to; of a run the best one, else the latest.

    Raises:
        UserError: there is none, or the run names only checkpoints that are gone.
    """
    path = Path(path)
    if artifact.exists(path):
        return artifact.opened(path, "checkpoint").path
    pointers = [run / name for run in (path, path / "run") for name in _POINTERS if (run / name).is_file()]
    for pointer in pointers:
        # Only the plain name counts: a pointer that came from elsewhere must not lead outside its run.
        name = Path(pointer.read_text(encoding="utf-8", errors="replace").strip()).name
        if name and artifact.exists(target := pointer.parent / "checkpoints" / name):
            return target
    if pointers:
        raise UserError("the checkpoint this run names is gone", where=pointers[0], hint="resume the run")
    state = "this directory holds no checkpoint (yet)" if path.is_dir() else "no such directory"
    hint = "name a checkpoint, a run, or the directory that `congling train` wrote"
    raise UserError(state, value=str(path), hint=hint)


def load_checkpoint(path: Path | str, device: torch.device | str | None = None) -> Loaded:
    """Open the model and tokenizer that ``path`` leads to (see ``locate_checkpoint``), checking the files.

    ``device`` is by default the first GPU, else the CPU.

    Raises:
        UserError: there is none, or it is damaged.
    """
    found = artifact.opened(locate_checkpoint(path), "checkpoint", verify=True)
    tokenizer = store.load(found.path / "tokenizer")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Loaded(load_model(found.path, device), tokenizer, found)
