"""The processes that train together: who they are, and which of them is gone.

::

    each process ── a beat every second ──> the store of torchrun <── read by all the others

A process that is killed closes its connections, and the others' next exchange fails at once; one that is
stopped, or whose host has lost its power, answers nothing: its beats end. Either way every process that is
left says which one it was, and ends.
"""

import contextlib
import os
import re
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from congling.core import output
from congling.core.errors import UserError
from congling.core.units import show_seconds

BEAT = 1.0
"""Seconds between two signs of life."""
PATIENCE = 60.0
"""Seconds without a beat after which a process counts as gone, at most."""
ANSWER = 20.0
"""Seconds within which the store answers."""
LEFT = "left"
"""Last beat of a process that is done."""
ASKED = 10.0
"""Seconds within which the one that is gone is looked for after a failed exchange."""
_WORDS = re.compile(
    r"gloo|nccl|connection (closed|reset)|broken pipe|timed out|socket|watchdog|peer", re.IGNORECASE
)


@dataclass(frozen=True)
class Peer:
    """One process."""

    rank: int
    host: str
    process: int

    def __str__(self) -> str:
        return f"process {self.rank} (on {self.host}, process id {self.process})"

    def is_gone(self) -> bool | None:
        """Whether it has ended; None where it is on another host."""
        import psutil

        if self.host != socket.gethostname():
            return None
        try:
            return psutil.Process(self.process).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return None


class Peers:
    """The other processes of a group that was just joined, watched until :meth:`close`.

    Args:
        timeout: seconds after which an exchange gives up (``train.ddp_timeout``).
        end: called with the reason where a process is gone while this one may hang in an exchange.
    """

    def __init__(self, timeout: float, end: Callable[[str], None] | None = None) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.patience, self.end = min(PATIENCE, timeout), end or _end
        # A connection of its own: a wait of the main thread holds the lock of another.
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        wait = timedelta(seconds=min(timeout, ANSWER))
        store = dist.TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=wait)
        self._store: Any = dist.PrefixStore("congling", store)
        self._beats: dict[int, tuple[bytes, float]] = {}
        self._closing, self._failed = threading.Event(), threading.Event()
        self._store.set(f"peer/{self.rank}", f"{os.getpid()} {socket.gethostname()}")
        self._beat("0")
        dist.barrier()
        self.others = [self._peer(rank) for rank in range(self.world) if rank != self.rank]
        self._thread = threading.Thread(target=self._watch, name="peers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching, and say so: from here on processes end one by one."""
        self._closing.set()
        self._thread.join()
        with contextlib.suppress(RuntimeError):
            self._beat(LEFT)
        self._store = None

    def gone(self, seconds: float = ASKED) -> Peer | None:
        """Which process is gone, looked for so long; None where all seem to be there."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if found := next((peer for peer in self.others if peer.is_gone()), None):
                return found
            if found := self._silent(min(self.patience, 5 * BEAT), left_too=True):
                return found
            time.sleep(BEAT / 4)
        return None

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Turn an exchange that fails in the block into an error that names the process which is gone.

        Raises:
            UserError: a process is gone, or did not answer in time.
        """
        try:
            yield
        except RuntimeError as error:
            if not is_lost(error):
                raise
            self._failed.set()  # this process goes on beating while it looks: others look, too
            found = self.gone()
            if found is None:
                what = f"one of the {self.world} processes that train together did not answer in time"
                hint = "where evaluations take longer than that, raise train.ddp_timeout; else see what they"
                raise UserError(
                    what, value=str(error).split("\n")[0], hint=f"{hint} said last, and go on:\n  {again()}"
                ) from error
            what = f"{found}, one of {self.world} that train together, is gone"
            hint = f"see what it said last (no memory?); then go on from the newest checkpoint:\n  {again()}"
            raise UserError(what, hint=hint) from error

    def _peer(self, rank: int) -> Peer:
        process, host = self._store.get(f"peer/{rank}").decode().split(" ", 1)
        return Peer(rank, host, int(process))

    def _beat(self, text: str) -> None:
        self._store.set(f"beat/{self.rank}", text)

    def _silent(self, seconds: float, *, left_too: bool = False) -> Peer | None:
        """A process without a sign of life for so long; with ``left_too`` one that is done is one, too."""
        now = time.monotonic()
        for peer in self.others:
            try:
                beat = self._store.get(f"beat/{peer.rank}")
            except RuntimeError:  # the store itself is gone, with torchrun's process or the first of these
                return None
            if beat == LEFT.encode():
                if left_too:
                    return peer
                continue
            if self._beats.get(peer.rank, (b"", 0.0))[0] != beat:
                self._beats[peer.rank] = (beat, now)
            elif now - self._beats[peer.rank][1] > seconds:
                return peer
        return None

    def _watch(self) -> None:
        number = 0
        while not self._closing.wait(BEAT):
            number += 1
            with contextlib.suppress(RuntimeError):
                self._beat(str(number))
                if self._failed.is_set() or self._closing.is_set():
                    continue
                if (peer := self._silent(self.patience)) is not None:
                    self.end(
                        f"{peer} has given no sign of life for {show_seconds(self.patience)}; see what it "
                        f"said last, then go on from the newest checkpoint:\n  {again()}"
                    )
                    return


def is_lost(error: BaseException) -> bool:
    """Whether an error says that an exchange between processes failed."""
    kind = type(error).__name__
    return kind in ("DistBackendError", "DistNetworkError", "DistStoreError") or bool(
        _WORDS.search(str(error))
    )


def again() -> str:
    """The command that started these processes, to be run again."""
    hosts, each = os.environ.get("GROUP_WORLD_SIZE", "1"), os.environ.get("LOCAL_WORLD_SIZE", "1")
    program = (
        ["-m", "congling"] if "congling" in sys.argv[0].replace("\\", "/").split("/")[-2:] else sys.argv[:1]
    )
    options = [f"--nnodes={hosts}"] if hosts != "1" else []
    return shlex.join(["torchrun", *options, f"--nproc-per-node={each}", *program, *sys.argv[1:]])


def _end(reason: str) -> None:
    """Say the reason and end the process, whose main thread may hang in an exchange for ever."""
    output.discard_unfinished()
    print(f"congling: {reason}", file=sys.stderr, flush=True)
    os._exit(1)
