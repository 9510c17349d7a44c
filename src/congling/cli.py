"""The command line: one verb per file in ``stages/``, found by name and imported only when it is called."""

import ast
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import typer
from typer.core import TyperGroup

from congling.core.errors import Interrupted, UserError

_STAGES = Path(__file__).parent / "stages"


class _Verbs(TyperGroup):
    """Lists the files of ``stages/`` as commands; their help line is the first line of their docstring."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = sorted(file.stem for file in _STAGES.glob("[a-z]*.py"))
        return [name.replace("_", "-") for name in names]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        file = _STAGES / f"{name.replace('-', '_')}.py"
        if not file.is_file():
            return None
        if ctx.resilient_parsing is False and _only_listing(ctx):
            return click.Command(name, short_help=_summary(file), help=_summary(file))
        return _built(name, file)


def _only_listing(ctx: click.Context) -> bool:
    """Whether the verbs are being listed for ``congling --help`` rather than run."""
    return not ctx.protected_args and not getattr(ctx, "_protected_args", None) and not ctx.args


def _built(name: str, file: Path) -> click.Command:
    """Turn a stage's ``command`` (or its ``commands`` by sub-verb) into a click command."""
    module: Any = import_module(f"congling.stages.{file.stem}")
    app = typer.Typer(help=_summary(file), pretty_exceptions_enable=False, no_args_is_help=True)
    if hasattr(module, "commands"):
        app.callback()(lambda: None)
        for sub, function in module.commands.items():
            app.command(sub, no_args_is_help=True)(function)
    else:
        app.command(name, no_args_is_help=True)(module.command)
    return typer.main.get_command(app)


def _summary(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n")[0]


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="congling 从零: train a small language model from scratch, and take it anywhere.",
)


@app.callback()
def _root() -> None:
    pass


def main() -> None:
    """Entry point of the ``congling`` program: errors a person can mend are one message, exit status 1."""
    try:
        app()
    except UserError as error:
        print(f"congling: {error}", file=sys.stderr)
        sys.exit(1)
    except (Interrupted, KeyboardInterrupt) as stopped:
        print(f"\n{stopped}".rstrip(), file=sys.stderr)
        sys.exit(130)
