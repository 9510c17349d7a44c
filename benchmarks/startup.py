"""How long a person waits for help and completion: processor time of whole processes."""

import os
import subprocess
import sys

from congling.cli.verbs import VERBS
from measuring import Options, Spread
from reporting import Report, Table

REPETITIONS = {"full": 9, "quick": 3, "tiny": 1}
COMPLETIONS = (["tok"], ["train", "book.txt", "train.optim"], ["sft", "base", "--"])
"""Unfinished words, as the shell hands them on."""


def run(options: Options) -> Report:
    """Ask the program for its help and that of every verb, then for completions."""
    table = Table("Start", ("what", "processor time, ms"))
    verbs = list(VERBS)[:3] if options.effort == "tiny" else list(VERBS)
    asked = [(["--help"], {}), *(([verb, "--help"], {}) for verb in verbs)]
    asked += [(words, {"_CONGLING_COMPLETE": "1"}) for words in COMPLETIONS]
    data = {}
    for words, variables in asked:
        found = Spread(tuple(_milliseconds(words, variables) for _ in range(REPETITIONS[options.effort])))
        name = " ".join(words) + (" ⇥" if variables else "")
        table.rows.append((name, found.show("{:.0f}")))
        data[name] = found.values
    table.notes.append("User and system time of the process, the interpreter's start included.")
    return Report([table], {"milliseconds": data})


def _milliseconds(words: list[str], variables: dict[str, str]) -> float:
    """Processor time of one process that ends by itself."""
    before = os.times()
    command = [sys.executable, "-m", "congling", *words]
    subprocess.run(command, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    return 1000 * spent
