"""The log of a run: everything that commands which wrote into it said on the terminal, with times.

::

    2026-11-30T20:15:03Z $ congling sft runs/book --data rows.jsonl --out runs/poet
    2026-11-30T20:15:06Z 1,980 rows, 20 of them held out
    …

It only grows, to a bound; no fingerprint and no manifest knows of it, and a run goes on without it.
"""

import contextlib
import os
import shlex
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from congling.core.text import encoded

LARGEST = 2_000_000
"""Bytes; beyond, the older half is forgotten."""


class RunLog:
    """Appends lines to a file; where that fails, nothing happens: a full disk has worse consequences."""

    NAME = "log.txt"

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, lines: Iterable[tuple[float, str]]) -> None:
        """Append lines, each with its time (seconds since 1970)."""
        text = "".join(f"{_stamp(when)} {line}\n" for when, line in lines)
        if not text:
            return
        with contextlib.suppress(OSError):
            with self.path.open("ab") as stream:
                stream.write(encoded(text, self.path))
                size = stream.tell()
            if size > LARGEST:
                self._halve(size)

    def _halve(self, size: int) -> None:
        with self.path.open("rb") as stream:
            stream.seek(size - LARGEST // 2)
            rest = stream.read().partition(b"\n")[2]
        temporary = self.path.with_name(f".{self.path.name}.partial-{os.getpid()}")
        temporary.write_bytes(b"(older lines were removed)\n" + rest)
        temporary.replace(self.path)


def command_line(words: Sequence[str]) -> str:
    """The line that a command begins with."""
    name = Path(words[0]).name if words else ""
    return "$ " + shlex.join(["congling" if name == "__main__.py" else name, *words[1:]])


def _stamp(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
