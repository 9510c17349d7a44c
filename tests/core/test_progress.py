"""Whatever works in silence says so: what it is, how much of it is done, and how long it takes."""

import io
import sys
import threading
import time

import pytest

from congling.core import progress, terminal


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr(progress, "_INTERVAL", 0.005)


def on_screen(monkeypatch):
    """A terminal; within a test, since pytest puts its own stream there before each."""
    found = Screen()
    monkeypatch.setattr(sys, "stderr", found)
    monkeypatch.setenv("TERM", "xterm")
    return found


def until(said, timeout=20.0):
    """Wait for a thread that speaks; a busy machine takes its time."""
    end = time.monotonic() + timeout
    while not said() and time.monotonic() < end:
        time.sleep(0.005)
    return said()


@pytest.mark.parametrize(("patience", "shown"), [(0.0, True), (60.0, False)])
def test_what_takes_long_is_counted(monkeypatch, capsys, patience, shown):
    monkeypatch.setattr(progress, "PATIENCE", patience)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as good as a terminal
    assert list(progress.track(range(7), "writing", total=7, unit="tensors")) == list(range(7))
    assert ("7 of 7 tensors" in capsys.readouterr().err) == shown


def test_a_library_is_silent_where_nobody_looks(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    assert list(progress.track("abc", "reading")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_a_program_says_it_in_whole_lines_where_there_is_no_terminal(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with terminal.heard(), progress.stage("learning a vocabulary") as current:
        assert until(lambda: current.said)
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("learning a vocabulary: ") and "\x1b" not in line for line in lines)
    assert lines[-1].startswith("learning a vocabulary: took ")
    assert len(lines) <= 3  # once, and again only after ten seconds


def test_a_terminal_shows_one_line_and_takes_it_away(monkeypatch):
    screen = on_screen(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with progress.stage("reading", total=4) as current:
        current.done = 1
        assert until(lambda: "reading: 25%" in screen.getvalue())
        current.done = 3
        assert until(lambda: "reading: 75%" in screen.getvalue())
    assert "left" in screen.getvalue()
    assert "\n" not in screen.getvalue() and screen.getvalue().endswith("\r\x1b[K")


def test_the_innermost_stage_is_shown(monkeypatch):
    screen = on_screen(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with progress.stage("outside"), progress.stage("inside"):
        assert until(lambda: "inside: " in screen.getvalue())
    shown = screen.getvalue()
    assert "outside: 0" not in shown[shown.index("inside") :]


def test_quiet_is_quiet(monkeypatch):
    screen = on_screen(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with progress.quiet():
        time.sleep(0.1)
    assert screen.getvalue() == ""


def test_what_is_short_is_not_shown_beside_a_line_of_its_own(monkeypatch, capsys):
    """Training says how it goes every ten seconds; a checkpoint that is saved at once is no news."""
    monkeypatch.setattr(progress, "PATIENCE", 0.3)
    with terminal.heard(), progress.quiet():
        time.sleep(0.4)
        with progress.stage("saving a checkpoint") as short:
            time.sleep(0.02)
    assert short.patient and short.said is None
    assert capsys.readouterr().err == ""


def test_what_others_say_is_a_line_too(monkeypatch, capsys):
    """Whoever says something himself is not interrupted."""
    monkeypatch.setattr(progress, "PATIENCE", 60.0)
    with terminal.heard(), progress.stage("training") as current:
        print("step 1")
        time.sleep(0.05)
        assert current.said is None
    assert capsys.readouterr() == ("step 1\n", "")


def test_how_long_it_takes_where_that_is_known():
    current = progress.Stage("measuring", seconds=100.0)
    current.started -= 41
    assert current.line() == "measuring: 41 s, about 59 s left"
    current.started -= 80
    assert current.line() == "measuring: 2 m 01 s"  # longer than thought: nothing is known any more
    counted = progress.Stage("reading", total=10.0, done=2.0)
    counted.started -= 10
    assert counted.line() == "reading: 20%, 40 s left"


def test_a_library_that_is_being_loaded_is_named(monkeypatch):
    spec = type("Spec", (), {"_initializing": True})()
    monkeypatch.setitem(sys.modules, "torch", type("Module", (), {"__spec__": spec})())
    assert progress.Stage("congling train").line().startswith("loading torch: ")


def test_other_processes_than_the_first_are_silent(monkeypatch):
    screen = on_screen(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setenv("RANK", "1")
    with progress.stage("reading"):
        time.sleep(0.05)
    assert screen.getvalue() == ""


def test_an_abandoned_generator_leaves_nothing_behind(monkeypatch):
    on_screen(monkeypatch)
    items = progress.track(range(3), "reading")
    next(items)
    del items
    with progress.stage("next"):
        pass
    assert until(lambda: all(not t.name.startswith("progress") for t in threading.enumerate()))
