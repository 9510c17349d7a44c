"""The end of a program whose output goes nowhere: a full disk behind ``>``, a closed pipe, a terminal gone.

Python writes what is printed when a buffer is full, or at the very end; by then nothing of ours would catch
what fails, and a traceback would be all that a person sees.
"""

import contextlib
import os
import sys
from typing import Any

from congling.core.errors import UserError
from congling.core.text import printable


def refused(error: OSError) -> UserError | None:
    """The error for what the system refused; None where a reader of what is printed has gone, which is no
    error.
    """
    from congling.core.disk import refusal  # takes a moment to import, and is hardly ever needed

    return None if isinstance(error, BrokenPipeError) else refusal(error)


def finish(status: int) -> int:
    """Write out what waits; the exit status, which says it where that fails."""
    failed = _unflushed(sys.stdout)
    if failed is not None:
        told = refused(failed)
        _mute(sys.stdout)
        if not status and told is not None:
            say(f"congling: {told}")
            status = 1
    if _unflushed(sys.stderr) is not None:
        _mute(sys.stderr)
    return status


def say(text: str) -> None:
    """Tell a person on standard error, if anyone is there."""
    with contextlib.suppress(OSError, ValueError):
        print(printable(text), file=sys.stderr, flush=True)


def _unflushed(stream: Any) -> OSError | None:
    """Why a stream cannot be written out; None where it can."""
    if stream is None:
        return None
    try:
        stream.flush()
    except OSError as error:
        return error
    except ValueError:  # closed
        return None
    return None


def _mute(stream: Any) -> None:
    """Let what waits in a stream vanish."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()
