"""What the system tells of this process."""

import subprocess
import sys
import time

import psutil

from congling.core import machine

PROGRAM = """
import time
time.sleep(0.7)
import psutil

from congling.core import machine
print(time.monotonic() - machine.process_started())
"""


def test_a_process_knows_when_it_began_before_its_first_line():
    before = time.monotonic()
    said = subprocess.check_output([sys.executable, "-c", PROGRAM], text=True, timeout=60)
    assert 0.5 < float(said) < time.monotonic() - before + 1.0  # some systems count in whole seconds


def test_a_clock_that_was_set_does_not_make_a_process_younger_than_its_work(monkeypatch):
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: time.time() + 3600)
    age = time.monotonic() - machine.process_started()
    assert age * machine.cores() >= 0.99 * time.process_time() - 0.1
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: 0.0)
    assert time.monotonic() - machine.process_started() <= 8 * 86400
