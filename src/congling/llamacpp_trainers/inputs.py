"""Whether the files that a former trainer needs are there, before anything that takes seconds: no torch."""

from pathlib import Path

from congling.core import files
from congling.core.errors import UserError
from congling.llamacpp_trainers.adapter_options import FinetuneOptions
from congling.llamacpp_trainers.options import ScratchOptions, TrainerOptions

_VOCABULARIES = "--vocab-model takes a GGUF file, a tokenizer directory or a sentencepiece .model"


def require(options: TrainerOptions) -> None:
    """Check that there is what the options name, as far as this run reads it.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    only_writes = False
    if isinstance(options, FinetuneOptions):
        if not options.model_base:
            raise UserError("the base model is missing", hint="--model-base names a GGUF file")
        _readable(options.model_base, "the base model", "--model-base names a GGUF file")
        only_writes = options.only_write_lora
    elif isinstance(options, ScratchOptions):
        if "vocab_model" in options.given or not _is_there(options.checkpoint_in):
            _readable(options.vocab_model, "the vocabulary", _VOCABULARIES, directory=True)
        only_writes = options.only_write_model
    if only_writes:
        if not _is_there(options.checkpoint_in):
            hint = "--checkpoint-in names what to write from"
            raise UserError("there is no checkpoint", value=options.checkpoint_in, hint=hint)
    else:
        _readable(options.train_data, "the training text", "--train-data names it")


def _is_there(path: str) -> bool:
    return bool(path) and Path(path).exists()


def _readable(path: str, what: str, hint: str, *, directory: bool = False) -> None:
    try:
        if directory and Path(path).is_dir():
            next(Path(path).iterdir(), None)
        else:
            with files.opened(path) as file:
                file.read(1)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        why = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {what} ({why})", value=path, hint=hint) from None
