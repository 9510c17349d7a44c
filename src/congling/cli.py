"""The command line: one verb per file in ``stages/``, found by name and imported only when it is called."""

import ast
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from congling import __version__
from congling.core import printing
from congling.core.errors import Interrupted, UserError

_STAGES = Path(__file__).parent / "stages"
_OPTIONS: dict[str, Any] = {"no_args_is_help": True}
_RAW = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def application(arguments: Sequence[str] | None) -> typer.Typer:
    """Build the program for one command line; ``None`` builds every verb in full.

    Only the verb that is called is imported: listing the others takes no more than the first line of their
    files, so that ``congling --help`` answers at once. Shell completion needs them all.
    """
    app = typer.Typer(
        pretty_exceptions_enable=False,
        help="congling 从零: train a small language model from scratch, and take it anywhere.",
        **_OPTIONS,
    )
    app.callback()(_program)
    called = None if arguments is None else next((word for word in arguments if not word.startswith("-")), "")
    for file in sorted(_STAGES.glob("[a-z]*.py")):
        name = file.stem.strip("_").replace("_", "-")  # import_.py: a verb that is a word of Python
        if called is None or called == name:
            _add(app, name, import_module(f"congling.stages.{file.stem}"))
        else:
            app.command(name, help=_summary(file))(_about)
    return app


def _about() -> None:
    pass


def _version(asked: bool) -> None:
    if asked:
        print(f"congling {__version__}")
        raise typer.Exit


def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def _add(app: typer.Typer, name: str, stage: Any) -> None:
    """Add a stage's ``command``, or its ``commands`` by sub-verb."""
    summary = (stage.__doc__ or "").split("\n")[0]
    if getattr(stage, "RAW", False):  # the stage reads its command line by rules of its own, --help too
        app.command(name, short_help=summary, context_settings=_RAW)(stage.command)
        return
    if not hasattr(stage, "commands"):
        kind = getattr(stage, "COMMAND", None)  # of a stage whose words need reading before they are parsed
        app.command(name, cls=kind, short_help=summary, **_OPTIONS)(stage.command)
        return
    group = typer.Typer(**_OPTIONS)
    for sub, function in stage.commands.items():
        group.command(sub, **_OPTIONS)(function)
    app.add_typer(group, name=name, help=summary)


def _summary(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n")[0]


def main() -> None:
    """Entry point of the ``congling`` program: errors a person can mend are one message, exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Chinese shows question marks
    if isinstance(sys.stdin, io.TextIOWrapper):
        with contextlib.suppress(io.UnsupportedOperation):  # something was read from it before
            sys.stdin.reconfigure(errors="surrogateescape")  # another encoding is read where it is used
    sys.exit(printing.finish(_status()))


def _status() -> int:
    """Run the command line; its exit status, after the one message that belongs to it."""
    try:
        application(None if "_CONGLING_COMPLETE" in os.environ else sys.argv[1:])()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except UserError as error:
        printing.say(f"congling: {error}")
        return 1
    except OSError as error:  # whatever nobody told better
        if (refused := printing.refused(error)) is not None:
            printing.say(f"congling: {refused}")
        return 1
    except (Interrupted, KeyboardInterrupt) as stopped:
        printing.say(f"\n{stopped}".rstrip() or "\nstopped")
        return 130
    return 0
