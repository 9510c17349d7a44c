"""GGUF files opened by llama.cpp in a child process, since a wrong one ends the whole process."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

_PROGRAM = """
import json, sys
import numpy as np
from congling.core.errors import UserError
from congling.interop.engines.llama_cpp import LlamaCpp
files, ids, begin, count, context = json.load(sys.stdin)
for name, path in files.items():
    found = {"name": name}
    try:
        with LlamaCpp(path, context=context) as engine:
            np.save(path + ".npy", engine.logits(ids))
            found["text"] = engine.greedy(ids[:begin], count)
    except UserError as error:
        found["refused"] = str(error)
    print(json.dumps(found), flush=True)
"""


class Seen(NamedTuple):
    """What llama.cpp made of a file."""

    logits: np.ndarray | None
    """(T, V); None: it refused the file."""
    text: list[int]
    refused: str = ""


def opened_in_a_child(
    files: Mapping[str, Path], ids: Sequence[int], begin: int, count: int, context: int | None = None
) -> dict[str, Seen]:
    """Logits of ``ids`` and ``count`` greedy tokens behind the first ``begin`` of them, by name of the file;
    a name that is missing ended the child.
    """
    given = [{name: str(path) for name, path in files.items()}, list(ids), begin, count, context or len(ids)]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"GGML_NO_BACKTRACE": "1", "OMP_NUM_THREADS": "1"},
    )
    found: dict[str, Seen] = {}
    for line in done.stdout.splitlines():
        told = json.loads(line)
        refused = told.get("refused", "")
        logits = None if refused else np.load(f"{files[told['name']]}.npy")
        found[told["name"]] = Seen(logits, told.get("text", []), refused)
    if not found:
        raise AssertionError(done.stderr[-2000:])
    return found
