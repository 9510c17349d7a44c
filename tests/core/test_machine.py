"""What the system tells of this process."""

import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from congling.core import machine

PROGRAM = """
import time
time.sleep(0.7)
from congling.core import machine
before = time.monotonic() - machine.command_started()
machine.is_program = lambda: True
print(before, time.monotonic() - machine.command_started())
"""


def test_a_program_began_before_its_first_line_and_a_command_called_by_another_now():
    before = time.monotonic()
    said = subprocess.check_output([sys.executable, "-c", PROGRAM], text=True, timeout=60)
    called, started = map(float, said.split())
    assert called < 0.1
    assert 0.5 < started < time.monotonic() - before + 1.0  # some systems count in whole seconds


def test_a_clock_that_was_set_does_not_make_a_process_younger_than_its_work(monkeypatch):
    monkeypatch.setattr(machine, "is_program", lambda: True)
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: time.time() + 3600)
    age = time.monotonic() - machine.command_started()
    assert age * machine.cores() >= 0.99 * time.process_time() - 0.1
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: 0.0)
    assert time.monotonic() - machine.command_started() <= 8 * 86400


@pytest.mark.parametrize(("name", "file", "expected"), [
    ("congling.__main__", "/lib/congling/__main__.py", True), (None, "/venv/bin/congling", True),
    (None, "C:/venv/Scripts/congling.exe/__main__.py", True),
    ("pytest.__main__", "/lib/pytest/__main__.py", False),
    (None, "/home/me/congling/train.py", False), (None, None, False),
])  # fmt: skip
def test_a_program_is_told_from_a_library(monkeypatch, name, file, expected):
    spec = None if name is None else SimpleNamespace(name=name)
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=spec, __file__=file))
    assert machine.is_program() is expected
