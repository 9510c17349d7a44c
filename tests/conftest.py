"""Shared by all tests: one thread a process, and where the real corpora are."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import pytest
from hypothesis import settings

# No deadlines: a busy machine is no bug. CI tries the same examples every time.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Folder of real corpora named by CONGLING_CORPORA; a test that needs it is skipped without it."""
    folder = os.environ.get("CONGLING_CORPORA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("CONGLING_CORPORA names no folder of real corpora")
    return Path(folder)
