"""Contenders in processes of their own, a few steps at a time by turns: noise hits all of them alike.

::

    this process                          contender's process
    Contender(workload)  ── starts ──▶    imports, builds, trains its first steps
                         ◀── ready ──     seconds since its start, parameters
    run(5)               ──── 5 ────▶     5 optimizer steps
                         ◀─ seconds ─     (blocked on its input in between: uses no processor)
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Literal, Self

import psutil
from pydantic import PositiveInt

from congling.core.config import Config, build
from congling.model.config import ModelConfig
from measuring import peak_memory, synchronize


class Workload(Config):
    """What a contender trains, and how."""

    who: Literal["congling", "transformers"]
    model: ModelConfig
    rows: PositiveInt
    warmup: PositiveInt = 3
    """First steps, not timed: allocation, and for compiled models the compilation."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    compile: bool = False
    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of matrix products; weights are fp32 (autocast)."""

    @property
    def name(self) -> str:
        """``"congling, AdamW, compiled, bf16"``."""
        optimizer = {"adamw": "AdamW", "muon": "Muon"}[self.optimizer]
        return f"{self.who}, {optimizer}, {'compiled' if self.compile else 'eager'}, {self.precision}"

    @property
    def tokens_per_step(self) -> int:
        """Input tokens of a step."""
        return self.rows * self.model.max_position_embeddings


class Contender:
    """A training process that advances on demand; a context manager, since it must be ended."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.ready: dict[str, float] = {}
        """Seconds from the start of the process to the end of its warm-up steps; its number of parameters."""

    def __enter__(self) -> Self:
        self._cache = tempfile.TemporaryDirectory(prefix="compile-cache-")
        self._errors = tempfile.TemporaryFile("w+")
        command = [
            sys.executable,
            str(Path(__file__).with_name("contenders.py")),
            self.workload.model_dump_json(),
        ]
        # An empty cache: compile time is what a person sees the first time.
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": self._cache.name}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )
        self.ready = self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._cache.cleanup()
        self._errors.close()

    def run(self, steps: int) -> dict[str, float]:
        """Advance by some steps; ``seconds`` they took, and ``peak_bytes``, the process's memory so far."""
        print(steps, file=self._input, flush=True)
        return self._answer()

    @property
    def _input(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        tail = self._errors.read()[-3000:]
        raise RuntimeError(f"{self.workload.name} ended early (exit {self._process.returncode}):\n{tail}")


class Pace:
    """The contender's end: called after every optimizer step, it lets the steps through that were asked for.

    Raises:
        SystemExit: nobody asks any more.
    """

    def __init__(self, workload: Workload, answers: IO[str], orders: IO[str]) -> None:
        self.workload, self.answers, self.orders = workload, answers, orders
        self.parameters = 0
        """To be set by the contender before its first step."""
        self._left, self._started = workload.warmup, 0.0

    def __call__(self) -> None:
        """One step is done."""
        self._left -= 1
        if self._left:
            return
        synchronize(self.workload.device)
        if self._started:
            facts = {
                "seconds": time.perf_counter() - self._started,
                "peak_bytes": peak_memory(self.workload.device),
            }
        else:
            born = psutil.Process().create_time()
            facts = {"seconds": time.time() - born, "parameters": self.parameters}
        print(json.dumps(facts), file=self.answers, flush=True)
        order = self.orders.readline()
        if not order:
            sys.exit(0)
        self._left, self._started = int(order), time.perf_counter()


def workload_from(text: str) -> Workload:
    """Read a workload from the command line of a contender."""
    return build(Workload, json.loads(text), where="workload")
