"""Options and arguments that verbs share."""

from pathlib import Path
from typing import Annotated

import typer

Base = Annotated[Path, typer.Argument(help="A GGUF file, a run, or a checkpoint.")]
Settings = Annotated[
    list[str] | None,
    typer.Argument(help="A recipe (.toml), values like adapter.r=8, and further data files."),
]
Data = Annotated[list[str] | None, typer.Option(help="Rows (JSON, CSV …); repeatable.")]
RewardNames = Annotated[
    list[str] | None,
    typer.Option(
        "--reward", help="exact, smallworld, file.py:function or a reward run; repeatable, each =weight."
    ),
]
Out = Annotated[Path, typer.Option(help="The run directory to write, or to resume.")]
Resume = Annotated[bool, typer.Option("--resume", help="Fail unless there is a checkpoint to resume from.")]
Force = Annotated[bool, typer.Option(help="Train even though a check found an error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead, and nothing else.")]
Longer = Annotated[
    str | None,
    typer.Option(
        metavar="TIME|STEPS",
        help="Let a run that is there end later, as one longer run would have: by 30m, or by 2000steps.",
    ),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Begin anew; an earlier run in --out is kept under another name.")
]
