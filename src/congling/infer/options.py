"""Options that the verbs share which write with a model: which one, and the adapters on it."""

from pathlib import Path
from typing import Annotated

import typer

from congling.core.errors import UserError

ModelArgument = Annotated[
    Path | None, typer.Argument(help="A checkpoint, a run, what `congling train` wrote, or a GGUF file.")
]
ModelOption = Annotated[Path | None, typer.Option("--model", "-m", help="The same, as an option.")]
Lora = Annotated[list[str] | None, typer.Option(help="An adapter; repeatable.")]
LoraScaled = Annotated[
    list[str] | None,
    typer.Option(metavar="FILE STRENGTH", help="An adapter and how strongly it acts; repeatable."),
]


def one_model(argument: Path | None, option: Path | None, verb: str) -> Path:
    """The model, named in one of the two ways.

    Raises:
        UserError: it is named in both, or in none.
    """
    found = argument or option
    if found is None or (argument and option):
        raise UserError("one model is needed", hint=f"congling {verb} MODEL, or --model MODEL")
    return found
