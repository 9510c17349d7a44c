"""Opening files in a program of its own, which is measured and started again when it dies."""

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.mutations import mutate
from support.victims import reseal

SECONDS, MEMORY = 1.0, 64 * 2**20
"""Most that opening a file may take: of the processor, and beyond the file's size."""
SLOW = {"template": 2.5}
"""More seconds for what runs a program of its own until its allowance is used up."""


class Program:
    """The program that opens files, started again when it dies."""

    def __init__(self, folder: Path) -> None:
        self.errors = folder / "errors"
        self.process: subprocess.Popen[str] | None = None
        self.warm: set[str] = set()

    def ask(self, kind: str, path: Path, *, whole: bool = False) -> dict[str, Any]:
        """How opening one file ended."""
        if self.process is None:
            command = [sys.executable, str(Path(__file__).parent / "hostile_program.py")]
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors.open("w"),
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"kind": kind, "path": str(path), "whole": whole}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        message = f"exit status {self.process.returncode}\n{self.errors.read_text()[-2000:]}"
        self.process, self.warm = None, set()
        return {"outcome": "died", "message": message, "seconds": 0.0, "growth": 0}

    def close(self) -> None:
        """End it."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait()


@dataclass(frozen=True)
class Opener:
    """Files of one kind, opened by the program."""

    program: Program
    kind: str
    whole: Path

    def open(self, path: Path) -> dict[str, Any]:
        """How opening one file ended; a program just started opens the whole file first."""
        if self.kind not in self.program.warm:
            answer = self.program.ask(self.kind, self.whole, whole=True)
            assert answer["outcome"] == "used", answer["message"]
            self.program.warm.add(self.kind)
        return self.program.ask(self.kind, path)


def complaint(answer: dict[str, Any], size: int, kind: str = "") -> str | None:
    """What is wrong with how a file was dealt with."""
    if answer["outcome"] not in ("used", "refused"):
        return answer["message"]
    if answer["outcome"] == "refused" and not answer["message"].strip():
        return "refused without a word"
    if answer["seconds"] > SLOW.get(kind, SECONDS):
        return f"took {answer['seconds']:.1f} s: {answer['message']}"
    if answer["growth"] > size + MEMORY:
        return f"took {answer['growth'] >> 20} MiB: {answer['message']}"
    return None


def size_of(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def mutant_of(whole: Path, target: Path, draw: random.Random) -> None:
    """Write a mutant of a file, or of one file of a folder, to ``target``."""
    if whole.is_file():
        target.write_bytes(mutate(whole.name, whole.read_bytes(), draw))
        return
    shutil.copytree(whole, target)
    files = sorted(
        file for file in target.rglob("*") if file.is_file() and file.suffix not in (".md", ".jinja")
    )
    file = draw.choice(files)
    if draw.random() < 0.03:
        file.unlink()
    else:
        file.write_bytes(mutate(file.name, file.read_bytes(), draw))
    if file.name != "MANIFEST.json" and draw.random() < 0.9:
        reseal(target)
