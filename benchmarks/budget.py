"""Is a time budget kept beside other programs, and how much of its speed does a step keep there?

Speed: the same steps alone and beside one process that never rests, with threads that wait for one another
awake (OpenMP's default), asleep, and as a run chooses; in turns. Budgets: ``congling train`` in processes of
its own on generated text, alone, beside such a process, and beside one that comes and goes.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from congling.core import machine
from congling.core.units import seconds as seconds_of
from congling.data.batches import Batch
from congling.data.smallworld.config import SmallWorldConfig
from congling.data.smallworld.generator import generate
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.train.backends.single import Single
from congling.train.config import TrainConfig
from congling.train.loop import Trainer
from congling.train.objectives.next_token import next_token
from congling.train.waiting import Choice, threads
from measuring import Options, Spread
from reporting import Report, Table

ENDLESS = "while True: pass"
TURNS = {"full": 3, "quick": 2, "tiny": 1}
SECONDS = {"full": 8.0, "quick": 5.0, "tiny": 0.1}
"""Of steps in one turn."""
BUDGETS = {"full": ("3m", "3m", "3m"), "quick": ("1m",), "tiny": ()}
CHARACTERS = 1_500_000

Beside = Callable[[float], contextlib.AbstractContextManager[None]]
"""Given the budget, what runs beside the program."""


def run(options: Options) -> Report:
    """Two tables."""
    speeds, data = _speeds(options.effort)
    tables: list[Table] = [speeds]
    found: dict[str, Any] = {"tokens_per_second": data}
    if BUDGETS[options.effort]:
        budgets, found["budgets"] = _budgets(options.effort)
        tables.append(budgets)
    return Report(tables, found)


@contextlib.contextmanager
def busy(budget: float = 0.0, *, processes: int = 1) -> Iterator[None]:
    """Other programs that never rest."""
    others = [subprocess.Popen([sys.executable, "-c", ENDLESS]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@contextlib.contextmanager
def _meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Let ``work`` run in a thread until the block ends and its event is set."""
    end = threading.Event()
    thread = threading.Thread(target=work, args=(end,))
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def now_and_then(budget: float, *, every: float = 20.0) -> contextlib.AbstractContextManager[None]:
    """One that works and rests by turns."""

    def come_and_go(end: threading.Event) -> None:
        while not end.wait(every):
            with busy():
                if end.wait(every):
                    return

    return _meanwhile(come_and_go)


def from_the_middle_on(budget: float) -> contextlib.AbstractContextManager[None]:
    """One that starts when half of the budget is over."""

    def come(end: threading.Event) -> None:
        if not end.wait(budget / 2):
            with busy():
                end.wait()

    return _meanwhile(come)


SITUATIONS: dict[str, Beside] = {
    "alone": lambda budget: contextlib.nullcontext(),
    "beside a busy process": busy,
    "busy from the middle on": from_the_middle_on,
    "busy now and then": now_and_then,
}


def _speeds(effort: str) -> tuple[Table, dict[str, Any]]:
    """Tokens a second, by manner of waiting, alone and beside a busy process."""
    trainer, manners = _trainer(effort), ("awake", "asleep", "chosen")
    found: dict[str, list[float]] = {}
    _steps(trainer, 0.5, None)
    for _ in range(TURNS[effort]):
        for place, beside in (("alone", contextlib.nullcontext), ("busy", busy)):
            with beside():
                for manner in manners:
                    choice = Choice(threads(), skip=0) if manner == "chosen" else None
                    if choice is None:
                        threads().wait("asleep" if manner == "asleep" else "awake")
                    speed = _steps(trainer, SECONDS[effort], choice)
                    found.setdefault(f"{manner} {place}", []).append(speed)
    threads().wait("awake")
    rows, usual = [], Spread(tuple(found["awake alone"])).median
    for manner in manners:
        alone, beside_it = (Spread(tuple(found[f"{manner} {place}"])) for place in ("alone", "busy"))
        kept = f"{beside_it.median / usual:.0%}"
        rows.append((manner, alone.show(), f"{alone.median / usual:.0%}", beside_it.show(), kept))
    headings = ("threads wait", "alone, tokens/s", "of awake", "beside a busy process", "of awake alone")
    notes = [f"{torch.get_num_threads()} threads on {machine.cores()} processors, 1,024 tokens a step"]
    if not threads().switchable:
        notes.append("this process cannot choose: one thread, or a setting of OpenMP in the environment")
    return Table("Steps beside a process that never rests", headings, rows, notes), found


def _trainer(effort: str) -> Trainer:
    width, layers = (32, 1) if effort == "tiny" else (192, 4)
    config = TrainConfig(max_steps=10**6, max_length=128, per_device_train_batch_size=8, device="cpu")
    model = Transformer(
        FAMILIES["qwen3"](
            vocab_size=4600, max_position_embeddings=128, num_hidden_layers=layers, hidden_size=width
        )
    )
    model.initialise(0)

    def batches(step: int, rank: int, world: int) -> list[Batch]:
        tokens = np.random.default_rng(step).integers(0, 4600, (8, 129))
        return [Batch(tokens[:, :-1], tokens[:, 1:], count=8 * 128.0)]

    return Trainer(model, batches, next_token, config, Single(config), prefetch=0)


def _steps(trainer: Trainer, seconds: float, choice: Choice | None) -> float:
    """Tokens a second over so many seconds of steps."""
    begin, steps = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        trainer.train_step(trainer.batches(trainer.step, 0, 1))
        steps += 1
        if choice is not None:
            choice.take(time.perf_counter() - start)
    return steps * trainer.config.tokens_per_step / (time.perf_counter() - begin)


def _budgets(effort: str) -> tuple[Table, list[dict[str, Any]]]:
    """What budgets come to in each situation."""
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "book.txt"
        stories = generate(SmallWorldConfig(size=CHARACTERS, seed=0))
        text.write_text("\n\n".join(story.text for story in stories), encoding="utf-8")
        for situation in SITUATIONS:
            for number, budget in enumerate(BUDGETS[effort]):
                out = Path(folder) / f"{situation} {number}"
                found.append(one_budget(text, out, budget, situation))
    rows = [
        (
            one["situation"],
            one["budget"],
            f"{one['took']:.0f} s",
            f"{one['error']:+.1%}",
            f"{one['steps']:,} of {one['planned_steps']:,}",
            f"{one['last_rate']:.3f}",
            f"{one['bits']:.2f}",
        )
        for one in found
    ]
    headings = ("situation", "budget", "took", "error", "steps of planned", "last rate", "bits/character")
    notes = ["from the start of the process to its end; the last rate is the share of the peak"]
    return Table("Time budgets", headings, rows, notes), found


def one_budget(text: Path, out: Path, budget: str, situation: str, *extra: str) -> dict[str, Any]:
    """Run ``congling train`` once, and read off what came of it."""
    command = [sys.executable, "-m", "congling", "train", str(text), "--budget", budget, "--out", str(out)]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    wanted = seconds_of(budget)
    with SITUATIONS[situation](wanted):
        start = time.monotonic()
        done = subprocess.run(
            [*command, *extra], env=environment, capture_output=True, text=True, check=False
        )
        took = time.monotonic() - start
    if done.returncode:
        raise RuntimeError(f"{situation}: {done.stderr[-3000:]}")
    results = json.loads((out / "run" / "results.json").read_text(encoding="utf-8"))
    metrics = [json.loads(line) for line in (out / "run" / "metrics.jsonl").read_text().splitlines()]
    rates = [row["lr"] for row in metrics if "lr" in row]
    return {
        "situation": situation,
        "budget": budget,
        "took": took,
        "error": took / wanted - 1,
        "steps": results["budget"]["steps"],
        "planned_steps": results["budget"]["planned_steps"],
        "why": results["budget"]["why"],
        "last_rate": rates[-1] / max(rates),
        "bits": results["held_out"]["bits_per_character"],
        "said": done.stdout[-1500:],
    }
