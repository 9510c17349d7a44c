"""Chat templates made to take memory or time are rendered or refused, within a little of both."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support import template_bombs
from support.template_bombs import BOMBS

PROGRAM = Path(template_bombs.__file__)
SECONDS, MEMORY = 2.5, 64 * 2**20  # of the processor


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured by Linux's /proc")
def test_bombs_are_rendered_or_refused_within_limits() -> None:
    run = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True, check=False)
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(found) == len(BOMBS) >= 154, run.stderr[-2000:]
    harmful = [
        one
        for one in found
        if one["outcome"] not in ("used", "refused") or one["seconds"] > SECONDS or one["growth"] > MEMORY
    ]
    assert not harmful, harmful
    assert sum(one["outcome"] == "refused" for one in found) > 100
