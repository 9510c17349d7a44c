"""Ctrl-C is answered soon, in one line, with nothing half-written; the second one at once."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from congling.core.errors import Interrupted
from congling.core.interrupt import StopAtOnce, abandoned, interruptible, stop_signals, stopping_said

PROGRAM = """
import sys, time
from congling import cli
from congling.core.output import replacing
from congling.data import vocabulary

def work(*arguments, **options):
    with replacing("out") as path:
        path.write_text("half")
        try:
            print("working", flush=True)
            time.sleep(60)
        finally:
            if "stubborn" in sys.argv[1]:
                print("cleaning", flush=True)
                time.sleep(60)

vocabulary.learn = work
sys.argv = ["congling", "tokenizer", "documents"]
cli.main()
"""


def started(directory, word="prompt"):
    program = PROGRAM.replace("sys.argv[1]", repr(word))
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_one_line_says_that_nothing_is_left_and_how_to_go_on(tmp_path, name):
    process = started(tmp_path)
    assert process.stdout.readline() == "working\n"
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    (line,) = [line for line in said.splitlines() if line]
    assert "nothing half-written" in line and "run the same command again" in line
    assert list(tmp_path.iterdir()) == []


def test_the_second_ends_at_once_and_still_leaves_nothing_half_written(tmp_path):
    process = started(tmp_path, "stubborn")
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaning\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "stopped at once" in said
    assert list(tmp_path.iterdir()) == []


def press(number=signal.SIGINT, after=0.2):
    threading.Timer(after, os.kill, (os.getpid(), number)).start()


def test_work_that_answers_no_signal_is_left_behind():
    began, released = time.monotonic(), threading.Event()
    press()
    with pytest.raises(KeyboardInterrupt):
        interruptible(released.wait, 30)
    assert time.monotonic() - began < 20
    assert abandoned()  # so that the program ends without waiting for it
    released.set()
    while abandoned() and time.monotonic() - began < 20:
        time.sleep(0.01)
    assert not abandoned()


def test_what_such_work_gives_and_raises_comes_through():
    assert interruptible(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        interruptible(divmod, 7, 0)
    assert interruptible(interruptible, divmod, 7, 2) == (3, 1)


def test_what_was_done_and_what_is_kept_are_said():
    said = r"stopped while reading; all is kept\. To go on, run the same command again"
    with pytest.raises(Interrupted, match=said), stopping_said("reading", "all is kept"):
        raise KeyboardInterrupt


def test_a_signal_that_somebody_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in stop_signals()
        with StopAtOnce():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.SIGHUP in stop_signals()
