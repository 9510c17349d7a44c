"""The program as a person calls it: in a process of its own, in an empty folder."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("congling")
SETTINGS = (
    "model.layers=1", "model.width=64", "train.steps=3", "train.context=32", "train.rows=2",
    "train.sample_tokens=4", "train.compile=off",
)  # fmt: skip
"""Make any training a matter of seconds."""
Called = subprocess.CompletedProcess[str]


@pytest.fixture
def call(tmp_path: Path) -> Callable[..., Called]:
    """Call ``congling`` with these arguments and return what it said."""

    def called(*arguments: str, **variables: str) -> Called:
        return subprocess.run(
            [str(PROGRAM), *arguments],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1", **variables},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    return called
