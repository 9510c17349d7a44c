"""What the shell asks for when Tab is pressed: subcommands, options, their values, and keys of recipes.

::

    _CONGLING_COMPLETE=1 congling train book.txt train.optim     the last word is to be completed
    train.optimizer.kind=⇥"adamw"  …                             answers, a line each, with what they are

The scripts of ``core/shells.py`` ask in this way; where no answer comes, they offer files.
"""

import contextlib
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, Literal, get_args, get_origin

from congling.cli.verbs import VERBS, module_of
from congling.core.shells import VARIABLE

__all__ = ["VARIABLE", "answer", "answers", "keys_of"]
Answer = tuple[str, str]
"""What may stand there, and what it is."""
_KEYS = {
    **dict.fromkeys(("train", "plan", "pretrain"), ("", "congling.plan.recipe", "Recipe")),
    "distill": ("", "congling.methods.recipes", "DistillRecipe"),
    "sft": ("", "congling.methods.recipes", "SFTRecipe"),
    "dpo": ("", "congling.methods.recipes", "PreferenceRecipe"),
    "reward": ("", "congling.methods.recipes", "RewardRecipe"),
    "grpo": ("", "congling.methods.recipes", "GRPORecipe"),
    "ppo": ("", "congling.methods.recipes", "PPORecipe"),
    "tokenizer": ("tokenizer.", "congling.tokenizer.config", "TokenizerConfig"),
    "data make": ("data.", "congling.data.config", "DataConfig"),
    "data inspect": ("data.", "congling.data.config", "DataConfig"),
}
"""Verbs that take settings: what stands before their keys, and where the class of them is."""


def answer(words: Sequence[str]) -> None:
    """Print what may stand in place of the last word; nothing where that cannot be told."""
    with contextlib.suppress(Exception):  # a person who presses Tab wants no traceback
        for value, what in answers(words):
            print(f"{value}\t{' '.join(what.split())}")


def answers(words: Sequence[str]) -> list[Answer]:
    """What may stand in place of the last of ``words`` (those after ``congling``)."""
    *before, start = words or [""]
    verb = next((word for word in before if not word.startswith("-")), None)
    if verb is None:
        found = [*VERBS.items(), ("--help", "Show help"), ("--version", "Show the version")]
        return _beginning(start, found)
    if verb not in VERBS:
        return []
    stage = import_module(module_of(verb))
    if getattr(stage, "RAW", False):
        return _beginning(start, _raw_options(stage))
    return _beginning(start, _of_verb(verb, before, start))


def _beginning(start: str, found: Sequence[Answer]) -> list[Answer]:
    """Those that begin with ``start``; options only where one is begun."""
    return [one for one in found if one[0].startswith(start) and (start[:1] == "-" or one[0][:1] != "-")]


def _raw_options(stage: Any) -> list[Answer]:
    from congling.llamacpp_trainers.arguments import switches

    return [(name, switch.help) for _, switch in switches(stage.OPTIONS) for name in switch.names]


def _of_verb(verb: str, before: Sequence[str], start: str) -> list[Answer]:
    """Verbs below it, options, values of the option before, settings."""
    import typer

    from congling.cli import application

    command: Any = typer.main.get_command(application(before)).commands[verb]  # type: ignore[attr-defined]
    path = verb
    if hasattr(command, "commands"):
        below = next((word for word in before[before.index(verb) + 1 :] if word in command.commands), None)
        if below is None:
            return [(name, one.get_short_help_str(80)) for name, one in command.commands.items()]
        command, path = command.commands[below], f"{verb} {below}"
    options = [p for p in command.params if p.param_type_name == "option"]
    asked = next((p for p in options if before[-1] in (*p.opts, *p.secondary_opts) and not p.is_flag), None)
    if asked is not None:
        return [(value, "") for value in asked.type_descriptor.choices or ()]
    if start.startswith("-"):
        named = [(name, p.help or "") for p in options for name in (*p.opts, *p.secondary_opts)]
        return [*named, ("--help", "Show help")]
    if start and path in _KEYS:
        return list(_settings(path, start))
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    return [(value, "") for p in arguments for value in p.type_descriptor.choices or ()]


def _settings(path: str, start: str) -> Iterator[Answer]:
    """Keys of a verb's settings, a table at a time; behind the ``=`` of one, its values."""
    prefix, module, name = _KEYS[path]
    keys = list(keys_of(getattr(import_module(module), name), prefix))
    table = start.rpartition(".")[0]
    tables = dict.fromkeys(key.partition(".")[0] for key, *_ in keys if "." in key)
    if not table:
        yield from ((f"{one}.", "table of settings") for one in tables)
    for key, kinds, default in keys:
        if key.startswith(start) and (table or "." not in key):
            yield f"{key}=", default
        if start.startswith(f"{key}="):
            values = dict.fromkeys(value for kind in kinds for value in _values(kind))
            yield from ((f"{key}={value}", "") for value in values)


def keys_of(kind: Any, prefix: str = "") -> Iterator[tuple[str, list[Any], str]]:
    """Dotted key, types and default of everything that a configuration class holds.

    Where one of several tables may stand, a key is named once, with the types it has in each.
    """
    from congling.core.config import models_in

    found: dict[str, tuple[list[Any], str]] = {}
    for model in models_in(kind):
        for name, field in model.model_fields.items():
            inner = _table_of(name, field.annotation)
            if inner is None:
                fresh = [(f"{prefix}{name}", [field.annotation], _shown(field))]
            else:
                fresh = list(keys_of(inner, f"{prefix}{name}."))
            for key, kinds, default in fresh:
                found.setdefault(key, ([], default))[0].extend(kinds)
    for key, (kinds, default) in found.items():
        yield key, kinds, default


def _table_of(name: str, annotation: Any) -> Any:
    """What is a table of its own; ``[train]`` is a plain one in recipes, which may leave it open."""
    from congling.core.config import models_in

    if name == "train" and get_origin(annotation) is dict:
        from congling.train.config import TrainConfig

        return TrainConfig
    return annotation if models_in(annotation) else None


def _values(annotation: Any) -> list[str]:
    if annotation is bool:
        return ["true", "false"]
    if get_origin(annotation) is Literal:
        return [str(one) for one in get_args(annotation)]
    return [value for part in get_args(annotation) for value in _values(part)]


def _shown(field: Any) -> str:
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    return "" if default is None else f"default {default!r}"
