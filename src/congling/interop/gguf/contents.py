"""What else than a model a GGUF file of llama.cpp's programs may hold, and what to do with it."""

import shlex

from congling.core.errors import UserError
from congling.interop.gguf.file import GGUFFile

_TRAINERS = {
    "train_model": ("train-text-from-scratch", "", "model", "model.gguf"),
    "finetune_lora": ("finetune", " --model-base BASE", "lora", "lora.gguf"),
}
"""By ``training.type``: the program, its further flag, what it writes besides checkpoints, such a name."""


def require_model(file: GGUFFile) -> None:
    """Raise for the files that people take for a model: checkpoints of the trainers, and vocabularies.

    Raises:
        UserError: it is one of them.
    """
    kind = file.fields.get("training.type")
    if kind is not None and kind.type == "string" and kind.value in _TRAINERS:
        program, more, what, name = _TRAINERS[kind.value]
        raise UserError(
            f"this is a checkpoint of {program}, to resume training from",
            where=file.path,
            hint=f"take the file that --{what}-out named, or write it: congling {program}{more} "
            f"--only-write-{what} --checkpoint-in {shlex.quote(str(file.path))} --{what}-out {name}",
        )
    if not file.tensors and "tokenizer.ggml.tokens" in file.fields:
        raise UserError(
            "this file holds a vocabulary and no weights",
            where=file.path,
            hint="it is for train-text-from-scratch --vocab-model; a model's file holds its vocabulary too",
        )
