"""A program in a terminal: keys go in, what it shows comes out."""

import os
import select
import sys
import time
from pathlib import Path

KEYS = {"left": "\x1b[D", "up": "\x1b[A", "back": "\x7f", "ctrl-c": "\x03", "ctrl-d": "\x04"}


class Terminal:
    """A child process with a terminal of its own, 80 columns wide."""

    def __init__(self, program: Path, *arguments: str) -> None:
        import pty

        environment = os.environ | {"TERM": "xterm", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, str(program), *arguments], environment)
        self.shown = ""
        self._bytes = b""

    def until(self, text: str, seconds: float = 60) -> str:
        """Wait for what it shows from here on to hold a text; returns all up to it."""
        end = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < end, f"{text!r} was not shown: {self.shown!r}"
            ready, _, _ = select.select([self.descriptor], [], [], 0.1)
            if ready:
                try:
                    self._bytes += os.read(self.descriptor, 4096)
                except OSError:  # the child has ended
                    assert text in self.shown, self.shown
                self.shown = self._bytes.decode(errors="ignore")
        before, _, rest = self.shown.partition(text)
        self.shown, self._bytes = rest, rest.encode()
        return before + text

    def type(self, *keys: str) -> None:
        """Type texts and named keys."""
        for key in keys:
            os.write(self.descriptor, KEYS.get(key, key).encode())
            time.sleep(0.02)

    def ended(self) -> int:
        """Wait for the program; its exit status."""
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.descriptor)  # not before, or the program is hung up on
        return os.waitstatus_to_exitcode(status)
