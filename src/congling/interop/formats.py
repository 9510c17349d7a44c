"""Every format by its name: what reads it and what writes it.

Readers give a ``ForeignModel``, writers take one and return notes for the person; see each format's file.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from congling.core.errors import UserError
from congling.core.progress import stage
from congling.interop import checkpoint_directory, torch_checkpoint
from congling.interop.detect import MODELS, Kind
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf
from congling.interop.gguf.calibrated import Calibration
from congling.interop.hf import model as hf
from congling.interop.llama2c import model as llama2c
from congling.interop.obstacles import Unrepresentable
from congling.interop.source import Source, source_of
from congling.interop.targets import TARGETS, Target, obstacles
from congling.interop.torch_state import Missing


def gguf_in(folder: Path) -> Path:
    """The one GGUF file in a folder for Ollama.

    Raises:
        UserError: there is none, or several.
    """
    found = sorted(folder.glob("*.gguf"))
    if len(found) != 1:
        raise UserError(
            "one GGUF file should be in this folder", where=folder, value=[file.name for file in found]
        )
    return found[0]


READERS: Mapping[Kind, Callable[[Path], ForeignModel]] = {
    "checkpoint": checkpoint_directory.read,
    "gguf": gguf.read,
    "hf": hf.read,
    "llama2c": llama2c.read,
    "ollama": lambda folder: gguf.read(gguf_in(folder)),
    "torch": torch_checkpoint.read,
}


@stage("reading the model")
def read_model(
    source: Path | Source, tokenizer: Path | None = None, given: Missing | None = None
) -> ForeignModel:
    """Open a model in any format; of a run, its checkpoint.

    ``tokenizer`` replaces the one that came with the model, or did not; ``given`` is what a checkpoint of
    torch does not say.

    Raises:
        UserError: it is no model, damaged, of an unknown kind, or has fewer ids than the tokenizer.
    """
    found = source_of(source).model
    path, kind = found.path, found.kind
    if kind not in READERS:
        what = f"a model is needed, and this is: {kind}"
        raise UserError(what, value=str(path), hint=f"one of: {', '.join(MODELS)}")
    if given is not None and given != Missing() and kind != "torch":
        what = "--heads, --rope-base, --context and --activation are for checkpoints of training scripts "
        what += "(.pt, .pth, .bin)"
        raise UserError(what, value=f"{path}: {kind}", hint="leave them out: the file says it")
    model = torch_checkpoint.read(path, given) if kind == "torch" else READERS[kind](path)
    if tokenizer is None:
        return model
    from congling.tokenizer.imported.read import read
    from congling.tokenizer.rows import within

    found, more = within(read(tokenizer), model.config.vocab_size, tokenizer)
    notes = [*(model.facts.get("notes") or ()), *more]
    return replace(model, tokenizer=found, facts={**model.facts, "notes": notes} if more else model.facts)


def write_model(
    model: ForeignModel,
    target: Target,
    path: Path,
    *,
    type: str = "F32",
    version: int = 0,
    overwrite: bool = False,
    calibration: Calibration | None = None,
) -> list[str]:
    """Write a model whole or not at all; returns notes on what had to be changed on the way.

    ``type`` is that of the weights (not for llama2.c), ``version`` llama2.c's, ``calibration`` for GGUF.

    Raises:
        UserError: the format cannot hold this model, tokenizer or type, or something is at ``path``.
    """
    try:
        return _written(model, target, path, type, version, overwrite, calibration)
    except Unrepresentable as error:
        raise _refused(error, model, target) from None


def _refused(error: Unrepresentable, model: ForeignModel, target: Target) -> UserError:
    """What helps a model that is there already: where it can go; and what a new one would need."""
    kind = None if model.tokenizer is None else model.tokenizer.kind
    fitting = [one for one in TARGETS if one != target and not obstacles(model.config, kind, one)]
    goes = f"as it is, it can go to {' or '.join(fitting)}; " if fitting else ""
    remedy = f"{error.obstacle.remedy}; " if error.obstacle.remedy else ""
    return UserError(error.obstacle.what, hint=f"{remedy}{goes}for a new model: {error.obstacle.nearest}")


def _written(
    model: ForeignModel,
    target: Target,
    path: Path,
    type: str,
    version: int,
    overwrite: bool,
    calibration: Calibration | None,
) -> list[str]:
    match target:
        case "gguf":
            return gguf.write(model, path, type, calibration=calibration, overwrite=overwrite)
        case "ollama":
            from congling.interop import ollama

            return ollama.write(model, path, type, calibration=calibration, overwrite=overwrite)
        case "hf":
            return hf.write(model, path, type, overwrite=overwrite)
        case "llama2c":
            return llama2c.write(model, path, version=version, overwrite=overwrite)
