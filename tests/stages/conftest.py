"""The program as a person calls it: in a process of its own, in an empty folder."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for tuning_doubles

Called = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def program() -> Path:
    """The installed program."""
    return Path(sys.executable).with_name("congling")


@pytest.fixture
def call(program: Path, tmp_path: Path) -> Callable[..., Called]:
    """Call ``congling`` with these arguments and return what it said."""

    def called(*arguments: str, **variables: str) -> Called:
        return subprocess.run(
            [str(program), *arguments],
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
