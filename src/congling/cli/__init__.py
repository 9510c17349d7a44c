"""The command line: one file a subcommand in ``stages/``, imported only when it is called.

::

    words ─ which verb? ─ import its stage ─ parse ─ stage ─ what a person can mend is one message, status 1
              └ verbs.py        └ usage.py: what its help says        completion.py: what the shell asks
"""

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from congling import __version__
from congling.cli import completion, usage
from congling.cli.verbs import VERBS, module_of
from congling.core import document, interrupt, printing, progress, terminal
from congling.core.errors import Interrupted, UserError
from congling.core.manual import PROGRAM
from congling.core.renamed import OPTIONS

_PLAIN: dict[str, Any] = {"rich_markup_mode": None, "add_completion": False}
_RAW = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
_HELP = {"help_option_names": ["-h", "--help"]}


class _Program(TyperGroup):
    """The program itself, with help of its own: an option of the library's would load pydantic."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show help where it is asked for, else leave the words to the library."""
        if args and args[0] in _HELP["help_option_names"]:
            print(usage.of_program(), end="")
            ctx.exit()
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write what ``congling --help`` shows."""
        formatter.write(usage.of_program())


def application(arguments: Sequence[str] | None = None) -> typer.Typer:
    """Build the program for one command line; ``None`` builds every verb in full.

    Only the verb that is called is imported; of the others, names are enough.
    """
    app = typer.Typer(
        cls=_Program, no_args_is_help=True, add_help_option=False, **_PLAIN, pretty_exceptions_enable=False
    )
    app.callback()(_program)
    called = None if arguments is None else next((word for word in arguments if not word.startswith("-")), "")
    for name, line in VERBS.items():
        if called is None or called == name:
            _add(app, name, import_module(module_of(name)))
        else:
            app.command(name, help=line)(_about)
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
    if getattr(stage, "RAW", False):  # the stage reads its command line by rules of its own, --help too
        app.command(name, help=VERBS[name], context_settings=_RAW)(stage.command)
        return
    alone = getattr(stage, "ALONE", False)
    options: dict[str, Any] = {"no_args_is_help": not alone, "context_settings": _HELP}
    if not hasattr(stage, "commands"):
        kind = getattr(stage, "COMMAND", TyperCommand)  # of a stage whose words need reading before parsing
        app.command(name, cls=_helped(kind, stage), help=VERBS[name], **options)(stage.command)
        return
    group = typer.Typer(cls=_helped(TyperGroup, stage), **options, **_PLAIN)
    for sub, function in stage.commands.items():
        group.command(sub, cls=_helped(TyperCommand, stage), **options)(function)
    app.add_typer(group, name=name, help=VERBS[name])


def _helped(kind: Any, stage: Any) -> Any:
    """A kind of command with the help of its stage, which prints one document alone where it is asked to."""

    talks = getattr(stage, "TALKS", False)

    class Verb(kind):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            formatter.write(usage.of_verb(self, ctx, stage))

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if len(args) == 1 and args[0] in _HELP["help_option_names"]:  # at once, as of the program
                print(ctx.get_help())
                ctx.exit()
            renamed = OPTIONS.get(str(ctx.info_name), {})
            for word in args:
                if (name := word.partition("=")[0]) in renamed:
                    hint = f"write {renamed[name]}"
                    raise UserError("this option has another name now", value=name, hint=hint)
            return super().parse_args(ctx, args)

        def invoke(self, ctx: Any) -> Any:
            if hasattr(self, "commands"):
                return super().invoke(ctx)
            label = "" if talks else f"{PROGRAM} {ctx.info_name}"
            with document.only_document(bool(ctx.params.get("as_json"))), progress.stage(label, ends=False):
                try:
                    return super().invoke(ctx)
                except KeyboardInterrupt:  # which typer ends without a word
                    raise Interrupted(interrupt.said()) from None

    return Verb


def main() -> None:
    """Entry point of the ``congling`` program: errors a person can mend are one message, exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Chinese shows question marks
    if isinstance(sys.stdin, io.TextIOWrapper):
        with contextlib.suppress(io.UnsupportedOperation):  # something was read from it before
            sys.stdin.reconfigure(errors="surrogateescape")  # another encoding is read where it is used
    if not all(map(str.isascii, sys.argv)):  # what was typed in GBK is made whole once, here
        from congling.data.encoding import arguments

        sys.argv[1:] = arguments(sys.argv[1:])
    if completion.VARIABLE in os.environ:
        completion.answer(sys.argv[1:])
        return
    with interrupt.StopAtOnce(), terminal.heard():
        ended = printing.finish(_status(sys.argv[1:]))
    if interrupt.abandoned():  # the interpreter cannot end around what still runs
        os._exit(ended)
    sys.exit(ended)


def _status(arguments: Sequence[str]) -> int:
    """Run a command line; its exit status, after the one message that belongs to it."""
    try:
        application(arguments)(arguments, prog_name=PROGRAM)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except UserError as error:
        printing.say(f"congling: {error}")
        return 1
    except (MemoryError, RuntimeError, OSError) as error:  # whatever nobody told better
        return _told(error)
    except (Interrupted, KeyboardInterrupt) as stopped:
        printing.say(f"\n{stopped}".rstrip() or f"\n{interrupt.said()}")
        return interrupt.STATUS
    return 0


def _told(error: Exception) -> int:
    """Say what a system or a library refused; the exit status. What nobody can mend is raised again."""
    from congling.core import out_of_memory

    if out_of_memory.is_out_of_memory(error):
        printing.say(f"congling: {out_of_memory.explained(error)}")
    elif not isinstance(error, OSError):
        raise error
    elif (refused := printing.refused(error)) is not None:
        printing.say(f"congling: {refused}")
    return 1
