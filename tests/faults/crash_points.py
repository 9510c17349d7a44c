"""A tiny run that is ended at any of its file-system operations, or killed at any moment, and gone on with.

``python crash_points.py ROOT`` tries every operation and says which of them, if any, left another run behind
than the one that nobody disturbed. Each try is a process of its own, forked before torch computes anything.

    --every N     only each N-th operation, and all of the last checkpoint
    --twice N     also N runs that are ended twice, at random operations
    --kills N     also N random SIGKILLs
    --longer      of a finished run that is made longer
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from congling.core.config import Config
from congling.core.rundir import RunDirectory
from congling.methods.continuing import continued
from congling.model.checkpoint import save_model
from congling.train.config import TrainConfig
from congling.train.runs.longer import finish
from congling.train.runs.train import RunParts, train
from support.training_doubles import settings, trainer

STEPS, MORE = 8, "4steps"
LOOKS = {2: 3.0, 4: 2.0, 6: 2.5, 8: 1.5, 10: 1.7, 12: 1.0}
"""Held-out losses by step: the best moves, stays where it is for a while, and moves again."""
ENDED = 9
"""Exit status of a process that ended at its crash point."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink")


class Everything(Config):
    """All that determines the run."""

    train: TrainConfig


def run(out: Path, longer: str | None = None) -> None:
    """Begin, or go on to the end: held-out losses, samples, an average, an adapter of nothing."""
    config = Everything(
        train=settings(
            max_steps=STEPS,
            eval_steps=2,
            sample_steps=3,
            save_steps=3,
            save_total_limit=1,
            ema_decay=0.9,
            schedule={"kind": "wsd", "warmup_ratio": 0.1, "decay_ratio": 0.5},
        )
    )
    config = continued(config, RunDirectory(out), longer)
    one = trainer(config.train)
    parts = RunParts(
        config,
        evaluate=lambda model: {"loss": LOOKS[one.step]},
        sample=lambda model: [{"prompt": "天", "text": str(one.step)}],
        save_model=save_model,
    )
    train(one, out, parts)
    finish(RunDirectory(out))


class Ends:
    """Counts the operations of this process on files below ``out``; ends it without a word at one of them."""

    def __init__(self, out: Path, at: int | None) -> None:
        self.out, self.at, self.trace = str(out), at, list[tuple[str, str]]()
        sys.addaudithook(self._audit)
        self._fsync, os.fsync = os.fsync, self._synced

    def operation(self, name: str, path: object) -> None:
        """One operation is about to happen."""
        text = str(path)
        self.trace.append((name, os.path.relpath(text, self.out) if Path(text).is_absolute() else text))
        if self.at is not None and len(self.trace) > self.at:
            os._exit(ENDED)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, bytes)) and flags & WRITES and os.fsdecode(path).startswith(self.out):
                self.operation("open", os.fsdecode(path))
        elif event in EVENTS:
            path = arguments[1] if event == "os.rename" else arguments[0]
            if isinstance(path, int):
                path = Path(f"/proc/self/fd/{path}").readlink()
            text = os.fsdecode(path)
            if not Path(text).is_absolute() or text.startswith(self.out):
                self.operation(event, text)

    def _synced(self, descriptor: int) -> None:
        self.operation("fsync", Path(f"/proc/self/fd/{descriptor}").readlink())
        self._fsync(descriptor)


def forked(work: Callable[[], None]) -> int:
    """Start a process that does the work; gives its number. It exits with 0, or with 1 and a traceback."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status, errors = 1, os.dup(2)
    try:
        torch.set_num_threads(1)
        for quiet in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), quiet)
        work()
        status = 0
    except BaseException:
        os.dup2(errors, 2)
        traceback.print_exc()
    os._exit(status)


def status_of(child: int) -> int:
    """Wait for a process; its exit status, or the negative number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def traced(out: Path, longer: str | None, record: Path) -> list[tuple[str, str]]:
    """Run without disturbance, and list all operations."""

    def work() -> None:
        ends = Ends(out, None)
        run(out, longer)
        trace = list(ends.trace)
        record.write_text(json.dumps(trace))

    assert status_of(forked(work)) == 0, "the run fails by itself"
    return [(name, path) for name, path in json.loads(record.read_text())]


def left(out: Path) -> dict[str, Any]:
    """Everything that must not depend on what happened on the way: all files, pointers and their content."""
    found: dict[str, Any] = {}
    for file in sorted(one for one in out.rglob("*") if one.is_file()):
        name = file.relative_to(out).as_posix()
        if file.name in ("timing.jsonl", "events.jsonl", "log.txt", ".lock"):
            continue
        content = file.read_bytes()
        found[name] = json.loads(content)["files"] if file.name == "MANIFEST.json" else content
    return found


def last_events(out: Path) -> str:
    """What the history says last."""
    return json.loads((out / "events.jsonl").read_text().splitlines()[-1])["event"]


class Trials:
    """Runs that are disturbed, one after another, and compared with one that was not."""

    def __init__(self, root: Path, longer: bool) -> None:
        self.root, self.longer = root, MORE if longer else None
        root.mkdir(parents=True, exist_ok=True)
        if longer:
            assert status_of(forked(lambda: run(root / "first"))) == 0
        self.trace = traced(self._fresh("alone"), self.longer, root / "trace.json")
        self.wanted = left(root / "alone")
        self.different: list[dict[str, Any]] = []

    def _fresh(self, name: str) -> Path:
        out = self.root / name
        shutil.rmtree(out, ignore_errors=True)
        if self.longer is not None:
            shutil.copytree(self.root / "first", out)
        return out

    def ended_at(self, *points: int) -> None:
        """End a run at an operation, what goes on with it at another, and so on; then let it be."""
        out = self._fresh("ended")

        def work(at: int | None) -> None:
            Ends(out, at)
            run(out, self.longer)

        for at in points:
            if self._over(out):
                break
            status = status_of(forked(lambda at=at: work(at)))
            assert status in (0, ENDED), f"ended at {points}: status {status}"
        self._goes_on(out, {"points": points, "at": self.trace[points[0]]})

    def killed(self, draw: random.Random, seconds: float, most: int) -> int:
        """Kill a run at random moments, as often as it has not come to its end; gives how often."""
        out, kills = self._fresh("killed"), 0
        while kills < most and not self._over(out):
            child = forked(lambda: run(out, self.longer))
            time.sleep(draw.random() * seconds)
            os.kill(child, signal.SIGKILL)
            if status_of(child) != -signal.SIGKILL:
                break
            kills += 1
        self._goes_on(out, {"kills": kills})
        return kills

    def _over(self, out: Path) -> bool:
        """Whether the command came to its end, after which it would make the run longer once more."""
        record = out / "longer.json"
        return self.longer is not None and record.is_file() and json.loads(record.read_text())[-1]["done"]

    def _goes_on(self, out: Path, what: dict[str, Any]) -> None:
        status = 0 if self._over(out) else status_of(forked(lambda: run(out, self.longer)))
        found = left(out)
        both = found.keys() | self.wanted.keys()
        names = sorted(name for name in both if found.get(name) != self.wanted.get(name))
        if status or names or last_events(out) != "finished":
            self.different.append(what | {"status": status, "files": names})


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--twice", type=int, default=0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longer", action="store_true")
    asked = parser.parse_args()
    began, draw = time.monotonic(), random.Random(asked.seed)
    trials = Trials(asked.root.resolve(), asked.longer)
    alone = time.monotonic()
    status_of(forked(lambda: run(trials._fresh("timed"), trials.longer)))
    alone = time.monotonic() - alone
    last = max(i for i, (name, path) in enumerate(trials.trace) if name == "os.rename" and "step-" in path)
    points = [
        i
        for i in range(len(trials.trace))
        if i % asked.every == asked.seed % asked.every or (i >= last and not asked.longer)
    ]
    for point in points:
        trials.ended_at(point)
    for _ in range(asked.twice):
        trials.ended_at(*(draw.randrange(len(trials.trace)) for _ in range(2)))
    kills = 0
    while kills < asked.kills:
        kills += trials.killed(draw, alone, min(3, asked.kills - kills))
    result = {
        "operations": len(trials.trace),
        "tried": len(points),
        "twice": asked.twice,
        "kills": kills,
        "different": trials.different,
        "trace": trials.trace,
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
