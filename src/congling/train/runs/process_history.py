"""How each process that trained into a directory began and ended; one that vanished is named by the next.

::

    events.jsonl     started ─ stopped ─ resumed ─ (nothing)      the last one vanished: killed, or no power
                     └ what the system counts of its kills for lack of memory, to compare with later
"""

import contextlib
from collections.abc import Iterator

from congling.core import machine, terminal
from congling.core.errors import Interrupted, UserError
from congling.core.output import warn
from congling.core.rundir import RunDirectory
from congling.core.units import plural, show_bytes
from congling.train.loop import Trainer
from congling.train.runs.arithmetic import Equality, other_bits

_BEGINNINGS, _ENDS = ("started", "resumed"), ("stopped", "failed", "finished")


@contextlib.contextmanager
def recorded(
    run: RunDirectory, trainer: Trainer, start: int, equality: Equality | None = None
) -> Iterator[None]:
    """Write how this process begins and ends, and say first where the one before vanished, and how far what
    follows equals a run that was never stopped."""
    if (lost := vanished(run)) is not None:
        run.event("vanished", what=lost)
        warn(lost)
    kills = machine.kills_for_memory()
    counted = {} if kills is None else {"memory_kills": kills, "boot": machine.boot()}
    told = {} if equality is None else {"equality": equality.level, "changes": list(equality.changes)}
    run.event("resumed" if start else "started", step=start, **told, **counted)
    if equality is not None:
        terminal.say(f"goes on after step {start}, {equality}")
    elif (note := other_bits(trainer)) is not None:
        terminal.say(note)
    try:
        yield
    except Interrupted:
        with contextlib.suppress(UserError):  # what stopped it says more than a disk that takes no more
            run.event("stopped", step=trainer.step)
        raise
    except BaseException as error:
        with contextlib.suppress(UserError):  # a full disk is perhaps what it failed of
            run.event("failed", step=trainer.step, reason=f"{type(error).__name__}: {error}".split("\n")[0])
        raise
    clock = {} if trainer.deadline is None else {"elapsed": round(trainer.deadline.elapsed(), 1)}
    run.event("finished", step=trainer.step, **clock)


def vanished(run: RunDirectory) -> str | None:
    """What is known of the last process that trained here, if it ended without a word."""
    last = None
    for row in run.log("events").rows():
        if row.get("event") in (*_BEGINNINGS, *_ENDS):
            last = row
    if last is None or last["event"] in _ENDS:
        return None
    text = "the process that trained here before vanished without a word (killed, or the power failed)"
    kills, before = machine.kills_for_memory(), last.get("memory_kills")
    if (
        kills is not None
        and isinstance(before, int)
        and last.get("boot") == machine.boot()
        and kills > before
    ):
        count = kills - before
        text += (
            f"; the system has killed {count} {plural(count, 'process')} for lack of memory since it began"
        )
    rows = [row for row in run.log("timing").rows() if isinstance(row.get("memory"), int)]
    if rows:
        text += f"; it held {show_bytes(rows[-1]['memory'])} at step {rows[-1].get('step')}"
        text += f" of {show_bytes(machine.memory_bytes())} here"
    return text
