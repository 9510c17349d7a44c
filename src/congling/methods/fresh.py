"""``--fresh``: put what an earlier run left aside, under another name, and begin anew."""

import re
from pathlib import Path

from congling.core import artifact, machine, terminal
from congling.core.errors import UserError
from congling.core.lock import LOCK, only_writer
from congling.core.output import refuse_inputs

_FILES = ("config.toml", "plan.json", "recipe.toml", "metrics.jsonl")
_FOLDERS = ("documents", "tokenizer", "shards")
_LEFTOVER = re.compile(r"\.(documents|tokenizer|shards)\..+")


def put_aside(out: Path, *inputs: Path | str | None) -> Path | None:
    """Give what an earlier run left at ``out`` a free name beside it, and say so; nothing is removed.

    Args:
        out: the directory to be written.
        inputs: what is read meanwhile; it must not lie in there.

    Returns:
        Where it is now; None where there was nothing.

    Raises:
        UserError: what is there is no run, or in use, or cannot be moved.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    refuse_inputs(out, *inputs)
    if not is_run(out):
        raise UserError(
            "--fresh puts a run aside, and this is none", value=str(out), hint="choose another --out"
        )
    if out.resolve() in (here := Path.cwd().resolve(), *here.parents):
        raise UserError(
            "the current directory lies in what is to be put aside",
            value=str(out),
            hint="go to another directory first",
        )
    for place in (out, out / "run"):
        if place.is_dir():
            with only_writer(place):  # nobody works in it
                pass
    target = next(
        one
        for number in range(1, 10**6)
        if not (one := out.with_name(f"{out.name}.before-{number}")).exists()
    )
    try:
        out.rename(target)
    except OSError as error:
        raise UserError(
            f"the run cannot be put aside ({error.strerror})", value=str(out), hint="choose another --out"
        ) from None
    terminal.say(f"fresh: the run that was here is now {target}; remove it when nobody needs it")
    return target


def is_run(place: Path) -> bool:
    """Whether a directory holds what a run wrote, or the beginnings of it."""
    if not place.is_dir():
        return False
    if any((folder / name).is_file() for folder in (place, place / "run") for name in _FILES):
        return True
    if any(artifact.exists(place / name) for name in _FOLDERS):
        return True
    names = [one.name for one in place.iterdir()]
    return all(name == LOCK or _LEFTOVER.fullmatch(name) for name in names)


def begin_anew(
    out: Path, *inputs: Path | str | None, fresh: bool, resume: bool = False, longer: str | None = None
) -> None:
    """With ``fresh``, put an earlier run aside (:func:`put_aside`); of several processes the first does.

    Raises:
        UserError: the run is to begin anew and to go on, or it cannot be put aside.
    """
    if not fresh:
        return
    if resume or longer is not None:
        other = "--resume" if resume else "--longer"
        raise UserError("one begins anew, the other goes on", value=f"--fresh {other}", hint="leave out one")
    if machine.is_first_process():
        put_aside(out, *inputs)
