"""Help as plain text, in groups and with examples; without rich, which takes longer to load than to print.

::

    congling tokenizer DOCUMENTS [OVERRIDES]... [OPTIONS]
    …what it does…
    Arguments / Input / Settings / Sampling / Resuming / …             options, by what they are about
    Examples                                                       commands of the stage's docstring
"""

import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from congling.cli.verbs import GROUPS
from congling.core import manual
from congling.core.manual import PROGRAM

WIDEST, NARROWEST = 100, 40
COLUMN = 26
"""Widest left column; what is longer has its text on the next line."""
_GROUPS = {
    "Input": (
        "base data documents few_shot lora lora_scaled model_file recipe reward rows shards split start "
        "student template tokenizer"
    ),
    "Sampling": (
        "answers max_new_tokens min_p new_tokens prompt repetition_penalty seed stop system temperature "
        "top_k top_p"
    ),
    "Resuming": "force fresh longer resume",
    "Checks": "measure verify verify_text",
    "Output": "as_json out overwrite stream to type version yes",
}
"""Options by what they are about, by the names of their parameters; all others are settings of the verb."""
_TYPES = {int: "N", float: "X", Path: "PATH"}
"""What stands for a value in help; for anything else ``TEXT``."""
_ORDER = ("Arguments", "Input", "Settings", "Sampling", "Resuming", "Checks", "Output")


def of_program() -> str:
    """Help of the program itself: every verb in a line."""
    width = _width()
    rows = [("-h, --help", "Show this, or the help of a subcommand."), ("--version", "Show the version.")]
    parts = [
        "Usage: congling SUBCOMMAND …\n",
        _wrapped("congling 从零: train, fine-tune and export small language models.", width),
    ]
    groups = [*((title, list(verbs.items())) for title, verbs in GROUPS.items()), ("Options", rows)]
    parts += _tables(groups, width)
    first = ["congling train book.txt --budget 15m --out runs/book", "congling chat runs/book"]
    return "\n".join([*parts, "\nExamples", *(_command(line, width) for line in first)]) + "\n"


def of_verb(command: Any, context: Any, stage: Any) -> str:
    """Help of a verb: usage, sentences, options in groups, examples.

    Args:
        command: the parsed command or group.
        context: its context.
        stage: the module of the verb.
    """
    width, words = _width(), _words(context)
    path = " ".join(words)
    usage = " ".join(["Usage:", path, *_pieces(command, context)])
    parts = [_wrapped(usage, width, "       "), ""]
    below = hasattr(command, "commands")
    own = stage.__doc__ if len(words) == 2 else command.help
    parts.append("\n\n".join(_wrapped(text, width) for text in manual.sentences(own)))
    verbs = [(name, one.get_short_help_str(200)) for name, one in command.commands.items()] if below else []
    parts += _tables([*([("Verbs", verbs)] if below else []), *_grouped(command, context)], width)
    shown = [
        line for line in manual.examples(stage.__doc__) if len(words) == 2 or line.startswith(f"{path} ")
    ]
    if shown:
        parts += ["\nExamples", *(_command(line, width) for line in shown)]
    return "\n".join(parts) + "\n"


def _words(context: Any) -> list[str]:
    """The program, the verb, and the verb below it if there is one; however the program was started."""
    return [PROGRAM] if context.parent is None else [*_words(context.parent), context.info_name]


def _pieces(command: Any, context: Any) -> list[str]:
    """Arguments, then what stands for options or verbs."""
    shown = [_named(p) for p in command.get_params(context) if p.param_type_name == "argument"]
    return [*shown, "SUBCOMMAND …" if hasattr(command, "commands") else "[OPTIONS]"]


def _named(argument: Any) -> str:
    """An argument as it stands in the usage: in brackets where it may be left out."""
    name = argument.metavar or argument.name.upper() + ("" if argument.nargs == 1 else "...")
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _grouped(command: Any, context: Any) -> list[tuple[str, list[tuple[str, str]]]]:
    """Titles and rows, in a fixed order; help itself stands last."""
    title_of = {name: title for title, names in _GROUPS.items() for name in names.split()}
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        argument = parameter.param_type_name == "argument"
        left = _named(parameter).replace("[", "").replace("]", "") if argument else _option(parameter)
        title = "Arguments" if argument else title_of.get(parameter.name, "Settings")
        groups.setdefault(title, []).append((left, _meaning(parameter)))
    groups.setdefault("Output", []).append(("-h, --help", "Show this."))
    return [(title, groups[title]) for title in _ORDER if title in groups]


def _option(option: Any) -> str:
    """Names of an option, and what stands for its value.

    Written here, since the library's own way loads pydantic, which takes half of the time.
    """
    names = ", ".join(sorted(option.opts, key=len)) + "".join(f" / {name}" for name in option.secondary_opts)
    if option.is_flag:
        return names
    kind = option.type_descriptor
    inner = next(iter(get_args(kind.annotation)), kind.annotation) if not kind.choices else None
    shown = option.metavar or "|".join(map(str, kind.choices or ())) or _TYPES.get(inner, "TEXT")
    return f"{names} {shown}"


def _meaning(parameter: Any) -> str:
    """Its help, with what is allowed and what it is without."""
    low, high, default = (getattr(parameter, name, None) for name in ("min", "max", "default"))
    notes = [f"at least {low}"] if low is not None else []
    notes += [f"at most {high}"] if high is not None else []
    if parameter.required:
        notes.append("required")
    elif default is not None and default is not False and default not in ("", ()) and default is not list:
        notes.append(f"default: {'on' if default is True else default}")
    return f"{parameter.help or ''}" + (f" [{'; '.join(notes)}]" if notes else "")


def _tables(groups: Sequence[tuple[str, Sequence[tuple[str, str]]]], width: int) -> list[str]:
    """Groups under their titles; the right columns of all begin at the same place."""
    column = min(COLUMN, max(len(left) for _, rows in groups for left, _ in rows))
    return [f"\n{title}\n{_table(rows, width, column)}" for title, rows in groups]


def _table(rows: Sequence[tuple[str, str]], width: int, column: int) -> str:
    """Two columns; in a narrow window the right one is below the left."""
    rows = [(left, " ".join(right.split())) for left, right in rows]
    if width - column < NARROWEST:
        return "\n".join(f"  {left}\n{_wrapped(right, width, '      ', '      ')}" for left, right in rows)
    indent = " " * (column + 4)
    lines = []
    for left, right in rows:
        text = _wrapped(right, width, indent, indent)
        lines.append(f"  {left:<{column}}  {text.lstrip()}" if len(left) <= column else f"  {left}\n{text}")
    return "\n".join(line.rstrip() for line in lines)


def _command(line: str, width: int) -> str:
    """A command to copy: where it is longer than the window, in lines that the shell joins."""
    parts = textwrap.wrap(
        line, width - 4, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join("  " + part for part in " \\\n".join(parts).split("\n"))


def _wrapped(text: str, width: int, further: str = "", first: str = "") -> str:
    return textwrap.fill(
        text,
        width,
        subsequent_indent=further,
        initial_indent=first,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _width() -> int:
    """Columns of the window, within what reads well."""
    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size().columns))
