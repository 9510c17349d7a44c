"""What is said is passed on, kept, and never mixed with the line that is rewritten."""

import io
import sys

import pytest

from congling.core import terminal
from congling.core.run_log import RunLog


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self):
        return True


def on_screen(monkeypatch):
    """One terminal for both streams; within a test, since pytest puts its own there before each."""
    found = Screen()
    monkeypatch.setattr(sys, "stdout", found)
    monkeypatch.setattr(sys, "stderr", found)
    monkeypatch.setenv("TERM", "xterm")
    return found


def logged(folder):
    lines = (folder / RunLog.NAME).read_text(encoding="utf-8").splitlines()
    return [line.partition(" ")[2] for line in lines]


def test_a_log_has_what_was_said_before_it_was_begun(tmp_path, capsys):
    with terminal.heard():
        print("before")
        terminal.keep_log(tmp_path)
        print("after", "that", sep="\t")
        print("a warning", file=sys.stderr)
        terminal.keep_log(tmp_path)  # once is enough
    out, err = capsys.readouterr()
    assert (out, err) == ("before\nafter\tthat\n", "a warning\n")
    assert logged(tmp_path)[0].startswith("$ ")
    assert logged(tmp_path)[1:] == ["before", "after\tthat", "a warning"]


def test_a_second_command_is_appended(tmp_path, capsys):
    for text in ("first", "second"):
        with terminal.heard():
            terminal.keep_log(tmp_path)
            print(text)
    assert [line for line in logged(tmp_path) if line[:1] != "$"] == ["first", "second"]


def test_a_log_has_words_and_no_colours(tmp_path, monkeypatch):
    on_screen(monkeypatch)
    with terminal.heard():
        terminal.keep_log(tmp_path)
        print("\x1b[1;31mred\x1b[0m\x07 \x1b]0;title\x07text")
        terminal.show("step 1/10")
        print("half", end="")
        print(" a line")
    assert logged(tmp_path)[1:] == ["red text", "half a line"]


def test_what_is_rewritten_goes_before_anything_else_is_said(monkeypatch):
    screen = on_screen(monkeypatch)
    with terminal.heard():
        terminal.show("step 1/10")
        terminal.show("step 2/10")
        print("a table")
        terminal.show("step 3/10")
    assert screen.getvalue() == (
        "\r\x1b[Kstep 1/10\r\x1b[Kstep 2/10\r\x1b[Ka table\n\r\x1b[Kstep 3/10\r\x1b[K"
    )


def test_what_is_rewritten_is_cut_to_the_window(monkeypatch):
    screen = on_screen(monkeypatch)
    monkeypatch.setenv("COLUMNS", "11")
    terminal.show("小猫在花园里玩")
    assert screen.getvalue() == "\r\x1b[K小猫在花园"
    terminal.clear()


def test_nobody_speaks_into_an_open_line(monkeypatch):
    on_screen(monkeypatch)
    with terminal.heard():
        print("word by word", end="")
        assert terminal.silence() == 0.0
        print()
        assert terminal.silence() < 60


def test_streams_are_as_before_afterwards(tmp_path):
    before = sys.stdout, sys.stderr
    with pytest.raises(ZeroDivisionError), terminal.heard():
        assert sys.stdout is not before[0] and sys.stdout.isatty() == before[0].isatty()
        raise ZeroDivisionError
    assert (sys.stdout, sys.stderr) == before
    terminal.keep_log(tmp_path)
    assert not list(tmp_path.iterdir())  # nobody listens


def test_a_dumb_terminal_has_no_lines_that_are_rewritten(monkeypatch):
    on_screen(monkeypatch)
    assert terminal.rewrites()
    monkeypatch.setenv("TERM", "dumb")
    assert not terminal.rewrites()
